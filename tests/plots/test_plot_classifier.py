"""The classifier's figures show what they say: curves, bins, shares and the right images under the right words."""

from typing import Any

import numpy as np
import pytest

from genlab.plots import files
from genlab.plots.classifier import accuracy_coverage, answers, density_histograms, reliability_diagram
from genlab.plots.style import INK, RED

RNG = np.random.default_rng(0)


def histograms(axes: Any):
    """Heights of foreign images and of the test, f[2, bars], and the edges of the bars."""
    foreign, test = (patch.get_data() for patch in axes.patches)
    return np.stack([foreign.values, test.values]), foreign.edges


def test_curves_are_drawn_as_they_are_with_the_coverage_that_is_asked_for(tmp_path):
    coverage, accuracy = np.linspace(0.01, 1.0, 100), np.linspace(1.0, 0.8, 100)
    figure = accuracy_coverage({"a": (coverage, accuracy), "b": (coverage, accuracy - 0.1)}, at=0.95)
    axes: Any = figure.axes[0]
    first, second, mark = axes.get_lines()
    np.testing.assert_array_equal(first.get_xdata(), coverage)
    np.testing.assert_array_equal(first.get_ydata(), accuracy)
    np.testing.assert_array_equal(second.get_ydata(), accuracy - 0.1)
    assert list(mark.get_xdata()) == [0.95, 0.95]
    low, high = axes.get_ylim()
    assert 0.6 < low < 0.7 < 1.0 < high < 1.1
    files.save(figure, tmp_path / "coverage.png")


def test_a_reliability_diagram_leaves_out_empty_bins(tmp_path):
    bins = (np.array([0.2, np.nan, 0.9]), np.array([0.1, np.nan, 0.7]), np.array([10, 0, 30]))
    figure = reliability_diagram({"plain": bins, "tempered": bins})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["plain", "tempered"]
    axes: Any = figure.axes[0]
    diagonal, line = axes.get_lines()
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    np.testing.assert_array_equal(line.get_xdata(), [0.2, 0.9])
    np.testing.assert_array_equal(line.get_ydata(), [0.1, 0.7])
    (points,) = axes.collections
    small, large = points.get_sizes()
    assert large > 2 * small
    files.save(figure, tmp_path / "reliability.png")


def test_histograms_show_both_sets_and_the_shares_that_are_rejected(tmp_path):
    test = RNG.normal(-100.0, 10.0, size=500)
    foreign = {"noise": np.full(30, -2_000.0), "blank": np.array([-20.0]), "near": RNG.normal(-115.0, 10.0, size=200)}
    figure = density_histograms(test, foreign, limit=-116.0, interval=(-119.0, -80.0))
    shares = [axes.get_title(loc="right") for axes in figure.axes]
    near = foreign["near"]
    outside = (near < -119.0) | (near > -80.0)
    assert shares == ["100% | 100%", "0% | 100%", f"{(near < -116.0).mean():.0%} | {outside.mean():.0%}"]
    lines = [line.get_xdata()[0] for line in figure.axes[0].get_lines()]
    assert lines == [-116.0, -119.0, -80.0]
    heights, edges = histograms(figure.axes[2])
    means = heights @ (edges[:-1] + edges[1:]) / 2 / heights.sum(axis=1)
    np.testing.assert_allclose(means, [-115.0, -100.0], atol=2.0)  # foreign behind, test in front
    heights, _ = histograms(figure.axes[0])
    assert heights[0, 0] == 1.0 and heights[0, 1:].sum() == 0.0  # noise is far to the left
    files.save(figure, tmp_path / "density.png")


def test_without_an_interval_there_is_one_line():
    figure = density_histograms(RNG.normal(size=50), {"a": np.zeros(3)}, -1.0, (-np.inf, np.inf))
    axes: Any = figure.axes[0]
    assert len(axes.get_lines()) == 1 and axes.get_title(loc="right") == "0% | 0%"


def test_an_answer_is_written_over_its_image(tmp_path):
    levels = np.array([10, 20, 30], np.uint8)
    images = np.broadcast_to(levels[:, None, None, None], (3, 4, 4, 1))
    log_posterior = np.log([[0.9, 0.1], [0.3, 0.7], [0.001, 0.999]])
    figure = answers(images, np.array([0, 0, 1]), log_posterior, {"first": [2, 1], "second": [0]}, columns=2)
    axes: Any = figure.axes[0]
    mosaic = axes.get_images()[0].get_array()
    shown = []
    for text in axes.texts:
        x, y = text.get_position()
        shown.append((int(mosaic[round(y) + 3, round(x), 0]), text.get_text(), text.get_color()))
    assert shown == [(30, "1  1.00", INK), (20, "0 as 1  .70", RED), (10, "0  .90", INK)]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "second"]
    assert (mosaic[-1, -3:] == 255).all()  # the second row ends in white
    files.save(figure, tmp_path / "answers.png")


@pytest.mark.parametrize(
    ("draw", "complaint"),
    [
        (lambda: accuracy_coverage({}, 0.9), "at least one curve"),
        (lambda: accuracy_coverage({"a": (np.zeros(2), np.zeros(3))}, 0.9), "a coverage for every accuracy"),
        (lambda: reliability_diagram({"a": (np.zeros(2), np.zeros(3), np.zeros(2))}), "of every bin"),
        (lambda: density_histograms(np.zeros(2), {}, 0.0, (0.0, 0.0)), "at least one foreign set"),
        (lambda: density_histograms(np.array([np.nan]), {"a": np.zeros(1)}, 0.0, (0.0, 0.0)), "finite"),
        (lambda: answers(np.zeros((2, 4, 4, 1)), np.zeros(3), np.zeros((2, 2)), {"a": [0]}), "a label and a posterior"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, complaint):
    with pytest.raises(ValueError, match=complaint):
        draw()
