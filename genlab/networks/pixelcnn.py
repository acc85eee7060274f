"""Gated PixelCNN: a distribution over images, pixel by pixel in raster order, by two stacks of convolutions.

The vertical stack sees the rows above a pixel, the horizontal one the pixels to its left and, through a 1x1
convolution, the vertical stack; together they see all that comes before, and there is no blind spot. Attention among
the layers, where it is asked for, reaches as far as the image does.

Reference: van den Oord et al. 2016a, "Pixel recurrent neural networks"; 2016b, "Conditional image generation with
PixelCNN decoders", section 2 and figure 2; Chen et al. 2018, "PixelSNAIL", section 2.2, for attention.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genlab.errors import InputError
from genlab.networks.attention import Cache, attend_at, attend_by_rows, empty_cache, split_heads
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


class RasterAttention(nn.Module):
    """Every pixel attends to itself and to those before it in raster order; a gated residual takes what it finds.

        y_i = x_i + mix(gate(own(x_i) + found(a_i))),    a_i = sum_{j <= i} softmax_j(q_i . k_j / sqrt(D)) v_j

    in each of the heads, of D = F / heads numbers; q, k and v are affine in the features x and the pixel's row and
    column. Here x_i is to know the pixels before i alone, so that a pixel may attend to itself; in Chen et al. 2018 the
    keys know their own pixels, and those before are attended to.

    Attributes:
        features: F, divisible by num_heads.
        num_heads: of attention.
        dtype: of the arithmetic.
    """

    features: int
    num_heads: int
    dtype: Any = None

    def setup(self) -> None:
        """The layers, which both methods share."""
        self.queries_keys_values = nn.Dense(3 * self.features, dtype=self.dtype)
        self.own = nn.Dense(2 * self.features, dtype=self.dtype)
        self.found = nn.Dense(2 * self.features, use_bias=False, dtype=self.dtype)
        self.mix = nn.Dense(self.features, dtype=self.dtype)

    def __call__(self, x: Array) -> Array:
        """[B, H, W, F] -> [B, H, W, F]; what comes out at a pixel depends on what goes in up to it."""
        num, height, width, features = x.shape
        flat = x.reshape(num, height * width, features)  # [B, H W, F]
        attended = attend_by_rows(*self._heads(flat, coordinates(height, width)), height)
        return self._rest(flat, attended).reshape(x.shape)

    def advance(self, x: Array, cache: Cache, place: Array, shape: tuple[int, int]) -> tuple[Array, Cache]:
        """One pixel of the same.

        Args:
            x: [B, 1, F], what goes in at pixel i.
            cache: of the pixels before; T = H W.
            place: i32[], i.
            shape: H, W.

        Returns:
            [B, 1, F], what comes out at i, and the cache with i in it.
        """
        attended, cache = attend_at(place, *self._heads(x, coordinates(*shape)[place][None]), cache)
        return self._rest(x, attended), cache

    def _heads(self, x: Array, where: Array) -> tuple[Array, Array, Array]:
        """Queries, keys and values [B, T, heads, F / heads] of features [B, T, F] at coordinates f32[T, 2]."""
        where = jnp.broadcast_to(where.astype(x.dtype), (x.shape[0], *where.shape))
        parts = jnp.split(self.queries_keys_values(jnp.concatenate([x, where], axis=-1)), 3, axis=-1)
        queries, keys, values = (split_heads(part, self.num_heads) for part in parts)
        return queries, keys, values

    def _rest(self, x: Array, attended: Array) -> Array:
        return x + self.mix(gate(self.own(x) + self.found(attended)))


def coordinates(height: int, width: int) -> Array:
    """f32[H W, 2], row / H - 1/2 and column / W - 1/2 of the pixels in raster order."""
    rows, columns = jnp.meshgrid(jnp.arange(height) / height, jnp.arange(width) / width, indexing="ij")
    return jnp.stack([rows, columns], axis=-1).reshape(-1, 2) - 0.5


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
        attention_every: layers after which attention follows, again and again; the first is not counted. 0 for none.
        num_heads: of attention; features are divisible by it.
        shape: H, W of the images, whose places then have biases of their own in the first layer; None: they are alike.

    Raises:
        InputError: if attention can follow no layer, or its heads have unequal shares of the features.
    """

    num_outputs: int
    features: int = 32
    num_layers: int = 7
    first_reach: int = 3
    reach: int = 1
    head: int = 128
    dtype: Any = None
    attention_every: int = 0
    num_heads: int = 4
    shape: tuple[int, int] | None = None

    def setup(self) -> None:
        """The layers, which all methods share."""
        self.first = GatedLayer(self.features, self.first_reach, self.first_reach, here=False, dtype=self.dtype)
        self.layers = [GatedLayer(self.features, self.reach, self.reach, dtype=self.dtype)
                       for _ in range(self.num_layers)]  # fmt: skip
        self.attentions = [RasterAttention(self.features, self.num_heads, self.dtype) if follows else None
                           for follows in self.attended()]  # fmt: skip
        self.widen = nn.Dense(self.head, dtype=self.dtype)
        self.outputs = nn.Dense(self.num_outputs, dtype=self.dtype)
        if (shape := self.shape) is not None:
            bias = lambda name, width: self.param(name, nn.initializers.zeros, (*shape, width))
            self.down_bias, self.told_bias = bias("down_bias", self.features), bias("told_bias", 2 * self.features)

    def placed(self, down: Array, told: Array, row: Array | int) -> tuple[Array, Array]:
        """What the first layer's vertical stack gives, [B, R, W, F] and [B, R, W, 2 F], of rows `row` and after."""
        if self.shape is None:
            return down, told
        of = lambda bias: jax.lax.dynamic_slice_in_dim(bias, row, down.shape[1]).astype(down.dtype)
        return down + of(self.down_bias), told + of(self.told_bias)

    def attended(self) -> list[bool]:
        """Of every layer after the first, whether attention follows it."""
        every = self.attention_every
        if not every:
            return [False] * self.num_layers
        if not 0 < every <= self.num_layers:
            raise InputError(f"attention_every is {every}; 1 to {self.num_layers} layers, or 0 for no attention")
        if self.num_heads < 1 or self.features % self.num_heads:
            raise InputError(f"num_heads is {self.num_heads}, which does not divide {self.features} features")
        return [number % every == 0 for number in range(1, self.num_layers + 1)]

    def __call__(self, x: Array, context: Array | None = None) -> Array:
        """x f32[B, H, W, 1] in [0, 1], context f32[B, Y] or none -> f32[B, H, W, P]."""
        if x.shape[-1] != 1:
            raise ValueError(f"pixels have one channel here; got {x.shape}")
        x = centred(x)
        above, left = self.first_reach, self.reach
        down, told = self.first.down(jnp.pad(x, ((0, 0), (above, 0), (0, 0), (0, 0)))[:, :-1], context)
        down, told = self.placed(down, told, 0)
        across = self.first.across(jnp.pad(x, ((0, 0), (0, 0), (above, 0), (0, 0)))[:, :, :-1], told)
        for layer, attention in zip(self.layers, self.attentions, strict=True):
            down, told = layer.down(jnp.pad(down, ((0, 0), (self.reach, 0), (0, 0), (0, 0))), context)
            across = across + layer.across(jnp.pad(across, ((0, 0), (0, 0), (left, 0), (0, 0))), told)
            across = across if attention is None else attention(across)
        return self.read(across)

    def read(self, across: Array) -> Array:
        """[..., F] -> f32[..., P]."""
        return self.outputs(nn.relu(self.widen(nn.relu(across)))).astype(jnp.float32)

    def start_row(
        self, number: Array, x_above: Array, down_above: list[Array], context: Array | None
    ) -> tuple[list[Array], list[Array]]:
        """The vertical stack of one row, once those above are known.

        Args:
            number: i32[], of the row.
            x_above: [B, first_reach, W, 1], the rows just above, as `centred` has them; 0 beyond the image.
            down_above: of every layer but the last, [B, reach, W, F], the vertical stack there.
            context: [B, Y], or none.

        Returns:
            The vertical stack of this row, [B, 1, W, F] of every layer but the last, and what each layer's tells its
            horizontal stack, [B, 1, W, 2 F].
        """
        down, told = self.placed(*self.first.down(x_above, context), number)
        downs, tolds = [down], [told]
        for layer, above in zip(self.layers, down_above, strict=True):
            down, told = layer.down(jnp.concatenate([above, downs[-1]], axis=1), context)
            downs.append(down)
            tolds.append(told)
        return downs[:-1], tolds

    def at_pixel(
        self,
        x_left: Array,
        across_left: list[Array],
        told: list[Array],
        caches: list[Cache | None],
        place: Array,
        shape: tuple[int, int],
    ) -> tuple[Array, list[Array], list[Cache | None]]:
        """The horizontal stack at one pixel, once those before it are known.

        Args:
            x_left: [B, 1, first_reach, 1], the pixels just to the left, as `centred` has them.
            across_left: of every layer but the last, [B, 1, reach, F], the horizontal stack there.
            told: of every layer, [B, 1, 1, 2 F].
            caches: of the attention that follows each layer but the first, see `empty_caches`.
            place: i32[], of the pixel in raster order.
            shape: H, W.

        Returns:
            f32[B, P], the horizontal stack here, [B, 1, 1, F] of every layer but the last, and the caches.
        """
        across, kept = [self.first.across(x_left, told[0])], []
        for layer, attention, left, own, cache in zip(
            self.layers, self.attentions, across_left, told[1:], caches, strict=True
        ):
            here = across[-1] + layer.across(jnp.concatenate([left, across[-1]], axis=2), own)
            if attention is not None and cache is not None:
                attended, cache = attention.advance(here[:, 0], cache, place, shape)
                here = attended[:, None]  # [B, 1, F] -> [B, 1, 1, F]
            across.append(here)
            kept.append(cache)
        return self.read(across[-1])[:, 0, 0], across[:-1], kept

    def empty_caches(self, num: int, length: int) -> list[Cache | None]:
        """Of `num` images of `length` pixels; none for a layer that no attention follows."""
        empty = lambda: empty_cache(num, length, self.num_heads, self.features, self.dtype or jnp.float32)
        return [empty() if follows else None for follows in self.attended()]


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

    def pixel(carry: tuple[Array, list[Array], PyTree], turn: tuple[Array, Array, list[Array]]) -> Any:
        (x_left, across_left, caches), (place, own, told) = carry, turn
        told = [each[:, :, None] for each in told]  # [B, 1, 2 F] -> [B, 1, 1, 2 F]
        seen = x_left, across_left, told, caches, place, (height, width)
        (outputs, across, caches), _ = apply(network, params, {}, *seen, method="at_pixel")
        drawn = draw(jax.random.fold_in(key, place), outputs[:, None, None])  # [B, 1, 1, 1]
        x = jnp.where(place < num_known, own[:, None], drawn)
        kept = [push(left, new, 2) for left, new in zip(across_left, across, strict=True)]
        return (push(x_left, centred(x), 2), kept, caches), x[:, 0, 0]

    def row(carry: tuple[Array, list[Array], PyTree], turn: tuple[Array, Array]) -> Any:
        (x_above, down_above, caches), (number, own) = carry, turn
        (down, told), _ = apply(network, params, {}, number, x_above, down_above, context, method="start_row")
        columns = [jnp.moveaxis(each, 2, 0) for each in told]  # [B, 1, W, 2 F] -> [W, B, 1, 2 F]
        nothing = jnp.zeros((num, 1, first, 1)), [jnp.zeros((num, 1, reach, features), dtype)] * layers
        places = number * width + jnp.arange(width)
        turns = places, jnp.moveaxis(own, 1, 0)[:, :, None], columns
        (*_, caches), x = jax.lax.scan(pixel, (*nothing, caches), turns)  # [W, B, 1]
        x = jnp.moveaxis(x, 0, 1)[:, None]  # [B, 1, W, 1]
        kept = [push(above, new, 1) for above, new in zip(down_above, down, strict=True)]
        return (push(x_above, centred(x), 1), kept, caches), x[:, 0]

    nothing = jnp.zeros((num, first, width, 1)), [jnp.zeros((num, reach, width, features), dtype)] * layers
    start = *nothing, network.empty_caches(num, height * width)
    _, rows = jax.lax.scan(row, start, (jnp.arange(height), jnp.moveaxis(known, 1, 0)))
    return jnp.moveaxis(jnp.asarray(rows), 0, 1)  # [H, B, W, 1] -> [B, H, W, 1]
