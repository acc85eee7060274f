"""Networks whose outputs are the factors of an autoregressive model, and how examples are drawn from them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genlab.algorithm import Array, Key, PyTree
from genlab.models.autoregressive import Autoregression
from genlab.networks.masked import MADE, places
from genlab.networks.pixelcnn import GatedPixelCNN, sample_pixels
from genlab.networks.transformer import CausalTransformer, sample_tokens
from genlab.networks.variables import apply, init


def masked(made: MADE) -> Autoregression:
    """Of a MADE: numbers in any order, the order of each of its sets of masks; a sample takes D passes."""
    orders = np.stack([places(degrees) for degrees in made.degrees()[0]])  # [M, D]

    def outputs(params: PyTree, x: Array, context: Array | None, which: Any) -> Array:
        found, _ = apply(made, params, {}, x.reshape(x.shape[0], -1), context, which)  # [B, D, P]
        return found.reshape(*x.shape, made.num_outputs)

    def sample(
        params: PyTree, draw: Callable[[Key, Array], Array], key: Key, known: Array, num_known: Any,
        context: Array | None, which: Any,
    ) -> Array:  # fmt: skip
        flat = known.reshape(known.shape[0], -1)  # [B, D]

        def one(number: Array, x: Array) -> Array:
            place = jnp.asarray(orders)[which, number]
            found, _ = apply(made, params, {}, x, context, which)
            drawn = draw(jax.random.fold_in(key, number), found[:, place])  # [B, P] -> [B]
            return x.at[:, place].set(jnp.where(number < num_known, flat[:, place], drawn))

        return jax.lax.fori_loop(0, flat.shape[1], one, jnp.zeros_like(flat)).reshape(known.shape)

    start = lambda key, x, context: init(made, key, x.reshape(x.shape[0], -1), context)[0]
    # of several sets what is known would say which are likely to have drawn it
    return Autoregression(start, outputs, sample, made.num_orders, made.order == "natural" and made.num_orders == 1)


def convolutional(network: GatedPixelCNN) -> Autoregression:
    """Of a PixelCNN: pixels in raster order; in a sample each is computed once."""

    def outputs(params: PyTree, x: Array, context: Array | None, which: Any) -> Array:
        return apply(network, params, {}, x, context)[0][..., None, :]  # [B, H, W, 1, P]

    def sample(
        params: PyTree, draw: Callable[[Key, Array], Array], key: Key, known: Array, num_known: Any,
        context: Array | None, which: Any,
    ) -> Array:  # fmt: skip
        pixel = lambda key, found: draw(key, found)[..., None]  # [B, 1, 1, P] -> [B, 1, 1, 1]
        return sample_pixels(network, params, pixel, key, known, num_known, context)

    return Autoregression(lambda key, x, context: init(network, key, x, context)[0], outputs, sample)


def sequential(network: CausalTransformer, num_levels: int = 0) -> Autoregression:
    """Of a transformer: tokens in turn, or the levels 0 to num_levels - 1 of pixels in raster order."""

    def to_tokens(x: Array) -> Array:
        return jnp.round(x * (num_levels - 1)).astype(jnp.int32) if num_levels else x

    def outputs(params: PyTree, x: Array, context: Array | None, which: Any) -> Array:
        found, _ = apply(network, params, {}, to_tokens(x).reshape(x.shape[0], -1), context)  # [B, T, P]
        return found.reshape(*x.shape, -1)

    def sample(
        params: PyTree, draw: Callable[[Key, Array], Array], key: Key, known: Array, num_known: Any,
        context: Array | None, which: Any,
    ) -> Array:  # fmt: skip
        one = lambda key, found: to_tokens(draw(key, found))  # [B, P] -> i32[B]
        flat = to_tokens(known).reshape(known.shape[0], -1)
        drawn = sample_tokens(network, params, one, key, flat, num_known, context).reshape(known.shape)
        return drawn.astype(known.dtype) / (num_levels - 1) if num_levels else drawn

    start = lambda key, x, context: init(network, key, to_tokens(x).reshape(x.shape[0], -1), context)[0]
    return Autoregression(start, outputs, sample)
