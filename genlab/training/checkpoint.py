"""Checkpoints that survive being killed: the newest good one is always found again.

Where several processes hold a run, each writes its part of the arrays into the one checkpoint. What concerns whole
files (which are there, are they good, what goes) is seen by process 0 alone, and the others do as it says.
"""

import errno
import hashlib
import json
import logging
import os
import pathlib
import random
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import jax

from genlab.errors import InputError
from genlab.training import processes
from genlab.training.workdir import write_text

PyTree = Any

# What a checkpoint should be, beside it: from some damaged bytes the storage layer makes wrong numbers, and of a tree
# that does not fit it complains in a page. Written last.
MANIFEST = "genlab.json"

NONE = -1  # no step


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, or does not fit; nothing that was there is touched."""


class Checkpoints:
    """The checkpoints of one run, in a directory of their own. Every process of the run makes the same calls.

    Saving is synchronous: when `save` returns the bytes are on disk, and when the disk is full `save` raises and
    earlier checkpoints are untouched.
    """

    def __init__(self, directory: pathlib.Path, keep: int = 2):
        import orbax.checkpoint as ocp  # takes a second to import

        logging.getLogger("absl").addFilter(not_from_orbax)
        self._args = ocp.args
        self._directory = directory
        policy = ocp.checkpoint_managers.LatestN(keep)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy, create=True, enable_async_checkpointing=False
        )
        processes.on_main(lambda: prepare(directory))
        check_shared(directory)
        self._manager = ocp.CheckpointManager(directory.absolute(), options=options)

    def save(self, step: int, tree: PyTree) -> None:
        """Writes the tree as checkpoint `step`, unless that exists.

        Raises:
            CheckpointError: if the bytes cannot be written, as on a full disk.
        """
        try:
            if not processes.on_main(lambda: self._will_save(step, tree)):
                return
            self._manager.save(step, args=self._args.StandardSave(tree))
            if processes.is_main():  # to it, save returns when the parts of all are written and joined
                directory = self._directory / str(step)
                write_text(directory / MANIFEST, json.dumps({"arrays": arrays(tree), "files": digests(directory)}))
        except Exception as error:  # the storage layer wraps a full disk in a type of its own
            if processes.peer_is_gone(error):
                raise
            kept = f"earlier checkpoints in {self._directory} are intact"
            raise CheckpointError(f"cannot save checkpoint {step} ({first_line(error)}); {kept}") from error

    def _will_save(self, step: int, tree: PyTree) -> bool:
        if step in self._manager.all_steps():
            return False
        check_room(self._directory, sum(leaf.nbytes for leaf in jax.tree.leaves(tree)))
        return True

    def restore(self, like: PyTree, report: Callable[[str], None]) -> tuple[int, PyTree] | None:
        """The newest checkpoint that can be read, as (step, tree).

        Args:
            like: a tree of arrays or jax.ShapeDtypeStruct that says what to expect and on which devices, which need
                not be those it was saved from.
            report: told on process 0, in one line each, of checkpoints whose files are damaged. They are set aside, in
                `rejected/` beside the others, and nothing is deleted.

        Returns:
            None if there is no checkpoint.

        Raises:
            CheckpointError: if none of the checkpoints is undamaged, the disk does not answer, or an undamaged one
                holds another tree than `like`, as after a change of the code.
        """
        try:
            step = processes.on_main(lambda: self._newest(like, report))
        except processes.MainError as error:
            raise CheckpointError(f"no checkpoint to go on from ({error})") from None
        if step == NONE:
            return None
        self._manager.reload()  # process 0 may have set some aside
        return step, self._manager.restore(step, args=self._args.StandardRestore(jax.tree.map(described, like)))

    def _newest(self, like: PyTree, report: Callable[[str], None]) -> int:
        """The step that `restore` is to read, or NONE."""
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                there = undamaged(self._directory / str(step))
            except OSError as error:
                raise CheckpointError(f"checkpoint {step} cannot be read now ({first_line(error)})") from error
            except (ValueError, KeyError, TypeError) as error:
                self._set_aside(step)
                report(f"checkpoint {step} cannot be read and was set aside ({first_line(error)})")
                continue
            if name := first_difference(there, here := arrays(like)):
                raise CheckpointError(
                    f"checkpoint {step} does not fit this program: "
                    f"{name} is {there.get(name, 'absent')} there, {here.get(name, 'absent')} here"
                )
            return step
        if any((self._directory / "rejected").glob(f"*/{MANIFEST}")):  # others were never whole: nothing is lost
            raise CheckpointError(f"every checkpoint is damaged; to start from step 0, move {self._directory} away")
        return NONE

    def _set_aside(self, step: int) -> None:
        rejected = self._directory / "rejected"
        rejected.mkdir(exist_ok=True)
        target = rejected / str(step)
        number = 1
        while target.exists():
            target, number = rejected / f"{step}.{number}", number + 1
        (self._directory / str(step)).rename(target)
        self._manager.reload()

    def close(self) -> None:
        """Releases the manager's threads."""
        self._manager.close()


