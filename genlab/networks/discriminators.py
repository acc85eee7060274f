"""Discriminators of adversarial games: a trunk that looks at examples, and a head that says how real they are."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genlab.networks.conv import Conv
from genlab.networks.generators import NORMALS
from genlab.networks.minibatch import MinibatchDiscrimination, minibatch_stddev
from genlab.networks.variables import takes_train

Array = jax.Array


def leaky_relu(x: Array) -> Array:
    """Of slope 0.2 below zero, as DCGANs have it."""
    return nn.leaky_relu(x, 0.2)


def normalise(kind: str, x: Array, train: bool, dtype: Any) -> Array:
    """By the statistics of the "batch", of the example's own "layer", or "none"; to be called in a compact method."""
    if kind == "batch":
        return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype)(x)
    return nn.LayerNorm(dtype=dtype)(x) if kind == "layer" else x


class DenseTrunk(nn.Module):
    """Dense layers with leaky relu.

    Attributes:
        features: their widths.
        norm: between a layer and its activation: "none" | "batch" | "layer".
        activation: elementwise.
        dtype: of the arithmetic.
    """

    features: Sequence[int]
    norm: str = "none"
    activation: Callable[[Array], Array] = leaky_relu
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """[B, ...] -> [B, F]."""
        x = x.reshape(x.shape[0], -1)  # [B, D]
        for width in self.features:
            x = nn.Dense(width, use_bias=self.norm == "none", kernel_init=NORMALS, dtype=self.dtype)(x)
            x = self.activation(normalise(self.norm, x, train, self.dtype))
        return x


class MaxoutTrunk(nn.Module):
    """Dense layers whose units take the largest of several affine maps.

    Attributes:
        features: widths.
        pieces: affine maps a unit.
        dtype: of the arithmetic.

    Reference: Goodfellow et al. 2013, "Maxout networks"; as in the 2-D experiments of Lin et al. 2018 (PacGAN).
    """

    features: Sequence[int]
    pieces: int = 5
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, ...] -> [B, F]."""
        x = x.reshape(x.shape[0], -1)  # [B, D]
        for width in self.features:
            x = nn.Dense(self.pieces * width, kernel_init=NORMALS, dtype=self.dtype)(x)
            # the maximum of slices, whose gradient is a select: a reduction's divides by the number of largest, slowly
            x = jnp.max(x.reshape(-1, self.pieces, width), axis=1)  # [B, pieces, F] -> [B, F]
        return x


class DCGANTrunk(nn.Module):
    """5x5 convolutions of stride 2 with leaky relu, and batch normalisation in all but the first.

    Attributes:
        channels: of the convolutions; each halves height and width, rounded up.
        norm: of all but the first convolution: "batch" | "layer" | "none".
        dtype: of the arithmetic.

    Reference: Radford et al. 2016, section 3.
    """

    channels: Sequence[int]
    norm: str = "batch"
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """f32[B, H, W, C] -> [B, H', W', C']."""
        for i, width in enumerate(self.channels):
            bias = self.norm == "none" or i == 0
            x = Conv(width, (5, 5), strides=(2, 2), use_bias=bias, kernel_init=NORMALS, dtype=self.dtype)(x)
            x = leaky_relu(normalise(self.norm if i else "none", x, train, self.dtype))
        return x


class Quadratic(nn.Module):
    """The features x and x^2, in which the optimal discriminator between two Gaussians is linear."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """f32[B, D] -> f32[B, 2 D]."""
        return jnp.concatenate([x, jnp.square(x)], axis=-1)


class Discriminator(nn.Module):
    """A trunk and a head: one logit an example, positive where it looks real.

    An example may be a pack of M, and has then M labels (Lin et al. 2018).

    Attributes:
        trunk: [B, ...] -> features [B, F] or [B, H, W, F].
        conditioning: on labels, where they are given: "concatenation", one-hot beside the input, as constant planes of
            an image (Mirza & Osindero 2014), or "projection", the inner product of features and an embedding added to
            the logit (Miyato & Koyama 2018).
        num_classes: of the labels.
        num_kernels, kernel_dim: of minibatch discrimination on the features; no kernels, none.
        stddev_group: examples whose standard deviation is shown to one more layer before the head (Karras et al.
            2018); 0: none.
        dtype: of the arithmetic; the logits are float32.
    """

    trunk: nn.Module
    conditioning: str = "none"
    num_classes: int = 0
    num_kernels: int = 0
    kernel_dim: int = 5
    stddev_group: int = 0
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, label: Array | None = None, train: bool = False) -> Array:
        """x f32[B, ...], labels i32[B, M] or none -> logits f32[B]."""
        if self.conditioning == "concatenation":
            one_hot = jax.nn.one_hot(label, self.num_classes, dtype=x.dtype)  # [B, M, Y]
            one_hot = one_hot.reshape(x.shape[0], *(1,) * (x.ndim - 2), -1)  # [B, 1, 1, M Y]
            x = jnp.concatenate([x, jnp.broadcast_to(one_hot, (*x.shape[:-1], one_hot.shape[-1]))], axis=-1)
        x = self.trunk(x, train=train) if takes_train(self.trunk) else self.trunk(x)
        if self.stddev_group:
            width, x = x.shape[-1], minibatch_stddev(x, self.stddev_group)
            if x.ndim == 4:
                x = leaky_relu(Conv(width, (3, 3), kernel_init=NORMALS, dtype=self.dtype)(x))
            else:
                x = leaky_relu(nn.Dense(width, kernel_init=NORMALS, dtype=self.dtype)(x))
        features = x.reshape(x.shape[0], -1)  # [B, F]
        if self.num_kernels:
            x = MinibatchDiscrimination(self.num_kernels, self.kernel_dim, dtype=self.dtype)(features)
        else:
            x = features
        logits = nn.Dense(1, kernel_init=NORMALS, dtype=self.dtype)(x)[:, 0]
        if self.conditioning == "projection":
            embedded = nn.Embed(self.num_classes, features.shape[-1], embedding_init=NORMALS, dtype=self.dtype)(label)
            logits = logits + jnp.sum(jnp.sum(embedded, axis=1) * features, axis=-1)  # [B, M, F] -> [B, F] -> [B]
        return logits.astype(jnp.float32)
