"""Ways through a latent space: along its dimensions, between examples, from class to class, over a plane."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from genlab.plots.images import centres, image_grid, mosaic_figure, to_uint8
from genlab.plots.latent import latent_manifold
from genlab.plots.samples import image_rows


def traversals(images: np.ndarray, dims: Sequence[int], ends: tuple[str, str]) -> Figure:
    """One row a latent dimension, from a low value of it to a high one.

    Args:
        images: [R, S, H, W, C].
        dims: R numbers of dimensions, from 0 as in the code.
        ends: what the first and the last column are.

    Raises:
        ValueError: another shape, or another number of dimensions.
    """
    images = _rows(images, len(dims))
    names = [f"$z_{{{dim}}}$" for dim in dims]
    columns = centres(images.shape[1], images.shape[3])[[0, -1]]
    return _grid(images, names, (columns, ends))


def attributes(examples: np.ndarray, exchanged: np.ndarray, sources: Sequence[str], targets: Sequence[str]) -> Figure:
    """One row an example: itself, then what it becomes as a member of each class.

    Args:
        examples: [R, H, W, C].
        exchanged: [R, T, H, W, C].
        sources: R names of the examples' classes.
        targets: T names of the classes that they are given.

    Raises:
        ValueError: shapes or names that do not agree.
    """
    exchanged = _rows(exchanged, len(sources))
    if exchanged.shape[1] != len(targets) or np.shape(examples) != (len(sources), *exchanged.shape[2:]):
        raise ValueError(
            f"{len(sources)} examples and {len(targets)} targets do not agree with images of shape "
            f"{np.shape(examples)} and {exchanged.shape}"
        )
    blank = np.full_like(exchanged[:, :1], 255)
    images = np.concatenate([to_uint8(examples)[:, None], blank, exchanged], axis=1)
    columns = centres(images.shape[1], images.shape[3])
    names = ["example", "", *(f"to {target}" for target in targets)]
    return _grid(images, list(sources), (columns, names))


def blends(walks: np.ndarray, pixels: np.ndarray, name: str) -> Figure:
    """Ways between pairs of examples, each above the same steps taken in pixels.

    Args:
        walks: [R, S, H, W, C], decoded.
        pixels: of the same shape, (1 - t) x_i + t x_j.
        name: of the way.

    Raises:
        ValueError: shapes that do not agree.
    """
    walks, pixels = _rows(walks, len(pixels)), to_uint8(pixels)
    if walks.shape != pixels.shape:
        raise ValueError(f"walks {walks.shape} and blends of pixels {pixels.shape} must have one shape")
    flat = (-1, *walks.shape[2:])  # [R S, H, W, C]
    return image_rows({name: walks.reshape(flat), "pixels": pixels.reshape(flat)}, columns=walks.shape[1])


def principal_manifold(images: np.ndarray, reach: float) -> Figure:
    """The decoder's images over the plane of two principal components, c_1 and c_2 in standard deviations.

    Args:
        images: [side, side, H, W, C], in reading order: the first component grows to the right, the second upwards.
        reach: how far the plane extends from its middle, in standard deviations of either.

    Raises:
        ValueError: another shape.
    """
    images = _rows(images, len(images))
    side, across = images.shape[:2]
    if side != across:
        raise ValueError(f"a plane is shown as a square of images; got {side} rows of {across}")
    figure = latent_manifold(images.reshape(-1, *images.shape[2:]), np.linspace(-reach, reach, side))
    (axes,) = figure.axes
    axes.set_xlabel("$c_1$")  # as wide as the names that the margins were made for
    axes.set_ylabel("$c_2$")
    return figure


def _rows(images: np.ndarray, rows: int) -> np.ndarray:
    """uint8[rows, S, H, W, C]."""
    images = to_uint8(images)
    if images.ndim != 5 or len(images) != rows:
        raise ValueError(f"{rows} rows of images are [{rows}, S, H, W, C]; got shape {images.shape}")
    return images


def _grid(images: np.ndarray, names: Sequence[str], column_labels: tuple[np.ndarray, Sequence[str]]) -> Figure:
    rows, length, height, width, channels = images.shape
    mosaic = image_grid(images.reshape(rows * length, height, width, channels), columns=length)
    return mosaic_figure(mosaic, height, row_labels=(centres(rows, height), names), column_labels=column_labels)
