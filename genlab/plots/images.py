"""Images side by side: the mosaic as an array, and the figure that shows it pixel for pixel."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from genlab.plots import style

Labels = tuple[np.ndarray | Sequence[float], Sequence[str]]  # positions in pixels of a mosaic, and texts

GAP = 1  # image pixels of white between neighbours

_MAX_WIDTH, _MAX_HEIGHT, _MAX_CELL = 1480, 1240, 200  # file pixels


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Intensities as bytes: round(255 x), clipped.

    Clipping is meant: a linear decoder (PCA, a Gaussian mean) leaves [0, 1] a little. A NaN is not clipped away.

    Args:
        images: float[..., H, W, C] in [0, 1], or uint8; C is 1 or 3.

    Returns:
        uint8, the same shape.

    Raises:
        ValueError: another dtype or number of channels, or a value that is not finite.
    """
    images = np.asarray(images)
    if images.ndim < 3 or images.shape[-1] not in (1, 3) or images.size == 0:
        raise ValueError(f"images are [..., H, W, C] with C of 1 or 3, and at least one; got shape {images.shape}")
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating) and images.dtype.name != "bfloat16":
        raise ValueError(f"images are float in [0, 1] or uint8; got {images.dtype}")
    images = images.astype(np.float32)
    if not np.isfinite(images).all():
        raise ValueError(f"images must be finite; {np.count_nonzero(~np.isfinite(images))} values are not")
    return np.rint(255.0 * np.clip(images, 0.0, 1.0)).astype(np.uint8)


def enlarge(images: np.ndarray, height: int) -> np.ndarray:
    """Repeats pixels until images [..., H, W, C] are `height` high, so that resolutions can share a grid.

    Raises:
        ValueError: `height` is not a multiple of H.
    """
    factor, rest = divmod(height, images.shape[-3])
    if rest or not factor:
        raise ValueError(f"images {images.shape[-3]} pixels high do not fit a grid of {height} in whole pixels")
    return images.repeat(factor, axis=-3).repeat(factor, axis=-2)


def image_grid(images: np.ndarray, columns: int, gap: int = GAP) -> np.ndarray:
    """Images in reading order, as one image.

    Args:
        images: [N, H, W, C], see `to_uint8`.
        columns: images a row, >= 1; the cells left over in the last row are white.
        gap: pixels of white between neighbours; there is none around the whole.

    Returns:
        uint8[rows (H + gap) - gap, columns (W + gap) - gap, C], rows = ceil(N / columns).

    Raises:
        ValueError: images or columns that make no grid.
    """
    images = to_uint8(images)
    if images.ndim != 4:
        raise ValueError(f"a grid takes images [N, H, W, C]; got shape {images.shape}")
    if columns < 1 or gap < 0:
        raise ValueError(f"a grid has at least one column and no negative gap; got columns={columns}, gap={gap}")
    count, height, width, channels = images.shape
    rows = math.ceil(count / columns)
    cells = np.full((rows * columns, height + gap, width + gap, channels), 255, np.uint8)
    cells[:count, :height, :width] = images
    cells = cells.reshape(rows, columns, height + gap, width + gap, channels)
    mosaic = cells.swapaxes(1, 2).reshape(rows * (height + gap), columns * (width + gap), channels)
    return mosaic[: mosaic.shape[0] - gap, : mosaic.shape[1] - gap]


def centres(count: int, size: int, gap: int = GAP) -> np.ndarray:
    """Where the middles of `count` cells lie along a grid, in the coordinates of its figure."""
    return np.arange(count) * (size + gap) + (size - 1) / 2


@style.styled
def mosaic_figure(
    mosaic: np.ndarray,
    cell: int,
    row_labels: Labels = ((), ()),
    column_labels: Labels = ((), ()),
    axis_names: tuple[str, str] | None = None,
) -> Figure:
    """Shows a mosaic without axes, every image pixel a square of whole file pixels.

    Args:
        mosaic: uint8[H, W, C].
        cell: the height of one image of it, which is kept from growing out of proportion.
        row_labels, column_labels: what is written beside the rows and above the columns, see `centres`.
        axis_names: what x and y are, where the mosaic is a plot; the columns are then labelled below it.

    Returns:
        A figure as large as the mosaic and its labels need.
    """
    height, width, _ = mosaic.shape
    scale = min(_MAX_WIDTH / width, _MAX_HEIGHT / height, _MAX_CELL / cell)
    scale = math.floor(scale) if scale >= 1 else scale  # whole pixels, unless the mosaic has to shrink
    wide, high = round(width * scale), round(height * scale)
    figure = Figure(figsize=(wide / style.DPI, high / style.DPI))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.imshow(
        np.broadcast_to(mosaic, (height, width, 3)),  # a grey colour map would be a byte off here and there
        aspect="auto",
        interpolation="nearest" if scale >= 1 else "antialiased",
    )
    axes.spines[:].set_visible(False)
    axes.set_yticks(*row_labels)
    axes.set_xticks(*column_labels)
    axes.tick_params(length=0, pad=4, top=False, labeltop=not axis_names, labelbottom=bool(axis_names))
    if axis_names:
        axes.set_xlabel(axis_names[0])
        axes.set_ylabel(axis_names[1], rotation=0, va="center")

    # the labels get the margins they need, in whole pixels, and the mosaic keeps its size
    box = axes.get_tightbbox()
    assert box is not None
    left, bottom = (math.ceil(max(0.0, -low)) + 4 for low in (box.x0, box.y0))
    right, top = (math.ceil(max(0.0, over)) + 4 for over in (box.x1 - wide, box.y1 - high))
    all_wide, all_high = left + wide + right, bottom + high + top
    figure.set_size_inches(all_wide / style.DPI, all_high / style.DPI)
    axes.set_position((left / all_wide, bottom / all_high, wide / all_wide, high / all_high))
    return figure
