"""Log-likelihoods against SciPy in float64, brute-force normalisation and the closed forms of their gradients."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats

from genlab.losses.likelihood import (
    bernoulli_log_prob,
    categorical_log_prob,
    discretized_logistic_log_prob,
    discretized_logistic_mixture_log_prob,
    gaussian_log_prob,
    gaussian_mixture_log_prob,
    log1mexp,
)

LEVELS = np.arange(256) / 255


def float64(array):
    return np.asarray(array, np.float64)


def total_gradient(function, *args):
    """The gradient of the sum, in every argument."""
    return jax.grad(lambda *a: jnp.sum(function(*a)), argnums=tuple(range(len(args))))(*args)


def normal(seed, shape, scale=1.0):
    return scale * jax.random.normal(jax.random.key(seed), shape)


# Bernoulli


def test_bernoulli_log_prob_equals_scipy_summed_over_pixels():
    logits = normal(0, (3, 4, 4, 1), 3.0)
    x = jax.random.bernoulli(jax.random.key(1), 0.5, logits.shape).astype(jnp.float32)
    actual = bernoulli_log_prob(logits, x)
    expected = stats.bernoulli.logpmf(np.asarray(x, int), special.expit(float64(logits))).sum((1, 2, 3))
    assert actual.shape == (3,) and actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, expected, rtol=2e-6)


def test_bernoulli_log_prob_sums_to_one_over_all_binary_images():
    images = jnp.array(list(itertools.product([0.0, 1.0], repeat=6))).reshape(64, 2, 3)
    logits = jnp.broadcast_to(normal(2, (2, 3), 2.0), images.shape)
    np.testing.assert_allclose(np.sum(np.exp(float64(bernoulli_log_prob(logits, images)))), 1.0, rtol=1e-6)


@pytest.mark.parametrize("x", [0.0, 1.0])
@pytest.mark.parametrize("logit", [-100.0, -30.0, -15.0, -10.0, -1.0, 0.0, 1.0, 10.0, 15.0, 30.0, 100.0])
def test_bernoulli_log_prob_is_right_at_any_logit(logit, x):
    logits, x = jnp.array([logit]), jnp.array([x])
    sign = 1.0 if x else -1.0
    # log s(100) is -3.7e-44, which float32 may flush to zero
    np.testing.assert_allclose(bernoulli_log_prob(logits, x), special.log_expit([sign * logit]), rtol=1e-6, atol=1e-40)
    (gradient,) = total_gradient(lambda values: bernoulli_log_prob(values, x), logits)
    # x - s(l), without the cancellation
    np.testing.assert_allclose(gradient, [sign * special.expit(-sign * logit)], rtol=1e-6, atol=1e-40)


def test_bernoulli_log_prob_of_a_grey_value_is_the_negative_cross_entropy():
    grey, logits = jnp.array([[0.25, 0.9]]), jnp.array([[1.5, -40.0]])
    g, p = float64(grey), float64(logits)
    expected = np.sum(g * special.log_expit(p) + (1 - g) * special.log_expit(-p))
    np.testing.assert_allclose(bernoulli_log_prob(logits, grey), [expected], rtol=1e-6)
    d_logits, d_x = total_gradient(bernoulli_log_prob, logits, grey)
    np.testing.assert_allclose(d_logits, g - special.expit(p), rtol=1e-6)
    np.testing.assert_allclose(d_x, p, rtol=1e-6)


# Gaussian


def test_gaussian_log_prob_equals_scipy_summed_over_pixels():
    x, mean, log_var = normal(0, (3, 4, 4, 1)), normal(1, (3, 4, 4, 1)), normal(2, (3, 4, 4, 1))
    actual = gaussian_log_prob(x, mean, log_var)
    expected = stats.norm.logpdf(float64(x), float64(mean), np.exp(float64(log_var) / 2)).sum((1, 2, 3))
    assert actual.shape == (3,) and actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, expected, rtol=2e-6)


@pytest.mark.parametrize("log_var", [-20.0, 0.0, 5.0])
def test_gaussian_log_prob_is_a_density_that_integrates_to_one(log_var):
    sigma = np.exp(log_var / 2)
    points = jnp.asarray(sigma * np.linspace(-9, 9, 2001), jnp.float32)
    density = np.exp(float64(gaussian_log_prob(points, jnp.zeros_like(points), log_var)))
    np.testing.assert_allclose(integrate.simpson(density, x=float64(points)), 1.0, rtol=3e-6)


@pytest.mark.parametrize(
    "log_var",
    [0.7, jnp.float32(0.7), jnp.full((5,), 0.7), jnp.full((3, 1), 0.7), np.float32(0.7)],
    ids=["float", "scalar", "one a dimension", "one an example", "numpy"],
)
def test_gaussian_log_prob_broadcasts_a_shared_variance(log_var):
    x, mean = normal(3, (3, 5)), normal(4, (3, 5))
    expected = stats.multivariate_normal.logpdf(float64(x) - float64(mean), cov=np.exp(np.float32(0.7)) * np.eye(5))
    np.testing.assert_allclose(gaussian_log_prob(x, mean, log_var), expected, rtol=2e-6)


def test_gaussian_log_prob_gradient_is_the_score():
    arrays = normal(5, (4, 3)), normal(6, (4, 3)), normal(7, (4, 3))
    d_x, d_mean, d_log_var = total_gradient(gaussian_log_prob, *arrays)
    x, mean, log_var = map(float64, arrays)
    score = (x - mean) * np.exp(-log_var)
    np.testing.assert_allclose(d_mean, score, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(d_x, -score, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(d_log_var, (score * (x - mean) - 1) / 2, rtol=1e-5, atol=1e-6)


def test_gaussian_log_prob_gradient_of_a_shared_variance_is_summed():
    x, mean = normal(8, (4, 3)), normal(9, (4, 3))
    gradient = jax.grad(lambda v: jnp.sum(gaussian_log_prob(x, mean, v)))(jnp.float32(0.5))
    expected = np.sum((float64(x) - float64(mean)) ** 2 * np.exp(-0.5) - 1) / 2
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


@pytest.mark.parametrize("log_var", [-30.0, 30.0])
@pytest.mark.parametrize("distance", [-10.0, 0.0, 10.0])
def test_gaussian_log_prob_is_right_at_extreme_log_var(distance, log_var):
    x, mean, log_vars = jnp.array([distance]), jnp.zeros(1), jnp.array([log_var])
    expected = stats.norm.logpdf(distance, 0.0, np.exp(log_var / 2))
    np.testing.assert_allclose(gaussian_log_prob(x, mean, log_vars), [expected], rtol=2e-6)
    d_mean, d_log_var = total_gradient(lambda m, v: gaussian_log_prob(x, m, v), mean, log_vars)
    np.testing.assert_allclose(d_mean, [distance * np.exp(-log_var)], rtol=2e-6)
    np.testing.assert_allclose(d_log_var, [(distance**2 * np.exp(-log_var) - 1) / 2], rtol=2e-6)


# Categorical


@pytest.mark.parametrize("event", [(), (4,), (3, 2, 1)])
@pytest.mark.parametrize("num_classes", [1, 3, 256])
def test_categorical_log_prob_equals_scipy_summed_over_positions(event, num_classes):
    logits = normal(0, (2, *event, num_classes), 4.0)
    labels = jax.random.randint(jax.random.key(1), (2, *event), 0, num_classes)
    actual = categorical_log_prob(logits, labels)
    table, picked = special.log_softmax(float64(logits), axis=-1), np.asarray(labels)
    expected = [sum(table[b][i][picked[b][i]] for i in np.ndindex(event)) for b in range(2)]
    assert actual.shape == (2,) and actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=1e-6)


def test_categorical_log_prob_sums_to_one_over_all_sequences():
    labels = jnp.array(list(itertools.product(range(3), repeat=4)))  # [81, 4]
    logits = jnp.broadcast_to(normal(2, (4, 3), 2.0), (81, 4, 3))
    np.testing.assert_allclose(np.sum(np.exp(float64(categorical_log_prob(logits, labels)))), 1.0, rtol=2e-6)


def test_categorical_log_prob_gradient_is_onehot_minus_softmax():
    logits = normal(3, (4, 2, 5), 3.0)
    labels = jax.random.randint(jax.random.key(4), (4, 2), 0, 5)
    (gradient,) = total_gradient(lambda values: categorical_log_prob(values, labels), logits)
    expected = np.eye(5)[np.asarray(labels)] - special.softmax(float64(logits), axis=-1)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_categorical_log_prob_is_right_at_extreme_logits(label):
    logits, labels = jnp.array([[100.0, -100.0, 99.0]]), jnp.array([label])
    expected = special.log_softmax([100.0, -100.0, 99.0])[label]
    np.testing.assert_allclose(categorical_log_prob(logits, labels), [expected], rtol=2e-6)
    (gradient,) = total_gradient(lambda values: categorical_log_prob(values, labels), logits)
    softmax = special.softmax([100.0, -100.0, 99.0])
    np.testing.assert_allclose(gradient, [np.eye(3)[label] - softmax], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8, jnp.int8])
def test_categorical_log_prob_takes_any_integer_labels(dtype):
    actual = categorical_log_prob(jnp.log(jnp.array([[1.0, 3.0], [1.0, 3.0]])), jnp.array([0, 1], dtype))
    np.testing.assert_allclose(actual, np.log([1 / 4, 3 / 4]), rtol=1e-6)


# Discretised logistic


def logistic_masses(mean, log_scale, x, num_levels=256):
    """The mass of each level's bin: differences of the cumulative distribution, from the tail that loses nothing."""
    x, half_bin = float64(x), 0.5 / (num_levels - 1)
    lower = np.where(x <= half_bin, -np.inf, x - half_bin)
    upper = np.where(x >= 1 - half_bin, np.inf, x + half_bin)
    logistic = stats.logistic(np.float64(mean), np.exp(np.float64(log_scale)))
    return np.where(lower > mean, logistic.sf(lower) - logistic.sf(upper), logistic.cdf(upper) - logistic.cdf(lower))


