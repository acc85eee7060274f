"""The weights that see the input are told from matrices of the same size that do not."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genlab.algorithm import new_player, new_state
from genlab.evaluation.first_layer import incoming_weights
from genlab.models import autoencoder, pca
from genlab.networks import autoencoder as networks
from genlab.networks import dense

KEY = jax.random.key(0)
X = np.random.default_rng(0).random((6, 4, 4, 1)).astype(np.float32)
BATCH = {"x": jnp.asarray(X)}


class Net(nn.Module):
    """Encoders of 4 x 4 images with kernels [16, n] at different places."""

    kind: str

    @nn.compact
    def __call__(self, x):
        flat = x.reshape(len(x), 16)
        if self.kind == "dense":  # the second layer is as tall as the first, and its name comes before
            return nn.Dense(5, name="a")(nn.tanh(nn.Dense(16, name="b")(flat)))
        if self.kind == "convolution":
            return nn.Dense(5)(nn.tanh(nn.Conv(1, (3, 3))(x)).reshape(len(x), 16))
        if self.kind == "two ways":  # no matrix is all that the code sees
            return nn.Dense(5, name="a")(flat) + nn.Dense(5, name="b")(flat)
        if self.kind == "constant":
            return 0 * nn.Dense(5)(flat)
        raise AssertionError(self.kind)


def found(kind, average=False):
    net = Net(kind)
    params = jax.jit(net.init)(KEY, BATCH["x"])
    state = new_state({"net": new_player(params, optax.identity())})
    if average:
        state = dataclasses.replace(state, average={"net": jax.tree.map(lambda leaf: 2 * leaf, params)})
    encode = jax.jit(lambda state, batch, key: net.apply(state.average.get("net", params_of(state)), batch["x"]))
    return incoming_weights(encode, state, BATCH, KEY), params["params"]


def params_of(state):
    return state.players["net"].params


def test_the_first_layer_and_not_one_of_its_size():
    kernel, params = found("dense")
    np.testing.assert_array_equal(kernel, params["b"]["kernel"])
    assert params["a"]["kernel"].shape[0] == 16


def test_the_moving_average_s_where_that_is_used():
    kernel, params = found("dense", average=True)
    np.testing.assert_array_equal(kernel, 2 * params["b"]["kernel"])


@pytest.mark.parametrize("kind", ["convolution", "two ways", "constant"])
def test_there_may_be_none(kind):
    assert found(kind)[0] is None


def trained(algorithm):
    state = jax.jit(algorithm.init)(KEY, BATCH)
    return state, incoming_weights(jax.jit(algorithm.encode), state, BATCH, KEY)


def test_of_the_autoencoders():
    tied = networks.TiedAutoencoder((5, 3), (4, 4, 1))
    state, kernel = trained(autoencoder.autoencoder(tied, optax.sgd(0.1), autoencoder.SIGMOID))
    np.testing.assert_array_equal(kernel, state.players["autoencoder"].params["kernel_0"])
    plain = networks.EncoderDecoder(dense.MLP((7,)), dense.DenseDecoder((16,), (4, 4, 1)), 3)
    state, kernel = trained(autoencoder.autoencoder(plain, optax.sgd(0.1), autoencoder.SIGMOID, ema_decay=0.9))
    np.testing.assert_array_equal(kernel, state.average["autoencoder"]["encoder"]["Dense_0"]["kernel"])


def test_principal_components_are_such_weights():
    algorithm = pca.pca(3)
    state = jax.jit(algorithm.init)(KEY, BATCH)
    state, _ = jax.jit(algorithm.step)(state, BATCH, KEY)
    kernel = incoming_weights(jax.jit(algorithm.encode), state, BATCH, KEY)
    np.testing.assert_array_equal(kernel, state.players["pca"].params["components"])
