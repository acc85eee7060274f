"""Sparsity penalties against hand numbers, SciPy's entropy and closed-form gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genlab.losses.sparsity import kl_sparsity, l1_penalty


def test_l1_penalty_by_hand():
    codes = jnp.array([[1.0, -2.0, 0.0], [0.5, 0.25, -0.25]])
    np.testing.assert_allclose(l1_penalty(codes), [3.0, 1.0])


def test_l1_penalty_sums_over_all_of_an_example():
    codes = jax.random.normal(jax.random.key(0), (4, 3, 2))
    np.testing.assert_allclose(l1_penalty(codes), np.abs(codes).sum(axis=(1, 2)), rtol=1e-6)


def test_l1_penalty_gradient_is_the_sign_and_rests_at_zero():
    gradient = jax.grad(lambda codes: jnp.sum(l1_penalty(codes)))(jnp.array([[3.0, -0.1, 0.0]]))
    np.testing.assert_array_equal(gradient, [[1.0, -1.0, 0.0]])


@pytest.mark.parametrize(
    ("mean", "target", "expected"),
    [
        (0.5, 0.5, 0.0),
        (0.5, 0.25, 0.25 * np.log(0.5) + 0.75 * np.log(1.5)),
        (0.25, 0.5, 0.5 * np.log(2.0) + 0.5 * np.log(2.0 / 3.0)),  # not the same: KL is not symmetric
        (0.2, 0.0, -np.log(0.8)),
        (0.2, 1.0, -np.log(0.2)),
    ],
)
def test_kl_sparsity_of_one_unit_by_hand(mean, target, expected):
    np.testing.assert_allclose(kl_sparsity(jnp.array([mean]), target), expected, rtol=1e-6, atol=1e-7)


def test_kl_sparsity_is_scipys_relative_entropy_summed_over_units():
    means = np.array([0.03, 0.1, 0.4, 0.97])
    expected = sum(stats.entropy([0.1, 0.9], [mean, 1 - mean]) for mean in means)
    actual = kl_sparsity(jnp.asarray(means, jnp.float32), 0.1)
    assert actual.shape == ()
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_kl_sparsity_takes_a_target_for_each_unit():
    actual = kl_sparsity(jnp.array([0.2, 0.3]), jnp.array([0.2, 0.1]))
    np.testing.assert_allclose(actual, stats.entropy([0.1, 0.9], [0.3, 0.7]), rtol=1e-5)


def test_kl_sparsity_gradient_is_the_closed_form():
    means, target = jnp.array([0.02, 0.1, 0.6]), 0.1
    exact = np.asarray(means, np.float64)
    # d KL(p || m) / dm = (1 - p) / (1 - m) - p / m: down where the unit is on too often
    expected = (1 - target) / (1 - exact) - target / exact
    np.testing.assert_allclose(jax.grad(kl_sparsity)(means, target), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("mean", "direction"), [(0.0, -1.0), (1e-30, -1.0), (1.0, 1.0), (1.0 - 6e-8, 1.0)])
def test_kl_sparsity_of_a_unit_that_is_always_off_or_on_is_finite_and_leads_back(mean, direction):
    value, gradient = jax.value_and_grad(kl_sparsity)(jnp.array([mean]), 0.1)
    edge = 1e-6 if direction < 0 else 1 - 1e-6
    np.testing.assert_allclose(value, stats.entropy([0.1, 0.9], [edge, 1 - edge]), rtol=5e-3)
    assert np.isfinite(gradient).all()
    assert np.sign(gradient[0]) == direction  # descent raises what is off and lowers what is on


def test_kl_sparsity_takes_one_number_a_unit():
    with pytest.raises(ValueError, match=r"one number a unit, \[D\]; got shape \(4, 3\)"):
        kl_sparsity(jnp.full((4, 3), 0.5), 0.1)