def as_float32(*numbers):
    """Rounded as the code under test sees them."""
    return [float(np.float32(n)) for n in numbers]


@pytest.mark.parametrize("num_levels", [2, 32, 256])
@pytest.mark.parametrize("log_scale", [-7.0, -4.0, -1.0, 0.0, 3.0])
@pytest.mark.parametrize("mean", [-1.0, 0.0, 0.3, 0.5, 1.0, 1.7])
def test_discretized_logistic_equals_the_differences_of_the_cumulative_distribution(mean, log_scale, num_levels):
    mean, log_scale = as_float32(mean, log_scale)
    x = jnp.asarray(np.arange(num_levels) / (num_levels - 1), jnp.float32)
    actual = discretized_logistic_log_prob(x, jnp.full_like(x, mean), log_scale, num_levels)
    masses = logistic_masses(mean, log_scale, x, num_levels)
    seen = masses > 1e-290  # beyond, the oracle's own masses underflow
    assert actual.shape == (num_levels,) and actual.dtype == jnp.float32
    np.testing.assert_allclose(actual[seen], np.log(masses[seen]), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("log_scale", [-7.0, -5.0, -2.0, 0.0, 3.0, 10.0, 30.0])
@pytest.mark.parametrize("mean", [-3.0, 0.0, 0.3, 0.5, 0.77, 1.0, 2.0])
def test_discretized_logistic_masses_of_all_levels_sum_to_one(mean, log_scale):
    x = jnp.asarray(LEVELS, jnp.float32)
    masses = np.exp(float64(discretized_logistic_log_prob(x, jnp.full_like(x, mean), log_scale)))
    # levels rounded to float32 leave gaps of at most 6e-8 between bins, where the density is at most 1 / (4 scale)
    np.testing.assert_allclose(masses.sum(), 1.0, atol=2e-6 + 6e-8 / (4 * np.exp(log_scale)))


@pytest.mark.parametrize("log_scale", [-10.0, -20.0, -30.0])
@pytest.mark.parametrize(("mean", "level"), [(-0.5, 0), (0.0, 0), (100 / 255, 100), (1.0, 255), (1.5, 255)])
def test_discretized_logistic_of_a_tiny_scale_puts_all_mass_on_the_nearest_level(mean, level, log_scale):
    x = jnp.asarray(LEVELS, jnp.float32)
    log_masses = discretized_logistic_log_prob(x, jnp.full_like(x, mean), log_scale)
    assert np.all(np.isfinite(log_masses))
    np.testing.assert_allclose(np.exp(log_masses), np.eye(256)[level], atol=1e-6)


def test_discretized_logistic_of_a_huge_scale_gives_half_to_each_end():
    x = jnp.asarray(LEVELS, jnp.float32)
    log_masses = discretized_logistic_log_prob(x, jnp.full_like(x, 0.4), 30.0)
    np.testing.assert_allclose(log_masses[jnp.array([0, 255])], np.log([0.5, 0.5]), rtol=1e-6)
    # a bin of width w at the peak of the density 1 / (4 scale)
    np.testing.assert_allclose(log_masses[1:-1], np.full(254, -np.log(4 * 255) - 30.0), rtol=1e-6)


@pytest.mark.parametrize(("level", "mean", "log_scale"), [(255, -1.0, -6.0), (0, 2.0, -6.0), (128, -1.0, -5.0)])
def test_discretized_logistic_in_the_tail_decays_by_one_nat_a_scale(level, mean, log_scale):
    x = jnp.array([level / 255])
    actual = discretized_logistic_log_prob(x, jnp.array([mean]), log_scale)
    scale, edge = np.exp(log_scale), 0.5 / 255
    distance = (abs(level / 255 - mean) - edge) / scale
    inner = 0.0 if level in (0, 255) else np.log(-np.expm1(-2 * edge / scale))
    np.testing.assert_allclose(actual, [inner - distance], rtol=2e-6)


def mixture_parameters(shape, num_components):
    rng = np.random.default_rng(3)
    draw = lambda scale: jnp.asarray(scale * rng.normal(size=(*shape, num_components)), jnp.float32)
    return draw(1.0), 0.5 + draw(0.3), draw(1.0) - 2.0


def test_logistic_mixture_equals_the_weighted_masses_of_scipy_summed_over_pixels():
    x = jnp.asarray([[[0.0], [0.4]], [[1.0], [0.7]]])  # [B, H, C], of eleven levels
    log_weights, means, log_scales = mixture_parameters(x.shape, 3)
    weights = special.softmax(float64(log_weights), axis=-1)
    masses = np.sum([
        weights[..., k] * logistic_masses(float64(means[..., k]), float64(log_scales[..., k]), x, 11) for k in range(3)
    ], axis=0)  # fmt: skip
    found = discretized_logistic_mixture_log_prob(x, log_weights, means, log_scales, 11)
    assert found.shape == (2,)
    np.testing.assert_allclose(found, np.log(masses).sum(axis=(1, 2)), rtol=1e-5)


def test_logistic_mixture_gradients_share_out_the_components_own_by_responsibility():
    """d log sum_k w_k m_k: of a component's parameters r_k d log m_k, of its log-weight r_k - w_k."""
    x = jnp.asarray([[0.3]])
    log_weights, means, log_scales = mixture_parameters((1, 1), 3)
    found = total_gradient(lambda *p: discretized_logistic_mixture_log_prob(x, *p, 11), log_weights, means, log_scales)
    own = lambda m, s: discretized_logistic_log_prob(jnp.full_like(m, 0.3), m, s, 11)
    masses = np.exp(float64(own(means[0, 0], log_scales[0, 0])))
    weights = special.softmax(float64(log_weights[0, 0]))
    responsibility = weights * masses / np.sum(weights * masses)
    of_mean, of_scale = total_gradient(own, means[0, 0], log_scales[0, 0])
    np.testing.assert_allclose(found[0][0, 0], responsibility - weights, atol=1e-5)
    np.testing.assert_allclose(found[1][0, 0], responsibility * float64(of_mean), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[2][0, 0], responsibility * float64(of_scale), rtol=1e-4, atol=1e-5)


def test_logistic_mixture_is_finite_with_extreme_weights_and_scales():
    x = jnp.asarray([[0.0, 0.5, 1.0]])
    parameters = [jnp.broadcast_to(jnp.asarray(p), (1, 3, 2)) for p in ([100.0, -100.0], [3.0, -3.0], [-7.0, 7.0])]
    value = discretized_logistic_mixture_log_prob(x, *parameters)
    gradients = total_gradient(lambda *p: discretized_logistic_mixture_log_prob(x, *p), *parameters)
    assert np.isfinite(value).all() and all(np.isfinite(each).all() for each in gradients)


def finite_difference(function, point, step):
    return (function(point + step) - function(point - step)) / (2 * step)


@pytest.mark.parametrize("log_scale", [-5.0, -2.0, 0.0, 2.0])
@pytest.mark.parametrize("mean", [-0.2, 0.3, 0.9])
@pytest.mark.parametrize("level", [0, 1, 76, 200, 254, 255])
def test_discretized_logistic_gradient_equals_finite_differences_of_scipy(level, mean, log_scale):
    level_value, mean, log_scale = as_float32(level / 255, mean, log_scale)

    def oracle(m, s):
        return np.log(logistic_masses(m, s, level_value))

    if logistic_masses(mean, log_scale, level_value) < 1e-200:
        pytest.skip("the oracle's mass underflows")
    arrays = jnp.array([mean]), jnp.array([log_scale])
    d_mean, d_scale = total_gradient(
        lambda m, s: discretized_logistic_log_prob(jnp.array([level_value]), m, s), *arrays
    )
    step = 1e-4 * np.exp(log_scale)
    expected_mean = finite_difference(lambda m: oracle(m, log_scale), mean, step)
    expected_scale = finite_difference(lambda s: oracle(mean, s), log_scale, 1e-4)
    np.testing.assert_allclose(d_mean, [expected_mean], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(d_scale, [expected_scale], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("log_scale", [-30.0, -15.0, 15.0, 30.0])
@pytest.mark.parametrize("mean", [-2.0, 0.0, 0.2, 1.0, 3.0])
def test_discretized_logistic_gradient_is_finite_at_extreme_scales(mean, log_scale):
    x = jnp.asarray(LEVELS, jnp.float32)
    d_mean, d_scale = total_gradient(
        lambda m, s: discretized_logistic_log_prob(x, m, s), jnp.full_like(x, mean), jnp.full_like(x, log_scale)
    )
    assert np.all(np.isfinite(d_mean)) and np.all(np.isfinite(d_scale))
    if log_scale > 0:  # an inner bin's mass is w / (4 scale): -1 in log_scale, flat in the mean
        np.testing.assert_allclose(d_scale[1:-1], np.full(254, -1.0), rtol=1e-5)
        np.testing.assert_allclose(d_mean, np.zeros(256), atol=1e-6)
    if log_scale < -20:  # the log mass is minus the distance in scales: it pulls the mean to the level
        away = np.abs(LEVELS - mean) > 0.5 / 255
        np.testing.assert_array_equal(np.sign(d_mean)[away][1:-1], np.sign(LEVELS - mean)[away][1:-1])


def test_discretized_logistic_is_summed_over_pixels():
    x = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 4, 3)) / 255, jnp.float32)
    mean, log_scale = normal(0, x.shape, 0.3), normal(1, (4, 3), 0.5)
    expected = np.empty(x.shape)
    for i in np.ndindex(*x.shape):
        expected[i] = np.log(logistic_masses(float64(mean)[i], float64(log_scale)[i[1:]], float64(x)[i]))
    actual = discretized_logistic_log_prob(x, mean, log_scale)
    np.testing.assert_allclose(actual, expected.sum((1, 2)), rtol=1e-5)


