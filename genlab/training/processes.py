"""Runs of several processes, usually one a host: how they join, wait for each other, agree, and end.

Arrays and gradients need nothing from here: XLA moves them. This is for the rest, and for the end. When one process
dies, the others are stopped by an error of a collective, or from C++ with a page of stack trace and no chance for
Python to say a word; whichever it is, the last line on their stderr says what happened and what to do.
"""

import collections
import os
import re
import socket
import sys
import threading
import zlib
from collections.abc import Callable
from typing import NoReturn

import jax
import numpy as np

from genlab.errors import InputError
from genlab.training import last_words

HEARTBEAT_SECONDS = 20  # of silence, after which a process counts as dead
FAREWELL_SECONDS = 10  # to come to a common end that is none of success
SHUTDOWN_SECONDS = 30  # between the ends of two interpreters

AGAIN = "start all of them again to go on from the newest checkpoint"

# what collectives of a CPU, of GPUs, and the coordinator say of it
LOSS = r"gloo|nccl|connection (closed|reset) by peer|socket closed|coordination ?service|barrier|heartbeat"

FAILED = -(1 << 31)  # no value that process 0 would give

_index, _count = 0, 1
_joining = False
_barriers: collections.Counter[str] = collections.Counter()


class MainError(RuntimeError):
    """Process 0 failed in what it does for all."""


def join(
    coordinator: str | None, num_processes: int | None, process_id: int | None, patience_seconds: int = 60
) -> None:
    """Makes this process one of several that hold one run. Call it before the first array.

    Args:
        coordinator: "host:port" of process 0, where the others reach it; None: asked of Slurm, MPI, or the TPU slice.
        num_processes: of the run; None likewise.
        process_id: this one's number, 0 to num_processes - 1; None likewise.
        patience_seconds: how long to wait until all are there.

    Raises:
        InputError: if the arguments cannot be, nothing can be asked, or the others do not come. The process should
            then `leave`: a thread of it is still waiting.
    """
    global _index, _count, _joining
    if coordinator is not None:
        check_address(coordinator, process_id == 0)
    where, who = coordinator or "their coordinator", "this process" if process_id is None else f"process {process_id}"
    last_words.say_if_ended(
        f"error: {who} could not join the run at {where}; give each process its own number, and all the same count"
    )
    jax.config.update("jax_enable_preemption_service", False)  # its handler swallows SIGTERM
    _joining = True
    try:
        # on a time-out of its own it would end this process, from C++
        _elsewhere(
            lambda: jax.distributed.initialize(
                coordinator,
                num_processes,
                process_id,
                initialization_timeout=10 * patience_seconds,
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
                shutdown_timeout_seconds=SHUTDOWN_SECONDS,
            ),
            patience_seconds,
        )
    except TimeoutError:
        raise InputError(
            f"{who} did not find all the others at {where} within {patience_seconds} s; "
            "start them all, and give them an address at which they reach process 0"
        ) from None
    except (ValueError, TypeError) as error:
        raise InputError(
            f"cannot join a run of several processes ({str(error).rstrip('.')}); give the address of process 0, "
            "the number of processes and this one's number, or start it by Slurm, MPI or on a TPU slice"
        ) from None
    _index, _count = jax.process_index(), jax.process_count()
    _joining = False
    last_words.say_if_ended(
        f"error: process {_index} of {_count} was ended, by the loss of another or by a kill; {AGAIN}"
    )


def check_address(coordinator: str, serves: bool) -> None:
    """Raises InputError for what is no "host:port", or, where this process is to serve it, a port in use."""
    found = re.fullmatch(r"(.+):(\d{1,5})", coordinator)
    if not found or not 0 < int(found[2]) < 1 << 16:
        raise InputError(f"the coordinator's address is {coordinator!r}; it must be host:port, with a port below 65536")
    if serves:
        try:  # or two runs on one host could share the port and answer each other's processes
            socket.create_server(("", int(found[2]))).close()
        except OSError as error:
            raise InputError(f"cannot serve {coordinator} ({error.strerror}); give another port") from None


