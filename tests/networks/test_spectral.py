"""Spectral normalisation against numpy's singular values, and the gradient of W / sigma(W) by finite differences."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.errors import InputError
from genlab.networks import spectral

KEY = jax.random.key(5)

init_vectors = jax.jit(spectral.init_vectors)
normalize = jax.jit(spectral.normalize, static_argnames="num_iterations")


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


PARAMS = {
    "trunk": {
        "Dense_0": {"kernel": normal(0, 5, 3), "bias": normal(1, 3)},
        "Conv_0": {"kernel": normal(2, 3, 3, 2, 4), "bias": normal(3, 4)},
        "BatchNorm_0": {"scale": normal(4, 4)},
    },
    "heads": [{"kernel": normal(5, 3, 7)}, {"kernel": normal(6, 6)}],  # the second is a vector
    "Embed_0": {"embedding": normal(7, 9, 4), "pos_embedding": normal(8, 9, 4)},
    "attention": {"kernel": normal(9, 4, 2, 3), "kernel_0": normal(10, 2, 2)},
}
SIZES = {
    "trunk/Dense_0/kernel": 3,
    "trunk/Conv_0/kernel": 4,
    "heads/0/kernel": 7,
    "Embed_0/embedding": 4,
    "attention/kernel": 3,
}


def named(tree):
    leaves = jax.tree.leaves_with_path(tree)
    return {
        "/".join(str(getattr(key, "key", getattr(key, "idx", None))) for key in path): leaf for path, leaf in leaves
    }


def largest_singular_value(kernel):
    """Of the matrix [all axes but the last, last axis], by numpy in float64."""
    kernel = np.asarray(kernel, np.float64)
    return np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)[0]


def test_there_is_one_unit_vector_for_every_kernel_and_embedding():
    vectors = init_vectors(PARAMS, KEY)
    assert {name: u.shape for name, u in vectors.items()} == {name: (size,) for name, size in SIZES.items()}
    for u in vectors.values():
        assert u.dtype == jnp.float32
        np.testing.assert_allclose(np.linalg.norm(u), 1.0, rtol=1e-6)
    first, other = init_vectors(PARAMS, KEY), init_vectors(PARAMS, jax.random.key(6))
    assert all(np.array_equal(first[name], vectors[name]) for name in SIZES)
    assert not any(np.allclose(other[name], vectors[name]) for name in SIZES)
    assert not np.allclose(vectors["trunk/Conv_0/kernel"], vectors["Embed_0/embedding"])  # both of size 4


def test_by_hand():
    params, vectors = {"kernel": jnp.diag(jnp.array([3.0, 1.0]))}, {"kernel": jnp.array([0.5, 0.5]) * 2**0.5}
    # v = (3, 1) / sqrt 10, u = (9, 1) / sqrt 82, sigma = 82 / sqrt 820 = sqrt 8.2
    normalized, moved = normalize(params, vectors)
    np.testing.assert_allclose(normalized["kernel"], np.diag([3.0, 1.0]) / np.sqrt(8.2), rtol=1e-6)
    np.testing.assert_allclose(moved["kernel"], np.array([9, 1]) / np.sqrt(82), rtol=1e-6)
    # without an iteration sigma = |W u| = sqrt 5
    normalized, moved = normalize(params, vectors, num_iterations=0)
    np.testing.assert_allclose(normalized["kernel"], np.diag([3.0, 1.0]) / np.sqrt(5), rtol=1e-6)
    np.testing.assert_array_equal(moved["kernel"], vectors["kernel"])


def test_a_kernel_that_is_not_square_by_hand():
    # [in, out] = [1, 2]: u belongs to the outputs, and sigma is the length of the row
    params, vectors = {"kernel": jnp.array([[3.0, -4.0]])}, {"kernel": jnp.array([1.0, 0.0])}
    normalized, moved = normalize(params, vectors)
    np.testing.assert_allclose(normalized["kernel"], [[0.6, -0.8]], rtol=1e-6)
    np.testing.assert_allclose(moved["kernel"], [0.6, -0.8], rtol=1e-6)


def test_after_many_iterations_the_divisor_is_the_largest_singular_value():
    normalized, vectors = normalize(PARAMS, init_vectors(PARAMS, KEY), 300)
    assert jax.tree.structure(normalized) == jax.tree.structure(PARAMS)
    before, after = named(PARAMS), named(normalized)
    for name, leaf in before.items():
        if name not in SIZES:
            np.testing.assert_array_equal(after[name], leaf)
            continue
        np.testing.assert_allclose(after[name], leaf / largest_singular_value(leaf), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(largest_singular_value(after[name]), 1.0, rtol=1e-5)
        # u is the right singular vector, up to its sign
        right = np.linalg.svd(np.float64(leaf).reshape(-1, leaf.shape[-1]))[2][0]
        np.testing.assert_allclose(abs(right @ np.float64(vectors[name])), 1.0, rtol=1e-5)


def test_a_convolution_is_seen_by_its_output_channels():
    kernel = PARAMS["trunk"]["Conv_0"]["kernel"]
    by_row = np.linalg.svd(np.float64(kernel).reshape(3, -1), compute_uv=False)[0]
    by_input = np.linalg.svd(np.moveaxis(np.float64(kernel), 2, 0).reshape(2, -1), compute_uv=False)[0]
    normalized, _ = normalize({"kernel": kernel}, {"kernel": jnp.ones(4) / 2}, 300)
    sigma = float(kernel[0, 0, 0, 0] / normalized["kernel"][0, 0, 0, 0])
    np.testing.assert_allclose(sigma, largest_singular_value(kernel), rtol=1e-5)
    assert abs(sigma - by_row) > 0.1 and abs(sigma - by_input) > 0.1


def test_iterations_go_on_from_the_vectors_of_the_call_before():
    kernel, start = {"kernel": normal(11, 6, 4)}, {"kernel": jnp.ones(4) / 2}
    once, vectors = normalize(kernel, start)
    for count in (2, 3):
        once, vectors = normalize(kernel, vectors)
        together, moved = normalize(kernel, start, count)
        np.testing.assert_allclose(together["kernel"], once["kernel"], rtol=1e-5)
        np.testing.assert_allclose(moved["kernel"], vectors["kernel"], rtol=1e-5)
    # from below: sigma grows, towards the singular value
    size = lambda count: float(np.linalg.norm(normalize(kernel, start, count)[0]["kernel"]))
    sizes = [size(count) for count in (0, 1, 2, 50)]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > sizes[-1] * 1.001


@pytest.mark.parametrize("shape", [(2, 4), (2, 2, 3, 4)])
def test_gradient_is_that_of_the_kernel_over_its_singular_value(shape):
    kernel, weights = normal(12, *shape), normal(13, *shape)
    vectors = normalize({"kernel": kernel}, {"kernel": jnp.ones(shape[-1]) / shape[-1] ** 0.5}, 500)[1]
    loss = lambda kernel: jnp.sum(jnp.sin(normalize({"kernel": kernel}, vectors)[0]["kernel"]) * weights)
    w, c, h = np.float64(kernel), np.float64(weights), 1e-5
    in_float64 = lambda w: np.sum(np.sin(w / largest_singular_value(w)) * c)
    expected = np.zeros(shape)
    for index in np.ndindex(*shape):
        step = np.zeros(shape)
        step[index] = h
        expected[index] = (in_float64(w + step) - in_float64(w - step)) / (2 * h)
    gradient = jax.jit(jax.grad(loss))(kernel)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)
    # moving along the kernel changes nothing: the gradient of sigma is in it
    np.testing.assert_allclose(np.sum(np.asarray(gradient) * np.asarray(kernel)), 0.0, atol=1e-5)


@pytest.mark.parametrize("num_iterations", [0, 1])
def test_gradient_holds_the_vectors_fixed(num_iterations):
    kernel, weights, start = normal(14, 4, 3), normal(15, 4, 3), jnp.array([0.0, 0.6, 0.8])
    w, c, u = np.float64(kernel), np.float64(weights), np.float64(start)
    v = w @ u / np.linalg.norm(w @ u)
    if num_iterations:
        u = v @ w / np.linalg.norm(v @ w)
    sigma = v @ w @ u
    # equation 12: (C - <C, W / sigma> v u') / sigma
    expected = (c - np.sum(c * w) / sigma * np.outer(v, u)) / sigma
    loss = lambda w, u: jnp.sum(normalize({"kernel": w}, {"kernel": u}, num_iterations)[0]["kernel"] * weights)
    gradient, in_vector = jax.jit(jax.grad(loss, argnums=(0, 1)))(kernel, start)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(in_vector, np.zeros(3))


@pytest.mark.parametrize("num_iterations", [0, 1, 3])
def test_a_kernel_of_zeros_stays_and_keeps_its_vector(num_iterations):
    vectors = {"kernel": jnp.array([0.6, 0.8])}
    loss = lambda w: jnp.sum(normalize({"kernel": w}, vectors, num_iterations)[0]["kernel"])
    normalized, moved = normalize({"kernel": jnp.zeros((3, 2))}, vectors, num_iterations)
    np.testing.assert_array_equal(normalized["kernel"], np.zeros((3, 2)))
    np.testing.assert_array_equal(moved["kernel"], vectors["kernel"])
    np.testing.assert_array_equal(jax.grad(loss)(jnp.zeros((3, 2))), np.ones((3, 2)))


def test_a_population_is_normalized_member_by_member():
    keys = jax.random.split(KEY, 3)
    params = {"Conv_0": {"kernel": normal(16, 3, 2, 2, 3, 4), "bias": normal(17, 3, 4)}}
    vectors = jax.jit(jax.vmap(init_vectors))(params, keys)
    normalized, moved = jax.jit(jax.vmap(lambda params, vectors: normalize(params, vectors, 2)))(params, vectors)
    for i in range(3):
        member = lambda tree: jax.tree.map(lambda leaf: leaf[i], tree)
        solo, solo_moved = normalize(member(params), init_vectors(member(params), keys[i]), 2)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), member(normalized), solo)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), member(moved), solo_moved)


def test_a_normalized_linen_network_is_a_contraction():
    network: Any = nn.Sequential([nn.Dense(16), nn.relu, nn.Dense(16), nn.relu, nn.Dense(1)])
    x, y = normal(18, 50, 8), normal(19, 50, 8)
    params = jax.tree.map(lambda leaf: 3.0 * leaf, jax.jit(network.init)(KEY, x)["params"])
    normalized, _ = normalize(params, init_vectors(params, KEY), 100)
    run = jax.jit(lambda params, x: network.apply({"params": params}, x)[:, 0])
    slopes = lambda params: np.abs(run(params, x) - run(params, y)) / np.linalg.norm(np.asarray(x - y), axis=1)
    assert np.max(slopes(normalized)) <= 1.0 < np.max(slopes(params))


def test_parameters_without_kernels_pass():
    params = {"scale": jnp.ones(3)}
    assert init_vectors(params, KEY) == {}
    normalized, vectors = spectral.normalize(params, {})
    assert vectors == {} and normalized["scale"] is params["scale"]


@pytest.mark.parametrize(
    "vectors", [{}, {"kernel": jnp.ones(2)}, {"kernel": jnp.ones(3), "other/kernel": jnp.ones(3)}, {"k": jnp.ones(3)}]
)
def test_vectors_of_other_parameters_are_refused(vectors):
    with pytest.raises(ValueError, match=r"the vectors are of other parameters: they differ at .*k"):
        normalize({"kernel": jnp.ones((2, 3))}, vectors)


def test_a_negative_number_of_iterations_is_refused():
    with pytest.raises(InputError, match="num_iterations must be 0 or more, got -1"):
        normalize({}, {}, num_iterations=-1)
