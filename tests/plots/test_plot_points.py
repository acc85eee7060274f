"""Points and densities, of the plane and of the line: orientation, scale and the count of what is off the map."""

from typing import Any

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


def normal(x):
    """log N(x; 1, 0.5^2) for f[K, 1]."""
    return -0.5 * ((x[:, 0] - 1) / 0.5) ** 2 - np.log(0.5 * np.sqrt(2 * np.pi))


def test_histograms_on_the_line_have_the_area_of_what_they_show():
    samples = np.array([[0.1], [0.1], [0.6], [5.0]])
    figure = points.line_densities({"data": samples, "model": samples[:1]}, normal, (-1.0, 3.0), num_bins=8)
    axes, model = figure.axes
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["data", "model"]
    bars: Any = axes.patches[0]
    values, edges, _ = bars.get_data()
    np.testing.assert_allclose(edges, np.arange(-1, 3.5, 0.5))
    # bins [0, 0.5) and [0.5, 1) hold two and one of four samples
    np.testing.assert_allclose(values, [0, 0, 1, 0.5, 0, 0, 0, 0])
    assert axes.get_title(loc="right") == "1 of 4 outside"
    (curve,) = axes.lines
    x, y = (np.asarray(column) for column in curve.get_data())
    assert x[np.argmax(y)] == pytest.approx(1.0, abs=0.01) and np.trapezoid(y, x) == pytest.approx(1.0, abs=1e-3)
    # a tall histogram is cut and says so: 2 / 0.798 is just over 2.5
    assert model.get_title(loc="right") == "up to 2.5 times the true peak"
    assert axes.get_ylim() == model.get_ylim() == (0, pytest.approx(2.5 * y.max()))


def test_the_line_may_have_no_density():
    (axes,) = points.line_densities({"model": np.array([[0.0], [1.0]])}, None, (-1.0, 3.0), num_bins=4).axes
    assert not axes.lines and axes.get_ylim() == (0, pytest.approx(1.05 * 0.5))


@pytest.mark.parametrize(
    ("samples", "log_density", "limits", "message"),
    [
        ({}, normal, (0.0, 1.0), "at least one"),
        ({"model": np.zeros((3, 2))}, normal, (0.0, 1.0), r"points \[N, 1\]"),
        ({"model": np.full((1, 1), np.nan)}, normal, (0.0, 1.0), "finite points"),
        ({"model": np.zeros((3, 1))}, normal, (1.0, 1.0), "left < right"),
        ({"model": np.zeros((3, 1))}, lambda x: x, (0.0, 1.0), "as many finite numbers"),
    ],
)
def test_line_densities_refuse_what_has_no_place(samples, log_density, limits, message):
    with pytest.raises(ValueError, match=message):
        points.line_densities(samples, log_density, limits)


def test_more_than_four_panels_take_two_rows():
    cloud = np.zeros((1, 2))
    figure = points.point_clouds({str(i): cloud for i in range(5)}, LIMITS)
    rows = {axes.get_subplotspec().rowspan.start for axes in figure.axes}
    assert len(figure.axes) == 5 and rows == {0, 1}
