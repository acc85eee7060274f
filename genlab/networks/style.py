"""StyleGAN's generator: a code says at every size how the features are to look, and noise what is left to chance.

A mapping makes an intermediate code w of z. At every layer an affine function of w, the style, sets mean and standard
deviation of each feature map. Layers are numbered from 0: two for every size, L = 2 log2(r) - 2 up to the size r.

Reference: Karras et al. 2019, "A style-based generator architecture for generative adversarial networks", section 2 and
appendix C; their code, where the paper leaves something open.
"""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genlab.networks.discriminators import leaky_relu
from genlab.networks.equalised import EqualisedConv, EqualisedDense
from genlab.networks.progressive import fade, pixel_norm, sides
from genlab.networks.resampling import blur, upsample_nearest

Array = jax.Array
Key = jax.Array

MAPPING_RATE = 0.01


class Mapping(nn.Module):
    """Dense layers from z to w, their learning rate a hundredth of the others'.

    Attributes:
        features: of every layer and of w.
        num_layers: dense layers.
        gain: of their weights.
        scale: what leaky relu's output is multiplied by.
    """

    features: int
    num_layers: int = 8
    gain: float = math.sqrt(2.0)
    scale: float = 1.0

    @nn.compact
    def __call__(self, codes: Array) -> Array:
        """z f32[B, D] -> w f32[B, F]."""
        x = pixel_norm(codes)
        for _ in range(self.num_layers):
            x = self.scale * leaky_relu(EqualisedDense(self.features, self.gain, MAPPING_RATE)(x))
        return x


def num_layers(resolution: int) -> int:
    """L, of a generator of such images: 2 at 4x4, 8 at 32x32."""
    return 2 * int(math.log2(resolution)) - 2


def draw_noise(key: Key, num: int, sizes: Sequence[int]) -> list[Array]:
    """What is left to chance in `num` images: N(0, 1) f32[num, side, side, 1] for each layer.

    That of a layer does not depend on how many more there are.
    """
    return [jax.random.normal(jax.random.fold_in(key, layer), (num, side, side, 1)) for layer, side in enumerate(sizes)]


def instance_norm(x: Array) -> Array:
    """[B, H, W, C] with mean 0 and deviation 1 over H and W, of every image and channel alone; in float32."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    wide = wide - jnp.mean(wide, axis=(1, 2), keepdims=True)
    return (wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=(1, 2), keepdims=True) + 1e-8)).astype(x.dtype)


def adain(x: Array, scale: Array, shift: Array) -> Array:
    """Adaptive instance normalisation, equation 1: [B, H, W, C] with this deviation and mean f[B, C] of a channel."""
    return instance_norm(x) * scale[:, None, None] + shift[:, None, None]


class Style(nn.Module):
    """What follows every convolution: noise, bias, leaky relu, adaptive instance normalisation.

    Attributes:
        dtype: of the arithmetic.
    """

    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, style: Array, noise: Array) -> Array:
        """[B, H, W, C], w f32[B, D] and noise f32[B, H, W, 1] -> [B, H, W, C]."""
        width = x.shape[-1]
        strength, bias = (self.param(name, nn.initializers.zeros, (width,)) for name in ("strength", "bias"))
        x = leaky_relu(x + noise.astype(x.dtype) * strength.astype(x.dtype) + bias.astype(x.dtype))
        parameters = EqualisedDense(2 * width, 1.0, dtype=self.dtype, name="affine")(style).astype(x.dtype)
        scale, shift = jnp.split(parameters, 2, axis=-1)
        return adain(x, 1.0 + scale, shift)


class StyleGenerator(nn.Module):
    """Growing layers from a learned constant on, each with a style and noise of its own.

    Attributes:
        channels: widths at 4x4, 8x8 and so on; the last is that of the images.
        image_channels: of the images.
        dtype: of the arithmetic; images are float32.
    """

    channels: Sequence[int]
    image_channels: int
    dtype: Any = None

    def noise_sides(self, resolution: int) -> list[int]:
        """Of every layer up to a resolution: 4, 4, 8, 8, ..."""
        return [side for side in sides(self.channels) if side <= resolution for _ in range(2)]

    @nn.compact
    def __call__(
        self, styles: Array, noise: Sequence[Array], resolution: int | None = None, alpha: Array | float = 1.0
    ) -> Array:
        """Images f32[B, r, r, C].

        Args:
            styles: w of every layer, f32[B, L, D], or of more.
            noise: of every layer, f32[B or 1, h, w, 1]; see `draw_noise` and `noise_sides`.
            resolution: r; None: the last size.
            alpha: of the layers of r, see `genlab.networks.progressive`.
        """
        first, *widths = self.channels

        def styled(x: Array, layer: int) -> Array:
            return Style(self.dtype, name=f"style_{layer}")(x, styles[:, layer], noise[layer])

        def to_image(x: Array, side: int) -> Array:
            conv = EqualisedConv(self.image_channels, 1.0, size=1, dtype=self.dtype, name=f"to_image_{side}")
            return conv(x).astype(jnp.float32)

        def conv(x: Array, width: int, name: str) -> Array:
            return EqualisedConv(width, use_bias=False, dtype=self.dtype, name=name)(x)

        constant = self.param("constant", nn.initializers.ones, (4, 4, first))
        x = jnp.broadcast_to(constant.astype(self.dtype or jnp.float32), (styles.shape[0], 4, 4, first))
        x = styled(x, 0)
        x = styled(conv(x, first, "conv_4"), 1)
        image = to_image(x, 4)
        for number, (side, width) in enumerate(zip(sides(self.channels)[1:], widths, strict=True), 1):
            if resolution is not None and side > resolution:
                break
            old = upsample_nearest(image)
            x = styled(blur(conv(upsample_nearest(x), width, f"grow_{side}")), 2 * number)
            x = styled(conv(x, width, f"conv_{side}"), 2 * number + 1)
            image = to_image(x, side)
            if side == (resolution or 4 << len(widths)):
                image = fade(old, image, alpha)
        return image
