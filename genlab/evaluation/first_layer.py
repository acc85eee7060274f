"""The weights between an image and the first layer of an encoder, found by what they do."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genlab.algorithm import Batch, State

Encode = Callable[[State, Batch, jax.Array], jax.Array]


def incoming_weights(encode: Encode, state: State, batch: Batch, key: jax.Array) -> np.ndarray | None:
    """The kernel [D, n] through which an encoder sees its input, D numbers an example.

    A matrix of D rows may as well be a later layer's. This is the one that stands alone between the input and the code:
    with some rows set to zero, those numbers of the input can change and the code does not.

    Args:
        encode: of an algorithm, compiled.
        state: the trained model.
        batch: examples, "x" f32[B, ...].
        key: of the encoder's draws.

    Returns:
        f[D, n], of the moving average where there is one; None where the encoder has no such layer.
    """
    num_dims = math.prod(batch["x"].shape[1:])
    half = np.random.default_rng(0).random(num_dims) < 0.5
    changed = {**batch, "x": jnp.where(half.reshape(batch["x"].shape[1:]), 1 - batch["x"], batch["x"])}

    def moves(state: State) -> bool:
        return not np.array_equal(encode(state, batch, key), encode(state, changed, key))

    if not moves(state):
        return None
    trained = {name: state.average.get(name, player.params) for name, player in state.players.items()}
    for path, leaf in jax.tree_util.tree_leaves_with_path(trained):
        if np.ndim(leaf) == 2 and len(leaf) == num_dims and not moves(with_rows_of_zeros(state, path, half)):
            return np.asarray(leaf)
    return None


def with_rows_of_zeros(state: State, path: Any, rows: np.ndarray) -> State:
    """The state with these rows of one parameter set to zero, in the players and in their averages."""

    def changed(tree: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda where, leaf: np.where(rows[:, None], np.zeros_like(leaf), leaf) if where == path else leaf, tree
        )

    params = changed({name: player.params for name, player in state.players.items()})
    players = {name: dataclasses.replace(player, params=params[name]) for name, player in state.players.items()}
    return dataclasses.replace(state, players=players, average=changed(state.average))
