"""Dense networks: sizes by hand, values by matrix products in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from genlab.networks.dense import MLP, DenseDecoder, GaussianHead, SharedVariance

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).normal(size=(2, 4, 3, 1)).astype(np.float32)


def initial(module, x):
    """Parameters whose biases are not zero, so that a lost bias shows."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(module.init, KEY, x).get("params", {})
    return jax.tree.map(lambda leaf: rng.uniform(-0.5, 0.5, leaf.shape).astype(leaf.dtype), shapes)


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def by_hand(layer, x):
    return np.asarray(x, np.float64) @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"], np.float64)


@pytest.mark.parametrize("shape", [(2, 12), (2, 4, 3, 1), (2, 2, 6)])
def test_mlp_flattens_row_by_row_and_activates_every_layer(shape):
    module, x = MLP((5, 7), nn.tanh), IMAGES.reshape(shape)
    params = initial(module, x)
    assert count(params) == 12 * 5 + 5 + 5 * 7 + 7
    expected = np.tanh(by_hand(params["Dense_1"], np.tanh(by_hand(params["Dense_0"], IMAGES.reshape(2, 12)))))
    np.testing.assert_allclose(jax.jit(module.apply)({"params": params}, x), expected, rtol=1e-5, atol=1e-6)


def test_mlp_without_layers_only_flattens():
    assert initial(MLP(()), IMAGES) == {}
    np.testing.assert_array_equal(MLP(()).apply({}, IMAGES), IMAGES.reshape(2, 12))


def test_gaussian_head_gives_the_mean_and_then_the_log_variance():
    module = GaussianHead(MLP((5,), nn.relu), 3)
    params = initial(module, IMAGES)
    assert count(params) == 12 * 5 + 5 + 5 * 6 + 6
    mean, log_var = jax.jit(module.apply)({"params": params}, IMAGES)
    both = by_hand(params["Dense_0"], np.maximum(by_hand(params["trunk"]["Dense_0"], IMAGES.reshape(2, 12)), 0))
    np.testing.assert_allclose(mean, both[:, :3], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(log_var, both[:, 3:], rtol=1e-5, atol=1e-6)


def test_gaussian_head_bounds_the_log_variance_of_inputs_far_from_all_others():
    module = GaussianHead(MLP(()), 3)
    params = initial(module, IMAGES)
    mean, log_var = module.apply({"params": params}, 1e4 * IMAGES)
    assert np.abs(mean).max() > 100 and set(np.unique(log_var)) == {-30.0, 30.0}


class Telltale(nn.Module):
    """Features that say whether the network trains."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        return jnp.full((x.shape[0], 1), float(train))


def test_gaussian_head_tells_its_trunk_that_it_trains():
    module = GaussianHead(Telltale(), 2)
    params = initial(module, IMAGES)
    kernel, bias = np.asarray(params["Dense_0"]["kernel"]), np.asarray(params["Dense_0"]["bias"])
    for train in (False, True):
        mean, log_var = module.apply({"params": params}, IMAGES, train=train)
        expected = np.tile(train * kernel[0] + bias, (2, 1))
        np.testing.assert_allclose(np.concatenate([mean, log_var], axis=1), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(4, 3, 2), (2,)])
def test_dense_decoder_has_the_shape_of_the_event(shape):
    module, codes, size = DenseDecoder((5,), shape, nn.tanh), IMAGES.reshape(2, 12)[:, :3], int(np.prod(shape))
    params = initial(module, codes)
    assert count(params) == 3 * 5 + 5 + 5 * size + size
    hidden = np.tanh(by_hand(params["MLP_0"]["Dense_0"], codes))
    expected = by_hand(params["Dense_0"], hidden).reshape(2, *shape)  # no activation of the output
    np.testing.assert_allclose(jax.jit(module.apply)({"params": params}, codes), expected, rtol=1e-5, atol=1e-6)


def test_dense_decoder_starts_from_its_output_bias():
    start = lambda key, shape, dtype=jnp.float32: jnp.arange(6, dtype=dtype).reshape(shape)
    module = DenseDecoder((4,), (3, 2), bias_init=start)
    variables = jax.jit(module.init)(KEY, jnp.zeros((1, 2)))
    np.testing.assert_allclose(module.apply(variables, jnp.zeros((1, 2)))[0], np.arange(6.0).reshape(3, 2))


def test_bfloat16_is_of_the_arithmetic_only():
    """Parameters and outputs stay float32; values differ from float32's by bfloat16's 8 bits and not by nothing."""
    codes = IMAGES.reshape(2, 12)
    for network in (
        lambda dtype: GaussianHead(MLP((64,), nn.relu, dtype), 3, dtype),
        lambda dtype: DenseDecoder((64,), (4, 2), nn.relu, dtype=dtype),
    ):
        assert jax.eval_shape(network(jnp.bfloat16).init, KEY, codes) == jax.eval_shape(network(None).init, KEY, codes)
        params = initial(network(None), codes)
        half, full = (jnp.stack(jax.jit(network(d).apply)({"params": params}, codes)) for d in (jnp.bfloat16, None))
        assert half.dtype == full.dtype == jnp.float32
        np.testing.assert_allclose(half, full, rtol=0.05, atol=0.1)
        assert np.any(np.asarray(half) != np.asarray(full))
    trunk = MLP((64,), nn.relu, jnp.bfloat16)
    assert jax.eval_shape(lambda x: trunk.init_with_output(KEY, x)[0], codes).dtype == jnp.bfloat16


def test_glu_gates_one_half_of_a_layer_by_the_other():
    module = MLP((5,), nn.glu)
    params = initial(module, IMAGES)
    assert count(params) == 12 * 10 + 10
    value, gate = np.split(by_hand(params["Dense_0"], IMAGES.reshape(2, 12)), 2, axis=1)
    np.testing.assert_allclose(module.apply({"params": params}, IMAGES), value / (1 + np.exp(-gate)), rtol=1e-5)


def test_shared_variance_stands_beside_every_mean():
    module = SharedVariance(DenseDecoder((), (4, 3, 1)))
    codes = IMAGES.reshape(2, 12)[:, :5]
    params = initial(module, codes)
    assert count(params) == 5 * 12 + 12 + 1
    outputs = np.asarray(module.apply({"params": params}, codes))
    assert outputs.shape == (2, 4, 3, 2)
    np.testing.assert_allclose(outputs[..., 0].reshape(2, 12), by_hand(params["network"]["Dense_0"], codes), rtol=1e-5)
    np.testing.assert_array_equal(outputs[..., 1], np.broadcast_to(params["log_var"], (2, 4, 3)))
