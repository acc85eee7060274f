"""Max-pooling that remembers where each maximum stood, and unpooling that puts values back there.

A place is a position in the flattened image of one channel, row * W + column, as in PyTorch (TensorFlow's argmax
counts the channels too):

    values[n, i, j, c] = x[n].reshape(H * W, C)[indices[n, i, j, c], c]

`max_unpool` is the adjoint of this gathering: <values, v> = <x, max_unpool(v, indices, x.shape)>.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from genlab.errors import InputError

Array = jax.Array
_Pair = tuple[int, int]
Padding = str | Sequence[tuple[int, int]]


def max_pool_with_argmax(
    x: Array, window: int | Sequence[int], strides: int | Sequence[int] | None = None, padding: Padding = "VALID"
) -> tuple[Array, Array]:
    """The maximum of every window, and where it stood.

    Of equal maxima the first counts, row by row; a NaN counts as larger than any number. The gradient goes to that one
    place alone, in every mode and order of differentiation.

    Args:
        x: f[N, H, W, C].
        window: height and width, or one for both.
        strides: as window; None: the window's own, so that windows do not overlap.
        padding: "SAME", "VALID" or ((top, bottom), (left, right)), each smaller than the window; what it adds is never
            a maximum.

    Returns:
        values f[N, H', W', C] and indices i32[N, H', W', C] in [0, H * W), row * W + column in the unpadded image.
        H' is ceil(H / stride) for "SAME", ceil((H - window + 1) / stride) for "VALID".

    Raises:
        InputError: if x is no batch of floating-point images, or the windows are not positive or do not fit into it.
    """
    if x.ndim != 4 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(f"x must be floating-point images [N, H, W, C], got {x.dtype}{list(x.shape)}")
    window = _pair(window, "window")
    strides = window if strides is None else _pair(strides, "strides")
    size = x.shape[1:3]
    pads = _pads(size, window, strides, padding)
    if any(n + low + high < k for n, k, (low, high) in zip(size, window, pads, strict=True)):
        raise InputError(f"windows of {window} do not fit into images of {size} padded by {pads}")
    return _pool(x, window, strides, pads)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def _pool(x: Array, window: _Pair, strides: _Pair, pads: tuple[_Pair, _Pair]) -> tuple[Array, Array]:
    (kh, kw), (sh, sw), ((top, bottom), (left, right)) = window, strides, pads
    height, width = x.shape[1:3]
    h, w = (height + top + bottom - kh) // sh + 1, (width + left + right - kw) // sw + 1
    rows, columns = sh * np.arange(h)[:, None, None] - top, sw * np.arange(w)[:, None] - left  # where windows begin
    padded = lax.pad(x, jnp.array(-jnp.inf, x.dtype), [(0, 0, 0), (top, bottom, 0), (left, right, 0), (0, 0, 0)])

    values, indices = jnp.full((x.shape[0], h, w, x.shape[3]), -jnp.inf, x.dtype), jnp.int32(-1)
    for a, b in np.ndindex(kh, kw):
        patch = padded[:, a : a + (h - 1) * sh + 1 : sh, b : b + (w - 1) * sw + 1 : sw]  # [N, H', W', C]
        row, column = rows + a, columns + b
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)  # [H', W', 1]
        # where nothing was chosen yet, -inf is as good as any
        better = inside & ((patch > values) | jnp.isnan(patch) | (indices < 0))
        values = jnp.where(better, patch, values)
        indices = jnp.where(better, jnp.asarray(row * width + column, jnp.int32), indices)
    return values, indices


@_pool.defjvp
def _pool_jvp(window, strides, pads, primals, tangents):
    # The maxima move as the pixels that they are: a gathering, the adjoint of unpooling. So derived from one another
    # both have fast gradients, where that of XLA's own window maximum looks for each maximum again.
    (x,), (tangent,) = primals, tangents
    values, indices = _pool(x, window, strides, pads)
    tiles = strides == window and pads[0][0] == pads[1][0] == 0
    unpool = lambda v: max_unpool(v, indices, x.shape, window if tiles else None)
    moved = jax.linear_transpose(unpool, values)(tangent)[0]
    return (values, indices), (moved, np.zeros(indices.shape, jax.dtypes.float0))


def max_unpool(
    values: Array, indices: Array, output_shape: Sequence[int], window: int | Sequence[int] | None = None
) -> Array:
    """Images of zeros, with each value added at its place: the adjoint of gathering at the indices.

    Args:
        values: f[N, H', W', C].
        indices: i[N, H', W', C] in [0, H * W), as `max_pool_with_argmax` gives them; values of one place add up.
        output_shape: (H, W), (H, W, C) or (N, H, W, C).
        window: of the pooling, if its windows tiled the image from the first pixel on (strides equal to the window, no
            padding but behind the image): every value is then compared with the places of its own window alone, which
            XLA fuses with what surrounds it and never scatters. A place outside of the window is lost.

    Returns:
        f[N, H, W, C], of the values' type.

    Raises:
        InputError: if the shapes do not match each other, or the window the output's.
    """
    if values.ndim != 4 or values.shape != indices.shape:
        raise InputError(
            f"values and indices must be [N, H, W, C] of one shape, got {values.shape} and {indices.shape}"
        )
    if not jnp.issubdtype(indices.dtype, jnp.integer):
        raise InputError(f"indices must be integers, got {indices.dtype}")
    n, h, w, channels = values.shape
    size = tuple(output_shape[-3:-1] if len(output_shape) > 2 else output_shape)
    if len(size) != 2 or tuple(output_shape) not in (size, (*size, channels), (n, *size, channels)):
        raise InputError(
            f"output_shape must be (H, W), (H, W, {channels}) or ({n}, H, W, {channels}), got {tuple(output_shape)}"
        )
    height, width = size
    if window is None:
        flat = jnp.zeros((height * width, channels), values.dtype)
        scatter = jax.vmap(lambda v, i: flat.at[i, jnp.arange(channels)].add(v))  # of one image, as the batch is split
        return scatter(values, indices).reshape(n, *size, channels)
    kh, kw = window = _pair(window, "window")
    if (h, w) not in ((height // kh, width // kw), (-(-height // kh), -(-width // kw))):
        raise InputError(f"windows of {window} do not tile images of {size} by {(h, w)}")
    row, column = np.arange(h * kh).reshape(h, kh, 1, 1, 1), np.arange(w * kw).reshape(w, kw, 1)
    place = jnp.asarray(row * width + column, indices.dtype)  # [H', kH, W', kW, 1]
    here = indices[:, :, None, :, None] == place
    tiles = jnp.where(here, values[:, :, None, :, None], jnp.zeros((), values.dtype))
    # behind the last window are zeros; what it has behind the image goes
    edges = [(0, 0, 0), (0, height - h * kh, 0), (0, width - w * kw, 0), (0, 0, 0)]
    return lax.pad(tiles.reshape(n, h * kh, w * kw, channels), jnp.zeros((), values.dtype), edges)


def _pair(value: int | Sequence[int], name: str) -> _Pair:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or min(pair) < 1:
        raise InputError(f"{name} must be one positive integer or a pair, got {value}")
    return pair


def _pads(size: Sequence[int], window: Sequence[int], strides: Sequence[int], padding: Padding) -> tuple[_Pair, _Pair]:
    if isinstance(padding, str):
        if padding in ("SAME", "VALID"):
            rows, columns = lax.padtype_to_pads(size, window, strides, padding)
            return rows, columns
    elif len(padding) == 2 and all(min(pair) >= 0 and max(pair) < k for pair, k in zip(padding, window, strict=True)):
        (top, bottom), (left, right) = padding
        return (top, bottom), (left, right)
    raise InputError(f'padding must be "SAME", "VALID" or two pairs in [0, window), got {padding!r}')
