"""Decoded arrays, kept on disk as memory-maps so that only the first run pays for decoding."""

import hashlib
import json
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable

import numpy as np

_FORMAT = 1  # raise it when what is decoded changes; older entries are then never read


def directory() -> pathlib.Path:
    """$GENLAB_CACHE, else $XDG_CACHE_HOME/genlab, else ~/.cache/genlab."""
    if path := os.environ.get("GENLAB_CACHE"):
        return pathlib.Path(path).expanduser()
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "genlab"


def cached(
    name: str, sources: Iterable[pathlib.Path], build: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The arrays that `build` returns, from the cache if these sources were decoded before.

    An entry that cannot be read is built again, and one that cannot be written is done without.

    Args:
        name: what is decoded and how (set, version, image size); part of the key.
        sources: the files decoded; a changed path, size or modification time makes another entry.
        build: () -> arrays by name, called when there is no entry.

    Returns:
        The arrays, read-only memory-maps where the cache works.
    """
    identity = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(sources)]
    key = hashlib.sha256(json.dumps([_FORMAT, name, identity]).encode()).hexdigest()[:16]
    entry = directory() / f"{name.replace('/', '-').replace(':', '-')}-{key}"
    try:
        return _read(entry)
    except Exception:  # absent, truncated, or garbled in whatever way: all the same
        pass
    print(f"decoding {name}; later runs read the result from {entry}", file=sys.stderr, flush=True)
    arrays = build()
    try:
        _write(entry, arrays)
        return _read(entry)
    except (OSError, ValueError, EOFError):  # read-only, full, ...
        return arrays


def _read(entry: pathlib.Path) -> dict[str, np.ndarray]:
    arrays = {}
    for name, (shape, dtype) in json.loads((entry / "manifest.json").read_text()).items():
        # an array without elements cannot be mapped
        arrays[name] = np.load(entry / f"{name}.npy", mmap_mode="r" if np.prod(shape) else None, allow_pickle=False)
        if arrays[name].shape != tuple(shape) or arrays[name].dtype != dtype:
            raise ValueError(f"{entry}/{name}.npy is not what was written")
    return arrays


def _write(entry: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=f".{entry.name}-", dir=entry.parent))
    try:
        for name, array in arrays.items():
            np.save(scratch / f"{name}.npy", array, allow_pickle=False)
        manifest = {name: [array.shape, str(array.dtype)] for name, array in arrays.items()}
        (scratch / "manifest.json").write_text(json.dumps(manifest))
        shutil.rmtree(entry, ignore_errors=True)  # it was unreadable; a directory is only replaced when empty
        os.replace(scratch, entry)
    except OSError:
        # a run beside this one may have put the same entry there first, which is as good
        shutil.rmtree(scratch, ignore_errors=True)
        raise
