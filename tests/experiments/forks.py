"""Command lines side by side, each a process of its own, without the seconds that each would take to import."""

import contextlib
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

from command_lines import ROOT, Done

# Imports once what a run imports, its evaluation included, then forks for every command line, as command_lines.DRIVER.
# It answers "start" with the child's number, and "poll" with its exit code, or null while it runs.
DRIVER = """
import gc, json, os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside the threads of a linear algebra library
import matplotlib.figure, orbax.checkpoint, sklearn.datasets, sklearn.linear_model, sklearn.neighbors
import experiments.vae as family, genlab.evaluation.pictures, genlab.evaluation.report
gc.freeze()  # or every child would touch, and so copy, all pages of memory as it ends
for line in sys.stdin:
    verb, *given = json.loads(line)
    if verb == "start":
        arguments, out, err = given
        child = os.fork()
        if not child:
            for number, name in ((0, os.devnull), (1, out), (2, err)):
                os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), number)
            sys.argv = ["experiments/vae.py", *arguments]
            family.launch("experiments.vae", family.main)
            sys.exit(0)
        answer = child
    else:
        child, status = os.waitpid(given[0], os.WNOHANG)
        answer = os.waitstatus_to_exitcode(status) if child else None
    print(json.dumps(answer), flush=True)
"""


class Running:
    """A command line that was started."""

    def __init__(self, pid, ask, out, err):
        self.pid, self._ask, self._out, self._err, self._code = pid, ask, out, err, None

    def poll(self):
        """The exit code, or None while it runs."""
        if self._code is None:
            self._code = self._ask("poll", self.pid)
        return self._code

    def said(self):
        """What it has written to stdout so far."""
        return self._out.read_text() if self._out.exists() else ""

    def complained(self):
        """What it, or the last words that it left, have written to stderr so far."""
        return self._err.read_text() if self._err.exists() else ""

    def send(self, number):
        """Sends it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def finish(self, seconds=300):
        """Its code and output, once it has ended."""
        wait(lambda: self.poll() is not None, seconds)
        return Done(self.poll(), self._out.read_text(), self._err.read_text())


def wait(condition, seconds=300):
    """Until the condition holds; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.005)


@contextlib.contextmanager
def starter(environment, directory: pathlib.Path):
    """Gives (arguments) -> Running, of experiments.vae; in the end no process is left."""
    started, count = [], itertools.count()
    environment = environment | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # that wait for cores in a loop
    command = [sys.executable, "-c", DRIVER]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as driver:
        to, come = driver.stdin, driver.stdout
        assert to is not None and come is not None

        def ask(*request):
            to.write(json.dumps(request) + "\n")
            to.flush()
            return json.loads(come.readline())

        def start(*arguments):
            number = next(count)
            out, err = directory / f"out{number}", directory / f"err{number}"
            started.append(Running(ask("start", arguments, str(out), str(err)), ask, out, err))
            return started[-1]

        try:
            yield start
        finally:
            for process in started:
                process.send(signal.SIGKILL)
            to.close()
