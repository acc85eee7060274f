"""Points and densities, of the plane and of the line: orientation, scale and the count of what is off the map."""

from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from genlab.plots import points, style

LIMITS = (-1.0, 3.0, -2.0, 2.0)


def test_plane_gives_cell_middles_with_x_fastest():
    np.testing.assert_allclose(points.plane(LIMITS, 2), [(0, -1), (2, -1), (0, 1), (2, 1)])


def bump(x, y, sigma, n=40):
    """A Gaussian's density on the cells of the map."""
    squares = ((points.plane(LIMITS, n).astype(np.float64) - [x, y]) ** 2).sum(-1)
    return (np.exp(-squares / (2 * sigma**2)) / (2 * np.pi * sigma**2)).reshape(n, n)


def brightest_place(axes):
    """Where in the panel its image is brightest, read from what is drawn."""
    (image,) = axes.images
    assert image.origin == "lower"
    drawn = np.asarray(image.get_array())
    row, column = np.unravel_index(np.argmax(drawn), drawn.shape)
    left, right, bottom, top = image.get_extent()
    num_rows, num_columns = drawn.shape
    return left + (column + 0.5) * (right - left) / num_columns, bottom + (row + 0.5) * (top - bottom) / num_rows


def test_the_density_lies_where_it_is_large():
    density = bump(2.0, 1.0, 0.25)
    figure = points.points_and_density(np.array([[2.0, 1.0]]), density, LIMITS)
    true, samples = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["true density", "samples"]
    assert brightest_place(true) == pytest.approx((2.0, 1.0), abs=0.06)
    assert true.images[0].get_clim() == (0, density.max())
    np.testing.assert_array_equal(samples.collections[0].get_offsets(), [[2.0, 1.0]])
    assert {axes.get_xlim() for axes in figure.axes} == {(-1, 3)}
    assert {axes.get_ylim() for axes in figure.axes} == {(-2, 2)}


def test_density_maps_share_axes_and_a_colour_scale_that_ends_at_the_truth():
    truth, model, cloud = bump(2.0, 1.0, 0.25), bump(0.0, -0.5, 0.1), np.array([[0.0, -0.5], [5.0, 0.0]])
    figure = points.density_maps(model, LIMITS, truth, cloud)
    true, modelled, sampled = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["true density", "model density", "model samples"]
    assert brightest_place(true) == pytest.approx((2.0, 1.0), abs=0.06)
    assert brightest_place(modelled) == brightest_place(sampled) == pytest.approx((0.0, -0.5), abs=0.06)
    np.testing.assert_array_equal(modelled.images[0].get_array(), model)
    np.testing.assert_array_equal(sampled.collections[0].get_offsets(), cloud)
    for axes in figure.axes:
        assert (axes.get_xlim(), axes.get_ylim()) == ((-1, 3), (-2, 2)) and axes.get_aspect() == 1
        # the square root of the share of the highest true density
        np.testing.assert_allclose(axes.images[0].norm(truth.max() * np.array([0, 0.01, 0.25, 1])), [0, 0.1, 0.5, 1])
    assert sampled.get_title(loc="right") == "1 of 2 outside"


@pytest.mark.parametrize(
    ("model", "mass"),
    [
        (bump(1.0, 0.5, 0.2), "1.000"),
        (0.25 * bump(1.0, 0.5, 0.2), "0.250"),
        (bump(3.0, 0.0, 0.2), "0.500"),  # half of it lies to the right of the map
        (bump(3.0, 2.0, 0.2, n=80), "0.250"),
        (np.full((10, 10), 0.05), "0.800"),  # the map's area is 16
    ],
)
def test_the_mass_of_a_density_is_in_its_title(model, mass):
    (axes,) = points.density_maps(model, LIMITS).axes
    assert axes.get_title(loc="right") == f"integrates to {mass}"


def test_mass_counts_both_sides_of_a_cell():
    (axes,) = points.density_maps(np.full((10, 10), 0.05), (0.0, 4.0, 0.0, 1.0)).axes
    assert axes.get_title(loc="right") == "integrates to 0.200"


def test_without_a_truth_the_scale_ends_near_the_peak_but_not_at_a_spike():
    model = bump(1.0, 0.0, 0.4, n=400)
    top = lambda density: points.density_maps(density, LIMITS).axes[0].images[0].norm.vmax
    # p(x) / p(0) of a Gaussian in the plane is uniform under x ~ p
    assert top(model) == pytest.approx(0.95 / (2 * np.pi * 0.4**2), rel=0.01)
    spike = np.zeros_like(model)
    spike[3, 4] = 0.04 / (4 * 4 / 400**2)  # 4 % of the mass in one cell, 400 times as high as the peak
    # 5 % of the 1.04 are 0.052: the spike, and 0.012 of the Gaussian
    assert top(model + spike) == pytest.approx(0.988 / (2 * np.pi * 0.4**2), rel=0.01)
    assert top(np.zeros((4, 4))) > 0


def test_a_density_that_is_not_finite_is_red_there_and_counted():
    model = bump(1.0, 0.0, 0.4)
    model[3, 5], model[7, 2] = np.nan, np.inf
    (axes,) = points.density_maps(model, LIMITS).axes
    assert axes.get_title(loc="right") == "not finite in 2 of 1,600 cells"
    (image,) = axes.images
    colours = image.to_rgba(image.get_array())
    red = np.isclose(colours, to_rgba(style.RED)).all(axis=-1)
    assert np.argwhere(red).tolist() == [[3, 5], [7, 2]]


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


def test_density_maps_refuse_what_has_no_place():
    with pytest.raises(ValueError, match="density map"):
        points.density_maps(np.ones(16), LIMITS)
    with pytest.raises(ValueError, match="density map"):
        points.density_maps(np.ones((4, 4)), LIMITS, np.full((4, 4), np.nan))
    with pytest.raises(ValueError, match=r"points \[N, 2\]"):
        points.density_maps(np.ones((4, 4)), LIMITS, samples=np.zeros((3, 3)))


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
