"""Greedy layer-wise training of a deep autoencoder: one layer after the other, then all of them together.

Layer i is an autoencoder of the codes of layer i - 1, trained for `pretrain_steps` while the others stand still; each
is a player of its own. Afterwards all players descend on the reconstruction error of the whole, with fresh moments.

Reference: Hinton & Salakhutdinov 2006; Bengio et al. 2007, "Greedy layer-wise training of deep networks".
"""

import dataclasses
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from genlab.algorithm import (
    Algorithm,
    Array,
    Batch,
    Key,
    Metrics,
    Player,
    PyTree,
    State,
    descend,
    move,
    new_player,
    new_state,
)  # fmt: skip
from genlab.losses.reconstruction import squared_error
from genlab.models.autoencoder import Output


def greedy_autoencoder(
    widths: Sequence[int],
    output_shape: Sequence[int],
    activation: Callable[[Array], Array],
    tx: optax.GradientTransformation,
    output: Output,
    *,
    pretrain_steps: int,
    pretrain_tx: optax.GradientTransformation,
) -> Algorithm:
    """A dense autoencoder, trained greedily.

    Args:
        widths: of the layers, the code's last.
        output_shape: of one example.
        activation: elementwise, after every layer but the code and the output.
        tx: optimizer of every layer while all of them train; its schedule starts when that does.
        output: what the outputs of the first layer's decoder mean; inner layers reconstruct by squared error.
        pretrain_steps: of each layer alone; 0 trains all together from the start.
        pretrain_tx: optimizer of a layer while it trains alone; its state is of tx's structure.

    Returns:
        Algorithm with the players "layer_1", ..., "layer_L". `step` gives loss, of what is trained at that step, and
        phase, the number of the layer in training, or L + 1 when all are. Of a population in vmap every step pays for
        all phases; in a loop, as on a CPU, only for its own.
    """
    names = [f"layer_{i + 1}" for i in range(len(widths))]
    last = len(widths) - 1

    def init_state(key: Key, batch: Batch) -> State:
        sizes = [batch["x"][0].size, *widths]
        players = {}
        for name, key_layer, inputs, outputs in zip(
            names, jax.random.split(key, len(widths)), sizes[:-1], sizes[1:], strict=True
        ):
            key_down, key_up = jax.random.split(key_layer)
            kernel = nn.initializers.lecun_normal()
            params = {
                "down": kernel(key_down, (inputs, outputs)), "down_bias": jnp.zeros(outputs),
                "up": kernel(key_up, (outputs, inputs)), "up_bias": jnp.zeros(inputs),
            }  # fmt: skip
            players[name] = new_player(params, pretrain_tx if pretrain_steps else tx)
        return new_state(players)

    def down(i: int, params: PyTree, x: Array) -> Array:  # [B, widths[i - 1]] -> [B, widths[i]]
        x = x @ params["down"] + params["down_bias"]
        return x if i == last else activation(x)

    def up(i: int, params: PyTree, codes: Array) -> Array:  # [B, widths[i]] -> [B, widths[i - 1]]
        x = codes @ params["up"] + params["up_bias"]
        return activation(x) if i else x

    def encode_to(i: int, params: dict[str, PyTree], x: Array) -> Array:  # through the first i layers
        x = x.reshape(x.shape[0], -1)  # [B, D]
        for layer in range(i):
            x = down(layer, params[names[layer]], x)
        return x

    def decode_outputs(params: dict[str, PyTree], codes: Array) -> Array:  # f32[B, *output_shape]
        for layer in reversed(range(len(widths))):
            codes = up(layer, params[names[layer]], codes)
        return codes.reshape(codes.shape[0], *output_shape)

    def whole_error(params: dict[str, PyTree], x: Array) -> tuple[Array, Array]:
        """What is minimized, f32[B], and the reconstruction."""
        outputs = decode_outputs(params, encode_to(len(widths), params, x))
        return output.error(outputs, x), output.mean(outputs)

    def params_of(players: dict[str, Player]) -> dict[str, PyTree]:
        return {name: player.params for name, player in players.items()}

    def train_layer(i: int) -> Callable[[dict[str, Player], Array], tuple[dict[str, Player], Array]]:
        def train(players: dict[str, Player], x: Array) -> tuple[dict[str, Player], Array]:
            x = encode_to(i, params_of(players), x)  # of the layers below, which stand still

            def loss_fn(params: PyTree, stats: PyTree) -> tuple[Array, tuple[PyTree, None]]:
                outputs = up(i, params, down(i, params, x))
                error = squared_error(x, outputs) if i else output.error(outputs, x)
                return jnp.mean(error), (stats, None)

            player, loss, _ = descend(players[names[i]], pretrain_tx, loss_fn)
            return {**players, names[i]: player}, loss

        return train

    def train_all(players: dict[str, Player], x: Array) -> tuple[dict[str, Player], Array]:
        loss, gradients = jax.value_and_grad(lambda params: jnp.mean(whole_error(params, x)[0]))(params_of(players))
        return {name: move(player, tx, gradients[name], player.stats) for name, player in players.items()}, loss

    def train_all_afresh(players: dict[str, Player], x: Array) -> tuple[dict[str, Player], Array]:
        # the moments of the layers' own errors say nothing of the whole's
        return train_all({name: new_player(player.params, tx) for name, player in players.items()}, x)

    def step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        num = len(widths)
        layer = jnp.minimum(state.step // pretrain_steps, num) if pretrain_steps else jnp.full_like(state.step, num)
        branch = layer + (state.step > pretrain_steps * num).astype(layer.dtype)
        branches = [*(train_layer(i) for i in range(num)), train_all_afresh, train_all]
        players, loss = jax.lax.switch(branch, branches, state.players, batch["x"])
        metrics = {"loss": loss, "phase": layer.astype(jnp.float32) + 1.0}
        return dataclasses.replace(state, step=state.step + 1, players=players), metrics

    def evaluate(state: State, batch: Batch, key: Key) -> Metrics:
        error, reconstruction = whole_error(params_of(state.players), batch["x"])
        squared = squared_error(batch["x"], reconstruction)
        return {"loss": error, "squared_error": squared, "mse": squared / batch["x"][0].size}

    def encode(state: State, batch: Batch, key: Key) -> Array:
        return encode_to(len(widths), params_of(state.players), batch["x"])

    def decode(state: State, codes: Array, key: Key) -> Array:
        return output.mean(decode_outputs(params_of(state.players), codes))

    return Algorithm(
        init=init_state,
        step=step,
        evaluate=evaluate,
        generate=None,
        encode=encode,
        decode=decode,
        log_prob=None,
        density="none",
    )
