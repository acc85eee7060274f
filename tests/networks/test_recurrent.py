"""Recurrent networks against the recursion of the LSTM, written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from genlab.errors import InputError
from genlab.networks.recurrent import SequenceDecoder, SequenceEncoder, recurrent_autoencoder

KEY = jax.random.key(0)
SEQUENCES = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
CODES = np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32)


def initial(module, x):
    """Parameters whose biases are not zero, so that a lost bias shows."""
    rng = np.random.default_rng(2)
    shapes = jax.eval_shape(module.init, KEY, x)["params"]
    return jax.tree.map(lambda leaf: rng.uniform(-0.7, 0.7, leaf.shape).astype(leaf.dtype), shapes)


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def dense(x, layer):
    return x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"], np.float64)


def lstm(x, cell, memory=None, state=None):
    """[B, T, C] -> [B, T, F], one example and one step at a time, in float64; every gate's bias is 1 larger."""
    cell = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), cell)
    outputs = []
    for example, sequence in enumerate(np.asarray(x, np.float64)):
        c = np.zeros(cell["hi"]["bias"].shape) if memory is None else memory[example]
        h = np.zeros(cell["hi"]["bias"].shape) if state is None else state[example]
        steps = []
        for element in sequence:
            gate = {
                g: element @ cell[f"i{g}"]["kernel"] + h @ cell[f"h{g}"]["kernel"] + cell[f"h{g}"]["bias"]
                for g in "ifgo"
            }
            c = sigmoid(gate["f"] + 1) * c + sigmoid(gate["i"] + 1) * np.tanh(gate["g"])
            h = sigmoid(gate["o"] + 1) * np.tanh(c)
            steps.append(h)
        outputs.append(steps)
    return np.array(outputs)


def test_the_encoder_is_the_last_output_of_the_recursion():
    module = SequenceEncoder(6, (7,), nn.tanh)
    params = initial(module, SEQUENCES)
    assert count(params) == 4 * (4 * 6 + 6 * 6 + 6) + (6 * 7 + 7)
    last = lstm(SEQUENCES, params["OptimizedLSTMCell_0"])[:, -1]
    expected = np.tanh(dense(last, params["MLP_0"]["Dense_0"]))
    np.testing.assert_allclose(jax.jit(module.apply)({"params": params}, SEQUENCES), expected, rtol=1e-5, atol=1e-6)


def test_an_image_is_the_sequence_of_its_rows():
    module = SequenceEncoder(6)
    params = initial(module, SEQUENCES)
    of_rows = module.apply({"params": params}, SEQUENCES)
    of_image = module.apply({"params": params}, SEQUENCES.reshape(3, 5, 2, 2))
    np.testing.assert_array_equal(of_image, of_rows)
    assert of_rows.shape == (3, 6)


@pytest.mark.parametrize("shape", [(5, 4), (5, 2, 2)])
def test_the_decoder_writes_from_the_last_element_to_the_first(shape):
    module = SequenceDecoder(6, (7,), shape, nn.tanh)
    params = initial(module, CODES)
    assert count(params) == (2 * 7 + 7) + 2 * (7 * 6 + 6) + 4 * (7 * 6 + 6 * 6 + 6) + (6 * 4 + 4)
    hidden = np.tanh(dense(CODES, params["MLP_0"]["Dense_0"]))
    memory, state = dense(hidden, params["memory"]), np.tanh(dense(hidden, params["state"]))
    states = lstm(np.repeat(hidden[:, None], 5, axis=1), params["OptimizedLSTMCell_0"], memory, state)[:, ::-1]
    expected = dense(states, params["element"]).reshape(3, *shape)
    outputs = jax.jit(module.apply)({"params": params}, CODES)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 4), (5, 2, 2)])
def test_the_autoencoder_is_encoder_code_and_decoder(shape):
    x = SEQUENCES.reshape(3, *shape)
    module = recurrent_autoencoder(6, 2, shape, (8, 7), nn.tanh, code=nn.sigmoid)
    params = initial(module, x)
    assert params["encoder"]["MLP_0"]["Dense_1"]["kernel"].shape == (8, 7)
    assert params["decoder"]["MLP_0"]["Dense_0"]["kernel"].shape == (2, 7)
    codes, outputs = jax.jit(module.apply)({"params": params}, x)
    features = jax.jit(SequenceEncoder(6, (8, 7), nn.tanh).apply)({"params": params["encoder"]}, x)
    np.testing.assert_allclose(codes, sigmoid(dense(features, params["bottleneck"])), rtol=1e-5, atol=1e-6)
    expected = jax.jit(SequenceDecoder(6, (7, 8), shape, nn.tanh).apply)({"params": params["decoder"]}, codes)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    method = lambda name, x: jax.jit(lambda params, x: module.apply({"params": params}, x, method=name))(params, x)
    np.testing.assert_allclose(method("encode", x), codes, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(method("decode", codes), outputs, rtol=1e-5, atol=1e-6)
    assert codes.shape == (3, 2) and outputs.shape == x.shape


def test_the_gradient_reaches_the_first_element_and_every_parameter():
    """Against central differences of the recursion in float64."""
    module = SequenceEncoder(3)
    params = initial(module, SEQUENCES)
    weights = np.random.default_rng(3).normal(size=(3, 3))
    loss = lambda params, x: jnp.sum(weights.astype(np.float32) * module.apply({"params": params}, x))
    in_params, in_x = jax.jit(jax.grad(loss, (0, 1)))(params, SEQUENCES)

    def by_hand(params, x):
        return np.sum(weights * lstm(x, params["OptimizedLSTMCell_0"])[:, -1])

    rng, step = np.random.default_rng(4), 1e-5
    for direction in range(3):
        x_way = rng.normal(size=SEQUENCES.shape) * (np.arange(5)[:, None] == direction)
        way = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), params)
        move = lambda t: by_hand(jax.tree.map(lambda p, w: p + t * w, params, way), SEQUENCES + t * x_way)
        slope = (move(step) - move(-step)) / (2 * step)
        products = jax.tree.map(lambda g, w: np.vdot(np.asarray(g), w), in_params, way)
        expected = np.vdot(np.asarray(in_x), x_way) + sum(jax.tree.leaves(products))
        assert slope == pytest.approx(expected, rel=1e-3, abs=1e-4)


# the memory is float32 where the gates are bfloat16
@jax.numpy_dtype_promotion("standard")
def test_bfloat16_is_of_the_arithmetic_only():
    network = lambda dtype: recurrent_autoencoder(16, 2, (5, 4), dtype=dtype)
    params = initial(network(None), SEQUENCES)
    assert jax.tree.map(jnp.shape, initial(network(jnp.bfloat16), SEQUENCES)) == jax.tree.map(jnp.shape, params)
    half, full = (jax.jit(network(d).apply)({"params": params}, SEQUENCES) for d in (jnp.bfloat16, None))
    for a, b in zip(half, full, strict=True):
        assert a.dtype == b.dtype == jnp.float32
        np.testing.assert_allclose(a, b, rtol=0.05, atol=0.1)
        assert np.any(np.asarray(a) != np.asarray(b))


def test_points_are_no_sequences():
    with pytest.raises(InputError) as caught:
        SequenceEncoder(6).init(KEY, CODES)
    assert str(caught.value) == "a sequence must be [B, T, C] or an image [B, H, W, C], got (3, 2)"
    with pytest.raises(InputError) as caught:
        SequenceDecoder(6, (), (4,)).init(KEY, CODES)
    assert str(caught.value) == "a sequence's shape must be (T, C) or (H, W, C), got (4,)"
