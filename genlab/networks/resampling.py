"""Images at twice or half the size, as sums of shifted images: fast on a CPU and in derivatives of any order.

Filters are separable, with the taps [1, 2, 1] / 4 and [1, 3, 3, 1] / 8 of Karras et al. 2019 and 2020. What lies beyond
an edge is the edge again, so that an image of one value stays one; the authors' code has zeros there, which darken the
border of an image whose background is not zero.
"""

import jax
import jax.numpy as jnp

Array = jax.Array


def upsample_nearest(x: Array) -> Array:
    """[B, H, W, C] -> [B, 2 H, 2 W, C], every pixel four times."""
    return enlarge(x, 2)


def enlarge(x: Array, factor: int) -> Array:
    """[B, H, W, C] -> [B, factor H, factor W, C], every pixel factor^2 times."""
    if factor == 1:
        return x
    num, height, width, channels = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (num, height, factor, width, factor, channels))
    return x.reshape(num, factor * height, factor * width, channels)


def downsample_mean(x: Array, factor: int = 2) -> Array:
    """[B, H, W, C] -> [B, H / factor, W / factor, C], the mean of every block of factor^2 pixels."""
    if factor == 1:
        return x
    num, height, width, channels = x.shape
    x = x.reshape(num, height // factor, factor, width // factor, factor, channels)
    return jnp.mean(x, axis=(2, 4))


def blur(x: Array) -> Array:
    """[B, H, W, C] smoothed by [1, 2, 1] / 4 along both axes (Karras et al. 2019, after Zhang 2019)."""
    for axis in (1, 2):
        before, after = _neighbours(x, axis)
        x = 0.25 * (before + after) + 0.5 * x
    return x


def upsample_smooth(x: Array) -> Array:
    """[B, H, W, C] -> [B, 2 H, 2 W, C]: zeros between pixels, then 4 [1, 3, 3, 1] / 8 along both axes.

    A new pixel is 3/4 of the nearest and 1/4 of the next one on either axis, which is bilinear interpolation.
    """
    for axis in (1, 2):
        before, after = _neighbours(x, axis)
        pair = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis=axis + 1)  # [B, H, 2, W, C]
        x = pair.reshape(*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])
    return x


def downsample_smooth(x: Array) -> Array:
    """[B, H, W, C] -> [B, H / 2, W / 2, C]: [1, 3, 3, 1] / 8 along both axes at every other pixel."""
    return smooth(x, 1, 1, stride=2)


def smooth(x: Array, before: int, after: int, mode: str = "edge", stride: int = 1) -> Array:
    """[B, H, W, C] through [1, 3, 3, 1] / 8 along both axes.

    Args:
        x: images.
        before, after: pixels that are added at either end of both axes first: H becomes H + before + after - 3.
        mode: of what is added, see `jnp.pad`.
        stride: of that only every so many are made.
    """
    x = jnp.pad(x, ((0, 0), (before, after), (before, after), (0, 0)), mode)
    for axis in (1, 2):
        last = x.shape[axis] - 3
        a, b, c, d = (jax.lax.slice_in_dim(x, start, start + last, stride, axis) for start in range(4))
        x = 0.125 * (a + d) + 0.375 * (b + c)
    return x


def _neighbours(x: Array, axis: int) -> tuple[Array, Array]:
    """x moved by one pixel: at every place the one before, and the one after."""
    size = x.shape[axis]
    piece = lambda first, last: jax.lax.slice_in_dim(x, first, last, axis=axis)
    before = jnp.concatenate([piece(0, 1), piece(0, size - 1)], axis=axis)
    return before, jnp.concatenate([piece(1, size), piece(size - 1, size)], axis=axis)
