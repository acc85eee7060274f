"""What a model draws: samples, their history, reconstructions and interpolations."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from genlab.plots.images import GAP, centres, enlarge, image_grid, mosaic_figure, to_uint8


def samples(images: np.ndarray, columns: int = 10, row_labels: Sequence[str] = ()) -> Figure:
    """A grid of samples in reading order.

    Args:
        images: [N, H, W, C], float in [0, 1] or uint8.
        columns: images a row.
        row_labels: one text a row, for instance the class that a row was conditioned on; or none.

    Raises:
        ValueError: images that make no grid, or a wrong number of labels.
    """
    images = np.asarray(images)
    mosaic = image_grid(images, columns)
    rows = math.ceil(len(images) / columns)
    if row_labels and len(row_labels) != rows:
        raise ValueError(f"{rows} rows of samples need as many labels; got {len(row_labels)}")
    positions = centres(rows, images.shape[1]) if row_labels else ()
    return mosaic_figure(mosaic, images.shape[1], row_labels=(positions, row_labels))


def samples_over_time(images: Sequence[np.ndarray], steps: Sequence[int | str]) -> Figure:
    """One row a training step, one column a noise vector that stays the same.

    Args:
        images: T arrays [N, H, W, C]; where the resolution grows, coarse rows are enlarged to the finest.
        steps: T training steps (or names of stages), written beside the rows.

    Raises:
        ValueError: no rows, or rows that do not agree with each other or with `steps`.
    """
    if len(images) == 0 or len(images) != len(steps):
        raise ValueError(f"samples over time need one training step a row; got {len(images)} rows, {len(steps)} steps")
    names = [f"step {step:,}" if isinstance(step, int | np.integer) else str(step) for step in steps]
    rows, height = _same_size(images)
    mosaic = image_grid(np.concatenate(rows), columns=len(rows[0]))
    return mosaic_figure(mosaic, height, row_labels=(centres(len(rows), height), names))


def image_rows(rows: Mapping[str, np.ndarray], columns: int = 10) -> Figure:
    """Sets of images that belong together, one under the other: column by column the same example.

    For reconstructions, translations (source, translated, cycled), super-resolution (low, ours, truth) and
    nearest neighbours. Where there are more examples than columns, the rows start again below a wider gap.

    Args:
        rows: label -> [N, H, W, C], the same N; coarse images are enlarged to the finest.
        columns: examples side by side.

    Raises:
        ValueError: no rows, or rows that do not agree.
    """
    images, height = _same_size(list(rows.values()))
    columns = min(columns, len(images[0]))
    gap = np.full((3 * GAP, columns * (images[0].shape[2] + GAP) - GAP, images[0].shape[3]), 255, np.uint8)
    thin = gap[:GAP]
    parts, positions, labels, top = [], [], [], 0
    for start in range(0, len(images[0]), columns):
        for label, row in zip(rows, images, strict=True):
            if parts:
                parts.append(thin if len(positions) % len(images) else gap)
                top += len(parts[-1])
            block = np.full((columns, *row.shape[1:]), 255, np.uint8)
            block[: len(row[start : start + columns])] = row[start : start + columns]
            parts.append(image_grid(block, columns))
            positions.append(top + (height - 1) / 2)
            labels.append(label)
            top += height
    return mosaic_figure(np.concatenate(parts), height, row_labels=(positions, labels))


def reconstructions(originals: np.ndarray, reconstructed: np.ndarray, columns: int = 10) -> Figure:
    """Originals [N, H, W, C], each above its reconstruction; see `image_rows`."""
    return image_rows({"original": originals, "reconstruction": reconstructed}, columns)


def interpolations(images: np.ndarray, ends: tuple[str, str] = ("A", "B")) -> Figure:
    """One row a pair of examples: from the first to the second, in equal steps of the code.

    Args:
        images: [R, S, H, W, C], R rows of S images.
        ends: what the first and the last column are.

    Raises:
        ValueError: another shape.
    """
    images = to_uint8(images)
    if images.ndim != 5:
        raise ValueError(f"interpolations are [rows, steps, H, W, C]; got shape {images.shape}")
    rows, length, height, width, channels = images.shape
    mosaic = image_grid(images.reshape(rows * length, height, width, channels), columns=length)
    positions = centres(length, width)[[0, -1]]
    return mosaic_figure(mosaic, height, column_labels=(positions, ends))


def _same_size(rows: Sequence[np.ndarray]) -> tuple[list[np.ndarray], int]:
    """The rows as uint8[N, H, W, C] of one shape, and H."""
    images = [to_uint8(row) for row in rows]
    height = max((row.shape[-3] for row in images), default=0)
    images = [enlarge(row, height) for row in images]
    shapes = {row.shape for row in images}
    if len(shapes) != 1 or images[0].ndim != 4:
        raise ValueError(f"rows of images need one shape [N, H, W, C]; got {sorted(shapes) or 'none'}")
    return images, height
