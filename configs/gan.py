"""Generative adversarial networks.

python -m experiments.gan --config=configs/gan.py               a DCGAN on 3,500 digits that a package ships: `small`
python -m experiments.gan --config=configs/gan.py:mnist         the same on full MNIST, 20 epochs of 59,500
python -m experiments.gan --config=configs/gan.py:ring          eight Gaussians, as in PacGAN's experiments; `grid`: 25
python -m experiments.gan --config=configs/gan.py:gaussian      one Gaussian, by players of which all can be seen

Full MNIST wants --config.data.data_dir=DIR, where TFDS's mnist is prepared. README.md has what was measured.
"""

import ml_collections

from configs import base


def get_config(variant: str = "small") -> ml_collections.ConfigDict:
    """The recipe of a variant; VARIANTS lists them."""
    if variant not in VARIANTS:
        raise ValueError(f"configs/gan.py has no variant {variant!r}; known: {', '.join(VARIANTS)}")
    config = base.get_config()
    config.batch_size = 64  # real examples that a step reads: for disc_steps steps, in packs of packing
    config.steps_per_call = 20
    config.optimizer.learning_rate = 2e-4
    config.optimizer.b1 = 0.5
    config.evaluation.extractor = "classifier"

    config.model = ml_collections.ConfigDict()
    # "dcgan" | "resnet" | "dense" | "maxout" | "affine" with a quadratic discriminator | "bilinear", which is no GAN
    config.model.network = "dcgan"
    config.model.channels = (32, 64, 128)  # of the discriminator's convolutions; the generator's are their mirror
    config.model.hidden = (400, 400, 400, 400)  # widths of a dense generator
    config.model.disc_hidden = (200, 200, 200)  # of a dense or maxout discriminator
    config.model.maxout_pieces = 5
    config.model.gen_batch_norm = True
    config.model.disc_norm = "batch"  # | "layer" | "none"; a maxout discriminator has none
    config.model.latent_dim = 100
    config.model.noise = "normal"  # | "uniform" on [-1, 1]
    config.model.conditioning = "none"  # on labels: | "concatenation" | "projection"

    config.model.loss = "non_saturating"  # | "minimax" | "least_squares" | "hinge" | "wasserstein" | "relativistic"
    #                                       | "relativistic_average"
    config.model.label_smoothing = 0.0  # of real examples alone: their target is 1 less this
    config.model.penalty = "none"  # | "gradient" between real and fake | "r1" at real examples
    config.model.penalty_weight = 10.0
    config.model.spectral_norm = False
    config.model.clip_weights = 0.0  # of the discriminator, to [-c, c]; 0: they are free

    config.model.dynamics = "alternating"  # | "simultaneous" | "extragradient"
    config.model.disc_steps = 1  # of the discriminator for each round
    config.model.gen_steps = 1
    config.model.disc_learning_rate = 0.0  # 0: the generator's
    config.model.unroll_steps = 0  # of the discriminator that the generator looks ahead
    config.model.duality_gap_steps = 20  # that either takes alone at a validation, to see what it could gain; 0: none

    config.model.replay_capacity = 0  # generated examples that are kept; 0: no replay
    config.model.replay_share = 0.5  # of the fakes that the discriminator sees, those from the buffer
    config.model.packing = 1  # examples that the discriminator judges together
    config.model.minibatch_kernels = 0  # of minibatch discrimination; 0: none
    config.model.minibatch_kernel_dim = 5
    config.model.stddev_group = 0  # examples of a minibatch standard deviation; 0: none
    config.model.augment = ()  # of ("color", "translation", "cutout"), of all that the discriminator sees
    VARIANTS[variant](config)
    return config


def quick(config: ml_collections.ConfigDict) -> None:
    """What fits into minutes, of whatever game."""
    config.num_steps = 3_000
    config.log_every_steps = 50
    config.eval_every_steps = 1_000
    config.checkpoint_every_steps = 1_000
    config.figure_every_steps = 500
    config.ema_decay = 0.99
    config.model.channels = (16, 32, 64)


def tuned(config: ml_collections.ConfigDict) -> None:
    """A generator that keeps up: two steps for one, four times the rate, no momentum, both rates to zero; smoothing."""
    config.optimizer.learning_rate = 4e-3
    config.optimizer.b1 = 0.0
    config.optimizer.b2 = 0.99
    config.optimizer.schedule = "linear"
    config.model.disc_learning_rate = 1e-3
    config.model.gen_steps = 2
    config.model.label_smoothing = 0.1


