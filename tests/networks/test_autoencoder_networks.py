"""Encoder and decoder pairs: values by matrix products in NumPy, parameters counted, the gradient of bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from genlab.networks.autoencoder import EncoderDecoder, TiedAutoencoder, binary_code
from genlab.networks.convolutional import ConvDecoder, ConvEncoder
from genlab.networks.dense import MLP, DenseDecoder
from genlab.networks.variables import apply, init

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(5, 4, 3, 1)).astype(np.float32)
DENSE = EncoderDecoder(MLP((7,), nn.tanh), DenseDecoder((6,), (4, 3, 1), nn.tanh), 2, nn.sigmoid)
TIED = TiedAutoencoder((7, 6, 2), (4, 3, 1), nn.tanh, nn.sigmoid)


def initial(module, x):
    """Parameters whose biases are not zero, so that a lost bias shows."""
    rng = np.random.default_rng(2)
    shapes = jax.eval_shape(module.init, KEY, x)["params"]
    return jax.tree.map(lambda leaf: rng.uniform(-0.5, 0.5, leaf.shape).astype(leaf.dtype), shapes)


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def dense(x, layer):
    return x @ layer["kernel"] + layer["bias"]


def test_a_pair_is_encoder_code_and_decoder():
    params = initial(DENSE, X)
    assert count(params) == (12 * 7 + 7) + (7 * 2 + 2) + (2 * 6 + 6) + (6 * 12 + 12)
    codes, outputs = jax.jit(DENSE.apply)({"params": params}, X)
    features = np.tanh(dense(X.reshape(5, 12), params["encoder"]["Dense_0"]))
    expected = sigmoid(dense(features, params["bottleneck"]))
    np.testing.assert_allclose(codes, expected, rtol=1e-5, atol=1e-6)
    hidden = np.tanh(dense(expected, params["decoder"]["MLP_0"]["Dense_0"]))
    by_hand = dense(hidden, params["decoder"]["Dense_0"]).reshape(X.shape)  # no activation of the output
    np.testing.assert_allclose(outputs, by_hand, rtol=1e-5, atol=1e-6)


def test_a_code_is_linear_unless_said_otherwise():
    module = EncoderDecoder(MLP(()), DenseDecoder((), (4, 3, 1)), 2)
    params = initial(module, X)
    codes, outputs = jax.jit(module.apply)({"params": params}, X)
    expected = dense(X.reshape(5, 12), params["bottleneck"])
    np.testing.assert_allclose(codes, expected, rtol=1e-5, atol=1e-6)
    by_hand = dense(expected, params["decoder"]["Dense_0"]).reshape(X.shape)
    np.testing.assert_allclose(outputs, by_hand, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("module", [DENSE, TIED], ids=["pair", "tied"])
def test_the_call_decodes_what_it_encodes(module):
    params = initial(module, X)
    codes, outputs = apply(module, params, {}, X)[0]
    np.testing.assert_allclose(apply(module, params, {}, X, method="encode")[0], codes, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(apply(module, params, {}, codes, method="decode")[0], outputs, rtol=1e-6, atol=1e-6)
    assert codes.shape == (5, 2) and outputs.shape == X.shape


def test_a_pair_normalises_by_the_batch_in_training_alone():
    x = np.random.default_rng(0).normal(size=(5, 8, 8, 1)).astype(np.float32)
    module = EncoderDecoder(ConvEncoder((3,), batch_norm=True), ConvDecoder((4, 3), (), (8, 8, 1), batch_norm=True), 2)
    run = jax.jit(apply, static_argnums=0, static_argnames="train")
    params, stats = jax.jit(init, static_argnums=0)(module, KEY, x)
    assert set(stats["batch_stats"]) == {"encoder", "decoder"}
    _, after = run(module, params, stats, x, train=True)
    changed = jax.tree.map(lambda a, b: bool(np.any(np.asarray(a) != np.asarray(b))), stats, after)
    assert all(jax.tree.leaves(changed))

    encoder, decoder = ConvEncoder((3,), batch_norm=True), ConvDecoder((4, 3), (), (8, 8, 1), batch_norm=True)
    part = lambda tree, name: {key: value[name] for key, value in tree.items()}
    for train in (False, True):
        features, _ = run(encoder, params["encoder"], part(stats, "encoder"), x, train=train)
        expected_codes = dense(features, params["bottleneck"])
        expected, _ = run(decoder, params["decoder"], part(stats, "decoder"), expected_codes, train=train)
        codes, outputs = run(module, params, stats, x, train=train)[0]
        np.testing.assert_allclose(codes, expected_codes, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)


def test_tied_kernels_are_counted_once():
    params = initial(TIED, X)
    kernels = 12 * 7 + 7 * 6 + 6 * 2
    assert count(params) == kernels + (7 + 6 + 2) + (6 + 7 + 12)
    untied = EncoderDecoder(MLP((7, 6)), DenseDecoder((6, 7), (4, 3, 1)), 2)
    assert count(initial(untied, X)) == count(params) + kernels


def test_the_tied_decoder_is_the_encoder_transposed():
    """W_{N-L+1} = W_L^T, each layer with a bias of its own."""
    params = initial(TIED, X)
    weights = [params[f"kernel_{i}"] for i in range(3)]
    down = [params[f"encoder_bias_{i}"] for i in range(3)]
    up = [params[f"decoder_bias_{i}"] for i in range(3)]
    h = np.tanh(np.tanh(X.reshape(5, 12) @ weights[0] + down[0]) @ weights[1] + down[1])
    codes = sigmoid(h @ weights[2] + down[2])
    h = np.tanh(np.tanh(codes @ weights[2].T + up[2]) @ weights[1].T + up[1])
    outputs = (h @ weights[0].T + up[0]).reshape(X.shape)
    actual = jax.jit(TIED.apply)({"params": params}, X)
    np.testing.assert_allclose(actual[0], codes, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(actual[1], outputs, rtol=1e-5, atol=1e-6)


def test_a_tied_kernel_learns_from_both_of_its_uses():
    """One linear layer: f = |x W W^T - x|^2 / 2 has the gradient x^T r W + r^T x W, with r the residual."""
    module = TiedAutoencoder((2,), (4, 3, 1))
    params = initial(module, X)
    params = {name: value if name == "kernel_0" else np.zeros_like(value) for name, value in params.items()}
    loss = lambda params: 0.5 * jnp.sum(jnp.square(module.apply({"params": params}, X)[1] - X))
    x, w = X.reshape(5, 12).astype(np.float64), np.asarray(params["kernel_0"], np.float64)
    r = x @ w @ w.T - x
    gradient = jax.jit(jax.grad(loss))(params)["kernel_0"]
    np.testing.assert_allclose(gradient, x.T @ r @ w + r.T @ x @ w, rtol=1e-4, atol=1e-4)


def test_bfloat16_is_of_the_arithmetic_only():
    pair = lambda dtype: EncoderDecoder(
        MLP((32,), nn.tanh, dtype), DenseDecoder((32,), (4, 3, 1), nn.tanh, dtype=dtype), 2, dtype=dtype
    )
    tied = lambda dtype: TiedAutoencoder((32, 2), (4, 3, 1), nn.tanh, dtype=dtype)
    for network in (pair, tied):
        params = initial(network(None), X)
        assert jax.eval_shape(network(jnp.bfloat16).init, KEY, X) == jax.eval_shape(network(None).init, KEY, X)
        half, full = (jax.jit(network(d).apply)({"params": params}, X) for d in (jnp.bfloat16, None))
        for a, b in zip(half, full, strict=True):
            assert a.dtype == b.dtype == jnp.float32
            np.testing.assert_allclose(a, b, rtol=0.05, atol=0.1)
            assert np.any(np.asarray(a) != np.asarray(b))


LOGITS = np.array([-100.0, -17.5, -3.0, -1e-3, 0.0, 1e-3, 0.7, 3.0, 17.5, 100.0], np.float32)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, jax.vmap], ids=["eager", "jit", "vmap"])
def test_bits_are_zero_and_one_exactly(transform):
    logits = np.concatenate([LOGITS, np.random.default_rng(0).normal(size=10_000).astype(np.float32) * 3])
    bits = np.asarray(transform(binary_code)(logits))
    np.testing.assert_array_equal(bits, logits > 0)
    assert bits.dtype == np.float32


def test_the_gradient_of_a_bit_is_the_sigmoid_s():
    gradient = jax.vmap(jax.grad(binary_code))(LOGITS)
    p = sigmoid(LOGITS)
    np.testing.assert_allclose(gradient, p * (1 - p), rtol=1e-5, atol=1e-7)
    cotangent = np.arange(10, dtype=np.float32)
    np.testing.assert_allclose(jax.vjp(binary_code, LOGITS)[1](cotangent)[0], cotangent * gradient, rtol=1e-6)