def prepare(directory: pathlib.Path) -> int:
    """Makes the directory, and clears it of what a kill left half written."""
    directory.mkdir(parents=True, exist_ok=True)
    for half_written in directory.glob("*.orbax-checkpoint-tmp*"):  # orbax would do it in a thread that outlives us
        shutil.rmtree(half_written)
    return 0


def check_shared(directory: pathlib.Path) -> None:
    """Raises InputError unless all processes see the same directory."""
    if processes.count() == 1:
        return
    mark = directory / f"shared-{processes.from_main(random.getrandbits(31))}"
    if processes.is_main():
        mark.touch()
    processes.everyone_waits("shared")
    unseen = processes.largest(int(not mark.exists()))
    if processes.is_main():
        mark.unlink()
    if unseen:
        raise InputError(f"not all processes find {directory} on one disk; give a --workdir on a disk that they share")


def check_room(directory: pathlib.Path, num_bytes: int) -> None:
    """Raises OSError if the disk has no room: the storage layer, when it finds out, complains from many threads."""
    with tempfile.TemporaryFile(dir=directory) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, num_bytes + (64 << 10))  # and something for names and shapes
        except (AttributeError, OSError) as error:  # AttributeError: not on every system
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise


def not_from_orbax(record: logging.LogRecord) -> bool:
    """A filter: whatever goes wrong is raised, and need not also be logged, with a traceback from every thread."""
    return f"{os.sep}orbax{os.sep}" not in record.pathname


def described(leaf: jax.Array | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """Shape, dtype and devices of an array."""
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def arrays(tree: PyTree) -> dict[str, str]:
    """Name of every leaf -> its dtype and shape."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}


def digests(directory: pathlib.Path) -> dict[str, str]:
    """SHA-256 of every file of a checkpoint but its manifest."""
    found = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            with path.open("rb") as file:
                found[str(path.relative_to(directory))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def undamaged(directory: pathlib.Path) -> dict[str, str]:
    """The arrays of a checkpoint, see `arrays`. Raises ValueError unless its files are those that were written."""
    manifest = directory / MANIFEST
    if not manifest.exists():
        raise ValueError("it was not written to its end")
    recorded = json.loads(manifest.read_text())
    if name := first_difference(recorded["files"], digests(directory)):
        raise ValueError(f"{name} is damaged")
    return recorded["arrays"]


def first_difference(left: dict[str, str], right: dict[str, str]) -> str | None:
    """The first name, in alphabetical order, that the two do not agree on."""
    return next((name for name in sorted(left | right) if left.get(name) != right.get(name)), None)


def first_line(error: Exception, length: int = 120) -> str:
    """The first line of an error's message, cut to `length`; its type where it has no message."""
    lines = str(error).strip().splitlines()
    return lines[0][:length] if lines else type(error).__name__
