"""Path lengths of linear generators, whose Jacobian is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.losses.path_length import path_lengths

RNG = np.random.default_rng(0)
A = jnp.asarray(RNG.normal(size=(3, 4, 2, 2, 1)), jnp.float32)  # [L, F, H, W, C]


def paint(styles, scale=1.0):
    return scale * jnp.einsum("blf,lfhwc->bhwc", styles, A)


def test_the_mean_square_is_that_of_the_jacobian():
    """E |A' y|^2 with y ~ N(0, I / H W), the mean over layers: |A|^2 / (H W L)."""
    styles = jnp.zeros((4_000, 3, 4))
    lengths = path_lengths(paint, styles, jax.random.key(0))
    assert lengths.shape == (4_000,)
    assert float(jnp.mean(lengths**2)) == pytest.approx(float(jnp.sum(A**2)) / 4 / 3, rel=0.05)


def test_lengths_grow_with_the_generator_and_so_does_their_gradient():
    styles, key = jnp.asarray(RNG.normal(size=(5, 3, 4)), jnp.float32), jax.random.key(1)
    total = lambda scale: jnp.sum(path_lengths(lambda styles: paint(styles, scale), styles, key))
    value, slope = jax.value_and_grad(total)(2.0)
    assert float(value) == pytest.approx(2.0 * float(total(1.0)), rel=1e-5)
    assert float(slope) == pytest.approx(float(total(1.0)), rel=1e-5)
    _, flat = jax.value_and_grad(total)(0.0)
    assert np.isfinite(flat)
