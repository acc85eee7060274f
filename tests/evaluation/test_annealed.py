"""Annealed importance sampling on models whose evidence is known."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from genlab.algorithm import Latents
from genlab.evaluation.annealed import annealed_importance, hamiltonian
from genlab.losses.elbo import importance_bound
from genlab.losses.likelihood import gaussian_log_prob

KEY = jax.random.key(0)
W = np.array([[1.2, 0.3], [-0.4, 0.9], [0.5, 0.7], [0.1, 0.6]])
MEAN, VARIANCE = np.array([0.3, -1.0, 0.5, 2.0]), 0.3
POINTS = np.random.default_rng(0).normal(size=(3, 4)) * 1.5 + MEAN
EVIDENCE = stats.multivariate_normal(MEAN, W @ W.T + VARIANCE * np.eye(4)).logpdf(POINTS)
BATCH = {"x": jnp.asarray(POINTS, jnp.float32)}


def linear_gaussian():
    """p(z) = N(0, I), p(x | z) = N(W z + mean, VARIANCE I): the posterior's dimensions are correlated."""
    kernel, mean = (jnp.asarray(each, jnp.float32) for each in (W.T, MEAN))
    log_prior = lambda state, batch, codes: gaussian_log_prob(codes, jnp.zeros_like(codes), 0.0)

    def log_joint(state, batch, codes):
        return log_prior(state, batch, codes) + gaussian_log_prob(
            batch["x"], codes @ kernel + mean, float(np.log(VARIANCE))
        )

    def sample_prior(state, batch, key):
        return jax.random.normal(key, (batch["x"].shape[0], 2))

    return Latents(log_prior, log_joint, sample_prior, None)


def test_annealing_finds_the_evidence_of_a_linear_gaussian_model():
    estimate = jax.jit(annealed_importance(linear_gaussian(), num_temperatures=60, num_chains=200))
    weights = np.asarray(estimate(None, BATCH, KEY), np.float64)
    assert weights.shape == (200, 3)
    found = np.asarray(importance_bound(jnp.asarray(weights, jnp.float32)))
    # the standard error of the logarithm of a mean of weights
    ratio = np.exp(weights - weights.max(axis=0))
    error = ratio.std(axis=0) / ratio.mean(axis=0) / np.sqrt(len(weights))
    assert np.all(error < 0.06)
    assert np.all(np.abs(found - EVIDENCE) < 5 * error)
    assert np.all(weights.mean(axis=0) < EVIDENCE)  # of one chain it is a bound, by Jensen


def test_one_temperature_is_importance_sampling_from_the_prior():
    """One step from beta = 0 to 1: log w = log p(x | z), z ~ p(z), whose mean is that of the likelihood."""
    estimate = jax.jit(annealed_importance(linear_gaussian(), num_temperatures=1, num_chains=20_000, num_leapfrog=1))
    weights = np.asarray(estimate(None, BATCH, KEY), np.float64)
    expected = [
        stats.norm(MEAN, np.sqrt(VARIANCE)).logpdf(x).sum() - 0.5 * np.trace(W @ W.T) / VARIANCE for x in POINTS
    ]  # E log N(x; W z + m, v) = log N(x; m, v) - tr(W W') / (2 v)
    error = weights.std(axis=0) / np.sqrt(len(weights))
    assert np.all(np.abs(weights.mean(axis=0) - expected) < 5 * error)


def test_hamiltonian_moves_leave_their_distribution_as_it_is_and_small_steps_are_accepted():
    variances = jnp.asarray([4.0, 0.25])
    energy = lambda z: 0.5 * jnp.sum(jnp.square(z) / variances, axis=1)
    start = jnp.sqrt(variances) * jax.random.normal(KEY, (20_000, 2))
    for step, least in ((0.05, 0.99), (0.8, 0.3)):
        moved, accepted = hamiltonian(energy, start, jax.random.key(1), jnp.full(20_000, step), 5)
        assert least < float(jnp.mean(accepted)) <= 1.0
        np.testing.assert_allclose(np.var(moved, axis=0), variances, rtol=0.05)
        assert np.mean(np.any(np.asarray(moved != start), axis=1)) > least - 0.05
    far, _ = hamiltonian(energy, start, jax.random.key(1), jnp.full(20_000, 50.0), 5)
    np.testing.assert_array_equal(far, start)  # a step that diverges is refused
