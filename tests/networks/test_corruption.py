"""Noise: its moments, its key, and what it leaves alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.networks.corruption import gaussian_noise, masking_noise

KEY = jax.random.key(0)
X = 1 + np.random.default_rng(0).uniform(size=(100, 10, 10, 2)).astype(np.float32)  # no zeros
NOISES = pytest.mark.parametrize("noise", [gaussian_noise, masking_noise])


@pytest.mark.parametrize("level", [0.1, 0.5])
def test_gaussian_noise_is_normal_with_the_level_as_its_standard_deviation(level):
    noise = (np.asarray(gaussian_noise(KEY, X, level)) - X).ravel() / level
    n = noise.size
    assert abs(noise.mean()) < 4 / n**0.5
    assert abs(noise.var() - 1) < 4 * (2 / n) ** 0.5
    assert abs((noise**4).mean() - 3) < 4 * (96 / n) ** 0.5
    assert abs((noise[:-1] * noise[1:]).mean()) < 4 / n**0.5
    assert (np.abs(noise) < 1).mean() == pytest.approx(0.6827, abs=4 * (0.22 / n) ** 0.5)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_masking_sets_that_many_numbers_to_zero_and_leaves_the_others_as_they_are(level):
    masked = np.asarray(masking_noise(KEY, X, level))
    zero = masked == 0
    np.testing.assert_array_equal(masked[~zero], X[~zero])  # not divided by 1 - level
    deviation = (level * (1 - level) / X.size) ** 0.5
    assert zero.mean() == pytest.approx(level, abs=4 * deviation)
    both_channels = zero.all(axis=-1).mean()  # the channels of a pixel go each by itself
    assert both_channels == pytest.approx(level**2, abs=4 * (level**2 * (1 - level**2) / X.size * 2) ** 0.5)


def test_the_extremes():
    np.testing.assert_array_equal(gaussian_noise(KEY, X, 0.0), X)
    np.testing.assert_array_equal(masking_noise(KEY, X, 0.0), X)
    np.testing.assert_array_equal(masking_noise(KEY, X, 1.0), np.zeros_like(X))
    assert not np.any(np.signbit(masking_noise(KEY, -X, 1.0)))


def test_a_masked_infinity_is_zero():
    assert not np.any(masking_noise(KEY, jnp.full(9, jnp.inf), 1.0))


@NOISES
def test_the_key_decides(noise):
    once, again = noise(KEY, X, 0.3), jax.jit(noise)(KEY, X, 0.3)
    np.testing.assert_allclose(once, again, rtol=1e-6, atol=1e-6)
    other = np.asarray(noise(jax.random.key(1), X, 0.3))
    assert np.mean(other != np.asarray(once)) > 0.4
    assert np.asarray(once).std(axis=0).min() > 0.1  # the examples of a batch have noise of their own


@NOISES
def test_levels_and_keys_of_a_population(noise):
    levels, keys = jnp.array([0.0, 0.25, 0.75]), jax.random.split(KEY, 3)
    members = jax.jit(jax.vmap(noise, in_axes=(0, None, 0)))(keys, X, levels)
    for member, key, level in zip(members, keys, levels, strict=True):
        np.testing.assert_allclose(member, noise(key, X, float(level)), rtol=1e-6, atol=1e-6)


@NOISES
def test_the_type_is_that_of_the_data(noise):
    x = jnp.asarray(X, jnp.bfloat16)
    for level in (0.5, jnp.float32(0.5)):
        assert noise(KEY, x, level).dtype == jnp.bfloat16 and noise(KEY, x, level).shape == x.shape


def test_gradients_pass_where_the_data_do():
    through = lambda noise: jax.grad(lambda x: jnp.sum(jnp.square(noise(KEY, x, 0.3))))(jnp.asarray(X))
    for noise in (gaussian_noise, masking_noise):
        np.testing.assert_allclose(through(noise), 2 * np.asarray(noise(KEY, X, 0.3)), rtol=1e-6)
