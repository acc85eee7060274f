"""The bounds on two models whose evidence is known: a linear Gaussian one and a discrete one, enumerated."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from genlab.losses.divergence import gaussian_kl
from genlab.losses.elbo import elbo, free_bits, importance_bound, reparameterize
from genlab.losses.likelihood import gaussian_log_prob

# z ~ N(0, 1), x | z ~ N(SLOPE z + OFFSET, NOISE^2)
SLOPE, OFFSET, NOISE = 1.7, -0.4, 0.6
X = np.array([-3.0, -0.4, 0.5, 2.0])
EVIDENCE = stats.norm.logpdf(X, OFFSET, np.hypot(SLOPE, NOISE))
POSTERIOR_VAR = 1 / (1 + SLOPE**2 / NOISE**2)
POSTERIOR_MEAN = POSTERIOR_VAR * SLOPE * (X - OFFSET) / NOISE**2

# a latent of three values: prior, likelihood p(x|z) of the one x that was seen, and a proposal q(z|x)
PRIOR, LIKELIHOOD, PROPOSAL = np.array([0.5, 0.3, 0.2]), np.array([0.02, 0.4, 0.9]), np.array([0.6, 0.3, 0.1])


def column(values):
    return jnp.asarray(np.broadcast_to(values, X.shape), jnp.float32)[:, None]  # [B, 1]


def linear_gaussian_elbo(mean, log_var):
    """f32[B]; the expectation over z by Gauss-Hermite quadrature, exact as the integrand is a parabola."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(4)
    z = mean + jnp.exp(log_var / 2) * jnp.asarray(nodes, jnp.float32)  # [B, nodes]
    x = jnp.broadcast_to(column(X), z.shape)
    log_prob = gaussian_log_prob(x.reshape(-1), (SLOPE * z + OFFSET).reshape(-1), 2 * float(np.log(NOISE))).reshape(
        z.shape
    )
    log_likelihood = log_prob @ jnp.asarray(weights / weights.sum(), jnp.float32)
    return elbo(log_likelihood, gaussian_kl(mean, log_var))


def test_elbo_by_hand():
    np.testing.assert_allclose(elbo(jnp.array([-3.0, -1.0]), jnp.array([2.0, 0.5])), [-5.0, -1.5], rtol=1e-6)
    np.testing.assert_allclose(elbo(jnp.array([-3.0, -1.0]), jnp.array([2.0, 0.5]), 4.0), [-11.0, -3.0], rtol=1e-6)
    np.testing.assert_allclose(elbo(jnp.array([-3.0]), jnp.array([2.0]), jnp.float32(0.5)), [-4.0], rtol=1e-6)


def test_elbo_with_the_exact_posterior_is_the_evidence():
    bound = linear_gaussian_elbo(column(POSTERIOR_MEAN), column(np.log(POSTERIOR_VAR)))
    np.testing.assert_allclose(bound, EVIDENCE, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("shift", "stretch"), [(0.5, 1.0), (-0.3, 1.0), (0.0, 4.0), (0.0, 0.25), (0.4, 2.0)])
def test_elbo_is_below_the_evidence_by_the_divergence_from_the_posterior(shift, stretch):
    bound = linear_gaussian_elbo(column(POSTERIOR_MEAN + shift), column(np.log(stretch * POSTERIOR_VAR)))
    gap = (stretch - 1 - np.log(stretch) + shift**2 / POSTERIOR_VAR) / 2  # KL(q || p(z|x)) of two Gaussians
    assert gap > 0.01
    np.testing.assert_allclose(bound, EVIDENCE - gap, rtol=1e-5, atol=1e-5)


def test_elbo_gradient_vanishes_at_the_exact_posterior_and_points_to_it_elsewhere():
    def gradient(shift, stretch):
        arrays = column(POSTERIOR_MEAN + shift), column(np.log(stretch * POSTERIOR_VAR))
        return jax.grad(lambda m, v: jnp.sum(linear_gaussian_elbo(m, v)), (0, 1))(*arrays)

    np.testing.assert_allclose(jnp.stack(gradient(0.0, 1.0)), 0.0, atol=1e-4)
    np.testing.assert_allclose(gradient(0.2, 1.0)[0], -0.2 / POSTERIOR_VAR, rtol=1e-4)
    np.testing.assert_allclose(gradient(0.0, 3.0)[1], (1 - 3.0) / 2, rtol=1e-4)


def test_elbo_gradient_is_one_in_the_likelihood_and_minus_beta_in_the_divergence():
    d_likelihood, d_kl = jax.grad(lambda a, b: jnp.sum(elbo(a, b, 4.0)), (0, 1))(jnp.zeros(3), jnp.ones(3))
    np.testing.assert_array_equal(d_likelihood, np.ones(3))
    np.testing.assert_array_equal(d_kl, np.full(3, -4.0))


