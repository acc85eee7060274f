"""Points and densities of the plane: orientation, scale and the count of what is off the map."""

import numpy as np
import pytest

from genlab.plots import points

LIMITS = (-1.0, 3.0, -2.0, 2.0)


def test_plane_gives_cell_middles_with_x_fastest():
    np.testing.assert_allclose(points.plane(LIMITS, 2), [(0, -1), (2, -1), (0, 1), (2, 1)])


def test_the_density_lies_where_it_is_large():
    cells = points.plane(LIMITS, 40)
    peak = np.array([2.0, 1.0])
    density = np.exp(-8 * ((cells - peak) ** 2).sum(-1)).reshape(40, 40)
    figure = points.points_and_density(peak[None], density, LIMITS, model_density=0.5 * density)
    true, samples, model = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["true density", "samples", "model density"]
    image = true.images[0]
    row, column = np.unravel_index(np.argmax(np.asarray(image.get_array())), (40, 40))
    left, right, bottom, top = image.get_extent()
    assert image.origin == "lower"
    assert left + (column + 0.5) * (right - left) / 40 == pytest.approx(2.0, abs=0.06)
    assert bottom + (row + 0.5) * (top - bottom) / 40 == pytest.approx(1.0, abs=0.06)
    # one colour scale for both densities
    assert model.images[0].get_clim() == image.get_clim() == (0, density.max())
    np.testing.assert_array_equal(samples.collections[0].get_offsets(), peak[None])
    assert {axes.get_xlim() for axes in figure.axes} == {(-1, 3)}
    assert {axes.get_ylim() for axes in figure.axes} == {(-2, 2)}


def test_points_off_the_map_are_counted():
    cloud = np.array([[0, 0], [4, 0], [0, -3], [3, 2], [-2, 5]])
    (axes,) = points.point_clouds({"model": cloud}, LIMITS).axes
    assert axes.get_title(loc="right") == "3 of 5 outside"
    (axes,) = points.point_clouds({"model": cloud[:1]}, LIMITS).axes
    assert axes.get_title(loc="right") == ""


@pytest.mark.parametrize(
    ("cloud", "density", "limits", "message"),
    [
        (np.zeros((3, 3)), np.ones((4, 4)), LIMITS, r"points \[N, 2\]"),
        (np.zeros((0, 2)), np.ones((4, 4)), LIMITS, "N >= 1"),
        (np.full((1, 2), np.nan), np.ones((4, 4)), LIMITS, "finite points"),
        (np.zeros((3, 2)), np.ones(16), LIMITS, "density map"),
        (np.zeros((3, 2)), np.full((4, 4), np.inf), LIMITS, "density map"),
        (np.zeros((3, 2)), np.ones((4, 4)), (1.0, -1.0, 0.0, 1.0), "left < right"),
    ],
)
def test_points_and_density_refuse_what_has_no_place(cloud, density, limits, message):
    with pytest.raises(ValueError, match=message):
        points.points_and_density(cloud, density, limits)


def test_point_clouds_need_one():
    with pytest.raises(ValueError, match="at least one"):
        points.point_clouds({}, LIMITS)
