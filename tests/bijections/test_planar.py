"""Planar flows: the log-determinant against autodiff, and that the map can be inverted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.bijections.planar import planar

RNG = np.random.default_rng(0)


def parameters(dim, scale=2.0):
    draw = lambda *shape: jnp.asarray(scale * RNG.normal(size=shape), jnp.float32)
    return draw(dim), draw(dim), draw()


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_log_determinant_is_that_of_the_jacobian(dim):
    for _ in range(20):
        u, w, b = parameters(dim)
        z = jnp.asarray(RNG.normal(size=dim), jnp.float32)
        _, log_det = planar(z, u, w, b)
        jacobian = jax.jacfwd(lambda z, u=u, w=w, b=b: planar(z, u, w, b)[0])(z)
        sign, expected = np.linalg.slogdet(np.asarray(jacobian, np.float64))
        assert sign > 0
        np.testing.assert_allclose(log_det, expected, rtol=1e-3, atol=1e-4)


def test_without_a_direction_it_is_the_identity_up_to_a_shift():
    z = jnp.asarray([0.2, -0.1])
    moved, log_det = planar(z, jnp.asarray([1.0, 2.0]), jnp.zeros(2), jnp.asarray(0.5))
    np.testing.assert_allclose(moved - z, np.array([1.0, 2.0]) * np.tanh(0.5), rtol=1e-6)
    assert log_det == 0.0


def test_it_is_increasing_along_its_direction_even_where_w_and_u_oppose():
    w = jnp.asarray([1.0, 2.0])
    line = jnp.linspace(-3, 3, 200)[:, None] * w
    moved, _ = planar(line, -5.0 * w, w, jnp.asarray(0.3))
    assert np.all(np.diff(np.asarray(moved @ w)) > 0)


def test_where_nothing_is_constrained_it_is_the_papers_map():
    """softplus(a) - 1 - a vanishes at no a that float32 holds exactly; at large a it is -1."""
    z, w, b = jnp.asarray([0.2, -0.1]), jnp.asarray([3.0, 4.0]), jnp.asarray(-0.5)
    u = 2.0 * w  # w . u = 50
    moved, _ = planar(z, u, w, b)
    expected = np.asarray(z) + (np.asarray(u) - np.asarray(w) / 25) * np.tanh(0.2 * 3 - 0.1 * 4 - 0.5)
    np.testing.assert_allclose(moved, expected, rtol=1e-5)


def test_gradient_is_finite_at_zero_and_large_parameters():
    for scale in (0.0, 100.0):
        u, w, b = parameters(3, scale)
        gradients = jax.grad(lambda *p: jnp.sum(planar(jnp.ones(3), *p)[0]) + planar(jnp.ones(3), *p)[1], (0, 1, 2))(
            u, w, b
        )
        assert all(np.all(np.isfinite(leaf)) for leaf in gradients)
