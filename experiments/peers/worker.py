"""A peer in a process of its own: its threads, allocator and libraries stay out of our way, and ours out of its."""

import multiprocessing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Run = Callable[[int], float]  # steps -> the seconds that they took


class Program(NamedTuple):
    """Something that takes steps, and what is known about it.

    Attributes:
        name: what it is; of a peer: library, version, and which of its variants was fastest.
        run: steps -> the seconds that they took, compilation not among them.
        compile_seconds: before the first step; None for what does not compile.
        memory_bytes: at most in use by the compiled program, data included; None where nobody tells.
    """

    name: str
    run: Run
    compile_seconds: float | None = None
    memory_bytes: int | None = None


class Peer:
    """Another library's program, waiting to be told how many steps to take.

    `contestant(**arguments)` makes it over there, so the function must be importable and its arguments picklable.

    Attributes:
        program: it, as if it were here.
    """

    def __init__(self, contestant: Callable[..., Program], **arguments: Any):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, contestant, arguments), daemon=True)
        self._process.start()
        theirs.close()  # so that its end is an EOFError here
        name, compile_seconds = self._answer()
        self.program = Program(name, self._run, compile_seconds)

    def close(self) -> None:
        """Ends the process."""
        self._connection.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.terminate()

    def _run(self, num_steps: int) -> float:
        self._connection.send(num_steps)
        return self._answer()

    def _answer(self) -> Any:
        try:
            return self._connection.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(f"the peer ended with exit code {self._process.exitcode}; its error is above") from None


def _serve(connection: Any, contestant: Callable[..., Program], arguments: Mapping[str, Any]) -> None:
    program = contestant(**arguments)
    connection.send((program.name, program.compile_seconds))
    while True:
        try:
            num_steps = connection.recv()
        except EOFError:
            return
        connection.send(program.run(num_steps))


def fastest(variants: Mapping[str, Run], seconds: float = 0.2) -> tuple[str, Run]:
    """The variant with the least time a step, of all of them timed in turn; those twice as slow at first sight go."""
    least = {}
    for name, run in variants.items():
        run(3)  # warm-up
        least[name] = run(2) / 2
    best = min(least.values())
    num_steps = max(1, round(seconds / best))
    close = {name: run for name, run in variants.items() if least[name] <= 2 * best}
    for _ in range(3):
        for name, run in close.items():
            least[name] = min(least[name], run(num_steps) / num_steps)
    name = min(close, key=lambda name: least[name])
    return name, variants[name]
