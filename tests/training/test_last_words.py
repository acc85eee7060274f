"""What a process leaves on stderr when it cannot speak any more."""

import pathlib
import signal
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = """
import os, signal, sys
from genlab.training.last_words import say_if_ended, say_nothing

say_if_ended("too early")
say_if_ended("it is  \\\\n over\\n now")
{end}
"""


def err_after(end):
    command = [sys.executable, "-W", "error", "-c", SCRIPT.format(end=end)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("end", ["os.abort()", "os.kill(os.getpid(), signal.SIGKILL)", "os._exit(1)"])
def test_a_process_that_is_ended_has_a_last_word(end):
    done = err_after(end)
    assert done.stderr.splitlines()[-1] == "it is \\n over now"
    assert "too early" not in done.stderr and done.returncode != 0


@pytest.mark.parametrize(
    "end", ["", "sys.exit(3)", "say_nothing(); os.abort()", "say_nothing(); say_nothing(); os._exit(1)"]
)
def test_one_that_ends_by_itself_has_none(end):
    done = err_after(end)
    assert done.stderr == ""


def test_signals_to_all_of_a_terminal_do_not_silence_it():
    done = err_after(
        "import time; from genlab.training import last_words; time.sleep(1); "
        "[os.kill(last_words._child.pid, number) for number in (1, 2, 15)]; os.abort()"
    )
    assert done.stderr.splitlines()[-1] == "it is \\n over now" and done.returncode == -signal.SIGABRT


def test_without_the_one_who_says_it_all_goes_on():
    done = err_after(
        "from genlab.training import last_words; last_words._child.kill(); last_words._child.wait(); say_if_ended('x')"
    )
    assert done.stderr == "" and done.returncode == 0
