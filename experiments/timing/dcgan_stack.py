"""The networks of a DCGAN for 28x28 images end to end: what convolutions cost, forward, backward and Adam.

Radford et al. 2016 at the size of MNIST: the discriminator's two strided 5x5 convolutions, a code, the
generator's two transposed ones, trained as an autoencoder so that one step passes through all of them.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import optax

from genlab.algorithm import Algorithm, Array, Batch, Key, Metrics, PyTree, State, descend, new_player, new_state
from genlab.losses.reconstruction import squared_error
from genlab.networks.conv import Conv, ConvTranspose
from genlab.networks.variables import apply, init


class Stack(nn.Module):
    """28x28x1 - 14x14x64 - 7x7x128 - 100 - 7x7x128 - 14x14x64 - 28x28x1.

    Attributes:
        dtype: of the arithmetic; the output is float32.
    """

    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """f32[B, 28, 28, 1] in [-1, 1] -> the same."""
        same = ((2, 2), (2, 2))  # PyTorch's padding=2; "SAME" is ((1, 2), (1, 2))
        transposed = ((2, 3), (2, 3))  # PyTorch's padding=2, output_padding=1
        conv = functools.partial(Conv, kernel_size=(5, 5), strides=(2, 2), padding=same, dtype=self.dtype)
        up = functools.partial(ConvTranspose, kernel_size=(5, 5), strides=(2, 2), padding=transposed, dtype=self.dtype)
        x = nn.leaky_relu(conv(64)(x), 0.2)
        x = nn.leaky_relu(conv(128)(x), 0.2)
        codes = nn.Dense(100, dtype=self.dtype)(x.reshape(x.shape[0], -1))  # [B, D]
        x = nn.relu(nn.Dense(7 * 7 * 128, dtype=self.dtype)(codes)).reshape(-1, 7, 7, 128)  # [B, H, W, C]
        x = nn.relu(up(64)(x))
        return jnp.tanh(up(1)(x).astype(jnp.float32))


def stack(dtype: Any = None) -> Algorithm:
    """`Stack` under squared error, Adam 2e-4 with b1 = 0.5; it can init and step, no more."""
    net, tx = Stack(dtype), optax.adam(2e-4, b1=0.5)

    def start(key: Key, batch: Batch) -> State:
        return new_state({"stack": new_player(init(net, key, batch["x"])[0], tx)})

    def errors(params: PyTree, batch: Batch) -> Array:  # f32[B]
        x = 2.0 * batch["x"] - 1.0
        output, _ = apply(net, params, {}, x)
        return squared_error(x, output)

    def step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        del key

        def loss_fn(params: PyTree, stats: PyTree) -> tuple[Array, tuple[PyTree, None]]:
            return jnp.mean(errors(params, batch)), (stats, None)

        player, loss, _ = descend(state.players["stack"], tx, loss_fn)
        return dataclasses.replace(state, step=state.step + 1, players={"stack": player}), {"loss": loss}

    def evaluate(state: State, batch: Batch, key: Key) -> dict[str, Array]:
        del key
        return {"loss": errors(state.players["stack"].params, batch)}

    return Algorithm(start, step, evaluate, None, None, None, None, "none")