def test_elbo_falls_with_beta():
    bounds = [elbo(jnp.array([-1.0]), jnp.array([0.7]), beta).item() for beta in (1.0, 2.0, 4.0)]
    assert bounds[0] > bounds[1] > bounds[2]


def recovered_noise(key, mean, log_var):
    """The noise that a sample was made from."""
    z = np.asarray(reparameterize(key, mean, log_var), np.float64)
    return (z - np.asarray(mean, np.float64)) / np.exp(np.asarray(log_var, np.float64) / 2)


def test_reparameterize_has_the_mean_and_variance_asked_for():
    n = 40_000
    mean = jnp.broadcast_to(jnp.array([0.0, -3.0, 2.0]), (n, 3))
    log_var = jnp.broadcast_to(jnp.log(jnp.array([1.0, 0.01, 9.0])), (n, 3))
    z = np.asarray(reparameterize(jax.random.key(0), mean, log_var), np.float64)
    var = np.array([1.0, 0.01, 9.0])
    # five standard errors: of the mean sqrt(var / n), of the variance var sqrt(2 / n)
    np.testing.assert_array_less(np.abs(z.mean(0) - [0.0, -3.0, 2.0]), 5 * np.sqrt(var / n))
    np.testing.assert_array_less(np.abs(z.var(0) - var), 5 * var * np.sqrt(2 / n))
    np.testing.assert_array_less(np.abs(np.corrcoef(z.T) - np.eye(3)), 5 / np.sqrt(n))


def test_reparameterize_draws_normal_noise():
    noise = recovered_noise(jax.random.key(1), jnp.ones((5_000, 2)), jnp.full((5_000, 2), -1.0))
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3


