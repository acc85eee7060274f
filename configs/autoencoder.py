"""Autoencoders, every classical kind.

python -m experiments.autoencoder --config=configs/autoencoder.py              784-500-250-30 and back, on 3,500 digits
python -m experiments.autoencoder --config=configs/autoencoder.py:VARIANT      one of those below

For full MNIST add --config.data.name=mnist --config.data.data_dir=DIR, and set num_steps (and of pca batch_size, to the
size of the training split). What variants give stands in the README's tables of results. Kinds combine: any network,
but greedy and pca, with any corruption, code and penalties.
"""

import ml_collections

from configs import base


def get_config(variant: str = "deep") -> ml_collections.ConfigDict:
    """The recipe of a variant: a name in `VARIANTS`."""
    if variant not in VARIANTS:
        raise ValueError(f"configs/autoencoder.py has no variant {variant!r}; known: {', '.join(VARIANTS)}")
    config = base.get_config()
    config.num_steps = 4_000
    config.log_every_steps = 200
    config.eval_every_steps = 1_000
    config.checkpoint_every_steps = 2_000
    config.figure_every_steps = 2_000
    config.optimizer.schedule = "cosine"

    config.model = ml_collections.ConfigDict()
    config.model.network = "dense"  # | "tied" | "greedy" | "conv" | "unpooling" | "recurrent" | "pca"
    config.model.hidden = (500, 250)  # widths of the dense layers; the decoder mirrors them
    config.model.channels = (32, 64)  # of the convolutions; "conv" and "unpooling"
    config.model.features = 128  # of the recurrent state
    config.model.batch_norm = False  # between convolutions; "conv"
    config.model.activation = "relu"
    config.model.code_dim = 30
    config.model.code = "linear"  # | "relu" | "sigmoid" | "binary"
    config.model.output = "sigmoid"  # | "linear": both squared error | "cross_entropy"
    config.model.corruption = "none"  # of what the encoder sees in training: "gaussian" | "masking"
    config.model.corruption_level = 0.0  # standard deviation, or the probability that a pixel is set to zero
    config.model.penalties = ()  # of "l1", "sparsity", "contractive", "l2"
    config.model.l1_weight = 0.0
    config.model.sparsity_weight = 0.0
    config.model.sparsity_target = 0.1  # mean activation of each unit of the code
    config.model.contractive_weight = 0.0
    config.model.l2_weight = 0.0
    config.model.pretrain_steps = 0  # of each layer alone, before all are trained together; "greedy"
    VARIANTS[variant](config)
    return config


def deep(config: ml_collections.ConfigDict) -> None:
    """784-500-250-30-250-500-784: the default."""


def pca(config: ml_collections.ConfigDict) -> None:
    """Principal components, exactly, of one batch: the 3,500 training digits."""
    config.model.network = "pca"
    config.model.code_dim = 32
    config.batch_size = 3_500
    config.num_steps = config.log_every_steps = config.eval_every_steps = 1
    config.steps_per_call = 1


def linear(config: ml_collections.ConfigDict) -> None:
    """784-32-784 without a nonlinearity: the subspace of the principal components."""
    config.batch_size = 512  # the last components differ little in variance: it takes many examples to tell them apart
    config.num_steps = 6_000
    config.optimizer.learning_rate = 1e-2
    config.model.hidden = ()
    config.model.code_dim = 32
    config.model.output = "linear"


def linear_l2(config: ml_collections.ConfigDict) -> None:
    """The same with squared kernels as a penalty: the principal directions themselves."""
    linear(config)
    config.batch_size = 3_500  # all at once: what batches differ by keeps encoder and decoder apart
    config.num_steps = 1_500
    config.eval_every_steps = 500
    config.steps_per_call = 20
    config.optimizer.b2 = 0.99  # a longer memory of gradients slows the decay of weights that no pixel speaks for
    config.model.penalties = ("l2",)
    config.model.l2_weight = 0.5  # directions of less variance than this vanish


def undercomplete(config: ml_collections.ConfigDict) -> None:
    """One hidden layer, 784-30-784, with sigmoid outputs."""
    config.model.hidden = ()
    config.model.code = "relu"


def tied(config: ml_collections.ConfigDict) -> None:
    """The default, its decoder made of the encoder's kernels."""
    config.model.network = "tied"


