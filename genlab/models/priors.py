"""Priors of latent variables: the standard normal, and mixtures of Gaussians, learned freely or through the encoder.

All of them are mixtures of C diagonal Gaussians; what differs is where the components come from. With labels the
weights of the components depend on the class, p(z | y).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from genlab.algorithm import Array, Batch, Key, PyTree
from genlab.losses.likelihood import gaussian_log_prob, gaussian_mixture_log_prob

Encode = Callable[[Array], tuple[Array, Array]]  # inputs [C, ...] -> mean f32[C, D], log sigma^2 f32[C, D]


class Components(NamedTuple):
    """A mixture of C Gaussians.

    Attributes:
        means, log_vars: f32[C, D].
        log_weights: f32[C], or f32[Y, C] by class; normalised.
    """

    means: Array
    log_vars: Array
    log_weights: Array


class Prior(NamedTuple):
    """p(z) or p(z | y).

    Attributes:
        init: (key, batch) -> params, {} where nothing is learned.
        components: (params, encode) -> the mixture; None of the standard normal.
        by_class: whether it is p(z | y).
    """

    init: Callable[[Key, Batch], PyTree]
    components: Callable[[PyTree, Encode], Components] | None
    by_class: bool = False

    def log_prob(self, params: PyTree, encode: Encode, codes: Array, labels: Array | None) -> Array:
        """log p(z) f32[N] of codes f32[N, D], or log p(z | y) with labels i32[N]."""
        if self.components is None:
            return gaussian_log_prob(codes, jnp.zeros_like(codes), 0.0)
        means, log_vars, log_weights = self.components(params, encode)
        return gaussian_mixture_log_prob(codes, means, log_vars, of_labels(log_weights, labels))

    def sample(self, params: PyTree, encode: Encode, key: Key, like: Array, labels: Array | None) -> Array:
        """Codes f32[N, D], as many as in `like` f32[N, D]."""
        if self.components is None:
            return jax.random.normal(key, like.shape)
        key_component, key_code = jax.random.split(key)
        means, log_vars, log_weights = self.components(params, encode)
        chosen = jax.random.categorical(key_component, of_labels(log_weights, labels), shape=like.shape[:1])
        return means[chosen] + jnp.exp(0.5 * log_vars[chosen]) * jax.random.normal(key_code, like.shape)


def of_labels(log_weights: Array, labels: Array | None) -> Array:
    """The weights of each example, f32[N, C], where they depend on its class; otherwise as they are, f32[C].

    Raises:
        ValueError: weights by class, and no labels.
    """
    if log_weights.ndim == 1:
        return log_weights
    if labels is None:
        raise ValueError("p(z | y) needs labels")
    return log_weights[labels]


def standard_normal() -> Prior:
    """N(0, I)."""
    return Prior(init=lambda key, batch: {}, components=None)


def mixture(num_components: int, latent_dim: int, num_classes: int = 0, spread: float = 1.0) -> Prior:
    """A mixture of Gaussians with free means, variances and weights.

    Args:
        num_components: C.
        latent_dim: D.
        num_classes: Y, for weights by class; 0 for one vector of weights. Component c starts in class c mod Y,
            which gives it Y - 1 times the weight that every other class does.
        spread: standard deviation of the means at the start.

    Reference: Tomczak & Welling 2018, section 2.2, "MoG prior"; Dilokthanakul et al. 2016.
    """

    def init(key: Key, batch: Batch) -> PyTree:
        means = spread * jax.random.normal(key, (num_components, latent_dim))
        logits = jnp.zeros(num_components)
        if num_classes:
            own = jnp.arange(num_components)[None] % num_classes == jnp.arange(num_classes)[:, None]  # [Y, C]
            logits = jnp.where(own, math.log(max(num_classes - 1, 1)), 0.0)
        return {"means": means, "log_vars": jnp.zeros_like(means), "logits": logits}

    def components(params: PyTree, encode: Encode) -> Components:
        return Components(params["means"], params["log_vars"], jax.nn.log_softmax(params["logits"], axis=-1))

    return Prior(init, components, by_class=num_classes > 0)


def vamp(num_components: int, initial: Array) -> Prior:
    """The variational mixture of posteriors: p(z) = (1/C) sum_c q(z | u_c) with learned pseudo-inputs u_c in [0, 1].

    Args:
        num_components: C.
        initial: f32[C, ...], examples from which the pseudo-inputs start, in [0, 1].

    Reference: Tomczak & Welling 2018, "VAE with a VampPrior", equation 9.
    """
    assert initial.shape[0] == num_components

    def init(key: Key, batch: Batch) -> PyTree:
        inside = jnp.clip(jnp.asarray(initial, jnp.float32), 0.01, 0.99)
        return {"pseudo_inputs": jnp.log(inside) - jnp.log1p(-inside)}  # a sigmoid keeps them in [0, 1]

    def components(params: PyTree, encode: Encode) -> Components:
        means, log_vars = encode(jax.nn.sigmoid(params["pseudo_inputs"]))
        return Components(means, log_vars, jnp.full(num_components, -math.log(num_components)))

    return Prior(init, components)
