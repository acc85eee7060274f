"""Images to small grids of vectors, and grids of vectors to images, by convolutions alone."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genlab.errors import InputError
from genlab.networks.conv import Conv, ConvTranspose

Array = jax.Array


def grid_shape(image_shape: Sequence[int], num_halvings: int) -> tuple[int, int]:
    """(h, w) of the grid that images (H, W, C) become.

    Raises:
        InputError: height or width that cannot be halved so often.
    """
    height, width = image_shape[:2]
    factor = 2**num_halvings
    if height % factor or width % factor:
        raise InputError(
            f"{num_halvings} convolutions of stride 2 need images whose sides are divisible by {factor}; "
            f"these are {height}x{width}"
        )
    return height // factor, width // factor


class Residual(nn.Module):
    """x + conv1x1(relu(conv3x3(relu(x)))), the block of van den Oord et al. 2017, section 4.1.

    Attributes:
        features: between the two convolutions.
        activation: elementwise, in the place of relu.
        dtype: of the arithmetic.
    """

    features: int
    activation: Callable[[Array], Array] = nn.relu
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """f[B, h, w, C] -> f[B, h, w, C]."""
        y = Conv(self.features, (3, 3), dtype=self.dtype)(self.activation(x))
        return x + Conv(x.shape[-1], (1, 1), dtype=self.dtype)(self.activation(y))


class GridEncoder(nn.Module):
    """Convolutions 4x4 of stride 2, residual blocks, and a vector at every place.

    Attributes:
        channels: of the strided convolutions; each halves height and width.
        dim: D, of the vectors.
        num_residual: blocks, half as wide as the last convolution.
        activation: elementwise, after every strided convolution.
        dtype: of the arithmetic; the vectors are float32.
    """

    channels: Sequence[int]
    dim: int
    num_residual: int = 0
    activation: Callable[[Array], Array] = nn.relu
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """f32[B, H, W, C] -> f32[B, h, w, D]."""
        for width in self.channels:
            x = self.activation(Conv(width, (4, 4), strides=(2, 2), dtype=self.dtype)(x))
        for _ in range(self.num_residual):
            x = Residual(max(x.shape[-1] // 2, 1), self.activation, self.dtype)(x)
        return Conv(self.dim, (1, 1), dtype=self.dtype, name="vectors")(x).astype(jnp.float32)


class GridDecoder(nn.Module):
    """The mirror of `GridEncoder`: a convolution 3x3, residual blocks, transposed convolutions 4x4 of stride 2.

    Attributes:
        channels: of what the transposed convolutions see; each doubles height and width.
        outputs: channels of the image.
        num_residual, activation, dtype: as in `GridEncoder`; the output is float32.
    """

    channels: Sequence[int]
    outputs: int
    num_residual: int = 0
    activation: Callable[[Array], Array] = nn.relu
    dtype: Any = None

    @nn.compact
    def __call__(self, codes: Array) -> Array:
        """f32[B, h, w, D] -> f32[B, H, W, outputs]."""
        x = Conv(self.channels[0], (3, 3), dtype=self.dtype)(codes)
        for _ in range(self.num_residual):
            x = Residual(max(x.shape[-1] // 2, 1), self.activation, self.dtype)(x)
        x = self.activation(x)
        for width in self.channels[1:]:
            x = self.activation(ConvTranspose(width, (4, 4), strides=(2, 2), dtype=self.dtype)(x))
        return ConvTranspose(self.outputs, (4, 4), strides=(2, 2), dtype=self.dtype)(x).astype(jnp.float32)
