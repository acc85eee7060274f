"""Observation models against SciPy in float64: what they say of an example, their means and their samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from genlab.models import likelihoods

SHAPE = (3, 2, 4)  # [B, H, C]
NUM_SAMPLES = 40_000


def normal(seed, shape, scale=1.0):
    return jnp.asarray(scale * np.random.default_rng(seed).normal(size=shape), jnp.float32)


def float64(array):
    return np.asarray(array, np.float64)


def halves(outputs):
    """The two parameters of each dimension: the first half of the last axis and the second."""
    return np.split(float64(outputs), 2, axis=-1)


def with_floor(raw, floor=-7.0):
    """log(exp(floor) + exp(raw)), what a softplus above a floor is."""
    return np.logaddexp(floor, raw)


def draws(likelihood, outputs):
    """[NUM_SAMPLES, *event]: samples for one example's outputs."""
    repeated = jnp.broadcast_to(outputs, (NUM_SAMPLES, *outputs.shape))
    return float64(jax.jit(likelihood.sample)(jax.random.key(0), repeated))


def assert_moments(samples, mean, deviation):
    """Sample mean and standard deviation within five standard errors; the kurtosis is at most a logistic's."""
    error = deviation / np.sqrt(len(samples))
    assert np.all(np.abs(samples.mean(axis=0) - mean) < 5 * error)
    assert np.all(np.abs(samples.std(axis=0) - deviation) < 5 * error)


# Bernoulli


def test_bernoulli_log_prob_equals_scipy():
    outputs = normal(0, SHAPE, 2.0)
    x = (normal(1, SHAPE) > 0).astype(jnp.float32)
    expected = stats.bernoulli.logpmf(np.asarray(x, int), special.expit(float64(outputs))).sum((1, 2))
    np.testing.assert_allclose(jax.jit(likelihoods.bernoulli().log_prob)(outputs, x), expected, rtol=1e-5)


def test_bernoulli_mean_and_samples_have_the_probability_of_the_logit():
    likelihood, outputs = likelihoods.bernoulli(), normal(2, (2, 4), 2.0)
    probability = special.expit(float64(outputs))
    np.testing.assert_allclose(likelihood.mean(outputs), probability, rtol=1e-6)
    samples = draws(likelihood, outputs)
    assert set(np.unique(samples)) == {0.0, 1.0}
    error = np.sqrt(probability * (1 - probability) / NUM_SAMPLES)
    assert np.all(np.abs(samples.mean(axis=0) - probability) < 5 * error)


# Gaussians


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize("variance", [0.01, 1.0, 3.0])
def test_gaussian_log_prob_equals_scipy(variance, squash):
    outputs, x = normal(3, SHAPE), normal(4, SHAPE)
    mean = special.expit(float64(outputs)) if squash else float64(outputs)
    expected = stats.norm.logpdf(float64(x), mean, np.sqrt(variance)).sum((1, 2))
    actual = likelihoods.gaussian(float(np.log(variance)), squash).log_prob(outputs, x)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("squash", [False, True])
def test_gaussian_mean_and_samples(squash):
    likelihood, outputs = likelihoods.gaussian(float(np.log(0.25)), squash), normal(5, (2, 4))
    mean = special.expit(float64(outputs)) if squash else float64(outputs)
    np.testing.assert_allclose(likelihood.mean(outputs), mean, rtol=1e-6)
    assert_moments(draws(likelihood, outputs), mean, 0.5)


@pytest.mark.parametrize("squash", [False, True])
def test_learned_gaussian_log_prob_equals_scipy(squash):
    likelihood, outputs, x = likelihoods.learned_gaussian(squash), normal(6, (3, 2, 8), 2.0), normal(7, SHAPE)
    mean, raw = halves(outputs)
    mean = special.expit(mean) if squash else mean
    expected = stats.norm.logpdf(float64(x), mean, np.exp(0.5 * with_floor(raw))).sum((1, 2))
    assert likelihood.num_outputs == 2
    np.testing.assert_allclose(jax.jit(likelihood.log_prob)(outputs, x), expected, rtol=1e-5)


def test_learned_gaussian_mean_and_samples():
    likelihood, outputs = likelihoods.learned_gaussian(squash=True), normal(8, (2, 8))
    mean, raw = special.expit(halves(outputs)[0]), halves(outputs)[1]
    np.testing.assert_allclose(likelihood.mean(outputs), mean, rtol=1e-6)
    assert_moments(draws(likelihood, outputs), mean, np.exp(0.5 * with_floor(raw)))


def test_learned_gaussian_variance_has_a_floor_and_is_free_above_it():
    likelihood = likelihoods.learned_gaussian(squash=False, min_log_var=-3.0)
    log_prob = jax.jit(likelihood.log_prob)
    at = lambda raw: float(log_prob(jnp.array([[0.0, raw]]), jnp.zeros((1, 1)))[0])
    # at its mean a Gaussian's log-density is -(log 2 pi + log sigma^2) / 2
    np.testing.assert_allclose(at(-1e4), -0.5 * (np.log(2 * np.pi) - 3.0), rtol=1e-6)
    np.testing.assert_allclose(at(-3.0), -0.5 * (np.log(2 * np.pi) - 3.0 + np.log(2)), rtol=1e-6)
    np.testing.assert_allclose(at(20.0), -0.5 * (np.log(2 * np.pi) + 20.0), rtol=1e-6)


