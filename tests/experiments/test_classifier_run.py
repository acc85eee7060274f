"""A generative classifier end to end on small digits, its PPCA against SciPy's Gaussians, and what it prints."""

import json

import jax
import numpy as np
import pytest
from scipy import stats

from configs import classifier as recipes
from experiments import classifier
from experiments.class_densities import of_ppca, truncated
from experiments.launch import Launch
from genlab import data
from genlab.evaluation.rejection import accuracy_coverage
from genlab.models.pca import fit

FOREIGN = ("noise", "blank", "white", "inverted", "rotated", "shuffled")  # scikit-learn's digits are the data


def cache_directory():
    return str(jax.config.values["jax_compilation_cache_dir"])


def tiny():
    config = recipes.get_config()
    config.data.name = "digits"
    config.data.num_validation = 300
    config.batch_size = 64
    config.num_steps = config.checkpoint_every_steps = 600
    config.steps_per_call = 100
    config.log_every_steps = config.eval_every_steps = config.figure_every_steps = 0
    config.evaluation.batch_size, config.evaluation.num_samples = 200, 100
    config.evaluation.num_importance_samples = 4
    config.model.hidden, config.model.latent_dim, config.model.kl_warmup_steps = (64,), 3, 0
    config.optimizer.learning_rate = 5e-3
    config.classifier.num_importance_samples, config.classifier.num_foreign = 5, 60
    config.classifier.ppca_code_dims = (2, 8)
    return config


def launched(directory):
    return Launch(tiny(), "classifier", directory, "python -m experiments.classifier", "experiments.classifier")


@pytest.fixture(autouse=True)
def compiled_programs_stay_where_they_are(monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", cache_directory())


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", num_validation=300)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run, in its workdir."""
    directory = tmp_path_factory.mktemp("runs") / "classifier"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", cache_directory())
        classifier.main(launched(directory))
    return directory


def test_a_run_leaves_scores_from_which_its_numbers_follow(finished, digits):
    card = json.loads((finished / "classifier.json").read_text())
    labels = digits.test["label"]
    np.testing.assert_allclose(card["class_prior"], np.bincount(digits.train["label"]) / len(digits.train["label"]))
    assert list(card["methods"]) == ["vae", "ppca"]
    for method, block in card["methods"].items():
        with np.load(finished / "classifier.npz") as arrays:
            known, scores, log_posterior = (
                arrays[f"{method}/{name}"] for name in ("validation/scores", "test/scores", "test/log_posterior")
            )
            foreign = {name: arrays[f"{method}/{name}/scores"] for name in FOREIGN}
        correct = log_posterior.argmax(axis=1) == labels
        assert block["classification"]["accuracy"]["value"] == correct.mean() > 0.7  # of ten classes
        np.testing.assert_allclose(np.exp(log_posterior).sum(axis=1), 1.0)
        by_density = accuracy_coverage(scores[:, 0], correct)[1][int(np.ceil(0.95 * len(labels))) - 1]
        assert block["abstention"]["density"]["accuracy_at_coverage"]["value"] == by_density
        threshold = np.sort(known[:, 0])[14]  # of 300: 15 / 301 lie below at most
        for name, each in {"test": scores, **foreign}.items():
            number = block["rejection"]["density"][name]
            assert number["value"] == np.mean(each[:, 0] < threshold) and number["n"] == len(each)
        assert block["rejection"]["combined"]["noise"]["value"] > 0.9
        assert block["rejection"]["combined"]["test"]["value"] < 0.15
        assert set(block["rejection"]["density"]) == {"test", *FOREIGN}
    assert card["methods"]["vae"]["scores"] == ["log_density", "log_density_within_class", "log_likelihood", "kl"]
    assert card["methods"]["ppca"]["scores"] == ["log_density", "log_density_within_class", "squared_error"]


def test_a_run_leaves_figures_in_its_report(finished):
    names = ["coverage", "reliability", "density_vae", "density_ppca", "answers_vae", "answers_ppca"]
    assert all((finished / "figures" / f"classifier_{name}.png").stat().st_size > 1_000 for name in names)
    assert (finished / "report.html").read_text().count("<img") >= len(names)


def test_a_finished_run_is_classified_again_and_says_what_it_measured(finished, capsys, monkeypatch):
    before = json.loads((finished / "classifier.json").read_text())
    (finished / "classifier.json").unlink()
    monkeypatch.setattr(classifier, "draw", lambda *arguments: None)  # which takes longest
    classifier.main(launched(finished))
    assert json.loads((finished / "classifier.json").read_text()) == before
    rows = {line.split("  ")[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    for position, method in enumerate(("vae", "ppca")):
        accuracy = before["methods"][method]["classification"]["accuracy"]["value"]
        assert float(rows["accuracy"][1 + 3 * position]) == pytest.approx(accuracy, abs=1e-3)
        rejected = [100 * rule["inverted"]["value"] for rule in before["methods"][method]["rejection"].values()]
        if method == "ppca":  # whose rows stand last
            np.testing.assert_allclose([float(cell) for cell in rows["inverted"][1:]], rejected, atol=0.06)
    assert {"accuracy at 95% by posterior *", "rejected by vae, %", "rejected by ppca, %"} <= set(rows)


def test_ppca_of_each_class_is_scipys_gaussian_and_k_the_best_of_validation(digits):
    densities = of_ppca(digits, (1, 8), 300, np.full(10, np.log(0.1)))
    accuracy = densities.facts["validation_accuracy_by_k"]
    assert densities.facts["k"] == 8 and accuracy["8"] > accuracy["1"]
    answers = densities.log_probs(digits.validation).argmax(axis=1)
    assert accuracy["8"] == np.mean(answers == digits.validation["label"])

    x = np.asarray(digits.test["x"][:20], np.float64).reshape(20, 64) / 255
    own = np.asarray(digits.train["x"], np.float64).reshape(-1, 64)[digits.train["label"] == 3] / 255
    values, vectors = np.linalg.eigh(np.cov(own.T, ddof=0))
    noise = values[:-8].mean()
    covariance = (vectors[:, -8:] * (values[-8:] - noise)) @ vectors[:, -8:].T + noise * np.eye(64)
    expected = stats.multivariate_normal.logpdf(x, own.mean(axis=0), covariance)
    found = densities.log_probs({"x": digits.test["x"][:20]})
    np.testing.assert_allclose(found[:, 3], expected, rtol=1e-3, atol=0.05)
    centred = (x - own.mean(axis=0)) @ vectors[:, :-8]
    error = densities.terms({"x": digits.test["x"][:20]}, np.full(20, 3))["squared_error"]
    np.testing.assert_allclose(error, np.square(centred).sum(axis=1), rtol=1e-3)


def test_a_truncated_fit_is_the_fit_with_fewer_components():
    x = jax.random.normal(jax.random.key(0), (200, 10)) * np.arange(1.0, 11.0, dtype=np.float32)
    most, fewer = (jax.jit(fit, static_argnums=1)(x, k) for k in (7, 4))
    smaller = truncated(most, 4)
    for name, value in fewer.items():
        np.testing.assert_allclose(smaller[name], value, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(truncated(most, 7)["variances"], most["variances"])
