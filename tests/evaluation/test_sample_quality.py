"""The block of a card that says how good samples are, of images whose answer is known."""

import jax
import numpy as np
import pytest

from genlab.errors import InputError
from genlab.evaluation.extractor import Extractor
from genlab.evaluation.feature_distances import density_coverage, kernel_distance, precision_recall
from genlab.evaluation.generation import frechet_distance
from genlab.evaluation.sample_quality import class_balance, measure_quality


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_class_balance_by_hand():
    probabilities = [[0.95, 0.05, 0.0], [0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.01, 0.98, 0.01]]
    confident, shares, effective = class_balance(np.array(probabilities))
    np.testing.assert_array_equal(confident, [True, False, False, True])  # above 0.9, not at it
    np.testing.assert_array_equal(shares, [0.5, 0.5, 0.0])
    assert effective == pytest.approx(2.0)
    assert class_balance(np.eye(3)[[0, 0, 0, 1]]).effective_classes == pytest.approx(4 / 27**0.25)  # exp of the entropy


def stripes(rng, num, labels=None):
    """Bytes [num, 4, 4, 1] of three classes: the row that is bright, its intensity and noise at random."""
    labels = rng.integers(0, 3, num) if labels is None else labels
    images = rng.integers(0, 60, (num, 4, 4, 1))
    images[np.arange(num), labels] += rng.integers(120, 190, (num, 1, 1))
    return images.astype(np.uint8), labels


def extractor(convention="features", classes=True):
    """Pixels as features; classes by how bright the first three rows are."""

    def features(images):
        assert images.dtype == np.float32 and images.max() <= 1
        return images.reshape(len(images), -1)

    return Extractor(
        name="pixels of stripes",
        convention=convention,
        features=features,
        probabilities=(lambda images: np.array(jax.nn.softmax(60 * images.mean(axis=(2, 3))[:, :3])))
        if classes
        else None,
        accuracy={"value": 0.99} if classes else None,
    )


def floats(images):
    return images.astype(np.float32) / 255


def test_the_block_says_what_is_good_and_what_is_not(rng):
    (train, _), (test, _), (good, labels) = (stripes(rng, num) for num in (400, 150, 120))
    collapsed, _ = stripes(rng, 120, np.zeros(120, int))
    fine, poor, copied = (
        measure_quality(floats(images), labels, train, test, extractor()).block
        for images in (good, collapsed, train[:120])
    )
    value = lambda block, name: block[name]["value"]
    for name in ("frechet_features", "kernel_features"):
        assert abs(value(fine, name)) < 3 * abs(value(fine, f"{name}_floor")) + 0.02
        assert value(poor, name) > 10 * abs(value(fine, name))
        assert poor[f"{name}_floor"] == fine[f"{name}_floor"]
    assert value(fine, "frechet_features") == pytest.approx(
        frechet_distance(floats(good).reshape(120, -1), floats(test).reshape(150, -1)), rel=1e-4
    )
    assert value(fine, "recall") > 0.8 > 0.5 > value(poor, "recall")
    assert value(fine, "coverage") > 0.8 > 0.5 > value(poor, "coverage")
    assert value(poor, "precision") > 0.8 and fine["precision"]["real_images"] > 0.8
    assert value(fine, "nearer_than_test") == pytest.approx(0.5, abs=0.15)
    found = measure_quality(floats(good), None, train, test, extractor())
    apart = np.linalg.norm(floats(good).reshape(120, 1, -1) - floats(train).reshape(400, -1), axis=-1)  # [N, M]
    np.testing.assert_array_equal(found.nearest, apart.argmin(axis=1))
    np.testing.assert_allclose(found.distances, apart.min(axis=1), rtol=1e-5)
    assert value(copied, "nearer_than_test") == 1.0 and value(copied, "exact_copies") == 120
    assert value(fine, "label_accuracy") == 1.0 and value(poor, "label_accuracy") == np.mean(labels == 0)
    assert (value(poor, "least_class_share"), value(poor, "greatest_class_share")) == (0.0, 1.0)
    assert value(poor, "effective_classes") == 1.0 and fine["effective_classes"]["real_images"] > 2.9


def test_every_number_states_its_protocol(rng):
    (train, _), (test, _), (samples, labels) = (stripes(rng, num) for num in (400, 150, 120))
    block = measure_quality(floats(samples), labels, train, floats(test), extractor()).block
    for name, number in block.items():
        assert np.isfinite(number["value"]), name
        assert number["split"] == "test" and number["extractor"] == "pixels of stripes" and number["n"] == 120
    assert (block["precision"]["k"], block["coverage"]["k"]) == (3, 5)
    assert block["precision"]["n_real"] == 120 and block["frechet_features"]["n_real"] == 150  # as many of each: above
    assert block["nearer_than_test"]["n_train"] == 400


def test_only_inceptions_distances_are_called_fid_and_kid(rng):
    (train, _), (test, _), (samples, _) = (stripes(rng, num) for num in (60, 40, 30))
    ours, theirs = (
        measure_quality(floats(samples), None, train, test, extractor(convention, classes)).block
        for convention, classes in (("features", True), ("FID", False))
    )
    assert {"frechet_features", "frechet_features_floor", "kernel_features", "kernel_features_floor"} <= set(ours)
    assert {"fid", "fid_floor", "kid", "kid_floor"} <= set(theirs)
    assert not {"fid", "kid"} & set(ours) and not {"confident_share", "frechet_features"} & set(theirs)
    assert "label_accuracy" not in ours  # no label was asked for
    assert ours["frechet_features"]["value"] == theirs["fid"]["value"]


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda x: kernel_distance(x[:2], x), "at least 3 examples of each; got 2 and 8"),
        (lambda x: precision_recall(x, x[:3]), "at least 4 examples"),
        (lambda x: density_coverage(x, x[:, :1]), r"got \(8, 2\) and \(8, 1\)"),
        (lambda x: class_balance(x[0]), r"got shape \(2,\)"),
        (lambda x: measure_quality(x, None, x, x, extractor()), r"\[N, H, W, C\] and alike; got samples \(8, 2\)"),
        (
            lambda x: measure_quality(np.full((8, 4, 4, 1), np.nan), None, *2 * [np.zeros((8, 4, 4, 1))], extractor()),
            "samples hold values that are not finite",
        ),
        (
            lambda x: measure_quality(
                *[np.zeros((8, 4, 4, 1)), np.zeros(3)], *2 * [np.zeros((8, 4, 4, 1))], extractor()
            ),
            r"8 samples were asked for as many labels; got shape \(3,\)",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(rng, call, complaint):
    with pytest.raises(InputError, match=complaint):
        call(rng.normal(size=(8, 2)))