def small(config: ml_collections.ConfigDict) -> None:
    """The default: a DCGAN."""
    quick(config)
    tuned(config)


def mnist(config: ml_collections.ConfigDict) -> None:
    """A wider one, 59,500 digits, 20 epochs."""
    tuned(config)
    config.data.name = "mnist"
    config.num_steps = 20 * 59_500 // 64
    config.log_every_steps = 200
    config.eval_every_steps = 4_000
    config.checkpoint_every_steps = 2_000
    config.figure_every_steps = 2_000
    config.ema_decay = 0.999
    config.evaluation.num_samples = 10_000


def conditional(config: ml_collections.ConfigDict) -> None:
    """`small`, told the class."""
    small(config)
    config.model.conditioning = "projection"


def mnist_conditional(config: ml_collections.ConfigDict) -> None:
    """`mnist`, told the class."""
    mnist(config)
    config.model.conditioning = "projection"


def wgan_gp(config: ml_collections.ConfigDict) -> None:
    """Gulrajani et al. 2017: five steps of the critic, no batch norm in it, Adam 1e-4 with b1 = 0."""
    quick(config)
    config.num_steps = 1_000
    config.batch_size = 5 * 64
    config.optimizer.learning_rate = 1e-4
    config.optimizer.b1 = 0.0
    config.optimizer.b2 = 0.9
    config.model.loss = "wasserstein"
    config.model.penalty = "gradient"
    config.model.disc_norm = "none"
    config.model.disc_steps = 5


def wgan(config: ml_collections.ConfigDict) -> None:
    """Arjovsky et al. 2017: weights clipped to 0.01, RMSProp."""
    wgan_gp(config)
    config.optimizer.name = "rmsprop"
    config.optimizer.learning_rate = 5e-5
    config.model.penalty = "none"
    config.model.clip_weights = 0.01


def least_squares(config: ml_collections.ConfigDict) -> None:
    """Mao et al. 2017: `small` with their loss."""
    small(config)
    config.model.loss = "least_squares"


def r1(config: ml_collections.ConfigDict) -> None:
    """Mescheder et al. 2018: gamma = 10, that is 5 times the squared slope at real examples."""
    quick(config)
    config.model.penalty = "r1"
    config.model.penalty_weight = 5.0
    config.model.disc_norm = "none"


def sngan(config: ml_collections.ConfigDict) -> None:
    """Miyato et al. 2018: residual networks, hinge loss, spectral normalisation; one step of D, not five."""
    quick(config)
    config.num_steps = 1_000
    config.model.network = "resnet"
    config.model.channels = (32, 64)
    config.model.loss = "hinge"
    config.model.disc_norm = "none"
    config.model.spectral_norm = True
    config.optimizer.b1 = 0.0
    config.optimizer.b2 = 0.9


def replay(config: ml_collections.ConfigDict) -> None:
    """`small` with the fakes of the last hundred steps in half of every minibatch."""
    small(config)
    config.model.replay_capacity = 6_400


def minibatch(config: ml_collections.ConfigDict) -> None:
    """`small` with minibatch discrimination (Salimans et al. 2016)."""
    small(config)
    config.model.minibatch_kernels = 50
    config.evaluation.batch_size = 64  # that of training: it sums over the batch


def packed(config: ml_collections.ConfigDict) -> None:
    """`small` with packs of two (Lin et al. 2018)."""
    small(config)
    config.model.packing = 2


def diffaugment(config: ml_collections.ConfigDict) -> None:
    """`small` with differentiable augmentation (Zhao et al. 2020), for little data."""
    small(config)
    config.model.augment = ("translation", "cutout")


def unrolled(config: ml_collections.ConfigDict) -> None:
    """`ring`, the generator looking five steps ahead (Metz et al. 2017)."""
    ring(config)
    config.model.dynamics = "simultaneous"
    config.model.unroll_steps = 5


