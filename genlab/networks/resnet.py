"""Residual generator and discriminator trunk, as those of WGAN-GP and SNGAN, for images of any size.

Reference: Gulrajani et al. 2017, appendix F; Miyato et al. 2018, appendix B.4.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genlab.networks.conv import Conv
from genlab.networks.generators import halved

Array = jax.Array

XAVIER = nn.initializers.variance_scaling(2.0, "fan_avg", "uniform")  # of the residual path: sqrt(2) times Glorot's
SKIP = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")


def upsample(x: Array) -> Array:
    """Every pixel becomes four: [B, H, W, C] -> [B, 2 H, 2 W, C]."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def downsample(x: Array) -> Array:
    """The mean of every 2x2, of which those at an odd border are cut off: [B, H, W, C] -> [B, ceil(H / 2), ...]."""
    x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)), mode="edge")
    x = x.reshape(x.shape[0], x.shape[1] // 2, 2, x.shape[2] // 2, 2, x.shape[3])  # [B, H', 2, W', 2, C]
    return jnp.mean(x, axis=(2, 4))


class UpBlock(nn.Module):
    """Twice the side: norm, relu, upsample, conv, norm, relu, conv; and beside it upsample, 1x1 conv."""

    features: int
    batch_norm: bool
    side: tuple[int, int]
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """[B, h, w, C] -> [B, *side, features]."""
        height, width = self.side

        def active(x: Array) -> Array:
            if self.batch_norm:
                x = nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=self.dtype)(x)
            return nn.relu(x)

        larger = lambda x: upsample(x)[:, :height, :width]
        residual = Conv(self.features, (3, 3), kernel_init=XAVIER, dtype=self.dtype)(larger(active(x)))
        residual = Conv(self.features, (3, 3), kernel_init=XAVIER, dtype=self.dtype)(active(residual))
        return residual + larger(Conv(self.features, (1, 1), kernel_init=SKIP, dtype=self.dtype)(x))


class DownBlock(nn.Module):
    """Half the side: relu, conv, relu, conv, mean of 2x2; and beside it 1x1 conv, mean of 2x2.

    Attributes:
        features: channels.
        norm: before each relu: "none" | "batch" | "layer".
        first: whether x is the image, which is not passed through a relu.
        shrink: whether the side is halved.
        dtype: of the arithmetic.
    """

    features: int
    norm: str = "none"
    first: bool = False
    shrink: bool = True
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """[B, H, W, C] -> [B, ceil(H / 2), ceil(W / 2), features]."""

        def active(x: Array) -> Array:
            if self.norm == "batch":
                x = nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=self.dtype)(x)
            return nn.relu(nn.LayerNorm(dtype=self.dtype)(x) if self.norm == "layer" else x)

        smaller = downsample if self.shrink else lambda x: x
        residual = Conv(self.features, (3, 3), kernel_init=XAVIER, dtype=self.dtype)(x if self.first else active(x))
        residual = Conv(self.features, (3, 3), kernel_init=XAVIER, dtype=self.dtype)(active(residual))
        skip = smaller(x)  # the mean first: a 1x1 convolution of it is the same, at a quarter of the cost
        if x.shape[-1] != self.features or self.shrink:
            skip = Conv(self.features, (1, 1), kernel_init=SKIP, dtype=self.dtype)(skip)
        return smaller(residual) + skip


class ResNetGenerator(nn.Module):
    """A dense layer, a residual block for every doubling of the side, norm, relu, 3x3 conv, tanh.

    Attributes:
        channels: of the blocks, from the coarsest on.
        output_shape: (H, W, C).
        batch_norm: everywhere but at the output.
        dtype: of the arithmetic; the output is float32.
    """

    channels: Sequence[int]
    output_shape: Sequence[int]
    batch_norm: bool = True
    dtype: Any = None

    @nn.compact
    def __call__(self, codes: Array, train: bool = False) -> Array:
        """f32[B, D] -> f32[B, H, W, C] in [-1, 1]."""
        sides = halved(self.output_shape[:2], len(self.channels))
        (height, width), seed = sides[0], self.channels[0]
        x = nn.Dense(height * width * seed, kernel_init=SKIP, dtype=self.dtype)(codes)
        x = x.reshape(-1, height, width, seed)  # [B, h, w, C]
        for features, side in zip(self.channels, sides[1:], strict=True):
            x = UpBlock(features, self.batch_norm, side, self.dtype)(x, train)
        if self.batch_norm:
            x = nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=self.dtype)(x)
        x = Conv(self.output_shape[2], (3, 3), kernel_init=SKIP, dtype=self.dtype)(nn.relu(x))
        return jnp.tanh(x.astype(jnp.float32))


class ResNetTrunk(nn.Module):
    """A residual block for every halving of the side, one more, and the sum over all places.

    Attributes:
        channels: of the blocks that halve.
        norm: of all blocks but the first: "none" | "batch" | "layer".
        dtype: of the arithmetic.
    """

    channels: Sequence[int]
    norm: str = "none"
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """f32[B, H, W, C] -> [B, F]."""
        for i, features in enumerate(self.channels):
            x = DownBlock(features, self.norm if i else "none", first=i == 0, dtype=self.dtype)(x, train)
        x = DownBlock(self.channels[-1], self.norm, shrink=False, dtype=self.dtype)(x, train)
        return jnp.sum(nn.relu(x), axis=(1, 2))