@pytest.mark.parametrize("a", [1e-30, 1e-6, 1e-3, 0.1, 0.6, 0.69314718, 0.7, 1.0, 5.0, 20.0, 80.0])
def test_log1mexp_is_accurate_at_both_ends(a):
    (a,) = as_float32(a)
    # log(1 - exp(-a)) = log(a) + log((1 - exp(-a)) / a); exprel is the latter's mirror image
    expected = np.log(a) + np.log(special.exprel(-a)) if a < 1 else -sum(np.exp(-a * k) / k for k in range(1, 60))
    np.testing.assert_allclose(log1mexp(jnp.float32(a)), expected, rtol=2e-6)
    np.testing.assert_allclose(jax.grad(log1mexp)(jnp.float32(a)), 1 / np.expm1(a), rtol=2e-6)


# All of them


def arguments(shape=(3, 4)):
    x = jax.random.uniform(jax.random.key(0), shape)
    return {
        bernoulli_log_prob: (normal(1, shape), x),
        gaussian_log_prob: (x, normal(1, shape), normal(2, shape)),
        discretized_logistic_log_prob: (x, normal(1, shape), normal(2, shape)),
    }


@pytest.mark.parametrize("log_prob", [bernoulli_log_prob, gaussian_log_prob, discretized_logistic_log_prob])
def test_log_probs_keep_bfloat16(log_prob):
    halves = [a.astype(jnp.bfloat16) for a in arguments()[log_prob]]
    actual = log_prob(*halves)
    assert actual.dtype == jnp.bfloat16
    expected = log_prob(*(a.astype(jnp.float32) for a in halves))
    np.testing.assert_allclose(actual.astype(jnp.float32), expected, rtol=0.03)


