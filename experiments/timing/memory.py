"""Bytes that a program has in use at its peak, its data included, on one device."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

COMPILER = "the compiler: arguments, results and temporaries"
DEVICE = "the device: its peak during the first steps, less what other programs held"


def peak(call: Any, run: Callable[[int], float]) -> tuple[int | None, str]:
    """(bytes, who told), from the first steps of `run`; (None, "") where nobody tells.

    Args:
        call: what `run` calls, compiled.
        run: steps -> seconds, see Program.
    """
    before = jax.local_devices()[0].memory_stats()
    run(2)
    after, analysis = jax.local_devices()[0].memory_stats(), call.memory_analysis()
    arguments = analysis.argument_size_in_bytes if analysis else 0
    counted = by_device(before, after, arguments)
    if counted is not None:
        return counted, DEVICE
    planned = arguments and (
        arguments + analysis.output_size_in_bytes + analysis.temp_size_in_bytes - analysis.alias_size_in_bytes
    )
    return (planned, COMPILER) if planned else (None, "")


def by_device(before: Mapping[str, int] | None, after: Mapping[str, int] | None, arguments: int) -> int | None:
    """From what the device counted before and after the first steps; None if it does not count.

    Its peak is that of the whole process and never goes down, so it tells only of a program that raised it.

    Args:
        before, after: `bytes_in_use` and `peak_bytes_in_use`.
        arguments: bytes of the program's own arguments, which were in use before.
    """
    if not before or not after or after["peak_bytes_in_use"] <= before["peak_bytes_in_use"]:
        return None
    return after["peak_bytes_in_use"] - before["bytes_in_use"] + arguments
