"""SIGTERM and Ctrl-C end a run between two compiled calls, after a checkpoint."""

import contextlib
import signal
from collections.abc import Callable, Generator


class InterruptedRun(Exception):
    """The run was asked to stop, saved itself at `step`, and stopped."""

    def __init__(self, step: int, signal_number: int):
        super().__init__(f"stopped by {signal.Signals(signal_number).name} and saved at step {step}")
        self.step, self.signal = step, signal_number


@contextlib.contextmanager
def deferred_signals() -> Generator[Callable[[], int]]:
    """Within it the first SIGTERM or SIGINT is only remembered; a second one acts as always.

    Yields:
        A function that gives the number of the signal that came, or 0.
    """
    received = 0
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def remember(number: int, frame: object) -> None:
        nonlocal received
        received = number
        restore()

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    for number in previous:
        signal.signal(number, remember)
    try:
        yield lambda: received
    finally:
        restore()
