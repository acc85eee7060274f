"""Autoencoders: python -m experiments.autoencoder --config=configs/autoencoder.py[:variant]."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections

from experiments.checks import at_least, choose, field, known
from experiments.launch import Launch, launch
from experiments.representation import CORRUPTIONS
from experiments.run import run
from genlab import data
from genlab.algorithm import Algorithm
from genlab.errors import InputError
from genlab.models import autoencoder as models
from genlab.models.greedy import greedy_autoencoder
from genlab.models.pca import pca
from genlab.networks import autoencoder as networks
from genlab.networks import convolutional, dense, recurrent, unpooling
from genlab.training.optimizer import make_optimizer

ACTIVATIONS = {"relu": nn.relu, "tanh": nn.tanh, "gelu": nn.gelu, "elu": nn.elu, "sigmoid": nn.sigmoid}
CODES = {"linear": lambda x: x, "relu": nn.relu, "sigmoid": jax.nn.sigmoid, "binary": networks.binary_code}
OUTPUTS = {"linear": models.LINEAR, "sigmoid": models.SIGMOID, "cross_entropy": models.CROSS_ENTROPY}


def build(config: ml_collections.ConfigDict, dataset: data.Dataset) -> Algorithm:
    """The algorithm that a config describes, for examples like the dataset's."""
    model, shape = field(config, "model"), dataset.train["x"].shape[1:]  # (H, W, C), (T, C) or (D,)
    check_model(config, dataset.name, shape)
    if model.network == "pca":
        return pca(model.code_dim)
    activation = choose("model.activation", model.activation, ACTIVATIONS)
    output = choose("model.output", model.output, OUTPUTS)
    if model.network == "greedy":
        return greedy(config, shape, activation, output)
    corrupt = choose("model.corruption", model.corruption, CORRUPTIONS)
    return models.autoencoder(
        network(config, shape),
        make_optimizer(num_steps=config.num_steps, **config.optimizer),
        output,
        corrupt=corrupt and functools.partial(corrupt, level=model.corruption_level),
        penalties={name: choose("model.penalties", name, penalties(model)) for name in model.penalties},
        ema_decay=config.ema_decay,
    )


def check_model(config: ml_collections.ConfigDict, name: str, shape: tuple[int, ...]) -> None:
    """Raises InputError for what the networks and penalties cannot be, or not on examples of this shape."""
    model = config.model
    counts = ("model.code_dim", "model.hidden", "model.channels", "model.features")
    weights = ("model.l1_weight", "model.sparsity_weight", "model.contractive_weight", "model.l2_weight")
    at_least(config, dict.fromkeys(counts, 1) | dict.fromkeys(("model.pretrain_steps", "model.corruption_level"), 0))
    at_least(config, dict.fromkeys(weights, 0))
    if any(not 0 < target < 1 for target in known(model.sparsity_target)):
        raise InputError(f"model.sparsity_target is {model.sparsity_target}; it must lie between 0 and 1")
    if model.corruption == "masking" and any(level > 1 for level in known(model.corruption_level)):
        raise InputError(f"model.corruption_level is {model.corruption_level}; of masking it must be at most 1")
    if len(shape) != 3 and model.network in ("conv", "unpooling"):
        raise InputError(f"model.network {model.network!r} is for images; {name} holds examples of shape {shape}")
    if len(shape) < 2 and model.network == "recurrent":
        raise InputError(f"model.network 'recurrent' is for images and time series; {name} holds points")
    if len(shape) != 3 and model.output != "linear" and model.network != "pca":
        raise InputError(
            f"model.output {model.output!r} is for images, in [0, 1]; for {name} add --config.model.output=linear"
        )
    if model.network == "conv" and not model.channels:
        raise InputError("model.channels is empty; model.network 'conv' needs at least one convolution")
    if model.network in ("greedy", "pca") and (model.penalties or model.corruption != "none" or model.code != "linear"):
        raise InputError(f"model.network {model.network!r} takes no penalties, corruption or other code than linear")
    if model.network == "unpooling" and (wrong := sorted(set(model.penalties) - {"l2"})):
        raise InputError(
            f"model.network 'unpooling' takes no penalty {wrong[0]!r}: its code holds places beside values"
        )
    if "sparsity" in model.penalties and model.code not in ("sigmoid", "binary"):
        raise InputError(f"penalty 'sparsity' needs a code in [0, 1], sigmoid or binary; model.code is {model.code!r}")


