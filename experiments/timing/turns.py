"""Programs take turns, round after round, so that what else the machine does slows all of them."""

from collections.abc import Callable, Sequence
from typing import Any

from experiments.peers.worker import Program
from experiments.timing.setting import Setting


def take_turns(programs: Sequence[Program], setting: Setting, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Per program the seconds a step takes, one number a round, and how many steps that was measured on."""
    num_steps = []
    for program in programs:
        program.run(2)  # warm-up
        first = program.run(3) / 3
        again = max(1, round(0.2 * setting.seconds / first))
        num_steps.append(max(1, round(setting.seconds * again / program.run(again))))
    times: list[list[float]] = [[] for _ in programs]
    for i in range(setting.rounds):
        say(f"round {i + 1} of {setting.rounds}, {len(programs)} programs of {setting.seconds:g} s each")
        for program, num, measured in zip(programs, num_steps, times, strict=True):
            measured.append(program.run(num) / num)
    return [{"steps": num, "seconds_per_step": measured} for num, measured in zip(num_steps, times, strict=True)]


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Of the same round each: what is compared was measured seconds apart."""
    return [a / b for a, b in zip(above, below, strict=True)]
