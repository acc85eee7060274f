"""Normalizing flows: python -m experiments.flow --config=configs/flow.py[:variant]."""

import ml_collections
from flax import linen as nn

from experiments.checks import at_least, choose, field, positive
from experiments.launch import Launch, launch
from experiments.observation import ACTIVATIONS, dtype_of
from experiments.run import run
from genlab import data
from genlab.algorithm import Algorithm
from genlab.bijections.spline import MIN_BIN
from genlab.errors import InputError
from genlab.evaluation.kinds import kind_of
from genlab.models.flow import LOGISTIC, NORMAL, flow
from genlab.networks.autoregressive_flow import MaskedAutoregressive
from genlab.networks.coupling import TRANSFORMS, ConvConditioner, Coupling, DenseConditioner, num_parameters
from genlab.networks.flow import ActNorm, Chain, InvertibleLinear, MultiScale, Permutation
from genlab.networks.masked import MADE
from genlab.training.optimizer import make_optimizer

ACTNORMS = ("every", "last", "none")


def build(config: ml_collections.ConfigDict, dataset: data.Dataset) -> Algorithm:
    """The algorithm that a config describes, for examples like the dataset's."""
    field(config, "model.transform")  # or the config is of another family
    check_model(config, dataset)
    model, shape = config.model, dataset.train["x"].shape[1:]
    known = {"coupling": vectors, "autoregressive": vectors, "multi_scale": multi_scale}
    return flow(
        choose("model.network", model.network, known)(config, dataset),
        make_optimizer(num_steps=config.num_steps, **config.optimizer),
        shape=shape,
        base=choose("model.base", model.base, {"normal": NORMAL, "logistic": LOGISTIC}),
        images=len(shape) == 3,
        alpha=model.alpha,
        flatten=model.network != "multi_scale",
        num_classes=dataset.num_classes if model.conditional else 0,
        temperature=model.temperature,
        ema_decay=config.ema_decay,
    )


def check_model(config: ml_collections.ConfigDict, dataset: data.Dataset) -> None:
    """Raises InputError for a flow that cannot be made."""
    at_least(config, dict.fromkeys(("model.num_layers", "model.levels", "model.channels", "model.hidden"), 1))
    none_or_more = ("model.checkerboard", "model.num_blocks", "model.alpha", "model.log_scale_bound")
    at_least(config, dict.fromkeys(none_or_more, 0))
    at_least(config, {"model.num_bins": 2, "model.temperature": 0})
    positive(config, "model.spline_bound")
    choose("model.actnorm", config.model.actnorm, dict.fromkeys(ACTNORMS))
    choose("model.transform", config.model.transform, dict.fromkeys(TRANSFORMS))
    model, shape = config.model, dataset.train["x"].shape[1:]
    if kind_of(dataset.train["x"]) not in ("images", "points"):
        raise InputError(f"a flow is a density of images or points; {dataset.name} holds neither")
    if model.num_bins * MIN_BIN >= 1.0:
        raise InputError(f"model.num_bins is {model.num_bins}; it must be less than {1 / MIN_BIN:g}")
    if model.actnorm != "none" and config.batch_size < 2:
        raise InputError("model.actnorm takes a variance over the first batch: batch_size must be at least 2")
    if not model.alpha < 0.5:
        raise InputError(f"model.alpha is {model.alpha}; it must be less than 0.5")
    if model.alpha and len(shape) != 3:
        raise InputError(f"model.alpha is of the logit of images, and {dataset.name} holds none; set it to 0")
    if model.conditional and "label" not in dataset.train:
        raise InputError(f"{dataset.name} has no labels for model.conditional")
    if config.data.binarization != "none":
        raise InputError("a flow is a density of dequantised levels: set data.binarization to none")
    if model.network == "multi_scale":
        if len(shape) != 3:
            raise InputError(f"model.network 'multi_scale' is for images; {dataset.name} holds none: take coupling")
        if any(side % 2**model.levels for side in shape[:2]):
            raise InputError(
                f"model.levels is {model.levels}: height and width are halved as often, and {shape[:2]} cannot be"
            )