def greedy(
    config: ml_collections.ConfigDict, shape: tuple[int, ...], activation: Any, output: models.Output
) -> Algorithm:
    """A dense autoencoder by layers; each phase goes through the schedule of the optimizer."""
    model = config.model
    widths, alone = (*model.hidden, model.code_dim), model.pretrain_steps
    together = config.num_steps - alone * len(widths)
    if together < 1:
        raise InputError(
            f"model.pretrain_steps is {alone} for each of {len(widths)} layers, which leaves none of "
            f"num_steps={config.num_steps} for all of them together"
        )
    return greedy_autoencoder(
        widths,
        shape,
        activation,
        make_optimizer(num_steps=together, **config.optimizer),
        output,
        pretrain_steps=alone,
        pretrain_tx=make_optimizer(num_steps=max(alone, 1), **config.optimizer),
    )


def network(config: ml_collections.ConfigDict, shape: tuple[int, ...]) -> nn.Module:
    """The encoder and the decoder of a config."""
    model = config.model
    hidden, mirrored = tuple(model.hidden), tuple(reversed(model.hidden))
    channels = tuple(model.channels)
    activation, code = ACTIVATIONS[model.activation], choose("model.code", model.code, CODES)
    dtype = {"float32": None, "bfloat16": jnp.bfloat16}[config.precision]

    def dense_pair() -> nn.Module:
        decoder = dense.DenseDecoder(mirrored, shape, activation, dtype=dtype)
        return networks.EncoderDecoder(dense.MLP(hidden, activation, dtype), decoder, model.code_dim, code, dtype)

    def conv_pair() -> nn.Module:
        encoder = convolutional.ConvEncoder(channels, hidden, activation, model.batch_norm, dtype)
        decoder = convolutional.ConvDecoder(channels[::-1], mirrored, shape, activation, model.batch_norm, dtype)
        return networks.EncoderDecoder(encoder, decoder, model.code_dim, code, dtype)

    networks_by_name = {
        "dense": dense_pair,
        "tied": lambda: networks.TiedAutoencoder((*hidden, model.code_dim), shape, activation, code, dtype=dtype),
        "conv": conv_pair,
        "unpooling": lambda: unpooling.UnpoolingAutoencoder(
            channels, hidden, model.code_dim, shape, activation, dtype, code
        ),
        "recurrent": lambda: recurrent.recurrent_autoencoder(
            model.features, model.code_dim, shape, hidden, activation, code, dtype
        ),
    }
    return choose("model.network", model.network, networks_by_name | dict.fromkeys(("greedy", "pca")))()


def penalties(model: ml_collections.ConfigDict) -> dict[str, tuple[float, models.Penalty]]:
    """Every penalty with its weight."""
    one_layer = model.network == "dense" and not model.hidden and model.code == "sigmoid"
    return {
        "l1": (model.l1_weight, models.l1()),
        "sparsity": (model.sparsity_weight, models.sparsity(model.sparsity_target)),
        "contractive": (model.contractive_weight, models.contractive_layer() if one_layer else models.contractive()),
        "l2": (model.l2_weight, models.l2()),
    }


def check_effects(config: ml_collections.ConfigDict) -> None:
    """Raises InputError for what a solo run would only seem to do; a population may have a member without it."""
    model = field(config, "model")
    if model.corruption != "none" and not model.corruption_level:
        raise InputError("model.corruption_level is 0, so nothing would be corrupted")
    for name, (weight, _) in penalties(model).items():
        if (name in model.penalties) != bool(weight):
            raise InputError(f"model.{name}_weight is {weight}, and model.penalties is {model.penalties}: set both")


def main(arguments: Launch) -> None:
    """Trains, evaluates and reports."""
    if arguments.config.population is None:
        check_effects(arguments.config)
    run(arguments, build)


if __name__ == "__main__":
    launch("experiments.autoencoder", main)
