"""Autoregressive models: python -m experiments.autoregressive --config=configs/autoregressive.py[:variant]."""

import ml_collections

from experiments.checks import at_least, choose, field, positive
from experiments.launch import Launch, launch
from experiments.observation import dtype_of
from experiments.run import run
from genlab import data
from genlab.algorithm import Algorithm
from genlab.errors import InputError
from genlab.models import autoregressive as models
from genlab.models.factorizations import convolutional, masked
from genlab.networks.masked import MADE, ORDERS
from genlab.networks.pixelcnn import GatedPixelCNN
from genlab.training.optimizer import make_optimizer


def build(config: ml_collections.ConfigDict, dataset: data.Dataset) -> Algorithm:
    """The algorithm that a config describes, for examples like the dataset's."""
    field(config, "model.num_orders")  # or the config is of another family
    check_model(config, dataset)
    model, shape, dtype = config.model, dataset.train["x"].shape[1:], dtype_of(config)
    conditional = choose("model.output", model.output, {
        "bernoulli": models.bernoulli,
        "categorical": models.categorical,
        "logistic_mixture": lambda: models.logistic_mixture(model.num_components),
    })()  # fmt: skip
    outputs = conditional.num_outputs
    network = choose("model.network", model.network, {
        "pixelcnn": lambda: convolutional(GatedPixelCNN(
            outputs, model.features, model.num_layers, model.first_reach, model.reach, model.head, dtype
        )),
        "made": lambda: masked(MADE(
            shape[0] * shape[1] * shape[2], outputs, tuple(model.hidden), model.order, model.num_orders, dtype=dtype
        )),
    })()  # fmt: skip
    return models.autoregressive(
        network,
        conditional,
        make_optimizer(num_steps=config.num_steps, **config.optimizer),
        num_classes=dataset.num_classes if model.conditional else 0,
        temperature=model.temperature,
        ema_decay=config.ema_decay,
    )


def check_model(config: ml_collections.ConfigDict, dataset: data.Dataset) -> None:
    """Raises InputError for a model that cannot be made."""
    at_least(config, dict.fromkeys(("model.features", "model.first_reach", "model.reach", "model.head"), 1))
    at_least(config, {"model.num_layers": 0, "model.hidden": 1, "model.num_orders": 1, "model.num_components": 1})
    positive(config, "model.temperature")
    choose("model.order", config.model.order, dict.fromkeys(ORDERS))
    model, shape = config.model, dataset.train["x"].shape[1:]
    if len(shape) != 3 or (model.network == "pixelcnn" and shape[2] != 1):
        raise InputError(f"model.network {model.network!r} is for images of one channel; {dataset.name} has {shape}")
    if (model.output == "bernoulli") != (config.data.binarization != "none"):
        raise InputError(
            f"model.output {model.output!r} does not fit data.binarization {config.data.binarization!r}: bernoulli is "
            "for binary pixels, categorical and logistic_mixture for 256 levels"
        )
    if model.conditional and "label" not in dataset.train:
        raise InputError(f"{dataset.name} has no labels for model.conditional")
    if model.network != "made" and model.num_orders > 1:
        raise InputError(f"model.num_orders is {model.num_orders}; of several orders there is a made only")


def main(arguments: Launch) -> None:
    """Trains, evaluates and reports."""
    run(arguments, build)


if __name__ == "__main__":
    launch("experiments.autoregressive", main)
