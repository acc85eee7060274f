"""Samples in the plane, beside the density they should have."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from genlab.plots import style

Limits = tuple[float, float, float, float]  # left, right, bottom, top


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
    figure, panels = _panels(list(shown), limits)
    brightest = float(np.max(_checked_density(density)))
    for name, axes in panels.items():
        if name == "samples":
            _scatter(axes, points, limits)
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
    figure, panels = _panels(list(clouds), limits)
    for name, axes in panels.items():
        _scatter(axes, clouds[name], limits)
    return figure


def _panels(names: list[str], limits: Limits) -> tuple[Figure, dict[str, Axes]]:
    left, right, bottom, top = limits
    if not (np.isfinite(limits).all() and left < right and bottom < top):
        raise ValueError(f"limits are left < right, bottom < top, all finite; got {limits}")
    side = min(3.6, style.WIDTH / len(names))
    figure = Figure(figsize=(side * len(names), side * (top - bottom) / (right - left) + 0.12), layout="constrained")
    panels = {}
    for position, name in enumerate(names):
        panels[name] = axes = figure.add_subplot(1, len(names), position + 1)
        axes.set(title=name, xlim=(left, right), ylim=(bottom, top), aspect="equal", xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.set_facecolor(style.GROUND)
    return figure, panels


def _scatter(axes: Axes, points: np.ndarray, limits: Limits) -> None:
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) == 0 or not np.isfinite(points).all():
        raise ValueError(f"samples in the plane are finite points [N, 2], N >= 1; got shape {points.shape}")
    left, right, bottom, top = limits
    (x, y) = points.T
    axes.scatter(x, y, s=float(np.clip(4000 / len(points), 0.8, 8.0)), color=style.BLUE, alpha=0.6, linewidths=0)
    axes.set(xlim=(left, right), ylim=(bottom, top))
    outside = np.count_nonzero((x < left) | (x > right) | (y < bottom) | (y > top))
    if outside:  # samples off the map are part of the result
        axes.set_title(f"{outside:,} of {len(points):,} outside", loc="right", color=style.MUTED, fontsize=7)


def _checked_density(density: np.ndarray) -> np.ndarray:
    density = np.asarray(density, np.float64)
    if density.ndim != 2 or density.size == 0 or not np.isfinite(density).all():
        raise ValueError(f"a density map is finite, [y, x]; got shape {density.shape}")
    return density
