"""Priors: densities by SciPy, samples by their moments, labels by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from genlab.models.priors import mixture, standard_normal, vamp

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
CODES = RNG.normal(size=(6, 2)) * 2


def no_encoder(inputs):
    raise AssertionError("not asked for")


def mixture_params(num_classes=0):
    params = mixture(3, 2, num_classes).init(KEY, {})
    shape = params["logits"].shape
    return {
        "means": jnp.asarray(RNG.normal(size=(3, 2)), jnp.float32),
        "log_vars": jnp.asarray(RNG.normal(size=(3, 2)), jnp.float32),
        "logits": jnp.asarray(RNG.normal(size=shape), jnp.float32),
    }


def by_scipy(params, log_weights, codes):
    """log sum_c w_c N(z; m_c, s_c^2), f64[N]; log_weights [N or 1, C]."""
    means, log_vars = (np.asarray(params[name], np.float64) for name in ("means", "log_vars"))
    each = [stats.norm(m, np.exp(v / 2)).logpdf(codes).sum(axis=1) for m, v in zip(means, log_vars, strict=True)]
    return special.logsumexp(np.stack(each, axis=1) + log_weights, axis=1)


def test_standard_normal():
    prior = standard_normal()
    assert prior.init(KEY, {}) == {}
    actual = prior.log_prob({}, no_encoder, jnp.asarray(CODES, jnp.float32), None)
    np.testing.assert_allclose(actual, stats.norm.logpdf(CODES).sum(axis=1), rtol=1e-5)
    drawn = np.asarray(prior.sample({}, no_encoder, KEY, jnp.zeros((20_000, 2)), None))
    assert np.all(np.abs(drawn.mean(axis=0)) < 0.04) and np.all(np.abs(drawn.var(axis=0) - 1) < 0.06)


def test_mixture_density_and_samples():
    prior, params = mixture(3, 2), mixture_params()
    log_weights = special.log_softmax(np.asarray(params["logits"], np.float64))
    actual = prior.log_prob(params, no_encoder, jnp.asarray(CODES, jnp.float32), None)
    np.testing.assert_allclose(actual, by_scipy(params, log_weights[None], CODES), rtol=1e-4)
    num = 40_000
    drawn = np.asarray(prior.sample(params, no_encoder, KEY, jnp.zeros((num, 2)), None), np.float64)
    weights, means, variances = np.exp(log_weights), np.asarray(params["means"]), np.exp(params["log_vars"])
    mean = weights @ means
    variance = weights @ (variances + means**2) - mean**2
    assert np.all(np.abs(drawn.mean(axis=0) - mean) < 5 * np.sqrt(variance / num))
    np.testing.assert_allclose(drawn.var(axis=0), variance, rtol=0.06)


def test_mixture_weights_by_class():
    prior, params = mixture(3, 2, num_classes=2), mixture_params(2)
    labels = jnp.asarray([0, 1, 1, 0, 0, 1])
    log_weights = special.log_softmax(np.asarray(params["logits"], np.float64), axis=1)[np.asarray(labels)]
    actual = prior.log_prob(params, no_encoder, jnp.asarray(CODES, jnp.float32), labels)
    np.testing.assert_allclose(actual, by_scipy(params, log_weights, CODES), rtol=1e-4)
    # of a class whose weight is all on one component, samples are that component's
    params["logits"] = jnp.asarray([[50.0, 0.0, 0.0], [0.0, 0.0, 50.0]])
    drawn = np.asarray(prior.sample(params, no_encoder, KEY, jnp.zeros((4_000, 2)), jnp.ones(4_000, jnp.int32)))
    deviation = np.exp(np.asarray(params["log_vars"][2]) / 2)
    assert np.all(np.abs(drawn.mean(axis=0) - params["means"][2]) < 5 * deviation / np.sqrt(4_000))


def test_a_prior_by_class_wants_labels():
    prior, params = mixture(3, 2, num_classes=6), mixture_params(6)
    with pytest.raises(ValueError, match="needs labels"):
        prior.log_prob(params, no_encoder, jnp.asarray(CODES, jnp.float32), None)


def test_components_start_shared_out_among_classes():
    logits = np.asarray(mixture(6, 2, num_classes=3).init(KEY, {})["logits"])
    weights = special.softmax(logits, axis=1)
    np.testing.assert_allclose(weights[1, [1, 4]], 0.25)  # twice each other class's weight, on two of six
    np.testing.assert_allclose(weights[1, [0, 2, 3, 5]], 0.125)


def test_vamp_is_the_even_mixture_of_posteriors_of_its_pseudo_inputs():
    images = jnp.asarray(RNG.uniform(0.1, 0.9, size=(3, 4, 4, 1)), jnp.float32)
    prior = vamp(3, images)
    params = prior.init(KEY, {})
    kernel = jnp.asarray(RNG.normal(size=(16, 4)) / 4, jnp.float32)

    def encode(inputs):
        return jnp.split(inputs.reshape(-1, 16) @ kernel, 2, axis=1)

    means, log_vars = encode(images)  # the sigmoid of what is kept gives the images back
    actual = prior.log_prob(params, encode, jnp.asarray(CODES, jnp.float32), None)
    expected = by_scipy({"means": means, "log_vars": log_vars}, np.full((1, 3), -np.log(3)), CODES)
    np.testing.assert_allclose(actual, expected, rtol=1e-4)
    drawn = np.asarray(prior.sample(params, encode, KEY, jnp.zeros((20_000, 2)), None))
    np.testing.assert_allclose(drawn.mean(axis=0), np.mean(means, axis=0), atol=0.05)
    gradient = jax.grad(lambda p: jnp.sum(prior.log_prob(p, encode, jnp.asarray(CODES, jnp.float32), None)))(params)
    assert np.abs(gradient["pseudo_inputs"]).max() > 1e-3
