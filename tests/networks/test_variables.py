"""Linen modules as functions: what moves, what is returned, and when a module is told that it trains."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from genlab.networks.variables import apply, init, takes_train

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32) + 2


class Standardise(nn.Module):
    """x less its mean, over the batch in training and over the past otherwise."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        mean = self.variable("batch_stats", "mean", jnp.zeros, x.shape[-1:])
        if train:
            mean.value = 0.5 * mean.value + 0.5 * jnp.mean(x, axis=0)
        return (x - mean.value) * self.param("scale", nn.initializers.constant(3.0), x.shape[-1:])


def test_takes_train_reads_the_signature_also_of_compact_calls():
    assert takes_train(Standardise())
    assert not takes_train(nn.Dense(1))


def test_init_separates_parameters_from_statistics():
    params, stats = init(Standardise(), KEY, X)
    np.testing.assert_array_equal(params["scale"], [3.0, 3.0, 3.0])
    np.testing.assert_array_equal(stats["batch_stats"]["mean"], [0.0, 0.0, 0.0])
    assert set(params) == {"scale"} and set(stats) == {"batch_stats"}


def test_init_of_modules_without_statistics_or_parameters():
    params, stats = init(nn.Dense(2), KEY, X)
    assert jax.tree.map(jnp.shape, params) == {"kernel": (3, 2), "bias": (2,)} and stats == {}
    assert init(nn.Sequential([nn.relu]), KEY, X) == ({}, {})


def test_apply_updates_statistics_in_training_alone():
    params, stats = init(Standardise(), KEY, X)
    out, after = apply(Standardise(), params, stats, X, train=True)
    np.testing.assert_allclose(after["batch_stats"]["mean"], 0.5 * X.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(out, 3 * (X - 0.5 * X.mean(axis=0)), rtol=1e-5)
    out, still = apply(Standardise(), params, after, X)
    np.testing.assert_allclose(out, 3 * (X - 0.5 * X.mean(axis=0)), rtol=1e-5)
    assert still is after
    np.testing.assert_array_equal(stats["batch_stats"]["mean"], [0.0, 0.0, 0.0])


def test_apply_trains_a_module_that_knows_no_training():
    params, stats = init(nn.Dense(2), KEY, X)
    out, after = apply(nn.Dense(2), params, stats, X, train=True)
    np.testing.assert_allclose(out, X @ np.asarray(params["kernel"]) + params["bias"], rtol=1e-5, atol=1e-5)
    assert after == {}
