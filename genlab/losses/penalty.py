"""Penalties on the derivatives of a network in its input."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from genlab.losses.event import check_same_shape, sum_event

Array = jax.Array

ROWS_AT_ONCE = 32  # of the Jacobian, for all examples together; bounds memory


def contractive_penalty(encode: Callable[[Array], Array], x: Array) -> Array:
    """The squared Frobenius norm of the encoder's Jacobian, sum_ij (d code_j / d x_i)^2, exactly.

    One backward pass a unit of the code, so it costs about D times what a plain gradient does; in reverse mode, since
    the convolutions here have no other.

    Args:
        encode: f32[B, ...] -> f32[B, D]; codes of one example may not depend on another (no batch statistics).
        x: f32[B, ...].

    Returns:
        f32[B], in squared units of the code over squared units of x.

    Reference: Rifai et al. 2011, "Contractive auto-encoders", equation 1.
    """
    codes, pull_back = jax.vjp(encode, x)
    if codes.ndim != 2 or codes.shape[0] != x.shape[0]:
        raise ValueError(f"encode must give codes [B, D] of {x.shape[0]} examples; got shape {codes.shape}")

    @jax.checkpoint  # the rows are many times x: a gradient of the penalty makes them again
    def squared_row(unit: Array) -> Array:  # [D] -> [B]
        (row,) = pull_back(jnp.broadcast_to(unit, codes.shape))  # d code_j / d x of every example at once
        return sum_event(jnp.square(row))

    units = jnp.eye(codes.shape[1], dtype=codes.dtype)
    return jnp.sum(jax.lax.map(squared_row, units, batch_size=ROWS_AT_ONCE), axis=0)


def sigmoid_layer_contractive_penalty(codes: Array, kernel: Array) -> Array:
    """`contractive_penalty` of one dense layer h = sigmoid(x W + b), in closed form: sum_j (h_j (1 - h_j))^2 |W_j|^2.

    Args:
        codes: f32[B, D], in (0, 1): h.
        kernel: f32[I, D], whose column j is W_j.

    Returns:
        f32[B], as `contractive_penalty`, at the cost of a product [B, D] by [D].

    Reference: Rifai et al. 2011, section 5.3.
    """
    squared_norms = jnp.sum(jnp.square(kernel), axis=0)
    check_same_shape(one_code=codes[0], kernels=squared_norms)
    return jnp.square(codes * (1.0 - codes)) @ squared_norms
