"""Pixels as real numbers: uniform dequantisation, and the logit that takes (0, 1) to the real line."""

import math

import jax
import jax.numpy as jnp

from genlab.bijections.event import sum_event

Array = jax.Array
Key = jax.Array


def dequantize(key: Key, x: Array, num_levels: int = 256) -> Array:
    """Real numbers in [0, 1), of which flooring gives the levels again.

    With p a density of u, log P(levels) >= E log p(u) - D log num_levels, over the noise (Theis et al. 2016).

    Args:
        key: of the noise.
        x: f[B, ...] in [0, 1], multiples of 1 / (num_levels - 1).
        num_levels: that a value can have.

    Returns:
        f[B, ...].

    Reference: Uria et al. 2013 (RNADE), section 5; Theis et al. 2016, section 3.1.
    """
    levels = jnp.round(x * (num_levels - 1))
    noise = jax.random.uniform(key, x.shape, x.dtype)
    # the sum could round up to the level above
    return jnp.minimum(levels + noise, jnp.nextafter(levels + 1.0, levels)) / num_levels


def quantize(u: Array, num_levels: int = 256) -> Array:
    """The level that u in [0, 1] falls into, as f[B, ...] in [0, 1]: what `dequantize` came from."""
    levels = jnp.clip(jnp.floor(u * num_levels), 0, num_levels - 1)
    return levels / (num_levels - 1)


def logit(x: Array, alpha: float) -> tuple[Array, Array]:
    """y = logit(alpha + (1 - 2 alpha) x).

    Args:
        x: f[B, ...] in [0, 1].
        alpha: in (0, 1/2); 1e-6 in the MNIST results of Papamakarios et al. 2017, 0.05 in those of Dinh et al. 2017.

    Returns:
        y f[B, ...] and log |det dy / dx| f[B] = sum log(1 - 2 alpha) - log p - log(1 - p), p = alpha + (1 - 2 alpha) x.

    Reference: Papamakarios et al. 2017, appendix D; Dinh et al. 2017, section 4.1, print alpha + (1 - alpha) x.
    """
    p = alpha + (1.0 - 2.0 * alpha) * x
    log_p, log_not_p = jnp.log(p), jnp.log1p(-p)
    return log_p - log_not_p, sum_event(math.log1p(-2.0 * alpha) - log_p - log_not_p)


def logit_inverse(y: Array, alpha: float) -> tuple[Array, Array]:
    """x = (sigmoid(y) - alpha) / (1 - 2 alpha), which leaves [0, 1] for large |y|, and log |det dx / dy| f[B]."""
    log_slope = jax.nn.log_sigmoid(y) + jax.nn.log_sigmoid(-y) - math.log1p(-2.0 * alpha)
    return (jax.nn.sigmoid(y) - alpha) / (1.0 - 2.0 * alpha), sum_event(log_slope)
