"""An invertible linear map of the channels, by the factors of its LU decomposition."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


class LU(NamedTuple):
    """W = P L (U + diag(sign exp(log_scale))), whose determinant is read off.

    Attributes:
        permutation: i32[C], P as the row of each row.
        lower: f[C, C], of which what is below the diagonal counts; L has ones on it.
        upper: f[C, C], of which what is above the diagonal counts.
        sign: f[C], of the diagonal.
        log_scale: f[C], log of its absolute values.
    """

    permutation: Array
    lower: Array
    upper: Array
    sign: Array
    log_scale: Array


def decompose(matrix: np.ndarray) -> LU:
    """The factors of an invertible matrix f[C, C]; on the host."""
    from scipy.linalg import lu

    permutation, lower, upper = lu(np.asarray(matrix, np.float64))
    diagonal = np.diag(upper)
    return LU(
        jnp.asarray(np.argmax(permutation, axis=1), jnp.int32), jnp.asarray(np.tril(lower, -1)),
        jnp.asarray(np.triu(upper, 1)), jnp.asarray(np.sign(diagonal)), jnp.asarray(np.log(np.abs(diagonal))),
    )  # fmt: skip


def matrix_of(factors: LU) -> Array:
    """W f[C, C]."""
    lower, upper = _triangles(factors)
    return jnp.matmul(lower, upper, precision=jax.lax.Precision.HIGHEST)[factors.permutation]


def linear(x: Array, factors: LU) -> tuple[Array, Array]:
    """y = W x of the channels at every place: the invertible 1x1 convolution.

    Args:
        x: f[B, ..., C].
        factors: of W.

    Returns:
        y f[B, ..., C] and log |det dy / dx| f[B], (number of places) sum log_scale.

    Reference: Kingma & Dhariwal 2018 (Glow), section 3.2 and equation 11.
    """
    y = jnp.einsum("...c,dc->...d", x, matrix_of(factors), precision=jax.lax.Precision.HIGHEST)
    return y, _volume(x, factors)


def linear_inverse(y: Array, factors: LU) -> tuple[Array, Array]:
    """x = W^-1 y, by two triangular systems, and log |det dx / dy| f[B]; see `linear`."""
    lower, upper = _triangles(factors)
    solve = jax.scipy.linalg.solve_triangular
    columns = y.reshape(-1, y.shape[-1]).T  # [C, N]
    columns = jnp.zeros_like(columns).at[factors.permutation].set(columns)  # P^-1 y
    columns = solve(upper, solve(lower, columns, lower=True, unit_diagonal=True))
    return columns.T.reshape(y.shape), -_volume(y, factors)


def _triangles(factors: LU) -> tuple[Array, Array]:
    size = factors.log_scale.shape[0]
    lower = jnp.tril(factors.lower, -1) + jnp.eye(size, dtype=factors.lower.dtype)
    return lower, jnp.triu(factors.upper, 1) + jnp.diag(factors.sign * jnp.exp(factors.log_scale))


def _volume(x: Array, factors: LU) -> Array:
    places = int(np.prod(x.shape[1:-1]))
    return jnp.broadcast_to(places * jnp.sum(factors.log_scale), x.shape[:1])
