"""What decoders of every family are built with: the observation model, activations, and the type of the arithmetic."""

import jax.numpy as jnp
import ml_collections
from flax import linen as nn

from experiments.checks import choose, field, positive
from genlab import data
from genlab.errors import InputError
from genlab.models import likelihoods
from genlab.models.likelihoods import Likelihood

ACTIVATIONS = {"relu": nn.relu, "tanh": nn.tanh, "gelu": nn.gelu, "elu": nn.elu, "glu": nn.glu}
OF_GREYS = ("gaussian", "learned_gaussian", "shared_gaussian", "discretized_logistic")


def make_likelihood(config: ml_collections.ConfigDict, dataset: data.Dataset) -> Likelihood:
    """p(x | outputs).

    Raises:
        InputError: an unknown one, one of greys for binary images, or one of images for points.
    """
    for name in ("model.likelihood", "model.squash", "model.squared_error_weight"):
        field(config, name)  # or the config is of another family
    model, images = config.model, dataset.train["x"].ndim == 4
    squash, binary = model.squash and images, config.data.binarization != "none"
    known = {
        "bernoulli": lambda: likelihoods.bernoulli(),
        "gaussian": lambda: likelihoods.gaussian(jnp.log(jnp.asarray(model.variance, jnp.float32)), squash),
        "learned_gaussian": lambda: likelihoods.learned_gaussian(squash),
        "shared_gaussian": lambda: likelihoods.learned_gaussian(squash),
        "discretized_logistic": lambda: likelihoods.discretized_logistic(),
        "squared_error": lambda: likelihoods.squared_error(model.squared_error_weight),
    }
    positive(config, "model.variance")
    likelihood = choose("model.likelihood", model.likelihood, known)()
    if images and binary and model.likelihood in OF_GREYS:
        raise InputError(
            f"model.likelihood {model.likelihood!r} is for grey images; add --config.data.binarization=none"
        )
    if not images and model.likelihood not in ("gaussian", "learned_gaussian", "shared_gaussian"):
        raise InputError(
            f"model.likelihood {model.likelihood!r} is for images; {dataset.name} holds points: add "
            "--config.model.likelihood=learned_gaussian --config.data.binarization=none"
        )
    if model.likelihood == "bernoulli" and not binary:
        return likelihood._replace(normalized=False)  # the cross-entropy of greys is no log-probability
    return likelihood


def dtype_of(config: ml_collections.ConfigDict) -> jnp.dtype | None:
    """Of the networks' arithmetic; None leaves it at that of their inputs."""
    return {"float32": None, "bfloat16": jnp.bfloat16}[config.precision]
