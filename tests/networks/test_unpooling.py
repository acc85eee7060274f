"""The what-where autoencoder: both ways by loops in NumPy, and what its code holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from genlab.errors import InputError
from genlab.networks.unpooling import UnpoolingAutoencoder

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(2, 8, 12, 2)).astype(np.float32)
NETWORK = UnpoolingAutoencoder((3, 5), (7,), 4, (8, 12, 2), nn.tanh, code=nn.sigmoid)
WHERE = (4 * 6 * 3, 2 * 3 * 5)  # maxima of the first and of the second pooling


def initial(module, x):
    """Parameters whose biases are not zero, so that a lost bias shows."""
    rng = np.random.default_rng(2)
    shapes = jax.eval_shape(module.init, KEY, x)["params"]
    return jax.tree.map(lambda leaf: rng.uniform(-0.5, 0.5, leaf.shape).astype(leaf.dtype), shapes)


PARAMS = initial(NETWORK, X)
run = jax.jit(lambda params, x: NETWORK.apply({"params": params}, x))
encode = jax.jit(lambda params, x: NETWORK.apply({"params": params}, x, method="encode"))
decode = jax.jit(lambda params, codes: NETWORK.apply({"params": params}, codes, method="decode"))


def conv(x, layer):
    y = lax.conv_general_dilated(x, layer["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return np.asarray(y) + layer["bias"]


def dense(x, layer):
    return x @ layer["kernel"] + layer["bias"]


def pool(x):
    """Maxima of 2x2 windows, and which of the four pixels each was."""
    n, height, width, channels = x.shape
    windows = x.reshape(n, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 5, 2, 4)
    windows = windows.reshape(n, height // 2, width // 2, channels, 4)
    return windows.max(-1), windows.argmax(-1)


def unpool(values, corners):
    n, height, width, channels = values.shape
    out = np.zeros((n, 2 * height, 2 * width, channels), np.float32)
    for m, i, j, c in np.ndindex(values.shape):
        corner = corners[m, i, j, c]
        out[m, 2 * i + corner // 2, 2 * j + corner % 2, c] = values[m, i, j, c]
    return out


def encode_by_hand(params, x):
    places = []
    for i in range(2):
        x, corners = pool(conv(x, params[f"down_{i}"]))
        x = np.tanh(x)
        places.append(corners.reshape(len(x), -1))
    hidden = np.tanh(dense(x.reshape(len(x), -1), params["dense_down"]["Dense_0"]))
    what = 1 / (1 + np.exp(-dense(hidden, params["bottleneck"])))
    return np.concatenate([what, *places], axis=1)


def decode_by_hand(params, codes):
    what, first, second = np.split(codes, [4, 4 + WHERE[0]], axis=1)
    hidden = np.tanh(dense(what, params["dense_up"]["Dense_0"]))
    x = np.tanh(dense(hidden, params["dense_up"]["Dense_1"])).reshape(-1, 2, 3, 5)
    x = np.tanh(conv(unpool(x, second.reshape(x.shape).astype(int)), params["up_0"]))
    return conv(unpool(x, first.reshape(x.shape).astype(int)), params["up_1"])


def test_sizes():
    sizes = jax.tree.map(lambda leaf: leaf.size, PARAMS)
    convolutions = (9 * 2 * 3 + 3) + (9 * 3 * 5 + 5) + (9 * 5 * 3 + 3) + (9 * 3 * 2 + 2)
    layers = (30 * 7 + 7) + (7 * 4 + 4) + (4 * 7 + 7) + (7 * 30 + 30)
    assert sum(jax.tree.leaves(sizes)) == convolutions + layers
    codes, outputs = run(PARAMS, X)
    assert codes.shape == (2, 4 + sum(WHERE)) and outputs.shape == X.shape
    assert codes.dtype == outputs.dtype == jnp.float32


def test_the_code_is_what_and_then_where():
    codes, expected = encode(PARAMS, X), encode_by_hand(PARAMS, X)
    np.testing.assert_allclose(codes[:, :4], expected[:, :4], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(codes[:, 4:], expected[:, 4:])
    assert set(np.unique(codes[:, 4:])) == {0.0, 1.0, 2.0, 3.0}


def test_the_decoder_puts_values_back_where_the_code_says():
    codes = np.asarray(encode(PARAMS, X))
    np.testing.assert_allclose(decode(PARAMS, codes), decode_by_hand(PARAMS, codes), rtol=1e-4, atol=1e-5)
    elsewhere = np.concatenate([codes[:, :4], 3 - codes[:, 4:]], axis=1)
    np.testing.assert_allclose(decode(PARAMS, elsewhere), decode_by_hand(PARAMS, elsewhere), rtol=1e-4, atol=1e-5)
    assert np.abs(decode(PARAMS, elsewhere) - decode(PARAMS, codes)).max() > 0.1


def test_the_call_is_both():
    codes, outputs = run(PARAMS, X)
    np.testing.assert_allclose(codes, encode(PARAMS, X), rtol=1e-6)
    np.testing.assert_allclose(outputs, decode(PARAMS, codes), rtol=1e-5, atol=1e-6)


def test_places_between_the_corners_go_to_the_nearest():
    codes = np.asarray(encode(PARAMS, X))
    shaken = codes.copy()
    shaken[:, 4:] += np.random.default_rng(3).uniform(-0.45, 0.45, shaken[:, 4:].shape)
    np.testing.assert_array_equal(decode(PARAMS, shaken), decode(PARAMS, codes))
    outside = np.where(np.arange(codes.shape[1]) < 4, codes, codes * 9 - 9)
    inside = np.where(np.arange(codes.shape[1]) < 4, codes, np.where(codes > 1.5, 3, np.where(codes > 0.5, 0, 0)))
    np.testing.assert_array_equal(decode(PARAMS, outside), decode(PARAMS, inside.astype(np.float32)))


def test_only_what_has_a_gradient():
    weights = np.random.default_rng(3).normal(size=(2, 4 + sum(WHERE))).astype(np.float32)
    gradient = jax.jit(jax.grad(lambda x, w: jnp.sum(w * NETWORK.apply({"params": PARAMS}, x, method="encode"))))
    assert not np.any(gradient(X, weights * (np.arange(weights.shape[1]) >= 4)))
    assert np.any(gradient(X, weights * (np.arange(weights.shape[1]) < 4)))


def test_the_gradient_of_every_parameter_is_that_of_finite_differences():
    loss = lambda params, x: 0.5 * jnp.mean(jnp.square(NETWORK.apply({"params": params}, x)[1] - x))
    gradients = jax.jit(jax.grad(loss))(PARAMS, X)

    def by_hand(params):
        return 0.5 * np.mean(np.square(decode_by_hand(params, encode_by_hand(params, X)) - X))

    rng, step = np.random.default_rng(4), 1e-3  # small enough that no maximum moves to another pixel
    for name, gradient in jax.tree.leaves_with_path(gradients):
        way = rng.normal(size=gradient.shape).astype(np.float32)
        way *= np.sign(np.vdot(way, gradient)) * step / np.linalg.norm(way)
        move = lambda sign: jax.tree_util.tree_map_with_path(
            lambda path, leaf: leaf + sign * way if path == name else leaf, PARAMS
        )
        slope = by_hand(move(1)) - by_hand(move(-1))
        assert slope == pytest.approx(2 * np.vdot(way, gradient), rel=0.05, abs=3e-7), name


def test_one_pooling_and_no_hidden_layers():
    module = UnpoolingAutoencoder((3,), (), 4, (6, 4, 1))
    codes, outputs = jax.eval_shape(lambda x: module.init_with_output(KEY, x)[0], jnp.zeros((2, 6, 4, 1)))
    assert codes.shape == (2, 4 + 3 * 2 * 3) and outputs.shape == (2, 6, 4, 1)


def test_members_of_a_population():
    second = jax.tree.map(lambda leaf: -leaf, PARAMS)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), PARAMS, second)
    codes, outputs = jax.jit(jax.vmap(NETWORK.apply, in_axes=({"params": 0}, None)))({"params": stacked}, X)
    for member, params in enumerate((PARAMS, second)):
        np.testing.assert_allclose(codes[member], run(params, X)[0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(outputs[member], run(params, X)[1], rtol=1e-4, atol=1e-5)


def test_bfloat16_is_of_the_arithmetic_only():
    network = lambda dtype: UnpoolingAutoencoder((3, 5), (7,), 4, (8, 12, 2), nn.tanh, dtype)
    assert jax.eval_shape(network(jnp.bfloat16).init, KEY, X) == jax.eval_shape(network(None).init, KEY, X)
    codes = encode(PARAMS, X)
    half, full = (
        jax.jit(lambda codes, d=dtype: network(d).apply({"params": PARAMS}, codes, method="decode"))(codes)
        for dtype in (jnp.bfloat16, None)
    )
    assert half.dtype == full.dtype == jnp.float32
    np.testing.assert_allclose(half, full, rtol=0.05, atol=0.1)
    assert np.any(np.asarray(half) != np.asarray(full))
    codes = jax.eval_shape(lambda x: network(jnp.bfloat16).apply({"params": PARAMS}, x, method="encode"), X)
    assert codes.dtype == jnp.float32


@pytest.mark.parametrize(
    ("channels", "shape", "message"),
    [
        (
            (3, 5),
            (6, 8, 1),
            "2 poolings of 2x2 cannot halve 6x8 images; height and width must be divisible by 4",
        ),
        (
            (3, 5, 7),
            (8, 12, 1),
            "3 poolings of 2x2 cannot halve 8x12 images; height and width must be divisible by 8",
        ),
        ((), (8, 8, 1), "channels must name one convolution at least, got ()"),
    ],
)
def test_impossible_sizes_are_refused(channels, shape, message):
    with pytest.raises(InputError) as caught:
        UnpoolingAutoencoder(channels, (), 4, shape).init(KEY, jnp.zeros((1, *shape)))
    assert str(caught.value) == message


def test_codes_of_another_size_are_refused():
    with pytest.raises(InputError) as caught:
        NETWORK.apply({"params": PARAMS}, jnp.zeros((1, 4)), method="decode")
    assert str(caught.value) == "a code of this network has 106 numbers, what and where, got 4"
