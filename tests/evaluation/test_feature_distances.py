"""Distances between sets against loops over their definitions, and draws whose answer is known."""

import numpy as np
import pytest

from genlab.evaluation import feature_distances
from genlab.evaluation.feature_distances import (
    density_coverage,
    kernel_distance,
    nearest_training,
    precision_recall,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(params=["whole", "in chunks"])
def chunks(request, monkeypatch):
    """Matrices at once, and two or three rows at a time."""
    if request.param == "in chunks":
        monkeypatch.setattr(feature_distances, "CHUNK_ELEMENTS", 60)


def kernel(x, y):
    return (x @ y / len(x) + 1) ** 3


def by_pairs(a, b):
    """The U-statistic, pair by pair."""
    within = lambda x: np.mean([kernel(p, q) for i, p in enumerate(x) for j, q in enumerate(x) if i != j])
    return within(a) + within(b) - 2 * np.mean([kernel(p, q) for p in a for q in b])


def test_kernel_distance_is_the_statistic_of_all_pairs(rng, chunks):
    a, b = rng.normal(size=(20, 3)), rng.normal(size=(27, 3)) + 0.3
    np.testing.assert_allclose(kernel_distance(a, b)["value"], by_pairs(a, b), rtol=1e-10)


def test_kernel_distance_has_the_error_of_the_jackknife(rng, chunks):
    a, b = rng.normal(size=(9, 2)), rng.normal(size=(11, 2)) + 1
    without = [
        np.array([by_pairs(np.delete(a, i, 0), b) for i in range(9)]),
        np.array([by_pairs(a, np.delete(b, i, 0)) for i in range(11)]),
    ]
    variance = sum((len(each) - 1) / len(each) * np.sum((each - each.mean()) ** 2) for each in without)
    np.testing.assert_allclose(kernel_distance(a, b)["standard_error"], np.sqrt(variance), rtol=1e-8)


def test_kernel_distance_of_equal_distributions_is_zero_on_average(rng):
    """A biased estimate, with the pairs (i, i), would be above zero every time."""
    found = [kernel_distance(rng.normal(size=(40, 4)), rng.normal(size=(30, 4))) for _ in range(300)]
    values, errors = (np.array([each[part] for each in found]) for part in ("value", "standard_error"))
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(300)
    assert (values < 0).any()
    assert values.std() < np.sqrt(np.mean(errors**2)) < 2 * values.std()  # it errs upwards here


def test_kernel_distance_of_one_dimension_has_a_closed_form_and_an_honest_error(rng):
    """(xy + 1)^3 is 1 + 3 xy + 3 x^2 y^2 + x^3 y^3, so the squared MMD is that of three moments.

    N(0, 1) has moments 0, 1, 0 and N(1, 1) 1, 2, 4: 3 + 3 + 16.
    """
    found = [kernel_distance(rng.normal(size=(60, 1)), rng.normal(size=(80, 1)) + 1) for _ in range(400)]
    values, errors = (np.array([each[part] for each in found]) for part in ("value", "standard_error"))
    assert abs(values.mean() - 22.0) < 3 * values.std() / 20
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(values.std(), rel=0.25)


def loops(real, fake, k):
    """Precision, recall, density and coverage as they are defined, distance by distance."""
    distance = lambda x, y: np.sqrt(np.sum((x - y) ** 2))
    reach = lambda x: [sorted(distance(p, q) for j, q in enumerate(x) if j != i)[k - 1] for i, p in enumerate(x)]
    of_real, of_fake = reach(real), reach(fake)
    precision = np.mean([any(distance(f, r) <= s for r, s in zip(real, of_real, strict=True)) for f in fake])
    recall = np.mean([any(distance(f, r) <= s for f, s in zip(fake, of_fake, strict=True)) for r in real])
    density = sum(distance(f, r) < s for f in fake for r, s in zip(real, of_real, strict=True)) / (k * len(fake))
    coverage = np.mean([any(distance(f, r) < s for f in fake) for r, s in zip(real, of_real, strict=True)])
    return precision, recall, density, coverage


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("points", ["anywhere", "on a grid"])  # where distances are equal, and exactly so
def test_precision_recall_density_and_coverage_are_their_definitions(rng, chunks, points, k):
    real, fake = rng.normal(size=(25, 3)), 1.4 * rng.normal(size=(31, 3)) + 0.5
    if points == "on a grid":
        real, fake = np.round(real), np.round(fake)
    precision, recall = precision_recall(real, fake, k)
    density, coverage = density_coverage(real, fake, k)
    np.testing.assert_allclose((precision, recall, density, coverage), loops(real, fake, k), rtol=1e-12)
    assert precision != recall and density != coverage  # so none stands in for the other


def test_the_boundary_belongs_to_a_manifold_and_not_to_a_ball_of_coverage():
    """Reals at 0 and 1, whose balls of k = 1 reach 1; a fake at 2 is on the boundary of one of them."""
    real, fake = np.array([[0.0], [1.0]]), np.array([[2.0], [9.0]])
    assert precision_recall(real, fake, 1) == (0.5, 1.0)  # the fakes' balls reach 7: down to -5 and to 2
    assert density_coverage(real, fake, 1) == (0.0, 0.0)


def test_equal_sets_agree_and_far_ones_do_not(rng):
    real = np.round(1000 * rng.normal(size=(80, 5)))  # whole numbers, so that a fake on a boundary is exactly there
    precision, recall = precision_recall(real, real)
    density, coverage = density_coverage(real, real)
    assert precision == recall == coverage == 1.0
    assert density == pytest.approx(1.0)  # each ball holds its centre and the k - 1 nearest
    far = real + 1e5
    assert precision_recall(real, far) == density_coverage(real, far) == (0.0, 0.0)


def test_precision_is_of_the_fakes_and_recall_of_the_reals(rng):
    """Fakes of one of two modes."""
    modes = np.repeat([[0.0, 0.0], [50.0, 0.0]], 100, axis=0)
    precision, recall = precision_recall(rng.normal(size=(200, 2)) + modes, rng.normal(size=(200, 2)))
    assert precision > 0.9
    assert 0.4 < recall <= 0.5


def test_density_and_coverage_of_fresh_draws_are_as_expected(rng):
    k, n = 5, 60
    found = np.array([density_coverage(rng.normal(size=(n, 4)), rng.normal(size=(n, 4)), k) for _ in range(200)])
    i = np.arange(1, k + 1)
    expected = 1.0, 1 - np.prod((n - i) / (2 * n - i))
    assert (np.abs(found.mean(axis=0) - expected) < 3.5 * found.std(axis=0) / np.sqrt(200)).all()


def test_the_nearest_is_that_of_all_distances(rng, chunks):
    samples, train = rng.normal(size=(30, 4)), rng.normal(size=(50, 4)) + 2
    distances = np.linalg.norm(samples[:, None] - train, axis=-1)
    indices, found = nearest_training(samples, train)
    np.testing.assert_array_equal(indices, distances.argmin(axis=1))
    np.testing.assert_allclose(found, distances.min(axis=1))
    assert (nearest_training(train, train)[1] == 0).all()  # no cancellation
