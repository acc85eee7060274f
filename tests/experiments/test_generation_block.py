"""The block of a card about samples: which numbers there are of what data, in whose features, and for which labels."""

import ml_collections
import numpy as np
import pytest

from configs import base
from experiments import generation
from genlab import data
from genlab.errors import InputError
from genlab.evaluation.extractor import Extractor

RNG = np.random.default_rng(0)


def configured(extractor="none", **model):
    config = base.get_config()
    config.evaluation.extractor = extractor
    config.model = ml_collections.ConfigDict(model)
    return config


def images(num=30):
    return {"x": RNG.integers(0, 256, (num, 4, 4, 1), dtype=np.uint8), "label": np.arange(num, dtype=np.int32) % 2}


IMAGES = data.Dataset("fake", images(), images(), images(), 2, None)


def by_brightness():
    """Two features, and the class 1 where the upper half is the brighter."""
    halves = lambda x: np.stack([x[:, :2].mean(axis=(1, 2, 3)), x[:, 2:].mean(axis=(1, 2, 3))], axis=-1)

    def probabilities(x):
        upper, lower = halves(x).T
        return np.stack([lower > upper, upper >= lower], axis=-1).astype(np.float32)

    return Extractor("halves", "features", halves, probabilities, {"value": 0.9})


def samples_of(labels):
    """Images whose brighter half says which class they are of."""
    x = np.zeros((len(labels), 4, 4, 1), np.float32)
    x[labels == 1, :2] = x[labels == 0, 2:] = 0.9
    return x + RNG.uniform(0, 0.05, x.shape).astype(np.float32)


def test_a_model_without_samples_has_no_block():
    assert generation.measure_samples(configured(), None, IMAGES) == (None, None)


def test_without_an_extractor_images_are_compared_by_their_pixels_alone():
    block, neighbours = generation.measure_samples(configured(), samples_of(np.arange(20) % 2), IMAGES)
    assert neighbours is None
    assert set(block) == {"frechet_pca", "frechet_pca_floor"}


@pytest.mark.parametrize("conditional", [True, False])
def test_samples_of_a_conditional_model_are_read_as_the_test_labels_in_turn(monkeypatch, conditional):
    monkeypatch.setattr(generation, "cached_extractor", lambda dataset: by_brightness())
    config = configured("classifier", conditioning="projection" if conditional else "none")
    labels = IMAGES.test["label"][np.arange(40) % 30]
    wrong = labels.copy()
    wrong[:10] = 1 - wrong[:10]  # a quarter of what is generated is of the other class
    samples = samples_of(wrong)
    block, neighbours = generation.measure_samples(config, samples, IMAGES)
    halves = by_brightness().features
    away = np.linalg.norm(halves(samples)[:, None] - halves(IMAGES.train["x"] / 255), axis=-1)  # [N, M]
    np.testing.assert_array_equal(neighbours.images, IMAGES.train["x"][away.argmin(axis=1)])
    np.testing.assert_allclose(neighbours.distances, away.min(axis=1), rtol=1e-4)
    assert {"frechet_features", "precision", "coverage", "effective_classes"} <= set(block)
    assert ("label_accuracy" in block) == conditional
    if conditional:
        assert block["label_accuracy"]["value"] == 0.75 and block["label_accuracy"]["n"] == 40
        assert block["label_accuracy"]["real_images"] == 0.9


def test_points_of_a_mixture_are_counted_by_mode():
    ring = data.load("ring", num_validation=0)
    samples = np.repeat(ring.modes.means[:3], 10, axis=0).astype(np.float32)
    block, _ = generation.measure_samples(configured(), samples, ring)
    assert block["modes_covered"]["value"] == 3 and block["high_quality_share"]["value"] == 1.0
    assert block["reverse_kl"]["value"] == pytest.approx(np.log(8 / 3))
    assert block["wasserstein"]["value"] > 0.5


def test_stacked_digits_are_read_by_the_classifier_of_their_channels(monkeypatch):
    """A channel's brightness in tenths is its digit; the classifier is that of single digits."""
    loaded = []
    monkeypatch.setattr(generation.data, "load", lambda name, *rest: loaded.append(name) or name)

    def probabilities(x):
        return np.eye(10, dtype=np.float32)[np.round(10 * x.mean(axis=(1, 2, 3))).astype(int)]

    extractor = by_brightness()._replace(probabilities=probabilities)
    monkeypatch.setattr(generation, "cached_extractor", lambda dataset: extractor)
    digits = np.array([[1, 2, 3], [4, 5, 6], [1, 2, 3], [9, 9, 9]])
    fill = lambda digits: np.broadcast_to(digits[:, None, None] / 10, (len(digits), 2, 2, 3)).astype(np.float32)
    test = {"x": (255 * fill(digits)).round().astype(np.uint8), "label": digits @ np.array([100, 10, 1])}
    stacked = data.Dataset("stacked_mnist_5k", test, test, test, 1_000, None)
    block, _ = generation.measure_samples(configured(), fill(digits), stacked)
    assert loaded == ["mnist_5k"]
    assert block["modes_covered"]["value"] == 3 and block["modes_covered"]["of"] == 1_000
    assert block["modes_covered"]["classifier_accuracy"] == 1.0
    assert block["reverse_kl"]["value"] == pytest.approx(np.log(1_000) - 1.5 * np.log(2))


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({}, False),
        ({"conditional": True}, True),
        ({"conditional": False}, False),
        ({"conditioning": "projection"}, True),
        ({"conditioning": "none"}, False),
    ],
)
def test_which_models_are_told_a_class(model, told):
    assert generation.is_conditional(configured(**model)) is told


def test_a_file_that_is_not_of_inceptions_weights_is_named(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(InputError, match=r"other\.npz has no entry .*, which FID's Inception needs"):
        generation.check_extractor(configured(str(tmp_path / "other.npz")), IMAGES)
    with pytest.raises(
        InputError, match="'nowhere', and there is no such file; it must be none, classifier, or a file"
    ):
        generation.check_extractor(configured("nowhere"), IMAGES)
    with pytest.raises(InputError, match="stacked_mnist has no labels for a classifier of ours"):
        generation.check_extractor(configured("classifier"), IMAGES._replace(name="stacked_mnist"))
