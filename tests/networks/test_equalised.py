"""Equalised layers: plain layers of scaled weights, whose steps are scaled as well."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.networks.equalised import EqualisedConv, EqualisedDense

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


def drawn(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


@pytest.mark.parametrize(
    ("layer", "plain", "shape", "fan_in"),
    [
        (EqualisedDense(5, 1.0, 0.01), nn.Dense(5), (3, 7), 7),
        (EqualisedConv(5), nn.Conv(5, (3, 3)), (2, 4, 4, 3), 27),
        (EqualisedConv(5, 1.0, size=1), nn.Conv(5, (1, 1)), (2, 4, 4, 3), 3),
    ],
)
def test_an_equalised_layer_is_a_plain_one_of_scaled_weights(layer, plain, shape, fan_in):
    x = drawn(*shape)
    params = jax.tree.map(lambda leaf: drawn(*leaf.shape), layer.init(KEY, x)["params"])
    scale = layer.gain * layer.rate / math.sqrt(fan_in)
    scaled = {"kernel": scale * params["kernel"], "bias": layer.rate * params["bias"]}
    found = layer.apply({"params": params}, x)
    np.testing.assert_allclose(found, plain.apply({"params": scaled}, x), rtol=1e-5, atol=1e-5)
    # a step of the gradient along c W moves W by c times it, and c W by c^2
    loss = lambda module, params: jnp.sum(jnp.sin(module.apply({"params": params}, x)))
    own = jax.grad(lambda params: loss(layer, params))(params)
    theirs = jax.grad(lambda params: loss(plain, params))(scaled)
    np.testing.assert_allclose(own["kernel"], scale * theirs["kernel"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(own["bias"], layer.rate * theirs["bias"], rtol=1e-4, atol=1e-5)


def test_weights_begin_as_unit_normals_whatever_the_fan_in_and_outputs_keep_their_variance():
    x = drawn(400, 300)
    for layer, deviation in ((EqualisedDense(200, 1.0), 1.0), (EqualisedDense(200, 1.0, 0.01), 100.0)):
        variables = layer.init(KEY, x)
        assert np.std(variables["params"]["kernel"]) == pytest.approx(deviation, rel=0.01)
        assert np.std(layer.apply(variables, x)) == pytest.approx(1.0, rel=0.02)
    layer = EqualisedDense(2, 1.0, 0.1, bias=1.0)
    variables = layer.init(KEY, x)
    np.testing.assert_allclose(variables["params"]["bias"], 10.0)
    np.testing.assert_allclose(layer.apply(variables, jnp.zeros((1, 300))), 1.0, rtol=1e-6)
