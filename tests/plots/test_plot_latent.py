"""Latent planes and code dimensions, against scipy's quantiles and against the artists drawn."""

import matplotlib
import numpy as np
import pytest
import scipy.stats
from matplotlib.patches import Rectangle

from genlab.plots import codes, latent


def test_normal_quantiles_are_scipy_s():
    np.testing.assert_allclose(latent.normal_quantiles(7), scipy.stats.norm.ppf((np.arange(7) + 0.5) / 7), atol=1e-12)


def test_manifold_codes_read_rightwards_in_z1_and_downwards_in_z2():
    low, middle, high = scipy.stats.norm.ppf([1 / 6, 1 / 2, 5 / 6])
    np.testing.assert_allclose(
        latent.manifold_codes(3),
        [
            *[(low, high), (middle, high), (high, high)],
            *[(low, middle), (middle, middle), (high, middle)],
            *[(low, low), (middle, low), (high, low)],
        ],
        atol=1e-6,
    )


def test_the_manifold_has_each_image_at_its_code():
    ticks = latent.normal_quantiles(5)
    # each image is one pixel that says z_1 in red and z_2 in green
    level = scipy.stats.norm.cdf(latent.manifold_codes(5))
    images = np.concatenate([level, np.zeros((25, 1))], axis=1).reshape(25, 1, 1, 3)
    axes = latent.latent_manifold(images, ticks).axes[0]
    mosaic = np.asarray(axes.images[0].get_array())
    for axis, channel in ((axes.xaxis, 0), (axes.yaxis, 1)):
        for label, position in zip(axis.get_ticklabels(), axis.get_ticklocs(), strict=True):
            z = float(label.get_text().replace("−", "-"))
            pixel = mosaic[0, int(position), 0] if channel == 0 else mosaic[int(position), 0, 1]
            assert scipy.stats.norm.ppf(pixel / 255) == pytest.approx(z, abs=0.06)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("$z_1$", "$z_2$")


def test_the_manifold_refuses_a_wrong_count_and_falling_ticks():
    with pytest.raises(ValueError, match="9 images; got 8"):
        latent.latent_manifold(np.zeros((8, 1, 1, 1)), latent.normal_quantiles(3))
    with pytest.raises(ValueError, match="ascend"):
        latent.latent_manifold(np.zeros((9, 1, 1, 1)), latent.normal_quantiles(3)[::-1])


def test_the_scatter_draws_every_code_in_the_colour_of_its_class():
    rng = np.random.default_rng(1)
    points, labels = rng.normal(size=(50, 2)), rng.integers(0, 3, 50) * 2  # classes 0, 2, 4
    figure = latent.latent_scatter(points, labels, class_names=["zero", "one", "two", "three", "four"])
    (drawn,) = figure.axes[0].collections
    palette = matplotlib.colormaps["tab10"]
    expected = {(*point, *palette(int(label) // 2)[:3]) for point, label in zip(points, labels, strict=True)}
    found = np.concatenate([np.asarray(drawn.get_offsets()), np.asarray(drawn.get_facecolor())[:, :3]], axis=1)
    assert set(map(tuple, found)) == expected
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["zero", "two", "four"]


def test_the_scatter_takes_codes_without_classes_and_many_classes():
    figure = latent.latent_scatter(np.zeros((4, 2)))
    assert not figure.legends
    figure = latent.latent_scatter(np.zeros((40, 2)), np.arange(40))
    assert len(np.unique(np.asarray(figure.axes[0].collections[0].get_facecolor()), axis=0)) == 40


@pytest.mark.parametrize(
    ("points", "labels", "message"),
    [
        (np.zeros((3, 5)), None, "project"),
        (np.zeros((0, 2)), None, "N >= 1"),
        (np.array([[0.0, np.inf]]), None, "1 values are not"),
        (np.zeros((3, 2)), np.zeros(2), "3 codes need as many labels"),
    ],
)
def test_the_scatter_refuses_what_it_cannot_place(points, labels, message):
    with pytest.raises(ValueError, match=message):
        latent.latent_scatter(points, labels)


def bars(axes):
    assert all(isinstance(patch, Rectangle) for patch in axes.patches)
    return axes.patches


def test_kl_bars_fall_and_say_which_dimensions_are_used():
    axes = codes.kl_per_dimension(np.array([0.02, 0.0, 2.0, 0.009])).axes[0]
    assert [bar.get_height() for bar in bars(axes)] == [2.0, 0.02, 0.009, 0.0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "0", "3", "1"]
    assert axes.get_title(loc="left").startswith("2 of 4 dimensions")
    used = [bar.get_facecolor() for bar in bars(axes)]
    assert used[0] == used[1] != used[2] == used[3]


@pytest.mark.parametrize("bad", [np.zeros((2, 2)), np.array([]), np.array([1.0, np.nan])])
def test_kl_bars_refuse_what_is_no_finite_vector(bad):
    with pytest.raises(ValueError, match="finite vector"):
        codes.kl_per_dimension(bad)


def test_histograms_show_the_widest_dimensions_as_densities():
    rng = np.random.default_rng(2)
    z = rng.normal(size=(4000, 3)) * [0.5, 2.0, 1.0]
    panels = codes.code_histograms(z, max_dims=2).axes
    assert [axes.get_title() for axes in panels] == ["dimension 1", "dimension 2"]
    boxes = bars(panels[1])
    middles = np.array([bar.get_x() + bar.get_width() / 2 for bar in boxes])
    # the histogram of a standard normal follows its density, as does the line over it
    np.testing.assert_allclose([bar.get_height() for bar in boxes], scipy.stats.norm.pdf(middles), atol=0.05)
    line = np.asarray(panels[1].lines[0].get_xydata())
    np.testing.assert_allclose(line[:, 1], scipy.stats.norm.pdf(line[:, 0]), atol=1e-12)


def test_histograms_refuse_codes_that_are_not_finite():
    with pytest.raises(ValueError, match="finite codes"):
        codes.code_histograms(np.full((3, 2), np.nan))
