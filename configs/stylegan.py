"""ProGAN, StyleGAN and StyleGAN2.

python -m experiments.stylegan --config=configs/stylegan.py              a ProGAN on 3,500 digits that a package ships
python -m experiments.stylegan --config=configs/stylegan.py:stylegan     also stylegan2, diffaugment
python -m experiments.stylegan --config=configs/stylegan.py:mnist        full MNIST; also stylegan_mnist stylegan2_mnist

Full MNIST wants --config.data.data_dir=DIR, where TFDS's mnist is prepared. Of your own images:
--config.data.name=folder:PATH --config.data.image_size=64 --config.data.padding=0 with a width for every size,
--config.model.channels="(128, 128, 64, 32, 16)" --config.model.stage_steps="(...)". README.md has what was measured.
"""

import ml_collections

from configs import base


def get_config(variant: str = "small") -> ml_collections.ConfigDict:
    """The recipe of a variant; VARIANTS lists them."""
    if variant not in VARIANTS:
        raise ValueError(f"configs/stylegan.py has no variant {variant!r}; known: {', '.join(VARIANTS)}")
    config = base.get_config()
    config.batch_size = 32
    config.steps_per_call = 20
    config.data.padding = 2  # 28x28 pixels in 32x32
    config.optimizer.b1 = 0.0
    config.optimizer.b2 = 0.99
    config.ema_decay = 0.995
    config.evaluation.extractor = "classifier"

    config.model = ml_collections.ConfigDict()
    config.model.network = "progan"  # | "stylegan" | "stylegan2", which does not grow
    config.model.channels = (128, 64, 32, 16)  # widths at 4x4, 8x8, ..., the last that of the images
    config.model.latent_dim = 128  # of z and w
    config.model.mapping_layers = 4  # from z to w
    config.model.stddev_group = 4  # examples of a minibatch standard deviation; 0: none
    config.model.mixing = 0.9  # probability that a batch has styles of two codes; ProGAN has none
    config.model.disc_learning_rate = 0.0  # 0: the generator's

    config.model.first_resolution = 4  # at which growing begins
    config.model.stage_steps = ()  # of every resolution from there on but the last, which has the rest; (): no growing
    config.model.stage_batch_sizes = ()  # of every resolution; (): batch_size
    config.model.fade_share = 0.5  # of its steps, over which a resolution is faded in

    config.model.loss = "non_saturating"  # as of configs/gan.py
    config.model.label_smoothing = 0.0  # of real examples alone
    config.model.penalty = "r1"  # | "gradient" | "none"
    config.model.penalty_weight = 0.05  # half of R1's gamma, of images of the last resolution
    config.model.penalty_every = 1  # steps between two, each then so many times as heavy
    config.model.drift = 0.0  # weight of the squared logits of real examples
    config.model.path_length_weight = 0.0  # 0: none
    config.model.path_length_every = 4
    config.model.augment = ()  # of ("color", "translation", "cutout"), of all that the discriminator sees
    VARIANTS[variant](config)
    return config


def small(config: ml_collections.ConfigDict) -> None:
    """The default: Karras et al. 2018, small. Wasserstein with a gradient penalty; 4x4 to 32x32."""
    config.num_steps = 2_400
    config.log_every_steps = 50
    config.eval_every_steps = config.checkpoint_every_steps = config.figure_every_steps = 600
    config.optimizer.learning_rate = 2e-3
    config.model.stage_steps = (200, 400, 800)
    config.model.loss = "wasserstein"
    config.model.penalty = "gradient"
    config.model.penalty_weight = 10.0
    config.model.drift = 1e-3


def stylegan(config: ml_collections.ConfigDict) -> None:
    """Karras et al. 2019, small: styles, noise and mixing; from 8x8 on."""
    small(config)
    r1(config)
    config.model.network = "stylegan"
    config.model.first_resolution = 8
    config.model.stage_steps = (400, 800)


def r1(config: ml_collections.ConfigDict) -> None:
    """The non-saturating loss with R1."""
    config.model.loss = "non_saturating"
    config.model.penalty = "r1"
    config.model.penalty_weight = 0.05
    config.model.drift = 0.0


def stylegan2(config: ml_collections.ConfigDict) -> None:
    """Karras et al. 2020, small: demodulation, skips and residuals, lazy R1 and path lengths; nothing grows."""
    stylegan(config)
    config.batch_size = 16
    config.model.network = "stylegan2"
    config.model.stage_steps = ()
    config.model.penalty_every = 16
    config.model.path_length_weight = 2.0


def diffaugment(config: ml_collections.ConfigDict) -> None:
    """`stylegan2` with differentiable augmentation (Zhao et al. 2020), for little data."""
    stylegan2(config)
    config.model.augment = ("translation", "cutout")


def full(config: ml_collections.ConfigDict) -> None:
    """What recipes for full MNIST share."""
    config.data.name = "mnist"
    config.num_steps = 12_000
    config.log_every_steps = 200
    config.eval_every_steps = config.figure_every_steps = 4_000
    config.checkpoint_every_steps = 2_000
    config.ema_decay = 0.999
    config.evaluation.num_samples = 10_000
    if config.model.stage_steps:
        config.model.stage_steps = (1_000, 2_000, 4_000)[-len(config.model.stage_steps) :]


def mnist(config: ml_collections.ConfigDict) -> None:
    """`small` on 59,500 digits."""
    small(config)
    full(config)


def stylegan_mnist(config: ml_collections.ConfigDict) -> None:
    """`stylegan` on 59,500 digits."""
    stylegan(config)
    full(config)


def stylegan2_mnist(config: ml_collections.ConfigDict) -> None:
    """`stylegan2` on 59,500 digits."""
    stylegan2(config)
    full(config)


RECIPES = (small, stylegan, stylegan2, diffaugment, mnist, stylegan_mnist, stylegan2_mnist)
VARIANTS = {recipe.__name__: recipe for recipe in RECIPES}
