"""Coupling layers: one part of the numbers is changed, by a bijection whose parameters are made of the other part."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from genlab.bijections.affine import affine, affine_inverse
from genlab.bijections.spline import make_spline, rational_quadratic, rational_quadratic_inverse
from genlab.networks.conv import Conv

Array = jax.Array

TRANSFORMS = ("additive", "affine", "spline")
PARTS = ("alternating", "half", "checkerboard", "channels")


def num_parameters(transform: str, num_bins: int) -> int:
    """P, of one element."""
    return {"additive": 1, "affine": 2, "spline": 3 * num_bins - 1}[transform]


def kept_part(kind: str, parity: int, shape: Sequence[int]) -> np.ndarray:
    """bool[*shape], what a coupling layer is shown and leaves as it is.

    Args:
        kind: "alternating", every other number of a vector; "half", the first or the second; "checkerboard", every
            other place of an image; "channels", half of them at every place.
        parity: 0 or 1, which of the two.
        shape: of an example.
    """
    if kind in ("alternating", "half", "channels"):
        size = shape[-1]
        index = np.arange(size) % 2 if kind == "alternating" else np.arange(size) >= (size + 1) // 2
    elif kind == "checkerboard":
        height, width, _ = shape
        index = ((np.arange(height)[:, None] + np.arange(width)) % 2)[:, :, None]
    else:
        raise ValueError(f"part is {kind!r}; it must be one of {', '.join(PARTS)}")
    return np.broadcast_to(index == parity, tuple(shape))


class Coupling(nn.Module):
    """z_kept = x_kept; z_rest = g(x_rest; parameters(x_kept)).

    Attributes:
        conditioner: (f32[B, ...] with zeros where the rest is, context) -> f32[B, ..., P].
        part: which numbers are kept, see `kept_part`.
        parity: 0 or 1.
        transform: "additive" (NICE) | "affine" (RealNVP) | "spline".
        num_bins, bound: of a spline.

    Reference: Dinh et al. 2015 (NICE), equation 2; Dinh et al. 2017 (RealNVP), equations 7 to 9; Durkan et al. 2019.
    """

    conditioner: nn.Module
    part: str = "alternating"
    parity: int = 0
    transform: str = "affine"
    num_bins: int = 8
    bound: float = 3.0

    def __call__(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        """f32[B, ...] -> the same, and log |det| f32[B]."""
        return self._change(x, context, affine, rational_quadratic)

    def inverse(self, z: Array, context: Array | None = None) -> tuple[Array, Array]:
        """Back."""
        return self._change(z, context, affine_inverse, rational_quadratic_inverse)

    def _change(
        self, x: Array, context: Array | None, by_affine: Callable[..., Any], by_spline: Callable[..., Any]
    ) -> tuple[Array, Array]:
        kept = jnp.asarray(kept_part(self.part, self.parity, x.shape[1:]))
        parameters = self.conditioner(jnp.where(kept, x, 0), context)
        # zeros make every transform the identity, whose log-determinant is 0
        parameters = jnp.where(kept[..., None], 0, parameters)
        y, log_det = transformed(x, parameters, self.transform, self.bound, by_affine, by_spline)
        return jnp.where(kept, x, y), log_det


def transformed(
    x: Array, parameters: Array, transform: str, bound: float, by_affine: Callable[..., Any],
    by_spline: Callable[..., Any],
) -> tuple[Array, Array]:  # fmt: skip
    """What a bijection with these parameters f32[B, ..., P] makes of x f32[B, ...], and its log-determinant f32[B]."""
    if transform not in TRANSFORMS:
        raise ValueError(f"transform is {transform!r}; it must be one of {', '.join(TRANSFORMS)}")
    if transform == "spline":
        return by_spline(x, make_spline(parameters, bound))
    if transform == "additive":
        return by_affine(x, jnp.zeros((), x.dtype), parameters[..., 0])
    return by_affine(x, parameters[..., 0], parameters[..., 1])


class DenseConditioner(nn.Module):
    """Dense layers, and P numbers for each element; zeros at first, so that the flow begins as the identity.

    Attributes:
        features: widths of the hidden layers.
        num_outputs: P.
        log_scale_bound: the first of each P is a log-scale, held within this by tanh; 0: it is not.
        activation: elementwise.
        dtype: of the arithmetic.
    """

    features: Sequence[int]
    num_outputs: int
    log_scale_bound: float = 0.0
    activation: Callable[[Array], Array] = nn.relu
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, context: Array | None = None) -> Array:
        """f32[B, ...] -> f32[B, ..., P]."""
        hidden = x.reshape(x.shape[0], -1)  # [B, D]
        if context is not None:
            hidden = jnp.concatenate([hidden, context], axis=-1)
        for width in self.features:
            hidden = self.activation(nn.Dense(width, dtype=self.dtype)(hidden))
        out = nn.Dense(x[0].size * self.num_outputs, kernel_init=nn.initializers.zeros, dtype=self.dtype)(hidden)
        return bounded(
            out.astype(jnp.promote_types(out.dtype, jnp.float32)).reshape(*x.shape, self.num_outputs),
            self.log_scale_bound,
        )


class ConvConditioner(nn.Module):
    """A residual network of 3x3 convolutions at the image's size, and P numbers for each element; zeros at first.

    Attributes:
        channels: of the hidden layers.
        num_blocks: of two convolutions each.
        num_outputs, log_scale_bound: as in `DenseConditioner`.
        activation: elementwise.
        dtype: of the arithmetic.

    Reference: Dinh et al. 2017, section 4.1, without its normalisation of batches.
    """

    channels: int
    num_blocks: int
    num_outputs: int
    log_scale_bound: float = 0.0
    activation: Callable[[Array], Array] = nn.relu
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, context: Array | None = None) -> Array:
        """f32[B, H, W, C] -> f32[B, H, W, C, P]."""
        hidden = x
        if context is not None:
            planes = jnp.broadcast_to(context[:, None, None], (*x.shape[:3], context.shape[-1]))
            hidden = jnp.concatenate([hidden, planes], axis=-1)
        hidden = Conv(self.channels, (3, 3), dtype=self.dtype)(hidden)
        for _ in range(self.num_blocks):
            inner = Conv(self.channels, (3, 3), dtype=self.dtype)(self.activation(hidden))
            hidden = hidden + Conv(self.channels, (3, 3), dtype=self.dtype)(self.activation(inner))
        out = Conv(x.shape[-1] * self.num_outputs, (3, 3), kernel_init=nn.initializers.zeros, dtype=self.dtype)(
            self.activation(hidden)
        )
        return bounded(
            out.astype(jnp.promote_types(out.dtype, jnp.float32)).reshape(*x.shape, self.num_outputs),
            self.log_scale_bound,
        )


def bounded(parameters: Array, log_scale_bound: float) -> Array:
    """The same f32[..., P], the first of each P between minus and plus the bound, if that is not 0."""
    if not log_scale_bound:
        return parameters
    first = log_scale_bound * jnp.tanh(parameters[..., :1] / log_scale_bound)
    return jnp.concatenate([first, parameters[..., 1:]], axis=-1)
