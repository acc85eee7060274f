"""Strided convolutions down to a feature vector, and transposed convolutions back up."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genlab.errors import InputError
from genlab.networks.conv import Conv, ConvTranspose
from genlab.networks.dense import MLP

Array = jax.Array


class ConvEncoder(nn.Module):
    """Convolutions 4x4 of stride 2, then dense layers.

    Attributes:
        channels: of the convolutions; each halves height and width, rounded up.
        hidden: widths of the dense layers behind them.
        activation: elementwise, after every layer.
        batch_norm: between a convolution and its activation; the convolution then has no bias.
        dtype: of the arithmetic.
    """

    channels: Sequence[int]
    hidden: Sequence[int] = ()
    activation: Callable[[Array], Array] = nn.relu
    batch_norm: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """f32[B, H, W, C] -> [B, F]."""
        for width in self.channels:
            x = Conv(width, (4, 4), strides=(2, 2), use_bias=not self.batch_norm, dtype=self.dtype)(x)
            if self.batch_norm:
                x = nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=self.dtype)(x)
            x = self.activation(x)
        return MLP(self.hidden, self.activation, self.dtype)(x)


class ConvDecoder(nn.Module):
    """Dense layers, a small image, then transposed convolutions 4x4 of stride 2: the mirror of `ConvEncoder`.

    Attributes:
        channels: of the images that the transposed convolutions see; each doubles height and width.
        hidden: widths of the dense layers before them.
        output_shape: (H, W, outputs); H and W divisible by 2^len(channels).
        activation, batch_norm, dtype: as in `ConvEncoder`; the output is float32.
    """

    channels: Sequence[int]
    hidden: Sequence[int]
    output_shape: Sequence[int]
    activation: Callable[[Array], Array] = nn.relu
    batch_norm: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, codes: Array, train: bool = False) -> Array:
        """f32[B, D] -> f32[B, *output_shape]."""
        height, width, outputs = self.output_shape
        factor = 2 ** len(self.channels)
        if height % factor or width % factor:
            raise InputError(
                f"{len(self.channels)} transposed convolutions of stride 2 cannot make {height}x{width} images; "
                f"height and width must be divisible by {factor}"
            )
        seed = (height // factor, width // factor, self.channels[0])
        x = MLP((*self.hidden, seed[0] * seed[1] * seed[2]), self.activation, self.dtype)(codes)
        x = x.reshape(-1, *seed)  # [B, H / factor, W / factor, C]
        for features in self.channels[1:]:
            x = ConvTranspose(features, (4, 4), strides=(2, 2), use_bias=not self.batch_norm, dtype=self.dtype)(x)
            if self.batch_norm:
                x = nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=self.dtype)(x)
            x = self.activation(x)
        return ConvTranspose(outputs, (4, 4), strides=(2, 2), dtype=self.dtype)(x).astype(jnp.float32)
