"""Games between players: the way that they take together, and what a mixture's modes get of a generator."""

from collections.abc import Mapping

import numpy as np
from matplotlib.collections import EllipseCollection, LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from genlab.plots import style
from genlab.plots.points import Limits, panels, scatter

COLOURS = (style.BLUE, style.ORANGE, style.RED, "#4d8f6b", "#7b5ea7", "#4aa3b5", "#a6763c", style.MUTED)
DEVIATIONS = 3.0  # a sample nearer than this to a mode is of high quality
ARROWS = 3  # heads along every path, at equal shares of its length


@style.styled
def phase_portrait(
    paths: Mapping[str, np.ndarray],
    axis_names: tuple[str, str],
    equilibrium: tuple[float, float] | None = None,
    limits: Limits | None = None,
) -> Figure:
    """Trajectories of two numbers that two players move, one colour a method, from pale to dark as time passes.

    Args:
        paths: f[T, 2] by method, T >= 1; at most as many as there are COLOURS.
        axis_names: what the two numbers are.
        equilibrium: of the game, if it has one to show.
        limits: left, right, bottom, top; by default all that the paths and the equilibrium reach. A path that leaves
            them is said to in the legend.

    Raises:
        ValueError: no path or too many, another shape, or values that are not finite.
    """
    if not 1 <= len(paths) <= len(COLOURS):
        raise ValueError(f"a phase portrait shows 1 to {len(COLOURS)} paths; got {len(paths)}")
    walks = {name: np.asarray(path, np.float64) for name, path in paths.items()}
    for name, walk in walks.items():
        if walk.ndim != 2 or walk.shape[1] != 2 or len(walk) == 0 or not np.isfinite(walk).all():
            raise ValueError(f"a path is finite points [T, 2], T >= 1; that of {name!r} has shape {walk.shape}")
    shown = np.concatenate([*walks.values(), np.reshape(equilibrium or (), (-1, 2))])
    left, right, bottom, top = limits or _reach(shown)
    shape = (right - left) / (top - bottom)
    alike = 1 / 3 < shape < 3  # then a rotation should look like one
    legend = 0.8 + 0.065 * max(map(len, paths))  # inches
    figure = Figure(figsize=(min(4.3 * shape, 5.6) + legend if alike else 6.4, 4.3), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(left, right), ylim=(bottom, top), xlabel=axis_names[0], ylabel=axis_names[1])
    axes.set_aspect("equal" if alike else "auto", adjustable="box", anchor="NE")
    axes.grid(True)
    handles, names = [], []
    for (name, walk), colour in zip(walks.items(), COLOURS, strict=False):
        # blended with white, not transparent: the ends of transparent segments show where they overlap
        age = np.linspace(0.4, 1.0, max(len(walk) - 1, 1))[:, None]
        lines = LineCollection(
            list(np.stack([walk[:-1], walk[1:]], axis=1)),  # [T - 1, 2, 2]
            colors=list(1 - age + age * np.array(to_rgb(colour))),
            linewidths=1.1,
            capstyle="round",
            label=name,
        )
        axes.add_collection(lines, autolim=False)
        for tail, head in _arrows(walk, 0.02 * max(right - left, top - bottom)):
            look = {"arrowstyle": "-|>", "color": colour, "lw": 0, "mutation_scale": 9}
            axes.annotate("", head, tail, arrowprops=look, annotation_clip=True)
        axes.plot(*walk[0], ls="", marker="o", ms=5.5, mfc="white", mec=colour, mew=1.2, zorder=4)
        axes.plot(*walk[-1], ls="", marker="o", ms=6.0, mfc=colour, mec="white", mew=0.9, zorder=5)
        (x, y) = walk.T
        leaves = bool(((x < left) | (x > right) | (y < bottom) | (y > top)).any())
        handles.append(Line2D([], [], color=colour, lw=1.8))
        names.append(f"{name}\n(leaves the map)" if leaves else name)
    handles.append(Line2D([], [], ls="", marker="o", ms=5.5, mfc="white", mec=style.MUTED, mew=1.2))
    handles.append(Line2D([], [], ls="", marker="o", ms=6.0, mfc=style.MUTED, mew=0.0))
    names += ["start", "end"]
    if equilibrium is not None:
        axes.plot(*equilibrium, ls="", marker="+", ms=11.0, mec=style.INK, mew=1.3, zorder=6)
        handles.append(Line2D([], [], ls="", marker="+", ms=8.0, mec=style.INK, mew=1.3))
        names.append("equilibrium")
    axes.legend(handles, names, loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0.0, handlelength=1.4)
    return figure


@style.styled
def mode_collapse(samples: Mapping[str, np.ndarray], means: np.ndarray, sigma: float, limits: Limits) -> Figure:
    """Samples of several methods over the modes of an equal mixture: a circle of 3 sigma each, red where none falls.

    Args:
        samples: f[N, 2] by method, one panel each.
        means: f[K, 2].
        sigma: of every mode.
        limits: left, right, bottom, top of every panel.

    Raises:
        ValueError: no samples, another shape, or values that are not finite.
    """
    means = np.asarray(means, np.float64)
    if not samples:
        raise ValueError("a figure of mode collapse needs at least one set of samples")
    if means.ndim != 2 or means.shape[1] != 2 or not np.isfinite(means).all() or not sigma > 0:
        raise ValueError(f"modes are finite means [K, 2] and sigma > 0; got shape {means.shape} and sigma {sigma}")
    figure, axes_of = panels(list(samples), limits)
    diameter = np.full(len(means), 2 * DEVIATIONS * sigma)
    for name, axes in axes_of.items():
        scatter(axes, samples[name], limits)
        distance = np.linalg.norm(np.asarray(samples[name], np.float64)[:, None] - means, axis=-1)  # [N, K]
        reached = np.isin(np.arange(len(means)), distance.argmin(axis=1)[distance.min(axis=1) < DEVIATIONS * sigma])
        axes.add_collection(
            EllipseCollection(
                diameter, diameter, np.zeros(len(means)), units="xy", offsets=means, offset_transform=axes.transData,
                facecolors="none", linewidths=np.where(reached, 0.6, 1.0),
                edgecolors=[style.INK if one else style.RED for one in reached],
            ),
            autolim=False,
        )  # fmt: skip
        axes.set_title(f"{name}\n{reached.sum()} of {len(means)}")
    figure.supxlabel(f"circles: {DEVIATIONS:g} sigma around a mode, red where no sample lies within", fontsize="small")
    return figure


def _reach(points: np.ndarray, margin: float = 0.08) -> Limits:
    """Limits around points f[N, 2]."""
    (left, bottom), (right, top) = points.min(axis=0), points.max(axis=0)
    pad = margin * max(right - left, top - bottom) or 1.0
    return float(left - pad), float(right + pad), float(bottom - pad), float(top + pad)


def _arrows(walk: np.ndarray, reach: float) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Tail and head of an arrow of about this length at equal shares of a path's length; none on a path that stays."""
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(walk, axis=0), axis=1))])
    if length[-1] < 4 * reach:
        return []
    at = lambda travelled: (np.interp(travelled, length, walk[:, 0]), np.interp(travelled, length, walk[:, 1]))
    heads = length[-1] * (np.arange(ARROWS) + 0.5) / ARROWS
    return [(at(head - reach), at(head)) for head in heads]
