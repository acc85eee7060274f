"""Rows of images: which image stands where, and what is written beside it."""

import numpy as np
import pytest

from genlab.plots import walks


def numbered(*shape):
    """Images [..., 2, 2, 1] of one grey each, 5, 10, 15, ... in reading order."""
    grey = 5 * (1 + np.arange(np.prod(shape))).reshape(shape)
    return np.broadcast_to(grey[..., None, None, None], (*shape, 2, 2, 1)).astype(np.uint8)


def cells(figure, rows, columns, gap=1, tops=None):
    """The upper left pixel of each cell."""
    mosaic = np.asarray(figure.axes[0].images[0].get_array())[..., 0]
    tops = np.arange(rows) * (2 + gap) if tops is None else np.asarray(tops)
    return mosaic[tops[:, None], np.arange(columns) * (2 + gap)]


def texts(labels):
    return [label.get_text() for label in labels]


def test_a_row_is_a_dimension_and_the_ends_are_named():
    figure = walks.traversals(numbered(2, 3), [7, 0], ("low", "high"))
    np.testing.assert_array_equal(cells(figure, 2, 3), [[5, 10, 15], [20, 25, 30]])
    (axes,) = figure.axes
    assert texts(axes.get_yticklabels()) == ["$z_{7}$", "$z_{0}$"] and texts(axes.get_xticklabels()) == ["low", "high"]
    np.testing.assert_allclose(axes.get_yticks(), [0.5, 3.5])
    np.testing.assert_allclose(axes.get_xticks(), [0.5, 6.5])


def test_an_example_stands_apart_from_what_became_of_it():
    figure = walks.attributes(numbered(2) + 100, numbered(2, 3), ["a", "b"], ["a", "b", "c"])
    np.testing.assert_array_equal(cells(figure, 2, 5), [[105, 255, 5, 10, 15], [110, 255, 20, 25, 30]])
    (axes,) = figure.axes
    assert texts(axes.get_yticklabels()) == ["a", "b"]
    assert texts(axes.get_xticklabels()) == ["example", "", "to a", "to b", "to c"]


def test_every_way_has_its_blend_beneath():
    figure = walks.blends(numbered(2, 3), numbered(2, 3) + 100, "spherical")
    (axes,) = figure.axes
    tops = np.ceil(axes.get_yticks() - 0.5).astype(int)
    found = cells(figure, 4, 3, tops=tops)
    np.testing.assert_array_equal(found, [[5, 10, 15], [105, 110, 115], [20, 25, 30], [120, 125, 130]])
    assert texts(axes.get_yticklabels()) == ["spherical", "pixels"] * 2


def test_the_plane_is_marked_in_standard_deviations():
    figure = walks.principal_manifold(numbered(5, 5), reach=2.0)
    np.testing.assert_array_equal(cells(figure, 5, 5, gap=0), 5 * (1 + np.arange(25)).reshape(5, 5))
    (axes,) = figure.axes
    where = {label.get_text(): tick for label, tick in zip(axes.get_xticklabels(), axes.get_xticks(), strict=True)}
    assert where["−2.0"] == 0.5 and where["2.0"] == 8.5
    above = {label.get_text(): tick for label, tick in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)}
    assert above["2.0"] == 0.5 and above["−2.0"] == 8.5  # upwards
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("$c_1$", "$c_2$")


@pytest.mark.parametrize(
    ("draw", "complaint"),
    [
        (lambda: walks.traversals(numbered(2, 3), [1], ("", "")), "1 rows of images"),
        (lambda: walks.traversals(numbered(2), [1, 2], ("", "")), "2 rows of images"),
        (lambda: walks.attributes(numbered(2), numbered(2, 3), ["a", "b"], ["a"]), "2 examples and 1 targets"),
        (lambda: walks.attributes(numbered(3), numbered(2, 3), ["a", "b"], ["a", "b", "c"]), "do not agree"),
        (lambda: walks.blends(numbered(2, 3), numbered(2, 4), ""), "one shape"),
        (lambda: walks.principal_manifold(numbered(2, 3), 2.0), "2 rows of 3"),
    ],
)
def test_what_does_not_agree_is_refused(draw, complaint):
    with pytest.raises(ValueError, match=complaint):
        draw()
