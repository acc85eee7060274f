"""PCA against scikit-learn's, and against Gaussians written down by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from genlab.errors import InputError
from genlab.models import pca as models
from genlab.models.pca import MIN_VARIANCE, fit
from genlab.training import devices

KEY = jax.random.key(0)
DIGITS = (load_digits().images / 16).astype(np.float32)[..., None]  # [1797, 8, 8, 1]


def pca(*arguments, **options) -> Any:  # all its abilities are there
    return models.pca(*arguments, **options)


def fitted(algorithm, x):
    batch = {"x": jnp.asarray(x, jnp.float32)}
    state = jax.jit(algorithm.init)(KEY, batch)
    return jax.jit(algorithm.step)(state, batch, KEY)


def params_of(state):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state.players["pca"].params)


def reference(code_dim, x):
    """scikit-learn's fit in float64, its variances with ddof 0 as ours."""
    found = PCA(code_dim, svd_solver="full").fit(x.reshape(len(x), -1).astype(np.float64))
    scale = (len(x) - 1) / len(x)
    found.explained_variance_ *= scale
    found.noise_variance_ *= scale
    return found


@pytest.mark.parametrize("code_dim", [1, 10, 40])
def test_pca_is_scikit_learns(code_dim):
    train, test = DIGITS[:1000], DIGITS[1000:]
    algorithm, theirs = pca(code_dim), reference(code_dim, train)
    state, metrics = fitted(algorithm, train)
    params = params_of(state)
    np.testing.assert_allclose(params["mean"].ravel(), theirs.mean_, rtol=1e-5, atol=1e-6)
    # with their signs as well: both make the largest entry positive
    np.testing.assert_allclose(params["components"].T, theirs.components_, atol=1e-3)
    np.testing.assert_allclose(params["variances"], theirs.explained_variance_, rtol=1e-5)
    np.testing.assert_allclose(params["noise_variance"], theirs.noise_variance_, rtol=1e-5)

    flat_test, batch = test.reshape(len(test), -1).astype(np.float64), {"x": jnp.asarray(test)}
    codes = algorithm.encode(state, batch, KEY)
    np.testing.assert_allclose(codes, theirs.transform(flat_test), atol=2e-3)
    restored = theirs.inverse_transform(theirs.transform(flat_test))
    decoded = algorithm.decode(state, codes, KEY)
    assert decoded.shape == test.shape
    np.testing.assert_allclose(decoded.reshape(len(test), -1), restored, atol=1e-4)
    error = np.square(flat_test - restored).sum(axis=1)
    each = algorithm.evaluate(state, batch, KEY)
    np.testing.assert_allclose(each["squared_error"], error, rtol=1e-3)
    np.testing.assert_allclose(each["mse"], error / 64, rtol=1e-3)

    log_density = theirs.score_samples(flat_test)
    np.testing.assert_allclose(algorithm.log_prob(state, batch, KEY), log_density, rtol=1e-3, atol=0.05)
    np.testing.assert_allclose(each["loss"], -log_density, rtol=1e-3, atol=0.05)
    np.testing.assert_allclose(
        metrics["loss"], -theirs.score(train.reshape(1000, -1).astype(np.float64)), rtol=1e-4, atol=0.01
    )


# The covariance of these four points is diag(9, 1, 0.25) by hand, their mean (1, 2, 3)
POINTS = np.array([1.0, 2.0, 3.0]) + np.array([
    [3.0, 1.0, 0.5], [3.0, -1.0, -0.5], [-3.0, 1.0, -0.5], [-3.0, -1.0, 0.5],
])  # fmt: skip


@pytest.mark.parametrize(("code_dim", "variances", "noise"), [(1, [9.0], 0.625), (2, [9.0, 1.0], 0.25)])
def test_pca_of_a_covariance_by_hand(code_dim, variances, noise):
    algorithm = pca(code_dim)
    state, _ = fitted(algorithm, POINTS)
    params = params_of(state)
    np.testing.assert_allclose(params["mean"], [1.0, 2.0, 3.0], rtol=1e-6)
    np.testing.assert_allclose(params["components"], np.eye(3)[:, :code_dim], atol=1e-6)
    np.testing.assert_allclose(params["variances"], variances, rtol=1e-5)
    np.testing.assert_allclose(params["noise_variance"], noise, rtol=1e-5)
    covariance = np.diag([*variances, *[noise] * (3 - code_dim)])
    at = np.array([[1.0, 2.0, 3.0], [0.0, 4.0, 2.0]], np.float32)
    expected = stats.multivariate_normal([1.0, 2.0, 3.0], covariance).logpdf(at)
    np.testing.assert_allclose(algorithm.log_prob(state, {"x": jnp.asarray(at)}, KEY), expected, rtol=1e-5)


