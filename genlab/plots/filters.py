"""What the units of a first layer look for: their weights, as images."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from genlab.plots.images import image_grid, mosaic_figure


def filters(kernel: np.ndarray, shape: Sequence[int], max_filters: int = 100, columns: int = 10) -> Figure:
    """The incoming weights of every unit as an image, the largest first.

    Each has a scale of its own, symmetric about zero: mid-grey is no weight, white the largest magnitude of that unit
    and black its negative. A unit without weights is all grey.

    Args:
        kernel: f[H W C, n], a column a unit; of more than `max_filters` those of largest norm are shown.
        shape: (H, W, C) of an image, C of 1 or 3.
        max_filters: images at most.
        columns: images a row.

    Raises:
        ValueError: a kernel of another shape, without units, or not finite.
    """
    kernel, (height, width, channels) = np.asarray(kernel, np.float64), shape
    if kernel.ndim != 2 or len(kernel) != height * width * channels or not kernel.size or not np.isfinite(kernel).all():
        raise ValueError(f"filters of images {tuple(shape)} are finite [H W C, n], n >= 1; got shape {kernel.shape}")
    norms = np.linalg.norm(kernel, axis=0)
    ranks = -np.round(norms / (norms.max() or 1.0), 4)  # units of one norm, as of PCA, keep their order
    shown = kernel[:, np.argsort(ranks, kind="stable")[:max_filters]].T  # [n, H W C]
    largest = np.abs(shown).max(axis=1, keepdims=True)
    levels = 0.5 + 0.5 * shown / np.where(largest > 0, largest, 1.0)
    images = levels.reshape(-1, height, width, channels)
    return mosaic_figure(image_grid(images, min(columns, len(images))), height)
