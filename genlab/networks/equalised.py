"""Layers of equalised learning rate: weights are drawn from N(0, 1) and scaled when they are used.

    y = c W x + m b,    c = gain m / sqrt(fan-in),    W ~ N(0, 1 / m^2),    b = 0

An optimizer that scales its steps by the gradients' size, as Adam does, then moves every layer's weights by the same
share of their standard deviation. m, the rate, slows a layer down: with m = 0.01 W is a hundred times as large and its
steps are not.

Reference: Karras et al. 2018, "Progressive growing of GANs", section 4.1; Karras et al. 2019 (StyleGAN), appendix C,
for the rate.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from genlab.networks.conv import conv2d

Array = jax.Array


class Equalised(nn.Module):
    """What the layers share: the scaled kernel and bias.

    Attributes:
        features: of the output.
        gain: of the kernel; sqrt(2) before a rectifier keeps the variance (He et al. 2015).
        rate: m.
        use_bias: whether a bias is added.
        bias: what m b is at first.
        dtype: of the arithmetic; parameters are float32.
    """

    features: int
    gain: float = math.sqrt(2.0)
    rate: float = 1.0
    use_bias: bool = True
    bias: float = 0.0
    dtype: Any = None

    def scaled(self, x: Array, window: tuple[int, ...] = ()) -> tuple[Array, Array, Array]:
        """(x, c W f[*window, C, F], m b f[F]) of one type; to be called in a compact method."""
        shape = (*window, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.normal(1.0 / self.rate), shape)
        scale = self.gain * self.rate / math.sqrt(math.prod(shape[:-1]))
        bias = jnp.zeros(self.features)
        if self.use_bias:
            start = nn.initializers.constant(self.bias / self.rate)
            bias = self.rate * self.param("bias", start, (self.features,))
        x, kernel, bias = promote_dtype(x, scale * kernel, bias, dtype=self.dtype)
        return x, kernel, bias


class EqualisedDense(Equalised):
    """A dense layer."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., C] -> [..., F]."""
        x, kernel, bias = self.scaled(x)
        return x @ kernel + bias


class EqualisedConv(Equalised):
    """A convolution that keeps height and width.

    Attributes:
        size: side of the kernel.
    """

    size: int = 3

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, H, W, C] -> [B, H, W, F]."""
        x, kernel, bias = self.scaled(x, (self.size, self.size))
        return conv2d(x, kernel) + bias
