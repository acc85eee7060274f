"""The novelty figures show what they say: bins, shares, and the right images in the right rows."""

from typing import Any

import numpy as np
import pytest

from genlab.plots import files
from genlab.plots.novelty import Scores, novelty_examples, score_histograms

RNG = np.random.default_rng(0)
NORMAL, ANOMALOUS = RNG.normal(2.0, 0.5, size=400), RNG.normal(5.0, 1.0, size=600)


def test_a_panel_shows_both_densities_the_threshold_and_the_shares_above_it(tmp_path):
    figure = score_histograms({"digit 3": Scores(NORMAL, ANOMALOUS, 3.0)}, "squared error")
    axes: Any = figure.axes[0]
    assert len(figure.axes) == 1
    (line,) = axes.get_lines()
    assert list(line.get_xdata()) == [3.0, 3.0]
    heights = np.array([patch.get_height() for patch in axes.patches]).reshape(2, -1)
    widths = np.array([patch.get_width() for patch in axes.patches]).reshape(2, -1)
    np.testing.assert_allclose((heights * widths).sum(axis=1), 1.0)  # both are densities
    centres = np.array([patch.get_x() + patch.get_width() / 2 for patch in axes.patches]).reshape(2, -1)
    means = (heights * widths * centres).sum(axis=1)
    np.testing.assert_allclose(means, [5.0, 2.0], atol=0.1)  # anomalies behind, normals in front
    expected = f"{(ANOMALOUS > 3).mean():.0%} | {(NORMAL > 3).mean():.0%}"
    assert axes.get_title(loc="right") == expected
    assert axes.get_title(loc="left") == "digit 3" and axes.get_xlabel() == "squared error"
    files.save(figure, tmp_path / "scores.png")


def test_ten_detectors_make_ten_panels(tmp_path):
    panels = {str(digit): Scores(NORMAL + digit, ANOMALOUS + digit, 3.0 + digit) for digit in range(10)}
    figure = score_histograms(panels)
    assert len(figure.axes) == 10
    files.save(figure, tmp_path / "scores.png")


@pytest.mark.parametrize(
    ("panels", "complaint"),
    [
        ({}, "at least one panel"),
        ({"a": Scores(NORMAL, np.array([]), 1.0)}, "panel 'a': .* must be finite"),
        ({"a": Scores(NORMAL, np.array([np.nan]), 1.0)}, "must be finite"),
        ({"a": Scores(NORMAL, ANOMALOUS, np.inf)}, "must be finite"),
    ],
)
def test_scores_that_cannot_be_drawn_are_refused(panels, complaint):
    with pytest.raises(ValueError, match=complaint):
        score_histograms(panels)


def grey(levels):
    """One flat image a level, so that the figure tells which image lies where."""
    return np.broadcast_to(np.asarray(levels, np.uint8)[:, None, None, None], (len(levels), 6, 6, 1))


def test_examples_are_the_extremes_and_the_worst_errors():
    scores = np.array([5.0, 1.0, 9.0, 3.0, 7.0, 2.0, 8.0])
    is_anomaly = np.array([False, False, True, True, False, True, True])
    levels = np.arange(7) * 10 + 10
    figure = novelty_examples(grey(levels), scores, is_anomaly, threshold=4.0, columns=3)
    mosaic: Any = figure.axes[0].get_images()[0].get_array()
    height, width = mosaic.shape[:2]
    cell, gap = 6, (width - 3 * 6) // 2
    tops = np.arange(4) * (height - cell) // 3
    shown = [[int(mosaic[top + 3, column * (cell + gap) + 3, 0]) for column in range(3)] for top in tops]
    assert shown == [
        [20, 60, 40],  # scores 1, 2, 3
        [30, 70, 50],  # 9, 8, 7
        [50, 10, 255],  # normal and above 4: 7, 5; then white
        [60, 40, 255],  # anomalous and below: 2, 3
    ]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["least novel", "most novel", "false alarms", "misses"]


def test_examples_of_arrays_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="a score and a truth for every image"):
        novelty_examples(grey([1, 2, 3]), np.zeros(2), np.zeros(3), 0.0)
