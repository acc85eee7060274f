"""Activations of a code, against counts by hand."""

import numpy as np
import pytest

from genlab.plots import codes


def counts(axes):
    """(middle, height) of the bars that are not empty."""
    return [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in axes.patches if bar.get_height()]


def test_activations_are_counted_by_unit_and_one_by_one():
    z = np.array([[0.0, 1.0, 4.0], [0.0, 0.0, 4.0], [0.0, 0.0, 4.0], [0.0, 3.0, 4.0]])
    left, right = codes.activation_histograms(z).axes
    for axes, expected in ((left, [(0, 1), (1, 1), (4, 1)]), (right, [(0, 6), (1, 1), (3, 1), (4, 4)])):
        np.testing.assert_allclose(counts(axes), expected, atol=0.06)
    assert left.get_title(loc="left") == "1 of 3 units are never active"
    assert right.get_title(loc="left") == "50% are zero"
    assert right.get_yscale() == "log" and not left.lines


@pytest.mark.parametrize("target", [0.1, 0.9])
def test_the_target_is_a_line_within_the_panel(target):
    left, _ = codes.activation_histograms(np.full((5, 4), 0.3), target).axes
    (line,) = left.lines
    assert set(line.get_xdata()) == {target} and left.get_xlim()[0] < target < left.get_xlim()[1]
    assert left.get_title(loc="right") == f"target {target:g}"


def test_a_dead_code_can_be_drawn():
    left, right = codes.activation_histograms(np.zeros((5, 4))).axes
    assert left.get_title(loc="left").startswith("4 of 4")
    assert sum(height for _, height in counts(right)) == 20
    assert codes.code_histograms(np.zeros((5, 2)), prior=False).axes


@pytest.mark.parametrize("bad", [np.zeros(3), np.zeros((0, 2)), np.array([[-0.1]]), np.array([[np.nan]])])
def test_activations_are_not_negative(bad):
    with pytest.raises(ValueError, match=">= 0"):
        codes.activation_histograms(bad)


def test_codes_that_are_not_negative_are_drawn_from_zero_where_no_prior_is():
    z = np.abs(np.random.default_rng(0).normal(size=(50, 1)))
    assert [codes.code_histograms(z, prior=prior).axes[0].get_xlim()[0] for prior in (False, True)] == [0.0, -3.0]
    assert codes.code_histograms(-z, prior=False).axes[0].get_xlim()[0] < -1.0


def test_usage_of_codes_is_sorted_and_says_how_many_there_are():
    (axes,) = codes.code_usage(np.array([1.0, 0.0, 6.0, 3.0])).axes
    np.testing.assert_allclose(counts(axes), [(0, 0.6), (1, 0.3), (2, 0.1)])
    assert axes.get_title() == "3 of 4 codes are used" or axes.get_title(loc="left") == "3 of 4 codes are used"
    np.testing.assert_allclose(axes.lines[0].get_ydata(), 0.25)


@pytest.mark.parametrize("bad", [np.zeros(3), np.ones((2, 2)), np.array([1.0, -1.0])])
def test_what_are_no_counts_is_refused(bad):
    with pytest.raises(ValueError, match="vector \\[K\\] of counts"):
        codes.code_usage(bad)
