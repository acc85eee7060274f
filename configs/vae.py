"""Variational autoencoders.

python -m experiments.vae --config=configs/vae.py            dense, 3,500 digits that a package ships
python -m experiments.vae --config=configs/vae.py:conv       convolutional
python -m experiments.vae --config=configs/vae.py:keras      the tutorial classic, 784-256-2-256-784
python -m experiments.vae --config=configs/vae.py:mnist      784-400-20 on full MNIST, 100 epochs
python -m experiments.vae --config=configs/vae.py:burda      784-200-200-50 on full MNIST, Burda's schedule scaled

The last three want --config.data.data_dir=DIR, where TFDS's mnist is prepared. What each gives on two CPU cores, with
seeds and times, stands in the README's table of results.
"""

import ml_collections

from configs import base


def get_config(variant: str = "dense") -> ml_collections.ConfigDict:
    """The recipe of a variant: dense, conv, keras, mnist or burda."""
    recipes = {"dense": dense, "conv": conv, "keras": keras, "mnist": mnist, "burda": burda}
    if variant not in recipes:
        raise ValueError(f"configs/vae.py has no variant {variant!r}; known: {', '.join(recipes)}")
    config = base.get_config()
    config.data.binarization = "dynamic"
    config.evaluation.num_importance_samples = 500
    config.evaluation.importance_chunk = 10  # of them decoded at a time; on an accelerator take more

    config.model = ml_collections.ConfigDict()
    config.model.network = "dense"  # "dense" | "conv"
    config.model.hidden = (400,)  # widths of the dense layers; the decoder mirrors them
    config.model.channels = (32, 64)  # of the strided convolutions; "conv" only
    config.model.batch_norm = False  # between convolutions; "conv" only
    config.model.activation = "relu"
    config.model.latent_dim = 20
    config.model.likelihood = (
        "bernoulli"  # | "gaussian" | "learned_gaussian" | "discretized_logistic" | "squared_error"
    )
    config.model.variance = 1.0  # of "gaussian"
    config.model.squared_error_weight = 1000.0  # of "squared_error"
    config.model.data_bias = False  # start the output bias at the logit of the mean pixel
    config.model.beta = 1.0
    config.model.kl_warmup_steps = 0
    recipes[variant](config)
    return config


def dense(config: ml_collections.ConfigDict) -> None:
    """The default."""
    config.num_steps = 6_000
    config.log_every_steps = 200
    config.eval_every_steps = 1_000
    config.checkpoint_every_steps = 2_000
    config.figure_every_steps = 1_000
    config.optimizer.schedule = "cosine"
    config.model.kl_warmup_steps = 1_000


def conv(config: ml_collections.ConfigDict) -> None:
    """Two strided convolutions and their mirror."""
    config.num_steps = 2_000
    config.log_every_steps = 100
    config.eval_every_steps = 500
    config.checkpoint_every_steps = 500
    config.figure_every_steps = 500
    config.steps_per_call = 20
    config.optimizer.schedule = "cosine"
    config.model.network = "conv"
    config.model.hidden = (256,)


def full_mnist(config: ml_collections.ConfigDict, num_train: int, epochs: int) -> None:
    """All of MNIST, logged once an epoch and saved every tenth of the run."""
    epoch = num_train // config.batch_size
    config.data.name = "mnist"
    config.data.num_validation = 60_000 - num_train
    config.num_steps = epochs * num_train // config.batch_size
    config.log_every_steps = epoch
    config.eval_every_steps = 10 * epoch
    config.checkpoint_every_steps = 10 * epoch
    config.figure_every_steps = 10 * epoch


def mnist(config: ml_collections.ConfigDict) -> None:
    """784-400-20, constant Adam 1e-3, batch 128, 100 epochs of 59,600 digits."""
    full_mnist(config, num_train=59_600, epochs=100)


def burda(config: ml_collections.ConfigDict) -> None:
    """784-200-200-50 tanh, batch 20, Burda's learning rates; 410 of the published 3,280 epochs (an eighth)."""
    config.batch_size = 20
    config.steps_per_call = 1_000
    full_mnist(config, num_train=59_600, epochs=410)
    config.optimizer.schedule = "burda"
    config.optimizer.b1 = 0.99  # b1 and eps as in the authors' code, which also starts second moments at 1; we at 0
    config.optimizer.eps = 1e-4
    config.model.hidden = (200, 200)
    config.model.activation = "tanh"
    config.model.latent_dim = 50
    config.model.data_bias = True
    config.evaluation.num_importance_samples = 5_000


def keras(config: ml_collections.ConfigDict) -> None:
    """784-256-2-256-784, mean squared error times 1000 plus KL, Adam 1e-3, batch 32, 20 epochs of 60,000 digits."""
    config.batch_size = 32
    config.steps_per_call = 500
    full_mnist(config, num_train=60_000, epochs=20)
    config.eval_every_steps = config.checkpoint_every_steps = config.figure_every_steps = 5 * 1_875
    config.data.binarization = "none"
    config.model.hidden = (256,)
    config.model.latent_dim = 2
    config.model.likelihood = "squared_error"
