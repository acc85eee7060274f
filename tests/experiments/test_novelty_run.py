"""Novelty detection end to end on small digits, its detectors against scikit-learn, and what it refuses."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from configs import flow
from configs import novelty as recipes
from experiments import novelty
from experiments.detectors import detect_by_model, detect_by_pca, of_class, of_equal_contrast
from experiments.launch import Launch
from genlab import data
from genlab.errors import InputError
from genlab.models import pca as models

KEY = jax.random.key(0)
CLASSES = (0, 4)


def pca(code_dim) -> Any:  # all its abilities are there
    return models.pca(code_dim)


def cache_directory():
    return str(jax.config.values["jax_compilation_cache_dir"])


def tiny(**changes):
    config = recipes.get_config()
    config.data.name = "digits"
    config.data.num_validation = 400
    config.batch_size = 32
    config.num_steps, config.eval_every_steps = 60, 20
    config.steps_per_call = 20
    config.model.hidden, config.model.code_dim = (32,), 8
    config.novelty.classes = CLASSES
    config.novelty.pca_code_dims = (2, 8, 16)
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in changes.items()})
    return config


@pytest.fixture(autouse=True)
def compiled_programs_stay_where_they_are(monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", cache_directory())


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", num_validation=400)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run, in its workdir."""
    directory = tmp_path_factory.mktemp("runs") / "novelty"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", cache_directory())
        novelty.main(Launch(tiny(), "novelty", directory, "python -m experiments.novelty"))
    return directory


def test_a_run_leaves_scores_from_which_its_card_follows(finished, digits):
    card = json.loads((finished / "card.json").read_text())
    assert list(card["novelty"]) == ["pca", "pca_contrast", "autoencoder"]
    labels = digits.test["label"]
    for method, block in card["novelty"].items():
        values = []
        for label in CLASSES:
            with np.load(finished / "classes" / f"{label}.npz") as found:
                test, held_out = found[f"{method}/test"], found[f"{method}/held_out"]
            assert len(test) == len(labels) and len(held_out) == np.sum(digits.validation["label"] == label)
            values.append(roc_auc_score(labels != label, test))
            number = card["classes"][str(label)][method]["false_positive_rate"]
            assert number["value"] == np.mean(test[labels == label] > number["threshold"])
            assert np.mean(held_out > number["threshold"]) <= 0.05
        np.testing.assert_allclose(block["auroc"]["values"], values)
        np.testing.assert_allclose(block["auroc"]["value"], np.mean(values))
        assert block["auroc"]["value"] > 0.95  # zeros and fours are easy
    for name in ("novelty_scores.png", "novelty_examples_0.png", "novelty_examples_4.png"):
        assert (finished / "figures" / name).stat().st_size > 1_000
    page = (finished / "report.html").read_text()
    assert "no anomaly is seen before the test" in page and page.count("<img") == 3
    assert f"{100 * card['novelty']['autoencoder']['auroc']['value']:.1f}" in page


def test_a_run_that_was_stopped_goes_on_with_the_classes_that_are_missing(finished):
    card = (finished / "card.json").read_text()
    kept = (finished / "classes" / "0.npz").stat().st_mtime_ns
    (finished / "classes" / "4.npz").unlink()
    (finished / "card.json").unlink()
    novelty.main(Launch(tiny(), "novelty", finished, "python -m experiments.novelty"))
    assert (finished / "classes" / "0.npz").stat().st_mtime_ns == kept
    before, after = json.loads(card), json.loads((finished / "card.json").read_text())
    assert before["novelty"] == after["novelty"]


