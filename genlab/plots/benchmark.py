"""Speeds of programs against their peers."""

import statistics
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

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
