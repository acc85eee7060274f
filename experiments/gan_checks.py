"""Which fields of a GAN's config go together, said in one line where they do not."""

import ml_collections

from experiments.checks import at_least, choose, field, known
from genlab import data
from genlab.errors import InputError
from genlab.models.adversarial import DYNAMICS, is_off
from genlab.models.gan import PENALTIES
from genlab.networks.augment import KINDS

COUNTS = ("model.latent_dim", "model.hidden", "model.disc_hidden", "model.channels", "model.maxout_pieces",
          "model.packing", "model.disc_steps", "model.gen_steps", "model.minibatch_kernel_dim")  # fmt: skip
AMOUNTS = ("model.replay_capacity", "model.replay_share", "model.minibatch_kernels", "model.stddev_group",
           "model.unroll_steps", "model.disc_learning_rate", "model.penalty_weight", "model.clip_weights",
           "model.label_smoothing", "model.duality_gap_steps")  # fmt: skip
NETWORKS = ("dcgan", "resnet", "dense", "maxout", "affine", "bilinear")
SMOOTHED = ("minimax", "non_saturating", "least_squares")  # losses with a target for real examples
LOSSES = (*SMOOTHED, "hinge", "wasserstein", "relativistic", "relativistic_average")
CHOICES = {
    "model.network": NETWORKS,
    "model.noise": ("normal", "uniform"),
    "model.conditioning": ("none", "concatenation", "projection"),
    "model.loss": LOSSES,
    "model.penalty": ("none", *PENALTIES),
    "model.dynamics": DYNAMICS,
    "model.disc_norm": ("none", "batch", "layer"),
}
FOR_IMAGES = ("dcgan", "resnet")


def check_model(config: ml_collections.ConfigDict, dataset: data.Dataset) -> None:
    """Raises InputError for a game that cannot be played, or is not what its fields say."""
    at_least(config, dict.fromkeys(COUNTS, 1) | dict.fromkeys(AMOUNTS, 0))
    for name, options in CHOICES.items():
        choose(name, field(config, name), dict.fromkeys(options))
    model, images = config.model, dataset.train["x"].ndim == 4
    if not images and model.network in FOR_IMAGES:
        raise InputError(
            f"model.network {model.network!r} is for images; {dataset.name} holds points: "
            "add --config.model.network=dense"
        )
    if model.network in FOR_IMAGES and not model.channels:
        raise InputError(f"model.channels is empty; model.network {model.network!r} needs at least one")
    if not images and model.augment:
        raise InputError(f"model.augment is for images; {dataset.name} holds points")
    for kind in model.augment:
        choose("model.augment", kind, KINDS)
    if model.conditioning != "none" and "label" not in dataset.train:
        raise InputError(f"{dataset.name} has no labels for model.conditioning")
    if any(share > 1 for share in known(model.replay_share)):
        raise InputError(f"model.replay_share is {model.replay_share}; it must be at most 1")
    if any(share >= 1 for share in known(model.label_smoothing)):
        raise InputError(f"model.label_smoothing is {model.label_smoothing}; it must be less than 1")
    if model.loss not in SMOOTHED and not is_off(model.label_smoothing):
        raise InputError(f"model.label_smoothing has no part in model.loss {model.loss!r}; set it to 0")
    check_sizes(config)
    one_step = (model.disc_steps, model.gen_steps, model.unroll_steps) == (1, 1, 0)
    if model.network == "bilinear":
        check_bilinear(config)
    else:
        check_measures(config, dataset)
    if model.dynamics == "extragradient" and not one_step:
        raise InputError(
            "model.dynamics 'extragradient' looks ahead of one step of each player: set model.disc_steps and "
            "gen_steps to 1 and unroll_steps to 0"
        )


def check_measures(config: ml_collections.ConfigDict, dataset: data.Dataset) -> None:
    """What a discriminator that looks across the batch, or a gap that wants examples, cannot do without."""
    model, size = config.model, config.batch_size // config.model.disc_steps
    num_validation = len(dataset.validation["x"])
    if config.model.duality_gap_steps and num_validation < size:
        raise InputError(
            f"the duality gap is measured on {size} validation examples or more, and there are {num_validation}: raise "
            "data.num_validation, or add --config.model.duality_gap_steps=0"
        )
    if model.minibatch_kernels and config.evaluation.batch_size != size:
        raise InputError(
            f"minibatch discrimination sums over the batch: evaluation.batch_size is {config.evaluation.batch_size}; "
            f"set it to {size}, the examples of a step"
        )
    has_norm = model.network not in ("maxout", "affine", "bilinear") and model.disc_norm == "batch"
    if model.penalty != "none" and has_norm:
        raise InputError(
            f"model.penalty {model.penalty!r} is of the slope of each example's own logit, which batch statistics mix: "
            "add --config.model.disc_norm=layer, or none"
        )


def check_bilinear(config: ml_collections.ConfigDict) -> None:
    """A game without examples."""
    model = config.model
    if config.model.duality_gap_steps:
        raise InputError(
            "model.network 'bilinear' has no examples to measure a gap on: add --config.model.duality_gap_steps=0"
        )
    idle = {"penalty": "none", "conditioning": "none", "spectral_norm": False, "replay_capacity": 0, "packing": 1,
            "minibatch_kernels": 0, "stddev_group": 0, "augment": (), "label_smoothing": 0.0, "disc_steps": 1,
            "gen_steps": 1, "unroll_steps": 0}  # fmt: skip
    if wrong := [name for name, value in idle.items() if model[name] != value]:
        raise InputError(f"model.{wrong[0]} has no part in model.network 'bilinear'; set it to {idle[wrong[0]]!r}")


def check_sizes(config: ml_collections.ConfigDict) -> None:
    """The batch against all that divides it."""
    model, size = config.model, config.batch_size
    if size % (model.disc_steps * model.packing):
        raise InputError(
            f"batch_size is {size}, the examples of one step; it must be divisible by model.disc_steps = "
            f"{model.disc_steps} times model.packing = {model.packing}"
        )
    packs = size // (model.disc_steps * model.packing)
    if model.stddev_group and packs % model.stddev_group:
        raise InputError(f"model.stddev_group is {model.stddev_group}; it must divide the {packs} of a step")
    if model.stddev_group and config.evaluation.batch_size % (model.stddev_group * model.packing):
        raise InputError(
            f"evaluation.batch_size is {config.evaluation.batch_size}; it must be divisible by model.stddev_group "
            f"times model.packing, {model.stddev_group * model.packing}"
        )
