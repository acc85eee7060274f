"""Statistics across a batch against double loops over it, on one device and on eight."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.networks import minibatch
from genlab.networks.minibatch import MinibatchDiscrimination
from genlab.training import devices

minibatch_stddev = jax.jit(minibatch.minibatch_stddev, static_argnums=1)


def normal(seed, shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def slow_stddev(x, group_size):
    """The appended number of each example, f64[B], one feature at a time."""
    x = np.asarray(x, np.float64)
    num_groups = len(x) // group_size
    appended = np.empty(len(x))
    for i in range(len(x)):
        members = x[[j for j in range(len(x)) if j % num_groups == i % num_groups]].reshape(group_size, -1)
        assert len(members) == group_size
        deviations = [np.sqrt(np.mean((column - column.mean()) ** 2) + 1e-8) for column in members.T]
        appended[i] = np.mean(deviations)
    return appended


@pytest.mark.parametrize(
    ("shape", "group_size"), [((12, 5), 4), ((12, 5), 1), ((12, 4, 3, 2), 2), ((12, 4, 3, 2), 12), ((12, 4, 3, 2), 100)]
)
def test_stddev_appends_the_groups_mean_deviation(shape, group_size):
    x = normal(0, shape)
    y = minibatch_stddev(x, group_size)
    assert y.shape == (*shape[:-1], shape[-1] + 1) and y.dtype == jnp.float32
    np.testing.assert_array_equal(y[..., :-1], x)
    want = slow_stddev(x, min(group_size, 12)).reshape(-1, *(1,) * (len(shape) - 1))
    np.testing.assert_allclose(y[..., -1:], np.broadcast_to(want, (*shape[:-1], 1)), rtol=2e-6)


def test_group_order_is_the_published_one():
    """Examples i and i + M are in one group: with M = 3, one pair differs by 2 and so deviates by 1, another by 3."""
    x = jnp.array([0.0, 10.0, 20.0, 2.0, 10.0, 26.0])[:, None]
    appended = minibatch_stddev(x, 2)[:, 1]
    np.testing.assert_allclose(appended, [1, 1e-4, 3, 1, 1e-4, 3], rtol=1e-5)


def test_stddev_of_one_image_is_the_root_of_epsilon_and_its_gradient_is_finite():
    x = jnp.broadcast_to(normal(1, (4, 4, 1)), (8, 4, 4, 1))
    np.testing.assert_allclose(minibatch_stddev(x, 4)[..., -1], 1e-4, rtol=1e-3)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(minibatch_stddev(x, 4)[..., -1])))(x)
    np.testing.assert_allclose(gradient, 0, atol=1e-3)  # a deviation is least there


def test_stddev_in_bfloat16_is_computed_in_float32():
    x = (100 + normal(2, (8, 64))).astype(jnp.bfloat16)  # whose squares bfloat16 could not tell apart
    y = minibatch_stddev(x, 4)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y[:, -1].astype(jnp.float32), slow_stddev(x.astype(jnp.float32), 4), rtol=2**-8)


@pytest.mark.parametrize("group_size", [5, 8, 0])
def test_groups_that_do_not_make_up_the_batch_are_refused(group_size):
    with pytest.raises(ValueError, match=rf"^a batch of 12 examples cannot be divided into groups of {group_size}$"):
        minibatch.minibatch_stddev(jnp.zeros((12, 3)), group_size)


def slow_discrimination(x, kernel):
    """The appended features f64[B, num_kernels], of f64 arrays."""
    rows = np.einsum("ia,abc->ibc", x, kernel)
    closeness = np.zeros((len(x), kernel.shape[1]))
    for i in range(len(x)):
        for b in range(kernel.shape[1]):
            for j in range(len(x)):
                closeness[i, b] += np.exp(-np.abs(rows[i, b] - rows[j, b]).sum())
    return closeness


@functools.cache
def discrimination(dtype=None):
    module = MinibatchDiscrimination(num_kernels=3, kernel_dim=2, dtype=dtype)
    return module, jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 4)))


def test_discrimination_is_the_papers_double_sum():
    x, (module, variables) = normal(3, (6, 4)), discrimination()
    kernel = variables["params"]["tensor"]
    assert kernel.shape == (4, 3, 2) and kernel.dtype == jnp.float32
    y = module.apply(variables, x)
    assert y.shape == (6, 7)
    np.testing.assert_array_equal(y[:, :4], x)
    np.testing.assert_allclose(y[:, 4:], slow_discrimination(np.float64(x), np.float64(kernel)), rtol=2e-5)


def test_discriminations_gradient_is_that_of_the_double_sum():
    x, (module, variables) = normal(4, (5, 4)), discrimination()
    weights, step = np.random.default_rng(5).normal(size=(5, 3)), 1e-6
    gradients = jax.grad(lambda *given: jnp.sum(weights.astype(np.float32) * module.apply(*given)[:, 4:]), (0, 1))(
        variables, jnp.asarray(x)
    )
    arrays = [np.float64(variables["params"]["tensor"]), np.float64(x)]
    for which, gradient in enumerate([gradients[0]["params"]["tensor"], gradients[1]]):
        numeric = np.empty(gradient.shape)
        for place in np.ndindex(*gradient.shape):
            ends = []
            for sign in (1, -1):
                moved = [array.copy() for array in arrays]
                moved[which][place] += sign * step
                ends.append(np.sum(weights * slow_discrimination(moved[1], moved[0])))
            numeric[place] = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(gradient, numeric, rtol=1e-4, atol=1e-5)


def test_discrimination_finds_a_generator_of_one_image():
    module, variables = discrimination()
    same = module.apply(variables, jnp.broadcast_to(normal(6, (1, 4)), (9, 4)))[:, 4:]
    np.testing.assert_allclose(same, 9, rtol=1e-6)
    apart = module.apply(variables, 1e3 * normal(6, (9, 4)))[:, 4:]
    np.testing.assert_allclose(apart, 1, rtol=1e-6)  # j = i


def test_discriminations_kernel_starts_with_columns_of_unit_length():
    module = MinibatchDiscrimination(num_kernels=50, kernel_dim=8)
    kernel = module.init(jax.random.key(1), jnp.zeros((1, 256)))["params"]["tensor"]
    squares = np.sum(np.square(kernel), axis=0)  # each has variance 2 / 256
    assert squares.mean() == pytest.approx(1, abs=0.02) and squares.std() == pytest.approx(np.sqrt(2 / 256), rel=0.2)


def test_discrimination_in_bfloat16_takes_distances_in_float32():
    x, (module, variables) = normal(7, (64, 4)), discrimination(jnp.bfloat16)
    y = module.apply(variables, x)
    assert y.dtype == jnp.bfloat16
    rows = jnp.einsum("ia,abc->ibc", x.astype(jnp.bfloat16), variables["params"]["tensor"].astype(jnp.bfloat16))
    rows = np.asarray(rows.astype(jnp.float32), np.float64).reshape(64, -1)
    want = slow_discrimination(rows, np.eye(6).reshape(6, 3, 2))
    np.testing.assert_allclose(y[:, 4:].astype(jnp.float32), want, rtol=2**-8)


def test_discrimination_takes_features_alone():
    with pytest.raises(ValueError, match=r"takes \[B, A\], not \(2, 4, 4, 1\)"):
        discrimination()[0].apply(discrimination()[1], jnp.zeros((2, 4, 4, 1)))


def test_order_within_the_batch_does_not_matter():
    x, order, (module, variables) = normal(8, (12, 4)), np.random.default_rng(9).permutation(12), discrimination()
    np.testing.assert_allclose(module.apply(variables, x[order]), module.apply(variables, x)[order], rtol=1e-5)
    np.testing.assert_allclose(minibatch_stddev(x[order], 12), minibatch_stddev(x, 12)[order], rtol=1e-6)


@jax.jit
def seen_together(variables, x):
    """Both features of a batch, and the gradients of a function of them."""
    module = discrimination()[0]

    def features(variables, x):
        return minibatch_stddev(module.apply(variables, x), 4)

    gradients = jax.grad(lambda *given: jnp.sum(jnp.cos(features(*given))), (0, 1))(variables, x)
    return features(variables, x), gradients


def assert_trees_close(a, b):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


def test_a_split_batch_is_as_a_whole_one():
    x, (_, variables) = normal(10, (16, 4)), discrimination()
    mesh = devices.make_mesh(8, "data")
    placed = devices.put(variables, devices.on_all(mesh)), devices.put(x, devices.split(mesh))
    split = seen_together(*placed)
    assert len(split[0].sharding.device_set) == 8
    assert_trees_close(split, seen_together(variables, x))


def test_a_population_is_as_each_alone():
    xs = normal(11, (3, 16, 4))
    module = discrimination()[0]
    variables = jax.vmap(lambda key: module.init(key, jnp.zeros((1, 4))))(jax.random.split(jax.random.key(0), 3))
    together = jax.jit(jax.vmap(seen_together))(variables, xs)
    for number in range(3):
        mine = jax.tree.map(lambda leaf, number=number: leaf[number], (variables, xs))
        alone = seen_together(*mine)
        assert_trees_close(jax.tree.map(lambda leaf, number=number: leaf[number], together), alone)


def test_batch_norm_of_a_split_batch_has_the_whole_ones_statistics():
    """Not those of each device's part, which here have means from 0 to 7."""
    x = normal(12, (32, 3, 3, 2)) + np.repeat(np.arange(8, dtype=np.float32), 4)[:, None, None, None]
    module = nn.BatchNorm(use_running_average=False, momentum=0.0)
    variables = module.init(jax.random.key(0), x)
    mesh = devices.make_mesh(8, "data")
    placed = devices.put(variables, devices.on_all(mesh)), devices.put(x, devices.split(mesh))
    normalised, updated = jax.jit(lambda variables, x: module.apply(variables, x, mutable=["batch_stats"]))(*placed)
    stats = updated["batch_stats"]
    np.testing.assert_allclose(stats["mean"], np.float64(x).mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(stats["var"], np.float64(x).var((0, 1, 2)), rtol=2e-6)
    alone, _ = jax.jit(lambda variables, x: module.apply(variables, x, mutable=["batch_stats"]))(variables, x)
    np.testing.assert_allclose(normalised, alone, atol=1e-6)
