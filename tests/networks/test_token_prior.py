"""The prior over tokens: it is a distribution, looks only back, and its samples are distributed as it says."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.networks.token_prior import TokenPrior, raster_lags, sample_tokens

KEY = jax.random.key(0)


def random_prior(num_tokens, length, scale=1.0, **options):
    """A prior whose parameters are large enough for every input to count."""
    prior = TokenPrior(num_tokens, length, features=5, embedding=4, **options)
    shapes = jax.eval_shape(prior.init, KEY, jnp.zeros((1, length), jnp.int32))["params"]
    rng = np.random.default_rng(0)
    return prior, jax.tree.map(lambda leaf: (scale * rng.normal(size=leaf.shape)).astype(np.float32), shapes)


def log_probs(prior, params, tokens):
    """f64[B, T], log p(k_t | k_<t)."""
    logits = np.asarray(jax.jit(prior.apply)({"params": params}, jnp.asarray(tokens, jnp.int32)), np.float64)
    normal = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return np.take_along_axis(normal, np.asarray(tokens)[..., None], axis=-1)[..., 0]


def all_sequences(num_tokens, length):
    return np.array(list(itertools.product(range(num_tokens), repeat=length)))


@pytest.mark.parametrize(
    ("num_tokens", "length", "lags"), [(2, 3, (1,)), (3, 3, (1, 2)), (2, 4, (1, 3, 4, 5)), (3, 1, (1,))]
)
def test_probabilities_of_all_sequences_sum_to_one(num_tokens, length, lags):
    prior, params = random_prior(num_tokens, length, lags=lags)
    probability = np.exp(log_probs(prior, params, all_sequences(num_tokens, length)).sum(axis=1))
    assert probability.shape == (num_tokens**length,) and probability.max() > 1.2 / len(probability)
    np.testing.assert_allclose(probability.sum(), 1.0, rtol=1e-5)


@pytest.mark.parametrize("lags", [(1,), (1, 3)])
def test_logits_see_all_tokens_before_them_and_no_others(lags):
    prior, params = random_prior(4, 6, lags=lags)
    apply = jax.jit(prior.apply)
    tokens = np.array([[0, 3, 1, 2, 0, 1]], np.int32)
    logits = np.asarray(apply({"params": params}, tokens))
    for place in range(6):
        other = tokens.copy()
        other[0, place] = (tokens[0, place] + 1) % 4
        moved = np.abs(np.asarray(apply({"params": params}, other)) - logits)[0].max(axis=-1)
        np.testing.assert_array_equal(moved[: place + 1], np.zeros(place + 1))
        assert np.all(moved[place + 1 :] > 1e-6)


@pytest.mark.parametrize("lags", [(1,), (1, 2, 4)])
def test_steps_one_by_one_give_the_logits_of_the_whole(lags):
    prior, params = random_prior(3, 5, lags=lags)
    tokens = np.random.default_rng(1).integers(0, 3, (7, 5)).astype(np.int32)
    carry = (jnp.zeros((7, 5)), jnp.zeros((7, 5)))
    padded = np.concatenate([np.full((7, max(lags)), 3, np.int32), tokens], axis=1)
    advance = jax.jit(lambda *arguments: prior.apply({"params": params}, *arguments, method="advance"))
    logits = []
    for place in range(5):
        carry, each = advance(carry, padded[:, place : place + max(lags)], jnp.int32(place))
        logits.append(each)
    whole = jax.jit(prior.apply)({"params": params}, tokens)
    assert whole.shape == (7, 5, 3) and whole.dtype == jnp.float32
    np.testing.assert_allclose(np.stack(logits, axis=1), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("num_tokens", "lags"), [(2, (1,)), (3, (1, 2))])
def test_samples_are_distributed_as_the_probabilities_say(num_tokens, lags):
    prior, params = random_prior(num_tokens, 3, lags=lags)
    sequences, num = all_sequences(num_tokens, 3), 40_000
    expected = np.exp(log_probs(prior, params, sequences).sum(axis=1))
    drawn = np.asarray(jax.jit(lambda key: sample_tokens(prior, params, key, num))(KEY))
    assert drawn.shape == (num, 3) and drawn.dtype == np.int32
    place_values = num_tokens ** np.arange(2, -1, -1)
    shares = np.bincount(drawn @ place_values, minlength=len(sequences)) / num
    assert np.all(np.abs(shares - expected) < 5 * np.sqrt(expected * (1 - expected) / num))
    assert np.ptp(expected) > 0.1  # or a uniform sampler would pass


def test_the_lags_of_a_raster_are_left_and_the_three_above():
    width = 7
    row, column = 3, 2
    place = row * width + column
    neighbours = {row * width + column - 1, *((row - 1) * width + column + step for step in (-1, 0, 1))}
    assert {place - lag for lag in raster_lags(width)} == neighbours
    assert raster_lags(2) == (1, 2, 3) and raster_lags(1) == (1, 2)


@jax.numpy_dtype_promotion("standard")  # the memory is float32 where the gates are bfloat16
def test_bfloat16_is_of_the_arithmetic_only():
    prior, params = random_prior(3, 4, scale=0.3)
    half, _ = random_prior(3, 4, dtype=jnp.bfloat16)
    tokens = all_sequences(3, 4).astype(np.int32)
    full, rounded = (jax.jit(p.apply)({"params": params}, tokens) for p in (prior, half))
    assert rounded.dtype == jnp.float32
    np.testing.assert_allclose(rounded, full, atol=0.05)
    assert np.any(np.asarray(rounded) != np.asarray(full))
    assert jax.eval_shape(lambda: sample_tokens(half, params, KEY, 2)).shape == (2, 4)
