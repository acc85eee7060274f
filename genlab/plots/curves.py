"""Metrics against training steps."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from genlab.plots import style

COLOURS = {"train": style.BLUE, "validation": style.ORANGE, "test": style.INK}
ROUND = [1, 2, 2.5, 5, 10]  # what ticks are multiples of
LOG_RATIO = 100.0  # positive values that span more than this are drawn on a log scale


@style.styled
def curves(records: Iterable[Mapping[str, Any]], metrics: Sequence[str] | None = None) -> Figure:
    """One panel a metric; training, validation and test in the same panel.

    Where a value is a list, one number a member of a population, the line is their mean and the band the mean
    plus and minus their standard deviation (ddof = 1). Values that are not finite leave a gap, and the panel's
    title names the first step that has one. Of two records of one step and split, as a resumed run may leave,
    the later counts. The scale is logarithmic where all values are positive and span a factor of 100.

    Args:
        records: the lines of metrics.jsonl: `step`, `split`, then metric -> number, list of numbers or null.
        metrics: the panels; by default every metric, in the order of appearance.

    Raises:
        ValueError: no records, a record without step or split, or a metric that none has.
    """
    series = _series(records)
    metrics = list(series) if metrics is None else list(metrics)
    if unknown := [name for name in metrics if name not in series]:
        raise ValueError(f"no record has the metric {unknown[0]!r}; known: {', '.join(series) or 'none'}")
    if not metrics:
        raise ValueError("no metrics to draw: the records are empty")
    steps = [step for name in metrics for by_step in series[name].values() for step in by_step]
    first, last = min(steps), max(max(steps), min(steps) + 1)
    first = 0 if 10 * first < last else first  # a log that begins with the run is drawn from its start
    columns = min(3, len(metrics))
    rows = math.ceil(len(metrics) / columns)
    figure = Figure(figsize=(style.WIDTH * max(columns, 1.6) / 3, 1.75 * rows + 0.25), layout="constrained")
    for position, name in enumerate(metrics):
        axes = figure.add_subplot(rows, columns, position + 1)
        _panel(axes, name, series[name])
        axes.set_xlim(first - 0.02 * (last - first), last + 0.02 * (last - first))
        if position + columns >= len(metrics):
            axes.set_xlabel("step")
    splits = [s for s in COLOURS if any(s in series[name] for name in metrics)]
    splits += sorted({s for name in metrics for s in series[name]} - set(COLOURS))
    handles = [Line2D([], [], color=_colour(split), lw=1.6) for split in splits]
    figure.legend(handles, splits, loc="outside upper right", ncols=len(splits), handlelength=1.2)
    return figure


def _series(records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, dict[int, np.ndarray]]]:
    """metric -> split -> step -> f64[] or f64[M]."""
    series: dict[str, dict[str, dict[int, np.ndarray]]] = {}
    for record in records:
        if "step" not in record or "split" not in record:
            raise ValueError(f"a record of metrics has a step and a split; got the fields {', '.join(record)}")
        for name, value in record.items():
            if name in ("step", "split") or isinstance(value, str | bool):
                continue
            number = np.asarray(value, np.float64)  # null becomes NaN
            series.setdefault(name, {}).setdefault(record["split"], {})[int(record["step"])] = number
    return series


def _panel(axes: Axes, name: str, splits: Mapping[str, Mapping[int, np.ndarray]]) -> None:
    drawn, broken = [], []
    for split, by_step in splits.items():
        steps = np.array(sorted(by_step))
        values = np.stack([np.atleast_1d(by_step[step]) for step in steps])  # [T, M]
        values[~np.isfinite(values)] = np.nan
        broken += steps[np.isnan(values).any(axis=1)].tolist()
        num = np.isfinite(values).sum(axis=1)  # a member that failed is left out, the others go on
        mean = np.where(num > 0, np.nansum(values, axis=1) / np.maximum(num, 1), np.nan)
        marker = "o" if len(steps) <= 12 else None
        axes.plot(steps, mean, color=_colour(split), marker=marker, ms=2.5, label=split, lw=1.1)
        drawn.append(mean)
        if values.shape[1] > 1:
            spread = np.nansum(np.square(values - mean[:, None]), axis=1) / np.maximum(num - 1, 1)
            sd = np.sqrt(spread)
            axes.fill_between(steps, mean - sd, mean + sd, color=_colour(split), alpha=0.18, lw=0)
            drawn += [mean - sd, mean + sd]
    finite = np.concatenate(drawn)
    finite = finite[np.isfinite(finite)]
    if finite.size and finite.min() > 0 and finite.max() > LOG_RATIO * finite.min():
        axes.set_yscale("log")
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=ROUND))
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=ROUND, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(axis="y")
    axes.set_title(name.replace("_", " "))
    if broken:
        axes.set_title(f"not finite at step {min(broken):,}", loc="right", color=style.RED, fontsize=7)


def _colour(split: str) -> str:
    return COLOURS.get(split, style.MUTED)
