"""Probes on codes whose accuracy is known."""

import numpy as np
import pytest

from genlab.evaluation.representation import probe


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def clusters(rng, num, spread=0.05):
    """Three tight clusters at the corners of a triangle and their labels."""
    labels = rng.integers(0, 3, num).astype(np.int32)
    corners = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    return (corners[labels] + spread * rng.normal(size=(num, 2))).astype(np.float32), labels


def values(block):
    return {name: number["value"] for name, number in block.items()}


def test_separable_codes_are_told_apart_and_the_protocol_stated(rng):
    block = probe(*clusters(rng, 90), *clusters(rng, 60))
    assert values(block) == {"linear_probe_accuracy": 1.0, "knn_accuracy": 1.0}
    for number in block.values():
        assert number["split"] == "test" and number["n"] == 60 and number["n_train"] == 90
    assert block["knn_accuracy"]["k"] == 5


def test_codes_that_say_nothing_give_chance(rng):
    train, test = clusters(rng, 600), clusters(rng, 600)
    block = probe(train[0], rng.permutation(train[1]), test[0], rng.permutation(test[1]))
    for accuracy in values(block).values():
        assert abs(accuracy - 1 / 3) < 5 * np.sqrt(1 / 3 * 2 / 3 / 600)


def test_rings_are_for_neighbours_and_not_for_a_linear_probe(rng):
    """The two numbers are not one: around a disc no line separates."""

    def rings(num):
        labels, angles = rng.integers(0, 2, num), rng.uniform(0, 2 * np.pi, num)
        radius = 1.0 + 2.0 * labels
        return np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1), labels

    block = values(probe(*rings(400), *rings(300)))
    assert block["knn_accuracy"] == 1.0 and block["linear_probe_accuracy"] < 0.7


@pytest.mark.parametrize(("scale", "shift"), [((1000.0, 0.01), (0.0, 0.0)), ((1.0, 1.0), (50.0, -3.0))])
def test_standardisation_makes_scale_and_place_of_a_code_not_matter(rng, scale, shift):
    (train, train_labels), (test, test_labels) = clusters(rng, 200, spread=1.5), clusters(rng, 300, spread=1.5)
    moved = lambda codes: codes.astype(np.float64) * scale + shift
    plain = values(probe(train.astype(np.float64), train_labels, test.astype(np.float64), test_labels))
    assert 0.6 < plain["linear_probe_accuracy"] < 1.0
    # without it the first dimension alone would decide the neighbours
    for name, accuracy in values(probe(moved(train), train_labels, moved(test), test_labels)).items():
        assert abs(accuracy - plain[name]) < 0.005, name


def test_k_is_the_number_of_neighbours():
    """Two near examples of one class outvote the nearest of another with k = 3 and not with k = 1."""
    train, labels = np.array([[0.0], [0.3], [0.4], [9.0]]), np.array([0, 1, 1, 0])
    nearest = [probe(train, labels, np.array([[0.1]]), np.array([0]), k=k)["knn_accuracy"]["value"] for k in (1, 3)]
    assert nearest == [1.0, 0.0]


def test_a_constant_dimension_does_not_divide_by_zero(rng):
    (train, train_labels), (test, test_labels) = clusters(rng, 90), clusters(rng, 60)
    constant = lambda codes: np.concatenate([codes, np.zeros((len(codes), 1), codes.dtype)], axis=1)
    block = probe(constant(train), train_labels, constant(test), test_labels)
    assert values(block) == {"linear_probe_accuracy": 1.0, "knn_accuracy": 1.0}
