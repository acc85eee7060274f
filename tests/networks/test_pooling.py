"""Pooling and unpooling: values, places and gradients by loops, and each the other's adjoint."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from genlab.errors import InputError
from genlab.networks import conv
from genlab.networks.pooling import max_pool_with_argmax, max_unpool

# size, window, strides, padding, the same padding in pairs
GEOMETRIES = {
    "tiles": ((6, 8), (2, 2), None, "VALID", ((0, 0), (0, 0))),
    "tiles with a remainder": ((7, 8), (2, 3), None, "VALID", ((0, 0), (0, 0))),
    "tiles, same": ((7, 5), (2, 2), None, "SAME", ((0, 1), (0, 1))),
    "tiles, same, before too": ((7, 4), (3, 3), (3, 3), "SAME", ((1, 1), (1, 1))),
    "overlapping": ((7, 6), (3, 3), (2, 2), "VALID", ((0, 0), (0, 0))),
    "overlapping, same": ((6, 5), (3, 2), (2, 1), "SAME", ((0, 1), (0, 1))),
    "apart": ((8, 7), (2, 1), (3, 2), "VALID", ((0, 0), (0, 0))),
    "pairs": ((4, 5), (3, 3), (1, 2), ((2, 0), (1, 2)), ((2, 0), (1, 2))),
    "one pixel": ((3, 2), (1, 1), (1, 1), "VALID", ((0, 0), (0, 0))),
    "the whole image": ((3, 4), (3, 4), None, "VALID", ((0, 0), (0, 0))),
}
geometries = pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)


def images(size, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    shape = (2, *size, 3)
    return (rng.integers(-2, 2, shape) if ties else rng.normal(size=shape)).astype(np.float32)


def pool_by_loops(x, window, strides, pads):
    """The definition, one window at a time; cells outside of the image are skipped."""
    n, height, width, channels = x.shape
    strides = strides or window
    rows = range(-pads[0][0], height + pads[0][1] - window[0] + 1, strides[0])
    columns = range(-pads[1][0], width + pads[1][1] - window[1] + 1, strides[1])
    values = np.full((n, len(rows), len(columns), channels), -np.inf, x.dtype)
    indices = np.full(values.shape, -1, np.int32)
    for m, i, j, c in np.ndindex(values.shape):
        for row in range(rows[i], rows[i] + window[0]):
            for column in range(columns[j], columns[j] + window[1]):
                if 0 <= row < height and 0 <= column < width:
                    value = x[m, row, column, c]
                    if indices[m, i, j, c] < 0 or value > values[m, i, j, c]:
                        values[m, i, j, c], indices[m, i, j, c] = value, row * width + column
    return values, indices


def unpool_by_loops(values, indices, size):
    """Each value added where it belongs."""
    n, channels = values.shape[0], values.shape[-1]
    out = np.zeros((n, size[0] * size[1], channels), values.dtype)
    for m, i, j, c in np.ndindex(values.shape):
        out[m, indices[m, i, j, c], c] += values[m, i, j, c]
    return out.reshape(n, *size, channels)


def gather_by_loops(x, indices):
    flat = x.reshape(len(x), -1, x.shape[-1])
    return np.array([flat[m, indices[m, i, j, c], c] for m, i, j, c in np.ndindex(indices.shape)]).reshape(
        indices.shape
    )


@pytest.mark.parametrize("ties", [False, True])
@geometries
def test_values_and_places_are_those_of_loops(geometry, ties):
    size, window, strides, padding, pads = geometry
    x = images(size, ties=ties)
    values, indices = jax.jit(lambda x: max_pool_with_argmax(x, window, strides, padding))(x)
    expected_values, expected_indices = pool_by_loops(x, window, strides, pads)
    np.testing.assert_array_equal(values, expected_values)
    np.testing.assert_array_equal(indices, expected_indices)
    assert values.dtype == jnp.float32 and indices.dtype == jnp.int32


@geometries
def test_derivatives_are_of_the_argmax_alone(geometry):
    """Of ties too, where XLA's own gradient and the mean of subgradients would differ."""
    size, window, strides, padding, pads = geometry
    x, tangent = images(size, ties=True), images(size, seed=1)
    _, indices = pool_by_loops(x, window, strides, pads)
    v = np.random.default_rng(2).normal(size=indices.shape).astype(np.float32)
    pool = lambda x: max_pool_with_argmax(x, window, strides, padding)[0]

    @jax.jit
    def derivatives(x, tangent, v):
        square = lambda x: 0.5 * jnp.sum(v * jnp.square(pool(x)))
        forward = jax.jvp(pool, (x,), (tangent,))[1]
        return forward, jax.vjp(pool, x)[1](v)[0], jax.jvp(jax.grad(square), (x,), (tangent,))[1]

    forward, backward, second = derivatives(x, tangent, v)
    gathered = gather_by_loops(tangent, indices)
    np.testing.assert_allclose(forward, gathered, rtol=1e-6)
    np.testing.assert_allclose(backward, unpool_by_loops(v, indices, size), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(second, unpool_by_loops(v * gathered, indices, size), rtol=1e-5, atol=1e-6)


@geometries
def test_unpooling_is_the_adjoint_of_gathering(geometry):
    size, window, strides, _, pads = geometry
    x = images(size)
    values, indices = pool_by_loops(x, window, strides, pads)
    v = np.random.default_rng(2).normal(size=indices.shape).astype(np.float32)
    unpooled = jax.jit(lambda v, i: max_unpool(v, i, size))(v, indices)
    np.testing.assert_allclose(unpooled, unpool_by_loops(v, indices, size), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.vdot(values, v), np.vdot(x, unpooled), rtol=1e-4)


def test_overlapping_windows_with_one_maximum_add():
    x = np.zeros((1, 3, 3, 1), np.float32)
    x[0, 1, 1, 0] = 5  # the maximum of all four windows
    values, indices = max_pool_with_argmax(x, 2, 1)
    np.testing.assert_array_equal(indices[0, ..., 0], [[4, 4], [4, 4]])
    np.testing.assert_array_equal(max_unpool(values, indices, (3, 3))[0, ..., 0], [[0, 0, 0], [0, 20, 0], [0, 0, 0]])


TILINGS = [((6, 8), (2, 2), "VALID"), ((7, 8), (2, 3), "VALID"), ((7, 5), (2, 2), "SAME"), ((3, 4), (3, 4), "VALID")]


@pytest.mark.parametrize(("size", "window", "padding"), TILINGS)
def test_unpooling_by_comparison_is_unpooling_by_scattering(size, window, padding):
    x, tangent = images(size), images(size, seed=1)
    values, indices = max_pool_with_argmax(x, window, padding=padding)
    expected = unpool_by_loops(np.asarray(values), np.asarray(indices), size)
    for fast in (window, None):
        unpool = lambda v, i, fast=fast: max_unpool(v, i, size, fast)
        there, back = jax.jit(lambda v, i, t: (unpool(v, i), jax.vjp(lambda v: unpool(v, i), v)[1](t)[0]))(
            values, indices, tangent
        )
        np.testing.assert_array_equal(there, expected)
        np.testing.assert_array_equal(back, gather_by_loops(tangent, np.asarray(indices)))


@pytest.mark.parametrize("window", [None, 2])
def test_unpooling_after_pooling_keeps_the_maxima_and_nothing_else(window):
    x = np.abs(images((6, 8))) + 1
    values, indices = max_pool_with_argmax(x, 2)
    unpooled = np.asarray(max_unpool(values, indices, x.shape, window))
    kept = unpooled != 0
    np.testing.assert_array_equal(unpooled[kept], x[kept])
    assert kept.sum() == values.size
    np.testing.assert_array_equal(max_pool_with_argmax(unpooled, 2)[0], values)


def test_the_shape_may_be_of_the_image_or_of_the_batch():
    values, indices = max_pool_with_argmax(images((6, 8)), 2)
    for shape in ((6, 8), (6, 8, 3), (2, 6, 8, 3)):
        assert max_unpool(values, indices, shape).shape == (2, 6, 8, 3)


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_padding_is_no_place_even_where_nothing_is_larger(padding):
    x = np.full((1, 3, 3, 1), -np.inf, np.float32)
    values, indices = max_pool_with_argmax(x, (3, 3), (1, 1), padding)
    expected = [[0]] if padding == "VALID" else [[0, 0, 1], [0, 0, 1], [3, 3, 4]]
    np.testing.assert_array_equal(indices[0, ..., 0], expected)
    assert np.all(np.asarray(values) == -np.inf)


@pytest.mark.parametrize("place", range(4))
def test_a_nan_is_not_hidden(place):
    x = np.arange(4, dtype=np.float32)
    x[place] = np.nan
    values, indices = max_pool_with_argmax(x.reshape(1, 2, 2, 1), 2)
    assert np.isnan(values).all() and np.asarray(indices).item() == place


@pytest.mark.parametrize(("window", "strides"), [(2, None), (3, 2)])
def test_members_and_loops(window, strides):
    """vmap is the members one by one, and a scan the steps one by one, gradients included."""
    stack = np.stack([images((6, 8), seed) for seed in range(3)])

    def there_and_back(x):
        values, indices = max_pool_with_argmax(x, window, strides)
        return jnp.sum(jnp.sin(max_unpool(jnp.square(values), indices, x.shape, None if strides else window)))

    gradient = jax.grad(there_and_back)
    alone = np.stack([jax.jit(gradient)(x) for x in stack])
    assert np.any(alone != 0)
    np.testing.assert_allclose(jax.jit(jax.vmap(gradient))(stack), alone, rtol=1e-6, atol=1e-6)
    scanned = jax.jit(lambda stack: lax.scan(lambda carry, x: (carry, gradient(x)), 0, stack)[1])(stack)
    np.testing.assert_allclose(scanned, alone, rtol=1e-6, atol=1e-6)


def test_bfloat16_stays_bfloat16():
    x = images((6, 8)).astype(jnp.bfloat16)
    values, indices = max_pool_with_argmax(x, 2, padding="SAME")
    _, expected = pool_by_loops(x.astype(np.float32), (2, 2), None, ((0, 0), (0, 0)))
    np.testing.assert_array_equal(indices, expected)
    for window in (None, 2):
        assert values.dtype == max_unpool(values, indices, (6, 8), window).dtype == jnp.bfloat16


def test_nothing_slow_is_in_the_program_of_tiles():
    """XLA's CPU compiler runs windows and scatters one element at a time."""

    def there_and_back(x):
        values, indices = max_pool_with_argmax(x, 2)
        return jnp.sum(jnp.sin(max_unpool(values, indices, x.shape, 2)))

    text = jax.jit(jax.value_and_grad(there_and_back)).lower(images((6, 8))).as_text()
    assert re.findall(r"stablehlo\.(reduce_window|select_and_scatter|scatter|gather|sort)\b", text) == []


def test_both_are_found_beside_the_convolutions():
    assert conv.max_pool_with_argmax is max_pool_with_argmax and conv.max_unpool is max_unpool


X = jnp.zeros((2, 6, 8, 3))
V, I = jnp.zeros((2, 3, 4, 3)), jnp.zeros((2, 3, 4, 3), jnp.int32)  # noqa: E741


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: max_pool_with_argmax(X[0], 2), "x must be floating-point images [N, H, W, C], got float32[6, 8, 3]"),
        (
            lambda: max_pool_with_argmax(X.astype(jnp.int32), 2),
            "x must be floating-point images [N, H, W, C], got int32[2, 6, 8, 3]",
        ),
        (lambda: max_pool_with_argmax(X, 0), "window must be one positive integer or a pair, got 0"),
        (lambda: max_pool_with_argmax(X, (2, 2, 2)), "window must be one positive integer or a pair, got (2, 2, 2)"),
        (lambda: max_pool_with_argmax(X, 2, (1, 0)), "strides must be one positive integer or a pair, got (1, 0)"),
        (
            lambda: max_pool_with_argmax(X, (7, 2)),
            "windows of (7, 2) do not fit into images of (6, 8) padded by ((0, 0), (0, 0))",
        ),
        (
            lambda: max_pool_with_argmax(X, 2, padding="FULL"),
            'padding must be "SAME", "VALID" or two pairs in [0, window), got \'FULL\'',
        ),
        (
            lambda: max_pool_with_argmax(X, 2, padding=((2, 0), (0, 0))),
            'padding must be "SAME", "VALID" or two pairs in [0, window), got ((2, 0), (0, 0))',
        ),
        (
            lambda: max_unpool(V, I[:1], (6, 8)),
            "values and indices must be [N, H, W, C] of one shape, got (2, 3, 4, 3) and (1, 3, 4, 3)",
        ),
        (
            lambda: max_unpool(V, V, (6, 8)),
            "indices must be integers, got float32",
        ),
        (
            lambda: max_unpool(V, I, (6, 8, 4)),
            "output_shape must be (H, W), (H, W, 3) or (2, H, W, 3), got (6, 8, 4)",
        ),
        (
            lambda: max_unpool(V, I, (6, 8), 3),
            "windows of (3, 3) do not tile images of (6, 8) by (3, 4)",
        ),
    ],
)
def test_wrong_input_is_refused(call, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        call()
