"""What the figures of the benchmark say, read back from what they drew."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.text import Text

from genlab.plots.benchmark import growth, speeds


def test_speeds_are_drawn_from_one_to_their_median():
    figure = speeds(["quick", "slow"], [[1.4, 1.5, 2.0], [0.5, 0.8, 0.7]], [1.3, None])
    (axes,) = figure.axes
    ends = [bar.get_path().get_extents(bar.get_patch_transform()).intervalx for bar in axes.patches]
    np.testing.assert_allclose(ends, [(1.0, 1.5), (0.7, 1.0)])
    assert [np.asarray(line.get_xdata()).tolist() for line in axes.lines[:3]] == [[1.4, 2.0], [1.3, 1.3], [0.5, 0.8]]


def test_speeds_that_are_none_are_refused():
    with pytest.raises(ValueError, match="positive and finite"):
        speeds(["a"], [[0.0]], [None])
    with pytest.raises(ValueError, match="as many"):
        speeds(["a"], [[1.0], [1.0]], [None])


def test_growth_is_drawn_on_log_scales_beside_what_is_proportional():
    panels = [
        ("width", "dense", [100, 200, 400], [[1.0, 1.0], [1.5, 1.9], [3.0, 3.4]], 1),
        ("devices", "dense", [1, 4], [[1.0], [0.5]], -1),
    ]
    figure = growth(panels)
    widths, devices = figure.axes
    assert (widths.get_xscale(), widths.get_yscale()) == ("log", "log")
    line, medians = widths.lines
    np.testing.assert_allclose(np.asarray(line.get_ydata()), [1, 2, 4])
    np.testing.assert_allclose(np.asarray(medians.get_ydata()), [1.0, 1.7, 3.2])
    np.testing.assert_allclose(np.asarray(devices.lines[0].get_ydata()), [1, 0.25])
    (spans,) = widths.collections
    assert isinstance(spans, LineCollection)
    ranges = [np.asarray(segment)[:, 1].tolist() for segment in spans.get_segments()]
    assert ranges == [[1.0, 1.0], [1.5, 1.9], [3.0, 3.4]]
    assert [label.get_text() for label in widths.get_xticklabels()] == ["100", "200", "400"]
    figure.canvas.draw()


def test_a_title_is_no_wider_than_its_panel():
    title = "loop: convolutional VAE, batch 1,024 each, width 1024"
    figure = growth([("members", title, [1, 2], [[1.0], [2.0]], 1)] * 3)
    figure.canvas.draw()
    for axes in figure.axes:
        (shown,) = [text for text in axes.findobj(Text) if " ".join(text.get_text().split()) == title]
        assert shown.get_window_extent().width <= axes.get_window_extent().width


@pytest.mark.parametrize(
    ("panels", "complaint"),
    [
        ([], "no sweep"),
        ([("width", "", [1, 2], [[1.0]], 1)], "as many costs"),
        ([("width", "", [1, 2], [[1.0], []], 1)], "positive and finite"),
        ([("width", "", [1, 2], [[1.0], [0.0]], 1)], "positive and finite"),
        ([("width", "", [0, 2], [[1.0], [1.0]], 1)], "positive and finite"),
    ],
)
def test_growth_of_nothing_is_refused(panels, complaint):
    with pytest.raises(ValueError, match=complaint):
        growth(panels)