# Discretized logistic


def test_discretized_logistic_log_prob_equals_the_differences_of_scipys_distribution():
    likelihood = likelihoods.discretized_logistic(num_levels=16)
    outputs = normal(9, (5, 2, 8))
    x = jnp.asarray(np.random.default_rng(10).integers(0, 16, (5, 2, 4)) / 15, jnp.float32)
    mean, raw = halves(outputs)
    distribution = stats.logistic(special.expit(mean), np.exp(with_floor(raw)))
    levels = np.round(float64(x) * 15)
    upper = np.where(levels == 15, 1.0, distribution.cdf((levels + 0.5) / 15))
    lower = np.where(levels == 0, 0.0, distribution.cdf((levels - 0.5) / 15))
    assert likelihood.num_outputs == 2 and {0, 15} <= set(levels.ravel())
    np.testing.assert_allclose(jax.jit(likelihood.log_prob)(outputs, x), np.log(upper - lower).sum((1, 2)), rtol=1e-5)


@pytest.mark.parametrize(("mean", "log_scale"), [(0.5, -2.5), (0.03, -2.0), (0.9, -4.0)])
def test_discretized_logistic_samples_lie_on_levels_as_often_as_log_prob_says(mean, log_scale):
    likelihood = likelihoods.discretized_logistic(num_levels=8)
    outputs = jnp.array([special.logit(mean), log_scale], jnp.float32)
    samples = draws(likelihood, outputs)[:, 0]
    levels = np.arange(8) / 7
    counts = np.bincount(np.round(samples * 7).astype(int), minlength=8)
    np.testing.assert_allclose(samples, np.round(samples * 7) / 7, atol=1e-6)
    table = jnp.broadcast_to(outputs, (8, 2))
    mass = np.exp(float64(jax.jit(likelihood.log_prob)(table, jnp.asarray(levels, jnp.float32)[:, None])))
    np.testing.assert_allclose(mass.sum(), 1.0, rtol=1e-5)
    assert np.all(np.abs(counts / NUM_SAMPLES - mass) < 5 * np.sqrt(mass * (1 - mass) / NUM_SAMPLES) + 1e-9)


def test_discretized_logistic_mean_is_that_of_its_samples_away_from_the_ends():
    likelihood, outputs = likelihoods.discretized_logistic(), jnp.array([0.4, -4.0])
    np.testing.assert_allclose(likelihood.mean(outputs), special.expit([0.4]), rtol=1e-6)
    deviation = np.exp(-4.0) * np.pi / np.sqrt(3)
    assert abs(draws(likelihood, outputs).mean() - special.expit(0.4)) < 5 * deviation / np.sqrt(NUM_SAMPLES)


# Squared error


def test_squared_error_is_minus_the_weighted_mean_over_pixels_and_no_density():
    likelihood, outputs, x = likelihoods.squared_error(1000.0), normal(11, SHAPE), normal(12, SHAPE)
    mean = special.expit(float64(outputs))
    assert not likelihood.normalized
    expected = -1000.0 * np.square(float64(x) - mean).mean((1, 2))
    np.testing.assert_allclose(jax.jit(likelihood.log_prob)(outputs, x), expected, rtol=1e-5)
    np.testing.assert_allclose(likelihood.mean(outputs), mean, rtol=1e-6)
    np.testing.assert_allclose(likelihood.sample(jax.random.key(0), outputs), mean, rtol=1e-6)


def test_squared_error_differs_from_its_gaussian_by_a_constant_alone():
    """The variance is D / (2 weight), as the docstring says."""
    outputs, x = normal(13, SHAPE), normal(14, SHAPE)
    as_gaussian = likelihoods.gaussian(float(np.log(8 / (2 * 50.0))), squash=True)
    difference = jax.jit(likelihoods.squared_error(50.0).log_prob)(outputs, x) - as_gaussian.log_prob(outputs, x)
    np.testing.assert_allclose(difference, np.full(3, 4 * np.log(2 * np.pi * 0.08)), rtol=1e-4)


# All


EVERY = {
    "bernoulli": likelihoods.bernoulli(),
    "gaussian": likelihoods.gaussian(0.0, squash=True),
    "learned_gaussian": likelihoods.learned_gaussian(squash=True),
    "discretized_logistic": likelihoods.discretized_logistic(),
    "squared_error": likelihoods.squared_error(1.0),
}


@pytest.mark.parametrize("name", EVERY)
def test_shapes_dtypes_and_keys(name):
    likelihood = EVERY[name]
    outputs = normal(15, (3, 4, 4, 2 * likelihood.num_outputs))
    x = jnp.zeros((3, 4, 4, 2))
    assert likelihood.normalized == (name != "squared_error")
    draw = jax.jit(likelihood.sample)
    sample = draw(jax.random.key(0), outputs)
    for array, shape in (
        (jax.eval_shape(likelihood.log_prob, outputs, x), (3,)),
        (jax.eval_shape(likelihood.mean, outputs), x.shape),
        (sample, x.shape),
    ):
        assert array.shape == shape and array.dtype == jnp.float32
    np.testing.assert_array_equal(sample, draw(jax.random.key(0), outputs))
    differs = np.any(np.asarray(sample) != np.asarray(draw(jax.random.key(1), outputs)))
    assert differs == (name != "squared_error")
