"""StyleGAN2's networks: styles scale what goes into a convolution, and demodulation takes the scale out again.

Nothing grows here. The generator adds up the images of all sizes (skips), the discriminator's blocks are residual.

Reference: Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", sections 2 to 4 and appendix B;
their code, where the paper leaves something open.
"""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from genlab.networks.conv import conv2d, conv_transpose2d
from genlab.networks.discriminators import leaky_relu
from genlab.networks.equalised import Equalised, EqualisedConv, EqualisedDense
from genlab.networks.progressive import judged, sides
from genlab.networks.resampling import downsample_smooth, smooth, upsample_smooth

Array = jax.Array


def activation(x: Array) -> Array:
    """Leaky relu times sqrt(2), which keeps the variance."""
    return math.sqrt(2.0) * leaky_relu(x)


def demodulation(kernel: Array, style: Array) -> Array:
    """What each output of a modulated convolution is divided by, inverted.

    Args:
        kernel: f32[k, k, C, F].
        style: f32[B, C], by which the inputs are scaled.

    Returns:
        f32[B, F], 1 / sqrt(sum_{k, k, c} (kernel style)^2 + 1e-8): with it the weights of every output have norm 1.

    Reference: equation 3.
    """
    norms = jnp.sum(jnp.square(kernel), axis=(0, 1))  # [C, F]
    return jax.lax.rsqrt(jnp.square(style) @ norms + 1e-8)


class ModulatedConv(nn.Module):
    """A convolution whose inputs are scaled by a style, demodulated.

    The style scales the image and not the kernel, which is the same and is one convolution for all examples.

    Attributes:
        features: F.
        size: side of the kernel.
        demodulate: not where images are made.
        enlarge: a transposed convolution of stride 2, then a smoothing filter.
        dtype: of the arithmetic; the demodulation is float32.
    """

    features: int
    size: int = 3
    demodulate: bool = True
    enlarge: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, style: Array) -> Array:
        """[B, H, W, C], w f32[B, D] -> [B, H, W, F], or twice as high and wide."""
        width = x.shape[-1]
        shape = (self.size, self.size, width, self.features)
        kernel = self.param("kernel", nn.initializers.normal(1.0), shape) / math.sqrt(self.size**2 * width)
        style = EqualisedDense(width, 1.0, bias=1.0, name="affine")(style)  # [B, C]
        x, scale, weights = promote_dtype(x, style, kernel, dtype=self.dtype)
        x = x * scale[:, None, None]
        if self.enlarge:
            # twice as many zeros in between as pixels: the filter's sum is 2 along either axis
            x = 4.0 * smooth(conv_transpose2d(x, weights, 2, "VALID"), 1, 1, "constant")
        else:
            x = conv2d(x, weights)
        if self.demodulate:
            x = x * demodulation(kernel, style).astype(x.dtype)[:, None, None]
        return x


class StyledConv(nn.Module):
    """A modulated convolution, noise, a bias and an activation.

    Attributes:
        features, enlarge, dtype: of `ModulatedConv`.
    """

    features: int
    enlarge: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, style: Array, noise: Array) -> Array:
        """[B, H, W, C], w f32[B, D], noise f32[B or 1, H', W', 1] -> [B, H', W', F]."""
        x = ModulatedConv(self.features, enlarge=self.enlarge, dtype=self.dtype)(x, style)
        strength = self.param("strength", nn.initializers.zeros, ())
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return activation(x + strength.astype(x.dtype) * noise.astype(x.dtype) + bias.astype(x.dtype))


class ToImage(nn.Module):
    """A modulated 1x1 convolution, without demodulation.

    Attributes:
        features: channels of the images.
        dtype: of the arithmetic; images are float32.
    """

    features: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, style: Array) -> Array:
        """[B, H, W, C], w f32[B, D] -> f32[B, H, W, F]."""
        x = ModulatedConv(self.features, 1, demodulate=False, dtype=self.dtype)(x, style)
        return x.astype(jnp.float32) + self.param("bias", nn.initializers.zeros, (self.features,))


class SkipGenerator(nn.Module):
    """From a learned constant on; what every size draws is enlarged and added to the next one's.

    Attributes:
        channels: widths at 4x4, 8x8 and so on; the last is that of the images.
        image_channels: of the images.
        dtype: of the arithmetic; images are float32.
    """

    channels: Sequence[int]
    image_channels: int
    dtype: Any = None

    def noise_sides(self, resolution: int) -> list[int]:
        """Of every layer: 4, 8, 8, 16, 16, ..."""
        return [side for side in sides(self.channels) if side <= resolution for _ in range(1 if side == 4 else 2)]

    @nn.compact
    def __call__(self, styles: Array, noise: Sequence[Array]) -> Array:
        """w of every layer f32[B, L, D], noise of every layer f32[B or 1, h, w, 1] -> images f32[B, r, r, C].

        There are L = 2 log2(r) - 2 styles; that of an image is also the next layer's, of which there is one less.
        """
        first, *widths = self.channels
        to_image = lambda x, layer, side: ToImage(self.image_channels, self.dtype, name=f"to_image_{side}")(
            x, styles[:, layer]
        )
        constant = self.param("constant", nn.initializers.normal(1.0), (4, 4, first))
        x = jnp.broadcast_to(constant.astype(self.dtype or jnp.float32), (styles.shape[0], 4, 4, first))
        x = StyledConv(first, dtype=self.dtype, name="conv_4")(x, styles[:, 0], noise[0])
        image = to_image(x, 1, 4)
        layer = 1
        for side, width in zip(sides(self.channels)[1:], widths, strict=True):
            x = StyledConv(width, True, self.dtype, name=f"grow_{side}")(x, styles[:, layer], noise[layer])
            x = StyledConv(width, dtype=self.dtype, name=f"conv_{side}")(x, styles[:, layer + 1], noise[layer + 1])
            image = upsample_smooth(image) + to_image(x, layer + 2, side)
            layer += 2
        return image


class ShrinkingConv(Equalised):
    """A smoothing filter and a 3x3 convolution of stride 2."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, H, W, C] -> [B, H / 2, W / 2, F]."""
        x, kernel, bias = self.scaled(smooth(x, 2, 2), (3, 3))
        return conv2d(x, kernel, 2, "VALID") + bias


class ResidualDiscriminator(nn.Module):
    """Residual blocks that halve the image, then the minibatch's deviation and dense layers.

    Attributes:
        channels: as of the generator.
        stddev_group: examples of a group of `minibatch_stddev`; 0: none.
        dtype: of the arithmetic; logits are float32.
    """

    channels: Sequence[int]
    stddev_group: int = 4
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Images f32[B, r, r, C] -> logits f32[B]."""
        widths = self.channels[::-1]
        x = activation(EqualisedConv(widths[0], 1.0, size=1, dtype=self.dtype, name="from_image")(x))
        for side, width, narrower in zip(sides(self.channels)[:0:-1], widths, widths[1:], strict=False):
            skip = EqualisedConv(
                narrower, 1.0, size=1, use_bias=False, dtype=self.dtype, name=f"skip_{side}"
            )(downsample_smooth(x))  # fmt: skip
            x = activation(EqualisedConv(width, 1.0, dtype=self.dtype, name=f"conv_{side}")(x))
            x = activation(ShrinkingConv(narrower, 1.0, dtype=self.dtype, name=f"shrink_{side}")(x))
            x = math.sqrt(0.5) * (x + skip)
        return judged(x, self.stddev_group, 1.0, activation, self.dtype)
