"""Gated PixelCNN: a distribution over images, pixel by pixel in raster order, by two stacks of convolutions.

The vertical stack sees the rows above a pixel, the horizontal one the pixels to its left and, through a 1x1
convolution, the vertical stack; together they see all that comes before, and there is no blind spot.

Reference: van den Oord et al. 2016a, "Pixel recurrent neural networks"; 2016b, "Conditional image generation with
PixelCNN decoders", section 2 and figure 2.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genlab.networks.conv import Conv
from genlab.networks.variables import apply

Array = jax.Array
PyTree = Any


def gate(x: Array) -> Array:
    """tanh(a) sigmoid(b) of the halves a and b of the last axis."""
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.tanh(a) * jax.nn.sigmoid(b)


class GatedLayer(nn.Module):
    """One layer of both stacks.

    Attributes:
        features: F, of either stack.
        above: rows that the vertical convolution reaches up, besides `here`; it is 2 above + 1 wide.
        left: pixels that the horizontal one reaches to the left, besides `here`.
        here: whether a pixel of the layer's input is seen at its own place: not where the input is the image.
        dtype: of the arithmetic.
    """

    features: int
    above: int
    left: int
    here: bool = True
    dtype: Any = None

    def setup(self) -> None:
        """The convolutions, which all methods share; they are given what they see, padded."""
        own = int(self.here)
        conv = lambda kernel: Conv(2 * self.features, kernel, padding="VALID", dtype=self.dtype)
        self.vertical = conv((self.above + own, 2 * self.above + 1))
        self.horizontal = conv((1, self.left + own))
        self.link = nn.Dense(2 * self.features, dtype=self.dtype)
        self.mix = nn.Dense(self.features, dtype=self.dtype)
        self.vertical_context = nn.Dense(2 * self.features, use_bias=False, dtype=self.dtype)
        self.horizontal_context = nn.Dense(2 * self.features, use_bias=False, dtype=self.dtype)

    def down(self, window: Array, context: Array | None) -> tuple[Array, Array]:
        """The vertical stack, and what it tells the horizontal one.

        Args:
            window: [B, R + above + here - 1, W, C], the rows that R rows of outputs see.
            context: [B, Y], or none.

        Returns:
            [B, R, W, F] and [B, R, W, 2 F].
        """
        pad = ((0, 0), (0, 0), (self.above, self.above), (0, 0))
        seen = self.vertical(jnp.pad(window, pad))
        told = self.link(seen)
        if context is not None:
            seen = seen + self.vertical_context(context)[:, None, None]
            told = told + self.horizontal_context(context)[:, None, None]
        return gate(seen), told

    def across(self, window: Array, told: Array) -> Array:
        """The horizontal stack.

        Args:
            window: [B, R, N + left + here - 1, C], the pixels that N columns of outputs see.
            told: [B, R, N, 2 F], from the vertical stack.

        Returns:
            [B, R, N, F], to be added to the layer's input if that has as many channels.
        """
        return self.mix(gate(self.horizontal(window) + told))


class GatedPixelCNN(nn.Module):
    """P numbers about every pixel, functions of the pixels before it.

    Attributes:
        num_outputs: P.
        features: F, of either stack.
        num_layers: after the first, which sees the image.
        first_reach: rows above and pixels to the left that the first layer sees; 3 is a 7x7 convolution, masked.
        reach: those of the others; 1 is 3x3.
        head: features of the 1x1 layer before the outputs.
        dtype: of the arithmetic; outputs are float32.
    """

    num_outputs: int
    features: int = 32
    num_layers: int = 7
    first_reach: int = 3
    reach: int = 1
    head: int = 128
    dtype: Any = None

    def setup(self) -> None:
        """The layers, which all methods share."""
        self.first = GatedLayer(self.features, self.first_reach, self.first_reach, here=False, dtype=self.dtype)
        self.layers = [GatedLayer(self.features, self.reach, self.reach, dtype=self.dtype)
                       for _ in range(self.num_layers)]  # fmt: skip
        self.widen = nn.Dense(self.head, dtype=self.dtype)
        self.outputs = nn.Dense(self.num_outputs, dtype=self.dtype)

    def __call__(self, x: Array, context: Array | None = None) -> Array:
        """x f32[B, H, W, 1] in [0, 1], context f32[B, Y] or none -> f32[B, H, W, P]."""
        if x.shape[-1] != 1:
            raise ValueError(f"pixels have one channel here; got {x.shape}")
        x = centred(x)
        above, left = self.first_reach, self.reach
        down, told = self.first.down(jnp.pad(x, ((0, 0), (above, 0), (0, 0), (0, 0)))[:, :-1], context)
        across = self.first.across(jnp.pad(x, ((0, 0), (0, 0), (above, 0), (0, 0)))[:, :, :-1], told)
        for layer in self.layers:
            down, told = layer.down(jnp.pad(down, ((0, 0), (self.reach, 0), (0, 0), (0, 0))), context)
            across = across + layer.across(jnp.pad(across, ((0, 0), (0, 0), (left, 0), (0, 0))), told)
        return self.read(across)

    def read(self, across: Array) -> Array:
        """[..., F] -> f32[..., P]."""
        return self.outputs(nn.relu(self.widen(nn.relu(across)))).astype(jnp.float32)

    def start_row(
        self, x_above: Array, down_above: list[Array], context: Array | None
    ) -> tuple[list[Array], list[Array]]:
        """The vertical stack of one row, once those above are known.

        Args:
            x_above: [B, first_reach, W, 1], the rows just above, as `centred` has them; 0 beyond the image.
            down_above: of every layer but the last, [B, reach, W, F], the vertical stack there.
            context: [B, Y], or none.

        Returns:
            The vertical stack of this row, [B, 1, W, F] of every layer but the last, and what each layer's tells its
            horizontal stack, [B, 1, W, 2 F].
        """
        down, told = self.first.down(x_above, context)
        downs, tolds = [down], [told]
        for layer, above in zip(self.layers, down_above, strict=True):
            down, told = layer.down(jnp.concatenate([above, downs[-1]], axis=1), context)
            downs.append(down)
            tolds.append(told)
        return downs[:-1], tolds

    def at_pixel(self, x_left: Array, across_left: list[Array], told: list[Array]) -> tuple[Array, list[Array]]:
        """The horizontal stack at one pixel, once those to its left are known.

        Args:
            x_left: [B, 1, first_reach, 1], the pixels just to the left, as `centred` has them.
            across_left: of every layer but the last, [B, 1, reach, F], the horizontal stack there.
            told: of every layer, [B, 1, 1, 2 F].

        Returns:
            f32[B, P], and the horizontal stack here, [B, 1, 1, F] of every layer but the last.
        """
        across = [self.first.across(x_left, told[0])]
        for layer, left, own in zip(self.layers, across_left, told[1:], strict=True):
            window = jnp.concatenate([left, across[-1]], axis=2)
            across.append(across[-1] + layer.across(window, own))
        return self.read(across[-1])[:, 0, 0], across[:-1]


def centred(x: Array) -> Array:
    """[0, 1] -> [-1, 1], so that the zeros beyond the image are no colour of its own."""
    return 2.0 * x - 1.0


def sample_pixels(
    network: GatedPixelCNN,
    params: PyTree,
    draw: Callable[[Array, Array], Array],
    key: Array,
    known: Array,
    num_known: Array | int = 0,
    context: Array | None = None,
) -> Array:
    """Images, pixel by pixel, each computed once: activations of what came before are kept.

    Args:
        network, params: of the distribution.
        draw: (key, outputs f32[B, 1, 1, P]) -> pixels f32[B, 1, 1, 1] in [0, 1].
        key: the pixel at place i in raster order gets fold_in(key, i).
        known: f32[B, H, W, 1], which gives B, H and W, and the first pixels.
        num_known: how many pixels in raster order are taken from `known`; the others are drawn given them.
        context: f32[B, Y], or none.

    Returns:
        f32[B, H, W, 1].
    """
    num, height, width, _ = known.shape
    first, reach, layers, features = network.first_reach, network.reach, network.num_layers, network.features
    dtype = network.dtype or known.dtype
    push = lambda kept, new, axis: jnp.concatenate([jax.lax.slice_in_dim(kept, 1, None, axis=axis), new], axis=axis)

    def pixel(carry: tuple[Array, list[Array]], turn: tuple[Array, Array, list[Array]]) -> Any:
        (x_left, across_left), (place, own, told) = carry, turn
        told = [each[:, :, None] for each in told]  # [B, 1, 2 F] -> [B, 1, 1, 2 F]
        (outputs, across), _ = apply(network, params, {}, x_left, across_left, told, method="at_pixel")
        drawn = draw(jax.random.fold_in(key, place), outputs[:, None, None])  # [B, 1, 1, 1]
        x = jnp.where(place < num_known, own[:, None], drawn)
        kept = [push(left, new, 2) for left, new in zip(across_left, across, strict=True)]
        return (push(x_left, centred(x), 2), kept), x[:, 0, 0]

    def row(carry: tuple[Array, list[Array]], turn: tuple[Array, Array]) -> Any:
        (x_above, down_above), (number, own) = carry, turn
        (down, told), _ = apply(network, params, {}, x_above, down_above, context, method="start_row")
        columns = [jnp.moveaxis(each, 2, 0) for each in told]  # [B, 1, W, 2 F] -> [W, B, 1, 2 F]
        nothing = jnp.zeros((num, 1, first, 1)), [jnp.zeros((num, 1, reach, features), dtype)] * layers
        places = number * width + jnp.arange(width)
        _, x = jax.lax.scan(pixel, nothing, (places, jnp.moveaxis(own, 1, 0)[:, :, None], columns))  # [W, B, 1]
        x = jnp.moveaxis(x, 0, 1)[:, None]  # [B, 1, W, 1]
        kept = [push(above, new, 1) for above, new in zip(down_above, down, strict=True)]
        return (push(x_above, centred(x), 1), kept), x[:, 0]

    nothing = jnp.zeros((num, first, width, 1)), [jnp.zeros((num, reach, width, features), dtype)] * layers
    _, rows = jax.lax.scan(row, nothing, (jnp.arange(height), jnp.moveaxis(known, 1, 0)))
    return jnp.moveaxis(jnp.asarray(rows), 0, 1)  # [H, B, W, 1] -> [B, H, W, 1]
