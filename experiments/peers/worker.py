"""A peer in a process of its own: its threads, allocator and libraries stay out of our way, and ours out of its."""

import functools
import gc
import multiprocessing
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

Run = Callable[[int], float]  # steps -> the seconds that they took


class Program(NamedTuple):
    """Something that takes steps, and what is known about it.

    Attributes:
        name: what it is; of a peer: library, version, and which of its variants was fastest.
        run: steps -> the seconds that they took, compilation not among them.
        compile_seconds: before the first step; None for what does not compile.
        memory_bytes: at most in use, data included; None where nobody tells.
        memory_source: who told.
        short: the name where there is little room.
    """

    name: str
    run: Run
    compile_seconds: float | None = None
    memory_bytes: int | None = None
    memory_source: str = ""
    short: str = ""


class Contestants(NamedTuple):
    """What a peer's library has to show.

    Attributes:
        programs: the first is the one that our speed is judged by.
        left_out: a line for every program that cannot run here: which, and why.
    """

    programs: list[Program]
    left_out: Sequence[str] = ()


class Peer:
    """A process for another library, which loads it once and has the programs of one row at a time.

    Temporary files that the library leaves, compiled programs among them, are deleted with the process.
    """

    def __init__(self):
        context = multiprocessing.get_context("spawn")
        self._directory = tempfile.TemporaryDirectory(prefix="peer", ignore_cleanup_errors=True)
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._directory.name), daemon=True)
        self._process.start()
        theirs.close()  # so that its end is an EOFError here

    def enter(self, make: Callable[..., Contestants], **arguments: Any) -> Contestants:
        """What `make(**arguments)` gives over there, as if it were here; the programs before are forgotten.

        The function must be importable and its arguments picklable.
        """
        programs, left_out = self._ask((make, arguments))
        return Contestants(
            [Program(name, functools.partial(self._run, i), *facts) for i, (name, facts) in enumerate(programs)],
            left_out,
        )

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.terminate()
        self._directory.cleanup()

    def _run(self, position: int, num_steps: int) -> float:
        return self._ask((position, num_steps))

    def _ask(self, question: Any) -> Any:
        try:
            self._connection.send(question)
            return self._connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._process.join()
            raise RuntimeError(f"the peer ended with exit code {self._process.exitcode}; its error is above") from None


def _serve(connection: Any, directory: str) -> None:
    tempfile.tempdir = directory  # a cache of an earlier run would make its compile time a file's reading
    programs: list[Program] = []
    while True:
        try:
            what, detail = connection.recv()
        except EOFError:
            return
        if isinstance(what, int):
            connection.send(programs[what].run(detail))
            continue
        programs = []
        gc.collect()  # the memory of those before
        programs, left_out = what(**detail)
        connection.send(([(name, facts) for name, _, *facts in programs], left_out))  # `run` stays here


def fastest(variants: Mapping[str, Run], seconds: float = 0.2) -> str:
    """Name of the variant with the least time a step, all timed in turn; slow ones leave, close ones stay longer."""
    least = {}
    for name, run in variants.items():
        run(3)  # warm-up
        least[name] = run(2) / 2
    num_steps = max(1, round(seconds / min(least.values())))
    for slower, rounds in ((2.0, 3), (1.1, 4)):  # which stay, and for how many turns more
        limit = slower * min(least.values())
        variants = {name: run for name, run in variants.items() if least[name] <= limit}
        for _ in range(rounds if len(variants) > 1 else 0):
            for name, run in variants.items():
                least[name] = min(least[name], run(num_steps) / num_steps)
    return min(variants, key=lambda name: least[name])
