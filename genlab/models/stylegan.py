"""ProGAN, StyleGAN and StyleGAN2: adversarial games whose networks grow, or whose penalties come every few steps.

The players are "gen" and "disc"; at resolution r the discriminator sees images of r x r, real ones averaged down to it
and faded as the networks are. A step is that of `genlab.models.adversarial`, one forward pass of the generator serving
both players; lazy penalties are steps of their own after it (Karras et al. 2020, appendix B). The members of a
population that takes its steps together pay for them at every step.

Reference: Karras et al. 2018 (ProGAN), 2019 (StyleGAN), 2020 (StyleGAN2), and their code where the papers are silent.
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
    Stage,
    State,
    new_player,
    new_state,
)
from genlab.models.adversarial import is_off, make_step
from genlab.models.gan import AdversarialLoss, accuracy
from genlab.models.growth import Phase
from genlab.models.painters import Painter
from genlab.models.style_rules import Penalties, Rules
from genlab.networks.resampling import enlarge
from genlab.networks.variables import init


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
    rules = Rules(painter, discriminator, loss, latent_dim, grows, penalties, mixing, augment)
    path_length_on = not is_off(penalties.path_length)

    def init_state(key: Key, batch: Batch) -> State:
        key_gen, key_disc, key_codes = jax.random.split(key, 3)
        codes = rules.codes(key_codes, batch["x"].shape[0])
        params = painter.init(key_gen, codes)
        stats = {"w_mean": jnp.zeros_like(painter.map(params, codes)[0])}
        disc_params, _ = init(discriminator, key_disc, rules.real(batch["x"], phases[-1], jnp.ones(())))
        players = {"gen": new_player(params, gen_tx, stats), "disc": new_player(disc_params, disc_tx)}
        average = {} if is_off(ema_decay) else jax.tree.map(jnp.copy, {"gen": params, "gen_stats": stats})
        return new_state(players, average, {"path_length": jnp.zeros(())} if path_length_on else {})

    def step_of(phase: Phase) -> Callable[[State, Batch, Key], tuple[State, Metrics]]:
        round_of = make_step(rules.game(phase), gen_tx, disc_tx, ema_decay=ema_decay)

        def step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
            key_round, key_disc, key_gen = jax.random.split(key, 3)
            now, alpha = state.step, phase.alpha(state.step)
            if grows:
                begins = (now == phase.first_step) | (now == phase.first_step + phase.fade_steps)
                players = {"gen": anew(state.players["gen"], gen_tx, begins),
                           "disc": anew(state.players["disc"], disc_tx, begins)}  # fmt: skip
                state = dataclasses.replace(state, players=players)
            batch = {"x": rules.real(batch["x"], phase, alpha), "alpha": alpha}
            state, metrics = round_of(state, batch, key_round)
            players, memory = dict(state.players), state.memory
            if path_length_on:
                due = lambda gen, mean: rules.lazy_path_length(gen, gen_tx, mean, phase, batch, key_gen)
                players["gen"], mean = jax.lax.cond(
                    now % penalties.path_length_every == 0, due, lambda *same: same, players["gen"],
                    memory["path_length"],
                )  # fmt: skip
                memory, metrics = {**memory, "path_length": mean}, {**metrics, "path_length": mean}
            if penalties.kind != "none" and penalties.every > 1:
                due = lambda disc: rules.lazy_r1(disc, disc_tx, phase, batch, key_disc)
                players["disc"] = jax.lax.cond(now % penalties.every == 0, due, lambda disc: disc, players["disc"])
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
        codes = rules.codes(key_codes, num)
        return shown(state, codes, lambda resolution: painter.draw_noise(key_noise, num, resolution))

    def decode(state: State, codes: Array, key: Key) -> Array:
        silent = lambda resolution: [jnp.zeros_like(n) for n in painter.draw_noise(key, 1, resolution)]
        return shown(state, codes, silent)

    def evaluate(state: State, batch: Batch, key: Key) -> Metrics:
        key_codes, key_noise, key_real, key_fake = jax.random.split(key, 4)
        num = batch["x"].shape[0]
        gen, disc = state.players["gen"].params, state.players["disc"].params

        def of(phase: Phase, alpha: Array) -> tuple[Array, Array]:
            styles = painter.broadcast(painter.map(gen, rules.codes(key_codes, num)), phase.resolution)
            noise = painter.draw_noise(key_noise, num, phase.resolution)
            fake = rules.look(painter.paint(gen, styles, noise, phase.resolution, alpha), key_fake)
            real = rules.look(rules.real(batch["x"], phase, alpha), key_real)
            return rules.judge(disc, real, alpha), rules.judge(disc, fake, alpha)

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
