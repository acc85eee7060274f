"""Autoregressive models: an exact probability, as a product over pixels of what each is given those before it.

    log p(x) = sum_d log p(x_d | x_1, ..., x_{d-1})

Reference: Germain et al. 2015 (MADE); van den Oord et al. 2016 (PixelCNN); Salimans et al. 2017 (PixelCNN++).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from genlab.algorithm import Algorithm, Array, Batch, Key, Metrics, PyTree, State, descend, new_player, new_state
from genlab.losses.likelihood import (
    bernoulli_log_prob,
    categorical_log_prob,
    discretized_logistic_mixture_log_prob,
)


class Conditional(NamedTuple):
    """p(x_d | x before d) of every number, given P numbers about it.

    Attributes:
        num_outputs: P.
        log_prob: (outputs f32[B, ..., P], x [B, ...]) -> f32[B], nats, summed over all numbers.
        sample: (key, outputs f32[..., P], temperature) -> x [...]; a temperature of 1 draws from p, one near 0 takes
            what is likeliest.

    x is f32 in [0, 1], of tokens i32.
    """

    num_outputs: int
    log_prob: Callable[[Array, Array], Array]
    sample: Callable[[Key, Array, float], Array]


def bernoulli() -> Conditional:
    """Binary numbers; outputs are logits."""

    def sample(key: Key, outputs: Array, temperature: float) -> Array:
        return jax.random.bernoulli(key, jax.nn.sigmoid(outputs[..., 0] / temperature)).astype(jnp.float32)

    return Conditional(1, lambda outputs, x: bernoulli_log_prob(outputs[..., 0], x), sample)


def categorical(num_levels: int = 256) -> Conditional:
    """Levels without an order; outputs are logits."""

    def log_prob(outputs: Array, x: Array) -> Array:
        return categorical_log_prob(outputs, jnp.round(x * (num_levels - 1)).astype(jnp.int32))

    def sample(key: Key, outputs: Array, temperature: float) -> Array:
        return jax.random.categorical(key, outputs / temperature).astype(jnp.float32) / (num_levels - 1)

    return Conditional(num_levels, log_prob, sample)


def tokens(num_tokens: int) -> Conditional:
    """Tokens i32, as of text; outputs are logits."""
    sample = lambda key, outputs, temperature: jax.random.categorical(key, outputs / temperature).astype(jnp.int32)
    return Conditional(num_tokens, categorical_log_prob, sample)


def logistic_mixture(num_components: int = 10, num_levels: int = 256, min_log_scale: float = -7.0) -> Conditional:
    """Levels as the bins of a mixture of logistics: K log-weights, K means before a sigmoid, K log-scales."""

    def parts(outputs: Array) -> tuple[Array, Array, Array]:
        log_weights, means, log_scales = jnp.split(outputs, 3, axis=-1)
        # scales of a tenth at first
        return log_weights, jax.nn.sigmoid(means), min_log_scale + jax.nn.softplus(log_scales - 2.3 - min_log_scale)

    def log_prob(outputs: Array, x: Array) -> Array:
        return discretized_logistic_mixture_log_prob(x, *parts(outputs), num_levels=num_levels)

    def sample(key: Key, outputs: Array, temperature: float) -> Array:
        levels = jnp.arange(num_levels) / (num_levels - 1)
        one = lambda level: log_prob(
            outputs.reshape(-1, 1, outputs.shape[-1]), jnp.full((outputs[..., 0].size, 1), level)
        )
        mass = jnp.moveaxis(jax.vmap(one)(levels), 0, -1).reshape(*outputs.shape[:-1], num_levels)
        return levels[jax.random.categorical(key, mass / temperature)]

    return Conditional(3 * num_components, log_prob, sample)


class Autoregression(NamedTuple):
    """A network of which every output depends on what comes before it alone.

    Attributes:
        init: (key, x, context) -> params.
        outputs: (params, x [B, ...], context f32[B, Y] or none, which) -> f32[B, ..., P], by the order or connections
            number `which`; x is f32[B, H, W, C] in [0, 1], of text i32[B, T].
        sample: (params, draw, key, known [B, ...], num_known, context, which) -> x [B, ...], of which the first numbers
            in the order of `which` are those of `known`; draw(key, outputs f32[..., P]) -> x [...].
        num_orders: how many `which` there are; the model is the equal mixture of what each says.
        natural: whether there is one order, that in which the numbers stand.
    """

    init: Callable[[Key, Array, Array | None], PyTree]
    outputs: Callable[[PyTree, Array, Array | None, Any], Array]
    sample: Callable[[PyTree, Callable[[Key, Array], Array], Key, Array, Any, Array | None, Any], Array]
    num_orders: int = 1
    natural: bool = True


def autoregressive(
    network: Autoregression,
    conditional: Conditional,
    tx: optax.GradientTransformation,
    *,
    num_classes: int = 0,
    temperature: float = 1.0,
    ema_decay: float = 0.0,
) -> Algorithm:
    """Trains by maximum likelihood; one player, "network".

    Args:
        network: the factors' parameters.
        conditional: their distribution.
        tx: optimizer.
        num_classes: of labels, of which the context is one-hot: the probability is then p(x | y). 0: no context.
        temperature: of what is drawn.
        ema_decay: of the moving average of parameters that everything but `step` uses; 0 for none.

    Returns:
        Algorithm. A step draws one of the network's orders, `generate` makes as many examples by each, and `log_prob`
        is of the mixture of all. It has `complete` where there is one order, the natural one.
    """

    def context_of(batch: Batch) -> Array | None:
        return jax.nn.one_hot(batch["label"], num_classes) if num_classes else None

    def log_prob_by(params: PyTree, batch: Batch, which: Any) -> Array:
        return conditional.log_prob(network.outputs(params, batch["x"], context_of(batch), which), batch["x"])

    def init_state(key: Key, batch: Batch) -> State:
        params = network.init(key, batch["x"], context_of(batch))
        average = {"network": jax.tree.map(jnp.copy, params)} if ema_decay else {}
        return new_state({"network": new_player(params, tx)}, average)

    def step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        which = jax.random.randint(key, (), 0, network.num_orders)

        def loss_fn(params: PyTree, stats: PyTree) -> tuple[Array, tuple[PyTree, Metrics]]:
            return -jnp.mean(log_prob_by(params, batch, which)), (stats, {})

        player, loss, _ = descend(state.players["network"], tx, loss_fn)
        average = state.average
        if ema_decay:
            average = optax.incremental_update({"network": player.params}, average, 1.0 - ema_decay)
        return dataclasses.replace(state, step=state.step + 1, players={"network": player}, average=average), {
            "loss": loss, "log_prob": -loss
        }  # fmt: skip

    def weights(state: State) -> PyTree:
        return state.average.get("network", state.players["network"].params)

    def log_prob(state: State, batch: Batch, key: Key) -> Array:
        params = weights(state)
        # of the mixture, not of mean logits: log (1 / M) sum_m p_m(x)
        every = jax.lax.map(lambda which: log_prob_by(params, batch, which), jnp.arange(network.num_orders))  # [M, B]
        return jax.nn.logsumexp(every, axis=0) - jnp.log(float(network.num_orders))

    def evaluate(state: State, batch: Batch, key: Key) -> Metrics:
        value = log_prob(state, batch, key)
        return {"loss": -value, "log_prob": value}

    draw = lambda key, outputs: conditional.sample(key, outputs, temperature)

    def complete(state: State, batch: Batch, num_known: Array, key: Key) -> Array:
        return network.sample(weights(state), draw, key, batch["x"], num_known, context_of(batch), 0)

    def generate(state: State, batch: Batch, key: Key) -> Array:
        sample = lambda batch, key, which: network.sample(
            weights(state), draw, key, batch["x"], jnp.int32(0), context_of(batch), which
        )
        num, num_orders = batch["x"].shape[0], network.num_orders
        if num_orders == 1:
            return sample(batch, key, 0)
        # as many examples by each order, dealt out at random
        size = -(-num // num_orders)
        key_deal, key_sample = jax.random.split(key)
        dealt = jax.random.permutation(key_deal, num_orders * size)
        groups = jax.tree.map(lambda column: column[dealt % num].reshape(num_orders, size, *column.shape[1:]), batch)
        each = jax.lax.map(
            lambda of: sample(*of), (groups, jax.random.split(key_sample, num_orders), jnp.arange(num_orders))
        )
        return jnp.zeros_like(each).reshape(-1, *each.shape[2:]).at[dealt].set(each.reshape(-1, *each.shape[2:]))[:num]

    return Algorithm(
        init_state, step, evaluate, generate, None, None, log_prob, "exact",
        space="discrete", conditional=num_classes > 0, complete=complete if network.natural else None,
    )  # fmt: skip
