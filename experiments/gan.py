"""Generative adversarial networks: python -m experiments.gan --config=configs/gan.py[:variant]."""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import ml_collections
import optax
from flax import linen as nn
from jax.core import Tracer

from experiments.checks import choose, field
from experiments.gan_checks import check_model
from experiments.launch import Launch, launch
from experiments.nash import nash_diagnostic
from experiments.observation import dtype_of
from experiments.phase_portrait import draw_phase_portrait
from experiments.run import run
from genlab import data
from genlab.algorithm import Algorithm
from genlab.losses import adversarial
from genlab.models.adversarial import is_off
from genlab.models.games import bilinear
from genlab.models.gan import AdversarialLoss, Regulariser, Replay, gan
from genlab.networks.conditional import WithLabels
from genlab.networks.discriminators import DCGANTrunk, DenseTrunk, Discriminator, MaxoutTrunk, Quadratic
from genlab.networks.generators import DCGANGenerator, DenseGenerator
from genlab.networks.resnet import ResNetGenerator, ResNetTrunk
from genlab.training import processes
from genlab.training.optimizer import make_optimizer


def build(config: ml_collections.ConfigDict, dataset: data.Dataset) -> Algorithm:
    """The algorithm that a config describes, for examples like the dataset's."""
    field(config, "model.disc_learning_rate")  # or the config is of another family
    check_model(config, dataset)
    model, images = config.model, dataset.train["x"].ndim == 4
    gen_tx, disc_tx = optimizers(config)
    if model.network == "bilinear":
        return bilinear(gen_tx, disc_tx, dynamics=model.dynamics, ema_decay=config.ema_decay)
    conditional = model.conditioning != "none"
    generator, trunk = networks(config, dataset)
    discriminator = Discriminator(
        trunk, model.conditioning, dataset.num_classes, model.minibatch_kernels, model.minibatch_kernel_dim,
        model.stddev_group, dtype_of(config),
    )  # fmt: skip
    return gan(
        WithLabels(generator, dataset.num_classes) if conditional else generator,
        discriminator,
        make_loss(config),
        gen_tx,
        disc_tx,
        latent_dim=model.latent_dim,
        noise=model.noise,
        conditional=conditional,
        images=images,
        regulariser=Regulariser(model.penalty, model.penalty_weight, model.spectral_norm, model.clip_weights),
        replay_buffer=Replay(model.replay_capacity, model.replay_share),
        packing=model.packing,
        augment=tuple(model.augment),
        dynamics=model.dynamics,
        disc_steps=model.disc_steps,
        gen_steps=model.gen_steps,
        unroll_steps=model.unroll_steps,
        ema_decay=config.ema_decay,
    )


def optimizers(
    config: ml_collections.ConfigDict,
) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
    """(of the generator, of the discriminator); schedules count rounds, though in each a player takes several steps."""
    model, rate = config.model, config.optimizer.learning_rate
    looks = 2 if model.dynamics == "extragradient" else 1  # a step ahead, and a step from there

    def make(steps: int, **changes: Any) -> optax.GradientTransformation:
        fields: dict[str, Any] = {**config.optimizer, **changes}
        fields["warmup_steps"] *= steps
        return make_optimizer(num_steps=config.num_steps * steps, **fields)

    disc_rate = rate if is_off(model.disc_learning_rate) else model.disc_learning_rate
    if isinstance(disc_rate, Tracer):  # of which it is not seen whether it is 0, and means the generator's
        disc_rate = jnp.where(disc_rate == 0, rate, disc_rate)
    # where steps are unrolled they are differentiated, and the square root of Adam has no slope at zero
    eps_root = 1e-16 if model.unroll_steps else 0.0
    return make(looks * model.gen_steps), make(looks * model.disc_steps, learning_rate=disc_rate, eps_root=eps_root)


def networks(config: ml_collections.ConfigDict, dataset: data.Dataset) -> tuple[nn.Module, nn.Module]:
    """(generator, trunk of the discriminator)."""
    model, shape, dtype = config.model, dataset.train["x"].shape[1:], dtype_of(config)
    images, coarsest_first = len(shape) == 3, tuple(model.channels)[::-1]
    hidden, disc_hidden, channels = tuple(model.hidden), tuple(model.disc_hidden), tuple(model.channels)
    dense = lambda: DenseGenerator(hidden, shape, batch_norm=model.gen_batch_norm, squash=images, dtype=dtype)
    known = {
        "dcgan": lambda: (
            DCGANGenerator(coarsest_first, shape, model.gen_batch_norm, dtype),
            DCGANTrunk(channels, model.disc_norm, dtype),
        ),
        "resnet": lambda: (
            ResNetGenerator(coarsest_first, shape, model.gen_batch_norm, dtype),
            ResNetTrunk(channels, model.disc_norm, dtype),
        ),
        "dense": lambda: (dense(), DenseTrunk(disc_hidden, model.disc_norm, dtype=dtype)),
        "maxout": lambda: (dense(), MaxoutTrunk(disc_hidden, model.maxout_pieces, dtype)),
        "affine": lambda: (DenseGenerator((), shape, squash=images, kernel_init=nn.initializers.ones), Quadratic()),
    }
    return choose("model.network", model.network, known)()


def make_loss(config: ml_collections.ConfigDict) -> AdversarialLoss:
    """What the players minimise."""
    smoothing = config.model.label_smoothing
    smoothed = lambda loss: functools.partial(loss, label_smoothing=smoothing)
    alone = lambda loss: lambda fake_logits, real_logits: loss(fake_logits)
    known: dict[str, Callable[[], AdversarialLoss]] = {
        "minimax": lambda: AdversarialLoss(
            smoothed(adversarial.minimax_discriminator_loss), alone(adversarial.minimax_generator_loss)
        ),
        "non_saturating": lambda: AdversarialLoss(
            smoothed(adversarial.non_saturating_discriminator_loss), alone(adversarial.non_saturating_generator_loss)
        ),
        "least_squares": lambda: AdversarialLoss(
            smoothed(adversarial.least_squares_discriminator_loss), alone(adversarial.least_squares_generator_loss),
            threshold=0.5,
        ),
        "hinge": lambda: AdversarialLoss(
            adversarial.hinge_discriminator_loss, alone(adversarial.hinge_generator_loss)
        ),
        "wasserstein": lambda: AdversarialLoss(
            adversarial.wasserstein_discriminator_loss, alone(adversarial.wasserstein_generator_loss), threshold=None
        ),
        "relativistic": lambda: AdversarialLoss(
            adversarial.relativistic_discriminator_loss, adversarial.relativistic_generator_loss, True, None
        ),
        "relativistic_average": lambda: AdversarialLoss(
            adversarial.relativistic_average_discriminator_loss, adversarial.relativistic_average_generator_loss,
            True, None
        ),
    }  # fmt: skip
    return choose("model.loss", config.model.loss, known)()


def main(arguments: Launch) -> None:
    """Trains, evaluates and reports."""
    run(arguments, build, lambda dataset: nash_diagnostic(build, dataset))
    if processes.is_main() and arguments.config.population is None:
        draw_phase_portrait(arguments)


if __name__ == "__main__":
    launch("experiments.gan", main)
