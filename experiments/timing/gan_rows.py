"""What is measured of adversarial games: a step of either player, whose networks are passed through several times."""

import functools
import itertools

import ml_collections

from configs import gan as recipes
from experiments import gan
from experiments.peers import torch_gan
from experiments.timing.flops import Layers, flops_forward, flops_per_step
from experiments.timing.programs import CALL, LOOP
from experiments.timing.row import Row
from genlab import data

SAME_STEP = ("mnist", "mnist_conditional", "grid")  # as small, conditional and ring, on other data


def dense_layers(b: int, *widths: int) -> Layers:
    """Of a dense stack of these widths."""
    return [(b, inputs, outputs) for inputs, outputs in itertools.pairwise(widths)]


def dcgan_layers(
    b: int, channels: tuple[int, ...], side: int, depth: int, codes: int, packing: int = 1
) -> tuple[Layers, Layers]:
    """(generator's, discriminator's) of images [b, side, side, depth], kernels 5x5 of stride 2."""
    disc, width, size = [], depth * packing, b // packing
    for features in channels:
        side = -(-side // 2)
        disc.append((size * side * side, 25 * width, features))
        width = features
    # the generator's convolutions are those of the discriminator backwards, of single images
    up = [
        (rows * packing, outputs, inputs if position else 25 * depth)
        for position, (rows, inputs, outputs) in enumerate(disc)
    ]
    gen = [(b, codes, side * side * width), *up[::-1]]
    return gen, [*disc, (size, side * side * width, 1)]


def resnet_layers(b: int, channels: tuple[int, ...], side: int, depth: int, codes: int) -> tuple[Layers, Layers]:
    """(generator's, discriminator's) of residual blocks on images [b, side, side, depth], kernels 3x3 and 1x1."""
    disc, width, sides = [], depth, [side]
    for features in channels:
        large, small = b * sides[-1] ** 2, b * (-(-sides[-1] // 2)) ** 2
        disc += [(large, 9 * width, features), (large, 9 * features, features), (small, width, features)]
        width = features
        sides.append(-(-sides[-1] // 2))
    last = b * sides[-1] ** 2
    disc += [(last, 9 * width, width), (last, 9 * width, width), (b, width, 1)]
    gen: Layers = [(b, codes, sides[-1] ** 2 * width)]
    for features, large, small in zip(channels[::-1], sides[-2::-1], sides[:0:-1], strict=True):
        rows = b * large**2
        gen = [*gen, (rows, 9 * width, features), (rows, 9 * features, features), (b * small**2, width, features)]
        width = features
    return [*gen, (b * side**2, 9 * width, depth)], disc


def player_layers(config: ml_collections.ConfigDict, dataset: data.Dataset) -> tuple[Layers, Layers]:
    """(generator's, discriminator's) of a recipe, on the examples of one of its discriminator's steps."""
    model, shape = config.model, dataset.train["x"].shape[1:]
    b, channels = config.batch_size // model.disc_steps, tuple(model.channels)
    codes = model.latent_dim + (dataset.num_classes if model.conditioning != "none" else 0)
    if model.network == "affine":
        return [(b, codes, *shape)], [(b, 2 * shape[0], 1)]
    if model.network == "maxout":
        hidden, pieces = tuple(model.disc_hidden), model.maxout_pieces
        inputs = (*shape, *hidden)
        disc = [(b, width, pieces * features) for width, features in zip(inputs, hidden, strict=False)]
        return dense_layers(b, codes, *model.hidden, *shape), [*disc, (b, hidden[-1], 1)]
    if model.network == "resnet":
        return resnet_layers(b, channels, shape[0], shape[2], codes)
    gen, disc = dcgan_layers(b, channels, shape[0], shape[2], codes, model.packing)
    if model.minibatch_kernels:
        size, features, _ = disc[-1]
        kernels, dim = model.minibatch_kernels, model.minibatch_kernel_dim
        disc = [*disc[:-1], (size, features, kernels * dim), (size, features + kernels, 1)]
    return gen, disc


def game_flops(gen: Layers, disc: Layers, model: ml_collections.ConfigDict) -> int:
    """Of a step: n of the discriminator and m of the generator, whose first forward pass serves both players.

    The discriminator passes over real and over fake examples, forward and back to its weights; where the generator
    learns from it, forward and back to the fakes, and the generator forward and back. The slope that is penalised is
    another pass forward and back to the input, and each of these two products has a gradient in the weights, or in
    what came back: four a layer, where activations are piecewise linear. Spectral norms, and steps that are looked
    ahead, are not counted.
    """
    n, m = model.disc_steps, model.gen_steps
    penalty = 4 * flops_forward(disc) if model.penalty != "none" else 0
    return (
        n * (2 * flops_per_step(disc) + penalty)
        + (n - 1) * flops_forward(gen)
        + m * (flops_per_step(gen) + 2 * flops_forward(disc))
    )


def recipe_row(title: str, config: ml_collections.ConfigDict, dataset: data.Dataset) -> Row:
    """The row of a config, without a peer."""
    gen, disc = player_layers(config, dataset)
    return Row(
        f"{title}, batch {config.batch_size}", gan.build(config, dataset), config.batch_size, [*gen, *disc],
        config.steps_per_call, config.data.binarization, flops=game_flops(gen, disc, config.model), dataset=dataset,
    )  # fmt: skip


def plain(config: ml_collections.ConfigDict, precision: str) -> ml_collections.ConfigDict:
    """The game that the peer plays: 28x28x1 - 14x14x64 - 7x7x128 and back, one step of each player and no more."""
    config.precision, config.ema_decay, config.batch_size = precision, 0.0, 64
    config.model.disc_steps = config.model.gen_steps = 1
    config.model.channels, config.model.label_smoothing = (64, 128), 0.0
    config.optimizer.schedule, config.model.disc_learning_rate = "constant", 0.0
    config.model.duality_gap_steps = 0
    return config


def dcgan(dataset: data.Dataset, precision: str) -> list[Row]:
    """The step of configs/gan.py:mnist with networks of two convolutions, without what the peer has not."""
    config = plain(recipes.get_config("mnist"), precision)
    config.optimizer.learning_rate, config.optimizer.b1, config.optimizer.b2 = 2e-4, 0.5, 0.999
    peer = functools.partial(torch_gan.contestants, "dcgan")
    row = recipe_row("DCGAN step", config, dataset)
    return [row._replace(package="torch", peer=peer, bars={LOOP: 1.0, CALL: 1.0})]


def gradient_penalty(dataset: data.Dataset, precision: str) -> list[Row]:
    """Of configs/gan.py:wgan_gp one step of the critic and one of the generator, with the networks of `dcgan`."""
    config = plain(recipes.get_config("wgan_gp"), precision)
    peer = functools.partial(torch_gan.contestants, "gradient_penalty")
    row = recipe_row("gradient penalty step", config, dataset)
    return [row._replace(package="torch", peer=peer, bars={LOOP: 1.0, CALL: 1.0})]


def gans(dataset: data.Dataset, precision: str) -> list[Row]:
    """Every variant of configs/gan.py, as its recipe has it, but for those whose step another has, and x y games.

    Batches are the recipes': those of wgan and wgan_gp are five of the critic. Stacked digits are made of the few that
    come with us.
    """
    rows = []
    for variant in recipes.VARIANTS:
        config = recipes.get_config(variant)
        config.precision, config.model.duality_gap_steps = precision, 0
        if variant in SAME_STEP or config.model.network == "bilinear":
            continue
        own = {"mnist_5k": "", "stacked_mnist": "stacked_mnist_5k"}.get(config.data.name, config.data.name)
        examples = data.load(own, num_validation=0) if own else dataset
        rows.append(recipe_row(f"GAN, {variant}", config, examples))
    return rows
