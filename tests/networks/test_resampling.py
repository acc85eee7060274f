"""Resampling against SciPy's polyphase filters of images whose edges are repeated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import upfirdn

from genlab.networks import resampling

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 4, 8, 3))
MARGIN = 8  # beyond the edges, more than any filter reaches

# name: (what is tested, taps, pixels in between, every which)
CASES = {
    "blur": (resampling.blur, [0.25, 0.5, 0.25], 1, 1),
    "up": (resampling.upsample_smooth, [0.25, 0.75, 0.75, 0.25], 2, 1),
    "down": (resampling.downsample_smooth, [0.125, 0.375, 0.375, 0.125], 1, 2),
}


def filtered(x, taps, up, down):
    """[B, H, W, C] through the filter, centred, along both axes; edges are repeated beyond the filter's reach."""
    for axis in (1, 2):
        size, pads = x.shape[axis], [(0, 0)] * 4
        pads[axis] = (MARGIN, MARGIN)
        wide = upfirdn(taps, np.pad(x, pads, "edge"), up, 1, axis)
        # output 0 is centred on the first pixel, or between it and where its neighbour comes to lie
        first = MARGIN * up + len(taps) // 2 - (up == 2)
        x = np.take(wide, first + down * np.arange(size * up // down), axis)
    return x


@pytest.mark.parametrize("name", CASES)
def test_filters_are_scipys(name):
    resample, taps, up, down = CASES[name]
    np.testing.assert_allclose(resample(jnp.asarray(X, jnp.float32)), filtered(X, taps, up, down), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [*CASES, "nearest", "mean"])
def test_a_constant_stays_one_up_to_its_edges(name):
    others = {"nearest": resampling.upsample_nearest, "mean": resampling.downsample_mean}
    resample = CASES[name][0] if name in CASES else others[name]
    found = resample(jnp.full((1, 8, 4, 2), -1.0))
    factor = {"up": 2, "nearest": 2, "down": 0.5, "mean": 0.5}.get(name, 1)
    assert found.shape == (1, 8 * factor, 4 * factor, 2)
    np.testing.assert_allclose(found, -1.0, rtol=1e-6)


def test_a_pixel_becomes_four_and_four_become_their_mean():
    x = jnp.arange(8.0).reshape(1, 2, 4, 1)
    rows = resampling.upsample_nearest(x)[0, ..., 0]
    np.testing.assert_array_equal(rows[0], [0, 0, 1, 1, 2, 2, 3, 3])
    np.testing.assert_array_equal(rows[1], rows[0])
    np.testing.assert_array_equal(resampling.downsample_mean(x)[0, ..., 0], [[2.5, 4.5]])
    np.testing.assert_array_equal(resampling.downsample_mean(resampling.enlarge(x, 4), 4), x)


def test_smoothing_is_the_filter_without_resampling():
    x = jnp.asarray(X, jnp.float32)
    np.testing.assert_allclose(
        resampling.smooth(x, 1, 1)[:, ::2, ::2], resampling.downsample_smooth(x), rtol=1e-5, atol=1e-6
    )
    assert resampling.smooth(x, 2, 2).shape == (2, 5, 9, 3)
    ends = resampling.smooth(jnp.ones((1, 4, 4, 1)), 2, 2, "constant")[0, :, 2, 0]
    np.testing.assert_allclose(ends, [0.5, 0.875, 1.0, 0.875, 0.5], rtol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_is_the_transpose(name):
    resample = CASES[name][0]
    x = jnp.asarray(X, jnp.float32)
    y, pull_back = jax.vjp(resample, x)
    weights = jnp.asarray(RNG.normal(size=y.shape), jnp.float32)
    (back,) = pull_back(weights)
    assert float(jnp.vdot(y, weights)) == pytest.approx(float(jnp.vdot(x, back)), rel=1e-4)
