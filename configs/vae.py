"""Variational autoencoders.

python -m experiments.vae --config=configs/vae.py            dense, 3,500 digits that a package ships
python -m experiments.vae --config=configs/vae.py:VARIANT

On the same digits: conv; ladder, of two stochastic layers; beta, total_correlation and free_bits, of other bounds;
planar, with flows behind the posterior; conditional, told the label.

On full MNIST (add --config.data.data_dir=DIR, where TFDS's mnist is prepared): keras, the tutorial classic, 784-256-2;
mnist, 784-400-20, 100 epochs; burda, 784-200-200-50 by Burda's schedule scaled; one_layer, the same network by a
schedule that gets further in less; iwae, that by the bound of five samples; two_layers; standard, mixture and vamp,
which differ in the prior; best; and linear, which is probabilistic PCA.

What each gives on two CPU cores, with seeds and times, stands in the README's table of results.
"""

import ml_collections

from configs import base


def get_config(variant: str = "dense") -> ml_collections.ConfigDict:
    """The recipe of a variant."""
    recipes = {
        "dense": dense, "conv": conv, "ladder": ladder, "beta": beta, "total_correlation": total_correlation,
        "free_bits": free_bits, "planar": planar, "conditional": conditional, "keras": keras, "mnist": mnist,
        "burda": burda, "one_layer": one_layer, "iwae": iwae, "two_layers": two_layers, "standard": standard,
        "mixture": mixture, "vamp": vamp, "best": best, "linear": linear,
    }  # fmt: skip
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
    # "bernoulli" | "gaussian" | "learned_gaussian" | "shared_gaussian" | "discretized_logistic" | "squared_error"
    config.model.likelihood = "bernoulli"
    config.model.variance = 1.0  # of "gaussian"
    config.model.squash = True  # means of Gaussians of images through a sigmoid
    config.model.squared_error_weight = 1000.0  # of "squared_error"
    config.model.data_bias = False  # start the output bias at the logit of the mean pixel
    config.model.beta = 1.0
    config.model.kl_warmup_steps = 0

    config.model.objective = "elbo"  # | "iwae" | "dreg" (iwae's bound, another gradient) | "total_correlation"
    config.model.num_samples = 1  # of z for each example in a step
    config.model.sampled_kl = False  # of "elbo": log q - log p of the samples, even where there is a closed form
    config.model.free_bits = 0.0  # of "elbo": nats of each dimension that cost nothing
    config.model.tc_weight = 1.0  # of "total_correlation"
    config.model.prior = "standard"  # | "mixture" of Gaussians | "vamp", a mixture of posteriors of pseudo-inputs
    config.model.num_components = 500  # of either mixture
    config.model.num_flows = 0  # planar flows of the posterior
    config.model.conditional = False  # encoder and decoder are told the label: p(x | y)
    config.model.class_prior = False  # the weights of the mixture depend on the label: p(z | y)
    config.model.upper_dims = ()  # sizes of more stochastic layers, above latent_dim
    config.model.upper_hidden = (100, 100)  # widths of the dense layers between two of them, on the way up
    config.model.inference = "bottom_up"  # of more layers: each from the one below | "top_down", a ladder
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


def one_layer(config: ml_collections.ConfigDict) -> None:
    """Burda's 784-200-200-50 by a shorter schedule: 400 epochs, batch 100, cosine, gelu; one sample of z."""
    config.batch_size = 100
    full_mnist(config, num_train=59_600, epochs=400)
    config.optimizer.schedule = "cosine"
    config.optimizer.learning_rate = 3e-3
    config.optimizer.warmup_steps = 1_000
    config.model.hidden = (200, 200)
    config.model.activation = "gelu"
    config.model.latent_dim = 50
    config.model.data_bias = True
    config.model.kl_warmup_steps = 3_000
    config.evaluation.num_importance_samples = 5_000


def iwae(config: ml_collections.ConfigDict) -> None:
    """`one_layer` by the importance-weighted bound of five samples."""
    one_layer(config)
    config.model.objective = "iwae"
    config.model.num_samples = 5


def two_layers(config: ml_collections.ConfigDict) -> None:
    """`one_layer` with Burda's second stochastic layer, 784-200-200-100, 100-100-100-50, at half the learning rate."""
    one_layer(config)
    config.optimizer.learning_rate = 1.5e-3  # at 3e-3 it diverges
    config.optimizer.clip_norm = 100.0
    config.model.latent_dim = 100
    config.model.upper_dims = (50,)


def standard(config: ml_collections.ConfigDict) -> None:
    """784-300-300-40, the network of `mixture` and `vamp`, and a standard normal prior; 60 epochs, three seeds."""
    config.batch_size = 100
    full_mnist(config, num_train=50_000, epochs=60)
    config.population = 3
    config.optimizer.schedule = "cosine"
    config.optimizer.learning_rate = 2e-3
    config.optimizer.warmup_steps = 1_000
    config.model.hidden = (300, 300)
    config.model.activation = "gelu"
    config.model.latent_dim = 40
    config.model.data_bias = True
    config.model.kl_warmup_steps = 3_000


def mixture(config: ml_collections.ConfigDict) -> None:
    """`standard` with a prior of 500 Gaussians."""
    standard(config)
    config.model.prior = "mixture"


def vamp(config: ml_collections.ConfigDict) -> None:
    """`standard` with a prior of the posteriors of 500 learned pseudo-inputs."""
    standard(config)
    config.model.prior = "vamp"


def best(config: ml_collections.ConfigDict) -> None:
    """The lowest NLL that we got in 45 minutes: `two_layers` with a mixture on top and averaged weights."""
    two_layers(config)
    config.ema_decay = 0.9995
    config.model.prior = "mixture"


def ladder(config: ml_collections.ConfigDict) -> None:
    """The default data; two stochastic layers inferred from the top down."""
    dense(config)
    config.model.activation = "gelu"
    config.model.latent_dim = 32
    config.model.upper_dims = (16,)
    config.model.upper_hidden = (128,)
    config.model.inference = "top_down"


def planar(config: ml_collections.ConfigDict) -> None:
    """The default with ten planar flows behind the Gaussian posterior."""
    dense(config)
    config.model.num_flows = 10


def conditional(config: ml_collections.ConfigDict) -> None:
    """The default, told the label: p(x | y)."""
    dense(config)
    config.model.conditional = True


def beta(config: ml_collections.ConfigDict) -> None:
    """The default with four times the divergence: fewer, more separate latent dimensions."""
    dense(config)
    config.model.beta = 4.0


def total_correlation(config: ml_collections.ConfigDict) -> None:
    """The default with six times the total correlation."""
    dense(config)
    config.model.objective = "total_correlation"
    config.model.tc_weight = 6.0


def free_bits(config: ml_collections.ConfigDict) -> None:
    """The default with an eighth of a nat of each latent dimension for nothing."""
    dense(config)
    config.model.free_bits = 0.125


def linear(config: ml_collections.ConfigDict) -> None:
    """A linear VAE of grey full MNIST, whose maximum of likelihood is that of probabilistic PCA with 32 components."""
    config.batch_size = 500
    full_mnist(config, num_train=50_000, epochs=200)
    config.data.binarization = "none"
    config.optimizer.schedule = "cosine"
    config.model.hidden = ()
    config.model.latent_dim = 32
    config.model.likelihood = "shared_gaussian"
    config.model.squash = False
