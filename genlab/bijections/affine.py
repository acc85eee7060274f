"""The affine bijection, elementwise: y = x exp(log_scale) + shift."""

import jax
import jax.numpy as jnp

from genlab.bijections.event import sum_event

Array = jax.Array


def affine(x: Array, log_scale: Array, shift: Array) -> tuple[Array, Array]:
    """y = x exp(log_scale) + shift.

    Args:
        x: f[B, ...].
        log_scale, shift: broadcastable to x.

    Returns:
        y f[B, ...] and log |det dy / dx| f[B], the sum of log_scale over the event.

    Reference: Dinh et al. 2017 (RealNVP), equations 7 and 8; additive where log_scale is 0 (Dinh et al. 2015, NICE).
    """
    return x * jnp.exp(log_scale) + shift, _volume(x, log_scale)


def affine_inverse(y: Array, log_scale: Array, shift: Array) -> tuple[Array, Array]:
    """x = (y - shift) exp(-log_scale), and log |det dx / dy| f[B]; see `affine`."""
    return (y - shift) * jnp.exp(-log_scale), -_volume(y, log_scale)


def _volume(x: Array, log_scale: Array) -> Array:
    return sum_event(jnp.broadcast_to(log_scale, x.shape))
