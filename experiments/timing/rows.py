"""What is measured: training steps. A new family is one more function here, and its name in `ROWS`.

Those in `BY_DEFAULT` take minutes together; the others are asked for by name.
"""

import functools
import itertools

import ml_collections
import numpy as np

from configs import autoencoder as autoencoder_recipes
from configs import vae as recipes
from experiments import autoencoder, vae
from experiments.assembly import Build
from experiments.peers import keras_vae, torch_vae
from experiments.timing import density_rows, gan_rows, style_rows
from experiments.timing.flops import Layers
from experiments.timing.programs import CALL, LOOP
from experiments.timing.row import Row
from genlab import data


def digits() -> data.Dataset:
    """60,000 images: the 4,000 training digits that come with us, 15 times."""
    dataset = data.load("mnist_5k", num_validation=0)
    return dataset._replace(train={name: np.concatenate([column] * 15) for name, column in dataset.train.items()})


def dense_config(precision: str, batch_size: int = 128, width: int = 400) -> ml_collections.ConfigDict:
    """Of 784-400-20, or with a hidden layer of another width."""
    return _config("mnist", precision, batch_size, width)


def stack_layers(b: int, *widths: int) -> Layers:
    """Of a dense stack of these widths."""
    return [(b, inputs, outputs) for inputs, outputs in itertools.pairwise(widths)]


def dense_layers(b: int, width: int) -> Layers:
    """Of the dense VAE."""
    return [*stack_layers(b, 784, width, 40), *stack_layers(b, 20, width, 784)]


def conv_config(precision: str, batch_size: int = 128, width: int = 256) -> ml_collections.ConfigDict:
    """Of 28x28x1 - 14x14x32 - 7x7x64 - 256 - 20 and back, kernels 4x4; the width is that of the dense layer."""
    return _config("conv", precision, batch_size, width)


def conv_layers(b: int, width: int, encoded: int = 40, decoded: int = 20) -> Layers:
    """Of the convolutional VAE, or with other numbers of what the encoder gives and the decoder takes."""
    return [
        (b * 14 * 14, 16 * 1, 32), (b * 7 * 7, 16 * 32, 64), *stack_layers(b, 7 * 7 * 64, width, encoded),
        *stack_layers(b, decoded, width, 7 * 7 * 64), (b * 7 * 7, 64, 16 * 32), (b * 14 * 14, 32, 16 * 1),
    ]  # fmt: skip


def _config(variant: str, precision: str, batch_size: int, width: int) -> ml_collections.ConfigDict:
    config = recipes.get_config(variant)
    config.precision, config.batch_size, config.model.hidden = precision, batch_size, (width,)
    return config


def recipe_row(
    title: str, config: ml_collections.ConfigDict, layers: Layers, dataset: data.Dataset, build: Build = vae.build
) -> Row:
    """The row of a config, without a peer."""
    algorithm, b = build(config, dataset), config.batch_size
    return Row(f"{title}, batch {b}", algorithm, b, layers, config.steps_per_call, config.data.binarization)


def dense(dataset: data.Dataset, precision: str) -> list[Row]:
    """The dense VAE of configs/vae.py:mnist."""
    row = recipe_row("dense VAE", dense_config(precision), dense_layers(128, 400), dataset)
    peer = functools.partial(torch_vae.contestants, "dense")
    return [row._replace(package="torch", peer=peer, bars={LOOP: 1.3}, product_bar=0.7)]


def conv(dataset: data.Dataset, precision: str) -> list[Row]:
    """The convolutional VAE of configs/vae.py:conv."""
    row = recipe_row("convolutional VAE", conv_config(precision), conv_layers(128, 256), dataset)
    peer = functools.partial(torch_vae.contestants, "conv")
    return [row._replace(package="torch", peer=peer, bars={LOOP: 1.0, CALL: 1.0})]


def keras(dataset: data.Dataset, precision: str) -> list[Row]:
    """The VAE of configs/vae.py:keras, 784-256-2, at two batch sizes."""
    rows = []
    for b, bar in ((32, 3.3), (128, 2.3)):
        layers = [(b, 784, 256), (b, 256, 4), (b, 2, 256), (b, 256, 784)]
        row = recipe_row("keras VAE", _config("keras", precision, b, 256), layers, dataset)
        rows.append(row._replace(package="keras", peer=keras_vae.contestants, bars={LOOP: bar}))
    return rows


def lstm_layers(b: int, length: int, inputs: int, features: int) -> Layers:
    """Of an LSTM over sequences of this length: its four gates together, of the element and of the state."""
    return [(b * length, inputs, 4 * features), (b * length, features, 4 * features)]


def autoencoder_layers(config: ml_collections.ConfigDict) -> Layers:
    """Of an autoencoder's networks, on images 28x28x1 and at the recipes' numbers of convolutions."""
    model, b = config.model, config.batch_size
    hidden, code, features, (one, two) = tuple(model.hidden), model.code_dim, model.features, model.channels
    stack = stack_layers(b, 784, *hidden, code, *hidden[::-1], 784)
    if model.network == "conv":
        return conv_layers(b, *hidden, code, code)
    if model.network == "unpooling":
        return [
            (b * 28 * 28, 9 * 1, one), (b * 14 * 14, 9 * one, two), *stack_layers(b, 7 * 7 * two, code, 7 * 7 * two),
            (b * 14 * 14, 9 * two, one), (b * 28 * 28, 9 * one, 1),
        ]  # fmt: skip
    if model.network == "recurrent":
        return [
            *lstm_layers(b, 28, 28, features), (b, features, code), (b, code, features), (b, code, features),
            *lstm_layers(b, 28, code, features), (b * 28, features, 28),
        ]  # fmt: skip
    return stack


def autoencoders(dataset: data.Dataset, precision: str) -> list[Row]:
    """Every variant of configs/autoencoder.py that trains on digits, batch 128; greedy, when all layers train together.

    Principal components are left out: they are fitted in one step, to all examples. FLOPs are those of the networks,
    without penalties.
    """
    rows = []
    for variant in autoencoder_recipes.VARIANTS:
        config = autoencoder_recipes.get_config(variant)
        config.precision, config.batch_size, config.model.pretrain_steps = precision, 128, 0
        if variant != "pca" and config.data.name == "mnist_5k":
            title = f"autoencoder, {variant}"
            rows.append(recipe_row(title, config, autoencoder_layers(config), dataset, autoencoder.build))
    return rows


ROWS = {
    "dense": dense,
    "conv": conv,
    "dcgan": gan_rows.dcgan,
    "gradient_penalty": gan_rows.gradient_penalty,
    "stylegan2": style_rows.stylegan2,
    "keras": keras,
    "autoencoders": autoencoders,
    "gans": gan_rows.gans,
    "styles": style_rows.styles,
    "flows": density_rows.flows,
    "autoregressive": density_rows.autoregressive,
}
BY_DEFAULT = ("dense", "conv", "dcgan", "gradient_penalty", "keras")
