"""Autoencoders: a code from which the example can be made again.

    minimize  error(x, decode(encode(x~))) + sum over penalties of weight * penalty

where x~ is the example, or the example corrupted (denoising: the target stays clean). Which autoencoder it is lies in
the network (deep, tied, convolutional, recurrent, overcomplete), in the corruption and in the penalties (sparse,
contractive); they combine freely.

Reference: Hinton & Salakhutdinov 2006; Vincent et al. 2010 (denoising); Rifai et al. 2011 (contractive).
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from genlab.algorithm import Algorithm, Array, Batch, Key, Metrics, PyTree, State, descend, new_player, new_state
from genlab.losses.likelihood import bernoulli_log_prob
from genlab.losses.penalty import contractive_penalty, sigmoid_layer_contractive_penalty
from genlab.losses.reconstruction import squared_error
from genlab.losses.sparsity import kl_sparsity, l1_penalty
from genlab.networks.variables import apply, init


class Output(NamedTuple):
    """What a network's outputs mean.

    Attributes:
        mean: outputs -> reconstruction, on the scale of the data.
        error: (outputs, x) -> f32[B], what is minimized, summed over the event.
    """

    mean: Callable[[Array], Array]
    error: Callable[[Array, Array], Array]


LINEAR = Output(lambda outputs: outputs, lambda outputs, x: squared_error(x, outputs))
SIGMOID = Output(jax.nn.sigmoid, lambda outputs, x: squared_error(x, jax.nn.sigmoid(outputs)))
CROSS_ENTROPY = Output(jax.nn.sigmoid, lambda outputs, x: -bernoulli_log_prob(outputs, x))


class Encoding(NamedTuple):
    """What a penalty sees.

    Attributes:
        x: f32[B, ...], the network's input.
        codes: f32[B, D].
        encode: f32[B, ...] -> f32[B, D], the encoder at the present parameters; with batch norm at its running
            statistics, while `codes` are of those of the batch.
        params: of the network.
    """

    x: Array
    codes: Array
    encode: Callable[[Array], Array]
    params: PyTree


Penalty = Callable[[Encoding], Array]  # -> f32[B] or f32[]


def l1() -> Penalty:
    """The absolute values of the code, summed."""
    return lambda encoding: l1_penalty(encoding.codes)


def sparsity(target: float) -> Penalty:
    """KL(target || mean activation over the batch), summed over a code with values in (0, 1)."""
    return lambda encoding: kl_sparsity(jnp.mean(encoding.codes, axis=0), target)


def contractive() -> Penalty:
    """The squared Frobenius norm of the code's Jacobian."""
    return lambda encoding: contractive_penalty(encoding.encode, encoding.x)


def contractive_layer() -> Penalty:
    """The same for an encoder of one sigmoid layer, in closed form and 400 times as fast."""
    return lambda encoding: sigmoid_layer_contractive_penalty(encoding.codes, encoding.params["bottleneck"]["kernel"])


def l2() -> Penalty:
    """The squared kernels, summed; biases are free (Kunin et al. 2019, equation 2)."""

    def squares(encoding: Encoding) -> Array:
        kernels = [leaf for leaf in jax.tree.leaves(encoding.params) if leaf.ndim > 1]
        return jnp.sum(jnp.stack([jnp.sum(jnp.square(kernel)) for kernel in kernels]))

    return squares


def autoencoder(
    network: nn.Module,
    tx: optax.GradientTransformation,
    output: Output,
    *,
    corrupt: Callable[[Key, Array], Array] | None = None,
    penalties: Mapping[str, tuple[Any, Penalty]] | None = None,
    ema_decay: float = 0.0,
) -> Algorithm:
    """An autoencoder with one player.

    Args:
        network: with `encode`, `decode` and a call that gives codes f32[B, D] and outputs f32[B, ...]; see
            genlab.networks.autoencoder.
        tx: its optimizer.
        output: what the outputs mean.
        corrupt: (key, x) -> x~, what the encoder sees in training; None: x itself.
        penalties: name -> (weight, penalty); the weight may be traced.
        ema_decay: of the moving average of parameters that everything but `step` uses; 0 for none.

    Returns:
        Algorithm. `evaluate`, on uncorrupted examples, gives loss, squared_error (summed over the event), mse (averaged
        over it) and every penalty before its weight; a penalty of the whole batch is the same for its examples.
    """
    penalties = penalties or {}

    def init_state(key: Key, batch: Batch) -> State:
        params, stats = init(network, key, batch["x"])
        average = {"autoencoder": jax.tree.map(jnp.copy, params)} if ema_decay else {}
        return new_state({"autoencoder": new_player(params, tx, stats)}, average)

    def terms(params: PyTree, stats: PyTree, x: Array, seen: Array, train: bool) -> tuple[Metrics, PyTree]:
        (codes, outputs), updated = apply(network, params, stats, seen, train=train)
        encode = lambda x: apply(network, params, stats, x, method="encode")[0]
        encoding = Encoding(seen, codes, encode, params)
        found = {name: penalty(encoding) for name, (_, penalty) in penalties.items()}
        error = output.error(outputs, x)
        loss = error + sum((weight * found[name] for name, (weight, _) in penalties.items()), jnp.zeros_like(error))
        reconstruction = squared_error(x, output.mean(outputs))
        each = {"loss": loss, "squared_error": reconstruction, "mse": reconstruction / x[0].size, **found}
        return {name: jnp.broadcast_to(value, error.shape) for name, value in each.items()}, updated

    def step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        seen = batch["x"] if corrupt is None else corrupt(key, batch["x"])

        def loss_fn(params: PyTree, stats: PyTree) -> tuple[Array, tuple[PyTree, Metrics]]:
            each, stats = terms(params, stats, batch["x"], seen, train=True)
            means = {name: jnp.mean(value) for name, value in each.items()}
            return means["loss"], (stats, means)

        player, _, means = descend(state.players["autoencoder"], tx, loss_fn)
        average = state.average
        if ema_decay:
            average = optax.incremental_update({"autoencoder": player.params}, average, 1.0 - ema_decay)
        state = dataclasses.replace(state, step=state.step + 1, players={"autoencoder": player}, average=average)
        return state, means

    def weights(state: State) -> tuple[PyTree, PyTree]:
        player = state.players["autoencoder"]
        return state.average.get("autoencoder", player.params), player.stats

    def evaluate(state: State, batch: Batch, key: Key) -> Metrics:
        return terms(*weights(state), batch["x"], batch["x"], train=False)[0]

    def encode(state: State, batch: Batch, key: Key) -> Array:
        return apply(network, *weights(state), batch["x"], method="encode")[0]

    def decode(state: State, codes: Array, key: Key) -> Array:
        return output.mean(apply(network, *weights(state), codes, method="decode")[0])

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
