"""Samples in the plane or on the line, beside the density they should have."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from genlab.plots import style

Limits = tuple[float, float, float, float]  # left, right, bottom, top

COLUMNS = 4  # panels in a row
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
def points_and_density(
    points: np.ndarray, density: np.ndarray, limits: Limits, model_density: np.ndarray | None = None
) -> Figure:
    """The true density, a model's samples and, where it has one, the model's own density, on the same axes.

    Args:
        points: f[N, 2], the model's samples.
        density: f[n, n] >= 0, [y, x] with both ascending, on `plane(limits, n)`.
        limits: left, right, bottom, top of every panel.
        model_density: like `density`, on its colour scale; or None.

    Raises:
        ValueError: another shape, or values that are not finite.
    """
    shown = {"true density": density, "samples": points}
    if model_density is not None:
        shown["model density"] = model_density
    figure, axes_of = panels(list(shown), limits)
    brightest = float(np.max(_checked_density(density)))
    for name, axes in axes_of.items():
        if name == "samples":
            scatter(axes, points, limits)
        else:
            axes.imshow(
                _checked_density(shown[name]),
                cmap=style.DENSITY_MAP,
                vmin=0.0,
                vmax=brightest,
                extent=limits,
                origin="lower",
                interpolation="bilinear",
            )
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


def panels(names: list[str], limits: Limits) -> tuple[Figure, dict[str, Axes]]:
    """A figure of panels, one a name, four in a row, of the same limits and the same scale along both axes."""
    left, right, bottom, top = limits
    if not (np.isfinite(limits).all() and left < right and bottom < top):
        raise ValueError(f"limits are left < right, bottom < top, all finite; got {limits}")
    columns = min(len(names), COLUMNS)
    rows, side = -(-len(names) // columns), min(3.6, style.WIDTH / columns)
    height = side * (top - bottom) / (right - left) + 0.25  # of the title
    figure = Figure(figsize=(side * columns, height * rows), layout="constrained")
    axes_of = {}
    for position, name in enumerate(names):
        axes_of[name] = axes = figure.add_subplot(rows, columns, position + 1)
        axes.set(title=name, xlim=(left, right), ylim=(bottom, top), aspect="equal", xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.set_facecolor(style.GROUND)
    return figure, axes_of


def scatter(axes: Axes, points: np.ndarray, limits: Limits) -> None:
    """Points f[N, 2], and in the title how many of them lie outside."""
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) == 0 or not np.isfinite(points).all():
        raise ValueError(f"samples in the plane are finite points [N, 2], N >= 1; got shape {points.shape}")
    left, right, bottom, top = limits
    (x, y) = points.T
    axes.scatter(x, y, s=float(np.clip(4000 / len(points), 0.8, 8.0)), color=style.BLUE, alpha=0.6, linewidths=0)
    axes.set(xlim=(left, right), ylim=(bottom, top))
    _note(axes, int(np.count_nonzero((x < left) | (x > right) | (y < bottom) | (y > top))), len(points))


def _note(axes: Axes, outside: int, num: int, *others: str) -> None:
    """In the title: samples off the map are part of the result."""
    notes = [f"{outside:,} of {num:,} outside"] * bool(outside) + [*others]
    if notes:
        axes.set_title(", ".join(notes), loc="right", color=style.MUTED, fontsize=7)


def _checked_density(density: np.ndarray) -> np.ndarray:
    density = np.asarray(density, np.float64)
    if density.ndim != 2 or density.size == 0 or not np.isfinite(density).all():
        raise ValueError(f"a density map is finite, [y, x]; got shape {density.shape}")
    return density
