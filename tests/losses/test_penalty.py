"""Penalties on derivatives against the Jacobian row by row, hand numbers, Rifai's closed form and lax."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy import stats

from genlab.losses.penalty import (
    ROWS_AT_ONCE,
    contractive_penalty,
    gradient_penalty,
    r1_penalty,
    sigmoid_layer_contractive_penalty,
)
from genlab.networks.conv import conv2d
from genlab.networks.convolutional import ConvEncoder


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def squared_jacobian(encode, x):
    """Brute force: one example at a time, one entry of the Jacobian at a time."""
    jacobians = [jax.jacrev(lambda one: encode(one[None])[0])(example) for example in x]
    return np.array([np.square(np.asarray(each, np.float64)).sum() for each in jacobians])


def test_contractive_penalty_of_a_linear_code_is_its_squared_kernel():
    kernel = jnp.array([[1.0, 2.0], [0.0, -3.0], [0.5, 0.0]])
    np.testing.assert_allclose(contractive_penalty(lambda x: x @ kernel, normal(0, 4, 3)), [14.25] * 4, rtol=1e-6)


def test_contractive_penalty_by_hand():
    x = jnp.array([[1.0, 2.0], [0.0, -1.0]])
    encode = lambda x: jnp.stack([x[:, 0] * x[:, 1], x[:, 1] ** 2], axis=1)
    # rows (x2, x1) and (0, 2 x2)
    np.testing.assert_allclose(contractive_penalty(encode, x), [4 + 1 + 16, 1 + 0 + 4])


@pytest.mark.parametrize("dim", [1, 5, ROWS_AT_ONCE + 3])
def test_contractive_penalty_of_a_sigmoid_layer_is_rifais_closed_form(dim):
    kernel, bias, x = normal(1, 6, dim), normal(2, dim), normal(3, 4, 6)
    encode = lambda x: jax.nn.sigmoid(x @ kernel + bias)
    h, w = np.asarray(encode(x), np.float64), np.asarray(kernel, np.float64)
    expected = np.square(h * (1 - h)) @ np.square(w).sum(axis=0)
    np.testing.assert_allclose(contractive_penalty(encode, x), expected, rtol=1e-5)
    np.testing.assert_allclose(sigmoid_layer_contractive_penalty(encode(x), kernel), expected, rtol=1e-5)


def test_contractive_penalty_gradient_is_that_of_the_closed_form():
    x, bias = normal(3, 4, 6), normal(2, 5)

    def by_jacobian(kernel):
        return jnp.sum(contractive_penalty(lambda x: jax.nn.sigmoid(x @ kernel + bias), x))

    def in_closed_form(kernel):
        return jnp.sum(sigmoid_layer_contractive_penalty(jax.nn.sigmoid(x @ kernel + bias), kernel))

    kernel = normal(1, 6, 5)
    np.testing.assert_allclose(jax.grad(by_jacobian)(kernel), jax.grad(in_closed_form)(kernel), rtol=1e-4, atol=1e-5)
    # and both are the slope of the penalty
    direction, h = normal(4, 6, 5), 1e-2
    slope = (by_jacobian(kernel + h * direction) - by_jacobian(kernel - h * direction)) / (2 * h)
    np.testing.assert_allclose(jnp.sum(jax.grad(by_jacobian)(kernel) * direction), slope, rtol=1e-2)


def test_contractive_penalty_goes_through_convolutions_and_so_does_its_gradient():
    network: Any = ConvEncoder((2, 3), (4,), nn.tanh)
    x = normal(5, 2, 8, 8, 1)
    params = network.init(jax.random.key(0), x)
    penalty = lambda params, x: contractive_penalty(lambda x: network.apply(params, x), x)
    np.testing.assert_allclose(
        jax.jit(penalty)(params, x), squared_jacobian(lambda x: network.apply(params, x), x), rtol=1e-4
    )
    # the gradient, against the slope along itself
    total = jax.jit(lambda params: jnp.sum(penalty(params, x)))
    gradient = jax.jit(jax.grad(total))(params)
    h, squared = 1e-3, sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(gradient))
    move = lambda sign: jax.tree.map(lambda p, g: p + sign * h * g / np.float32(squared**0.5), params, gradient)
    np.testing.assert_allclose((total(move(1)) - total(move(-1))) / (2 * h), squared**0.5, rtol=1e-2)


def test_contractive_penalty_of_a_population_is_that_of_each_member():
    kernels, x = normal(6, 3, 4, 2), normal(7, 5, 4)
    penalty = lambda kernel: contractive_penalty(lambda x: jnp.tanh(x @ kernel), x)
    np.testing.assert_allclose(jax.vmap(penalty)(kernels), [penalty(kernel) for kernel in kernels], rtol=1e-5)


def test_contractive_penalty_wants_codes_of_every_example():
    with pytest.raises(ValueError, match=r"codes \[B, D\] of 3 examples; got shape \(3,\)"):
        contractive_penalty(lambda x: jnp.sum(x, axis=1), normal(0, 3, 2))


def test_sigmoid_layer_penalty_wants_a_kernel_of_the_code():
    with pytest.raises(ValueError, match="equal shapes"):
        sigmoid_layer_contractive_penalty(jnp.full((3, 2), 0.5), normal(0, 2, 5))


KEY = jax.random.key(11)


@pytest.mark.parametrize(("target", "expected"), [(1.0, 16.0), (0.0, 25.0), (7.0, 4.0)])
def test_gradient_penalty_of_a_linear_critic_by_hand(target, expected):
    w, real, fake = jnp.array([3.0, -4.0]), normal(0, 5, 2), normal(1, 5, 2)
    penalty = jax.jit(lambda w: gradient_penalty(lambda x: x @ w, real, fake, KEY, target))
    np.testing.assert_allclose(penalty(w), [expected] * 5, rtol=1e-6)
    # d (|w| - t)^2 / dw = 2 (|w| - t) w / |w|, for each of five examples
    slope = jax.jit(jax.grad(lambda w: jnp.sum(penalty(w))))(w)
    np.testing.assert_allclose(slope, 5 * 2 * (5 - target) * np.array([0.6, -0.8]), rtol=1e-5)


def test_gradient_penalty_takes_the_norm_over_the_whole_image():
    w = normal(2, 4, 4, 3)
    critic = lambda x: jnp.sum(x * w, axis=(1, 2, 3))
    expected = (np.linalg.norm(np.asarray(w, np.float64).ravel()) - 1) ** 2
    penalty = jax.jit(lambda real, fake: gradient_penalty(critic, real, fake, KEY))
    images = normal(0, 2, 4, 4, 3), normal(1, 2, 4, 4, 3)
    np.testing.assert_allclose(penalty(*images), [expected] * 2, rtol=1e-5)


def interpolated(real, fake, key):
    """x_hat, read through critics 0.5 x_i^2, of which the penalty with target 0 is x_hat_i^2; it is positive here."""
    read = lambda i: gradient_penalty(lambda x: 0.5 * jnp.square(x.reshape(len(x), -1)[:, i]), real, fake, key, 0.0)
    return np.sqrt(jax.jit(jax.vmap(read, out_axes=1))(jnp.arange(real[0].size)))


def test_gradient_penalty_takes_one_epsilon_for_every_example():
    real, fake = 1.0 + jax.random.uniform(jax.random.key(3), (4, 2, 3)), 5.0 + jax.random.uniform(KEY, (4, 2, 3))
    flat_real, flat_fake = np.asarray(real).reshape(4, 6), np.asarray(fake).reshape(4, 6)
    epsilon = (interpolated(real, fake, KEY) - flat_fake) / (flat_real - flat_fake)
    np.testing.assert_allclose(epsilon, np.broadcast_to(epsilon[:, :1], (4, 6)), atol=1e-5)
    assert np.all((epsilon >= 0) & (epsilon < 1)) and len(np.unique(epsilon[:, 0].round(4))) == 4
    another = (interpolated(real, fake, jax.random.key(12)) - flat_fake) / (flat_real - flat_fake)
    assert np.all(np.abs(another - epsilon) > 1e-4)


def test_gradient_penalty_of_a_quadratic_critic_is_uniform_along_the_segment():
    real, fake = jnp.full((2000, 4), 2.0), jnp.zeros((2000, 4))
    # |grad| = |x_hat| = 4 epsilon: the root of the penalty with target 0 is uniform on [0, 4]
    penalty = jax.jit(lambda target: gradient_penalty(lambda x: 0.5 * jnp.sum(x**2, axis=1), real, fake, KEY, target))
    slopes = np.sqrt(penalty(0.0))
    assert stats.kstest(slopes / 4, "uniform").pvalue > 0.01
    # and the penalty itself, at the same points: (|x_hat| - 1)^2
    np.testing.assert_allclose(penalty(1.0), (slopes - 1) ** 2, atol=1e-5)


def test_penalties_of_one_example_are_independent_of_the_batch():
    critic = lambda x: jnp.sum(jnp.sin(x) * x, axis=1)
    real, fake, others = normal(0, 4, 3), normal(1, 4, 3), normal(2, 3, 3)
    mixed = real.at[1:].set(others), fake.at[1:].set(-others)
    penalty = jax.jit(lambda real, fake: gradient_penalty(critic, real, fake, KEY))
    actual, expected = penalty(*mixed), penalty(real, fake)
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-6)
    assert np.all(np.abs(actual[1:] - expected[1:]) > 1e-3)
    np.testing.assert_allclose(r1_penalty(critic, mixed[0])[0], r1_penalty(critic, real[:1])[0], rtol=1e-6)


def test_gradient_penalty_has_a_finite_gradient_where_the_critic_is_flat():
    # at w = 0 everywhere, and of a quadratic critic for the one example that lies at its centre
    linear = lambda w: jnp.sum(gradient_penalty(lambda x: x @ w, normal(0, 5, 3), normal(1, 5, 3), KEY))
    value, slope = jax.jit(jax.value_and_grad(linear))(jnp.zeros(3))
    assert value == 5.0
    np.testing.assert_array_equal(slope, np.zeros(3))

    x = jnp.array([[0.0, 0.0], [3.0, 4.0]])  # real = fake = x_hat
    quadratic = lambda w: gradient_penalty(lambda x: 0.5 * w * jnp.sum(x**2, axis=1), x, x, KEY)
    np.testing.assert_allclose(quadratic(2.0), [1.0, 81.0], rtol=1e-5)
    np.testing.assert_allclose(jax.jit(jax.jacrev(quadratic))(2.0), [0.0, 2 * 9 * 5], rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-15, 1e-8, 1e8])
def test_gradient_penalty_at_tiny_and_huge_slopes(scale):
    penalty = lambda w: gradient_penalty(lambda x: x @ w, jnp.ones((1, 2)), jnp.zeros((1, 2)), KEY)[0]
    value, slope = jax.jit(jax.value_and_grad(penalty))(scale * jnp.array([0.6, 0.8]))
    np.testing.assert_allclose(value, (scale - 1) ** 2, rtol=1e-5)
    np.testing.assert_allclose(slope, 2 * (scale - 1) * np.array([0.6, 0.8]), rtol=1e-5)


def test_r1_penalty_by_hand():
    w, real = jnp.array([3.0, -4.0]), normal(0, 5, 2)
    penalty = lambda w: r1_penalty(lambda x: x @ w + 7.0, real)
    np.testing.assert_allclose(penalty(w), [25.0] * 5, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda w: jnp.sum(penalty(w)))(w), [30.0, -40.0], rtol=1e-6)
    # x1 x2: the gradient is (x2, x1)
    x = jnp.array([[1.0, 2.0], [0.0, -3.0]])
    np.testing.assert_allclose(r1_penalty(lambda x: x[:, 0] * x[:, 1], x), [5.0, 9.0])


def lax_conv2d(x, kernel, strides, padding):
    return lax.conv_general_dilated(x, kernel, (strides,) * 2, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def conv_critic(conv, params):
    def critic(x):
        for kernel in params["kernels"]:
            x = jnp.tanh(conv(x, kernel, 2, "SAME"))
        return x.reshape(len(x), -1) @ params["head"]

    return critic


@pytest.mark.parametrize("name", ["gradient_penalty", "r1_penalty"])
def test_penalties_and_their_gradients_go_through_convolutions(name):
    params = {"kernels": [0.5 * normal(0, 3, 3, 2, 3), 0.5 * normal(1, 3, 3, 3, 4)], "head": normal(2, 4)}
    real, fake = normal(3, 3, 4, 4, 2), normal(4, 3, 4, 4, 2)

    def penalty(params, conv):
        critic = conv_critic(conv, params)
        return gradient_penalty(critic, real, fake, KEY) if name == "gradient_penalty" else r1_penalty(critic, real)

    def total(params, conv):
        values = penalty(params, conv)
        return jnp.sum(values), values

    run = jax.jit(jax.value_and_grad(total, has_aux=True), static_argnums=1)
    ((_, values), gradient), ((_, expected_values), expected) = run(params, conv2d), run(params, lax_conv2d)
    np.testing.assert_allclose(values, expected_values, rtol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), gradient, expected)
    # and it is the slope along itself
    h, norm = 1e-2, float(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradient))) ** 0.5
    move = lambda sign: jax.tree.map(lambda p, g: p + sign * h / norm * g, params, gradient)
    slope = (run(move(1), conv2d)[0][0] - run(move(-1), conv2d)[0][0]) / (2 * h)
    np.testing.assert_allclose(slope, norm, rtol=1e-2)


def test_penalties_of_a_population_are_those_of_each_member():
    kernels, keys, real, fake = normal(6, 3, 4), jax.random.split(KEY, 3), normal(7, 5, 4), normal(8, 5, 4)
    critic = lambda w: lambda x: jnp.tanh(x @ w)
    penalty = lambda w, key: gradient_penalty(critic(w), real, fake, key) + r1_penalty(critic(w), real)
    solo = jax.jit(penalty)
    expected = [solo(w, key) for w, key in zip(kernels, keys, strict=True)]
    np.testing.assert_allclose(jax.jit(jax.vmap(penalty))(kernels, keys), expected, rtol=1e-5)


def test_penalties_want_one_value_an_example_and_as_many_fakes():
    wide = lambda x: x[:, :1]
    with pytest.raises(ValueError, match=r"one value for each of 3 examples; got shape \(3, 1\)"):
        gradient_penalty(wide, normal(0, 3, 2), normal(1, 3, 2), KEY)
    with pytest.raises(ValueError, match=r"one value for each of 3 examples; got shape \(3, 1\)"):
        r1_penalty(wide, normal(0, 3, 2))
    with pytest.raises(ValueError, match="equal shapes"):
        gradient_penalty(lambda x: x[:, 0], normal(0, 3, 2), normal(1, 1, 2), KEY)