def test_a_workdir_of_another_config_is_refused(finished):
    with pytest.raises(InputError, match="another config; it differs in seed"):
        novelty.main(Launch(tiny(seed=1), "novelty", finished, ""))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"novelty__classes": (10,)}, "classes has 10; the labels of digits are below 10"),
        ({"novelty__false_positive_rate": 0.001}, "wants at least 999 held-out normal examples"),
        ({"novelty__score": "size"}, "novelty.score is 'size'"),
        ({"novelty__model": "gan"}, "novelty.model is 'gan'; known: autoencoder, flow, autoregressive"),
        ({"novelty__model": "flow"}, "novelty.model 'flow' is a density of levels: set novelty.contrast to False"),
        ({"data__binarization": "dynamic"}, "must be 'none'"),
        ({"population": 2}, "not a population"),
        ({"data__name": "moons"}, "among labelled images"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_trained(tmp_path, changes, complaint):
    with pytest.raises(InputError, match=complaint):
        novelty.main(Launch(tiny(**changes), "novelty", tmp_path / "run", ""))
    assert not (tmp_path / "run").exists()


def test_a_flow_detects_by_its_density(digits, tmp_path):
    config = flow.get_config("novelty")
    assert set(config.model) == set(flow.get_config().model)
    changes = {"batch_size": 32, "num_steps": 60, "model.channels": 16, "model.num_layers": 2, "model.levels": 1}
    config.update_from_flattened_dict({**changes, "eval_every_steps": 20, "steps_per_call": 20})
    novelty.check_novelty(config)
    found = detect_by_model(config, of_class(digits, 0), tmp_path)
    is_zero = digits.test["label"] == 0
    assert roc_auc_score(~is_zero, found.test) > 0.9 and found.facts["step"] in (20, 40, 60)
    assert np.median(found.test[is_zero]) == pytest.approx(np.median(found.held_out), abs=10)  # nats


def test_a_class_keeps_its_own_training_images_and_the_whole_test(digits):
    normal = of_class(digits, 3)
    assert set(normal.train["label"]) == set(normal.validation["label"]) == {3}
    np.testing.assert_array_equal(normal.train["x"], digits.train["x"][digits.train["label"] == 3])
    assert len(normal.test["x"]) == len(digits.test["x"])


def test_pca_detects_as_scikit_learns_with_the_k_that_tells_turned_images_best(digits):
    normal, dims = of_class(digits, 7), (2, 5, 10, 30)
    found = detect_by_pca(normal, dims, 100, lambda algorithm: algorithm)
    train, held_out, test = (
        np.asarray(split["x"], np.float64).reshape(-1, 64) / 255
        for split in (normal.train, normal.validation, normal.test)
    )
    turned = np.stack([np.rot90(image.reshape(8, 8)) for image in held_out]).reshape(-1, 64)
    truth = np.repeat([0, 1], len(held_out))
    residual, telling = {}, {}
    for k in dims:
        theirs = PCA(k, svd_solver="full").fit(train)
        error = lambda x, theirs=theirs: np.square(x - theirs.inverse_transform(theirs.transform(x))).sum(axis=1)
        residual[k], telling[k] = error, roc_auc_score(truth, error(np.concatenate([held_out, turned])))
    best = max(dims, key=lambda k: telling[k])
    assert found.facts["k"] == best
    np.testing.assert_allclose([found.facts["choice_auroc"][str(k)] for k in dims], list(telling.values()), atol=1e-3)
    np.testing.assert_allclose(found.test, residual[best](test), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.held_out, residual[best](held_out), rtol=1e-3, atol=1e-4)


def test_equal_contrast_is_blind_to_brightness_and_ink():
    x = jax.random.uniform(KEY, (20, 4, 4, 1))
    algorithm: Any = of_equal_contrast(pca(3))
    state, _ = algorithm.step(algorithm.init(KEY, {"x": x}), {"x": x}, KEY)
    factor = jnp.linspace(0.2, 3.0, 20)[:, None, None, None]
    for function in (algorithm.encode, algorithm.log_prob, lambda *a: algorithm.evaluate(*a)["squared_error"]):
        seen = function(state, {"x": x}, KEY)
        np.testing.assert_allclose(function(state, {"x": factor * x + 0.3}, KEY), seen, rtol=1e-3, atol=1e-4)
    # what it sees is what scikit-learn's scaler makes of each image
    flat = np.asarray(x, np.float64).reshape(20, 16)
    scaled = (flat - flat.mean(axis=1, keepdims=True)) / flat.std(axis=1, keepdims=True)
    theirs = PCA(3, svd_solver="full").fit(scaled)
    np.testing.assert_allclose(algorithm.encode(state, {"x": x}, KEY), theirs.transform(scaled), atol=1e-4)


def test_a_blank_image_stays_finite():
    x = jnp.concatenate([jax.random.uniform(KEY, (9, 4, 4, 1)), jnp.zeros((1, 4, 4, 1))])
    algorithm: Any = of_equal_contrast(pca(2))
    state, metrics = algorithm.step(algorithm.init(KEY, {"x": x}), {"x": x}, KEY)
    assert np.isfinite(metrics["loss"]) and np.isfinite(algorithm.encode(state, {"x": x}, KEY)).all()
