"""What a novelty score separates, and where it errs."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from genlab.plots import style
from genlab.plots.images import to_uint8
from genlab.plots.samples import image_rows


class Scores(NamedTuple):
    """The scores of one detector on a test set, higher for more novel.

    Attributes:
        normal, anomalous: f[n], f[m].
        threshold: above which an example is called novel.
    """

    normal: np.ndarray
    anomalous: np.ndarray
    threshold: float


@style.styled
def score_histograms(panels: Mapping[str, Scores], axis_name: str = "score", columns: int = 5) -> Figure:
    """The scores of normal examples and of anomalies, each as a density, with the threshold; one panel a detector.

    Panels share no axis: their scores have scales of their own. A panel shows all normal scores and the threshold, and
    its last bar is all that lies beyond the anomalies' 99th percentile; it says what share of either is called novel.

    Args:
        panels: title -> scores.
        axis_name: of the score.
        columns: panels side by side, at most.

    Raises:
        ValueError: no panels, an empty set of scores, or scores that are not finite.
    """
    if not panels:
        raise ValueError("histograms of scores need at least one panel")
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    width = style.WIDTH if columns > 2 else style.WIDTH * (0.6 if columns == 1 else 0.8)
    figure = Figure(figsize=(width, 1.5 * rows + 0.45 if columns > 2 else 2.4 * rows + 0.45), layout="constrained")
    for position, (title, (normal, anomalous, threshold)) in enumerate(panels.items()):
        normal, anomalous = (np.asarray(scores, np.float64) for scores in (normal, anomalous))
        if not (normal.size and anomalous.size and np.isfinite([*normal, *anomalous, threshold]).all()):
            raise ValueError(
                f"panel {title!r}: scores of normal examples and of anomalies must be finite, some of each"
            )
        axes = figure.add_subplot(rows, columns, position + 1)
        low = min(normal.min(), anomalous.min())
        high = max(np.quantile(anomalous, 0.99), threshold + 0.2 * abs(threshold), normal.max())
        bins = np.linspace(low, high if high > low else low + 1.0, 41)
        for scores, colour in ((anomalous, style.ORANGE), (normal, style.BLUE)):
            axes.hist(np.clip(scores, low, bins[-1]), bins=bins.tolist(), density=True, color=colour, alpha=0.65)
        axes.axvline(threshold, color=style.INK, lw=0.9)
        axes.set_title(title)
        found = f"{(anomalous > threshold).mean():.0%} | {(normal > threshold).mean():.0%}"
        axes.set_title(found, loc="right", color=style.MUTED, fontsize=7)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlim(bins[0], bins[-1])
        axes.locator_params(axis="x", nbins=4)
        if position + columns >= len(panels):
            axes.set_xlabel(axis_name)
    handles = [
        Patch(color=style.BLUE, alpha=0.65),
        Patch(color=style.ORANGE, alpha=0.65),
        Line2D([], [], color=style.INK, lw=0.9),
    ]
    names = ["normal", "anomalous", "threshold; anomalies | normals above it"]
    figure.legend(handles, names, loc="outside upper right", ncols=3, handlelength=1.2)
    return figure


def novelty_examples(
    images: np.ndarray, scores: np.ndarray, is_anomaly: np.ndarray, threshold: float, columns: int = 10
) -> Figure:
    """Test images that show what a detector does: the extremes of its score, and the worst of its errors.

    Four rows: the least and the most novel of all images, normal ones called novel (the highest scores first) and
    anomalies that pass for normal (the lowest first). A row with fewer than `columns` such images ends in white.

    Args:
        images: [N, H, W, C], float in [0, 1] or uint8.
        scores: f[N], higher for more novel.
        is_anomaly: bool[N].
        threshold: above which an image is called novel.
        columns: images a row.

    Raises:
        ValueError: arrays that do not belong together.
    """
    images, scores, is_anomaly = to_uint8(images), np.asarray(scores), np.asarray(is_anomaly, bool)
    if images.ndim != 4 or not len(images) == len(scores) == len(is_anomaly) or len(images) == 0:
        raise ValueError(
            f"examples of novelty need a score and a truth for every image [N, H, W, C]; got shapes {images.shape}, "
            f"{scores.shape} and {is_anomaly.shape}"
        )
    ascending = np.argsort(scores, kind="stable")
    novel = scores > threshold
    descending = ascending[::-1]
    rows = {
        "least novel": ascending,
        "most novel": descending,
        "false alarms": descending[(novel & ~is_anomaly)[descending]],
        "misses": ascending[(~novel & is_anomaly)[ascending]],
    }
    return image_rows({name: filled(images, order, columns) for name, order in rows.items()}, columns)


def filled(images: np.ndarray, order: Sequence[int] | np.ndarray, columns: int) -> np.ndarray:
    """The first `columns` images of an order, uint8[columns, H, W, C], white where it has fewer."""
    row = np.full((columns, *images.shape[1:]), 255, np.uint8)
    row[: len(order[:columns])] = images[order[:columns]]
    return row
