"""Convolutional networks: sizes by hand, values against XLA's own convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from genlab.errors import InputError
from genlab.networks.convolutional import ConvDecoder, ConvEncoder

KEY = jax.random.key(0)
NUMBERS = ("NHWC", "HWIO", "NHWC")
IMAGES = np.random.default_rng(0).normal(size=(3, 8, 8, 2)).astype(np.float32)
CODES = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)


def initial(module, x):
    """Variables where no bias is 0 and no scale or variance 1."""
    rng = np.random.default_rng(2)

    def draw(path, leaf):
        values = rng.uniform(-0.5, 0.5, leaf.shape) + (path[-1].key in ("scale", "var"))
        return values.astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes(module, x))


def shapes(module, x):
    return jax.eval_shape(module.init, KEY, x)


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def conv(x, layer):
    y = lax.conv_general_dilated(x, layer["kernel"], (2, 2), "SAME", dimension_numbers=NUMBERS)
    return np.asarray(y) + layer.get("bias", np.float32(0))


def transposed(x, layer):
    """Flax's transposed convolution: the input dilated by the stride, the kernel not flipped."""
    y = lax.conv_transpose(x, layer["kernel"], (2, 2), "SAME", dimension_numbers=NUMBERS)
    return np.asarray(y) + layer.get("bias", np.float32(0))


def dense(x, layer):
    return x @ layer["kernel"] + layer["bias"]


def normalised(x, layer, mean, var):
    return (x - mean) / np.sqrt(var + 1e-5) * layer["scale"] + layer["bias"]


def test_encoder_is_convolutions_then_dense_layers():
    module = ConvEncoder((3, 5), (7,), nn.tanh)
    variables = initial(module, IMAGES)
    params = variables["params"]
    assert set(variables) == {"params"}
    assert count(params) == (16 * 2 * 3 + 3) + (16 * 3 * 5 + 5) + (2 * 2 * 5 * 7 + 7)
    x = np.tanh(conv(np.tanh(conv(IMAGES, params["Conv_0"])), params["Conv_1"]))
    expected = np.tanh(dense(x.reshape(3, -1), params["MLP_0"]["Dense_0"]))
    np.testing.assert_allclose(jax.jit(module.apply)(variables, IMAGES), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("size", "features"), [(28, 7 * 7 * 5), (7, 2 * 2 * 5), (9, 3 * 3 * 5)])
def test_encoder_halves_the_image_rounding_up(size, features):
    module, x = ConvEncoder((3, 5)), jnp.zeros((2, size, size, 1))
    output, variables = jax.eval_shape(lambda x: module.init_with_output(KEY, x), x)
    assert output.shape == (2, features) and count(variables["params"]) == (16 * 3 + 3) + (16 * 3 * 5 + 5)


def test_decoder_is_dense_layers_then_transposed_convolutions():
    module = ConvDecoder((5, 3), (7,), (8, 8, 2), nn.tanh)
    variables = initial(module, CODES)
    params = variables["params"]
    assert set(variables) == {"params"}
    assert count(params) == (4 * 7 + 7) + (7 * 20 + 20) + (16 * 5 * 3 + 3) + (16 * 3 * 2 + 2)
    hidden = np.tanh(dense(CODES, params["MLP_0"]["Dense_0"]))
    x = np.tanh(dense(hidden, params["MLP_0"]["Dense_1"])).reshape(3, 2, 2, 5)
    x = np.tanh(transposed(x, params["ConvTranspose_0"]))
    expected = transposed(x, params["ConvTranspose_1"])  # no activation of the output
    np.testing.assert_allclose(jax.jit(module.apply)(variables, CODES), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 16, 6), (4, 8, 3)])
