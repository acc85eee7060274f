"""Copies and fresh draws told apart, against Mann and Whitney's statistic."""

import numpy as np
import pytest
from scipy import stats

from genlab.evaluation.feature_distances import nearest_training
from genlab.evaluation.memorisation import memorisation


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_copies_are_detected_and_fresh_draws_are_not(rng):
    train, test, fresh = rng.normal(size=(800, 6)), rng.normal(size=(500, 6)), rng.normal(size=(400, 6))
    of_fresh, of_copies, of_noise = (
        memorisation(each, train, test).numbers for each in (fresh, train[:400], 5 * rng.normal(size=(400, 6)))
    )
    new = of_fresh["nearer_than_test"]
    assert abs(new["value"] - 0.5) < 3 * new["standard_error"] < 0.1
    assert of_fresh["near_training_share"]["value"] < 0.04 and of_fresh["exact_copies"]["value"] == 0
    assert of_copies["nearer_than_test"]["value"] == of_copies["near_training_share"]["value"] == 1.0
    assert of_copies["exact_copies"]["value"] == 400
    assert of_noise["nearer_than_test"]["value"] < 0.1


def test_a_few_copies_are_counted_where_the_average_hides_them(rng):
    train, test = rng.normal(size=(800, 6)), rng.normal(size=(500, 6))
    samples = np.concatenate([5 * rng.normal(size=(90, 6)), train[:10] + 1e-3 * rng.normal(size=(10, 6))])
    found = memorisation(samples, train, test).numbers
    assert found["nearer_than_test"]["value"] < 0.5
    assert found["near_training_share"]["value"] == 0.1
    assert found["exact_copies"]["value"] == 0  # they are near, not exact


def test_nearer_than_test_is_the_statistic_of_mann_and_whitney(rng):
    """And its error that of both samples' draws, over many of them."""
    train, found, errors = rng.normal(size=(100, 2)), [], []
    for _ in range(200):
        samples, test = 1.2 * rng.normal(size=(50, 2)), rng.normal(size=(70, 2))
        number = memorisation(samples, train, test).numbers["nearer_than_test"]
        of_samples, of_test = (nearest_training(each, train)[1] for each in (samples, test))
        statistic = stats.mannwhitneyu(of_test, of_samples).statistic
        assert number["value"] == pytest.approx(statistic / (50 * 70))
        found.append(number["value"])
        errors.append(number["standard_error"])
    assert np.mean(errors) == pytest.approx(np.std(found), rel=0.2)


def test_ties_of_distances_count_half():
    train, copies = np.array([[0.0], [10.0]]), np.array([[0.0], [0.0]])
    found = memorisation(copies, train, np.array([[0.0], [1.0]]))
    assert found.numbers["nearer_than_test"]["value"] == 0.75
    np.testing.assert_array_equal(found.nearest, [0, 0])
    np.testing.assert_array_equal(found.distances, [0.0, 0.0])
