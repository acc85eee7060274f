"""The one interface: a generative model is a record of pure functions over a State of arrays.

The field asks three things of a generative model: can it *generate*, does it learn a *representation*,
does it estimate a *density*? An `Algorithm` answers with `generate`, with `encode` and `decode`, and with
`log_prob`; an ability that a method lacks is None. Where a density is a product over pixels or tokens it can `complete`
what is known in part. Its `density` field says how it holds the density:

    "exact"     flows, autoregressive models     log_prob is log p(x)
    "bound"     variational autoencoders         log_prob is an estimate from below
    "implicit"  adversarial models               samples only
    "none"      a plain autoencoder              neither

Every method is a game with k >= 1 players. A player is what one optimizer moves: a VAE has one, a GAN
two, CycleGAN two pairs. Networks, optimizers and hyper-parameters are closed over by plain factories,
`vae(model, tx, beta) -> Algorithm`; a State holds arrays alone, so it can be jitted, scanned, vmapped,
sharded and checkpointed without knowing the method.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

Array = jax.Array
Key = jax.Array  # a typed PRNG key, `jax.random.key(seed)`
PyTree = Any
# "x": images f32[B, H, W, C] in [0, 1], series f32[B, T, C], points f32[B, D] or text i32[B, T]; "label": i32[B] where
# there are labels
Batch = Mapping[str, Array]
Metrics = dict[str, Array]  # name -> f32[]


@flax.struct.dataclass
class Player:
    """What one optimizer moves. Arrays only: the network and the optimizer are closed over.

    Attributes:
        params: the trained parameters.
        stats: what the network updates without a gradient (batch statistics, spectral-norm vectors); {} if none.
        opt_state: the optimizer's state for `params`.
    """

    params: PyTree
    stats: PyTree
    opt_state: optax.OptState


@flax.struct.dataclass
class State:
    """All that training changes. With the config it is a whole checkpoint.

    Attributes:
        step: i32[], the number of steps taken.
        players: by name; a one-player game has one entry.
        average: exponential moving averages of parameters, by player, where a method keeps them, and of what goes with
            them ("gen_stats"); {} if none.
        memory: whatever else a method remembers (replay buffer, image pools); {} if nothing.
    """

    step: Array
    players: dict[str, Player]
    average: dict[str, PyTree]
    memory: PyTree


class Latents(NamedTuple):
    """What a model whose latent variables z have a density knows of them; codes are samples of z, f32[B, D].

    It is what estimators of log p(x) and diagnostics of q(z | x) are made of. Where a model has several layers of
    latent variables, codes are all of them side by side.

    Attributes:
        log_prior: (state, batch, codes) -> f32[B], log p(z) in nats; p(z | y) where the batch's labels count.
        log_joint: (state, batch, codes) -> f32[B], log p(x, z) in nats; differentiable in the codes. Where the method
            has no log_prob it is that up to a constant.
        sample_prior: (state, batch, key) -> codes f32[B, D]; the batch gives B and labels.
        moments: (state, batch) -> mean f32[B, D], log sigma^2 f32[B, D] of q(z | x), where that is a diagonal Gaussian;
            otherwise None.
        standard_normal: whether p(z) is N(0, I).
        num_samples: of z, that `evaluate` averages over.
    """

    log_prior: Callable[[State, Batch, Array], Array]
    log_joint: Callable[[State, Batch, Array], Array]
    sample_prior: Callable[[State, Batch, Key], Array]
    moments: Callable[[State, Batch], tuple[Array, Array]] | None
    standard_normal: bool = False
    num_samples: int = 1


class Stage(NamedTuple):
    """A part of the training of a method that grows: one compiled program.

    Attributes:
        last_step: steps taken when it ends.
        batch_size: examples of a step.
        step: as `Algorithm.step`, of a State of the same structure and with the same metrics.
    """

    last_step: int
    batch_size: int
    step: Callable[[State, Batch, Key], tuple[State, Metrics]]


class Algorithm(NamedTuple):
    """A generative model as pure functions; B is the batch size, D the size of a code.

    Attributes:
        init: (key, batch) -> State. Always called under jit: run eagerly, parameters and their moving
            average can share a buffer, which donation then frees twice.
        step: (state, batch, key) -> (State, Metrics). One round of the game; metrics are scalars.
        evaluate: (state, batch, key) -> {name: f32[B]}. Per example and never averaged, so that the caller
            can mask padding and reduce once.
        generate: (state, batch, key) -> new examples [B, ...]. The batch gives B, labels or source images.
        encode: (state, batch, key) -> codes f32[B, D].
        decode: (state, codes or noise f32[B, D], key) -> examples [B, ...].
        log_prob: (state, batch, key) -> f32[B], nats per example.
        density: how the method holds the density, see the module's docstring.
        latents: densities of its latent variables, where it has any.
        space: what log_prob is a density or a probability of: "continuous", x itself; "dequantized", of images
            u = (level + U[0, 1)) / 256 in [0, 1)^D, under one draw of the noise; "discrete", the levels.
        conditional: whether every density is given the label: log_prob is then log p(x | y).
        complete: (state, batch, num_known i32[], key) -> examples [B, ...], of which the first num_known numbers are
            those of the batch's x, in the order in which they stand, and the others are drawn given them.
        stages: of a method that grows, each with a step of its own; `step` is then the last one's. () where there is
            one step for all.
    """

    init: Callable[[Key, Batch], State]
    step: Callable[[State, Batch, Key], tuple[State, Metrics]]
    evaluate: Callable[[State, Batch, Key], dict[str, Array]]
    generate: Callable[[State, Batch, Key], Array] | None
    encode: Callable[[State, Batch, Key], Array] | None
    decode: Callable[[State, Array, Key], Array] | None
    log_prob: Callable[[State, Batch, Key], Array] | None
    density: Literal["exact", "bound", "implicit", "none"]
    latents: Latents | None = None
    space: Literal["continuous", "dequantized", "discrete"] = "continuous"
    conditional: bool = False
    complete: Callable[[State, Batch, Array, Key], Array] | None = None
    stages: tuple[Stage, ...] = ()


def new_player(params: PyTree, tx: optax.GradientTransformation, stats: PyTree | None = None) -> Player:
    """A player at the start of its game: these parameters, a fresh optimizer state."""
    return Player(params=params, stats={} if stats is None else stats, opt_state=tx.init(params))


def new_state(
    players: dict[str, Player], average: dict[str, PyTree] | None = None, memory: PyTree | None = None
) -> State:
    """A State at step 0."""
    return State(
        step=jnp.zeros((), jnp.int32),
        players=players,
        average={} if average is None else average,
        memory={} if memory is None else memory,
    )


def descend(
    player: Player,
    tx: optax.GradientTransformation,
    loss_fn: Callable[[PyTree, PyTree], tuple[Array, tuple[PyTree, PyTree]]],
) -> tuple[Player, Array, PyTree]:
    """One gradient step of one player.

    Args:
        player: whose parameters move.
        tx: its optimizer, the one its `opt_state` was made by.
        loss_fn: (params, stats) -> (loss f32[], (stats, aux)). Whatever else the loss needs (the batch, the
            other players) it closes over; other players' stats may be read but not returned.

    Returns:
        The player after the step, the loss before it, and aux.
    """
    (loss, (stats, aux)), gradients = jax.value_and_grad(loss_fn, has_aux=True)(player.params, player.stats)
    return move(player, tx, gradients, stats), loss, aux


def move(player: Player, tx: optax.GradientTransformation, gradients: PyTree, stats: PyTree) -> Player:
    """The player after its optimizer's step along these gradients, with these stats."""
    with jax.numpy_dtype_promotion("standard"):  # optax takes float powers of an integer count; the rest may be strict
        updates, opt_state = tx.update(gradients, player.opt_state, player.params)
    return Player(optax.apply_updates(player.params, updates), stats, opt_state)
