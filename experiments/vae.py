"""Variational autoencoders: python -m experiments.vae --config=configs/vae.py[:variant]."""

import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import linen as nn

from experiments.checks import choose, field
from experiments.launch import Launch, launch
from experiments.observation import ACTIVATIONS, dtype_of, make_likelihood
from experiments.run import run
from experiments.vae_checks import check_model
from genlab import data
from genlab.algorithm import Algorithm
from genlab.models import hierarchical, objectives, priors
from genlab.models.latent import LatentModel, Objective, kl_warmup, variational
from genlab.models.likelihoods import Likelihood
from genlab.models.vae import one_layer
from genlab.networks import convolutional, dense
from genlab.networks.conditional import ByClass, WithLabels
from genlab.networks.planar import PlanarHead
from genlab.training.optimizer import make_optimizer


def build(config: ml_collections.ConfigDict, dataset: data.Dataset) -> Algorithm:
    """The algorithm that a config describes, for examples like the dataset's."""
    for name in ("model.latent_dim", "model.upper_dims"):
        field(config, name)  # or the config is of another family
    model = config.model
    likelihood = make_likelihood(config, dataset)
    make = choose("model.inference", model.inference, {"bottom_up": bottom_up, "top_down": top_down})
    check_model(config, dataset)
    return variational(
        make(config, dataset, likelihood) if model.upper_dims else single(config, dataset, likelihood),
        make_objective(config, dataset),
        make_optimizer(num_steps=config.num_steps, **config.optimizer),
        beta=kl_warmup(model.beta, model.kl_warmup_steps),
        ema_decay=config.ema_decay,
        num_importance_samples=config.evaluation.num_importance_samples,
        importance_chunk=config.evaluation.importance_chunk,
        generate_means=dataset.train["x"].ndim == 4,
    )


def make_objective(config: ml_collections.ConfigDict, dataset: data.Dataset) -> Objective:
    """The bound that is maximised."""
    model, num_train = config.model, len(dataset.train["x"])
    bits = None if isinstance(model.free_bits, float) and model.free_bits == 0.0 else model.free_bits
    known = {
        "elbo": lambda: objectives.evidence(model.num_samples, sampled_kl=model.sampled_kl, bits=bits),
        "iwae": lambda: objectives.importance_weighted(model.num_samples),
        "dreg": lambda: objectives.importance_weighted(model.num_samples, doubly_reparameterized=True),
        "total_correlation": lambda: objectives.total_correlation(num_train, model.tc_weight),
    }
    return choose("model.objective", model.objective, known)()


def make_prior(config: ml_collections.ConfigDict, dataset: data.Dataset, latent_dim: int) -> priors.Prior:
    """p(z), of the highest layer where there are several."""
    model = config.model

    def vamp() -> priors.Prior:
        rows = np.arange(model.num_components) % len(dataset.train["x"])
        return priors.vamp(model.num_components, data.prepare({"x": jnp.asarray(dataset.train["x"][rows])})["x"])

    num_classes = dataset.num_classes if model.class_prior else 0
    known = {
        "standard": priors.standard_normal,
        "mixture": lambda: priors.mixture(model.num_components, latent_dim, num_classes),
        "vamp": vamp,
    }
    return choose("model.prior", model.prior, known)()


def networks(
    config: ml_collections.ConfigDict, dataset: data.Dataset, likelihood: Likelihood
) -> tuple[nn.Module, nn.Module]:
    """(trunk, decoder): x -> features, and codes -> outputs of the likelihood."""
    model, shape = config.model, dataset.train["x"].shape[1:]  # (H, W, C) or (D,)
    activation, dtype = choose("model.activation", model.activation, ACTIVATIONS), dtype_of(config)
    shared = model.likelihood == "shared_gaussian"
    outputs = (*shape[:-1], shape[-1] * (1 if shared else likelihood.num_outputs))
    bias = (
        output_bias(dataset, outputs[-1] // shape[-1]) if model.data_bias and len(shape) == 3 else nn.initializers.zeros
    )
    hidden, mirrored = tuple(model.hidden), tuple(reversed(model.hidden))

    def dense_pair() -> tuple[nn.Module, nn.Module]:
        decoder = dense.DenseDecoder(mirrored, outputs, activation, bias, dtype)
        return dense.MLP(hidden, activation, dtype), dense.SharedVariance(decoder) if shared else decoder

    def conv_pair() -> tuple[nn.Module, nn.Module]:
        trunk = convolutional.ConvEncoder(tuple(model.channels), hidden, activation, model.batch_norm, dtype)
        channels = tuple(reversed(model.channels))
        return trunk, convolutional.ConvDecoder(channels, mirrored, outputs, activation, model.batch_norm, dtype)

    return choose("model.network", model.network, {"dense": dense_pair, "conv": conv_pair})()


def single(config: ml_collections.ConfigDict, dataset: data.Dataset, likelihood: Likelihood) -> LatentModel:
    """One stochastic layer."""
    model, dtype = config.model, dtype_of(config)
    trunk, decoder = networks(config, dataset, likelihood)
    if model.num_flows:
        encoder = PlanarHead(trunk, model.latent_dim, model.num_flows, dtype)
    else:
        encoder = dense.GaussianHead(trunk, model.latent_dim, dtype)
    if model.conditional:
        encoder = WithLabels(encoder, dataset.num_classes, flatten=model.network == "dense")
        decoder = ByClass(decoder, dataset.num_classes)
    prior = make_prior(config, dataset, model.latent_dim)
    return one_layer(
        encoder, decoder, likelihood, model.latent_dim, prior, flows=model.num_flows > 0, labels=model.conditional
    )


def bottom_up(config: ml_collections.ConfigDict, dataset: data.Dataset, likelihood: Likelihood) -> LatentModel:
    """Several layers, each inferred from a sample of the one below."""
    model, dtype = config.model, dtype_of(config)
    trunk, decoder = networks(config, dataset, likelihood)
    latent_dims = (model.latent_dim, *model.upper_dims)
    encoders = [dense.GaussianHead(trunk, latent_dims[0], dtype)]
    encoders += [dense.GaussianHead(upper_stack(config), dim, dtype) for dim in latent_dims[1:]]
    decoders = [dense.GaussianHead(upper_stack(config, down=True), dim, dtype) for dim in latent_dims[:-1]]
    prior = make_prior(config, dataset, latent_dims[-1])
    return hierarchical.bottom_up(encoders, decoders, decoder, likelihood, latent_dims, prior)


def top_down(config: ml_collections.ConfigDict, dataset: data.Dataset, likelihood: Likelihood) -> LatentModel:
    """Several layers, inferred as they are generated."""
    model, dtype = config.model, dtype_of(config)
    trunk, decoder = networks(config, dataset, likelihood)
    latent_dims = (model.latent_dim, *model.upper_dims)
    trunks = [trunk, *(upper_stack(config) for _ in model.upper_dims)]
    heads = [dense.GaussianHead(dense.MLP(()), dim, dtype) for dim in latent_dims]
    decoders = [dense.GaussianHead(upper_stack(config, down=True), dim, dtype) for dim in latent_dims[:-1]]
    prior = make_prior(config, dataset, latent_dims[-1])
    return hierarchical.top_down(trunks, heads, decoders, decoder, likelihood, latent_dims, prior)


def upper_stack(config: ml_collections.ConfigDict, down: bool = False) -> nn.Module:
    """The dense layers between two stochastic ones."""
    widths = tuple(config.model.upper_hidden)
    activation = ACTIVATIONS[config.model.activation]
    return dense.MLP(widths[::-1] if down else widths, activation, dtype_of(config))


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
