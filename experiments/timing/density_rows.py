"""What is measured of exact densities: a step of a flow or of an autoregressive model, one pass forward and back.

Masked layers are counted whole, attention's masked half too. Layers that are shown data or labels do without the
gradient of their input; a flow has none, where a scale and a shift that are learnt come before all.
"""

import math

import ml_collections

from configs import autoregressive as autoregressive_recipes
from configs import flow as flow_recipes
from experiments import autoregressive as autoregressive_models
from experiments import flow
from experiments.assembly import Build
from experiments.timing.flops import Layers, flops_forward
from experiments.timing.gan_rows import dense_layers
from experiments.timing.row import Row
from genlab import data
from genlab.data import text
from genlab.networks.coupling import num_parameters

SAME_STEP = ("classifier", "novelty")  # as conditional and small


def mixing_layers(rows: int, size: int) -> Layers:
    """Of an invertible linear map at so many places: its two factors' product, and its own with what it maps."""
    return [(size, size, size), (rows, size, size)]


def vector_flow_layers(config: ml_collections.ConfigDict, dim: int) -> Layers:
    """Of coupling or autoregressive layers of [B, D]; either shows all D numbers to a dense network."""
    model, b = config.model, config.batch_size
    stack = dense_layers(b, dim, *model.hidden, dim * num_parameters(model.transform, model.num_bins))
    mixing = mixing_layers(b, dim) if model.mixing == "linear" else []
    return [*stack, *(model.num_layers - 1) * [*mixing, *stack]]


def conv_conditioner_layers(
    rows: int, inputs: int, num_classes: int, model: ml_collections.ConfigDict, outputs: int
) -> Layers:
    """Of 3x3 convolutions that make so many outputs of each input; labels are planes of the first one's input."""
    width = model.channels
    blocks = 2 * model.num_blocks * [(rows, 9 * width, width)]
    return [(rows, 9 * (inputs + num_classes), width), *blocks, (rows, 9 * width, inputs * outputs)]


def multi_scale_layers(config: ml_collections.ConfigDict, shape: tuple[int, ...], num_classes: int) -> Layers:
    """Of levels on images [b, height, width, depth]: a quarter of the places, four times the channels, half of them."""
    model, layers, (height, width, depth) = config.model, [], shape
    outputs = num_parameters(model.transform, model.num_bins)
    conditioner = lambda rows, depth, outputs: conv_conditioner_layers(rows, depth, num_classes, model, outputs)
    for number in range(1, model.levels + 1):
        layers += model.checkerboard * conditioner(config.batch_size * height * width, depth, outputs)
        height, width, depth = height // 2, width // 2, 4 * depth
        rows = config.batch_size * height * width
        mixing = mixing_layers(rows, depth) if model.mixing == "linear" else []
        layers += model.num_layers * [*mixing, *conditioner(rows, depth, outputs)]
        depth //= 2 if number < model.levels else 1
        if model.priors and number < model.levels:
            layers += conditioner(rows, depth, 2)
    return layers


def pixelcnn_layers(
    config: ml_collections.ConfigDict, shape: tuple[int, ...], outputs: int, num_classes: int
) -> tuple[Layers, Layers]:
    """(of those that are shown data, of the others) in both stacks, kernels masked by their shape.

    Nobody looks at the vertical stack after the last layer, nor at the labels there.
    """
    model, width, first, reach = config.model, config.model.features, config.model.first_reach, config.model.reach
    rows = config.batch_size * math.prod(shape)
    link_mix = [(rows, 2 * width, 2 * width), (rows, width, width)]
    labels = (2 * model.num_layers + 1) * [(config.batch_size, num_classes, 2 * width)] if num_classes else []
    gated = [
        (rows, (reach + 1) * (2 * reach + 1) * width, 2 * width), (rows, (reach + 1) * width, 2 * width), *link_mix
    ]  # fmt: skip
    # queries, keys and values of the features and two coordinates; a gate of what is here and what was found
    around = [(rows, width + 2, 3 * width), *2 * [(rows, width, 2 * width)], (rows, width, width)]
    shown = [(rows, first * (2 * first + 1), 2 * width), (rows, first, 2 * width), *labels]
    return shown, [
        *link_mix, *model.num_layers * gated, *num_attentions(model) * around,
        (rows, width, model.head), (rows, model.head, outputs),
    ]  # fmt: skip


