"""Speeds of programs against their peers, and how their cost grows."""

import math
import statistics
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from genlab.plots import style


@style.styled
def speeds(names: Sequence[str], ratios: Sequence[Sequence[float]], bars: Sequence[float | None]) -> Figure:
    """A bar a program from 1, as fast as its peer, to its median speed; a line from the least to the most.

    Args:
        names: of the programs, top to bottom.
        ratios: of each program the peer's time divided by its own, one number a round, positive.
        bars: the ratio that each should have, drawn as a tick; None for none.

    Raises:
        ValueError: nothing to draw, lists of different lengths, or a ratio that is not positive and finite.
    """
    if not names or not len(names) == len(ratios) == len(bars):
        raise ValueError(f"speeds takes as many ratios and bars as names; got {len(names)}, {len(ratios)}, {len(bars)}")
    for name, values in zip(names, ratios, strict=True):
        if not len(values) or not np.all(np.isfinite(values)) or min(values) <= 0:
            raise ValueError(f"the ratios of {name!r} must be positive and finite; got {list(values)}")
    figure = Figure(figsize=(style.WIDTH * 0.8, 0.42 * len(names) + 0.7), layout="constrained")
    axes = figure.add_subplot()
    for y, (values, bar) in enumerate(zip(ratios, bars, strict=True)):
        median = statistics.median(values)
        met = bar is None or median >= bar
        axes.barh(y, median - 1.0, left=1.0, height=0.6, color=style.BLUE if met else style.ORANGE)
        axes.plot([min(values), max(values)], [y, y], color=style.INK, lw=1.0, solid_capstyle="butt")
        if bar is not None:
            axes.plot([bar, bar], [y - 0.4, y + 0.4], color=style.RED, lw=1.4)
        axes.annotate(
            f"{median:.2f}", (max(*values, bar or 0.0, 1.0), y), (5, 0), textcoords="offset points", va="center"
        )
    axes.axvline(1.0, color=style.MUTED, lw=0.8)
    axes.set_xlim(right=axes.get_xlim()[1] * 1.08)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}×"))
    axes.set_title("speed in multiples of the peer's; red: what it should be")
    return figure


@style.styled
def growth(panels: Sequence[tuple[str, str, Sequence[float], Sequence[Sequence[float]], int]]) -> Figure:
    """A panel a sweep: cost in multiples of the first value's, median and least to most, on log scales.

    Args:
        panels: of each (axis, title, values, costs, power): the positive values in their order, of each value its
            costs, one positive number a round, and the power of the values that the dashed line is proportional to.

    Raises:
        ValueError: nothing to draw, or values and costs that are not as described.
    """
    if not panels:
        raise ValueError("no sweep to draw")
    columns = min(3, len(panels))
    lines = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(style.WIDTH * max(columns, 1.4) / 3, 2.3 * lines), layout="constrained")
    for position, (axis, title, values, costs, power) in enumerate(panels):
        if not len(values) or len(values) != len(costs):
            raise ValueError(f"{axis}: as many costs as values, at least one; got {len(costs)} and {len(values)}")
        numbers = [*values, *(cost for each in costs for cost in each)]
        if not all(map(len, costs)) or not np.all(np.isfinite(numbers)) or min(numbers) <= 0:
            raise ValueError(f"{axis}: values and costs must be positive and finite")
        axes = figure.add_subplot(lines, columns, position + 1)
        proportional = [(value / values[0]) ** power for value in values]
        axes.plot(values, proportional, color=style.MUTED, lw=0.8, ls="--", label="proportional")
        axes.vlines(values, [min(each) for each in costs], [max(each) for each in costs], color=style.INK, lw=1.0)
        medians = [statistics.median(each) for each in costs]
        axes.plot(values, medians, color=style.BLUE, marker="o", ms=2.5, label="median, least to most")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(values, [f"{value:g}" for value in values], rotation=45 if len(values) > 5 else 0)
        axes.xaxis.set_minor_locator(NullLocator())
        drawn = [*proportional, *(cost for each in costs for cost in each)]
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(drawn) < 100 * min(drawn) else (1,), numticks=12))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}×"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.grid(axis="y")
        axes.set_xlabel(axis)
        axes.set_title(textwrap.fill(title, 34), fontsize=7.5)  # as wide as a panel
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2)
    figure.supylabel("cost of a step, in multiples of the first", fontsize=8)
    return figure
