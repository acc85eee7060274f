"""Divergences against quadrature, enumeration and the closed forms of their gradients, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from genlab.losses.divergence import bernoulli_kl, categorical_kl, decompose_kl, gaussian_kl

INF = np.inf


def float64(array):
    return np.asarray(array, np.float64)


def total_gradient(function, *args):
    """The gradient of the sum, in every argument."""
    return jax.grad(lambda *a: jnp.sum(function(*a)), argnums=tuple(range(len(args))))(*args)


def gaussian_kl_by_quadrature(mean, log_var, prior_mean, prior_log_var):
    """The integral of p log(p / q) over each dimension, standardised by p, summed over dimensions."""
    total = 0.0
    for m, v, pm, pv in zip(*map(np.ravel, (mean, log_var, prior_mean, prior_log_var)), strict=True):
        sigma, prior_sigma = np.exp(v / 2), np.exp(pv / 2)

        def integrand(e, m=m, sigma=sigma, pm=pm, prior_sigma=prior_sigma):
            log_p, log_q = (
                stats.norm.logpdf([m + sigma * e], m, sigma),
                stats.norm.logpdf([m + sigma * e], pm, prior_sigma),
            )
            return stats.norm.pdf(e) * (log_p - log_q).item()

        total += integrate.quad(integrand, -10, 10, epsrel=1e-7, limit=30)[0]
    return total


def gaussians(seed, shape):
    keys = jax.random.split(jax.random.key(seed), 4)
    return [scale * jax.random.normal(key, shape) for key, scale in zip(keys, (2.0, 1.0, 2.0, 1.0), strict=True)]


@pytest.mark.parametrize("dim", [1, 3, 16])
def test_gaussian_kl_equals_the_integral(dim):
    mean, log_var, prior_mean, prior_log_var = gaussians(dim, (2, dim))
    actual = gaussian_kl(mean, log_var, prior_mean, prior_log_var)
    expected = [
        gaussian_kl_by_quadrature(*rows)
        for rows in zip(*map(float64, (mean, log_var, prior_mean, prior_log_var)), strict=True)
    ]
    assert actual.shape == (2,) and actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, expected, rtol=2e-6)


@pytest.mark.parametrize(
    ("mean", "log_var", "expected"),
    [
        ([0.0], [0.0], 0.0),
        ([1.0], [0.0], 0.5),  # half the squared distance
        ([3.0, 4.0], [0.0, 0.0], 12.5),
        ([0.0], [np.log(4.0)], (3 - np.log(4.0)) / 2),
        ([0.0], [-np.log(4.0)], (np.log(4.0) - 0.75) / 2),
        ([-1.0, 2.0], [np.log(4.0), 0.0], 2.5 + (3 - np.log(4.0)) / 2),
    ],
)
def test_gaussian_kl_to_the_standard_normal_by_hand(mean, log_var, expected):
    np.testing.assert_allclose(gaussian_kl(jnp.array(mean), jnp.array(log_var)), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("mean", "log_var", "prior_mean", "prior_log_var", "expected"),
    [
        (1.0, 0.0, -1.0, 0.0, 2.0),
        (1.0, 0.0, 0.0, np.log(4.0), (np.log(4.0) - 0.5) / 2),  # log(2) + (1 + 1) / 8 - 1/2
        (0.0, np.log(4.0), 0.0, np.log(16.0), np.log(2.0) - 0.375),
    ],
)
def test_gaussian_kl_to_a_prior_given_as_numbers_by_hand(mean, log_var, prior_mean, prior_log_var, expected):
    actual = gaussian_kl(jnp.array([mean]), jnp.array([log_var]), prior_mean, float(prior_log_var))
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_gaussian_kl_of_one_batch_to_each_of_several_priors_broadcasts():
    mean, log_var, *_ = gaussians(0, (4, 1, 2))
    _, _, prior_mean, prior_log_var = gaussians(1, (3, 2))
    table = gaussian_kl(mean, log_var, prior_mean, prior_log_var)
    assert table.shape == (4, 3)
    for b, k in np.ndindex(4, 3):
        expected = gaussian_kl(mean[b, 0], log_var[b, 0], prior_mean[k], prior_log_var[k])
        np.testing.assert_allclose(table[b, k], expected, rtol=1e-6)


def test_gaussian_kl_is_not_symmetric():
    narrow, wide, zero = jnp.array([-2.0]), jnp.array([2.0]), jnp.zeros(1)
    assert gaussian_kl(zero, wide, zero, narrow) > 10 * gaussian_kl(zero, narrow, zero, wide)


@pytest.mark.parametrize("exponent", [0, 2, 4, 6, 8])
def test_gaussian_kl_of_nearly_equal_gaussians_is_never_negative(exponent):
    log_var = jnp.linspace(-1.0, 1.0, 2001)[:, None] * 10.0**-exponent
    values = gaussian_kl(jnp.zeros_like(log_var), log_var)
    a = float64(log_var[:, 0])
    taylor = a**2 / 4 + a**3 / 12 + a**4 / 48 + a**5 / 240 + a**6 / 1440 + a**7 / 10080 + a**8 / 80640
    np.testing.assert_array_less(-1e-30, values)
    # exp(a) - 1 - a would be wrong by eps = 1.2e-7 itself
    np.testing.assert_allclose(values, taylor, rtol=2e-5, atol=1.2e-7 * 10.0**-exponent)


def test_gaussian_kl_gradient_points_to_the_prior():
    mean, log_var, *_ = gaussians(2, (5, 3))
    d_mean, d_log_var = total_gradient(gaussian_kl, mean, log_var)
    np.testing.assert_allclose(d_mean, mean, rtol=1e-6)
    np.testing.assert_allclose(d_log_var, np.expm1(float64(log_var)) / 2, rtol=1e-5, atol=1e-6)


def test_gaussian_kl_gradient_reaches_a_learned_prior():
    mean, log_var, prior_mean, prior_log_var = gaussians(3, (5, 3))
    gradient = total_gradient(gaussian_kl, mean, log_var, prior_mean, prior_log_var)
    m, v, pm, pv = map(float64, (mean, log_var, prior_mean, prior_log_var))
    precision = np.exp(-pv)
    expected = (
        (m - pm) * precision,
        np.expm1(v - pv) / 2,
        (pm - m) * precision,
        (1 - np.exp(v - pv) - (m - pm) ** 2 * precision) / 2,
    )
    for actual, closed_form in zip(gradient, expected, strict=True):
        np.testing.assert_allclose(actual, closed_form, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("log_var", [-30.0, 30.0])
@pytest.mark.parametrize("mean", [-100.0, 0.0, 100.0])
def test_gaussian_kl_is_right_at_extreme_log_var(mean, log_var):
    arrays = jnp.array([mean]), jnp.array([log_var])
    expected = gaussian_kl_by_quadrature(mean, log_var, 0.0, 0.0)
    np.testing.assert_allclose(gaussian_kl(*arrays), expected, rtol=2e-6)
    d_mean, d_log_var = total_gradient(gaussian_kl, *arrays)
    np.testing.assert_allclose(d_mean, mean, rtol=1e-6)
    np.testing.assert_allclose(d_log_var, np.expm1(log_var) / 2, rtol=2e-6)


@pytest.mark.parametrize("prior_log_var", [-30.0, 30.0])
def test_gaussian_kl_is_right_at_extreme_prior_log_var(prior_log_var):
    mean, log_var = jnp.array([2.0]), jnp.array([0.5])
    expected = gaussian_kl_by_quadrature(2.0, 0.5, 1.0, prior_log_var)
    np.testing.assert_allclose(gaussian_kl(mean, log_var, 1.0, prior_log_var), expected, rtol=2e-6)
    d_mean, d_log_var = total_gradient(lambda m, v: gaussian_kl(m, v, 1.0, prior_log_var), mean, log_var)
    np.testing.assert_allclose(d_mean, np.exp(-prior_log_var), rtol=2e-6)
    np.testing.assert_allclose(d_log_var, np.expm1(0.5 - prior_log_var) / 2, rtol=2e-6)


@pytest.mark.parametrize(
    ("p", "q", "expected"),
    [
        (0.5, 0.5, 0.0),
        (0.5, 0.25, 0.5 * np.log(2) + 0.5 * np.log(2 / 3)),
        (0.25, 0.5, 0.25 * np.log(1 / 2) + 0.75 * np.log(3 / 2)),
        (0.0, 0.5, np.log(2)),
        (1.0, 0.5, np.log(2)),
        (0.0, 0.75, np.log(4)),
        (1.0, 0.75, np.log(4 / 3)),
        (0.0, 0.0, 0.0),
        (1.0, 1.0, 0.0),
        (0.5, 0.0, INF),
        (0.5, 1.0, INF),
        (0.0, 1.0, INF),
        (1.0, 0.0, INF),
    ],
)
def test_bernoulli_kl_by_hand(p, q, expected):
    np.testing.assert_allclose(bernoulli_kl(jnp.float32(p), jnp.float32(q)), expected, rtol=1e-6)


def probabilities(seed, shape):
    return jax.random.uniform(jax.random.key(seed), shape, minval=0.01, maxval=0.99)


def test_bernoulli_kl_equals_the_entropy_over_both_outcomes_elementwise():
    p, q = probabilities(0, (4, 3)), probabilities(1, (4, 3))
    actual = bernoulli_kl(p, q)
    expected = np.empty((4, 3))
    for i in np.ndindex(4, 3):
        expected[i] = stats.entropy([1 - float64(p)[i], float64(p)[i]], [1 - float64(q)[i], float64(q)[i]])
    assert actual.shape == (4, 3) and actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=2e-7)


def test_bernoulli_kl_gradient_is_the_difference_of_logits():
    p, q = probabilities(2, (50,)), probabilities(3, (50,))
    d_p, d_q = total_gradient(bernoulli_kl, p, q)
    p, q = float64(p), float64(q)
    np.testing.assert_allclose(d_p, np.log(p / (1 - p)) - np.log(q / (1 - q)), rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(d_q, (q - p) / (q * (1 - q)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("p", "q", "d_q"), [(0.0, 0.25, 4 / 3), (1.0, 0.25, -4.0), (0.0, 0.0, 1.0), (1.0, 1.0, -1.0)])
def test_bernoulli_kl_gradient_is_finite_and_right_where_p_is_certain(p, q, d_q):
    actual_p, actual_q = jax.grad(bernoulli_kl, argnums=(0, 1))(jnp.float32(p), jnp.float32(q))
    assert np.isfinite(actual_p)
    np.testing.assert_allclose(actual_q, d_q, rtol=1e-6)


@pytest.mark.parametrize(
    ("p", "q", "expected"),
    [
        ([0.5, 0.5], [0.5, 0.5], 0.0),
        ([0.5, 0.25, 0.25], [0.25, 0.5, 0.25], 0.25 * np.log(2)),
        ([0.25, 0.75], [0.5, 0.5], 0.75 * np.log(3) - np.log(2)),
        ([1.0, 0.0, 0.0], [0.125, 0.5, 0.375], np.log(8)),
        ([0.5, 0.5, 0.0], [0.25, 0.25, 0.5], np.log(2)),
        ([0.0, 1.0], [0.0, 1.0], 0.0),
        ([0.5, 0.5], [0.0, 1.0], INF),
        ([0.0, 1.0], [1.0, 0.0], INF),
    ],
)
def test_categorical_kl_by_hand(p, q, expected):
    np.testing.assert_allclose(categorical_kl(jnp.array(p), jnp.array(q)), expected, rtol=1e-6)


@pytest.mark.parametrize("num_classes", [2, 10, 256])
def test_categorical_kl_equals_the_relative_entropy(num_classes):
    rng = np.random.default_rng(num_classes)
    p, q = (jnp.asarray(rng.dirichlet(np.ones(num_classes), (4, 3)), jnp.float32) for _ in range(2))
    actual = categorical_kl(p, q)
    assert actual.shape == (4, 3) and actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, np.sum(float64(p) * np.log(float64(p) / float64(q)), -1), rtol=2e-5)


def test_categorical_kl_of_two_classes_is_bernoulli_kl():
    p, q = probabilities(4, (20,)), probabilities(5, (20,))
    two_classes = categorical_kl(jnp.stack([1 - p, p], -1), jnp.stack([1 - q, q], -1))
    np.testing.assert_allclose(two_classes, bernoulli_kl(p, q), rtol=1e-5, atol=1e-7)


def test_categorical_kl_gradient_is_the_log_ratio():
    rng = np.random.default_rng(0)
    p, q = (jnp.asarray(rng.dirichlet(np.ones(5), 8), jnp.float32) for _ in range(2))
    d_p, d_q = total_gradient(categorical_kl, p, q)
    np.testing.assert_allclose(d_p, np.log(float64(p) / float64(q)) + 1, rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(d_q, -float64(p) / float64(q), rtol=1e-5)


def test_categorical_kl_gradient_is_finite_where_p_is_certain():
    d_p, d_q = total_gradient(categorical_kl, jnp.array([0.0, 1.0, 0.0]), jnp.array([0.25, 0.5, 0.25]))
    np.testing.assert_allclose(d_p, [0.0, np.log(2.0) + 1, 0.0], rtol=1e-6)
    np.testing.assert_allclose(d_q, [0.0, -2.0, 0.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("divergence", "args"),
    [
        (gaussian_kl, gaussians(6, (4, 3))),
        (gaussian_kl, gaussians(6, (4, 3))[:2]),
        (bernoulli_kl, (probabilities(6, (4, 3)), probabilities(7, (4, 3)))),
        (categorical_kl, (probabilities(6, (4, 3)) / 3, probabilities(7, (4, 3)) / 3)),
    ],
)
def test_divergences_keep_bfloat16(divergence, args):
    halves = [a.astype(jnp.bfloat16) for a in args]
    actual = divergence(*halves)
    assert actual.dtype == jnp.bfloat16
    expected = divergence(*(a.astype(jnp.float32) for a in halves))
    np.testing.assert_allclose(actual.astype(jnp.float32), expected, rtol=0.03, atol=0.03)


@pytest.mark.parametrize("divergence", [gaussian_kl, bernoulli_kl, categorical_kl])
def test_divergences_reject_shapes_that_would_broadcast(divergence):
    with pytest.raises(ValueError, match=r"expected equal shapes, got \w+ \(4, 3\), \w+ \(4, 1\)"):
        divergence(jnp.full((4, 3), 0.5), jnp.full((4, 1), 0.5))


# The divergence taken apart


def posteriors(seed=0, num=6, dim=3):
    rng = np.random.default_rng(seed)
    mean, log_var = rng.normal(size=(num, dim)), rng.normal(size=(num, dim)) - 1
    return mean + np.exp(log_var / 2) * rng.normal(size=(num, dim)), mean, log_var


def test_decomposition_by_scipy():
    codes, mean, log_var = posteriors()
    size = 50
    # log q(z_i,d | x_j), [i, j, d]
    table = stats.norm(mean[None], np.exp(log_var / 2)[None]).logpdf(codes[:, None])
    weights = np.where(np.eye(6), 1 / size, (size - 1) / size / 5)
    aggregate = np.log((weights * np.exp(table.sum(axis=2))).sum(axis=1))
    marginals = np.log((weights[:, :, None] * np.exp(table)).sum(axis=1)).sum(axis=1)
    expected = {
        "mutual_information": np.diagonal(table.sum(axis=2)) - aggregate,
        "total_correlation": aggregate - marginals,
        "dimension_kl": marginals - stats.norm.logpdf(codes).sum(axis=1),
    }
    actual = decompose_kl(*(jnp.asarray(each, jnp.float32) for each in (codes, mean, log_var)), size)
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, rtol=1e-4, atol=1e-4, err_msg=name)
    own = np.diagonal(table.sum(axis=2)) - stats.norm.logpdf(codes).sum(axis=1)
    np.testing.assert_allclose(sum(actual.values()), own, rtol=1e-4)  # exact, whatever the estimator


@pytest.mark.parametrize("part", ["mutual_information", "total_correlation", "dimension_kl"])
def test_gradient_of_a_part_is_that_of_central_differences(part):
    args, size = posteriors(num=4, dim=2), 50

    def total(codes, mean, log_var):  # as above, in float64
        table = stats.norm(mean[None], np.exp(log_var / 2)[None]).logpdf(codes[:, None])
        weights = np.where(np.eye(4), 1 / size, (size - 1) / size / 3)
        aggregate = np.log((weights * np.exp(table.sum(axis=2))).sum(axis=1))
        marginals = np.log((weights[:, :, None] * np.exp(table)).sum(axis=1)).sum(axis=1)
        parts = {
            "mutual_information": np.diagonal(table.sum(axis=2)) - aggregate,
            "total_correlation": aggregate - marginals,
            "dimension_kl": marginals - stats.norm.logpdf(codes).sum(axis=1),
        }
        return parts[part].sum()

    actual = total_gradient(lambda *a: decompose_kl(*a, size)[part], *(jnp.asarray(each, jnp.float32) for each in args))
    for which, gradient in enumerate(actual):
        for index in np.ndindex(gradient.shape):
            values = []
            for sign in (1, -1):
                moved = [each.copy() for each in args]
                moved[which][index] += sign * 1e-5
                values.append(total(*moved))
            np.testing.assert_allclose(gradient[index], (values[0] - values[1]) / 2e-5, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("equal", [False, True])
def test_parts_of_a_gaussian_aggregate_are_those_of_its_covariance(equal):
    """Means ~ N(0, I) or (u, u), smoothed by s^2: TC is the information of one dimension about the other, the parts'
    mean is E KL(q(z|x) || q(z)), KL(q(z) || q(z_1) q(z_2)) and KL(q(z_d) || p(z_d))."""
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(2, 1000, 1))
    mean = np.concatenate([one, one if equal else other], axis=1)
    variance = 0.3
    codes = mean + np.sqrt(variance) * rng.normal(size=mean.shape)
    log_var = np.full_like(mean, np.log(variance))
    found = decompose_kl(*(jnp.asarray(each, jnp.float32) for each in (codes, mean, log_var)), 1000)
    correlation = 1 / (1 + variance) if equal else 0.0
    total = -0.5 * np.log(1 - correlation**2)
    entropy = np.log(1 + variance) - total  # of q(z), less the constants of two dimensions
    expected = {
        "total_correlation": total,
        "mutual_information": entropy - np.log(variance),
        "dimension_kl": variance - np.log(1 + variance),  # twice (v - 1 - log v) / 2 at v = 1 + s^2
    }
    for name, value in expected.items():
        np.testing.assert_allclose(np.mean(found[name]), value, atol=0.12, err_msg=name)


def test_the_decomposition_of_one_example_is_refused():
    with pytest.raises(ValueError, match="at least 2 examples"):
        decompose_kl(*(jnp.zeros((1, 2)),) * 3, 10)
