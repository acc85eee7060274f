"""A run's directory: whose it is, that nobody else is in it, and what it was configured to be."""

import contextlib
import fcntl
import json
import os
import pathlib
from collections.abc import Collection, Generator, Mapping
from typing import Any

from genlab.errors import InputError


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Generator[None]:
    """Holds the workdir for this process, and makes it if need be. The lock goes with the process, however it dies.

    Raises:
        InputError: if another process holds it, or it cannot be made.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = (workdir / "lock").open("a+")
    except OSError as error:
        raise InputError(f"cannot use workdir {workdir}: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if not isinstance(error, BlockingIOError):
                raise InputError(
                    f"cannot lock {workdir} ({error.strerror}); give a --workdir on another disk"
                ) from None
            file.seek(0)
            owner = file.read().strip() or "another process"
            raise InputError(f"workdir {workdir} is in use by {owner}; wait for it or give another --workdir") from None
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield


def claim(workdir: pathlib.Path, config: Mapping[str, Any], free: Collection[str] = ()) -> None:
    """Writes config.json. Call it once the run is known to start: a claim is for good, but for its free fields.

    Args:
        workdir: an existing directory.
        config: resolved, of JSON types (tuples count as lists).
        free: top-level fields that may differ, since the run is the same whatever they are.

    Raises:
        InputError: see `check_claim`.
    """
    check_claim(workdir, config, free)
    write_text(workdir / "config.json", json.dumps(config, indent=2) + "\n")


def check_claim(workdir: pathlib.Path, config: Mapping[str, Any], free: Collection[str] = ()) -> None:
    """Checks that a workdir is free or this config's; arguments as of `claim`.

    Raises:
        InputError: naming the fields that differ.
    """
    path = workdir / "config.json"
    if not path.exists():
        return
    try:
        found = json.loads(path.read_text())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{path} is not a config; give another --workdir")
    wanted = json.loads(json.dumps(config))
    there, here = ({k: v for k, v in each.items() if k not in free} for each in (found, wanted))
    differing = differences(there, here)
    if differing:
        raise InputError(
            f"workdir {workdir} holds a run of another config; it differs in {'; '.join(differing)}; "
            "give another --workdir or the same config"
        )


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The fields in which two nested configs differ, as "a.b: 1 there, 2 here"."""
    rows = []
    for name in sorted({*found, *wanted}):
        there, here = found.get(name, "absent"), wanted.get(name, "absent")
        if isinstance(there, Mapping) and isinstance(here, Mapping):
            rows += differences(there, here, f"{prefix}{name}.")
        elif there != here:
            rows.append(f"{prefix}{name}: {there!r} there, {here!r} here")
    return rows


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)
