"""Linen modules as functions: what moves, what is returned, and when a module is told that it trains."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
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


class TwoWays(nn.Module):
    """A method that trains, one that knows no training, and a call of both."""

    def setup(self):
        self.standardise, self.dense = Standardise(), nn.Dense(2)

    def forth(self, x, train: bool = False):
        return self.standardise(x, train)

    def back(self, x):
        return self.dense(x)

    def __call__(self, x, train: bool = False):
        return self.back(self.forth(x, train))


def test_takes_train_is_asked_of_each_method():
    assert takes_train(TwoWays()) and takes_train(TwoWays(), "forth")
    assert not takes_train(TwoWays(), "back")


def test_apply_of_a_method_updates_the_statistics_that_it_has():
    params, stats = init(TwoWays(), KEY, X)
    forth, after = apply(TwoWays(), params, stats, X, train=True, method="forth")
    mean = np.asarray(after["batch_stats"]["standardise"]["mean"])
    np.testing.assert_allclose(mean, 0.5 * X.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(forth, 3 * (X - mean), rtol=1e-5)
    out, still = apply(TwoWays(), params, stats, X, method="forth")
    np.testing.assert_allclose(out, 3 * X, rtol=1e-5)
    assert still is stats


@pytest.mark.parametrize("train", [False, True])
def test_apply_of_a_method_that_knows_no_training_leaves_the_statistics(train):
    params, stats = init(TwoWays(), KEY, X)
    back, after = apply(TwoWays(), params, stats, X, train=train, method="back")
    dense = params["dense"]
    np.testing.assert_allclose(back, X @ np.asarray(dense["kernel"]) + dense["bias"], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(after["batch_stats"]["standardise"]["mean"], np.zeros(3))
    both, _ = apply(TwoWays(), params, stats, X, train=train)
    forth, _ = apply(TwoWays(), params, stats, X, train=train, method="forth")
    np.testing.assert_allclose(both, apply(TwoWays(), params, stats, forth, method="back")[0], rtol=1e-5)
