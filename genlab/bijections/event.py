"""The sum over an example's numbers, of which every log-determinant of an elementwise map is made."""

import jax
import jax.numpy as jnp

Array = jax.Array


def sum_event(x: Array) -> Array:
    """f[B, ...] -> f[B], the sum over all axes but the first."""
    return jnp.sum(x, axis=tuple(range(1, x.ndim)))
