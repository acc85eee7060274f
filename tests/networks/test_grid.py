"""Networks between images and grids of vectors: shapes, places, and the residual block by Linen's own layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from genlab.errors import InputError
from genlab.networks.grid import GridDecoder, GridEncoder, Residual, grid_shape

KEY = jax.random.key(0)


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def reached(function, x, place):
    """bool over the output's rows and columns: which move with x at `place`."""
    tangent = np.zeros_like(x)
    tangent[place] = 1.0
    moved = np.abs(np.asarray(function(x + tangent)) - np.asarray(function(x))).max(axis=(0, 3))
    return moved > 1e-7


@pytest.mark.parametrize("num_residual", [0, 2])
def test_two_halvings_of_an_image_and_back(num_residual):
    x = np.random.default_rng(0).uniform(size=(2, 28, 20, 3)).astype(np.float32)
    encoder, decoder = GridEncoder((6, 8), 5, num_residual), GridDecoder((8, 6), 4, num_residual)
    codes, encoded = jax.jit(encoder.init_with_output)(KEY, x)
    images, decoded = jax.jit(decoder.init_with_output)(KEY, codes)
    assert codes.shape == (2, 7, 5, 5) and images.shape == (2, 28, 20, 4)
    residual = num_residual * (9 * 8 * 4 + 4 + 4 * 8 + 8)
    assert count(encoded["params"]) == 16 * 3 * 6 + 6 + 16 * 6 * 8 + 8 + residual + 8 * 5 + 5
    assert count(decoded["params"]) == 9 * 5 * 8 + 8 + residual + 16 * 8 * 6 + 6 + 16 * 6 * 4 + 4
    assert grid_shape((28, 20, 3), 2) == (7, 5)


def test_a_place_of_the_grid_sees_and_draws_what_lies_around_it():
    encoder, decoder = GridEncoder((6, 8), 5, activation=nn.gelu), GridDecoder((8, 6), 1, activation=nn.gelu)
    x = np.random.default_rng(0).uniform(size=(1, 28, 28, 1)).astype(np.float32)
    codes, encoded = encoder.init_with_output(KEY, x)
    seen = reached(jax.jit(lambda x: encoder.apply(encoded, x)), x, (0, 13, 14, 0))  # in row 3 and column 3
    assert seen[3, 3] and not seen[:2].any() and not seen[5:].any() and not seen[:, :2].any() and not seen[:, 5:].any()
    decoded = decoder.init(KEY, codes)
    drawn = reached(jax.jit(lambda z: decoder.apply(decoded, z)), np.array(codes), (0, 3, 3, 0))
    assert drawn[12:16, 12:16].all() and drawn[5:23, 5:23].any(axis=0).all()
    assert not drawn[:5].any() and not drawn[23:].any() and not drawn[:, :5].any() and not drawn[:, 23:].any()


def test_the_residual_block_is_two_convolutions_beside_the_identity():
    x = np.random.default_rng(0).normal(size=(2, 5, 5, 6)).astype(np.float32)
    y, variables = jax.jit(Residual(3).init_with_output)(KEY, x)
    params = variables["params"]
    inner = nn.Conv(3, (3, 3)).apply({"params": params["Conv_0"]}, np.maximum(x, 0))
    expected = x + np.asarray(nn.Conv(6, (1, 1)).apply({"params": params["Conv_1"]}, jnp.maximum(inner, 0)))
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(np.asarray(y) - x).max() > 0.01


@pytest.mark.parametrize(("shape", "num_halvings"), [((28, 28, 1), 3), ((14, 16, 3), 2), ((16, 14, 3), 2)])
def test_sides_that_cannot_be_halved_are_refused(shape, num_halvings):
    with pytest.raises(InputError, match=f"divisible by {2**num_halvings}; these are {shape[0]}x{shape[1]}"):
        grid_shape(shape, num_halvings)


def test_bfloat16_is_of_the_arithmetic_only():
    x = np.random.default_rng(0).uniform(size=(2, 8, 8, 1)).astype(np.float32)
    full, half = (GridEncoder((6, 8), 5, 1, dtype=dtype) for dtype in (None, jnp.bfloat16))
    variables = full.init(KEY, x)
    a, b = (jax.jit(each.apply)(variables, x) for each in (full, half))
    assert b.dtype == jnp.float32 and np.any(np.asarray(a) != np.asarray(b))
    np.testing.assert_allclose(a, b, atol=0.05)