def test_decoder_makes_images_of_the_shape_asked_for(shape):
    module = ConvDecoder((5, 3), (), shape)
    output, variables = jax.eval_shape(lambda x: module.init_with_output(KEY, x), CODES)
    assert output.shape == (3, *shape) and output.dtype == jnp.float32
    assert variables["params"]["MLP_0"]["Dense_0"]["kernel"].shape == (4, shape[0] * shape[1] // 16 * 5)


def test_decoder_mirrors_the_encoder():
    """The kernels of one are the other's, in reverse order and with the channels' roles exchanged."""
    encoder = shapes(ConvEncoder((3, 5, 7)), jnp.zeros((1, 16, 16, 2)))["params"]
    decoder = shapes(ConvDecoder((7, 5, 3), (), (16, 16, 2)), CODES)["params"]
    down = [encoder[f"Conv_{i}"]["kernel"].shape for i in range(3)]
    up = [decoder[f"ConvTranspose_{i}"]["kernel"].shape for i in range(3)]
    assert down == [(4, 4, 2, 3), (4, 4, 3, 5), (4, 4, 5, 7)]
    assert [(*kernel[:2], kernel[3], kernel[2]) for kernel in reversed(up)] == down


@pytest.mark.parametrize("shape", [(30, 28, 1), (28, 30, 1)])
def test_decoder_refuses_a_shape_it_cannot_double_to(shape):
    with pytest.raises(InputError) as caught:
        shapes(ConvDecoder((5, 3), (), shape), CODES)
    assert str(caught.value) == (
        f"2 transposed convolutions of stride 2 cannot make {shape[0]}x{shape[1]} images; "
        "height and width must be divisible by 4"
    )


def test_encoder_normalises_by_the_batch_in_training_and_by_its_statistics_otherwise():
    module = ConvEncoder((3,), (), nn.tanh, batch_norm=True)
    variables = initial(module, IMAGES)
    layer, past = variables["params"]["BatchNorm_0"], variables["batch_stats"]["BatchNorm_0"]
    assert set(variables["params"]["Conv_0"]) == {"kernel"}  # a bias before the mean is subtracted does nothing
    y = conv(IMAGES, variables["params"]["Conv_0"])
    mean, var = y.mean((0, 1, 2)), y.var((0, 1, 2))

    expected = np.tanh(normalised(y, layer, past["mean"], past["var"])).reshape(3, -1)
    np.testing.assert_allclose(jax.jit(module.apply)(variables, IMAGES), expected, rtol=1e-4, atol=1e-5)

    train = jax.jit(lambda v, x: module.apply(v, x, train=True, mutable=["batch_stats"]))
    output, updated = train(variables, IMAGES)
    np.testing.assert_allclose(output, np.tanh(normalised(y, layer, mean, var)).reshape(3, -1), rtol=1e-4, atol=1e-5)
    now = updated["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(now["mean"], 0.9 * past["mean"] + 0.1 * mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(now["var"], 0.9 * past["var"] + 0.1 * var, rtol=1e-4, atol=1e-6)


def test_decoder_normalises_between_its_convolutions_and_not_its_output():
    module = ConvDecoder((5, 3), (), (8, 8, 1), nn.tanh, batch_norm=True)
    variables = initial(module, CODES)
    params, past = variables["params"], variables["batch_stats"]["BatchNorm_0"]
    assert set(variables["batch_stats"]) == {"BatchNorm_0"}
    assert set(params["ConvTranspose_0"]) == {"kernel"} and set(params["ConvTranspose_1"]) == {"kernel", "bias"}
    x = np.tanh(dense(CODES, params["MLP_0"]["Dense_0"])).reshape(3, 2, 2, 5)
    y = transposed(x, params["ConvTranspose_0"])
    for train, mean, var in ((False, past["mean"], past["var"]), (True, y.mean((0, 1, 2)), y.var((0, 1, 2)))):
        hidden = np.tanh(normalised(y, params["BatchNorm_0"], mean, var))
        apply = jax.jit(lambda v, x, train=train: module.apply(v, x, train=train, mutable=["batch_stats"])[0])
        output = apply(variables, CODES)
        np.testing.assert_allclose(output, transposed(hidden, params["ConvTranspose_1"]), rtol=1e-3, atol=1e-4)


# flax's batch norm subtracts float32 statistics from bfloat16 activations
@jax.numpy_dtype_promotion("standard")
def test_bfloat16_is_of_the_arithmetic_only():
    encoder = lambda dtype: ConvEncoder((3, 5), (7,), nn.relu, True, dtype)
    decoder = lambda dtype: ConvDecoder((5, 3), (7,), (8, 8, 2), nn.relu, True, dtype)
    for network, x in ((encoder, IMAGES), (decoder, CODES)):
        assert shapes(network(jnp.bfloat16), x) == shapes(network(None), x)
    features = jax.eval_shape(lambda x: encoder(jnp.bfloat16).init_with_output(KEY, x)[0], IMAGES)
    assert features.shape == (3, 7) and features.dtype == jnp.bfloat16
    variables = initial(decoder(None), CODES)
    half, full = (jax.jit(decoder(dtype).apply)(variables, CODES) for dtype in (jnp.bfloat16, None))
    assert half.dtype == full.dtype == jnp.float32  # what a likelihood reads
    np.testing.assert_allclose(half, full, rtol=0.05, atol=0.05)
    assert np.any(np.asarray(half) != np.asarray(full))
