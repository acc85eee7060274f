"""Variational autoencoders: python -m experiments.vae --config=configs/vae.py[:variant]."""

import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import linen as nn

from experiments.checks import at_least, choose, field, positive
from experiments.launch import Launch, launch
from experiments.run import run
from genlab import data
from genlab.algorithm import Algorithm
from genlab.errors import InputError
from genlab.models import likelihoods
from genlab.models.vae import kl_warmup, vae
from genlab.networks import convolutional, dense
from genlab.training.optimizer import make_optimizer

ACTIVATIONS = {"relu": nn.relu, "tanh": nn.tanh, "gelu": nn.gelu, "elu": nn.elu}


def build(config: ml_collections.ConfigDict, dataset: data.Dataset) -> Algorithm:
    """The algorithm that a config describes, for examples like the dataset's."""
    counts = ("model.latent_dim", "model.hidden", "model.channels")
    at_least(config, dict.fromkeys((*counts, "evaluation.num_importance_samples", "evaluation.importance_chunk"), 1))
    positive(config, "model.variance")
    model, shape = field(config, "model"), dataset.train["x"].shape[1:]  # (H, W, C) or (D,)
    images = len(shape) == 3
    known = {
        "bernoulli": lambda: likelihoods.bernoulli(),
        "gaussian": lambda: likelihoods.gaussian(jnp.log(jnp.asarray(model.variance, jnp.float32)), squash=images),
        "learned_gaussian": lambda: likelihoods.learned_gaussian(squash=images),
        "discretized_logistic": lambda: likelihoods.discretized_logistic(),
        "squared_error": lambda: likelihoods.squared_error(model.squared_error_weight),
    }
    likelihood = choose("model.likelihood", model.likelihood, known)()
    binary = config.data.binarization != "none"
    if model.likelihood == "bernoulli" and not binary:
        likelihood = likelihood._replace(normalized=False)  # the cross-entropy of greys is no log-probability
    if images and binary and model.likelihood in ("gaussian", "learned_gaussian", "discretized_logistic"):
        raise InputError(
            f"model.likelihood {model.likelihood!r} is for grey images; add --config.data.binarization=none"
        )
    if not images and model.likelihood not in ("gaussian", "learned_gaussian"):
        raise InputError(
            f"model.likelihood {model.likelihood!r} is for images; {dataset.name} holds points: add "
            "--config.model.likelihood=learned_gaussian --config.data.binarization=none"
        )
    if not images and model.network == "conv":
        raise InputError(f"model.network 'conv' is for images; {dataset.name} holds points")
    if model.network == "conv" and not model.channels:
        raise InputError("model.channels is empty; model.network 'conv' needs at least one convolution")
    if model.network == "conv" and model.data_bias:
        raise InputError("model.data_bias is for model.network 'dense': a convolution has one bias for all pixels")
    activation = choose("model.activation", model.activation, ACTIVATIONS)
    dtype = {"float32": None, "bfloat16": jnp.bfloat16}[config.precision]
    outputs = (*shape[:-1], shape[-1] * likelihood.num_outputs)
    bias = output_bias(dataset, likelihood.num_outputs) if model.data_bias and images else nn.initializers.zeros
    hidden, mirrored = tuple(model.hidden), tuple(reversed(model.hidden))

    def dense_pair() -> tuple[nn.Module, nn.Module]:
        trunk = dense.MLP(hidden, activation, dtype)
        return trunk, dense.DenseDecoder(mirrored, outputs, activation, bias, dtype)

    def conv_pair() -> tuple[nn.Module, nn.Module]:
        trunk = convolutional.ConvEncoder(tuple(model.channels), hidden, activation, model.batch_norm, dtype)
        channels = tuple(reversed(model.channels))
        return trunk, convolutional.ConvDecoder(channels, mirrored, outputs, activation, model.batch_norm, dtype)

    trunk, decoder = choose("model.network", model.network, {"dense": dense_pair, "conv": conv_pair})()
    return vae(
        dense.GaussianHead(trunk, model.latent_dim, dtype),
        decoder,
        likelihood,
        make_optimizer(num_steps=config.num_steps, **config.optimizer),
        latent_dim=model.latent_dim,
        beta=kl_warmup(model.beta, model.kl_warmup_steps),
        ema_decay=config.ema_decay,
        num_importance_samples=config.evaluation.num_importance_samples,
        importance_chunk=config.evaluation.importance_chunk,
        generate_means=images,
    )


def output_bias(dataset: data.Dataset, num_outputs: int) -> nn.initializers.Initializer:
    """An initial output bias at which the decoder's mean is the training set's, as in the code of Burda et al. 2016."""
    mean = np.clip(np.mean(dataset.train["x"], axis=0, dtype=np.float64) / 255, 1e-3, 1 - 1e-3)
    logit = np.concatenate([np.log(mean / (1 - mean)), *[np.zeros_like(mean)] * (num_outputs - 1)], axis=-1)
    return lambda key, shape, dtype=jnp.float32: jnp.asarray(logit.reshape(shape), dtype)


def main(arguments: Launch) -> None:
    """Trains, evaluates and reports."""
    run(arguments, build)


if __name__ == "__main__":
    launch("experiments.vae", main)
