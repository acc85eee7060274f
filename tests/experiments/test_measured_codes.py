"""A card's block on codes: which numbers stand in it, and of what they are."""

import jax
import numpy as np
import pytest

from configs import autoencoder as recipes
from experiments.assembly import Member, assemble
from experiments.autoencoder import build
from experiments.representation import check_evaluation, measure_codes
from genlab import data
from genlab.errors import InputError

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", num_validation=100)


def member(digits, variant="deep", **fields):
    """An untrained member of a small recipe, and its state."""
    config = recipes.get_config(variant)
    small = {"model.hidden": (16,), "model.code_dim": 6, "batch_size": 50, "evaluation.batch_size": 200}
    config.update_from_flattened_dict(small | fields)
    algorithm = build(config, digits)
    batch = data.prepare({"x": jax.numpy.asarray(digits.train["x"][:50])})
    state = jax.jit(algorithm.init)(jax.random.key(9), batch)
    return Member({}, config, algorithm, {}), state


def test_a_plain_run_has_no_more_than_it_was_asked_for(digits):
    block, compression = measure_codes(*member(digits), digits, KEY)
    assert set(block) == {
        "linear_probe_accuracy", "knn_accuracy", "reconstruction_mse", "pca_mse", "compression_ratio",
    }  # fmt: skip
    assert block["pca_mse"]["value"] == pytest.approx(compression.pca_mse[6], rel=1e-6)


def test_images_are_corrupted_as_the_evaluation_says_and_not_as_training_does(digits):
    fields = {"evaluation.corruption": "gaussian", "evaluation.corruption_level": 0.2, "model.corruption": "masking"}
    block, _ = measure_codes(*member(digits, **fields), digits, KEY)
    assert block["corrupted_mse"]["value"] == pytest.approx(0.04, rel=0.05)  # sigma^2
    assert block["denoised_mse"]["corruption"] == "gaussian, level 0.2"
    assert {"denoised_mse", "filter_mse"} <= set(block)


def test_a_linear_autoencoder_is_set_beside_components(digits):
    block, _ = measure_codes(*member(digits, "linear", **{"model.hidden": ()}), digits, KEY)
    assert 0 < block["principal_angle"]["value"] <= 90


def test_without_pretraining_means_the_first_state_of_the_run_itself(digits, monkeypatch):
    who, state = member(digits, **{"evaluation.few_labels": (20,), "seed": 3})
    seen = {}

    def spy(algorithm, pretrained, untrained, train, validation, test, labels, prepare, key, *rest):
        seen.update(pretrained=pretrained, untrained=untrained, labels=labels, key=key)
        return {"accuracy_20_labels": {"value": 0.5}}

    monkeypatch.setattr("experiments.representation.few_labels.few_labels_block", spy)
    block, _ = measure_codes(who, state, digits, KEY)
    assert block["accuracy_20_labels"] == {"value": 0.5} and seen["labels"] == (20,)
    assert seen["pretrained"] is state
    first = assemble(who.config, digits, build).start().state
    for ours, its in zip(jax.tree.leaves(seen["untrained"]), jax.tree.leaves(first), strict=True):
        np.testing.assert_array_equal(ours, its)
    keys = [jax.random.key_data(key).tolist() for key in (seen["key"], jax.random.fold_in(KEY, 3))]
    assert keys[0] == keys[1]  # another seed has other labels


def test_labels_that_are_not_there_are_refused_before_training(digits):
    config = member(digits, **{"evaluation.few_labels": (20, 100_000)})[0].config
    with pytest.raises(InputError, match="100,000 labelled examples asked for"):
        check_evaluation(config, digits)
    unlabelled = digits._replace(train={"x": digits.train["x"]})
    with pytest.raises(InputError, match=r"few_labels is \(20, 100000\), but digits has no labels"):
        check_evaluation(config, unlabelled)


def test_a_corruption_that_cannot_be_is_refused_before_training(digits):
    config = member(digits, **{"evaluation.corruption": "gaussian"})[0].config
    with pytest.raises(InputError, match="corruption_level is 0, so nothing would be corrupted"):
        check_evaluation(config, digits)
    points = digits._replace(train={"x": np.zeros((5, 2), np.float32)})
    with pytest.raises(InputError, match="corruption is for images; for digits add --config"):
        check_evaluation(config, points)
