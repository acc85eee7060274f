"""ProGAN, StyleGAN and StyleGAN2: python -m experiments.stylegan --config=configs/stylegan.py[:variant]."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import ml_collections
import optax
from flax import linen as nn
from jax.core import Tracer

from experiments.checks import at_least, choose, field, known
from experiments.gan import make_loss
from experiments.launch import Launch, launch
from experiments.observation import dtype_of
from experiments.run import run
from genlab import data
from genlab.algorithm import Algorithm
from genlab.errors import InputError
from genlab.models.adversarial import is_off
from genlab.models.growth import Phase, grow
from genlab.models.painters import Painter, progressive, style_based
from genlab.models.style_rules import Penalties, lazy_correction
from genlab.models.stylegan import style_gan
from genlab.networks.augment import KINDS
from genlab.networks.modulated import ResidualDiscriminator, SkipGenerator
from genlab.networks.progressive import ProgressiveDiscriminator, ProgressiveGenerator
from genlab.networks.style import Mapping, StyleGenerator
from genlab.training.optimizer import make_optimizer


class Networks(NamedTuple):
    """Both players'."""

    painter: Painter
    discriminator: nn.Module


def build(config: ml_collections.ConfigDict, dataset: data.Dataset) -> Algorithm:
    """The algorithm that a config describes, for examples like the dataset's."""
    field(config, "model.stage_steps")  # or the config is of another family
    check_model(config, dataset)
    model = config.model
    penalties = Penalties(
        model.penalty, model.penalty_weight, model.penalty_every, model.drift,
        0.0 if model.network == "progan" else model.path_length_weight, model.path_length_every,
    )  # fmt: skip
    return style_gan(
        *networks(config, dataset),
        make_loss(config),
        *optimizers(config, penalties),
        latent_dim=model.latent_dim,
        phases=phases_of(config),
        penalties=penalties,
        mixing=model.mixing,
        augment=tuple(model.augment),
        ema_decay=config.ema_decay,
    )


def resolutions(config: ml_collections.ConfigDict) -> list[int]:
    """At which is trained: one where nothing grows."""
    largest = 4 << len(config.model.channels) - 1
    if not config.model.stage_steps:
        return [largest]
    return [side for side in (4 << number for number in range(len(config.model.channels)))
            if side >= config.model.first_resolution]  # fmt: skip


def phases_of(config: ml_collections.ConfigDict) -> list[Phase]:
    """Of the whole run."""
    sizes, model = resolutions(config), config.model
    batch_sizes = tuple(model.stage_batch_sizes) or (config.batch_size,) * len(sizes)
    return grow(sizes, model.stage_steps, config.num_steps, batch_sizes, model.fade_share)


def networks(config: ml_collections.ConfigDict, dataset: data.Dataset) -> Networks:
    """As `model.network` says."""
    model, channels, dtype = config.model, tuple(config.model.channels), dtype_of(config)
    depth, group = dataset.train["x"].shape[3], model.stddev_group
    known = {
        "progan": lambda: Networks(
            progressive(ProgressiveGenerator(channels, depth, dtype)),
            ProgressiveDiscriminator(channels, group, dtype=dtype),
        ),
        "stylegan": lambda: Networks(
            style_based(Mapping(model.latent_dim, model.mapping_layers), StyleGenerator(channels, depth, dtype)),
            ProgressiveDiscriminator(channels, group, smooth=True, dtype=dtype),
        ),
        "stylegan2": lambda: Networks(
            style_based(
                Mapping(model.latent_dim, model.mapping_layers, gain=1.0, scale=math.sqrt(2.0)),
                SkipGenerator(channels, depth, dtype),
            ),
            ResidualDiscriminator(channels, group, dtype),
        ),
    }
    return choose("model.network", model.network, known)()


def optimizers(
    config: ml_collections.ConfigDict, penalties: Penalties
) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
    """(of the generator, of the discriminator), corrected for the steps that lazy penalties take."""
    model, rate = config.model, config.optimizer.learning_rate
    disc_rate = rate if is_off(model.disc_learning_rate) else model.disc_learning_rate
    if isinstance(disc_rate, Tracer):  # of which it is not seen whether it is 0, and means the generator's
        disc_rate = jnp.where(disc_rate == 0, rate, disc_rate)

    def make(rate: Any, every: int) -> optax.GradientTransformation:
        rate, b1, b2 = lazy_correction(rate, config.optimizer.b1, config.optimizer.b2, every)
        fields: dict[str, Any] = {**config.optimizer, "learning_rate": rate, "b1": b1, "b2": b2}
        return make_optimizer(num_steps=config.num_steps, **fields)

    gen_every = 1 if is_off(penalties.path_length) else penalties.path_length_every
    disc_every = 1 if penalties.kind == "none" else penalties.every
    return make(rate, gen_every), make(disc_rate, disc_every)


def check_model(config: ml_collections.ConfigDict, dataset: data.Dataset) -> None:
    """Raises InputError for a game that cannot be played."""
    ones = ("channels", "latent_dim", "mapping_layers", "penalty_every", "path_length_every", "stage_batch_sizes")
    zeros = ("stddev_group", "mixing", "disc_learning_rate", "penalty_weight", "drift", "path_length_weight",
             "fade_share", "label_smoothing")  # fmt: skip
    at_least(config, {f"model.{name}": 1 for name in ones} | {f"model.{name}": 0 for name in zeros})
    choose("model.penalty", config.model.penalty, dict.fromkeys(("none", "r1", "gradient")))
    for kind in config.model.augment:
        choose("model.augment", kind, KINDS)
    model, shape, largest = config.model, dataset.train["x"].shape[1:], 4 << len(config.model.channels) - 1
    if not model.channels:
        raise InputError("model.channels is empty; it has a width for 4x4 and one for every size after it")
    if shape[:2] != (largest, largest):
        raise InputError(
            f"model.channels has {len(model.channels)} widths, from 4x4 to {largest}x{largest}, and {dataset.name} "
            f"holds images of {' x '.join(map(str, shape))}: add widths, or set data.image_size or data.padding"
        )
    for name in ("mixing", "fade_share"):
        if any(share > 1 for share in known(model[name])):
            raise InputError(f"model.{name} is {model[name]}; it must be at most 1")
    if model.network == "stylegan2" and model.stage_steps:
        raise InputError("model.network 'stylegan2' does not grow: set model.stage_steps to ()")
    if model.stage_steps and config.optimizer.schedule != "constant":
        raise InputError(
            f"optimizer.schedule is {config.optimizer.schedule!r}; optimizers begin anew as networks grow: set it to "
            "constant"
        )
    if model.penalty == "gradient" and model.penalty_every > 1:
        raise InputError("model.penalty_every is of r1; a gradient penalty is between real and fake, at every step")
    for size in (*(phase.batch_size for phase in phases_of(config)), config.evaluation.batch_size):
        group = min(model.stddev_group, size)
        if group and size % group:
            raise InputError(f"model.stddev_group is {group}; it must divide every batch, and does not divide {size}")


def main(arguments: Launch) -> None:
    """Trains, evaluates and reports."""
    run(arguments, build)


if __name__ == "__main__":
    launch("experiments.stylegan", main)