def test_all_components_give_the_gaussian_with_the_whole_covariance():
    algorithm = pca(3)
    state, metrics = fitted(algorithm, POINTS)
    expected = stats.multivariate_normal([1.0, 2.0, 3.0], np.diag([9.0, 1.0, 0.25])).logpdf(POINTS)
    batch = {"x": jnp.asarray(POINTS, jnp.float32)}
    np.testing.assert_allclose(algorithm.log_prob(state, batch, KEY), expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], -expected.mean(), rtol=1e-5)
    codes = algorithm.encode(state, batch, KEY)
    np.testing.assert_allclose(algorithm.decode(state, codes, KEY), POINTS, rtol=1e-5)


def test_directions_without_variance_count_as_the_least_variance():
    x = np.zeros((50, 6), np.float32)
    x[:, 1] = np.random.default_rng(0).normal(size=50)
    for code_dim in (1, 3, 6):
        algorithm = pca(code_dim)
        state, _ = fitted(algorithm, x)
        covariance = MIN_VARIANCE * np.eye(6)
        covariance[1, 1] = x[:, 1].var()
        mean = x.astype(np.float64).mean(axis=0)
        expected = stats.multivariate_normal(mean, covariance).logpdf(x)
        actual = algorithm.log_prob(state, {"x": jnp.asarray(x)}, KEY)
        np.testing.assert_allclose(actual, expected, rtol=1e-4)
    assert params_of(fitted(pca(1, min_variance=0.01), x)[0])["noise_variance"] == np.float32(0.01)


def test_small_variances_are_not_the_rounding_of_large_ones():
    """A float32 covariance's own eigenvalues are off by 1e-5 here, which is a fortieth of one, a quarter of another."""
    rng = np.random.default_rng(0)
    scales = np.array([10.0, 3.0, 0.02, 0.01, 0.005, 0.005])
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    x = (rng.normal(size=(4000, 6)) * scales @ rotation.T).astype(np.float32)
    exact = np.linalg.eigvalsh(np.cov(x.astype(np.float64), rowvar=False, ddof=0))[::-1]
    params = jax.jit(lambda x: fit(x, 3))(jnp.asarray(x))
    np.testing.assert_allclose(params["variances"], exact[:3], rtol=2e-3)
    np.testing.assert_allclose(params["noise_variance"], exact[3:].mean(), rtol=2e-3)


def test_components_are_orthonormal_and_their_largest_entry_is_positive():
    components = params_of(fitted(pca(20), DIGITS)[0])["components"]
    np.testing.assert_allclose(components.T @ components, np.eye(20), atol=2e-6)
    assert (components[np.argmax(np.abs(components), axis=0), np.arange(20)] > 0).all()


def test_generate_draws_from_the_density():
    algorithm = pca(1)
    state, _ = fitted(algorithm, POINTS)
    batch = {"x": jnp.zeros((40_000, 3))}
    drawn = np.asarray(algorithm.generate(state, batch, KEY), np.float64)
    np.testing.assert_allclose(drawn.mean(axis=0), [1.0, 2.0, 3.0], atol=0.05)
    # diag(9, .625, .625): the noise is in the first direction too, and counted once
    np.testing.assert_allclose(np.cov(drawn, rowvar=False), np.diag([9.0, 0.625, 0.625]), atol=0.2, rtol=0.03)
    # the entropy of a Gaussian is the mean of -log p over its draws
    entropy = stats.multivariate_normal(np.zeros(3), np.diag([9.0, 0.625, 0.625])).entropy()
    log_probs = algorithm.log_prob(state, {"x": jnp.asarray(drawn, jnp.float32)}, KEY)
    np.testing.assert_allclose(-np.mean(log_probs), entropy, atol=0.03)


def test_a_step_forgets_what_was_fitted_before_and_counts():
    algorithm = pca(2)
    state, _ = fitted(algorithm, DIGITS[:100])
    again, _ = algorithm.step(state, {"x": jnp.asarray(DIGITS[100:])}, KEY)
    afresh, _ = fitted(algorithm, DIGITS[100:])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), params_of(again), params_of(afresh))
    assert int(again.step) == 2
    assert not jax.tree.leaves(again.players["pca"].opt_state)


@pytest.mark.parametrize("code_dim", [0, 65])
def test_a_code_that_the_examples_cannot_have_is_refused(code_dim):
    with pytest.raises(InputError, match=f"code_dim is {code_dim}; .* has from 1 to 64 components"):
        fitted(pca(code_dim), DIGITS)


def test_a_population_and_eight_devices_fit_as_one_does():
    algorithm, x = pca(5), jnp.asarray(DIGITS[:800])
    alone = params_of(fitted(algorithm, x)[0])
    batch = {"x": x.reshape(2, 400, 8, 8, 1)}
    state = jax.vmap(algorithm.init, in_axes=(None, 0))(KEY, batch)
    members, _ = jax.jit(jax.vmap(algorithm.step, in_axes=(0, 0, None)))(state, batch, KEY)
    first = jax.tree.map(lambda leaf: leaf[0], params_of(members))
    of_first = params_of(fitted(algorithm, x[:400])[0])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), first, of_first)
    mesh = devices.make_mesh(8, "data")
    spread = devices.put({"x": x}, devices.split(mesh))
    shared, _ = jax.jit(algorithm.step)(jax.jit(algorithm.init)(KEY, spread), spread, KEY)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), params_of(shared), alone)
