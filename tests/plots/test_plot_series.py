"""Overlaid series: the lines of a figure against the arrays they were made from."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from genlab.plots import series, style

X = np.random.default_rng(0).normal(size=(5, 7, 2))
ROWS = {"original": X, "reconstruction": X + 0.5}


def test_a_panel_overlays_one_example_of_every_set():
    figure = series.series_rows(ROWS, columns=3)
    assert len(figure.axes) == 5
    for number, axes in enumerate(figure.axes):
        # two channels of either set, the first set below
        assert len(axes.lines) == 4
        for line, (label, channel) in zip(axes.lines, [(s, c) for s in ROWS for c in (0, 1)], strict=True):
            np.testing.assert_array_equal(line.get_xdata(), np.arange(7))
            np.testing.assert_array_equal(line.get_ydata(), ROWS[label][number, :, channel])
        colours = [to_rgb(line.get_color()) for line in axes.lines]
        assert colours == [to_rgb(style.PALE)] * 2 + [to_rgb(style.BLUE)] * 2
        assert axes.lines[0].get_linewidth() > axes.lines[2].get_linewidth()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["original", "reconstruction"]
    assert [to_rgb(line.get_color()) for line in legend.get_lines()] == [to_rgb(style.PALE), to_rgb(style.BLUE)]


def test_panels_stand_in_reading_order_on_the_same_axes():
    figure = series.series_rows(ROWS, columns=3)
    figure.draw_without_rendering()
    left, bottom = (np.array([getattr(axes.get_position(), side) for axes in figure.axes]) for side in ("x0", "y0"))
    assert left[0] < left[1] < left[2] and left[3:] == pytest.approx(left[:2])
    assert bottom[0] > bottom[3] and bottom[1] > bottom[4]
    assert len({axes.get_xlim() for axes in figure.axes}) == len({axes.get_ylim() for axes in figure.axes}) == 1
    low, high = figure.axes[0].get_ylim()
    assert low < X.min() and high > X.max() + 0.5
    assert figure.axes[0].get_xlim() == (0, 6)
    # numbers at the left of a row and the foot of a column
    numbered = lambda axis: [
        any(t.label1.get_visible() for t in getattr(a, axis).get_major_ticks()) for a in figure.axes
    ]
    assert numbered("yaxis") == [True, False, False, True, False]
    assert numbered("xaxis") == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({}, "1 to 4 sets of series; got 0"),
        (dict.fromkeys("abcde", X), "got 5"),
        ({"a": X, "b": X[:4]}, r"one shape \[N, T, C\]"),
        ({"a": X[..., 0]}, r"one shape \[N, T, C\]"),
        ({"a": X[:0]}, "not empty"),
        ({"a": X, "b": np.full_like(X, np.nan)}, "finite; those of 'b'"),
    ],
)
def test_what_is_no_set_of_series_is_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        series.series_rows(rows)
