"""Weights as images, against pixels written by hand."""

import numpy as np
import pytest

from genlab.plots import filters


def mosaic(kernel, shape, **options):
    return np.asarray(filters.filters(kernel, shape, **options).axes[0].images[0].get_array())


def test_a_filter_has_mid_grey_for_zero_and_its_own_scale():
    # two units of a 2 x 2 image: the second is the larger, so it comes first
    kernel = np.array([[1.0, 0.0], [-2.0, -8.0], [0.0, 4.0], [0.5, 8.0]])
    drawn = mosaic(kernel, (2, 2, 1))[..., 0]
    np.testing.assert_array_equal(drawn[:, :2], [[128, 0], [191, 255]])
    np.testing.assert_array_equal(drawn[:, 3:], [[191, 0], [128, 159]])
    assert (drawn[:, 2] == 255).all()


def test_channels_are_colours():
    kernel = np.array([[1.0], [0.0], [-1.0]])
    np.testing.assert_array_equal(mosaic(kernel, (1, 1, 3)), [[[255, 128, 0]]])


def test_the_largest_are_shown_and_equals_keep_their_order():
    sizes = np.array([3.0, 1.0, 5.0, 5.0 * (1 + 1e-7), 4.0])
    # each unit says its number by the second pixel
    marks = np.array([0.0, 0.2, 0.4, 0.6, 0.8])
    norms = np.sqrt(1 + marks**2)
    drawn = mosaic(np.stack([sizes / norms, marks * sizes / norms]), (1, 2, 1), max_filters=4, columns=2)[..., 0]
    shown = [drawn[0, 1], drawn[0, 4], drawn[2, 1], drawn[2, 4]]
    np.testing.assert_allclose(shown, 255 * (0.5 + 0.5 * marks[[2, 3, 4, 0]]), atol=0.51)


def test_a_unit_without_weights_is_grey():
    assert (mosaic(np.zeros((4, 1)), (2, 2, 1)) == 128).all()


@pytest.mark.parametrize("bad", [np.zeros((5, 2)), np.zeros((4, 0)), np.full((4, 2), np.nan), np.zeros(4)])
def test_filters_refuse_what_are_no_weights_of_these_images(bad):
    with pytest.raises(ValueError, match=r"filters of images \(2, 2, 1\)"):
        filters.filters(bad, (2, 2, 1))
