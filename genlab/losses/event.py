"""What every loss on an event [B, ...] shares: its sum, and the check that its arrays belong together."""

import math

import jax
import jax.numpy as jnp

Array = jax.Array


def flat(array: Array) -> Array:
    """[B, ...] -> [B, D]. Arithmetic on the short axes of images is many times slower on a CPU."""
    return array.reshape(array.shape[0], math.prod(array.shape[1:]))


def sum_event(values: Array) -> Array:
    """Sums all axes but the first: [B, ...] -> [B]."""
    return jnp.sum(flat(values), axis=1)


def check_same_shape(**arrays: Array) -> None:
    """Raises ValueError unless all arrays have one shape: a silent broadcast [B] with [B, 1] is a wrong loss."""
    shapes = {name: jnp.shape(array) for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError("expected equal shapes, got " + ", ".join(f"{name} {shape}" for name, shape in shapes.items()))
