"""Samples in the plane or on the line, beside the density they should have."""

from collections.abc import Callable, Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from genlab.plots import style

Limits = tuple[float, float, float, float]  # left, right, bottom, top

COLUMNS = 4  # panels in a row
SCALE = 0.5  # inches, of a colour scale with its numbers
TALLEST = 2.5  # of a histogram, in peaks of the true density


def plane(limits: Limits, n: int) -> np.ndarray:
    """The middles of n by n cells over a rectangle, f32[n n, 2]: where to evaluate a density for the figures here.

    In the order y ascending, then x ascending, so `density(plane(limits, n)).reshape(n, n)` is [y, x].
    """
    left, right, bottom, top = limits
    middle = (np.arange(n) + 0.5) / n
    x, y = np.meshgrid(left + (right - left) * middle, bottom + (top - bottom) * middle)
    return np.stack([x, y], axis=-1).reshape(n * n, 2).astype(np.float32)


@style.styled
def points_and_density(points: np.ndarray, density: np.ndarray, limits: Limits) -> Figure:
    """The true density and a model's samples, on the same axes.

    Args:
        points: f[N, 2], the model's samples.
        density: f[n, n] >= 0, [y, x] with both ascending, on `plane(limits, n)`.
        limits: left, right, bottom, top of every panel.

    Raises:
        ValueError: another shape, or values that are not finite.
    """
    density = _checked_density(density)
    figure, axes_of = panels(["true density", "samples"], limits)
    _shade(axes_of["true density"], density, limits, Normalize(0.0, density.max()))
    scatter(axes_of["samples"], points, limits)
    return figure


@style.styled
def density_maps(
    model: np.ndarray, limits: Limits, truth: np.ndarray | None = None, samples: np.ndarray | None = None
) -> Figure:
    """The true density, a model's, and the model's samples over its own, on the same axes and one colour scale.

    Colour goes with the square root of the density, or the thin bridges that flows leave between modes would not show.
    The scale ends at the highest true density; where that is not known, at the height above which 5 % of the model's
    mass lies, which of a Gaussian is 0.95 of its peak, since a single spike would leave all else pale.

    Args:
        model: f[n, n] >= 0, [y, x] with both ascending, on `plane(limits, n)`. Its sum times a cell's area is in the
            title; where it is not finite the map is red, and the title counts those cells instead.
        limits: left, right, bottom, top of every panel.
        truth: like `model`, all finite; None where it is not known.
        samples: f[N, 2], of the model; None where it cannot generate.

    Raises:
        ValueError: another shape, or a true density or samples that are not finite.
    """
    model = np.asarray(model, np.float64)
    finite = np.isfinite(model)
    brightest = _height(_checked_density(np.where(finite, model, 0.0)))
    maps = {"model density": model}
    if truth is not None:
        maps = {"true density": _checked_density(truth), **maps}
        brightest = maps["true density"].max()
    if samples is not None:
        maps["model samples"] = model
    norm = PowerNorm(0.5, 0.0, brightest or 1.0)
    figure, axes_of = panels(list(maps), limits, scale=SCALE)
    for name, axes in axes_of.items():
        image = _shade(axes, maps[name], limits, norm)
    # in the frame of the last panel, so as to be as high as it is drawn
    bar = figure.colorbar(image, cax=axes.inset_axes((1.03, 0.0, 0.03, 1.0)), ticks=MaxNLocator(4))
    bar.outline.set_visible(False)
    left, right, bottom, top = limits
    if finite.all():
        mass = model.sum() * (right - left) * (top - bottom) / model.size
        _note(axes_of["model density"], 0, 0, f"integrates to {mass:.3f}")
    else:
        _note(axes_of["model density"], 0, 0, f"not finite in {np.count_nonzero(~finite):,} of {model.size:,} cells")
    if samples is not None:
        scatter(axes_of["model samples"], samples, limits, style.ORANGE)
    return figure


@style.styled
def point_clouds(clouds: Mapping[str, np.ndarray], limits: Limits) -> Figure:
    """Sets of points f[N, 2] on the same axes, one panel each: data beside samples where no density is known.

    Raises:
        ValueError: no set, another shape, or values that are not finite.
    """
    if not clouds:
        raise ValueError("a figure of point clouds needs at least one set of points")
    figure, axes_of = panels(list(clouds), limits)
    for name, axes in axes_of.items():
        scatter(axes, clouds[name], limits)
    return figure


