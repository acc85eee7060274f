"""Penalties on derivatives against the Jacobian row by row, hand numbers and Rifai's closed form."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.losses.penalty import ROWS_AT_ONCE, contractive_penalty, sigmoid_layer_contractive_penalty
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
