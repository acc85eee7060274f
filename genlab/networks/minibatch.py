"""What lets a discriminator see a batch as a whole, so that a generator of one image is found out."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

Array = jax.Array


def minibatch_stddev(x: Array, group_size: int) -> Array:
    """Appends, as one more constant channel, the mean standard deviation of features within groups of examples.

    The batch is reshaped to [G, M, ...] with the group axis G first, as in the ProGAN and StyleGAN2 code: of B = G M
    examples number i is in group i mod M. For each group, the standard deviation over its members of every feature at
    every pixel, sqrt(variance + 1e-8) with ddof 0, is averaged over features and pixels. Computed in float32.

    Args:
        x: f[B, ..., C], such as f[B, H, W, C] or f[B, D].
        group_size: examples in a group; where B is less, all of the batch is one group.

    Returns:
        f[B, ..., C + 1], with x's dtype.

    Raises:
        ValueError: groups of that size do not make up the batch.

    Reference: Karras et al. 2018, "Progressive Growing of GANs", section 3.
    """
    if x.ndim < 2:
        raise ValueError(f"minibatch_stddev takes [B, ..., C], not {x.shape}")
    batch_size = x.shape[0]
    group_size = min(group_size, batch_size)
    if group_size < 1 or batch_size % group_size:
        raise ValueError(f"a batch of {batch_size} examples cannot be divided into groups of {group_size}")
    groups = x.astype(jnp.float32).reshape(group_size, -1, *x.shape[1:])  # [G, M, ..., C]
    stddev = jnp.sqrt(jnp.var(groups, axis=0) + 1e-8)  # [M, ..., C]
    by_group = jnp.mean(stddev, axis=range(1, x.ndim))  # [M]
    by_example = jnp.tile(by_group, group_size).astype(x.dtype)  # [B]: i = g M + m -> m
    channel = jnp.broadcast_to(by_example.reshape(-1, *(1,) * (x.ndim - 1)), (*x.shape[:-1], 1))
    return jnp.concatenate([x, channel], axis=-1)


class MinibatchDiscrimination(nn.Module):
    """Appends how close each example is to all of the batch, by kernels that are learned.

        M_i = x_i T,    c_b(i, j) = exp(-|M_ib - M_jb|_1),    o(x_i)_b = sum_j c_b(i, j).

    The sum is over the whole batch with j = i, as the paper writes it, so that 1 <= o <= B; the authors' code leaves
    j = i out, which a bias of the next layer can do. T has no weight normalisation; it starts from N(0, 1 / A), which
    has the columns of unit length (on average) that the authors' code makes.

    Attributes:
        num_kernels: the paper's B, how many features are appended.
        kernel_dim: the paper's C, the dimension in which each kernel takes distances.
        dtype: of the projection; T is float32, and so are distances and their sums.
        kernel_init: of T, f32[A, num_kernels, kernel_dim].

    Reference: Salimans et al. 2016, "Improved Techniques for Training GANs", section 3.2.
    """

    num_kernels: int
    kernel_dim: int
    dtype: Any = None
    kernel_init: Callable[..., Array] = nn.initializers.variance_scaling(
        1.0, "fan_in", "normal", in_axis=0, out_axis=(1, 2)
    )

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """f[B, A] -> f[B, A + num_kernels]."""
        if x.ndim != 2:
            raise ValueError(f"MinibatchDiscrimination takes [B, A], not {x.shape}")
        kernel = self.param("tensor", self.kernel_init, (x.shape[-1], self.num_kernels, self.kernel_dim))
        x, kernel = promote_dtype(x, kernel, dtype=self.dtype)
        rows = jnp.einsum("ia,abc->ibc", x, kernel).astype(jnp.float32)  # [B, num_kernels, kernel_dim]
        distance = jnp.sum(jnp.abs(rows[:, None] - rows), axis=-1)  # [B, B, num_kernels]
        closeness = jnp.sum(jnp.exp(-distance), axis=1)  # [B, num_kernels]
        return jnp.concatenate([x, closeness.astype(x.dtype)], axis=-1)
