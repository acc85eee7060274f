"""How far a game of two players is from its equilibrium: what either could gain by moving alone."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from genlab.algorithm import Algorithm, Array, Batch, Key, State

PyTree = Any


def make_duality_gap(algorithm: Algorithm, num_steps: int) -> Callable[[State, Batch, Batch, Key], dict[str, Array]]:
    """An estimate of max_d V(g, d) - min_g V(g, d) of a game with the players "gen" and "disc".

    V is minus the discriminator's loss. Each player in turn takes `num_steps` steps of its own, by its own loss and
    optimizer, against the other, who stands still; then V is measured on other examples. To stay is a choice as well:
    where the steps lose, as full steps do at the end of a schedule, the gain is 0. At an equilibrium neither gains
    anything. A player that is followed for a few steps only gains less than it could: the estimate is from below.

    Args:
        algorithm: whose `step` is simultaneous, one step of each player (put back after each, the one who stands still
            has no part in the other's), and whose `evaluate` has "disc_loss".
        num_steps: of either player.

    Returns:
        (state, batches [num_steps, B, ...] to move on, batches [N, B, ...] to measure on, key) -> `duality_gap`, in the
        loss's units, and its parts, `disc_gain` and `gen_gain`.

    Reference: Grnarova et al. 2019, "A domain agnostic measure for monitoring and evaluating GANs", section 4.
    """

    def response(state: State, batches: Batch, key: Key, player: str) -> State:
        standing = {name: other for name, other in state.players.items() if name != player}

        def step(state: State, turn: tuple[Batch, Key]) -> tuple[State, None]:
            state, _ = algorithm.step(state, *turn)
            return dataclasses.replace(state, players={**state.players, **standing}), None

        return jax.lax.scan(step, state, (batches, jax.random.split(key, num_steps)))[0]

    def duality_gap(state: State, batches: Batch, held_out: Batch, key: Key) -> dict[str, Array]:
        key_disc, key_gen, key_value = jax.random.split(key, 3)

        def value(state: State) -> Array:
            losses = jax.lax.map(lambda batch: algorithm.evaluate(state, batch, key_value)["disc_loss"], held_out)
            return -jnp.mean(losses)  # [N, B]

        now = value(state)
        disc_gain = jnp.maximum(value(response(state, batches, key_disc, "disc")) - now, 0.0)
        gen_gain = jnp.maximum(now - value(response(state, batches, key_gen, "gen")), 0.0)
        return {"duality_gap": disc_gain + gen_gain, "disc_gain": disc_gain, "gen_gain": gen_gain}

    return duality_gap
