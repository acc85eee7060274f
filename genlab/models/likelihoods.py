"""The observation models of decoders: what the numbers that a decoder puts out say about an example.

A decoder gives `outputs` f32[B, ..., C * num_outputs]; a likelihood reads them as the parameters of a
distribution over examples f32[B, ..., C].
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from genlab.losses import likelihood as losses
from genlab.losses import reconstruction

Array = jax.Array


class Likelihood(NamedTuple):
    """p(x | outputs).

    Attributes:
        num_outputs: decoder outputs per dimension of x.
        log_prob: (outputs, x) -> f32[B], nats per example.
        mean: outputs -> E[x], shaped as x.
        sample: (key, outputs) -> x.
        normalized: whether log_prob is the logarithm of a density; if not, the model has none.
    """

    num_outputs: int
    log_prob: Callable[[Array, Array], Array]
    mean: Callable[[Array], Array]
    sample: Callable[[Array, Array], Array]
    normalized: bool = True


def bernoulli() -> Likelihood:
    """Independent binary pixels; outputs are logits."""

    def sample(key: Array, outputs: Array) -> Array:
        return jax.random.bernoulli(key, jax.nn.sigmoid(outputs)).astype(outputs.dtype)

    return Likelihood(1, losses.bernoulli_log_prob, jax.nn.sigmoid, sample)


def gaussian(log_var: float | Array, squash: bool) -> Likelihood:
    """Independent Gaussians of one fixed variance; outputs are means, through a sigmoid if `squash`."""
    mean = jax.nn.sigmoid if squash else lambda outputs: outputs

    def sample(key: Array, outputs: Array) -> Array:
        return mean(outputs) + jnp.exp(0.5 * log_var) * jax.random.normal(key, outputs.shape)

    return Likelihood(1, lambda outputs, x: losses.gaussian_log_prob(x, mean(outputs), log_var), mean, sample)


def learned_gaussian(squash: bool, min_log_var: float = -7.0) -> Likelihood:
    """Independent Gaussians whose variance is an output too: [..., :C] give the means, [..., C:] log sigma^2.

    On pixels that are constant over the data the maximum of the likelihood is infinite; log sigma^2 is
    therefore kept above `min_log_var` by a softplus.
    """
    squashed = jax.nn.sigmoid if squash else lambda outputs: outputs

    def parameters(outputs: Array) -> tuple[Array, Array]:
        mean, raw = jnp.split(outputs, 2, axis=-1)
        return squashed(mean), min_log_var + jax.nn.softplus(raw - min_log_var)

    def log_prob(outputs: Array, x: Array) -> Array:
        return losses.gaussian_log_prob(x, *parameters(outputs))

    def sample(key: Array, outputs: Array) -> Array:
        mean, log_var = parameters(outputs)
        return mean + jnp.exp(0.5 * log_var) * jax.random.normal(key, mean.shape)

    return Likelihood(2, log_prob, lambda outputs: parameters(outputs)[0], sample)


def discretized_logistic(num_levels: int = 256, min_log_scale: float = -7.0) -> Likelihood:
    """Independent logistics, integrated over the bins of 8-bit pixels: [..., :C] give means, [..., C:] log scales.

    `mean` is the location, which is E[x] but for what the outermost bins clip.

    Reference: Salimans et al. 2017 (PixelCNN++), section 2.1, with one component.
    """

    def parameters(outputs: Array) -> tuple[Array, Array]:
        mean, raw = jnp.split(outputs, 2, axis=-1)
        return jax.nn.sigmoid(mean), min_log_scale + jax.nn.softplus(raw - min_log_scale)

    def log_prob(outputs: Array, x: Array) -> Array:
        return losses.discretized_logistic_log_prob(x, *parameters(outputs), num_levels=num_levels)

    def sample(key: Array, outputs: Array) -> Array:
        mean, log_scale = parameters(outputs)
        continuous = mean + jnp.exp(log_scale) * jax.random.logistic(key, mean.shape)
        return jnp.clip(jnp.round(continuous * (num_levels - 1)) / (num_levels - 1), 0.0, 1.0)

    return Likelihood(2, log_prob, lambda outputs: parameters(outputs)[0], sample)


def squared_error(weight: float) -> Likelihood:
    """minus `weight` times the mean squared error over pixels, through a sigmoid.

    The customary "reconstruction loss" of tutorials. It is a Gaussian log-likelihood of variance
    D / (2 weight) for D dimensions without its constant: `normalized` is False, so no density is reported.
    """

    def log_prob(outputs: Array, x: Array) -> Array:
        num_dims = x[0].size
        return -(weight / num_dims) * reconstruction.squared_error(x, jax.nn.sigmoid(outputs))

    return Likelihood(1, log_prob, jax.nn.sigmoid, lambda key, outputs: jax.nn.sigmoid(outputs), normalized=False)
