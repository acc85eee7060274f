"""Autoregressive models.

python -m experiments.autoregressive --config=configs/autoregressive.py            a gated PixelCNN on 3,500 digits
python -m experiments.autoregressive --config=configs/autoregressive.py:VARIANT    fvsbn made orders conditional grey
                                                                                   categorical attention transformer
                                                                                   language
python -m experiments.autoregressive --config=configs/autoregressive.py:made_mnist full MNIST; also pixelcnn_mnist

Full MNIST wants --config.data.data_dir=DIR, where TFDS's mnist is prepared. README.md has what was measured.
"""

import ml_collections

from configs import base


def get_config(variant: str = "small") -> ml_collections.ConfigDict:
    """The recipe of a variant; VARIANTS lists them."""
    if variant not in VARIANTS:
        raise ValueError(f"configs/autoregressive.py has no variant {variant!r}; known: {', '.join(VARIANTS)}")
    config = base.get_config()
    config.batch_size = 64
    config.steps_per_call = 20
    config.data.binarization = "dynamic"
    config.evaluation.batch_size = 200
    config.evaluation.num_samples = 200

    config.model = ml_collections.ConfigDict()
    config.model.network = "pixelcnn"  # | "made" | "transformer", which text wants
    # | "categorical", of the 256 levels of grey images or the characters of text | "logistic_mixture", of levels
    config.model.output = "bernoulli"
    config.model.num_components = 5  # of the mixture
    config.model.conditional = False  # on labels
    config.model.temperature = 1.0  # of samples
    config.model.features = 16  # of a transformer, or of either stack of a PixelCNN
    config.model.num_layers = 5  # of either; a PixelCNN has a first one besides
    config.model.num_heads = 4  # of attention
    config.model.attention_every = 0  # layers of a PixelCNN, after which comes attention; 0: there is none
    config.model.first_reach = 3  # rows above, and pixels to the left, that the first layer sees: 7x7, masked
    config.model.reach = 1  # those of the others: 3x3
    config.model.head = 64  # features before the outputs
    config.model.position_bias = True  # of a PixelCNN: every place has biases of its own, beside a convolution's
    config.model.hidden = (500,)  # widths of a MADE
    config.model.order = "natural"  # | "reversed" | "random": of a MADE's pixels
    config.model.num_orders = 1  # sets of masks, of which a step draws one; the model is their mixture
    VARIANTS[variant](config)
    return config


def small(config: ml_collections.ConfigDict) -> None:
    """The default."""
    config.num_steps = 1_500
    config.batch_size = 32
    config.log_every_steps = 50
    config.eval_every_steps = config.checkpoint_every_steps = 500
    config.figure_every_steps = 500
    config.optimizer.learning_rate = 5e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.clip_norm = 1.0


def conditional(config: ml_collections.ConfigDict) -> None:
    """`small`, told the class."""
    small(config)
    config.model.conditional = True


def classifier(config: ml_collections.ConfigDict) -> None:
    """`conditional`, for experiments.classifier."""
    conditional(config)
    base.add_classifier(config, "autoregressive")


def grey(config: ml_collections.ConfigDict) -> None:
    """`small` on 256 levels, by a mixture of logistics (Salimans et al. 2017)."""
    small(config)
    config.data.binarization = "none"
    config.model.output = "logistic_mixture"


def novelty(config: ml_collections.ConfigDict) -> None:
    """`grey`, for experiments.novelty: a few steps for each class."""
    grey(config)
    base.add_novelty(config, "autoregressive")
    config.data.num_validation = 1_000
    config.num_steps = 300
    config.eval_every_steps = 50


def categorical(config: ml_collections.ConfigDict) -> None:
    """`grey`, by a probability of each level (van den Oord et al. 2016)."""
    grey(config)
    config.model.output = "categorical"


def attention(config: ml_collections.ConfigDict) -> None:
    """`small` with attention after the last layer, as of PixelSNAIL (Chen et al. 2018)."""
    small(config)
    config.model.attention_every = config.model.num_layers
    config.model.num_heads = 2


def transformer(config: ml_collections.ConfigDict) -> None:
    """A transformer over pixels, as of Image GPT (Chen et al. 2020), on binary digits at half their size."""
    small(config)
    config.data.image_size = 14
    config.num_steps = 2_000
    config.optimizer.learning_rate = 2e-3
    config.optimizer.warmup_steps = 100
    config.model.network = "transformer"
    config.model.features = 64
    config.model.num_layers = 3


def language(config: ml_collections.ConfigDict) -> None:
    """A language model of characters, p(x_t | x_1 ... x_{t-1}), on the documentation that Python ships."""
    transformer(config)
    config.data.name = "python_topics"
    config.data.image_size = 0
    config.data.num_validation = 200
    config.data.binarization = "none"
    config.batch_size = 16
    config.optimizer.name = "adamw"
    config.optimizer.weight_decay = 0.1
    config.model.output = "categorical"
    config.model.features = 128
    config.model.num_layers = 4
    config.evaluation.batch_size = 50
    config.evaluation.num_samples = 50


def made(config: ml_collections.ConfigDict) -> None:
    """Germain et al. 2015, small."""
    small(config)
    config.batch_size = 100
    config.optimizer.learning_rate = 2e-3
    config.model.network = "made"


def orders(config: ml_collections.ConfigDict) -> None:
    """`made` of eight sets of masks in random orders; the model is their mixture (Germain et al. 2015, section 4.2)."""
    made(config)
    config.model.order = "random"
    config.model.num_orders = 8


def fvsbn(config: ml_collections.ConfigDict) -> None:
    """A fully visible sigmoid belief network (Frey et al. 1996): logistic regressions, a MADE without hidden layers."""
    made(config)
    config.model.hidden = ()


def full(config: ml_collections.ConfigDict) -> None:
    """What recipes for full MNIST share."""
    config.data.name = "mnist"
    config.data.num_validation = 400  # as Burda et al. 2016 train on 59,600
    config.log_every_steps = 200
    config.eval_every_steps = config.checkpoint_every_steps = config.figure_every_steps = 2_000
    config.optimizer.schedule = "cosine"


def made_mnist(config: ml_collections.ConfigDict) -> None:
    """One hidden layer of 8,000 in the natural order: 83.47 nats, one seed, an hour of a CPU core."""
    full(config)
    config.num_steps = 32_000
    config.batch_size = 100
    config.ema_decay = 0.999
    config.model.network = "made"
    config.model.hidden = (8_000,)


def pixelcnn_mnist(config: ml_collections.ConfigDict) -> None:
    """Seven layers of 24 features in either stack: 82.82 nats, one seed, 48 minutes of a CPU core."""
    full(config)
    config.num_steps = 20_000
    config.batch_size = 16
    config.optimizer.learning_rate = 3e-3
    config.optimizer.clip_norm = 1.0
    config.ema_decay = 0.999
    config.model.features = 24
    config.model.num_layers = 6
    config.model.head = 128


RECIPES = (
    small,
    conditional,
    classifier,
    grey,
    novelty,
    categorical,
    attention,
    transformer,
    language,
    made,
    orders,
    fvsbn,
    made_mnist,
    pixelcnn_mnist,
)
VARIANTS = {recipe.__name__: recipe for recipe in RECIPES}
