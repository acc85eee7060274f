"""What every loss on an event [B, ...] shares: its sum, and the check that its arrays belong together."""

import jax
import jax.numpy as jnp

Array = jax.Array


def sum_event(values: Array) -> Array:
    """Sums all axes but the first: [B, ...] -> [B]."""
    return jnp.sum(values, axis=tuple(range(1, values.ndim)))


def check_same_shape(**arrays: Array) -> None:
    """Raises ValueError unless all arrays have one shape: a silent broadcast [B] with [B, 1] is a wrong loss."""
    shapes = {name: jnp.shape(array) for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError("expected equal shapes, got " + ", ".join(f"{name} {shape}" for name, shape in shapes.items()))
