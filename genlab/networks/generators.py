"""Generators of adversarial games: from noise to points or images."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genlab.networks.conv import ConvTranspose

Array = jax.Array

NORMALS = nn.initializers.normal(0.02)  # of all weights of a DCGAN: Radford et al. 2016, section 4


class DenseGenerator(nn.Module):
    """Dense layers, each with batch normalisation and an activation, and a linear output.

    Attributes:
        features: widths of the hidden layers.
        output_shape: of one example.
        activation: elementwise, after every hidden layer.
        batch_norm: of the hidden layers.
        squash: tanh at the end, for images in [-1, 1].
        kernel_init: of all kernels.
        dtype: of the arithmetic; the output is float32.
    """

    features: Sequence[int]
    output_shape: Sequence[int]
    activation: Callable[[Array], Array] = nn.relu
    batch_norm: bool = True
    squash: bool = False
    kernel_init: Callable[..., Array] = NORMALS
    dtype: Any = None

    @nn.compact
    def __call__(self, codes: Array, train: bool = False) -> Array:
        """f32[B, D] -> f32[B, *output_shape]."""
        x, size = codes, 1
        for length in self.output_shape:
            size *= length
        for width in self.features:
            x = nn.Dense(width, use_bias=not self.batch_norm, kernel_init=self.kernel_init, dtype=self.dtype)(x)
            if self.batch_norm:
                x = nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=self.dtype)(x)
            x = self.activation(x)
        x = nn.Dense(size, kernel_init=self.kernel_init, dtype=self.dtype)(x)
        x = x.astype(jnp.float32).reshape(-1, *self.output_shape)  # [B, *output_shape]
        return jnp.tanh(x) if self.squash else x


class DCGANGenerator(nn.Module):
    """Transposed 5x5 convolutions of stride 2, batch normalisation everywhere but at the output, relu, tanh at the end.

    The first layer is a transposed convolution of a 1x1 image, which is a matrix product: there are no dense hidden
    layers. Where a side is odd the convolution that doubles it is cropped.

    Attributes:
        channels: of the images that are convolved, from the coarsest on.
        output_shape: (H, W, C).
        batch_norm: everywhere but at the output.
        dtype: of the arithmetic; the output is float32.

    Reference: Radford et al. 2016, section 3 and figure 1.
    """

    channels: Sequence[int]
    output_shape: Sequence[int]
    batch_norm: bool = True
    dtype: Any = None

    @nn.compact
    def __call__(self, codes: Array, train: bool = False) -> Array:
        """f32[B, D] -> f32[B, H, W, C] in [-1, 1]."""

        def normalised(x: Array) -> Array:
            if self.batch_norm:
                scale = lambda key, shape, dtype=jnp.float32: 1.0 + NORMALS(key, shape, dtype)
                x = nn.BatchNorm(
                    use_running_average=not train, momentum=0.9, scale_init=scale, epsilon=1e-5, dtype=self.dtype
                )(x)
            return nn.relu(x)

        bias = not self.batch_norm
        sides = halved(self.output_shape[:2], len(self.channels))  # from the coarsest to the output's
        (height, width), seed = sides[0], self.channels[0]
        x = nn.Dense(height * width * seed, use_bias=bias, kernel_init=NORMALS, dtype=self.dtype)(codes)
        x = normalised(x.reshape(-1, height, width, seed))  # [B, h, w, C]
        for (height, width), features in zip(sides[1:], (*self.channels[1:], self.output_shape[2]), strict=True):
            last = (height, width) == tuple(self.output_shape[:2])
            x = ConvTranspose(
                features, (5, 5), strides=(2, 2), use_bias=bias or last, kernel_init=NORMALS, dtype=self.dtype
            )(x)[:, :height, :width]
            x = x if last else normalised(x)
        return jnp.tanh(x.astype(jnp.float32))


def halved(shape: Sequence[int], times: int) -> list[tuple[int, int]]:
    """(H, W) and what is left after each halving, rounded up; the coarsest first."""
    height, width = shape
    sides = [(height, width)]
    for _ in range(times):
        height, width = -(-height // 2), -(-width // 2)
        sides.append((height, width))
    return sides[::-1]
