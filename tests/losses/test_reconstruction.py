"""Distances against hand numbers, numpy in float64 and the Gaussian they stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genlab.losses.reconstruction import absolute_error, squared_error

ORACLES = {squared_error: lambda x, r: (x - r) ** 2, absolute_error: lambda x, r: np.where(x > r, x - r, r - x)}


def pair(shape, dtype=jnp.float32):
    key_x, key_r = jax.random.split(jax.random.key(0))
    return jax.random.uniform(key_x, shape).astype(dtype), jax.random.normal(key_r, shape).astype(dtype)


@pytest.mark.parametrize(
    ("distance", "x", "reconstruction", "expected"),
    [
        (squared_error, [[0.0, 0.0]], [[3.0, 4.0]], [25.0]),
        (absolute_error, [[0.0, 0.0]], [[3.0, -4.0]], [7.0]),
        (squared_error, [[1.0, 2.0], [0.0, 0.5]], [[1.0, 2.0], [1.0, 0.0]], [0.0, 1.25]),
        (absolute_error, [[1.0, 2.0], [0.0, 0.5]], [[1.0, 2.0], [1.0, 0.0]], [0.0, 1.5]),
    ],
)
def test_distance_by_hand(distance, x, reconstruction, expected):
    np.testing.assert_allclose(distance(jnp.array(x), jnp.array(reconstruction)), expected, rtol=1e-6)


@pytest.mark.parametrize("distance", [squared_error, absolute_error])
@pytest.mark.parametrize("event", [(), (7,), (28, 28, 1)])
def test_distance_is_summed_over_the_event_not_averaged(distance, event):
    x, reconstruction = pair((3, *event))
    actual = distance(x, reconstruction)
    terms = ORACLES[distance](np.asarray(x, np.float64), np.asarray(reconstruction, np.float64))
    assert actual.shape == (3,) and actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, terms.reshape(3, -1).sum(1), rtol=2e-6)


def test_squared_error_is_twice_the_nats_of_a_unit_gaussian_up_to_its_constant():
    x, reconstruction = pair((4, 6))
    log_prob = stats.norm.logpdf(np.asarray(x, np.float64), np.asarray(reconstruction, np.float64), 1.0).sum(1)
    np.testing.assert_allclose(squared_error(x, reconstruction), -2 * log_prob - 6 * np.log(2 * np.pi), rtol=1e-5)


def test_squared_error_gradient_is_twice_the_difference():
    x, reconstruction = pair((4, 6))
    d_x, d_r = jax.grad(lambda a, b: jnp.sum(squared_error(a, b)), (0, 1))(x, reconstruction)
    np.testing.assert_allclose(d_x, 2 * (np.asarray(x) - np.asarray(reconstruction)), rtol=1e-6)
    np.testing.assert_array_equal(d_r, -d_x)


def test_absolute_error_gradient_is_the_sign_and_zero_at_zero():
    x, reconstruction = jnp.array([[1.0, -2.0, 0.5]]), jnp.array([[0.0, 1.0, 0.5]])
    d_x, d_r = jax.grad(lambda a, b: jnp.sum(absolute_error(a, b)), (0, 1))(x, reconstruction)
    np.testing.assert_array_equal(d_x, [[1.0, -1.0, 0.0]])
    np.testing.assert_array_equal(d_r, [[-1.0, 1.0, 0.0]])


@pytest.mark.parametrize("distance", [squared_error, absolute_error])
def test_distance_keeps_bfloat16(distance):
    x, reconstruction = pair((3, 8), jnp.bfloat16)
    actual = distance(x, reconstruction)
    assert actual.dtype == jnp.bfloat16
    expected = distance(x.astype(jnp.float32), reconstruction.astype(jnp.float32))
    np.testing.assert_allclose(actual.astype(jnp.float32), expected, rtol=0.02)


@pytest.mark.parametrize("distance", [squared_error, absolute_error])
def test_distance_rejects_shapes_that_would_broadcast(distance):
    with pytest.raises(ValueError, match=r"x \(4, 3\), reconstruction \(4, 1\)"):
        distance(jnp.zeros((4, 3)), jnp.zeros((4, 1)))
