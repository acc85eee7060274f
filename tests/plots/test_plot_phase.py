"""Where players go: paths, marks and legends; and which modes are red."""

from typing import Any

import numpy as np
import pytest
from matplotlib.collections import EllipseCollection, LineCollection

from genlab.plots import phase, style

TURN = np.linspace(0, 4 * np.pi, 200)
SPIRAL = np.exp(-0.1 * TURN)[:, None] * np.stack([np.cos(TURN), np.sin(TURN)], axis=1)
NAMES = ("theta", "psi")


def legend(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def segments(axes):
    return [np.asarray(one.get_segments()) for one in axes.collections if isinstance(one, LineCollection)]


def test_a_path_runs_from_its_start_to_its_end():
    figure = phase.phase_portrait({"one": SPIRAL, "other": -SPIRAL}, NAMES, equilibrium=(0.0, 0.1))
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == NAMES
    assert legend(figure) == ["one", "other", "start", "end", "equilibrium"]
    first, second = segments(axes)
    np.testing.assert_allclose(first[:, 0], SPIRAL[:-1])
    np.testing.assert_allclose(first[:, 1], SPIRAL[1:])
    np.testing.assert_allclose(second[:, 1], -SPIRAL[1:])
    marks = [(line.get_marker(), *np.ravel(line.get_data())) for line in axes.lines]
    expected = [("o", *SPIRAL[0]), ("o", *SPIRAL[-1]), ("o", *-SPIRAL[0]), ("o", *-SPIRAL[-1]), ("+", 0.0, 0.1)]
    assert marks == [(kind, pytest.approx(x), pytest.approx(y)) for kind, x, y in expected]
    # starts are hollow, ends are filled
    assert [line.get_markerfacecolor() for line in axes.lines[:4]] == ["white", style.BLUE, "white", style.ORANGE]
    assert axes.get_aspect() == 1.0


def test_paths_darken_and_arrows_point_forward():
    axes: Any = phase.phase_portrait({"one": SPIRAL}, NAMES).axes[0]
    (lines,) = axes.collections
    brightness = np.asarray(lines.get_colors())[:, :3].sum(axis=1)
    assert np.all(np.diff(brightness) < 0)
    assert len(axes.texts) == phase.ARROWS
    for arrow in axes.texts:
        head, tail = np.array(arrow.xy), np.array(arrow.xyann)
        # counter-clockwise
        assert head[1] * tail[0] - head[0] * tail[1] > 0


def test_everything_is_on_the_map_unless_limits_say_otherwise():
    (axes,) = phase.phase_portrait({"one": SPIRAL}, NAMES, equilibrium=(3.0, 0.0)).axes
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    assert left < SPIRAL[:, 0].min() and 3 < right < 3.5
    assert bottom < SPIRAL[:, 1].min() and SPIRAL[:, 1].max() < top
    figure = phase.phase_portrait({"in": 0.1 * SPIRAL, "out": SPIRAL}, NAMES, limits=(-0.5, 0.5, -0.5, 0.5))
    assert legend(figure)[:2] == ["in", "out\n(leaves the map)"]


def test_a_path_that_stays_and_one_that_moves_along_an_axis_can_be_drawn():
    (axes,) = phase.phase_portrait({"still": np.ones((3, 2))}, NAMES).axes
    assert not axes.texts and axes.get_xlim() == (0, 2)
    (axes,) = phase.phase_portrait({"point": np.ones((1, 2))}, NAMES).axes
    assert len(axes.lines) == 2
    line = np.stack([np.linspace(0, 100, 50), np.linspace(0, 1, 50)], axis=1)
    (axes,) = phase.phase_portrait({"line": line}, NAMES).axes
    assert axes.get_ylim()[1] - axes.get_ylim()[0] < 20


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ({}, "1 to 8 paths"),
        ({str(i): SPIRAL for i in range(9)}, "got 9"),
        ({"flat": SPIRAL[:, 0]}, r"\[T, 2\].*'flat'"),
        ({"none": SPIRAL[:0]}, "T >= 1"),
        ({"lost": np.full((2, 2), np.inf)}, "finite points"),
    ],
)
def test_what_is_no_path_is_refused(paths, message):
    with pytest.raises(ValueError, match=message):
        phase.phase_portrait(paths, NAMES)


def test_modes_without_samples_are_red():
    means = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    samples = {"all": means, "one": np.array([[2.0, 0.29], [0.0, 0.31], [-0.31, 2.0]])}
    figure = phase.mode_collapse(samples, means, 0.1, (-1.0, 3.0, -1.0, 3.0))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["all\n3 of 3", "one\n1 of 3"]
    for axes, red in zip(figure.axes, ([], [0, 2]), strict=True):
        circles: Any = next(one for one in axes.collections if isinstance(one, EllipseCollection))
        np.testing.assert_array_equal(circles.get_offsets(), means)
        np.testing.assert_allclose(circles.get_widths(), 0.6)  # six sigma across
        colours = np.asarray(circles.get_edgecolors())
        assert [i for i in range(3) if colours[i, 0] > 0.5] == red


@pytest.mark.parametrize(
    ("samples", "means", "message"),
    [
        ({}, np.zeros((2, 2)), "at least one"),
        ({"a": np.zeros((2, 2))}, np.zeros((2, 3)), r"means \[K, 2\]"),
        ({"a": np.zeros((2, 1))}, np.zeros((2, 2)), r"points \[N, 2\]"),
    ],
)
def test_what_has_no_place_among_modes_is_refused(samples, means, message):
    with pytest.raises(ValueError, match=message):
        phase.mode_collapse(samples, means, 0.1, (-1.0, 1.0, -1.0, 1.0))
