"""Dense networks whose masks make output d a function of the inputs before d alone, in one or several orders."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype

Array = jax.Array

ORDERS = ("natural", "reversed", "random")


class MaskedDense(nn.Module):
    """A dense layer of which only some weights count.

    Attributes:
        features: outputs.
        kernel_init: of all weights.
        dtype: of the arithmetic.
    """

    features: int
    kernel_init: Callable[..., Array] = nn.initializers.lecun_normal()
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, mask: Array) -> Array:
        """f[B, D], mask bool[D, features] -> f[B, features]."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        return x @ jnp.where(mask, kernel, 0) + bias


class MADE(nn.Module):
    """A masked autoencoder: P numbers about each of D inputs, functions of the inputs that come before it.

    Input d has a degree m(d), its place in the order, 1 to D. A hidden unit has a degree k, and is shown inputs of
    degree at most k; output d is shown hidden units of degree less than m(d).

    Attributes:
        dim: D.
        num_outputs: P.
        features: widths of the hidden layers.
        order: of the inputs: "natural", as they stand, "reversed", or "random".
        num_orders: sets of masks; each has an order (if random) and connections of its own.
        seed: of what is drawn at random.
        activation: elementwise, after every hidden layer.
        kernel_init: of the output layer.
        dtype: of the arithmetic; the output is float32.

    Reference: Germain et al. 2015, "MADE", sections 4.1 to 4.3; where there are several hidden layers, degrees are not
    below the smallest of the layer before (equation 13).
    """

    dim: int
    num_outputs: int
    features: Sequence[int]
    order: str = "natural"
    num_orders: int = 1
    seed: int = 0
    activation: Callable[[Array], Array] = nn.relu
    kernel_init: Callable[..., Array] = nn.initializers.lecun_normal()
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, context: Array | None = None, which: Array | int = 0) -> Array:
        """x f32[B, D], context f32[B, C] that all outputs may depend on, which set of masks -> f32[B, D, P]."""
        degrees = [jnp.asarray(layer)[which] for layer in self.degrees()]  # i32[width] of each layer
        hidden = x
        for width, before, own in zip(self.features, degrees, degrees[1:], strict=False):
            hidden = MaskedDense(width, dtype=self.dtype)(hidden, before[:, None] <= own)
            if context is not None:
                hidden = hidden + nn.Dense(width, use_bias=False, dtype=self.dtype)(context)
            hidden = self.activation(hidden)
        mask = jnp.repeat(degrees[-1][:, None] < degrees[0], self.num_outputs, axis=1)  # [F, D P]
        out = MaskedDense(self.dim * self.num_outputs, self.kernel_init, self.dtype)(hidden, mask)
        if context is not None:  # the first input's output is shown no hidden unit
            out = out + nn.Dense(self.dim * self.num_outputs, use_bias=False, dtype=self.dtype)(context)
        return out.astype(jnp.promote_types(out.dtype, jnp.float32)).reshape(
            -1, self.dim, self.num_outputs
        )  # [B, D, P]

    def degrees(self) -> list[np.ndarray]:
        """i32[num_orders, width] of the inputs and of every hidden layer."""
        if self.order not in ORDERS:
            raise ValueError(f"order is {self.order!r}; it must be one of {', '.join(ORDERS)}")
        sets = [self._one_set(np.random.default_rng((self.seed, number))) for number in range(self.num_orders)]
        return [np.stack(layer).astype(np.int32) for layer in zip(*sets, strict=True)]

    def _one_set(self, rng: np.random.Generator) -> list[np.ndarray]:
        orders = {"natural": np.arange, "reversed": lambda dim: np.arange(dim)[::-1], "random": rng.permutation}
        layers = [1 + orders[self.order](self.dim)]
        for width in self.features:
            # no hidden unit is shown the last input, which nothing comes after
            smallest = min(layers[-1].min(), self.dim - 1)
            layers.append(rng.integers(smallest, self.dim - 1, width, endpoint=True))
        return layers


def places(degrees: np.ndarray) -> np.ndarray:
    """i32[D], which input comes first, second, ...: the inverse of the inputs' degrees i32[D]."""
    return np.argsort(degrees).astype(np.int32)
