"""Normalizing flows: an exact density, by a bijection from data to noise.

    log p(x) = log p(z) + log |det dz / dx|,    z = f(x)

Images are levels, which a density cannot have: it is one of u = (level + U[0, 1)) / 256 in [0, 1)^D, and where there
is an alpha the flow is shown y = logit(alpha + (1 - 2 alpha) u).

Reference: Rezende & Mohamed 2015; Dinh et al. 2015 and 2017; Papamakarios et al. 2017; Kingma & Dhariwal 2018; Durkan
et al. 2019. The bijections are `genlab.bijections` and `genlab.networks.flow`.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from genlab.algorithm import Algorithm, Array, Batch, Key, Metrics, PyTree, State, descend, new_player, new_state
from genlab.bijections.pixels import dequantize, logit, logit_inverse, quantize
from genlab.losses.likelihood import gaussian_log_prob
from genlab.networks.variables import apply, init

LEVELS = 256  # of a pixel


class Base(NamedTuple):
    """The distribution of the noise, of independent numbers.

    Attributes:
        log_prob: f32[B, D] -> f32[B], nats.
        sample: (key, shape) -> f32[*shape].
    """

    log_prob: Callable[[Array], Array]
    sample: Callable[[Key, tuple[int, ...]], Array]


def _logistic_log_prob(z: Array) -> Array:
    # the density of a logistic is s(z) s(-z)
    return jnp.sum(jax.nn.log_sigmoid(z) + jax.nn.log_sigmoid(-z), axis=1)


NORMAL = Base(lambda z: gaussian_log_prob(z, jnp.zeros_like(z), 0.0), jax.random.normal)
LOGISTIC = Base(_logistic_log_prob, jax.random.logistic)


def flow(
    network: nn.Module,
    tx: optax.GradientTransformation,
    *,
    shape: Sequence[int],
    base: Base = NORMAL,
    images: bool = False,
    alpha: float = 0.0,
    flatten: bool = True,
    num_classes: int = 0,
    temperature: float = 1.0,
    ema_decay: float = 0.0,
) -> Algorithm:
    """Trains a flow by maximum likelihood; one player, "flow".

    Args:
        network: (x f32[B, ...], context) -> z f32[B, D] and log |det dz / dx| f32[B], with a method `inverse`.
        tx: optimizer.
        shape: of an example.
        base: of the noise.
        images: whether examples are levels in [0, 1], to be dequantised.
        alpha: of the logit of images, in (0, 1/2); 0: the flow is shown u itself.
        flatten: whether the network is shown vectors f32[B, D] instead of examples as they are.
        num_classes: of labels, of which the network's context is one-hot; the density is then p(x | y). 0: no context.
        temperature: what the noise of `generate` is multiplied by.
        ema_decay: of the moving average of parameters that everything but `step` uses; 0 for none.

    Returns:
        Algorithm, whose `log_prob` is that of x, or of images of u under one draw of the noise. `evaluate` gives it
        as `log_prob`, of images also `dequantized_bits_per_dim` = -log2 p(u) / D + 8, and with a logit
        `logit_log_prob`, that of y; `encode` gives z. Images that are generated are levels again.
    """
    dims = math.prod(shape)

    def context_of(batch: Batch) -> Array | None:
        return jax.nn.one_hot(batch["label"], num_classes) if num_classes else None

    def to_real(batch: Batch, key: Key) -> tuple[Array, Array]:
        """What the network is shown, and the log-determinant of how it came from u, or x, f32[B]."""
        x, log_det = batch["x"], jnp.zeros(batch["x"].shape[0])
        if images:
            x = dequantize(key, x, LEVELS)
            if alpha:
                x, log_det = logit(x, alpha)
        return (x.reshape(x.shape[0], -1) if flatten else x), log_det

    def terms_of(params: PyTree, batch: Batch, key: Key) -> Metrics:
        y, log_det = to_real(batch, key)
        (z, volume), _ = apply(network, params, {}, y, context_of(batch))
        log_prob = base.log_prob(z) + volume
        terms = {"log_prob": log_prob + log_det}
        if images:
            terms["dequantized_bits_per_dim"] = -terms["log_prob"] / (dims * math.log(2)) + math.log2(LEVELS)
        return terms | ({"logit_log_prob": log_prob} if images and alpha else {})

    def init_state(key: Key, batch: Batch) -> State:
        key_params, key_noise = jax.random.split(key)
        params, _ = init(network, key_params, to_real(batch, key_noise)[0], context_of(batch))
        average = {"flow": jax.tree.map(jnp.copy, params)} if ema_decay else {}
        return new_state({"flow": new_player(params, tx)}, average)

    def step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        def loss_fn(params: PyTree, stats: PyTree) -> tuple[Array, tuple[PyTree, Metrics]]:
            terms = {name: jnp.mean(term) for name, term in terms_of(params, batch, key).items()}
            return -terms["log_prob"], (stats, terms)

        player, loss, terms = descend(state.players["flow"], tx, loss_fn)
        average = optax.incremental_update({"flow": player.params}, state.average, 1.0 - ema_decay) if ema_decay else {}
        state = dataclasses.replace(state, step=state.step + 1, players={"flow": player}, average=average)
        return state, {"loss": loss, **terms}

    def weights(state: State) -> PyTree:
        return state.average.get("flow", state.players["flow"].params)

    def evaluate(state: State, batch: Batch, key: Key) -> Metrics:
        terms = terms_of(weights(state), batch, key)
        return {"loss": -terms["log_prob"], **terms}

    def encode(state: State, batch: Batch, key: Key) -> Array:
        return apply(network, weights(state), {}, to_real(batch, key)[0], context_of(batch))[0][0]

    def show(state: State, codes: Array, context: Array | None) -> Array:
        (x, _), _ = apply(network, weights(state), {}, codes, context, method="inverse")
        if images and alpha:
            x, _ = logit_inverse(x, alpha)
        x = x.reshape(-1, *shape)
        return quantize(x, LEVELS) if images else x

    def generate(state: State, batch: Batch, key: Key) -> Array:
        codes = temperature * base.sample(key, (batch["x"].shape[0], dims))
        return show(state, codes, context_of(batch))

    def log_prob(state: State, batch: Batch, key: Key) -> Array:
        return terms_of(weights(state), batch, key)["log_prob"]

    decode = None if num_classes else lambda state, codes, key: show(state, codes, None)
    return Algorithm(
        init_state, step, evaluate, generate, encode, decode, log_prob, "exact",
        space="dequantized" if images else "continuous", conditional=num_classes > 0,
    )  # fmt: skip