def test_categorical_log_prob_keeps_bfloat16():
    actual = categorical_log_prob(jnp.log(jnp.array([[1.0, 3.0]])).astype(jnp.bfloat16), jnp.array([1]))
    assert actual.dtype == jnp.bfloat16
    np.testing.assert_allclose(actual.astype(jnp.float32), np.log([0.75]), rtol=0.02)


@pytest.mark.parametrize("log_prob", [bernoulli_log_prob, gaussian_log_prob, discretized_logistic_log_prob])
def test_log_probs_reject_shapes_that_would_broadcast(log_prob):
    third = () if log_prob is bernoulli_log_prob else (0.0,)
    with pytest.raises(ValueError, match=r"expected equal shapes, got \w+ \(4, 3\), \w+ \(4, 1\)"):
        log_prob(jnp.zeros((4, 3)), jnp.zeros((4, 1)), *third)


def test_categorical_log_prob_rejects_labels_that_do_not_match_the_positions():
    with pytest.raises(ValueError, match=r"labels \(4, 1\), logits_without_classes \(4,\)"):
        categorical_log_prob(jnp.zeros((4, 3)), jnp.zeros((4, 1), jnp.int32))


def mixture_case(seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    log_weights = special.log_softmax(rng.normal(size=4))
    return rng.normal(size=(5, 3)), spread * rng.normal(size=(4, 3)), rng.normal(size=(4, 3)), log_weights


def mixture_by_scipy(x, means, log_vars, log_weights):
    each = [stats.norm(m, np.exp(v / 2)).logpdf(x).sum(axis=-1) for m, v in zip(means, log_vars, strict=True)]
    return special.logsumexp(np.stack(each, axis=-1) + log_weights, axis=-1)


@pytest.mark.parametrize("spread", [0.1, 1.0, 30.0])
def test_gaussian_mixture_equals_scipy(spread):
    case = mixture_case(spread=spread)
    actual = gaussian_mixture_log_prob(*(jnp.asarray(each, jnp.float32) for each in case))
    np.testing.assert_allclose(actual, mixture_by_scipy(*case), rtol=2e-5)


def test_gaussian_mixture_is_accurate_far_from_the_origin_and_with_narrow_components():
    x, means, log_vars, log_weights = mixture_case()
    case = (x + 100, means + 100, log_vars - 4, log_weights)
    actual = gaussian_mixture_log_prob(*(jnp.asarray(each, jnp.float32) for each in case))
    # x itself is rounded to 8e-6, which components of a tenth see as 1e-3 of their log-density
    np.testing.assert_allclose(actual, mixture_by_scipy(*case), rtol=1e-3)


def test_gaussian_mixture_gradient_points_to_the_responsible_components():
    x, means, log_vars, log_weights = mixture_case()
    args = [jnp.asarray(each, jnp.float32) for each in (x, means, log_vars, log_weights)]
    of_x, of_means, of_log_vars, of_weights = total_gradient(gaussian_mixture_log_prob, *args)
    each = np.stack([stats.norm(m, np.exp(v / 2)).logpdf(x).sum(1) for m, v in zip(means, log_vars, strict=True)], 1)
    share = special.softmax(each + log_weights, axis=1)[:, :, None]  # [B, C, 1]
    pull = (x[:, None] - means) * np.exp(-log_vars)
    np.testing.assert_allclose(of_x, -(share * pull).sum(axis=1), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(of_means, (share * pull).sum(axis=0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(
        of_log_vars, 0.5 * (share * (pull**2 * np.exp(log_vars) - 1)).sum(axis=0), rtol=1e-3, atol=1e-4
    )
    np.testing.assert_allclose(of_weights, share.sum(axis=(0, 2)), rtol=1e-3)
