"""What is measured of style-based games: a step at the largest resolution."""

import itertools
import math

import ml_collections

from configs import stylegan as recipes
from experiments import stylegan
from experiments.peers import torch_stylegan2
from experiments.timing.flops import Layers, flops_forward, flops_per_step
from experiments.timing.programs import CALL, LOOP
from experiments.timing.row import Row
from genlab import data
from genlab.networks.progressive import sides


def generator_layers(config: ml_collections.ConfigDict, depth: int) -> Layers:
    """Of all sizes. A layer that enlarges has nine products at each pixel of what it makes, or of what it is shown."""
    model, b = config.model, config.batch_size
    channels, dim, styled = tuple(model.channels), model.latent_dim, model.network != "progan"
    by_shown = model.network == "stylegan2"  # a transposed convolution
    first, layers = channels[0], []
    affine = lambda inputs, outputs: [(b, dim, inputs if by_shown else 2 * outputs)] if styled else []
    demodulation = lambda inputs, outputs: [(b, inputs, outputs)] if by_shown else []
    layers += model.mapping_layers * [(b, dim, dim)] if styled else [(b, dim, 16 * first)]
    layers += affine(first, first) if model.network == "stylegan" else []  # of the constant
    layers += [*affine(first, first), (16 * b, 9 * first, first), *demodulation(first, first)]
    for side, inputs, width in zip(sides(channels)[1:], channels, channels[1:], strict=False):
        rows = b * side**2
        layers += [*affine(inputs, width), (rows // 4 if by_shown else rows, 9 * inputs, width)]
        layers += [*demodulation(inputs, width), *affine(width, width), (rows, 9 * width, width)]
        layers += demodulation(width, width)
    # images are made of every size in StyleGAN2, else of the last, and of the one before that fades out
    seen = list(zip(sides(channels), channels, strict=True))
    for side, width in seen if by_shown else seen[-2:]:
        layers += [*([(b, dim, width)] if by_shown else []), (b * side**2, width, depth)]
    return layers


def discriminator_layers(config: ml_collections.ConfigDict, depth: int) -> Layers:
    """Of all sizes."""
    model, b = config.model, config.batch_size
    channels, residual = tuple(model.channels)[::-1], model.network == "stylegan2"
    side = 4 << len(channels) - 1
    layers = [(b * side**2, depth, channels[0])]
    if not residual:  # what fades out
        layers += [(b * side**2 // 4, depth, channels[1])]
    for width, narrower in itertools.pairwise(channels):
        rows = b * side**2
        layers += [(rows, 9 * width, width), (rows // 4 if residual else rows, 9 * width, narrower)]
        layers += [(rows // 4, width, narrower)] if residual else []
        side //= 2
    last = channels[-1]
    return [*layers, (16 * b, 9 * (last + bool(model.stddev_group)), last), (b, 16 * last, last), (b, last, 1)]


def style_row(title: str, config: ml_collections.ConfigDict, dataset: data.Dataset) -> Row:
    """The row of a config, without a peer; a lazy penalty counts for its share of the steps, path lengths do not."""
    depth = dataset.train["x"].shape[3]
    gen, disc, model = generator_layers(config, depth), discriminator_layers(config, depth), config.model
    penalty = 0 if model.penalty == "none" else 4 * flops_forward(disc)
    if model.penalty_every > 1:  # with a forward pass of its own
        penalty = math.ceil(penalty / model.penalty_every)
    flops = 2 * flops_per_step(disc) + penalty + flops_per_step(gen) + 2 * flops_forward(disc)
    return Row(
        f"{title}, batch {config.batch_size}", stylegan.build(config, dataset), config.batch_size, [*gen, *disc],
        config.steps_per_call, flops=flops, dataset=dataset,
    )  # fmt: skip


def padded() -> data.Dataset:
    """The digits that come with us, at 32x32."""
    return data.load("mnist_5k", num_validation=0, padding=2)


def stylegan2(dataset: data.Dataset, precision: str) -> list[Row]:
    """configs/stylegan.py:stylegan2_mnist with lazy R1, without what the peer has not."""
    config = recipes.get_config("stylegan2_mnist")
    config.precision, config.ema_decay = precision, 0.0
    config.model.mixing = config.model.path_length_weight = 0.0
    row = style_row("StyleGAN2 step", config, padded())
    return [row._replace(package="torch", peer=torch_stylegan2.contestants, bars={LOOP: 1.0, CALL: 1.0})]


def styles(dataset: data.Dataset, precision: str) -> list[Row]:
    """Every small variant of configs/stylegan.py, at 32x32."""
    rows = []
    for variant in recipes.VARIANTS:
        config = recipes.get_config(variant)
        config.precision = precision
        if not variant.endswith("mnist"):
            rows.append(style_row(f"style, {variant}", config, padded()))
    return rows
