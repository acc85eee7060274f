"""The causal transformer: what depends on what, probabilities of all sequences, and sampling with kept keys."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.networks.transformer import Block, CausalTransformer, sample_tokens

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
SMALL = CausalTransformer(3, 5, features=8, num_layers=2, num_heads=2)


def drawn(module, *inputs, scale=0.5):
    """Parameters of random numbers."""
    shapes = jax.eval_shape(module.init, KEY, *inputs)["params"]
    leaves, tree = jax.tree.flatten(shapes)
    return tree.unflatten([jnp.asarray(scale * RNG.normal(size=leaf.shape), jnp.float32) for leaf in leaves])


def categorical(key, logits):
    return jax.random.categorical(key, logits).astype(jnp.int32)


def test_attention_is_the_softmax_of_scaled_products_over_what_came_before():
    block, x = Block(6, 2), jnp.asarray(RNG.normal(size=(1, 4, 6)), jnp.float32)
    params = drawn(block, x)
    found = np.asarray(block.apply({"params": params}, x), np.float64)[0]
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    affine = lambda name, x: x @ p[name]["kernel"] + p[name]["bias"]

    def norm(name, x):
        x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)
        return x * p[name]["scale"] + p[name]["bias"]

    x = np.asarray(x, np.float64)[0]
    q, k, v = np.split(affine("queries_keys_values", norm("norms_0", x)), 3, axis=-1)
    mixed = np.zeros((4, 6))
    for head, t in itertools.product(range(2), range(4)):
        own = slice(3 * head, 3 * head + 3)
        weights = np.exp(k[: t + 1, own] @ q[t, own] / np.sqrt(3))
        mixed[t, own] = weights @ v[: t + 1, own] / weights.sum()
    y = x + affine("mix", mixed)
    hidden = affine("widen", norm("norms_1", y))
    gelu = 0.5 * hidden * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)))
    np.testing.assert_allclose(found, y + affine("narrow", gelu), rtol=1e-4, atol=1e-4)


def test_logits_depend_on_the_tokens_before_and_on_all_of_them():
    tokens = jnp.asarray(RNG.integers(0, 3, (1, 5)), jnp.int32)
    params = drawn(SMALL, tokens)
    logits = SMALL.apply({"params": params}, tokens)[0]
    for place in range(5):
        other = tokens.at[0, place].set((tokens[0, place] + 1) % 3)
        moved = np.abs(SMALL.apply({"params": params}, other)[0] - logits).max(axis=-1) > 1e-6
        np.testing.assert_array_equal(moved, np.arange(5) > place)


def test_probabilities_of_all_sequences_add_up_to_one():
    tokens = jnp.asarray(list(itertools.product(range(3), repeat=5)), jnp.int32)
    params = drawn(SMALL, tokens)
    log_probs = jax.nn.log_softmax(SMALL.apply({"params": params}, tokens))
    each = jnp.take_along_axis(log_probs, tokens[..., None], axis=-1)[..., 0].sum(axis=1)
    assert jnp.exp(each).sum() == pytest.approx(1.0, abs=1e-5) and each.std() > 0.1


@pytest.mark.parametrize("with_context", [False, True])
def test_sampling_with_kept_keys_is_sampling_by_whole_passes(with_context):
    known = jnp.zeros((6, 5), jnp.int32)
    context = jnp.eye(6, 2) if with_context else None
    params = drawn(SMALL, known, context)
    fast = jax.jit(lambda: sample_tokens(SMALL, params, categorical, KEY, known, 0, context))()
    slow = known
    for place in range(5):
        logits = SMALL.apply({"params": params}, slow, context)[:, place]
        slow = slow.at[:, place].set(categorical(jax.random.fold_in(KEY, place), logits))
    np.testing.assert_array_equal(fast, slow)
    assert len(np.unique(fast, axis=0)) > 1
    if with_context:
        other = SMALL.apply({"params": params}, known, context[::-1])
        assert np.all(np.abs(other - SMALL.apply({"params": params}, known, context)).max(axis=(1, 2))[[0, 1]] > 1e-6)


def test_a_prompt_stays_and_what_follows_is_drawn_given_it():
    known = jnp.tile(jnp.array([[2, 0, 1, 0, 0]], jnp.int32), (6_000, 1))
    params = drawn(SMALL, known[:1])
    drawn_tokens = jax.jit(lambda: sample_tokens(SMALL, params, categorical, KEY, known, 3))()
    np.testing.assert_array_equal(drawn_tokens[:, :3], known[:, :3])
    expected = jax.nn.softmax(SMALL.apply({"params": params}, known[:1])[0, 3])
    np.testing.assert_allclose(np.bincount(drawn_tokens[:, 3], minlength=3) / 6_000, expected, atol=0.03)
