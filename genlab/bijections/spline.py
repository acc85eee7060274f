"""The monotonic rational-quadratic spline, elementwise: smooth, flexible, and inverted by a formula."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from genlab.bijections.event import sum_event

Array = jax.Array

MIN_BIN = 1e-3  # smallest width and height of a bin, as a share of all
MIN_SLOPE = 1e-3


class Spline(NamedTuple):
    """K bins of [-bound, bound], of every element; outside it is the identity.

    Attributes:
        widths, heights: f[..., K] of the bins; each sums to 2 bound.
        slopes: f[..., K + 1] at the knots, positive; 1 at both ends, where the identity goes on.
        bound: of the interval that is bent.
    """

    widths: Array
    heights: Array
    slopes: Array
    bound: float


def make_spline(parameters: Array, bound: float) -> Spline:
    """A spline of any real numbers; of zeros it is the identity.

    Args:
        parameters: f[..., 3 K - 1]: K widths and K heights before a softmax, K - 1 inner slopes before a softplus.
        bound: positive.

    Reference: Durkan et al. 2019 (neural spline flows), section 3.1; smallest bins and slopes as in their code.
    """
    num_bins = (parameters.shape[-1] + 1) // 3
    if parameters.shape[-1] != 3 * num_bins - 1 or num_bins < 1:
        raise ValueError(f"a spline of K bins takes 3 K - 1 numbers an element; got {parameters.shape[-1]}")
    widths, heights, slopes = jnp.split(parameters, [num_bins, 2 * num_bins], axis=-1)
    share = lambda x: 2.0 * bound * (MIN_BIN + (1.0 - MIN_BIN * num_bins) * jax.nn.softmax(x, axis=-1))
    # softplus(a + offset) + MIN_SLOPE = 1 at a = 0
    offset = jnp.log(jnp.expm1(jnp.asarray(1.0 - MIN_SLOPE, parameters.dtype)))
    slopes = MIN_SLOPE + jax.nn.softplus(slopes + offset)
    ends = [(0, 0)] * (slopes.ndim - 1) + [(1, 1)]
    return Spline(share(widths), share(heights), jnp.pad(slopes, ends, constant_values=1.0), bound)


def rational_quadratic(x: Array, spline: Spline) -> tuple[Array, Array]:
    """y = g(x) of every element, increasing.

    Args:
        x: f[B, ...].
        spline: with K bins for each element.

    Returns:
        y f[B, ...] and log |det dy / dx| f[B].

    Reference: Gregory & Delbourgo 1982; Durkan et al. 2019, equations 4 and 5.
    """
    inside = jnp.abs(x) < spline.bound
    # outside, the formula is given a place where it and its gradient are finite, and what it gives is not used
    x_safe = jnp.where(inside, x, 0.0)
    left, width, bottom, height, slope_left, slope_right = _bin(x_safe, spline, spline.widths)
    share = (x_safe - left) / width  # xi, in [0, 1]
    mean_slope = height / width  # s
    between = share * (1.0 - share)
    denominator = mean_slope + (slope_right + slope_left - 2.0 * mean_slope) * between
    y = bottom + height * (mean_slope * jnp.square(share) + slope_left * between) / denominator
    log_slope = _log_slope(share, mean_slope, slope_left, slope_right, denominator)
    return jnp.where(inside, y, x), sum_event(jnp.where(inside, log_slope, 0.0))


def rational_quadratic_inverse(y: Array, spline: Spline) -> tuple[Array, Array]:
    """x = g^-1(y) of every element, and log |det dx / dy| f[B]; see `rational_quadratic`.

    Reference: Durkan et al. 2019, equations 6 to 8.
    """
    inside = jnp.abs(y) < spline.bound
    y_safe = jnp.where(inside, y, 0.0)
    left, width, bottom, height, slope_left, slope_right = _bin(y_safe, spline, spline.heights)
    mean_slope, risen = height / width, y_safe - bottom
    bend = risen * (slope_right + slope_left - 2.0 * mean_slope)
    a = height * (mean_slope - slope_left) + bend
    b = height * slope_left - bend
    c = -mean_slope * risen
    # the root in [0, 1], by the form that does not cancel
    share = 2.0 * c / (-b - jnp.sqrt(jnp.maximum(jnp.square(b) - 4.0 * a * c, 0.0)))
    denominator = mean_slope + (slope_right + slope_left - 2.0 * mean_slope) * share * (1.0 - share)
    log_slope = _log_slope(share, mean_slope, slope_left, slope_right, denominator)
    return jnp.where(inside, left + share * width, y), -sum_event(jnp.where(inside, log_slope, 0.0))


def _bin(at: Array, spline: Spline, sizes: Array) -> tuple[Array, Array, Array, Array, Array, Array]:
    """(left, width, bottom, height, slope at the left, slope at the right) of the bin that holds `at`.

    `sizes` are the widths where `at` is an x, the heights where it is a y.
    """
    edges = jnp.cumsum(sizes, axis=-1)[..., :-1] - spline.bound  # the inner knots
    index = jnp.sum(at[..., None] >= edges, axis=-1, keepdims=True)  # of the bin, in 0, ..., K - 1
    take = lambda values, index: jnp.take_along_axis(values, index, axis=-1)[..., 0]
    start = lambda sizes: jnp.cumsum(sizes, axis=-1) - sizes - spline.bound
    return (
        take(start(spline.widths), index), take(spline.widths, index),
        take(start(spline.heights), index), take(spline.heights, index),
        take(spline.slopes, index), take(spline.slopes, index + 1),
    )  # fmt: skip


def _log_slope(share: Array, mean_slope: Array, slope_left: Array, slope_right: Array, denominator: Array) -> Array:
    """log dy / dx, equation 5."""
    rest = 1.0 - share
    numerator = slope_right * jnp.square(share) + 2.0 * mean_slope * share * rest + slope_left * jnp.square(rest)
    return 2.0 * jnp.log(mean_slope) + jnp.log(numerator) - 2.0 * jnp.log(denominator)
