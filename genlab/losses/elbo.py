"""The evidence lower bound and its importance-weighted relatives."""

import jax
import jax.numpy as jnp

from genlab import draws
from genlab.losses.event import check_same_shape

Array = jax.Array


def reparameterize(key: Array, mean: Array, log_var: Array) -> Array:
    """A sample z = mean + sigma * epsilon, epsilon ~ N(0, I), differentiable in mean and log_var.

    Args:
        key: typed PRNG key.
        mean, log_var: f32[..., D]; log_var is log sigma^2.

    Returns:
        f32[..., D].

    Reference: Kingma & Welling 2014, section 2.4.
    """
    check_same_shape(mean=mean, log_var=log_var)
    return mean + jnp.exp(0.5 * log_var) * draws.normal(key, mean.shape).astype(mean.dtype)


def elbo(log_likelihood: Array, kl: Array, beta: Array | float = 1.0) -> Array:
    """Evidence lower bound, E_q[log p(x|z)] - beta KL(q(z|x) || p(z)).

    Args:
        log_likelihood: f32[B], nats per example, under z ~ q(z|x).
        kl: f32[B], nats per example.
        beta: weight of the divergence; only beta >= 1 gives a bound on log p(x).

    Returns:
        f32[B], nats per example.

    Reference: Kingma & Welling 2014, equation 3; Higgins et al. 2017 for beta.
    """
    check_same_shape(log_likelihood=log_likelihood, kl=kl)
    return log_likelihood - beta * kl


def importance_bound(log_weights: Array) -> Array:
    """Importance-weighted bound, log (1/K) sum_k w_k, w_k = p(x, z_k) / q(z_k|x), z_k ~ q(z|x).

    With K = 1 it is the (single-sample) evidence lower bound; its expectation grows with K towards log p(x).

    Args:
        log_weights: f32[K, B], log w_k in nats.

    Returns:
        f32[B], nats per example.

    Reference: Burda, Grosse & Salakhutdinov 2016, equation 8.
    """
    return jax.nn.logsumexp(log_weights, axis=0) - jnp.log(jnp.asarray(log_weights.shape[0], log_weights.dtype))


def free_bits(kl: Array, bits: Array | float) -> Array:
    """Divergence of which the first `bits` nats of every group cost nothing.

    sum_g max(bits, mean_b kl[b, g]), spread over the examples: a group whose mean over the batch is above `bits` costs
    each example its own kl; one below costs `bits` and has no gradient. So the mean over B has value and gradient of
    the published penalty.

    Args:
        kl: f32[B, G], nats per example and group of latent variables.
        bits: nats per group; 0 gives the sum over groups of what is above zero in the mean.

    Returns:
        f32[B], nats per example.

    Reference: Kingma et al. 2016 (IAF), appendix C.8.
    """
    mean = jnp.mean(kl, axis=0, keepdims=True)
    return jnp.sum(jnp.where(mean > bits, kl, jnp.asarray(bits, kl.dtype)), axis=1)
