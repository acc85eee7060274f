"""Autoregressive models: python -m experiments.autoregressive --config=configs/autoregressive.py[:variant]."""

import math

import ml_collections

from experiments.checks import at_least, choose, field, positive
from experiments.launch import Launch, launch
from experiments.observation import dtype_of
from experiments.run import run
from genlab import data
from genlab.algorithm import Algorithm
from genlab.data.text import NUM_TOKENS
from genlab.errors import InputError
from genlab.evaluation.kinds import kind_of
from genlab.models import autoregressive as models
from genlab.models.factorizations import convolutional, masked, sequential
from genlab.networks.masked import MADE, ORDERS
from genlab.networks.pixelcnn import GatedPixelCNN
from genlab.networks.transformer import CausalTransformer
from genlab.training.optimizer import make_optimizer


def build(config: ml_collections.ConfigDict, dataset: data.Dataset) -> Algorithm:
    """The algorithm that a config describes, for examples like the dataset's."""
    field(config, "model.num_orders")  # or the config is of another family
    check_model(config, dataset)
    return models.autoregressive(
        *parts(config, dataset),
        make_optimizer(num_steps=config.num_steps, **config.optimizer),
        num_classes=dataset.num_classes if config.model.conditional else 0,
        temperature=config.model.temperature,
        ema_decay=config.ema_decay,
    )


def parts(config: ml_collections.ConfigDict, dataset: data.Dataset) -> tuple[models.Autoregression, models.Conditional]:
    """The network, and the distribution whose parameters it gives."""
    model, shape, dtype = config.model, dataset.train["x"].shape[1:], dtype_of(config)
    text = kind_of(dataset.train["x"]) == "text"
    num_tokens = NUM_TOKENS if text else 2 if model.output == "bernoulli" else 256
    conditional = choose("model.output", model.output, {
        "bernoulli": models.bernoulli,
        "categorical": lambda: models.tokens(num_tokens) if text else models.categorical(),
        "logistic_mixture": lambda: models.logistic_mixture(model.num_components),
    })()  # fmt: skip
    outputs, length = conditional.num_outputs, math.prod(shape)
    network = choose("model.network", model.network, {
        "pixelcnn": lambda: convolutional(GatedPixelCNN(
            outputs, model.features, model.num_layers, model.first_reach, model.reach, model.head, dtype,
            model.attention_every, model.num_heads, shape[:2] if model.position_bias else None,
        )),
        "made": lambda: masked(MADE(
            length, outputs, tuple(model.hidden), model.order, model.num_orders, dtype=dtype
        )),
        "transformer": lambda: sequential(
            CausalTransformer(num_tokens, length, model.features, model.num_layers, model.num_heads, dtype, outputs,
                              num_rows=1 if text else shape[0]),
            num_levels=0 if text else num_tokens,
        ),
    })()  # fmt: skip
    return network, conditional


def check_model(config: ml_collections.ConfigDict, dataset: data.Dataset) -> None:
    """Raises InputError for a model that cannot be made."""
    least_one = ("features", "first_reach", "reach", "head", "hidden", "num_orders", "num_components", "num_heads")
    at_least(config, {f"model.{name}": 1 for name in least_one})
    at_least(config, {"model.num_layers": 0, "model.attention_every": 0})
    positive(config, "model.temperature")
    choose("model.order", config.model.order, dict.fromkeys(ORDERS))
    model, shape, kind = config.model, dataset.train["x"].shape[1:], kind_of(dataset.train["x"])
    if kind not in ("images", "text") or (kind == "images" and shape[2] != 1):
        raise InputError(f"autoregressive models are of images of one channel or of text; {dataset.name} has {shape}")
    if kind == "text" and (model.network != "transformer" or model.output != "categorical"):
        raise InputError(
            f"{dataset.name} holds text, for which model.network must be transformer and model.output categorical; "
            f"got {model.network!r} and {model.output!r}"
        )
    if (model.output == "bernoulli") != (config.data.binarization != "none"):
        raise InputError(
            f"model.output {model.output!r} does not fit data.binarization {config.data.binarization!r}: bernoulli is "
            "for binary pixels, categorical and logistic_mixture for 256 levels"
        )
    if model.conditional and "label" not in dataset.train:
        raise InputError(f"{dataset.name} has no labels for model.conditional")
    if model.network != "made" and model.num_orders > 1:
        raise InputError(f"model.num_orders is {model.num_orders}; of several orders there is a made only")
    if model.network != "made" and model.order != "natural":
        raise InputError(f"model.order is {model.order!r}; a {model.network} takes pixels as they stand, natural")
    if model.attention_every > model.num_layers:
        raise InputError(f"model.attention_every is {model.attention_every}; there are {model.num_layers} layers")
    if (model.network == "transformer" or model.attention_every) and model.features % model.num_heads:
        raise InputError(f"model.features is {model.features}; model.num_heads, {model.num_heads}, must divide it")


def main(arguments: Launch) -> None:
    """Trains, evaluates and reports."""
    run(arguments, build)


if __name__ == "__main__":
    launch("experiments.autoregressive", main)
