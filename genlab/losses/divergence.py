"""Kullback-Leibler divergences in closed form."""

import jax
import jax.numpy as jnp
from jax.scipy.special import rel_entr

from genlab.losses.event import check_same_shape

Array = jax.Array


def gaussian_kl(
    mean: Array, log_var: Array, prior_mean: Array | float = 0.0, prior_log_var: Array | float = 0.0
) -> Array:
    """KL divergence between diagonal Gaussians, KL(N(mean, exp(log_var)) || N(prior_mean, exp(prior_log_var))).

    Args:
        mean, log_var: f32[..., D]; log_var is log sigma^2, any real.
        prior_mean, prior_log_var: broadcastable to mean; the standard normal by default.

    Returns:
        f32[...], in nats, summed over D. Zero if and only if the two are equal.

    Reference: Kingma & Welling 2014, appendix B.
    """
    check_same_shape(mean=mean, log_var=log_var)
    log_ratio = log_var - prior_log_var
    # expm1(a) - a is exp(a) - 1 - a to within eps |a| near a = 0, where the latter is wrong by eps
    return 0.5 * jnp.sum(
        jnp.expm1(log_ratio) - log_ratio + jnp.square(mean - prior_mean) * jnp.exp(-prior_log_var),
        axis=-1,
    )


def bernoulli_kl(p: Array, q: Array) -> Array:
    """KL divergence between Bernoulli distributions, KL(p || q), elementwise.

    Args:
        p, q: f32[...], probabilities of a one, in [0, 1].

    Returns:
        f32[...], in nats, not summed. 0 log 0 = 0, in value and gradient; infinite where q excludes what p allows.
    """
    check_same_shape(p=p, q=q)
    return rel_entr(p, q) + rel_entr(1.0 - p, 1.0 - q)


def categorical_kl(p: Array, q: Array) -> Array:
    """KL divergence between categorical distributions, KL(p || q).

    Args:
        p, q: f32[..., K], probabilities that sum to one over the last axis.

    Returns:
        f32[...], in nats, summed over K. 0 log 0 = 0, in value and gradient; infinite where q excludes what p allows.
    """
    check_same_shape(p=p, q=q)
    return jnp.sum(rel_entr(p, q), axis=-1)
