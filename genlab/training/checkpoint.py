"""Checkpoints that survive being killed: the newest good one is always found again."""

import hashlib
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax

PyTree = Any

# a file of digests in every checkpoint: the storage layer returns wrong numbers for some damaged bytes
DIGESTS = "digests.json"


class CheckpointError(RuntimeError):
    """A checkpoint could not be written; those before it are untouched."""


class Checkpoints:
    """The checkpoints of one run, in a directory of their own.

    Saving is synchronous: when `save` returns the bytes are on disk, and when the disk is full `save` raises and
    earlier checkpoints are untouched.
    """

    def __init__(self, directory: pathlib.Path, keep: int = 2):
        import orbax.checkpoint as ocp  # takes a second to import

        self._args = ocp.args
        self._directory = directory
        policy = ocp.checkpoint_managers.LatestN(keep)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy, cleanup_tmp_directories=True, enable_async_checkpointing=False
        )
        self._manager = ocp.CheckpointManager(directory.absolute(), options=options)

    def save(self, step: int, tree: PyTree) -> None:
        """Writes the tree as checkpoint `step`, unless that exists.

        Raises:
            CheckpointError: if the bytes cannot be written, as on a full disk.
        """
        if step in self._manager.all_steps():
            return
        try:
            self._manager.save(step, args=self._args.StandardSave(tree))
            directory = self._directory / str(step)
            (directory / DIGESTS).write_text(json.dumps(digests(directory)))
        except Exception as error:  # the storage layer wraps a full disk in a type of its own
            raise CheckpointError(f"cannot save checkpoint {step} ({first_line(error)})") from error

    def restore(self, like: PyTree, report: Callable[[str], None]) -> tuple[int, PyTree] | None:
        """The newest checkpoint that can be read, as (step, tree).

        Args:
            like: a tree of arrays or jax.ShapeDtypeStruct that says what to expect and on which devices, which need
                not be those it was saved from.
            report: told, in one line each, of checkpoints that could not be read. They are set aside, in
                `rejected/` beside the others, and nothing is deleted.

        Returns:
            None if there is no checkpoint that can be read.
        """
        abstract = jax.tree.map(described, like)
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                check_digests(self._directory / str(step))
                return step, self._manager.restore(step, args=self._args.StandardRestore(abstract))
            except Exception as error:  # whatever the storage layer makes of damaged bytes
                self._set_aside(step)
                report(f"checkpoint {step} cannot be read and was set aside ({first_line(error)})")
        return None

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


def described(leaf: jax.Array | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """Shape, dtype and devices of an array."""
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def digests(directory: pathlib.Path) -> dict[str, str]:
    """SHA-256 of every file of a checkpoint but the list of them."""
    found = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.name != DIGESTS:
            with path.open("rb") as file:
                found[str(path.relative_to(directory))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def check_digests(directory: pathlib.Path) -> None:
    """Raises ValueError unless a checkpoint's files are, to the bit, those that were saved."""
    listing = directory / DIGESTS
    if not listing.exists():
        raise ValueError("it was not written to its end")
    recorded, found = json.loads(listing.read_text()), digests(directory)
    changed = sorted(name for name in recorded | found if recorded.get(name) != found.get(name))
    if changed:
        raise ValueError(f"{changed[0]} is damaged")


def first_line(error: Exception, length: int = 120) -> str:
    """The first line of an error's message, cut to `length`; its type where it has no message."""
    lines = str(error).strip().splitlines()
    return lines[0][:length] if lines else type(error).__name__