def is_main() -> bool:
    """Whether this process writes the run's files: one does."""
    return _index == 0


def count() -> int:
    """How many processes hold this run."""
    return _count


def everyone_waits(name: str, timeout_hours: float = 48.0) -> None:
    """Returns when every process has called it with this name.

    The devices are not involved, so the wait can be long; Ctrl-C ends it.

    Raises:
        Exception: of which `peer_is_gone`, if another process died or did not come in time.
    """
    if _count == 1:
        return
    import orbax.checkpoint as ocp  # its barrier is the public one that is not a collective of the devices

    _barriers[name] += 1
    key, barrier = f"genlab/{name}/{_barriers[name]}", ocp.multihost.get_barrier_sync_fn()
    _elsewhere(lambda: barrier(key=key, timeout_ms=int(timeout_hours * 3_600_000)), timeout_hours * 3_600 + 60)


def from_main(value: int) -> int:
    """The value (int32) that process 0 gives; every process calls it, about 2 ms."""
    if _count == 1:
        return value
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def largest(value: int) -> int:
    """The largest value (int32) that any process gives; every process calls it, about 2 ms."""
    if _count == 1:
        return value
    from jax.experimental import multihost_utils

    return int(np.max(multihost_utils.process_allgather(np.int32(value))))


def check_alike(text: str, what: str) -> None:
    """Raises InputError, on every process, unless all were given the same text: their programs would not meet."""
    here = zlib.crc32(text.encode()) >> 1  # 31 bits
    if largest(int(here != from_main(here))):
        raise InputError(f"{what} is not the same for all processes; give all of them the same command line")


def on_main(function: Callable[[], int]) -> int:
    """What `function` gives on process 0, where alone it is called; every process calls this.

    Raises:
        MainError: on the others, if it raised there.
    """
    value, failure = FAILED, None
    if is_main():
        try:
            value = function()
        except Exception as error:
            failure = error
    everyone_waits("for process 0")  # which may take hours, and a collective may not
    value = from_main(value)
    if failure is not None:
        raise failure
    if value == FAILED:
        raise MainError("process 0 could not, and says why")
    return value


def peer_is_gone(error: BaseException) -> bool:
    """Whether an error, or one that led to it, is what the loss of another process looks like from here."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return _count > 1 and any(re.search(LOSS, str(each), re.IGNORECASE) for each in chain)


def leave(code: int) -> NoReturn:
    """Ends this process with `code`, whether the others come to the same end or not.

    With 0 it waits for all of them, for process 0 may still be evaluating. With another code they have ten seconds to
    come, as after a signal, where all stop at the same step; then it ends without them, and so will they.
    """
    try:
        if not _joining:
            everyone_waits("leave", *([FAREWELL_SECONDS / 3_600] if code else []))
            sys.exit(code)
    except Exception as error:
        if code == 0:
            abandon(error)
    last_words.say_nothing()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # past the interpreter's own end, which would wait for the others


def abandon(error: BaseException) -> NoReturn:
    """Ends this process, with code 1, after the loss of another that `error` tells of."""
    reason = re.sub(r"\[external/\S+\] ", "", str(error)).strip()[:120]
    line = f"error: process {_index} of {_count} lost another ({reason}); {AGAIN}"
    if os.getpid() == 1:  # of a container, which takes every other process along
        print(line, file=sys.stderr)
    last_words.say_if_ended(line)  # and not here and now, where a page from C++ could come after
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def _elsewhere(function: Callable[[], None], seconds: float) -> None:
    """Calls a function that does not return to Python in a thread, so that Ctrl-C and SIGTERM do; TimeoutError."""
    errors: list[Exception] = []

    def call() -> None:
        try:
            function()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"not done within {seconds} s")
    if errors:
        raise errors[0]
