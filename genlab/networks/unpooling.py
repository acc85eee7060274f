"""A convolutional autoencoder whose code says what there is and where: max-pooling, undone at the remembered places."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genlab.errors import InputError
from genlab.networks.conv import Conv, max_pool_with_argmax, max_unpool
from genlab.networks.dense import MLP

Array = jax.Array


class UnpoolingAutoencoder(nn.Module):
    """Convolutions 3x3 and max-pooling 2x2 down to a dense code, and back by unpooling and convolutions 3x3.

    The code is [what | where]: `code_dim` numbers of the dense layer, then, for every maximum of every pooling from
    the first to the last, which of the four pixels of its window it was, 0, 1, 2 or 3 row by row. Only the first part
    has a gradient; the second is most of the code, H * W * channels / 4 numbers for the first pooling alone.

    Attributes:
        channels: of the convolutions; a pooling behind each halves height and width.
        hidden: widths of the dense layers between the last pooling and the code; the decoder mirrors them.
        code_dim: of the dense part of the code.
        output_shape: (H, W, C) of one example; H and W divisible by 2^len(channels).
        activation: elementwise, after every pooling, dense layer and convolution, but not on the output.
        dtype: of the arithmetic; codes and outputs are float32.
        code: elementwise, on the dense part of the code.

    Raises:
        InputError: if there are no channels, or height and width cannot be halved that often.

    Reference: Zhao et al. 2015, "Stacked what-where auto-encoders"; Zeiler & Fergus 2014, for unpooling.
    """

    channels: Sequence[int]
    hidden: Sequence[int]
    code_dim: int
    output_shape: Sequence[int]
    activation: Callable[[Array], Array] = nn.relu
    dtype: Any = None
    code: Callable[[Array], Array] = lambda x: x

    def setup(self) -> None:
        """The layers of both directions."""
        height, width, outputs = self.output_shape
        if not self.channels:
            raise InputError("channels must name one convolution at least, got ()")
        factor = 2 ** len(self.channels)
        if height % factor or width % factor:
            raise InputError(
                f"{len(self.channels)} poolings of 2x2 cannot halve {height}x{width} images; "
                f"height and width must be divisible by {factor}"
            )
        halvings = range(1, len(self.channels) + 1)
        self.pooled = [(height >> i, width >> i, c) for i, c in zip(halvings, self.channels, strict=True)]
        self.down = [Conv(features, (3, 3), dtype=self.dtype) for features in self.channels]
        self.up = [Conv(features, (3, 3), dtype=self.dtype) for features in (*self.channels[-2::-1], outputs)]
        self.dense_down = MLP(self.hidden, self.activation, self.dtype)
        self.bottleneck = nn.Dense(self.code_dim, dtype=self.dtype)
        self.dense_up = MLP((*self.hidden[::-1], math.prod(self.pooled[-1])), self.activation, self.dtype)

    def encode(self, x: Array, train: bool = False) -> Array:
        """f32[B, *output_shape] -> f32[B, D], what and where."""
        del train
        places = []
        for conv in self.down:
            x, indices = max_pool_with_argmax(conv(x), 2)  # before the activation, whose zeros would tie
            x = self.activation(x)
            places.append(_corner(indices).reshape(x.shape[0], -1))
        what = self.code(self.bottleneck(self.dense_down(x)).astype(jnp.float32))
        return jnp.concatenate([what, *places], axis=-1)

    def decode(self, codes: Array, train: bool = False) -> Array:
        """f32[B, D] -> f32[B, *output_shape]."""
        del train
        ends = [self.code_dim]
        for shape in self.pooled:
            ends.append(ends[-1] + math.prod(shape))
        if codes.shape[-1] != ends[-1]:
            raise InputError(f"a code of this network has {ends[-1]} numbers, what and where, got {codes.shape[-1]}")
        what, *places = jnp.split(codes, ends[:-1], axis=-1)
        x = self.dense_up(what).reshape(-1, *self.pooled[-1])  # [B, H / 2^L, W / 2^L, C]
        for i, conv in enumerate(self.up):
            height, width, features = self.pooled[-1 - i]
            corners = places[-1 - i].reshape(-1, height, width, features)
            x = conv(max_unpool(x, _index(corners), (2 * height, 2 * width), window=2))
            x = self.activation(x) if i + 1 < len(self.up) else x
        return x.astype(jnp.float32)

    def __call__(self, x: Array, train: bool = False) -> tuple[Array, Array]:
        """f32[B, *output_shape] -> codes f32[B, D], outputs f32[B, *output_shape]."""
        codes = self.encode(x, train)
        return codes, self.decode(codes, train)


def _corner(indices: Array) -> Array:
    """Positions i32[B, H, W, C] in an image of 2H x 2W -> which of their window's four pixels, f32 in {0, 1, 2, 3}."""
    width = 2 * indices.shape[2]
    return (2 * (indices // width % 2) + indices % 2).astype(jnp.float32)  # an even width keeps the column's parity


def _index(corners: Array) -> Array:
    """The inverse of `_corner`; numbers between the corners go to the nearest."""
    corners = jnp.clip(jnp.round(corners), 0, 3).astype(jnp.int32)
    height, width = corners.shape[1:3]
    row, column = 2 * jnp.arange(height)[:, None, None] + corners // 2, 2 * jnp.arange(width)[:, None] + corners % 2
    return 2 * width * row + column
