"""Grids of what styles, noise and truncation do to images."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from genlab.plots.images import centres, image_grid, mosaic_figure, to_uint8


def named_columns(images: np.ndarray, names: Sequence[str]) -> Figure:
    """One row an example, one named column what was done to it.

    Args:
        images: [R, S, H, W, C].
        names: S of them.

    Raises:
        ValueError: another shape, or another number of names.
    """
    images = to_uint8(images)
    if images.ndim != 5 or images.shape[1] != len(names):
        raise ValueError(f"{len(names)} columns of images are [R, {len(names)}, H, W, C]; got shape {images.shape}")
    rows, columns, height, width, channels = images.shape
    mosaic = image_grid(images.reshape(rows * columns, height, width, channels), columns=columns)
    return mosaic_figure(mosaic, height, column_labels=(centres(columns, width), names))


def mixing(grids: Mapping[str, np.ndarray]) -> Figure:
    """Grids of mixed styles one under the other, each with its name.

    Args:
        grids: name -> [R + 1, C + 1, H, W, C], the first row and the first column what is mixed.

    Raises:
        ValueError: no grid, or grids that differ in shape.
    """
    shapes = {np.shape(grid) for grid in grids.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 5:
        raise ValueError(f"grids are all [R + 1, C + 1, H, W, C] of one shape; got {sorted(map(str, shapes))}")
    images = np.concatenate([to_uint8(np.asarray(grid)) for grid in grids.values()])  # [rows, C + 1, H, W, C]
    rows, columns, height, width, channels = images.shape
    mosaic = image_grid(images.reshape(rows * columns, height, width, channels), columns=columns)
    places = centres(rows, height)[:: rows // len(grids)]
    return mosaic_figure(mosaic, height, row_labels=(places, [name.split(":")[0] for name in grids]))
