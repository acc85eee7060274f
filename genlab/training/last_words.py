"""A last line on stderr for a process that is aborted or killed, and cannot write it itself."""

import atexit
import contextlib
import subprocess
from typing import IO, cast

# A child says it: the last line that it was given, as soon as the pipe between them closes; nothing if that is empty.
# A terminal or a scheduler may signal it as well, hence the trap and the session of its own.
CHILD = """
trap '' INT TERM HUP
while read -r line; do last=$line; done
[ -z "$last" ] || printf '%s\\n' "$last" >&2
"""

_child: subprocess.Popen[str] | None = None


def say_if_ended(line: str) -> None:
    """From now on this line is the last on stderr if this process is ended in any way but by the interpreter."""
    global _child
    if _child is None:
        command = ["sh", "-c", CHILD]
        _child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True, text=True
        )
        atexit.register(say_nothing)
    pipe = cast(IO[str], _child.stdin)
    with contextlib.suppress(BrokenPipeError):  # someone killed the child
        pipe.write(" ".join(line.split()) + "\n")
        pipe.flush()


def say_nothing() -> None:
    """For a process that has said everything itself, and ends now."""
    global _child
    if _child is not None:
        say_if_ended("")
        _child.communicate()
        _child = None
