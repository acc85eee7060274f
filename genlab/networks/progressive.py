"""ProGAN's networks: both grow from 4x4 pixels on, and what was added last is faded in.

Both hold the parameters of every resolution from the start; at a stage of resolution r those above r are not looked at.
`alpha`, from 0 to 1, is the share of the newest layers in what comes out: at 0 it is the stage before, enlarged, and at
1 the new one alone.

Reference: Karras et al. 2018, "Progressive growing of GANs", sections 2 to 4 and table 2.
"""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genlab.networks.discriminators import leaky_relu
from genlab.networks.equalised import EqualisedConv, EqualisedDense
from genlab.networks.minibatch import minibatch_stddev
from genlab.networks.resampling import blur, downsample_mean, upsample_nearest

Array = jax.Array


def sides(channels: Sequence[int]) -> list[int]:
    """4, 8, ... for as many widths."""
    return [4 << number for number in range(len(channels))]


def pixel_norm(x: Array) -> Array:
    """f[..., C] divided by the root of the mean of squares over C, in float32 (section 4.2)."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + 1e-8)).astype(x.dtype)


def fade(old: Array, new: Array, alpha: Array | float) -> Array:
    """The two mixed; exactly `old` at 0 and exactly `new` at 1."""
    return (1.0 - jnp.asarray(alpha, new.dtype)) * old + jnp.asarray(alpha, new.dtype) * new


class ProgressiveGenerator(nn.Module):
    """Two convolutions at every size, the first after enlarging, each with leaky relu and pixel normalisation.

    Attributes:
        channels: widths at 4x4, 8x8 and so on; the last is that of the images.
        image_channels: of the images.
        dtype: of the arithmetic; images are float32.
    """

    channels: Sequence[int]
    image_channels: int
    dtype: Any = None

    @nn.compact
    def __call__(self, codes: Array, resolution: int | None = None, alpha: Array | float = 1.0) -> Array:
        """Codes f32[B, D] -> images f32[B, r, r, C], to be in [-1, 1]; nothing holds them there.

        Args:
            codes: z.
            resolution: r, one of the sizes; None: the last.
            alpha: of the layers of r; 4x4 has nothing to be faded with.
        """
        first, *widths = self.channels

        def normalised(x: Array) -> Array:
            return pixel_norm(leaky_relu(x))

        def to_image(x: Array, side: int) -> Array:
            conv = EqualisedConv(self.image_channels, 1.0, size=1, dtype=self.dtype, name=f"to_image_{side}")
            return conv(x).astype(jnp.float32)

        # the gain is that of a 4x4 convolution of the 1x1 image that the code is
        x = EqualisedDense(16 * first, math.sqrt(2.0) / 4, use_bias=False, dtype=self.dtype, name="dense_4")(
            pixel_norm(codes)
        )
        bias = self.param("bias_4", nn.initializers.zeros, (first,))
        x = normalised(x.reshape(-1, 4, 4, first) + bias.astype(x.dtype))  # [B, 4, 4, C]
        x = normalised(EqualisedConv(first, dtype=self.dtype, name="conv_4")(x))
        image = to_image(x, 4)
        for side, width in zip(sides(self.channels)[1:], widths, strict=True):
            if resolution is not None and side > resolution:
                break
            old = upsample_nearest(image)
            x = upsample_nearest(x)
            for name in ("grow", "conv"):
                x = normalised(EqualisedConv(width, dtype=self.dtype, name=f"{name}_{side}")(x))
            image = to_image(x, side)
            if side == (resolution or 4 << len(widths)):
                image = fade(old, image, alpha)
        return image


class ProgressiveDiscriminator(nn.Module):
    """The generator's mirror: two convolutions at every size and the mean of 2x2, at 4x4 the minibatch's deviation.

    Attributes:
        channels: as of the generator.
        stddev_group: examples of a group of `minibatch_stddev`; 0: none.
        smooth: a blur before every halving, as StyleGAN has it (Karras et al. 2019, appendix C).
        dtype: of the arithmetic; logits are float32.
    """

    channels: Sequence[int]
    stddev_group: int = 4
    smooth: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, alpha: Array | float = 1.0) -> Array:
        """Images f32[B, r, r, C] of any of the sizes r -> logits f32[B]."""
        resolution, widths = x.shape[1], dict(zip(sides(self.channels), self.channels, strict=True))
        # of images of every size, so that the first call makes all parameters; what nobody looks at is not computed
        from_image = {
            side: leaky_relu(
                EqualisedConv(width, size=1, dtype=self.dtype, name=f"from_image_{side}")(
                    downsample_mean(x, resolution // side)
                )
            )
            for side, width in widths.items()
            if side <= resolution
        }
        hidden = from_image[resolution]
        for side in sorted(from_image, reverse=True)[:-1]:
            conv = lambda width, name, side=side: EqualisedConv(width, dtype=self.dtype, name=f"{name}_{side}")
            hidden = leaky_relu(conv(widths[side], "conv")(hidden))
            hidden = blur(hidden) if self.smooth else hidden
            hidden = leaky_relu(downsample_mean(conv(widths[side // 2], "shrink")(hidden)))
            if side == resolution:
                hidden = fade(from_image[side // 2], hidden, alpha)
        return judged(hidden, self.stddev_group, math.sqrt(2.0), leaky_relu, self.dtype)


def judged(x: Array, stddev_group: int, gain: float, activation: Any, dtype: Any) -> Array:
    """What comes after the last halving, [B, 4, 4, C] -> logits f32[B]; to be called in a compact method."""
    width = x.shape[-1]
    x = minibatch_stddev(x, stddev_group) if stddev_group else x
    x = activation(EqualisedConv(width, gain, dtype=dtype, name="conv_4")(x))
    x = x.reshape(x.shape[0], -1)  # [B, 16 C]
    x = activation(EqualisedDense(width, gain, dtype=dtype, name="dense_4")(x))
    return EqualisedDense(1, 1.0, dtype=dtype, name="logit")(x)[:, 0].astype(jnp.float32)