def ring(config: ml_collections.ConfigDict) -> None:
    """Eight Gaussians and PacGAN's networks: 4 x 400 relu with batch norm, 3 x 200 maxout of 5; Adam 1e-4, b1 = 0.8."""
    config.data.name = "ring"
    config.data.num_validation = 2_500
    config.batch_size = 100
    config.steps_per_call = 100
    config.num_steps = 20_000  # of the published 400,000
    config.log_every_steps = 500
    config.eval_every_steps = 2_500
    config.checkpoint_every_steps = 2_500
    config.figure_every_steps = 2_500
    config.optimizer.learning_rate = 1e-4
    config.optimizer.b1 = 0.8
    config.model.network = "maxout"
    config.model.disc_norm = "none"
    config.model.latent_dim = 2
    config.evaluation.num_samples = 2_500
    config.evaluation.extractor = "none"


def grid(config: ml_collections.ConfigDict) -> None:
    """Twenty-five Gaussians, otherwise as `ring`."""
    ring(config)
    config.data.name = "grid"


def stacked_mnist(config: ml_collections.ConfigDict) -> None:
    """1,000 modes, three digits in three channels; convolutions of 64 to 512 channels, two steps of G for one of D."""
    config.data.name = "stacked_mnist"
    config.num_steps = 100_000
    config.log_every_steps = 200
    config.eval_every_steps = 2_000
    config.checkpoint_every_steps = 1_000
    config.figure_every_steps = 2_000
    config.model.channels = (64, 128, 256, 512)
    config.model.noise = "uniform"
    config.model.gen_steps = 2
    config.evaluation.num_samples = 26_000
    config.evaluation.extractor = "none"


def gaussian(config: ml_collections.ConfigDict) -> None:
    """One Gaussian, an affine generator and a quadratic critic, simultaneous gradient descent: it oscillates."""
    config.data.name = "gaussian"
    config.data.num_validation = 2_500
    config.batch_size = 512
    config.steps_per_call = 100
    config.num_steps = 8_000
    config.log_every_steps = 2
    config.eval_every_steps = 2_000
    config.checkpoint_every_steps = 4_000
    config.figure_every_steps = 0
    config.optimizer.name = "sgd"
    config.optimizer.b1 = 0.0
    config.optimizer.learning_rate = 0.1
    config.model.network = "affine"
    config.model.loss = "wasserstein"
    config.model.latent_dim = 1
    config.model.dynamics = "simultaneous"
    config.evaluation.num_samples = 2_500
    config.evaluation.extractor = "none"


def gaussian_extragradient(config: ml_collections.ConfigDict) -> None:
    """`gaussian`, looking a step ahead: it settles."""
    gaussian(config)
    config.model.dynamics = "extragradient"


def gaussian_optimistic(config: ml_collections.ConfigDict) -> None:
    """`gaussian` with optimistic gradient descent: it settles."""
    gaussian(config)
    config.optimizer.name = "optimistic_sgd"


def bilinear(config: ml_collections.ConfigDict) -> None:
    """min over x, max over y of x y, simultaneous gradient descent: it spirals outwards."""
    gaussian(config)
    config.batch_size = 1
    config.num_steps = 400
    config.log_every_steps = 1
    config.eval_every_steps = config.checkpoint_every_steps = 200
    config.optimizer.learning_rate = 0.1
    config.model.network = "bilinear"
    config.model.duality_gap_steps = 0


def bilinear_extragradient(config: ml_collections.ConfigDict) -> None:
    """`bilinear`, looking a step ahead: it goes in."""
    bilinear(config)
    config.model.dynamics = "extragradient"


def bilinear_optimistic(config: ml_collections.ConfigDict) -> None:
    """`bilinear` by optimistic gradient descent: it goes in."""
    bilinear(config)
    config.optimizer.name = "optimistic_sgd"


def bilinear_averaged(config: ml_collections.ConfigDict) -> None:
    """`bilinear` by alternating descent, which stays on a closed curve, whose average goes in."""
    bilinear(config)
    config.model.dynamics = "alternating"
    config.ema_decay = 0.99


VARIANTS = {
    recipe.__name__: recipe
    for recipe in (
        small, mnist, conditional, mnist_conditional, wgan_gp, wgan, least_squares, r1, sngan, replay, minibatch,
        packed, diffaugment, unrolled, ring, grid, stacked_mnist, gaussian, gaussian_extragradient,
        gaussian_optimistic, bilinear, bilinear_extragradient, bilinear_optimistic, bilinear_averaged,
    )
}  # fmt: skip