@style.styled
def line_densities(
    samples: Mapping[str, np.ndarray],
    log_density: Callable[[np.ndarray], Any] | None,
    limits: tuple[float, float],
    num_bins: int = 80,
) -> Figure:
    """Histograms of sets of samples on the line, each under the true density, one panel a set on the same axes.

    Args:
        samples: f[N, 1] by name.
        log_density: f32[K, 1] -> f[K], nats; None where it is not known.
        limits: left, right; samples beyond are counted in the title, and in the scale of their histogram.
        num_bins: of every histogram.

    Raises:
        ValueError: no set, another shape, or values that are not finite.
    """
    left, right = limits
    if not samples:
        raise ValueError("a figure of densities on the line needs at least one set of samples")
    if not (np.isfinite(limits).all() and left < right):
        raise ValueError(f"limits are left < right, both finite; got {limits}")
    line = np.linspace(left, right, 401, dtype=np.float32)
    density = None if log_density is None else np.exp(np.asarray(log_density(line[:, None]), np.float64))
    if density is not None and (density.shape != line.shape or not np.isfinite(density).all()):
        raise ValueError(f"the log-density of {len(line)} points is as many finite numbers; got shape {density.shape}")
    columns = min(len(samples), COLUMNS)
    rows, side = -(-len(samples) // columns), min(3.6, style.WIDTH / columns)
    figure = Figure(figsize=(side * columns, (0.6 * side + 0.3) * rows), layout="constrained")
    edges = np.linspace(left, right, num_bins + 1)
    # a collapsed model's histogram is as high as it is narrow, and would flatten the rest
    peak = np.inf if density is None else float(density.max())
    highest = 0.0 if density is None else peak
    for position, (name, points) in enumerate(samples.items()):
        x = np.asarray(points, np.float64)
        if x.ndim != 2 or x.shape[1] != 1 or len(x) == 0 or not np.isfinite(x).all():
            raise ValueError(f"samples on the line are finite points [N, 1], N >= 1; got shape {x.shape}")
        axes = figure.add_subplot(rows, columns, position + 1)
        bars = np.histogram(x, edges)[0] / (len(x) * np.diff(edges))
        axes.stairs(bars, edges, fill=True, color=style.BLUE, alpha=0.45, lw=0)
        if density is not None:
            axes.plot(line, density, color=style.INK, lw=1.0)
        axes.set(title=name, xlim=(left, right), yticks=[])
        axes.spines["left"].set_visible(False)
        cut = [f"up to {bars.max() / peak:.1f} times the true peak"] if bars.max() > TALLEST * peak else []
        _note(axes, int(np.count_nonzero((x < left) | (x > right))), len(x), *cut)
        highest = max(highest, float(bars.max()))
    for axes in figure.axes:
        axes.set_ylim(0.0, min(1.05 * highest, TALLEST * peak) or 1.0)
    return figure


def panels(names: list[str], limits: Limits, scale: float = 0.0) -> tuple[Figure, dict[str, Axes]]:
    """A figure of panels, one a name, four in a row, of the same limits and the same scale along both axes.

    To their right are `scale` inches for a colour scale.
    """
    left, right, bottom, top = limits
    if not (np.isfinite(limits).all() and left < right and bottom < top):
        raise ValueError(f"limits are left < right, bottom < top, all finite; got {limits}")
    columns = min(len(names), COLUMNS)
    rows, side = -(-len(names) // columns), min(3.6, (style.WIDTH - scale) / columns)
    height = side * (top - bottom) / (right - left) + 0.25  # of the title
    figure = Figure(figsize=(side * columns + scale, height * rows), layout="constrained")
    axes_of = {}
    for position, name in enumerate(names):
        axes_of[name] = axes = figure.add_subplot(rows, columns, position + 1)
        axes.set(title=name, xlim=(left, right), ylim=(bottom, top), aspect="equal", xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.set_facecolor(style.GROUND)
    return figure, axes_of


def scatter(axes: Axes, points: np.ndarray, limits: Limits, color: str = style.BLUE) -> None:
    """Points f[N, 2], and in the title how many of them lie outside."""
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) == 0 or not np.isfinite(points).all():
        raise ValueError(f"samples in the plane are finite points [N, 2], N >= 1; got shape {points.shape}")
    left, right, bottom, top = limits
    (x, y) = points.T
    axes.scatter(x, y, s=float(np.clip(4000 / len(points), 0.8, 8.0)), color=color, alpha=0.6, linewidths=0)
    axes.set(xlim=(left, right), ylim=(bottom, top))
    _note(axes, int(np.count_nonzero((x < left) | (x > right) | (y < bottom) | (y > top))), len(points))


def _note(axes: Axes, outside: int, num: int, *others: str) -> None:
    """In the title: samples off the map are part of the result."""
    notes = [f"{outside:,} of {num:,} outside"] * bool(outside) + [*others]
    if notes:
        axes.set_title(", ".join(notes), loc="right", color=style.MUTED, fontsize=7)


def _shade(axes: Axes, density: np.ndarray, limits: Limits, norm: Normalize) -> AxesImage:
    """A density map, [y, x] with both ascending; red where it is not finite."""
    colours = matplotlib.colormaps[style.DENSITY_MAP].with_extremes(bad=style.RED)
    return axes.imshow(density, cmap=colours, norm=norm, extent=limits, origin="lower", interpolation="bilinear")


def _height(density: np.ndarray, above: float = 0.05) -> float:
    """The height above which lies that share of a density map's mass."""
    heights = np.sort(density, axis=None)[::-1]
    mass = np.cumsum(heights)
    return float(heights[np.searchsorted(mass, above * mass[-1])])


def _checked_density(density: np.ndarray) -> np.ndarray:
    density = np.asarray(density, np.float64)
    if density.ndim != 2 or density.size == 0 or not np.isfinite(density).all():
        raise ValueError(f"a density map is finite, [y, x]; got shape {density.shape}")
    return density