def mixing(config: ml_collections.ConfigDict, number: int) -> list[nn.Module]:
    """What comes between two layers, so that every number is changed by some and shown to others."""
    known = {
        "none": lambda: [],
        "reverse": lambda: [Permutation("reverse")],
        "random": lambda: [Permutation("random", number)],
        "linear": lambda: [InvertibleLinear(number)],
    }
    return choose("model.mixing", config.model.mixing, known)()


def parity(config: ml_collections.ConfigDict, number: int, size: int) -> int:
    """Which half a coupling keeps, in turns; where a reversal of an even number has swapped the halves, the same."""
    return 0 if config.model.mixing == "reverse" and size % 2 == 0 else number % 2


def vectors(config: ml_collections.ConfigDict, dataset: data.Dataset) -> Chain:
    """Coupling or autoregressive layers of [B, D]."""
    model, dtype = config.model, dtype_of(config)
    dim = int(dataset.train["x"][:1].size)
    activation = choose("model.activation", model.activation, ACTIVATIONS)
    outputs, hidden = num_parameters(model.transform, model.num_bins), tuple(model.hidden)
    bound = model.log_scale_bound if model.transform == "affine" else 0.0
    layers: list[nn.Module] = []
    for number in range(model.num_layers):
        layers += [ActNorm()] if model.actnorm == "every" else []
        layers += mixing(config, number) if number else []
        if model.network == "autoregressive":
            made = MADE(dim, outputs, hidden, seed=number, activation=activation,
                        kernel_init=nn.initializers.zeros, dtype=dtype)  # fmt: skip
            layers.append(MaskedAutoregressive(made, model.transform, bound, model.spline_bound))
        else:
            conditioner = DenseConditioner(hidden, outputs, bound, activation, dtype)
            layers.append(
                Coupling(conditioner, "alternating", parity(config, number, dim), model.transform, model.num_bins,
                         model.spline_bound)
            )  # fmt: skip
    return Chain([*layers, *([ActNorm()] if model.actnorm != "none" else [])])


def multi_scale(config: ml_collections.ConfigDict, dataset: data.Dataset) -> MultiScale:
    """Levels of coupling layers of images."""
    model, dtype, shape = config.model, dtype_of(config), dataset.train["x"].shape[1:]
    activation = choose("model.activation", model.activation, ACTIVATIONS)
    bound = model.log_scale_bound if model.transform == "affine" else 0.0
    network = lambda outputs, bound: ConvConditioner(
        model.channels, model.num_blocks, outputs, bound, activation, dtype
    )
    outputs = num_parameters(model.transform, model.num_bins)

    def layer(part: str, kept: int) -> list[nn.Module]:
        coupling = Coupling(network(outputs, bound), part, kept, model.transform, model.num_bins, model.spline_bound)
        return [ActNorm(), coupling] if model.actnorm == "every" else [coupling]

    def level(first: int) -> Chain:
        layers: list[nn.Module] = []
        for number in range(first, first + model.num_layers):
            *norm, coupling = layer("channels", parity(config, number, 4))
            layers += [*norm, *mixing(config, number), coupling]
        return Chain(layers)

    def board() -> Chain:
        return Chain([module for number in range(model.checkerboard) for module in layer("checkerboard", number % 2)])

    levels = [level(model.num_layers * number) for number in range(model.levels)]
    priors = [network(2, 2.0) for _ in levels[1:]] if model.priors else None
    return MultiScale(levels, shape, priors, [board() for _ in levels] if model.checkerboard else None)


def main(arguments: Launch) -> None:
    """Trains, evaluates and reports."""
    run(arguments, build)


if __name__ == "__main__":
    launch("experiments.flow", main)
