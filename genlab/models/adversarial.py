"""Games of two players, a generator and a discriminator, and the ways in which they learn from each other.

A `Game` says what the generator's move is and what either player loses by it; a *dynamics* says in which order the
two follow their gradients. The generator's gradient is that of its loss in its move, pulled back through the network
that made it, so that one forward pass of the generator serves both players.

    "alternating"     the discriminator moves, then the generator against the new one: what GANs do
    "simultaneous"    both follow their gradients at the same point: oscillates, and diverges in a bilinear game
    "extragradient"   both look one step ahead and follow, from where they are, the gradients there, on the same
                      examples and noise (Korpelevich 1976; for GANs Gidel et al. 2019, who draw anew)

An optimistic optimizer (`optimistic_sgd`, `optimistic_adam`; Daskalakis et al. 2018) cures simultaneous descent too,
and so does averaging.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from genlab.algorithm import Array, Batch, Key, Metrics, Player, PyTree, State, descend, move

DYNAMICS = ("alternating", "simultaneous", "extragradient")


class Players(NamedTuple):
    """The two, and what the discriminator is shown of the past."""

    gen: Player
    disc: Player
    memory: PyTree


class Game(NamedTuple):
    """What two players play. Fakes are a batch whose "x" is the generator's move.

    Attributes:
        play: (generator's params, stats, batch, key) -> x [B, ...], stats. The batch gives B and labels.
        disc_loss: (discriminator's params, stats, batch, fakes, key) -> f32[], (stats, metrics).
        gen_loss: (discriminator's params, stats, batch, fakes, key) -> f32[], metrics; it reads the stats alone.
        remember: (memory, fakes, key) -> memory, the fakes that the discriminator is shown: those of a replay buffer
            among them, where there is one.
        restrain: discriminator's params -> params, after every step of it: weight clipping.
    """

    play: Callable[[PyTree, PyTree, Batch, Key], tuple[Array, PyTree]]
    disc_loss: Callable[[PyTree, PyTree, Batch, Batch, Key], tuple[Array, tuple[PyTree, Metrics]]]
    gen_loss: Callable[[PyTree, PyTree, Batch, Batch, Key], tuple[Array, Metrics]]
    remember: Callable[[PyTree, Batch, Key], tuple[PyTree, Batch]] = lambda memory, fakes, key: (memory, fakes)
    restrain: Callable[[PyTree], PyTree] = lambda params: params


def make_step(
    game: Game,
    gen_tx: optax.GradientTransformation,
    disc_tx: optax.GradientTransformation,
    *,
    dynamics: str = "alternating",
    disc_steps: int = 1,
    gen_steps: int = 1,
    unroll_steps: int = 0,
    ema_decay: float | Array = 0.0,
) -> Callable[[State, Batch, Key], tuple[State, Metrics]]:
    """The step of an Algorithm with the players "gen" and "disc".

    Args:
        game: that is played.
        gen_tx, disc_tx: optimizers.
        dynamics: one of DYNAMICS.
        disc_steps: n of the discriminator for every round; the batch holds n times as many examples.
        gen_steps: of the generator for every round, against the same discriminator and with new noise.
        unroll_steps: of the discriminator that the generator sees through (Metz et al. 2017, equations 7 to 10).
        ema_decay: of the moving averages, of whatever State.average has; at step t at most (1 + t) / (10 + t).

    Raises:
        ValueError: an extragradient with more than one step of a player, or an unknown dynamics.
    """
    if dynamics not in DYNAMICS:
        raise ValueError(f"dynamics is {dynamics!r}; known: {', '.join(DYNAMICS)}")
    if dynamics == "extragradient" and (disc_steps, gen_steps, unroll_steps) != (1, 1, 0):
        raise ValueError("an extragradient looks ahead of one step of each player, and does not unroll")

    def play(gen: Player, batch: Batch, key: Key) -> tuple[Array, Callable, PyTree]:
        """The generator's move, how a gradient in it is pulled back, and stats."""
        return jax.vjp(lambda params: game.play(params, gen.stats, batch, key), gen.params, has_aux=True)

    def disc_step(
        disc: Player, batch: Batch, fakes: Batch, key: Key, restrain: Callable = game.restrain
    ) -> tuple[Player, Metrics]:
        loss_fn = lambda params, stats: game.disc_loss(params, stats, batch, fakes, key)
        disc, _, metrics = descend(disc, disc_tx, loss_fn)
        return dataclasses.replace(disc, params=restrain(disc.params)), metrics

    def gen_step(
        gen: Player, disc: Player, batch: Batch, x: Array, pull_back: Callable, stats: PyTree, key: Key
    ) -> tuple[Player, Metrics]:
        """Follows the gradient of its loss in its move x, through `unroll_steps` answers of the discriminator."""
        key_answers, key_loss = jax.random.split(key)

        def loss_fn(x: Array) -> tuple[Array, Metrics]:
            fakes, seen = {**batch, "x": x}, disc
            if unroll_steps:
                answer = lambda disc, key: (disc_step(disc, batch, fakes, key)[0], None)
                seen, _ = jax.lax.scan(answer, disc, jax.random.split(key_answers, unroll_steps))
            return game.gen_loss(seen.params, seen.stats, batch, fakes, key_loss)

        gradient, metrics = jax.grad(loss_fn, has_aux=True)(x)
        (gradients,) = pull_back(gradient)
        return move(gen, gen_tx, gradients, stats), metrics

    def together(
        now: Players, batch: Batch, key: Key, restrain: Callable = game.restrain
    ) -> tuple[Players, Player, Metrics]:
        """One step of each, for which the generator plays once; and the discriminator that it saw."""
        key_play, key_memory, key_disc, key_gen = jax.random.split(key, 4)
        x, pull_back, stats = play(now.gen, batch, key_play)
        memory, fakes = game.remember(now.memory, {**batch, "x": jax.lax.stop_gradient(x)}, key_memory)
        disc, disc_metrics = disc_step(now.disc, batch, fakes, key_disc, restrain)
        seen = disc if dynamics == "alternating" else now.disc
        gen, gen_metrics = gen_step(now.gen, seen, batch, x, pull_back, stats, key_gen)
        return Players(gen, disc, memory), seen, {**disc_metrics, **gen_metrics}

    def extragradient(now: Players, batch: Batch, key: Key) -> tuple[Players, Player, Metrics]:
        """The step that the players would take one step ahead, from where they are."""
        ahead, _, _ = together(now, batch, key)
        ahead = ahead._replace(memory=now.memory)  # what was only thought of is not remembered
        # where a step ends is restrained, not the step: one that is ahead at the border would have no way to it
        after, seen, metrics = together(ahead, batch, key, restrain=lambda params: params)

        def from_here(here: Player, ahead: Player, after: Player) -> Player:
            params = jax.tree.map(lambda h, a, b: h + (b - a), here.params, ahead.params, after.params)
            return dataclasses.replace(after, params=params)

        gen, disc = from_here(now.gen, ahead.gen, after.gen), from_here(now.disc, ahead.disc, after.disc)
        return Players(gen, dataclasses.replace(disc, params=game.restrain(disc.params)), after.memory), seen, metrics

    def step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        now = Players(state.players["gen"], state.players["disc"], state.memory)
        key_round, key_first, key_more = jax.random.split(key, 3)
        first, last = split_batch(batch, disc_steps)

        def practise(now: Players, turn: tuple[Batch, Key]) -> tuple[Players, None]:
            """The discriminator alone."""
            key_play, key_memory, key_disc = jax.random.split(turn[1], 3)
            x, _ = game.play(now.gen.params, now.gen.stats, turn[0], key_play)
            memory, fakes = game.remember(now.memory, {**turn[0], "x": x}, key_memory)
            return Players(now.gen, disc_step(now.disc, turn[0], fakes, key_disc)[0], memory), None

        if disc_steps > 1:
            now, _ = jax.lax.scan(practise, now, (first, jax.random.split(key_first, disc_steps - 1)))
        one_round = extragradient if dynamics == "extragradient" else together
        now, seen, metrics = one_round(now, last, key_round)
        for i in range(gen_steps - 1):
            key_play, key_gen = jax.random.split(jax.random.fold_in(key_more, i))
            gen, _ = gen_step(now.gen, seen, last, *play(now.gen, last, key_play), key_gen)
            now = now._replace(gen=gen)
        players, average = {"gen": now.gen, "disc": now.disc}, dict(state.average)
        if average:
            latest = {"gen": now.gen.params, "gen_stats": now.gen.stats, "disc": now.disc.params}
            count = state.step.astype(jnp.float32)
            decay = jnp.minimum(ema_decay, (1.0 + count) / (10.0 + count))  # or the start would stay in it for long
            average = {
                name: optax.incremental_update(latest[name], mean, 1.0 - decay) for name, mean in average.items()
            }
        return State(state.step + 1, players, average, now.memory), metrics

    return step


def split_batch(batch: Batch, num: int) -> tuple[Batch, Batch]:
    """A batch of num B as num - 1 batches [num - 1, B, ...] and one [B, ...]; every device keeps its own part."""
    if num == 1:
        return {}, batch
    rows = {name: jnp.moveaxis(x.reshape(-1, num, *x.shape[1:]), 1, 0) for name, x in batch.items()}  # [num, B, ...]
    return {name: x[:-1] for name, x in rows.items()}, {name: x[-1] for name, x in rows.items()}


def is_off(value: float | Array) -> bool:
    """Whether a weight is zero for good: one that is traced may be any."""
    return not isinstance(value, Tracer) and float(value) == 0.0
