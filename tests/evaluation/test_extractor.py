"""An extractor is its classifier, and what is stored is what was saved."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.errors import InputError
from genlab.evaluation import extractor, features

FACTS = extractor.Facts("bars", 400, 120, 7, {"value": 0.9925, "standard_error": 0.004, "n": 200})


@pytest.fixture(scope="module")
def classifier():
    return features.init(jax.random.key(0), (20, 20, 1), 3)  # of two convolutions


def images(num):
    return np.random.default_rng(0).uniform(size=(num, 20, 20, 1)).astype(np.float32)


def test_the_extractor_is_its_classifier_at_any_number_of_images(classifier):
    found = extractor.from_classifier(classifier, FACTS, batch_size=8)
    hidden, logits = features.apply(classifier, jnp.asarray(images(19)))
    np.testing.assert_allclose(found.features(images(19)), hidden, rtol=1e-4, atol=1e-5)
    exponentials = np.exp(np.asarray(logits, np.float64))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.probabilities(images(19)), probabilities, rtol=1e-4)


def test_its_name_says_whose_it_is_and_how_good(classifier):
    found = extractor.from_classifier(classifier, FACTS)
    assert "our classifier (bars, 99.25% test accuracy, 120 steps on 400 training examples)" in found.name
    assert found.convention == "features" and found.accuracy == FACTS.accuracy


def test_what_is_stored_comes_back_exactly(classifier, tmp_path):
    path = tmp_path / "new" / "classifier.npz"
    extractor.save(path, classifier, FACTS)
    again, facts = extractor.load(path)
    assert facts == FACTS
    assert jax.tree.structure(again) == jax.tree.structure(classifier)
    jax.tree.map(np.testing.assert_array_equal, again, classifier)
    assert [each.name for each in path.parent.iterdir()] == ["classifier.npz"]


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without_the_hidden_layer(path):
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files if name != "hidden_kernel"}
    np.savez(path, **arrays)


def of_another_format(path):
    with np.load(path) as file:
        arrays = dict(file)
    arrays["facts"] = np.array(str(arrays["facts"]).replace('"format": 1', '"format": 0'))
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (truncated, "no classifier of ours, or damaged"),
        (lambda path: path.write_bytes(b""), "no classifier of ours, or damaged"),
        (lambda path: path.write_text("text"), "no classifier of ours, or damaged"),
        (lambda path: np.savez(path, images=np.zeros(3)), "no classifier of ours, or damaged"),
        (without_the_hidden_layer, "hidden_kernel"),
        (of_another_format, "another format"),
        (lambda path: path.unlink(), "no classifier at"),
    ],
)
def test_what_is_no_classifier_is_refused_in_one_line(classifier, tmp_path, damage, complaint):
    path = tmp_path / "classifier.npz"
    extractor.save(path, classifier, FACTS)
    damage(path)
    with pytest.raises(InputError, match=complaint) as refusal:
        extractor.load(path)
    assert "\n" not in str(refusal.value) and str(path) in str(refusal.value)