@pytest.mark.parametrize("log_var", [-2.0, 0.0, 3.0])
def test_reparameterize_gradient_is_one_in_the_mean_and_half_the_deviation_in_log_var(log_var):
    key, mean, log_vars = jax.random.key(2), jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), jnp.full((2, 3), log_var)
    d_mean, d_log_var = jax.grad(lambda m, v: jnp.sum(reparameterize(key, m, v)), (0, 1))(mean, log_vars)
    np.testing.assert_array_equal(d_mean, np.ones((2, 3)))
    np.testing.assert_allclose(
        d_log_var, recovered_noise(key, mean, log_vars) * np.exp(log_var / 2) / 2, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("log_var", [-30.0, 30.0])
def test_reparameterize_is_finite_at_extreme_log_var(log_var):
    key, mean, log_vars = jax.random.key(3), jnp.zeros(4), jnp.full(4, log_var)
    unit = np.asarray(reparameterize(key, mean, jnp.zeros(4)), np.float64)
    np.testing.assert_allclose(reparameterize(key, mean, log_vars), unit * np.exp(log_var / 2), rtol=2e-6)
    gradient = jax.grad(lambda v: jnp.sum(reparameterize(key, mean, v)))(log_vars)
    np.testing.assert_allclose(gradient, unit * np.exp(log_var / 2) / 2, rtol=2e-6)


def test_reparameterize_depends_on_the_key_alone_and_on_every_position():
    mean, log_var = jnp.zeros((4, 3)), jnp.zeros((4, 3))
    first, again, other = (reparameterize(jax.random.key(seed), mean, log_var) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.all(first != other)
    assert len(np.unique(first)) == 12


def enumerated_bound(num_samples):
    """The bound's expectation: over every tuple of proposals, weighted by its probability."""
    log_weight = np.log(PRIOR * LIKELIHOOD / PROPOSAL)
    tuples = np.array(list(itertools.product(range(3), repeat=num_samples)))  # [3^K, K]
    bounds = importance_bound(jnp.asarray(log_weight[tuples].T, jnp.float32))
    assert bounds.shape == (3**num_samples,)
    return float(np.prod(PROPOSAL[tuples], axis=1) @ np.asarray(bounds, np.float64))


def test_importance_bound_of_one_sample_is_the_elbo():
    log_weights = jnp.array([[-2.0, 0.3, 1e4]])
    np.testing.assert_array_equal(importance_bound(log_weights), log_weights[0])
    expected = PROPOSAL @ np.log(LIKELIHOOD) - stats.entropy(PROPOSAL, PRIOR)
    np.testing.assert_allclose(enumerated_bound(1), expected, rtol=1e-6)


def test_importance_bound_grows_with_the_number_of_samples_towards_the_evidence():
    evidence = np.log(PRIOR @ LIKELIHOOD)
    gaps = [evidence - enumerated_bound(num_samples) for num_samples in range(1, 7)]
    assert gaps[0] > 0.5
    assert np.all(np.diff(gaps) < -0.01)  # every further sample helps
    assert 0 < gaps[-1] < gaps[0] / 4


@pytest.mark.parametrize("num_samples", [1, 7])
def test_importance_bound_of_exact_posterior_samples_is_the_evidence(num_samples):
    mean = jnp.broadcast_to(column(POSTERIOR_MEAN), (num_samples, *X.shape, 1))
    log_var = jnp.full_like(mean, np.log(POSTERIOR_VAR))
    z = reparameterize(jax.random.key(0), mean, log_var)

    def log_prob(value, location, variance):  # [K, B, 1] -> [K, B]
        return jax.vmap(gaussian_log_prob)(value, location, jnp.full_like(value, np.log(variance)))

    x = jnp.broadcast_to(column(X), z.shape)
    log_weights = (
        log_prob(z, jnp.zeros_like(z), 1.0)
        + log_prob(x, SLOPE * z + OFFSET, NOISE**2)
        - log_prob(z, mean, POSTERIOR_VAR)
    )
    # p(x, z) / q(z|x) is p(x) whatever z was drawn
    np.testing.assert_allclose(importance_bound(log_weights), EVIDENCE, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("num_samples", [2, 5, 50])
def test_importance_bound_equals_the_log_of_the_mean_weight(num_samples):
    log_weights = 3 * jax.random.normal(jax.random.key(num_samples), (num_samples, 4))
    actual = importance_bound(log_weights)
    assert actual.shape == (4,) and actual.dtype == jnp.float32
    np.testing.assert_allclose(
        actual, np.log(np.mean(np.exp(np.asarray(log_weights, np.float64)), axis=0)), rtol=1e-5, atol=1e-6
    )


def test_importance_bound_gradient_is_the_normalised_weights():
    log_weights = 3 * jax.random.normal(jax.random.key(0), (6, 4))
    gradient = jax.grad(lambda w: jnp.sum(importance_bound(w)))(log_weights)
    np.testing.assert_allclose(gradient, special.softmax(np.asarray(log_weights, np.float64), axis=0), rtol=1e-5)


@pytest.mark.parametrize(
    ("log_weights", "expected", "gradient"),
    [
        ([1e4, 1e4], 1e4, [0.5, 0.5]),
        ([-1e4, -1e4], -1e4, [0.5, 0.5]),
        ([1e4, -1e4], 1e4 - np.log(2), [1.0, 0.0]),
        ([-1e4, 1e4], 1e4 - np.log(2), [0.0, 1.0]),
        ([-np.inf, 0.0], -np.log(2), [0.0, 1.0]),  # a sample that the model excludes
    ],
)
def test_importance_bound_does_not_overflow(log_weights, expected, gradient):
    column_of_weights = jnp.array(log_weights)[:, None]
    np.testing.assert_allclose(importance_bound(column_of_weights), [expected], rtol=1e-7)
    actual = jax.grad(lambda w: jnp.sum(importance_bound(w)))(column_of_weights)
    np.testing.assert_allclose(actual[:, 0], gradient, rtol=1e-6)


def test_bounds_keep_bfloat16():
    half = jnp.full((4,), 1.5, jnp.bfloat16)
    assert elbo(half, half).dtype == elbo(half, half, 4.0).dtype == jnp.bfloat16
    assert reparameterize(jax.random.key(0), half, half).dtype == jnp.bfloat16
    bound = importance_bound(jnp.stack([half, half]))
    assert bound.dtype == jnp.bfloat16
    np.testing.assert_allclose(bound.astype(jnp.float32), 1.5, rtol=0.02)


def test_bounds_reject_shapes_that_would_broadcast():
    with pytest.raises(ValueError, match=r"log_likelihood \(4,\), kl \(4, 1\)"):
        elbo(jnp.zeros(4), jnp.zeros((4, 1)))
    with pytest.raises(ValueError, match=r"mean \(3,\), log_var \(4, 3\)"):
        reparameterize(jax.random.key(0), jnp.zeros(3), jnp.zeros((4, 3)))


def test_free_bits_by_hand():
    """Two groups: means 0.2, below 0.5, and 2, above it."""
    kl = jnp.asarray([[0.1, 1.0], [0.3, 3.0]])
    np.testing.assert_allclose(free_bits(kl, 0.5), [0.5 + 1.0, 0.5 + 3.0])
    np.testing.assert_allclose(free_bits(kl, 0.0), [1.1, 3.3], rtol=1e-6)
    gradient = jax.grad(lambda kl: jnp.mean(free_bits(kl, 0.5)))(kl)
    np.testing.assert_allclose(gradient, [[0.0, 0.5], [0.0, 0.5]])  # nothing to gain in the first group
    mean = np.mean(np.asarray(kl), axis=0)
    np.testing.assert_allclose(jnp.mean(free_bits(kl, 0.5)), np.maximum(mean, 0.5).sum())
