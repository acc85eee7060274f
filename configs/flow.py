"""Normalizing flows.

python -m experiments.flow --config=configs/flow.py            a small Glow on 3,500 digits that a package ships
python -m experiments.flow --config=configs/flow.py:spline     eight Gaussians in the plane; also affine
python -m experiments.flow --config=configs/flow.py:nice       full MNIST; also realnvp realnvp_multi_scale maf glow

Full MNIST wants --config.data.data_dir=DIR, where TFDS's mnist is prepared. README.md has what was measured.
"""

import ml_collections

from configs import base


def get_config(variant: str = "small") -> ml_collections.ConfigDict:
    """The recipe of a variant; VARIANTS lists them."""
    if variant not in VARIANTS:
        raise ValueError(f"configs/flow.py has no variant {variant!r}; known: {', '.join(VARIANTS)}")
    config = base.get_config()
    config.batch_size = 100
    config.steps_per_call = 20
    config.optimizer.clip_norm = 100.0

    config.model = ml_collections.ConfigDict()
    config.model.network = "coupling"  # of vectors | "autoregressive", of vectors | "multi_scale", of images
    config.model.transform = "affine"  # | "additive" | "spline"
    config.model.num_layers = 5  # bijections of the kind above, in each level
    config.model.hidden = (1024,)  # widths of the networks that make their parameters; of vectors
    config.model.levels = 2  # of "multi_scale": each halves height and width
    config.model.channels = 64  # of its networks' hidden layers
    config.model.checkerboard = 0  # couplings of each level by checkerboard, before places become channels
    config.model.num_blocks = 1  # residual blocks of each
    config.model.priors = True  # the half that a level is done with is normalised by the other half
    config.model.mixing = "reverse"  # of the numbers, or channels, between layers: | "random" | "linear" | "none"
    config.model.actnorm = "every"  # before every layer, and once more at the end | "last", there alone | "none"
    config.model.log_scale_bound = 2.0  # within which affine log-scales are held; 0: they are free
    config.model.num_bins = 8  # of splines
    config.model.spline_bound = 3.0
    config.model.activation = "relu"
    config.model.base = "normal"  # | "logistic"
    config.model.alpha = 0.0  # of the logit of images; 0: pixels as they are, dequantised
    config.model.conditional = False  # on labels
    config.model.temperature = 1.0  # of samples
    VARIANTS[variant](config)
    return config


def small(config: ml_collections.ConfigDict) -> None:
    """The default: two levels of Glow."""
    config.num_steps = 1_000
    config.batch_size = 64
    config.log_every_steps = 50
    config.eval_every_steps = config.checkpoint_every_steps = config.figure_every_steps = 500
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "cosine"
    config.model.network = "multi_scale"
    config.model.num_layers = 4
    config.model.channels = 32
    config.model.mixing = "linear"
    config.model.alpha = 0.05
    config.model.temperature = 0.7


def conditional(config: ml_collections.ConfigDict) -> None:
    """`small`, told the class."""
    small(config)
    config.model.conditional = True


def classifier(config: ml_collections.ConfigDict) -> None:
    """`conditional`, for experiments.classifier."""
    conditional(config)
    base.add_classifier(config, "flow")


def novelty(config: ml_collections.ConfigDict) -> None:
    """`small`, for experiments.novelty: a few steps for each class."""
    small(config)
    base.add_novelty(config, "flow")
    config.data.num_validation = 1_000
    config.num_steps = 300
    config.eval_every_steps = 50


def full(config: ml_collections.ConfigDict) -> None:
    """What recipes for full MNIST share."""
    config.data.name = "mnist"
    config.data.num_validation = 10_000
    config.num_steps = 20_000
    config.log_every_steps = 200
    config.eval_every_steps = config.checkpoint_every_steps = config.figure_every_steps = 2_000
    config.optimizer.schedule = "cosine"


def nice(config: ml_collections.ConfigDict) -> None:
    """Dinh et al. 2015: four additive couplings, a last scaling, logistic noise; pixels without a logit.

    4.28 bits per dimension of u, one seed, 50 minutes of a CPU core.
    Scaling before every layer is the same family. Without it the noise in pixels that are always black, whose scale is
    a thousandth of the others', drowns the gradient: 5.58 bits per dimension after 400 steps, not 4.94.
    """
    full(config)
    config.num_steps = 9_000
    config.model.transform = "additive"
    config.model.num_layers = 4
    config.model.hidden = (1000,) * 5
    config.model.mixing = "none"
    config.model.base = "logistic"


def realnvp(config: ml_collections.ConfigDict) -> None:
    """Papamakarios et al. 2017: five pairs of affine couplings, in logit space with alpha = 1e-6."""
    full(config)
    config.num_steps = 6_000
    config.model.num_layers = 10
    config.model.mixing = "none"
    config.model.alpha = 1e-6


def realnvp_multi_scale(config: ml_collections.ConfigDict) -> None:
    """Dinh et al. 2017, small: in each of two levels three couplings by checkerboard and three of channels."""
    full(config)
    config.model.network = "multi_scale"
    config.model.checkerboard = 3
    config.model.num_layers = 3
    config.model.mixing = "none"
    config.model.priors = False
    config.model.alpha = 0.05


def maf(config: ml_collections.ConfigDict) -> None:
    """Papamakarios et al. 2017: five autoregressive layers, the order reversed after each.

    -1228 nats in logit space, one seed, 20 minutes of a CPU core.
    """
    full(config)
    config.num_steps = 6_000
    config.model.network = "autoregressive"
    config.model.alpha = 1e-6


def glow(config: ml_collections.ConfigDict) -> None:
    """Kingma & Dhariwal 2018, small: eight steps of flow in each of two levels."""
    full(config)
    config.model.network = "multi_scale"
    config.model.num_layers = 8
    config.model.mixing = "linear"
    config.model.alpha = 0.05
    config.model.temperature = 0.7


def spline(config: ml_collections.ConfigDict) -> None:
    """Durkan et al. 2019 in the plane: coupling layers of splines on eight Gaussians: 0.012 nats from the truth."""
    config.data.name = "ring"
    config.data.num_validation = 2_500
    config.batch_size = 512
    config.num_steps = 10_000
    config.log_every_steps = 200
    config.eval_every_steps = config.checkpoint_every_steps = config.figure_every_steps = 2_500
    config.optimizer.schedule = "cosine"
    config.evaluation.num_samples = 2_500
    config.model.transform = "spline"
    config.model.num_layers = 8
    config.model.hidden = (64, 64)
    config.model.num_bins = 16
    config.model.mixing = "linear"


def affine(config: ml_collections.ConfigDict) -> None:
    """RealNVP in the plane."""
    spline(config)
    config.model.transform = "affine"
    config.model.num_layers = 16


RECIPES = (small, conditional, classifier, novelty, nice, realnvp, realnvp_multi_scale, maf, glow, spline, affine)
VARIANTS = {recipe.__name__: recipe for recipe in RECIPES}
