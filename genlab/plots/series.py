"""Time series, and what a model makes of them."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from genlab.plots import style

COLOURS = (style.PALE, style.BLUE, style.ORANGE, style.RED)  # the first is broad, for what the others are to follow


@style.styled
def series_rows(rows: Mapping[str, np.ndarray], columns: int = 5) -> Figure:
    """Sets of series that belong together, laid over each other: one panel an example, on the same axes.

    For reconstructions: {"original": x, "reconstruction": y}. Channels of an example share a colour.

    Args:
        rows: label -> f[N, T, C], one shape; at most as many as `COLOURS`.
        columns: panels side by side.

    Raises:
        ValueError: no sets or too many, sets that do not agree, or values that are not finite.
    """
    sets = {label: np.asarray(series, np.float64) for label, series in rows.items()}
    shapes = {series.shape for series in sets.values()}
    if not 1 <= len(sets) <= len(COLOURS):
        raise ValueError(f"a panel holds 1 to {len(COLOURS)} sets of series; got {len(sets)}")
    if len(shapes) != 1 or len(shape := next(iter(shapes))) != 3 or 0 in shape:
        raise ValueError(f"sets of series need one shape [N, T, C], not empty; got {sorted(shapes)}")
    if broken := [label for label, series in sets.items() if not np.isfinite(series).all()]:
        raise ValueError(f"series must be finite; those of {broken[0]!r} are not")
    num, length, _ = shape
    columns = min(columns, num)
    num_rows = math.ceil(num / columns)
    figure = Figure(
        figsize=(style.WIDTH * max(columns, 2) / max(columns, 5), 1.0 * num_rows + 0.45), layout="constrained"
    )
    together = np.stack(list(sets.values()))
    pad = 0.06 * max(float(np.ptp(together)), 1e-6)
    first = None
    for position in range(num):
        axes = figure.add_subplot(num_rows, columns, position + 1, sharex=first, sharey=first)
        first = first or axes
        axes.set(xlim=(0, max(length - 1, 1)), ylim=(together.min() - pad, together.max() + pad))
        for rank, series in enumerate(sets.values()):
            axes.plot(series[position], color=COLOURS[rank], lw=1.0 if rank else 3.0, solid_capstyle="round")
        axes.grid(axis="y")
        # numbers on the left and at the foot of each column only
        axes.tick_params(labelleft=position % columns == 0, labelbottom=position + columns >= num)
    handles = [
        Line2D([], [], color=colour, lw=1.6 if rank else 3.0) for rank, colour in enumerate(COLOURS[: len(sets)])
    ]
    figure.legend(handles, list(sets), loc="outside upper right", ncols=len(sets), handlelength=1.2)
    figure.supxlabel("time step", fontsize=8.0)
    return figure
