"""Images one after the other: an animated GIF that any browser shows."""

import os
import pathlib

import numpy as np

from genlab.plots.images import enlarge, image_grid, to_uint8

LEAST_HEIGHT = 112  # file pixels of an image in a frame, to which small ones are enlarged by whole numbers
MOST_HEIGHT = 900  # of a frame of several, by which they are enlarged less


def save_gif(
    frames: np.ndarray,
    path: str | os.PathLike[str],
    frames_per_second: float = 12.0,
    there_and_back: bool = True,
    columns: int = 5,
) -> pathlib.Path:
    """Writes an endless animation, whole or not at all.

    Args:
        frames: [T, H, W, C], or [T, N, H, W, C] of which a frame is a grid; float in [0, 1] or uint8.
        path: ends in .gif; its folder is made if need be.
        frames_per_second: up to 50; a GIF counts in hundredths of a second, to which it is rounded.
        there_and_back: plays the frames between the ends once more, backwards, so that nothing jumps.
        columns: of the grid, where a frame has several images.

    Returns:
        The path.

    Raises:
        ValueError: another shape or ending, or a rate that a GIF cannot have.
    """
    from PIL import Image

    path, frames = pathlib.Path(path), to_uint8(frames)
    if path.suffix != ".gif":
        raise ValueError(f"an animation's file ends in .gif; got {path.name!r}")
    if frames.ndim not in (4, 5):
        raise ValueError(f"frames are [T, H, W, C] or [T, N, H, W, C]; got shape {frames.shape}")
    if not 0.02 <= frames_per_second <= 50:
        raise ValueError(f"a GIF shows 0.02 to 50 frames a second; got {frames_per_second:g}")
    tiles = frames if frames.ndim == 5 else frames[:, None]
    columns = min(columns, tiles.shape[1])
    mosaics = np.stack([image_grid(tile, columns) for tile in tiles])  # [T, H', W', C]
    factor = min(-(-LEAST_HEIGHT // tiles.shape[-3]), MOST_HEIGHT // mosaics.shape[1])
    mosaics = enlarge(mosaics, max(1, factor) * mosaics.shape[1])
    if there_and_back:
        mosaics = np.concatenate([mosaics, mosaics[-2:0:-1]])
    pictures = [Image.fromarray(each[..., 0] if each.shape[-1] == 1 else each) for each in mosaics]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    duration = 10 * round(100 / frames_per_second)  # milliseconds
    try:
        pictures[0].save(partial, format="GIF", save_all=True, append_images=pictures[1:], duration=duration, loop=0)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path