def greedy(config: ml_collections.ConfigDict) -> None:
    """The default, one layer after the other, then together."""
    config.model.network = "greedy"
    config.model.pretrain_steps = 500


def conv(config: ml_collections.ConfigDict) -> None:
    """Strided convolutions, and transposed ones on the way back."""
    config.num_steps = 1_500
    config.eval_every_steps = 500
    config.steps_per_call = 20
    config.model.network = "conv"
    config.model.hidden = (256,)


def unpooling(config: ml_collections.ConfigDict) -> None:
    """Max-pooling that remembers where, and unpooling that puts it back there."""
    conv(config)
    config.model.network = "unpooling"
    config.model.channels = (16, 16)
    config.model.hidden = ()


def recurrent(config: ml_collections.ConfigDict) -> None:
    """The rows of an image as a sequence, read into a vector and written from it."""
    config.num_steps = 1_600
    config.eval_every_steps = 400
    config.steps_per_call = 20
    config.model.network = "recurrent"
    config.model.hidden = ()
    config.optimizer.learning_rate = 5e-3  # at a fifth of it an LSTM finds the mean image and rests there long
    config.optimizer.warmup_steps = 200
    config.optimizer.clip_norm = 1.0


def waves(config: ml_collections.ConfigDict) -> None:
    """Time series of 50 values, two waves of one shape each: their frequencies and phases in four numbers."""
    recurrent(config)
    config.data.name = "waves"
    config.data.num_validation = 1_000
    config.model.features = 64
    config.model.code_dim = 4
    config.model.output = "linear"
    config.optimizer.warmup_steps = 100


def overcomplete(config: ml_collections.ConfigDict) -> None:
    """A code larger than the image, kept from the identity by masked inputs."""
    config.model.hidden = ()
    config.model.code_dim = 1_000
    config.model.code = "relu"
    masking(config)


def denoising(config: ml_collections.ConfigDict) -> None:
    """Gaussian noise of standard deviation 0.3 on what the encoder sees."""
    config.model.corruption = config.evaluation.corruption = "gaussian"
    config.model.corruption_level = config.evaluation.corruption_level = 0.3


def masking(config: ml_collections.ConfigDict) -> None:
    """Half of the pixels that the encoder sees are set to zero."""
    config.model.corruption = config.evaluation.corruption = "masking"
    config.model.corruption_level = config.evaluation.corruption_level = 0.5


def pretraining(config: ml_collections.ConfigDict) -> None:
    """An encoder for few labels: nearly all pixels that it sees are set to zero; classifiers from 100 labels follow."""
    masking(config)
    config.num_steps = 2_000
    config.model.corruption_level = 0.85
    config.evaluation.few_labels = (100,)


def sparse_l1(config: ml_collections.ConfigDict) -> None:
    """300 units of which few are active, by the sum of their values."""
    config.model.hidden = (500,)
    config.model.code_dim = 300
    config.model.code = "relu"
    config.model.penalties = ("l1",)
    config.model.l1_weight = 0.05


def sparse_kl(config: ml_collections.ConfigDict) -> None:
    """300 sigmoid units, each active a tenth of the time."""
    config.model.hidden = (500,)
    config.model.code_dim = 300
    config.model.code = "sigmoid"
    config.model.penalties = ("sparsity",)
    config.model.sparsity_weight = 1.0


def contractive(config: ml_collections.ConfigDict) -> None:
    """A code that moves little when the image does: 784-300-784, sigmoid units, as Rifai et al. 2011."""
    config.num_steps = 1_500
    config.model.hidden = ()
    config.model.code_dim = 300
    config.model.code = "sigmoid"
    config.model.output = "cross_entropy"
    config.model.penalties = ("contractive",)
    config.model.contractive_weight = 0.1


def hashing(config: ml_collections.ConfigDict) -> None:
    """A code of 16 bits."""
    config.model.code_dim = 16
    config.model.code = "binary"


VARIANTS = {
    "deep": deep, "pca": pca, "linear": linear, "linear_l2": linear_l2, "undercomplete": undercomplete, "tied": tied,
    "greedy": greedy, "conv": conv, "unpooling": unpooling, "recurrent": recurrent, "waves": waves,
    "overcomplete": overcomplete, "denoising": denoising, "masking": masking, "pretraining": pretraining,
    "sparse_l1": sparse_l1, "sparse_kl": sparse_kl, "contractive": contractive, "hashing": hashing,
}  # fmt: skip
