"""Dense stacks: from a flat or image-shaped example to features, and back."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genlab.networks.variables import takes_train

Array = jax.Array


class MLP(nn.Module):
    """Dense layers with an activation after each; the input is flattened to [B, D].

    Attributes:
        features: widths of the layers; none gives the flattened input.
        activation: elementwise, after every layer; or `nn.glu`, which gates one half of a layer, made twice as wide, by
            the sigmoid of the other.
        dtype: of the arithmetic; parameters are float32.
    """

    features: Sequence[int]
    activation: Callable[[Array], Array] = nn.relu
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, ...] -> [B, features[-1]]."""
        x = x.reshape(x.shape[0], -1)  # [B, D]
        for width in self.features:
            x = self.activation(nn.Dense(width * (2 if self.activation is nn.glu else 1), dtype=self.dtype)(x))
        return x


MAX_LOG_VAR = 30.0  # in magnitude; far from what it was trained on, an encoder would overflow


class GaussianHead(nn.Module):
    """A trunk, then one dense layer for mean and log-variance of a diagonal Gaussian, side by side.

    Attributes:
        trunk: [B, ...] -> [B, F].
        dim: D, the size of the code.
        dtype: of the arithmetic; the outputs are float32.
    """

    trunk: nn.Module
    dim: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> tuple[Array, Array]:
        """[B, ...] -> mean f32[B, D], log sigma^2 f32[B, D] in [-30, 30]."""
        features = self.trunk(x, train=train) if takes_train(self.trunk) else self.trunk(x)
        both = nn.Dense(2 * self.dim, dtype=self.dtype)(features).astype(jnp.float32)
        mean, log_var = jnp.split(both, 2, axis=-1)
        return mean, jnp.clip(log_var, -MAX_LOG_VAR, MAX_LOG_VAR)


class DenseDecoder(nn.Module):
    """A dense stack from a code to the outputs of a likelihood, shaped as the event.

    Attributes:
        features: widths of the hidden layers.
        output_shape: of one example's outputs, such as (H, W, C * outputs per pixel).
        activation: after every hidden layer, as in `MLP`.
        bias_init: of the output layer.
        dtype: of the arithmetic; the output is float32.
    """

    features: Sequence[int]
    output_shape: Sequence[int]
    activation: Callable[[Array], Array] = nn.relu
    bias_init: Callable[..., Array] = nn.initializers.zeros
    dtype: Any = None

    @nn.compact
    def __call__(self, codes: Array) -> Array:
        """f32[B, D] -> f32[B, *output_shape]."""
        size = 1
        for length in self.output_shape:
            size *= length
        hidden = MLP(self.features, self.activation, self.dtype)(codes)
        outputs = nn.Dense(size, dtype=self.dtype, bias_init=self.bias_init)(hidden)
        return outputs.astype(jnp.float32).reshape(codes.shape[0], *self.output_shape)


class SharedVariance(nn.Module):
    """A decoder of means, and beside them one learned log sigma^2 that all dimensions share.

    Attributes:
        network: codes [B, D] -> means f32[B, ..., C].
    """

    network: nn.Module

    @nn.compact
    def __call__(self, codes: Array) -> Array:
        """f32[B, D] -> f32[B, ..., 2 C]: means, then log sigma^2."""
        means = self.network(codes)
        log_var = self.param("log_var", nn.initializers.zeros, ())
        return jnp.concatenate([means, jnp.broadcast_to(log_var, means.shape)], axis=-1)
