"""Bounds on a linear Gaussian model, where the evidence is known and the exact posterior is within reach."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from linear_gaussian import (
    BATCH,
    EVIDENCE,
    MU,
    POINTS,
    SHIFT,
    STATS,
    STRETCH,
    VARIANCE,
    Moments,
    W,
    decoder,
    encoder,
    likelihood,
    params,
)
from scipy import special, stats

from genlab.models.hierarchical import top_down
from genlab.models.objectives import evidence, importance_weighted, total_correlation
from genlab.models.priors import mixture, standard_normal
from genlab.models.vae import one_layer
from genlab.networks.dense import MLP

KEY = jax.random.key(0)
ONE = jnp.ones(())
MODEL = one_layer(encoder(), decoder(), likelihood(), 2, standard_normal())


@functools.cache
def compiled(objective, train=False):
    def values(params, key, beta):
        value, terms, _ = objective.terms(MODEL, params, STATS, BATCH, key, beta, train)
        return {"objective": value, **terms}

    return jax.jit(values)


def log_weight_parts(params, key, num_samples):
    """log p(x | z), log p(z) and log q(z | x) f64[K, B] by SciPy, at the samples that the key draws."""
    features, _ = MODEL.infer(params, STATS, BATCH, False)
    z = np.asarray(MODEL.sample(params, features, key, num_samples)[0], np.float64)
    mean, log_var = (np.asarray(each, np.float64) for each in features)
    return (
        stats.norm.logpdf(POINTS, z @ W.T + MU, np.sqrt(VARIANCE)).sum(-1),
        stats.norm.logpdf(z).sum(-1),
        stats.norm.logpdf(z, mean, np.exp(log_var / 2)).sum(-1),
    )


def over_keys(objective, params, num):
    keys = jax.random.split(jax.random.key(1), num)
    found = jax.jit(jax.vmap(lambda key: compiled(objective)(params, key, ONE)))(keys)
    return {name: np.asarray(value, np.float64) for name, value in found.items()}


def assert_mean(values, expected):
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    assert np.all(error < 0.03)
    assert np.all(np.abs(values.mean(axis=0) - expected) < 5 * error + 1e-5)


@pytest.mark.parametrize("beta", [0.3, 1.0, 4.0])
def test_every_bound_weighs_the_divergence(beta):
    worse = params(SHIFT, STRETCH)
    log_likelihood, log_prior, log_posterior = log_weight_parts(worse, KEY, 4)
    log_weights = log_likelihood + beta * (log_prior - log_posterior)
    weighted = compiled(importance_weighted(4))(worse, KEY, jnp.asarray(beta))["objective"]
    np.testing.assert_allclose(weighted, special.logsumexp(log_weights, axis=0) - np.log(4), rtol=1e-4)
    sampled = compiled(evidence(4, sampled_kl=True))(worse, KEY, jnp.asarray(beta))["objective"]
    np.testing.assert_allclose(sampled, log_weights.mean(axis=0), rtol=1e-4)
    one = log_weight_parts(worse, KEY, 1)
    apart = compiled(total_correlation(3, 1.0), True)(worse, KEY, jnp.asarray(beta))["objective"]
    np.testing.assert_allclose(apart, (one[0] + beta * (one[1] - one[2]))[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("objective", [evidence(sampled_kl=True), importance_weighted(1), importance_weighted(5)])
def test_with_the_exact_posterior_every_sample_gives_the_evidence(objective):
    """Every weight is p(x): no variance, for any number of samples."""
    values = compiled(objective)(params(), KEY, ONE)
    np.testing.assert_allclose(values["objective"], EVIDENCE, rtol=1e-5)


def test_closed_form_and_sampled_divergence_agree_in_the_mean():
    worse = params(SHIFT, STRETCH)
    exact = compiled(evidence())(worse, KEY, ONE)["kl"]
    assert_mean(over_keys(evidence(sampled_kl=True), worse, 20_000)["kl"], np.asarray(exact))


def test_one_importance_sample_is_the_evidence_lower_bound():
    worse = params(SHIFT, STRETCH)
    one, bound = (compiled(each)(worse, KEY, ONE) for each in (importance_weighted(1), evidence(sampled_kl=True)))
    np.testing.assert_allclose(one["objective"], bound["objective"], atol=1e-5)
    np.testing.assert_allclose(one["objective"], one["log_likelihood"] - one["kl"], atol=1e-5)


def test_bounds_rise_with_the_number_of_samples_to_the_evidence():
    worse = params(SHIFT, STRETCH)
    means = np.array(
        [over_keys(importance_weighted(k), worse, 4_000)["objective"].mean(axis=0) for k in (1, 3, 10, 50)]
    )
    assert np.all(np.diff(means, axis=0) > 0)
    assert np.all(means < EVIDENCE + 0.01)
    np.testing.assert_allclose(means[-1], EVIDENCE, atol=0.06)  # a gap of 0.4 at one sample


def test_free_bits_cost_their_number_where_a_dimension_uses_less():
    worse = params(SHIFT, STRETCH)
    plain = compiled(evidence())(worse, KEY, ONE)
    by_dimension = np.asarray(MODEL.kl(MODEL.infer(worse, STATS, BATCH, False)[0]))  # [B, 2]
    least = by_dimension.mean(axis=0).min() + 1e-3  # above one dimension's mean, below the other's
    assert by_dimension.mean(axis=0).max() > least
    free = compiled(evidence(bits=float(least)), True)(worse, KEY, ONE)
    cost = np.where(by_dimension.mean(axis=0) > least, by_dimension, least).sum(axis=1)
    np.testing.assert_allclose(free["objective"], plain["log_likelihood"] - cost, rtol=1e-5)
    np.testing.assert_allclose(free["kl"], plain["kl"])
    evaluated = compiled(evidence(bits=float(least)))(worse, KEY, ONE)["objective"]
    np.testing.assert_allclose(evaluated, plain["objective"])  # of an example alone there is nothing free


def test_total_correlation_of_weight_one_is_the_bound_and_more_weight_costs_more():
    worse = params(SHIFT, STRETCH)
    bound = compiled(evidence(sampled_kl=True))(worse, KEY, ONE)
    parts = compiled(total_correlation(3, 1.0), True)(worse, KEY, ONE)
    np.testing.assert_allclose(parts["objective"], bound["objective"], atol=1e-4)
    heavy = compiled(total_correlation(3, 6.0), True)(worse, KEY, ONE)
    np.testing.assert_allclose(
        heavy["objective"], bound["objective"] - 5 * np.asarray(parts["total_correlation"]), atol=1e-4
    )


# The doubly reparameterized gradient


def gradients(objective, params, keys, model=MODEL, beta=1.0):
    """[num_keys, ...] of the mean objective."""
    stats = {name: {} for name in params}

    def value(params, key):
        return jnp.mean(objective.terms(model, params, stats, BATCH, key, jnp.asarray(beta), True)[0])

    return jax.jit(jax.vmap(jax.grad(value), in_axes=(None, 0)))(params, keys)


def assert_same_mean(double, single):
    """Gradients [num_keys, ...] under common random numbers."""
    for a, b in zip(jax.tree.leaves(double), jax.tree.leaves(single), strict=True):
        difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
        error = difference.std(axis=0, ddof=1) / np.sqrt(len(difference))
        assert np.all(np.abs(difference.mean(axis=0)) < 5 * error + 1e-4)
        assert np.abs(np.asarray(a)).mean() > 5 * error.max()  # and there is something to agree on


@pytest.mark.parametrize("beta", [0.3, 1.0, 4.0])
def test_doubly_reparameterized_gradient_is_that_of_the_bound_in_the_decoder_and_in_the_mean_in_the_encoder(beta):
    keys, worse = jax.random.split(KEY, 20_000), params(SHIFT, STRETCH)
    double = gradients(importance_weighted(4, doubly_reparameterized=True), worse, keys, beta=beta)
    single = gradients(importance_weighted(4), worse, keys, beta=beta)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-3), double["decoder"], single["decoder"]
    )
    assert_same_mean(double["encoder"], single["encoder"])


def test_doubly_reparameterized_gradient_of_two_layers_has_the_mean_of_the_bounds():
    """The prior p(z_1 | z_2) has a part in the posterior of a ladder, and gradients of both kinds."""
    model = top_down(
        [MLP((3,), nn.tanh), MLP(())], [Moments(2), Moments(2)], [Moments(2)], decoder(), likelihood(), (2, 2),
        standard_normal(),
    )  # fmt: skip
    all_params = model.init(KEY, BATCH)[0]
    keys = jax.random.split(KEY, 10_000)
    double, single = (
        gradients(importance_weighted(3, doubly_reparameterized=each), all_params, keys, model)
        for each in (True, False)
    )
    assert_same_mean(double, single)


def test_doubly_reparameterized_gradient_of_the_exact_posterior_vanishes_sample_by_sample():
    """log w does not depend on z there; the ordinary gradient vanishes in the mean only."""
    keys = jax.random.split(KEY, 3)
    double = gradients(importance_weighted(4, doubly_reparameterized=True), params(), keys)["encoder"]
    single = gradients(importance_weighted(4), params(), keys)["encoder"]
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(double)) < 1e-4
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(single)) > 1e-2


def test_doubly_reparameterized_gradient_with_a_learned_prior_trains_the_prior_as_the_bound_does():
    prior = mixture(3, 2)
    model = one_layer(encoder(), decoder(), likelihood(), 2, prior)
    all_params = {**params(SHIFT, STRETCH), "prior": prior.init(KEY, BATCH)}
    double, single = (
        gradients(importance_weighted(4, doubly_reparameterized=each), all_params, KEY[None], model)["prior"]
        for each in (True, False)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), double, single)
    assert np.abs(single["means"]).max() > 1e-3


def test_points_are_not_at_the_mean():
    assert np.abs(POINTS).min() > 1e-3 and np.ptp(EVIDENCE) > 0.1  # the tests above have something to tell apart
