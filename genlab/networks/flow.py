"""Bijections with parameters, from data to noise: each maps x to z with log |det dz / dx|, and back.

    log p(x) = log p(z) + log |det dz / dx|

All take a context, what the density is conditioned on, and most have no use for it.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from genlab.bijections.affine import affine, affine_inverse
from genlab.bijections.linear import LU, decompose, linear, linear_inverse
from genlab.bijections.squeeze import squeeze, unsqueeze

Array = jax.Array


class Chain(nn.Module):
    """Bijections one after the other.

    Attributes:
        layers: the first is the data's.
    """

    layers: Sequence[nn.Module]

    def __call__(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        """x f32[B, ...] -> z f32[B, ...] and log |det dz / dx| f32[B]."""
        total = jnp.zeros(x.shape[0], x.dtype)
        for layer in self.layers:
            x, log_det = layer(x, context)
            total = total + log_det
        return x, total

    def inverse(self, z: Array, context: Array | None = None) -> tuple[Array, Array]:
        """z f32[B, ...] -> x f32[B, ...] and log |det dx / dz| f32[B]."""
        total = jnp.zeros(z.shape[0], z.dtype)
        for layer in self.layers[::-1]:
            z, log_det = layer.inverse(z, context)
            total = total + log_det
        return z, total


class ActNorm(nn.Module):
    """Scale and shift of every channel, such that the batch they are initialised with has mean 0 and variance 1.

    Reference: Kingma & Dhariwal 2018 (Glow), section 3.1.
    """

    def __call__(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        """f32[B, ..., C] -> the same, and log |det| f32[B]."""
        log_scale, shift = self.parameters(x)
        return affine(x, log_scale, shift)

    def inverse(self, z: Array, context: Array | None = None) -> tuple[Array, Array]:
        """Back."""
        log_scale, shift = self.parameters(z)
        return affine_inverse(z, log_scale, shift)

    @nn.compact
    def parameters(self, x: Array) -> tuple[Array, Array]:
        """(log of the scale, shift) f32[C]."""
        axes = tuple(range(x.ndim - 1))

        def log_scale_of(key: Array) -> Array:
            return -0.5 * jnp.log(jnp.var(x, axis=axes) + 1e-6)

        log_scale = self.param("log_scale", log_scale_of)
        return log_scale, self.param("shift", lambda key: -jnp.mean(x, axis=axes) * jnp.exp(log_scale))


class Permutation(nn.Module):
    """The last axis in another order.

    Attributes:
        kind: "reverse" | "random".
        seed: of a random one, which is fixed.
    """

    kind: str = "reverse"
    seed: int = 0

    def order(self, size: int) -> np.ndarray:
        """i64[size]."""
        if self.kind == "random":
            return np.random.default_rng(self.seed).permutation(size)
        return np.arange(size)[::-1]

    def __call__(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        """f32[B, ..., C] -> the same, and 0."""
        return x[..., self.order(x.shape[-1])], jnp.zeros(x.shape[0], x.dtype)

    def inverse(self, z: Array, context: Array | None = None) -> tuple[Array, Array]:
        """Back."""
        return z[..., np.argsort(self.order(z.shape[-1]))], jnp.zeros(z.shape[0], z.dtype)


class InvertibleLinear(nn.Module):
    """An invertible 1x1 convolution, which mixes the channels; it begins as a random rotation.

    Attributes:
        seed: of the rotation.

    Reference: Kingma & Dhariwal 2018 (Glow), section 3.2: permutation and signs stay as they are.
    """

    seed: int = 0

    def __call__(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        """f32[B, ..., C] -> the same, and log |det| f32[B]."""
        return linear(x, self.factors(x.shape[-1]))

    def inverse(self, z: Array, context: Array | None = None) -> tuple[Array, Array]:
        """Back."""
        return linear_inverse(z, self.factors(z.shape[-1]))

    @nn.compact
    def factors(self, size: int) -> LU:
        """Of the matrix f32[size, size]."""
        normals = np.random.default_rng(self.seed).normal(size=(size, size))
        start = decompose(np.linalg.qr(normals)[0])
        lower = self.param("lower", lambda key: start.lower)
        upper = self.param("upper", lambda key: start.upper)
        return start._replace(lower=lower, upper=upper, log_scale=self.param("log_scale", lambda key: start.log_scale))


class MultiScale(nn.Module):
    """Images in levels: at each, places become channels, a flow goes on, and half of the channels is done.

    Attributes:
        levels: flows of [B, H / 2^l, W / 2^l, 4 C, 8 C, ...], as many as there are levels.
        shape: (H, W, C) of the images; every level halves height and width.
        priors: of all levels but the last; the half that is done is normalised by what its network makes of the half
            that is not: [B, h, w, c] -> f32[B, h, w, c, 2]. None: it is left as it is.
        before: flows of every level's images as they come, before places become channels; None: there are none.

    Reference: Dinh et al. 2017 (RealNVP), section 3.6; Kingma & Dhariwal 2018, whose code has the priors.
    """

    levels: Sequence[nn.Module]
    shape: Sequence[int]
    priors: Sequence[nn.Module] | None = None
    before: Sequence[nn.Module] | None = None

    def __call__(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        """f32[B, H, W, C] -> f32[B, H W C] and log |det| f32[B]."""
        total, done = jnp.zeros(x.shape[0], x.dtype), []
        for number, level in enumerate(self.levels):
            if self.before is not None:
                x, log_det = self.before[number](x, context)
                total = total + log_det
            x, log_det = level(squeeze(x), context)
            total = total + log_det
            if number + 1 < len(self.levels):
                x, rest = jnp.split(x, 2, axis=-1)
                if self.priors is not None:
                    log_scale, mean = self._prior(number, x, context)
                    rest, log_det = affine_inverse(rest, log_scale, mean)
                    total = total + log_det
                done.append(rest.reshape(rest.shape[0], -1))
        return jnp.concatenate([*done, x.reshape(x.shape[0], -1)], axis=1), total

    def inverse(self, z: Array, context: Array | None = None) -> tuple[Array, Array]:
        """f32[B, H W C] -> f32[B, H, W, C] and log |det| f32[B]."""
        total, (height, width, channels) = jnp.zeros(z.shape[0], z.dtype), self.shape
        last = len(self.levels) - 1
        # of what is done after n levels: height and width halved n times, two channels for one each time
        sizes = [(height >> n, width >> n, channels << n) for n in range(1, last + 1)]
        ends = np.cumsum([h * w * c for h, w, c in sizes])
        *done, x = jnp.split(z, ends, axis=1)
        x = x.reshape(-1, height >> last + 1, width >> last + 1, channels << last + 2)
        for number in range(last, -1, -1):
            if number < last:
                rest = done[number].reshape(-1, *sizes[number])
                if self.priors is not None:
                    log_scale, mean = self._prior(number, x, context)
                    rest, log_det = affine(rest, log_scale, mean)
                    total = total + log_det
                x = jnp.concatenate([x, rest], axis=-1)
            x, log_det = self.levels[number].inverse(x, context)
            total, x = total + log_det, unsqueeze(x)
            if self.before is not None:
                before: Any = self.before[number]
                x, log_det = before.inverse(x, context)
                total = total + log_det
        return x, total

    def _prior(self, number: int, x: Array, context: Array | None) -> tuple[Array, Array]:
        """(log of the scale, mean) of the half that is done, given the other."""
        assert self.priors is not None
        parameters: Any = self.priors[number](x, context)
        return parameters[..., 0], parameters[..., 1]
