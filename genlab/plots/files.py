"""A figure becomes a file, whole or not at all."""

import os
import pathlib

from matplotlib.figure import Figure

from genlab.plots import style

FORMATS = ("png", "pdf", "svg")


@style.styled
def save(figure: Figure, path: str | os.PathLike[str]) -> pathlib.Path:
    """Writes a figure; a reader sees the old file or the new one, never half of one.

    The figures of this package are unknown to pyplot, so there is nothing to close: dropping the figure frees it.

    Args:
        figure: what the functions of this package return.
        path: ends in .png, .pdf or .svg; its folder is made if need be.

    Returns:
        The path.

    Raises:
        ValueError: another ending.
    """
    path = pathlib.Path(path)
    suffix = path.suffix.removeprefix(".")
    if suffix not in FORMATS:
        raise ValueError(f"a figure's file ends in one of {', '.join('.' + f for f in FORMATS)}; got {path.name!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    # the same figure gives the same bytes: no version in the file
    metadata = {"Software": None} if suffix == "png" else None
    try:
        figure.savefig(partial, format=suffix, dpi=style.DPI, metadata=metadata)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path
