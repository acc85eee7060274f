"""Distances between an example and its reconstruction."""

import jax
import jax.numpy as jnp

from genlab.losses.event import check_same_shape, flat, sum_event

Array = jax.Array


def squared_error(x: Array, reconstruction: Array) -> Array:
    """Squared Euclidean distance, summed over the event.

    Args:
        x, reconstruction: f32[B, ...], of equal shape.

    Returns:
        f32[B]. Twice the negative log-likelihood of a unit-variance Gaussian, up to a constant; divide by the
        number of dimensions for a mean squared error.
    """
    check_same_shape(x=x, reconstruction=reconstruction)
    return sum_event(jnp.square(flat(x) - flat(reconstruction)))


def absolute_error(x: Array, reconstruction: Array) -> Array:
    """Absolute (L1) distance, summed over the event.

    Args:
        x, reconstruction: f32[B, ...], of equal shape.

    Returns:
        f32[B]. The gradient is the sign of the difference, and 0 at 0.
    """
    check_same_shape(x=x, reconstruction=reconstruction)
    difference = flat(x) - flat(reconstruction)
    # |d| = sign(d) d, but jnp.abs has gradient 1 at 0
    return sum_event(jnp.sign(difference) * difference)
