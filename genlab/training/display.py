"""One line on the terminal that says how far a run is, how fast, and how long it will take."""

import sys
import time
from collections.abc import Callable
from typing import TextIO


def progress_line(
    num_steps: int,
    unit: str = "step",
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
    plain_every_seconds: float = 10.0,
) -> Callable[[int], None]:
    """A function to be called with the step as often as one likes.

    On a terminal it rewrites one line; elsewhere it prints a plain line every `plain_every_seconds`. Speed is
    counted from its first call, so that compilation is not in it.

    Args:
        num_steps: of the whole run.
        unit: what is counted.
        stream: stderr by default.
        clock: seconds, monotonic.
        plain_every_seconds: period of plain lines.
    """
    stream = sys.stderr if stream is None else stream
    terminal = stream.isatty()
    since: tuple[int, float] | None = None
    shown = clock() if not terminal else -float("inf")

    def show(step: int) -> None:
        nonlocal since, shown
        now = clock()
        last = step >= num_steps
        if since is None:
            since = (step, now)
        if not last and now - shown < (0.2 if terminal else plain_every_seconds):
            return
        shown = now
        rate = (step - since[0]) / max(now - since[1], 1e-9)
        pace = f"{rate:,.0f} {unit}s/s, {duration((num_steps - step) / rate)} left" if rate else "compiled"
        text = f"{unit} {step:,}/{num_steps:,}  {pace}"
        stream.write(f"\r\033[K{text}" + ("\n" if last else "") if terminal else text + "\n")
        stream.flush()

    return show


def duration(seconds: float) -> str:
    """Seconds as 42s, 3m05s or 2h07m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
