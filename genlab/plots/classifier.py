"""What a classifier knows of its answers: accuracy by coverage, reliability, log p(x), and the images behind them."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from genlab.plots import style
from genlab.plots.images import mosaic_figure, to_uint8

COLOURS = (style.BLUE, style.ORANGE, style.RED, style.MUTED)
NUM_BARS = 40


@style.styled
def accuracy_coverage(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], at: float) -> Figure:
    """Accuracy of the answers that are given, over the share that is.

    Args:
        curves: name -> coverage f[N] ascending, accuracy f[N].
        at: the coverage that is asked for, marked by a line.

    Raises:
        ValueError: no curves, or ones that are not pairs of equal length.
    """
    if not curves or any(np.shape(x) != np.shape(y) or np.size(x) == 0 for x, y in curves.values()):
        raise ValueError("curves need a coverage for every accuracy, and at least one curve")
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")
    axes = figure.add_subplot()
    for (name, (coverage, accuracy)), colour in zip(curves.items(), COLOURS * len(curves), strict=False):
        axes.plot(coverage, accuracy, color=colour, label=name)
    axes.axvline(at, color=style.INK, lw=0.7, ls=":")
    # the first few answers make a curve that jumps between 0 and 1
    lowest = min(np.min(np.asarray(y)[np.asarray(x) >= 0.1], initial=1.0) for x, y in curves.values())
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(lowest - 0.08 * max(1.0 - lowest, 0.01), 1.0 + 0.04 * max(1.0 - lowest, 0.01))
    axes.grid()
    axes.set_xlabel("share of test images answered, the surest first")
    axes.set_ylabel("accuracy of the answers")
    figure.legend(loc="outside upper right", ncols=2, handlelength=1.2)
    return figure


@style.styled
def reliability_diagram(panels: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Figure:
    """How often answers are right against how sure they were; on the diagonal where a posterior is calibrated.

    Args:
        panels: title -> mean confidence f[B], accuracy f[B] and number of answers i[B] of each bin, of which empty ones
            are not drawn; the area of a point grows with its number.

    Raises:
        ValueError: no panels, or one whose arrays differ in length.
    """
    if not panels or any(len({np.shape(each) for each in bins}) != 1 for bins in panels.values()):
        raise ValueError("a reliability diagram needs confidence, accuracy and count of every bin")
    width = min(style.WIDTH, 2.9 * len(panels))
    figure = Figure(figsize=(width, 0.45 + width / len(panels)), layout="constrained")
    first = None
    for position, (title, (confidence, accuracy, count)) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), position + 1, sharey=first)
        first = first or axes
        filled = np.asarray(count) > 0
        x, y, n = (np.asarray(each)[filled] for each in (confidence, accuracy, count))
        axes.plot([0, 1], [0, 1], color=style.MUTED, lw=0.8, ls=":")
        axes.plot(x, y, color=style.BLUE, lw=0.8)
        axes.scatter(x, y, s=8 + 100 * n / n.sum(), color=style.BLUE, lw=0, alpha=0.7, clip_on=False, zorder=3)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", title=title, xlabel="largest posterior")
        if position == 0:
            axes.set_ylabel("accuracy")
    return figure


@style.styled
def density_histograms(
    test: np.ndarray, foreign: Mapping[str, np.ndarray], limit: float, interval: tuple[float, float], columns: int = 4
) -> Figure:
    """log p(x) of test images, and in a panel each of foreign sets; what lies beyond is in the outermost bars.

    Either histogram is as high as the panel, whatever its size. The title of a panel says what share of its set lies
    below the limit, and what share outside the interval.

    Args:
        test: f[N], nats.
        foreign: name -> f[n].
        limit: of the one-sided rule: below it is rejected; a line.
        interval: of the two-sided rule: outside of it is rejected; two dotted lines.
        columns: panels side by side, at most.

    Raises:
        ValueError: no sets, an empty one, or values that are not finite.
    """
    test, sets = np.asarray(test, np.float64), {name: np.asarray(each, np.float64) for name, each in foreign.items()}
    if not sets or any(not (each.size and np.isfinite(each).all()) for each in [test, *sets.values()]):
        raise ValueError("histograms need at least one foreign set, and finite values, some of each")
    columns = min(columns, len(sets))
    rows = math.ceil(len(sets) / columns)
    figure = Figure(figsize=(style.WIDTH * columns / 4 + 0.5, 1.6 * rows + 0.5), layout="constrained")
    ends = [end for end in (limit, *interval) if math.isfinite(end)]  # few calibration examples make no interval
    shown = [*np.quantile(test, [0.002, 0.998]), *ends]
    low, high = min(shown), max(shown)
    margin = 0.5 * (high - low) or 1.0
    bins = np.linspace(low - margin, high + margin, NUM_BARS + 1)
    for position, (name, values) in enumerate(sets.items()):
        axes = figure.add_subplot(rows, columns, position + 1)
        for each, colour in ((values, style.ORANGE), (test, style.BLUE)):
            heights = np.histogram(np.clip(each, bins[0], bins[-1]), bins)[0]
            axes.stairs(heights / heights.max(), bins, fill=True, color=colour, alpha=0.65)
        for end in ends:
            axes.axvline(end, color=style.INK, lw=0.9, ls="-" if end == limit else ":")
        axes.set_title(name)
        below, outside = np.mean(values < limit), np.mean((values < interval[0]) | (values > interval[1]))
        axes.set_title(f"{below:.0%} | {outside:.0%}", loc="right", color=style.MUTED, fontsize=7)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlim(bins[0], bins[-1])
        axes.locator_params(axis="x", nbins=4)
        if position + columns >= len(sets):
            axes.set_xlabel("log p(x), nats")
    handles = [
        Patch(color=style.BLUE, alpha=0.65),
        Patch(color=style.ORANGE, alpha=0.65),
        Line2D([], [], color=style.INK, lw=0.9),
        Line2D([], [], color=style.INK, lw=0.9, ls=":"),
    ]
    names = ["test", "foreign", "limit; share below", "interval; share outside"]
    figure.legend(handles, names, loc="outside upper right", ncols=4, handlelength=1.2)
    return figure


@style.styled
def answers(
    images: np.ndarray,
    labels: np.ndarray,
    log_posterior: np.ndarray,
    rows: Mapping[str, Sequence[int] | np.ndarray],
    columns: int = 10,
) -> Figure:
    """Images with what was answered and how sure it was: "4 as 9 .98", wrong answers in red.

    Args:
        images: [N, H, W, C], float in [0, 1] or uint8.
        labels: i[N].
        log_posterior: f[N, C], log p(y | x).
        rows: label of a row -> indices, of which the first `columns` are shown.
        columns: images a row.

    Raises:
        ValueError: no rows, or arrays that do not belong together.
    """
    images = to_uint8(images)
    if images.ndim != 4 or not len(images) == len(labels) == len(log_posterior) or not rows:
        raise ValueError(
            "answers need an image [N, H, W, C], a label and a posterior each, and at least one row; "
            f"got shapes {images.shape}, {np.shape(labels)} and {np.shape(log_posterior)}"
        )
    height, width, channels = images.shape[1:]
    above, beside = math.ceil(0.28 * height), math.ceil(0.12 * width)  # white, where the answers are written
    mosaic = np.full((len(rows) * (height + above), columns * (width + beside), channels), 255, np.uint8)
    captions = []
    for row, indices in enumerate(rows.values()):
        for column, index in enumerate(indices[:columns]):
            top, left = row * (height + above) + above, column * (width + beside)
            mosaic[top : top + height, left : left + width] = images[index]
            answer = int(np.argmax(log_posterior[index]))
            sure = f"{math.exp(log_posterior[index][answer]):.2f}".removeprefix("0")
            wrong = answer != labels[index]
            text = f"{labels[index]} as {answer}  {sure}" if wrong else f"{answer}  {sure}"
            captions.append((left + width / 2, top - 0.05 * height, text, style.RED if wrong else style.INK))
    middles = np.arange(len(rows)) * (height + above) + above + (height - 1) / 2
    figure = mosaic_figure(mosaic, height, row_labels=(middles, list(rows)))
    for x, y, text, colour in captions:
        figure.axes[0].text(x - 0.5, y - 0.5, text, ha="center", va="bottom", fontsize=6.0, color=colour)
    return figure
