"""Kullback-Leibler divergences in closed form."""

import jax
import jax.numpy as jnp
from jax.scipy.special import rel_entr

from genlab.losses.event import check_same_shape
from genlab.losses.likelihood import LOG_2PI

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


def decompose_kl(codes: Array, mean: Array, log_var: Array, dataset_size: int) -> dict[str, Array]:
    """The divergence of q(z | x) from a standard normal, taken apart, estimated from one minibatch.

    log q(z | x) - log p(z)
        = [log q(z | x) - log q(z)] + [log q(z) - sum_d log q(z_d)] + [sum_d log q(z_d) - log p(z_d)]

    with the aggregate posterior q(z) = (1/N) sum_n q(z | x_n) estimated from the minibatch: the example's own posterior
    counts 1/N, the others stand for all that are not there, (N - 1) / N in equal parts. That is unbiased for q(z), and
    for its logarithm too low where the minibatch misses what is near; the sum of the parts is the left side, exactly.

    Args:
        codes: f32[B, D], z_i ~ q(z | x_i).
        mean, log_var: f32[B, D], of the diagonal Gaussians q(z | x_i).
        dataset_size: N, at least B.

    Returns:
        `mutual_information`, `total_correlation` and `dimension_kl`, f32[B] each, in nats.

    Raises:
        ValueError: a minibatch of one example.

    Reference: Chen et al. 2018, equation 2, and appendix C.2 for the estimator, here with equal weights for all others.
    """
    check_same_shape(codes=codes, mean=mean, log_var=log_var)
    num = codes.shape[0]
    if num < 2:
        raise ValueError("the aggregate posterior of a minibatch needs at least 2 examples")
    # log q(z_i,d | x_j,d), [i, j, d]
    deviation = jnp.square(codes[:, None] - mean[None]) * jnp.exp(-log_var)[None]
    table = -0.5 * (LOG_2PI + log_var[None] + deviation)
    weights = jnp.where(jnp.eye(num, dtype=bool), 1.0 / dataset_size, (dataset_size - 1) / (dataset_size * (num - 1)))
    log_weights = jnp.log(weights)
    of_own = jnp.sum(jnp.diagonal(table), axis=0)  # [D, B] -> [B]
    of_all = jax.nn.logsumexp(log_weights + jnp.sum(table, axis=2), axis=1)
    of_each = jnp.sum(jax.nn.logsumexp(log_weights[:, :, None] + table, axis=1), axis=1)
    of_prior = jnp.sum(-0.5 * (LOG_2PI + jnp.square(codes)), axis=1)
    return {
        "mutual_information": of_own - of_all,
        "total_correlation": of_all - of_each,
        "dimension_kl": of_each - of_prior,
    }
