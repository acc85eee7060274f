"""The rules of style-based games: what the players see of a phase, what they lose, and penalties every few steps.

Reference: Karras et al. 2018 (ProGAN), 2019 (StyleGAN), 2020 (StyleGAN2), and their code where the papers are silent.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from genlab.algorithm import Array, Batch, Key, Metrics, Player, PyTree, descend
from genlab.losses.path_length import path_lengths
from genlab.losses.penalty import gradient_penalty, r1_penalty
from genlab.models.adversarial import Game, is_off
from genlab.models.gan import AdversarialLoss, of_logits
from genlab.models.growth import Phase
from genlab.models.judge import BLACK
from genlab.models.painters import Painter, mix
from genlab.networks.augment import differentiable_augment
from genlab.networks.progressive import fade
from genlab.networks.resampling import downsample_mean, upsample_nearest
from genlab.networks.variables import apply

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


class Rules(NamedTuple):
    """Of one game, at all phases.

    Attributes:
        painter: the generator.
        discriminator: (images f32[B, r, r, C]), and alpha where it grows -> logits f32[B].
        loss: of the two players.
        latent_dim: D.
        grows: whether there is more than one phase.
        penalties: of both players.
        mixing: probability that a batch has the styles of two codes, the second's from a random layer on.
        augment: kinds of `differentiable_augment`, of all that the discriminator sees.
    """

    painter: Painter
    discriminator: nn.Module
    loss: AdversarialLoss
    latent_dim: int
    grows: bool
    penalties: Penalties
    mixing: float | Array
    augment: tuple[str, ...]

    def codes(self, key: Key, num: int) -> Array:
        """z f32[num, D]."""
        return jax.random.normal(key, (num, self.latent_dim))

    def styles(self, params: PyTree, num: int, phase: Phase, key: Key) -> tuple[Array, Array]:
        """w of every layer f32[num, L, F], of one code or mixed, and the mean of the first codes' w."""
        key_codes, key_others, key_coin, key_layer = jax.random.split(key, 4)
        painter, layers = self.painter, self.painter.num_layers(phase.resolution)
        w = painter.map(params, self.codes(key_codes, num))
        styles = painter.broadcast(w, phase.resolution)
        if layers > 1 and not is_off(self.mixing):
            # one crossover for the batch, as in the authors' code
            crossover = jax.random.randint(key_layer, (), 1, layers)
            crossover = jnp.where(jax.random.uniform(key_coin) < self.mixing, crossover, layers)
            others = painter.map(params, self.codes(key_others, num))
            styles = mix(styles, painter.broadcast(others, phase.resolution), crossover)
        return styles, jnp.mean(w, axis=0)

    def real(self, x: Array, phase: Phase, alpha: Array) -> Array:
        """Images f32[B, R, R, C] in [0, 1] as the discriminator sees them, f32[B, r, r, C] in [-1, 1]."""
        x = downsample_mean(2.0 * x - 1.0, self.painter.resolution // phase.resolution)
        return fade(upsample_nearest(downsample_mean(x)), x, alpha) if phase.fade_steps else x

    def look(self, x: Array, key: Key) -> Array:
        """The same, augmented."""
        return differentiable_augment(key, x, self.augment, fill=BLACK) if self.augment else x

    def judge(self, params: PyTree, x: Array, alpha: Array) -> Array:
        """Logits f32[B]."""
        return apply(self.discriminator, params, {}, x, *((alpha,) if self.grows else ()))[0]

    def penalty(self, params: PyTree, phase: Phase, alpha: Array, real: Array, fake: Array, key: Key) -> Array:
        """f32[], without its weight."""
        # a slope in images enlarged f times is 1 / f of that in the images themselves
        scale = phase.resolution / self.painter.resolution
        critic = lambda x: self.judge(params, x, alpha) * scale
        if self.penalties.kind == "gradient":
            return jnp.mean(gradient_penalty(critic, real, fake, key))
        return jnp.mean(r1_penalty(critic, real))

    def game(self, phase: Phase) -> Game:
        """At one resolution; the batch holds what is seen, and alpha."""

        def play(params: PyTree, stats: PyTree, batch: Batch, key: Key) -> tuple[Array, PyTree]:
            key_styles, key_noise = jax.random.split(key)
            num = batch["x"].shape[0]
            styles, mean = self.styles(params, num, phase, key_styles)
            noise = self.painter.draw_noise(key_noise, num, phase.resolution)
            x = self.painter.paint(params, styles, noise, phase.resolution, batch["alpha"])
            return x, {"w_mean": stats["w_mean"] + W_MEAN_RATE * (mean - stats["w_mean"])}

        def disc_loss(
            params: PyTree, stats: PyTree, batch: Batch, fakes: Batch, key: Key
        ) -> tuple[Array, tuple[PyTree, Metrics]]:
            key_real, key_fake, key_penalty = jax.random.split(key, 3)
            real, fake = self.look(batch["x"], key_real), self.look(fakes["x"], key_fake)
            real_logits, fake_logits = (self.judge(params, x, batch["alpha"]) for x in (real, fake))
            value = jnp.mean(self.loss.discriminator(real_logits, fake_logits))
            metrics = {"disc_loss": value, **of_logits(real_logits, fake_logits, self.loss.threshold)}
            value = value + self.penalties.drift * jnp.mean(jnp.square(real_logits))
            if self.penalties.kind != "none" and self.penalties.every == 1:
                term = self.penalty(params, phase, batch["alpha"], real, fake, key_penalty)
                value, metrics = value + self.penalties.weight * term, {**metrics, "penalty": term}
            return value, (stats, metrics)

        def gen_loss(params: PyTree, stats: PyTree, batch: Batch, fakes: Batch, key: Key) -> tuple[Array, Metrics]:
            key_real, key_fake = jax.random.split(key)
            fake_logits = self.judge(params, self.look(fakes["x"], key_fake), batch["alpha"])
            real_logits = jnp.zeros_like(fake_logits)
            if self.loss.is_relativistic:
                real_logits = self.judge(params, self.look(batch["x"], key_real), batch["alpha"])
            value = jnp.mean(self.loss.generator(fake_logits, real_logits))
            return value, {"gen_loss": value}

        return Game(play, disc_loss, gen_loss)

    def lazy_r1(self, disc: Player, tx: optax.GradientTransformation, phase: Phase, batch: Batch, key: Key) -> Player:
        """The discriminator after a step along its penalty alone, with the weight of all steps between two of it."""

        def loss_fn(params: PyTree, stats: PyTree) -> tuple[Array, tuple[PyTree, None]]:
            real = self.look(batch["x"], key)
            term = self.penalty(params, phase, batch["alpha"], real, real, key)
            return self.penalties.weight * self.penalties.every * term, (stats, None)

        return descend(disc, tx, loss_fn)[0]

    def lazy_path_length(
        self, gen: Player, tx: optax.GradientTransformation, mean: Array, phase: Phase, batch: Batch, key: Key
    ) -> tuple[Player, Array]:
        """The generator after a step along its penalty, of half a batch, and the average length that it is held to."""
        num = max(batch["x"].shape[0] // 2, 1)
        key_styles, key_noise, key_image = jax.random.split(key, 3)

        def loss_fn(params: PyTree, stats: PyTree) -> tuple[Array, tuple[PyTree, Array]]:
            styles, _ = self.styles(params, num, phase, key_styles)
            noise = self.painter.draw_noise(key_noise, num, phase.resolution)
            paint = lambda styles: self.painter.paint(params, styles, noise, phase.resolution, batch["alpha"])
            lengths = path_lengths(paint, styles, key_image)
            latest = mean + LENGTH_MEAN_RATE * (jnp.mean(lengths) - mean)
            term = jnp.mean(jnp.square(lengths - latest))
            return self.penalties.path_length * self.penalties.path_length_every * term, (stats, latest)

        gen, _, latest = descend(gen, tx, loss_fn)
        return gen, jax.lax.stop_gradient(latest)


def lazy_correction(rate: float | Array, b1: float, b2: float, every: int) -> tuple[float | Array, float, float]:
    """Adam's rate and decays where every k-th step is followed by one of a penalty: c = k / (k + 1), rate c, b^c.

    Reference: Karras et al. 2020, appendix B.
    """
    if every <= 1:
        return rate, b1, b2
    c = every / (every + 1)
    return rate * c, b1**c, b2**c
