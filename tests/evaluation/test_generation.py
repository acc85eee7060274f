"""The Frechet distance against closed forms, and against SciPy's matrix square root."""

import numpy as np
import pytest
from scipy import linalg, stats

from genlab.errors import InputError
from genlab.evaluation.generation import frechet_distance, principal_frechet


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def with_moments(rng, mean, covariance, num=50):
    """A sample whose mean and covariance (ddof 1) are exactly these."""
    white = rng.normal(size=(num, len(mean)))
    white -= white.mean(axis=0)
    white = white @ np.linalg.inv(np.linalg.cholesky(np.cov(white, rowvar=False))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def random_covariance(rng, dim):
    factor = rng.normal(size=(dim, dim))
    return factor @ factor.T + 0.1 * np.eye(dim)


def by_sqrtm(a, b):
    """Heusel et al. 2017, equation 6, as it is printed."""
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.real(linalg.sqrtm(cov_a @ cov_b))
    return np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2) + np.trace(cov_a + cov_b - 2 * root)


def test_frechet_of_commuting_covariances_is_that_of_their_deviations(rng):
    """With shared axes: |m - n|^2 + sum (sqrt a_i - sqrt b_i)^2."""
    axes = stats.ortho_group.rvs(4, random_state=1)
    a, b = np.array([1.0, 4.0, 9.0, 0.25]), np.array([4.0, 1.0, 9.0, 1.0])
    mean_a, mean_b = np.array([1.0, 0.0, -1.0, 2.0]), np.array([0.0, 2.0, -1.0, 2.0])
    samples = with_moments(rng, mean_a, axes * a @ axes.T), with_moments(rng, mean_b, axes * b @ axes.T, num=80)
    np.testing.assert_allclose(frechet_distance(*samples), 5.0 + 1.0 + 1.0 + 0.0 + 0.25, rtol=1e-8)


def test_frechet_in_one_dimension_by_hand():
    # means 2 and 5, deviations (ddof 1) sqrt 2 and 3 sqrt 2
    a, b = np.array([[1.0], [3.0]]), np.array([[2.0], [8.0]])
    np.testing.assert_allclose(frechet_distance(a, b), 9.0 + 8.0, rtol=1e-12)


@pytest.mark.parametrize("dim", [2, 5, 20])
def test_frechet_equals_the_formula_with_a_matrix_square_root(rng, dim):
    a, b = rng.normal(size=(60, dim)) @ random_covariance(rng, dim), rng.normal(size=(90, dim)) + rng.normal(size=dim)
    np.testing.assert_allclose(frechet_distance(a, b), by_sqrtm(a, b), rtol=1e-6)


def test_frechet_of_large_samples_approaches_that_of_their_gaussians(rng):
    """N(0, I) and N(m, 4 I) in three dimensions are |m|^2 + 3 (2 - 1)^2 apart; five standard errors allowed."""
    num, shift = 100_000, np.array([1.0, 0.0, -2.0])
    a, b = rng.normal(size=(num, 3)), 2 * rng.normal(size=(num, 3)) + shift
    # the distance moves by 2 |m| times the error of the means, and by 2 per dimension times that of deviations
    error = np.sqrt(4 * 5.0 * (1 + 4) / num + 3 * 4 * (1 + 4) / (2 * num))
    assert abs(frechet_distance(a, b) - 8.0) < 5 * error < 0.2


def test_frechet_is_zero_on_itself_and_symmetric(rng):
    a, b = rng.normal(size=(40, 6)) @ random_covariance(rng, 6), rng.normal(size=(30, 6)) + 1
    np.testing.assert_allclose(frechet_distance(a, a), 0.0, atol=1e-6)
    assert frechet_distance(a, a) >= 0
    np.testing.assert_allclose(frechet_distance(a, b), frechet_distance(b, a), rtol=1e-9)


def test_frechet_grows_by_the_square_of_a_translation(rng):
    a = rng.normal(size=(40, 6)) @ random_covariance(rng, 6)
    shift = np.arange(6.0)
    np.testing.assert_allclose(frechet_distance(a, a + shift), shift @ shift, rtol=1e-7)


def test_frechet_takes_fewer_examples_than_dimensions(rng):
    """The covariances are singular; matrix square roots of their product are not reliable there, eigenvalues are."""
    a = rng.normal(size=(5, 30))
    # deviations a_i and 3 a_i along shared axes: sum (3 - 1)^2 a_i^2, and the mean moves by twice itself
    expected = 4 * np.trace(np.cov(a, rowvar=False)) + 4 * np.sum(a.mean(axis=0) ** 2)
    np.testing.assert_allclose(frechet_distance(a, 3 * a), expected, rtol=1e-6)


def test_frechet_of_one_example_is_refused():
    with pytest.raises(InputError, match="at least 2 examples"):
        frechet_distance(np.zeros((1, 3)), np.zeros((4, 3)))


# In the space of principal components


def images(num, seed):
    """Smooth 8x8 images: five fixed patterns, mixed."""
    patterns = np.random.default_rng(9).normal(size=(5, 8, 8, 1))
    mixed = np.tensordot(np.random.default_rng(seed).normal(size=(num, 5)), patterns, axes=1)
    return (0.5 + 0.1 * mixed).astype(np.float32)


def test_principal_frechet_tells_real_examples_from_noise_and_states_its_protocol():
    train, test = images(400, 1), images(300, 2)
    noise = np.random.default_rng(3).uniform(size=(200, 8, 8, 1)).astype(np.float32)
    good, bad = (principal_frechet(samples, train, test, dim=10) for samples in (images(200, 4), noise))
    floor = good["frechet_pca_floor"]["value"]
    assert good["frechet_pca"]["value"] < 3 * floor
    assert bad["frechet_pca"]["value"] > 20 * floor
    assert bad["frechet_pca_floor"] == good["frechet_pca_floor"]
    assert good["frechet_pca"]["n"] == good["frechet_pca_floor"]["n"] == 200
    assert good["frechet_pca"]["n_real"] == 300 and good["frechet_pca"]["split"] == "test"
    assert good["frechet_pca"]["extractor"].startswith("10 principal components")


def test_principal_frechet_with_all_components_is_the_distance_itself(rng):
    """A rotation changes no Frechet distance."""
    train, test = (rng.normal(size=(num, 2)) @ random_covariance(rng, 2) for num in (100, 60))
    samples = rng.normal(size=(50, 2)) + 1
    block = principal_frechet(samples, train, test)
    np.testing.assert_allclose(block["frechet_pca"]["value"], frechet_distance(samples, test), rtol=1e-6)
    np.testing.assert_allclose(block["frechet_pca_floor"]["value"], frechet_distance(train[:50], test), rtol=1e-6)
    assert block["frechet_pca"]["extractor"].startswith("2 ")


def test_principal_frechet_projects_on_the_largest_directions_of_the_training_set(rng):
    """A shift across them is not seen, one along them is."""
    scales = np.array([5.0, 3.0, 0.1, 0.1, 0.1])
    train = with_moments(rng, np.zeros(5), np.diag(scales**2), 200)
    test = with_moments(rng, np.zeros(5), np.diag(scales[::-1] ** 2), 100)  # whose own largest are others
    distance = lambda shift: principal_frechet(test + shift, train, test, dim=2)["frechet_pca"]["value"]
    np.testing.assert_allclose(distance(np.array([2.0, 1.0, 0, 0, 0])), 5.0, rtol=1e-5)
    np.testing.assert_allclose(distance(np.array([0, 0, 9.0, 0, 0])), 0.0, atol=1e-5)
