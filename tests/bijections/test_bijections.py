"""Every bijection: its inverse, and its log-determinant against autodiff's in double precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logit as scipy_logit

from genlab.bijections import affine, linear, pixels, spline, squeeze

KEY = jax.random.key(0)
BATCH, DIM, BINS = 3, 5, 6


def drawn(*shape, scale=1.0, seed=0):
    return scale * np.random.default_rng(seed).normal(size=shape)


def as_spline(scale=2.0):
    return spline.make_spline(jnp.asarray(drawn(BATCH, DIM, 3 * BINS - 1, scale=scale, seed=1)), 3.0)


def as_factors():
    return linear.decompose(drawn(DIM, DIM, seed=2))._replace(
        log_scale=jnp.asarray(drawn(DIM, scale=0.5, seed=3)), sign=jnp.asarray([1.0, -1.0, 1.0, 1.0, -1.0])
    )


# name -> (forward, inverse, x)
BIJECTIONS = {
    "affine": lambda: (
        lambda x: affine.affine(x, jnp.asarray(drawn(DIM, seed=4)), jnp.asarray(drawn(BATCH, DIM, seed=5))),
        lambda y: affine.affine_inverse(y, jnp.asarray(drawn(DIM, seed=4)), jnp.asarray(drawn(BATCH, DIM, seed=5))),
        drawn(BATCH, DIM),
    ),
    "spline": lambda: (
        lambda x: spline.rational_quadratic(x, as_spline()),
        lambda y: spline.rational_quadratic_inverse(y, as_spline()),
        drawn(BATCH, DIM, scale=2.0),  # some of them outside the bins
    ),
    "linear": lambda: (
        lambda x: linear.linear(x, as_factors()), lambda y: linear.linear_inverse(y, as_factors()), drawn(BATCH, DIM)
    ),
    "linear of an image": lambda: (
        lambda x: linear.linear(x, as_factors()), lambda y: linear.linear_inverse(y, as_factors()),
        drawn(BATCH, 2, 3, DIM),
    ),
    "logit": lambda: (
        lambda x: pixels.logit(x, 0.05), lambda y: pixels.logit_inverse(y, 0.05),
        np.random.default_rng(0).uniform(size=(BATCH, DIM)),
    ),
    "squeeze": lambda: (
        lambda x: (squeeze.squeeze(x), jnp.zeros(x.shape[0], x.dtype)),
        lambda y: (squeeze.unsqueeze(y), jnp.zeros(y.shape[0], y.dtype)),
        drawn(BATCH, 4, 2, 3),
    ),
}  # fmt: skip


def log_volume(forward, x):
    """log |det| of each example by autodiff, f64[B]."""
    jacobian = jax.jacfwd(lambda x: forward(x)[0].reshape(x.shape[0], -1))(x)  # [B, D, B, ...]
    jacobian = np.asarray(jacobian).reshape(x.shape[0], -1, x.shape[0], x[0].size)
    return np.stack([np.linalg.slogdet(jacobian[i, :, i])[1] for i in range(x.shape[0])])


@pytest.mark.parametrize("name", BIJECTIONS)
def test_log_determinants_are_those_of_the_jacobian(name):
    with jax.enable_x64(True):
        forward, inverse, x = BIJECTIONS[name]()
        x = jnp.asarray(x)
        y, log_det = forward(x)
        assert log_det.shape == (BATCH,) and log_det.dtype == jnp.float64
        np.testing.assert_allclose(log_det, log_volume(forward, x), atol=1e-8)
        np.testing.assert_allclose(inverse(y)[1], log_volume(inverse, y), atol=1e-8)
        np.testing.assert_allclose(inverse(y)[0], x, atol=1e-9)
        np.testing.assert_allclose(forward(inverse(y)[0])[0], y, atol=1e-8)


@pytest.mark.parametrize("name", BIJECTIONS)
def test_in_single_precision_the_inverse_is_within_1e_4(name):
    forward, inverse, x = BIJECTIONS[name]()
    x = jnp.asarray(x, jnp.float32)
    y, log_det = jax.jit(forward)(x)
    back, log_det_back = jax.jit(inverse)(y)
    np.testing.assert_allclose(back, x, atol=1e-4)
    np.testing.assert_allclose(log_det_back, -log_det, rtol=1e-4, atol=1e-4)


def test_affine_by_hand():
    y, log_det = affine.affine(jnp.array([[1.0, 2.0]]), jnp.log(jnp.array([3.0, 0.5])), jnp.array([1.0, -1.0]))
    np.testing.assert_allclose(y, [[4.0, 0.0]], atol=1e-6)
    np.testing.assert_allclose(log_det, [np.log(1.5)], rtol=1e-6)
    # a shift alone keeps the volume, of images too
    _, log_det = affine.affine(jnp.ones((2, 2, 2, 1)), jnp.zeros(()), jnp.ones(()))
    np.testing.assert_array_equal(log_det, [0.0, 0.0])


def test_a_spline_of_zeros_is_the_identity():
    flat = spline.make_spline(jnp.zeros((BATCH, DIM, 3 * BINS - 1)), 3.0)
    x = jnp.asarray(drawn(BATCH, DIM, scale=2.0), jnp.float32)
    y, log_det = spline.rational_quadratic(x, flat)
    np.testing.assert_allclose(y, x, atol=1e-5)
    np.testing.assert_allclose(log_det, 0.0, atol=1e-5)


def test_a_spline_goes_through_its_knots_with_their_slopes_and_rises():
    given = as_spline()
    with jax.enable_x64(True):
        one = spline.Spline(*(jnp.asarray(part, jnp.float64)[:1, :1] for part in given[:3]), 3.0)
        sides = [np.concatenate([[-3.0], -3.0 + np.cumsum(np.asarray(part)[0, 0])]) for part in one[:2]]
        for x, y, slope in zip(*sides, np.asarray(one.slopes)[0, 0], strict=True):
            value = lambda x: spline.rational_quadratic(jnp.reshape(x, (1, 1)), one)[0][0, 0]
            inner = np.clip(x, -3.0 + 1e-9, 3.0 - 1e-9)
            np.testing.assert_allclose(value(inner), y, atol=1e-7)
            np.testing.assert_allclose(jax.grad(value)(inner), slope, rtol=1e-6)
        line = jnp.linspace(-5.0, 5.0, 1001)
        y = jax.vmap(lambda x: spline.rational_quadratic(x.reshape(1, 1), one)[0][0, 0])(line)
    assert np.all(np.diff(y) > 0)
    np.testing.assert_array_equal(y[np.abs(line) >= 3], line[np.abs(line) >= 3])
    assert np.asarray(given.slopes)[..., [0, -1]].tolist() == np.ones((BATCH, DIM, 2)).tolist()


def test_gradients_of_a_spline_are_finite_far_outside_and_at_extreme_parameters():
    x = jnp.array([[-1e4, -3.0, 0.0, 3.0, 1e4]])
    for scale in (0.0, 30.0):
        parameters = jnp.asarray(drawn(1, 5, 3 * BINS - 1, scale=scale), jnp.float32)
        for function in (spline.rational_quadratic, spline.rational_quadratic_inverse):
            total = lambda x, p, f=function: sum(jnp.sum(part) for part in f(x, spline.make_spline(p, 3.0)))
            gradients = jax.grad(total, (0, 1))(x, parameters)
            assert all(np.isfinite(leaf).all() for leaf in gradients)


def test_a_spline_of_other_than_3_k_less_1_numbers_is_refused():
    with pytest.raises(ValueError, match="3 K - 1 numbers an element; got 7"):
        spline.make_spline(jnp.zeros((2, 7)), 1.0)


def test_the_factors_are_those_of_the_matrix():
    matrix = np.linalg.qr(drawn(DIM, DIM))[0]
    factors = linear.decompose(matrix)
    np.testing.assert_allclose(linear.matrix_of(factors), matrix, atol=1e-6)
    x = jnp.asarray(drawn(BATCH, 2, 2, DIM), jnp.float32)
    y, log_det = linear.linear(x, factors)
    np.testing.assert_allclose(y, np.asarray(x) @ matrix.T, atol=1e-5)
    np.testing.assert_allclose(log_det, 0.0, atol=1e-5)  # of an orthogonal matrix


def test_a_block_of_pixels_becomes_channels():
    x = jnp.arange(2 * 4 * 4 * 3, dtype=jnp.float32).reshape(2, 4, 4, 3)
    y = squeeze.squeeze(x)
    assert y.shape == (2, 2, 2, 12)
    for c in range(3):
        np.testing.assert_array_equal(y[1, 0, 1, 4 * c : 4 * c + 4], np.asarray(x)[1, 0:2, 2:4, c].ravel())
    with pytest.raises(ValueError, match="must be even"):
        squeeze.squeeze(x[:, :3])
    with pytest.raises(ValueError, match="four channels for one"):
        squeeze.unsqueeze(x)


def test_dequantized_levels_are_spread_over_their_bins_and_found_again():
    x = jnp.repeat(jnp.array([0.0, 1.0 / 255, 254.0 / 255, 1.0]), 5_000).reshape(4, -1)
    u = pixels.dequantize(KEY, x)
    np.testing.assert_allclose(pixels.quantize(u), x, atol=1e-6)
    assert np.min(u) >= 0 and np.max(u) < 1
    for row, level in zip(np.asarray(u), (0, 1, 254, 255), strict=True):
        share = row * 256 - level
        assert abs(share.mean() - 0.5) < 0.02 and abs(share.var() - 1 / 12) < 0.005
    np.testing.assert_array_equal(pixels.quantize(jnp.array([-0.1, 1.0, 1.3])), [0.0, 1.0, 1.0])


def test_of_few_levels_dequantization_has_wider_bins():
    x = jnp.tile(jnp.array([0.0, 1.0]), 2_000)[:, None]
    u = pixels.dequantize(KEY, x, num_levels=2)
    assert np.all((np.asarray(u) >= 0.5) == (np.asarray(x) == 1.0)) and 0.24 < np.mean(u[::2]) < 0.26
    np.testing.assert_array_equal(pixels.quantize(u, num_levels=2), x)


def test_the_logit_is_scipys_and_its_gradient_is_finite_at_the_ends():
    x = jnp.array([[0.0, 0.3, 1.0]])
    y, log_det = pixels.logit(x, 0.05)
    p = 0.05 + 0.9 * np.asarray(x, np.float64)
    np.testing.assert_allclose(y, scipy_logit(p), rtol=1e-5)
    np.testing.assert_allclose(log_det, np.sum(np.log(0.9 / (p * (1 - p)))), rtol=1e-6)
    for alpha in (0.05, 1e-6):
        gradient = jax.grad(functools.partial(lambda x, a: jnp.sum(pixels.logit(x, a)[1]), a=alpha))(x)
        assert np.isfinite(gradient).all()
