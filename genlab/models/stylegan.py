"""ProGAN, StyleGAN and StyleGAN2: adversarial games whose networks grow, or whose penalties come every few steps.

The players are "gen" and "disc"; at resolution r the discriminator sees images of r x r, real ones averaged down to it
and faded as the networks are. A step is that of `genlab.models.adversarial`, one forward pass of the generator serving
both players; lazy penalties are steps of their own after it (Karras et al. 2020, appendix B).

Reference: Karras et al. 2018 (ProGAN), 2019 (StyleGAN), 2020 (StyleGAN2), and their code where the papers are silent.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

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
    Stage,
    State,
    descend,
    new_player,
    new_state,
)  # fmt: skip
from genlab.losses.path_length import path_lengths
from genlab.losses.penalty import gradient_penalty, r1_penalty
from genlab.models.adversarial import Game, is_off, make_step
from genlab.models.gan import AdversarialLoss, accuracy, of_logits
from genlab.models.growth import Phase
from genlab.models.painters import Painter, mix
from genlab.networks.augment import differentiable_augment
from genlab.networks.progressive import fade
from genlab.networks.resampling import downsample_mean, enlarge, upsample_nearest
from genlab.networks.variables import apply, init

BLACK = -1.0
W_MEAN_RATE, LENGTH_MEAN_RATE = 0.005, 0.01  # of the moving averages of w, and of the length of paths


class Penalties(NamedTuple):
    """What is asked of the players beside their losses.

    Attributes:
        kind: of the discriminator's: "gradient" (Gulrajani et al. 2017), "r1" (Mescheder et al. 2018) or "none".
        weight: of it. At a resolution r below R it is that of images enlarged to R, as in the authors' code.
        every: steps between two of it, each with so many times the weight; 1: it is part of the loss.
        drift: weight of the squared logits of real images.
        path_length: weight of the generator's; 0: none.
        path_length_every: steps between two of it.
    """

    kind: str = "r1"
    weight: float | Array = 5.0
    every: int = 1
    drift: float | Array = 0.0
    path_length: float | Array = 0.0
    path_length_every: int = 4


def style_gan(
    painter: Painter,
    discriminator: nn.Module,
    loss: AdversarialLoss,
    gen_tx: optax.GradientTransformation,
    disc_tx: optax.GradientTransformation,
    *,
    latent_dim: int,
    phases: Sequence[Phase],
    penalties: Penalties,
    mixing: float | Array = 0.0,
    augment: tuple[str, ...] = (),
    ema_decay: float | Array = 0.0,
) -> Algorithm:
    """A game of a painter and a discriminator.

    Args:
        painter: the generator.
        discriminator: (images f32[B, r, r, C]), and alpha where it grows -> logits f32[B].
        loss: of the two players.
        gen_tx, disc_tx: their optimizers, with rates that do not change: where it grows they begin anew, moments and
            counts, at the start and at the end of every fade. For lazy penalties they are to be corrected, see
            `lazy_correction`.
        latent_dim: D.
        phases: of growing; one that takes all steps where nothing grows.
        penalties: of both players.
        mixing: probability that a batch has the styles of two codes, the second's from a random layer on.
        augment: kinds of `differentiable_augment`, of all that the discriminator sees.
        ema_decay: of the moving average of the generator; a concrete 0 for none.

    Returns:
        Algorithm with a stage a phase. `generate` and `decode` are of the phase that the State is in, enlarged to R,
        the latter without noise. State.average has the mean of w, "gen_stats".
    """
    largest, grows = phases[-1].resolution, len(phases) > 1

    def styles_of(params: PyTree, batch_size: int, resolution: int, key: Key) -> tuple[Array, Array]:
        """w of every layer f32[B, L, F], of one code or mixed, and the mean of the first codes' w."""
        key_codes, key_others, key_coin, key_layer = jax.random.split(key, 4)
        draw = lambda key: painter.map(params, jax.random.normal(key, (batch_size, latent_dim)))
        w, layers = draw(key_codes), painter.num_layers(resolution)
        styles = painter.broadcast(w, resolution)
        if layers > 1 and not is_off(mixing):
            # one crossover for the batch, as in the authors' code
            crossover = jax.random.randint(key_layer, (), 1, layers)
            crossover = jnp.where(jax.random.uniform(key_coin) < mixing, crossover, layers)
            styles = mix(styles, painter.broadcast(draw(key_others), resolution), crossover)
        return styles, jnp.mean(w, axis=0)

    def seen(x: Array, phase: Phase, alpha: Array) -> Array:
        """Real images as the discriminator sees them, f32[B, r, r, C] in [-1, 1]."""
        x = downsample_mean(2.0 * x - 1.0, largest // phase.resolution)
        return fade(upsample_nearest(downsample_mean(x)), x, alpha) if phase.fade_steps else x

    def look(x: Array, key: Key) -> Array:
        return differentiable_augment(key, x, augment, fill=BLACK) if augment else x

    def judge(params: PyTree, x: Array, alpha: Array) -> Array:
        return apply(discriminator, params, {}, x, *((alpha,) if grows else ()))[0]

    def penalty(params: PyTree, phase: Phase, alpha: Array, real: Array, fake: Array, key: Key) -> Array:
        # a slope in images enlarged f times is 1 / f of that in the images themselves
        critic = lambda x: judge(params, x, alpha) * (phase.resolution / largest)
        if penalties.kind == "gradient":
            return jnp.mean(gradient_penalty(critic, real, fake, key))
        return jnp.mean(r1_penalty(critic, real))

    def init_state(key: Key, batch: Batch) -> State:
        key_gen, key_disc, key_codes = jax.random.split(key, 3)
        codes = jax.random.normal(key_codes, (batch["x"].shape[0], latent_dim))
        params = painter.init(key_gen, codes)
        stats = {"w_mean": jnp.zeros_like(painter.map(params, codes)[0])}
        disc_params, _ = init(discriminator, key_disc, seen(batch["x"], phases[-1], jnp.ones(())))
        players = {"gen": new_player(params, gen_tx, stats), "disc": new_player(disc_params, disc_tx)}
        average = {} if is_off(ema_decay) else jax.tree.map(jnp.copy, {"gen": params, "gen_stats": stats})
        return new_state(players, average, {"path_length": jnp.zeros(())} if path_length_on else {})

    def game_of(phase: Phase) -> Game:
        """At one resolution; the batch holds what is seen, and alpha."""

        def play(params: PyTree, stats: PyTree, batch: Batch, key: Key) -> tuple[Array, PyTree]:
            key_styles, key_noise = jax.random.split(key)
            num = batch["x"].shape[0]
            styles, mean = styles_of(params, num, phase.resolution, key_styles)
            noise = painter.draw_noise(key_noise, num, phase.resolution)
            x = painter.paint(params, styles, noise, phase.resolution, batch["alpha"])
            return x, {"w_mean": stats["w_mean"] + W_MEAN_RATE * (mean - stats["w_mean"])}

        def disc_loss(
            params: PyTree, stats: PyTree, batch: Batch, fakes: Batch, key: Key
        ) -> tuple[Array, tuple[PyTree, Metrics]]:
            key_real, key_fake, key_penalty = jax.random.split(key, 3)
            real, fake = look(batch["x"], key_real), look(fakes["x"], key_fake)
            real_logits, fake_logits = (judge(params, x, batch["alpha"]) for x in (real, fake))
            value = jnp.mean(loss.discriminator(real_logits, fake_logits))
            metrics = {"disc_loss": value, **of_logits(real_logits, fake_logits, loss.threshold)}
            value = value + penalties.drift * jnp.mean(jnp.square(real_logits))
            if penalties.kind != "none" and penalties.every == 1:
                term = penalty(params, phase, batch["alpha"], real, fake, key_penalty)
                value, metrics = value + penalties.weight * term, {**metrics, "penalty": term}
            return value, (stats, metrics)

        def gen_loss(params: PyTree, stats: PyTree, batch: Batch, fakes: Batch, key: Key) -> tuple[Array, Metrics]:
            key_real, key_fake = jax.random.split(key)
            fake_logits = judge(params, look(fakes["x"], key_fake), batch["alpha"])
            real_logits = jnp.zeros_like(fake_logits)
            if loss.is_relativistic:
                real_logits = judge(params, look(batch["x"], key_real), batch["alpha"])
            value = jnp.mean(loss.generator(fake_logits, real_logits))
            return value, {"gen_loss": value}

        return Game(play, disc_loss, gen_loss)

    def lazy_r1(disc: Player, phase: Phase, batch: Batch, key: Key) -> Player:
        def loss_fn(params: PyTree, stats: PyTree) -> tuple[Array, tuple[PyTree, None]]:
            real = look(batch["x"], key)
            term = penalty(params, phase, batch["alpha"], real, real, key)
            return penalties.weight * penalties.every * term, (stats, None)

        return descend(disc, disc_tx, loss_fn)[0]

    def lazy_path_length(gen: Player, mean: Array, phase: Phase, batch: Batch, key: Key) -> tuple[Player, Array]:
        num = max(batch["x"].shape[0] // 2, 1)
        key_styles, key_noise, key_image = jax.random.split(key, 3)

        def loss_fn(params: PyTree, stats: PyTree) -> tuple[Array, tuple[PyTree, Array]]:
            styles, _ = styles_of(params, num, phase.resolution, key_styles)
            noise = painter.draw_noise(key_noise, num, phase.resolution)
            paint = lambda styles: painter.paint(params, styles, noise, phase.resolution, batch["alpha"])
            lengths = path_lengths(paint, styles, key_image)
            latest = mean + LENGTH_MEAN_RATE * (jnp.mean(lengths) - mean)
            term = jnp.mean(jnp.square(lengths - latest))
            return penalties.path_length * penalties.path_length_every * term, (stats, latest)

        gen, _, latest = descend(gen, gen_tx, loss_fn)
        return gen, jax.lax.stop_gradient(latest)

    path_length_on = not is_off(penalties.path_length)

    def step_of(phase: Phase) -> Callable[[State, Batch, Key], tuple[State, Metrics]]:
        round_of = make_step(game_of(phase), gen_tx, disc_tx, ema_decay=ema_decay)

        def step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
            key_round, key_disc, key_gen = jax.random.split(key, 3)
            now, alpha = state.step, phase.alpha(state.step)
            if grows:
                begins = (now == phase.first_step) | (now == phase.first_step + phase.fade_steps)
                players = {"gen": anew(state.players["gen"], gen_tx, begins),
                           "disc": anew(state.players["disc"], disc_tx, begins)}  # fmt: skip
                state = dataclasses.replace(state, players=players)
            batch = {"x": seen(batch["x"], phase, alpha), "alpha": alpha}
            state, metrics = round_of(state, batch, key_round)
            players, memory = dict(state.players), state.memory
            if path_length_on:
                due = lambda gen, mean: lazy_path_length(gen, mean, phase, batch, key_gen)
                players["gen"], mean = jax.lax.cond(
                    now % penalties.path_length_every == 0, due, lambda *same: same, players["gen"],
                    memory["path_length"],
                )  # fmt: skip
                memory, metrics = {**memory, "path_length": mean}, {**metrics, "path_length": mean}
            if penalties.kind != "none" and penalties.every > 1:
                players["disc"] = jax.lax.cond(
                    now % penalties.every == 0, lambda disc: lazy_r1(disc, phase, batch, key_disc), lambda disc: disc,
                    players["disc"],
                )  # fmt: skip
            metrics = {**metrics, "resolution": jnp.float32(phase.resolution), "alpha": alpha} if grows else metrics
            return dataclasses.replace(state, players=players, memory=memory), metrics

        return step

    def in_its_phase(of: Callable[[Phase, Array], PyTree], state: State) -> PyTree:
        """What `of` gives for the phase that the State is in, which is that of the step it took last."""
        last = jnp.maximum(state.step - 1, 0)
        number = sum((last >= phase.first_step).astype(jnp.int32) for phase in phases[1:])
        if not grows:
            return of(phases[0], jnp.ones(()))
        return jax.lax.switch(number, [lambda phase=phase: of(phase, phase.alpha(last)) for phase in phases])

    def weights(state: State) -> PyTree:
        return state.average.get("gen", state.players["gen"].params)

    def shown(state: State, codes: Array, draw: Callable[[int], list[Array]]) -> Array:
        params = weights(state)
        w = painter.map(params, codes)

        def of(phase: Phase, alpha: Array) -> Array:
            styles = painter.broadcast(w, phase.resolution)
            x = painter.paint(params, styles, draw(phase.resolution), phase.resolution, alpha)
            return enlarge(0.5 * (x + 1.0), largest // phase.resolution)

        return in_its_phase(of, state)

    def generate(state: State, batch: Batch, key: Key) -> Array:
        key_codes, key_noise = jax.random.split(key)
        num = batch["x"].shape[0]
        codes = jax.random.normal(key_codes, (num, latent_dim))
        return shown(state, codes, lambda resolution: painter.draw_noise(key_noise, num, resolution))

    def decode(state: State, codes: Array, key: Key) -> Array:
        silent = lambda resolution: [jnp.zeros_like(n) for n in painter.draw_noise(key, 1, resolution)]
        return shown(state, codes, silent)

    def evaluate(state: State, batch: Batch, key: Key) -> Metrics:
        key_codes, key_noise, key_real, key_fake = jax.random.split(key, 4)
        num = batch["x"].shape[0]
        gen, disc = state.players["gen"].params, state.players["disc"].params

        def of(phase: Phase, alpha: Array) -> tuple[Array, Array]:
            styles = painter.broadcast(
                painter.map(gen, jax.random.normal(key_codes, (num, latent_dim))), phase.resolution
            )
            noise = painter.draw_noise(key_noise, num, phase.resolution)
            fake = look(painter.paint(gen, styles, noise, phase.resolution, alpha), key_fake)
            real = look(seen(batch["x"], phase, alpha), key_real)
            return judge(disc, real, alpha), judge(disc, fake, alpha)

        real_logits, fake_logits = in_its_phase(of, state)
        return {
            "disc_loss": loss.discriminator(real_logits, fake_logits),
            "gen_loss": loss.generator(fake_logits, real_logits),
            "real_logit": real_logits,
            "fake_logit": fake_logits,
            "accuracy": accuracy(real_logits, fake_logits, loss.threshold),
        }

    stages = tuple(Stage(phase.last_step, phase.batch_size, step_of(phase)) for phase in phases)
    return Algorithm(
        init_state, stages[-1].step, evaluate, generate, None, decode, None, "implicit", stages=stages if grows else ()
    )


def anew(player: Player, tx: optax.GradientTransformation, begins: Array) -> Player:
    """The player, its optimizer's state a fresh one where it `begins`."""
    fresh = tx.init(player.params)
    opt_state = jax.tree.map(lambda new, old: jnp.where(begins, new, old), fresh, player.opt_state)
    return dataclasses.replace(player, opt_state=opt_state)


def lazy_correction(rate: float | Array, b1: float, b2: float, every: int) -> tuple[float | Array, float, float]:
    """Adam's rate and decays where every k-th step is followed by one of a penalty: c = k / (k + 1), rate c, b^c.

    Reference: Karras et al. 2020, appendix B.
    """
    if every <= 1:
        return rate, b1, b2
    c = every / (every + 1)
    return rate * c, b1**c, b2**c
