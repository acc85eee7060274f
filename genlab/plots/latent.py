"""A latent space of two dimensions: where the classes lie, and what the decoder makes of the plane."""

import statistics
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from genlab.plots import style
from genlab.plots.images import centres, image_grid, mosaic_figure


def normal_quantiles(n: int) -> np.ndarray:
    """The quantiles of the standard normal at (i + 1/2) / n, f64[n]: equal steps of probability, without the tails."""
    normal = statistics.NormalDist()
    return np.array([normal.inv_cdf((i + 0.5) / n) for i in range(n)])


def manifold_codes(n: int) -> np.ndarray:
    """The codes that `latent_manifold` shows once decoded, f32[n n, 2].

    In reading order: z_1 grows to the right, and z_2 upwards as on every other plot of the plane.

    Reference: Kingma & Welling 2014, figure 4.
    """
    ticks = normal_quantiles(n)
    z_1, z_2 = np.meshgrid(ticks, ticks[::-1])
    return np.stack([z_1, z_2], axis=-1).reshape(n * n, 2).astype(np.float32)


def latent_manifold(images: np.ndarray, ticks: np.ndarray) -> Figure:
    """The decoder's images over the latent plane, with the codes on the axes.

    Args:
        images: [n n, H, W, C], `manifold_codes(n)` decoded, in that order.
        ticks: f[n], ascending, the codes along either axis: `normal_quantiles(n)`.

    Raises:
        ValueError: not n n images, or ticks that do not ascend.
    """
    images, ticks = np.asarray(images), np.asarray(ticks)
    n = len(ticks)
    if len(images) != n * n or n == 0:
        raise ValueError(f"a manifold over {n} ticks needs {n * n} images; got {len(images)}")
    if not (np.diff(ticks) > 0).all():
        raise ValueError("the ticks of a latent manifold ascend")
    mosaic = image_grid(images, columns=n, gap=0)
    height, width = images.shape[1:3]
    # four or five ticks, symmetric about zero
    shown = np.unique(np.linspace(0, n - 1, 5 if n % 2 else 4).round().astype(int))
    names = [f"{ticks[i]:.1f}".replace("-", "−") for i in shown]
    return mosaic_figure(
        mosaic,
        height,
        row_labels=(centres(n, height, gap=0)[::-1][shown], names),
        column_labels=(centres(n, width, gap=0)[shown], names),
        axis_names=("$z_1$", "$z_2$"),
    )


@style.styled
def latent_scatter(
    codes: np.ndarray,
    labels: np.ndarray | None = None,
    class_names: Sequence[str] | None = None,
    axis_names: tuple[str, str] = ("$z_1$", "$z_2$"),
) -> Figure:
    """Codes in the plane, coloured by class.

    Points are drawn in a shuffled order (always the same), so that no class hides another by its number.

    Args:
        codes: f[N, 2]; project longer codes first, for instance on two principal components.
        labels: i[N], or None for one colour.
        class_names: the text of label k at position k; the labels themselves by default.
        axis_names: what the two coordinates are.

    Raises:
        ValueError: codes that are not in the plane, empty or not finite; labels of another length.
    """
    codes = np.asarray(codes, np.float64)
    if codes.ndim != 2 or codes.shape[1] != 2 or len(codes) == 0:
        raise ValueError(f"a scatter of codes takes [N, 2], N >= 1; got shape {codes.shape}: project them first")
    if not np.isfinite(codes).all():
        raise ValueError(f"codes must be finite; {np.count_nonzero(~np.isfinite(codes))} values are not")
    figure = Figure(figsize=(6.0, 4.8), layout="constrained")
    axes = figure.add_subplot()
    order = np.random.default_rng(0).permutation(len(codes))
    size = float(np.clip(12000 / len(codes), 2.0, 16.0))
    if labels is None:
        colours: str | np.ndarray = style.BLUE
    else:
        labels = np.asarray(labels)
        if labels.shape != (len(codes),):
            raise ValueError(f"{len(codes)} codes need as many labels; got shape {labels.shape}")
        classes, positions = np.unique(labels, return_inverse=True)
        palette = _palette(len(classes))
        colours = palette[positions][order]
        names = [str(k) if class_names is None else class_names[k] for k in classes]
        handles = [Line2D([], [], ls="", marker="o", ms=5, mew=0, color=colour) for colour in palette]
        figure.legend(handles, names, loc="outside right upper", handletextpad=0.2, ncols=-(-len(names) // 20))
    axes.scatter(*codes[order].T, s=size, c=colours, alpha=0.7, linewidths=0)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xlabel(axis_names[0])
    axes.set_ylabel(axis_names[1])
    return figure


def _palette(count: int) -> np.ndarray:
    """Colours f[count, 4]: ten that everyone tells apart, then twenty, then a rainbow."""
    if count <= 20:
        return matplotlib.colormaps["tab10" if count <= 10 else "tab20"](np.arange(count))
    return matplotlib.colormaps["turbo"](np.linspace(0.05, 0.95, count))
