"""Signals that wait until a run can stop, sent to real processes."""

import pathlib
import signal
import subprocess
import sys

import pytest

from genlab.training.interruption import InterruptedRun, deferred_signals

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = """
import os, signal
from genlab.training.interruption import deferred_signals
number = signal.{name}
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits it ignored
with deferred_signals() as received:
    print(received())
    os.kill(os.getpid(), number)
    print(received() == number)
    if {twice}:
        os.kill(os.getpid(), number)
    print("saved")
print("after", received() == number, flush=True)
os.kill(os.getpid(), number)
print("unreachable")
"""


def run(name, twice):
    return subprocess.run(
        [sys.executable, "-uc", SCRIPT.format(name=name, twice=twice)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_is_remembered_and_the_work_goes_on(name):
    done = run(name, twice=False)
    assert done.stdout.splitlines() == ["0", "True", "saved", "after True"]  # and then the signal acts as always
    assert done.returncode == -getattr(signal, name)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_second_signal_acts_at_once(name):
    done = run(name, twice=True)
    assert done.stdout.splitlines() == ["0", "True"]
    assert done.returncode == -getattr(signal, name)


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with deferred_signals() as received:
        assert signal.getsignal(signal.SIGTERM) is not before[0]
        assert received() == 0
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    with pytest.raises(ZeroDivisionError), deferred_signals():
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_an_interrupted_run_says_by_what_and_where():
    stop = InterruptedRun(1200, signal.SIGTERM)
    assert str(stop) == "stopped by SIGTERM and saved at step 1200"
    assert (stop.step, stop.signal) == (1200, 15)
