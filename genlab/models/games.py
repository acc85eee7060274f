"""A game that can be seen through: min over x, max over y, of x y.

Its only equilibrium is (0, 0). The gradients turn around it: simultaneous descent spirals outwards, the distance
growing by sqrt(1 + rate^2) a step; alternating descent stays on a closed curve; looking ahead (extragradient), optimism
and averaging go in. A GAN near its equilibrium is such a game and more.

Reference: Mescheder et al. 2017, "The numerics of GANs"; Gidel et al. 2019, section 2.
"""

import jax
import jax.numpy as jnp
import optax

from genlab.algorithm import Algorithm, Array, Batch, Key, Metrics, PyTree, State, new_player, new_state
from genlab.models.adversarial import Game, is_off, make_step


def bilinear(
    gen_tx: optax.GradientTransformation,
    disc_tx: optax.GradientTransformation,
    *,
    dynamics: str = "simultaneous",
    ema_decay: float | Array = 0.0,
    start: tuple[float, float] = (1.0, 0.0),
) -> Algorithm:
    """The bilinear game; of the batch it needs the size alone.

    Args:
        gen_tx, disc_tx: optimizers of x and of y.
        dynamics: see `genlab.models.adversarial`.
        ema_decay: of moving averages of x and y; a concrete 0 for none.
        start: (x, y) before the first step, whatever the seed.

    Returns:
        Algorithm with none of a model's abilities. Metrics are `x`, `y` and their `distance` from (0, 0) after the
        step; with averages `average_x`, `average_y` and `average_distance`.
    """

    def play(params: PyTree, stats: PyTree, batch: Batch, key: Key) -> tuple[Array, PyTree]:
        return params["x"], stats

    def disc_loss(
        params: PyTree, stats: PyTree, batch: Batch, fakes: Batch, key: Key
    ) -> tuple[Array, tuple[PyTree, Metrics]]:
        return -fakes["x"] * params["y"], (stats, {})

    def gen_loss(params: PyTree, stats: PyTree, batch: Batch, fakes: Batch, key: Key) -> tuple[Array, Metrics]:
        return fakes["x"] * params["y"], {}

    follow = make_step(Game(play, disc_loss, gen_loss), gen_tx, disc_tx, dynamics=dynamics, ema_decay=ema_decay)

    def init(key: Key, batch: Batch) -> State:
        gen, disc = ({name: jnp.asarray(value, jnp.float32)} for name, value in zip("xy", start, strict=True))
        players = {"gen": new_player(gen, gen_tx), "disc": new_player(disc, disc_tx)}
        average = {} if is_off(ema_decay) else jax.tree.map(jnp.copy, {"gen": gen, "disc": disc})
        return new_state(players, average)

    def where(state: State) -> Metrics:
        x, y = state.players["gen"].params["x"], state.players["disc"].params["y"]
        found = {"x": x, "y": y, "distance": jnp.hypot(x, y)}
        if state.average:
            x, y = state.average["gen"]["x"], state.average["disc"]["y"]
            found |= {"average_x": x, "average_y": y, "average_distance": jnp.hypot(x, y)}
        return found

    def step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        state, _ = follow(state, batch, key)
        return state, where(state)

    def evaluate(state: State, batch: Batch, key: Key) -> Metrics:
        return {name: jnp.broadcast_to(value, batch["x"].shape[:1]) for name, value in where(state).items()}

    return Algorithm(init, step, evaluate, None, None, None, None, "none")