def transformer_layers(config: ml_collections.ConfigDict, length: int, outputs: int) -> Layers:
    """Of its dense layers; embeddings are looked up."""
    rows, width = config.batch_size * length, config.model.features
    block = [(rows, width, 3 * width), (rows, width, width), (rows, width, 4 * width), (rows, 4 * width, width)]
    return [*config.model.num_layers * block, (rows, width, outputs)]


def num_attentions(model: ml_collections.ConfigDict) -> int:
    """How many layers of a network attend."""
    if model.network == "pixelcnn" and model.attention_every:
        return model.num_layers // model.attention_every
    return model.num_layers if model.network == "transformer" else 0


def attention_layers(config: ml_collections.ConfigDict, length: int) -> Layers:
    """Of the scores of every query and what they mix, in all heads; either's two operands both have gradients.

    Scores that are computed again for the gradient, where all at once would not fit into memory, are counted once: it
    is no more than the algorithm needs.
    """
    model = config.model
    rows, dim = config.batch_size * model.num_heads * length, model.features // model.num_heads
    return num_attentions(model) * [(rows, dim, length), (rows, length, dim)]


def recipe_row(
    title: str, config: ml_collections.ConfigDict, shown: Layers, others: Layers, dataset: data.Dataset, build: Build,
    attention: Layers = (),
) -> Row:  # fmt: skip
    """The row of a config, without a peer.

    Its layers are those that have weights: attention's products, which a step need not hold all at once, are gigabytes
    in the loop of products beside it, and are in the row's FLOPs only.
    """
    return Row(
        f"{title}, batch {config.batch_size}", build(config, dataset), config.batch_size, [*shown, *others],
        config.steps_per_call, config.data.binarization, dataset=dataset,
        flops=2 * flops_forward(shown) + 3 * flops_forward([*others, *attention]),
    )  # fmt: skip


def flow_row(title: str, config: ml_collections.ConfigDict, dataset: data.Dataset) -> Row:
    """Of a recipe of configs/flow.py; those of vectors are without labels."""
    shape, num_classes = dataset.train["x"].shape[1:], dataset.num_classes if config.model.conditional else 0
    if config.model.network == "multi_scale":
        layers = multi_scale_layers(config, shape, num_classes)
    else:
        layers = vector_flow_layers(config, math.prod(shape))
    return recipe_row(title, config, [], layers, dataset, flow.build)


def autoregressive_row(title: str, config: ml_collections.ConfigDict, dataset: data.Dataset) -> Row:
    """Of a recipe of configs/autoregressive.py; a MADE and a transformer are without labels."""
    model, shape = config.model, dataset.train["x"].shape[1:]
    length, num_classes = math.prod(shape), dataset.num_classes if model.conditional else 0
    num_tokens = text.NUM_TOKENS if len(shape) == 1 else 256
    outputs = {"bernoulli": 1, "categorical": num_tokens, "logistic_mixture": 3 * model.num_components}[model.output]
    if model.network == "pixelcnn":
        shown, others = pixelcnn_layers(config, shape, outputs, num_classes)
    elif model.network == "made":
        stack = dense_layers(config.batch_size, length, *model.hidden, length * outputs)
        shown, others = stack[:1], stack[1:]
    else:
        shown, others = [], transformer_layers(config, length, outputs)
    attention = attention_layers(config, length)
    return recipe_row(title, config, shown, others, dataset, autoregressive_models.build, attention)


def examples(config: ml_collections.ConfigDict, dataset: data.Dataset) -> data.Dataset:
    """Those that a recipe trains on, where they are not the digits that are given."""
    name, size = config.data.name, config.data.image_size
    if name in ("mnist", "mnist_5k"):
        return data.load("mnist_5k", num_validation=0, image_size=size) if size else dataset
    return data.load(name, num_validation=0)


def flows(dataset: data.Dataset, precision: str) -> list[Row]:
    """Every variant of configs/flow.py, as its recipe has it, but for those whose step another has."""
    rows = []
    for variant in flow_recipes.VARIANTS:
        config = flow_recipes.get_config(variant)
        config.precision = precision
        if variant not in SAME_STEP:
            rows.append(flow_row(f"flow, {variant}", config, examples(config, dataset)))
    return rows


def autoregressive(dataset: data.Dataset, precision: str) -> list[Row]:
    """Every variant of configs/autoregressive.py, as its recipe has it, but for those whose step another has."""
    rows = []
    for variant in autoregressive_recipes.VARIANTS:
        config = autoregressive_recipes.get_config(variant)
        config.precision = precision
        if variant not in SAME_STEP:
            rows.append(autoregressive_row(f"autoregressive, {variant}", config, examples(config, dataset)))
    return rows
