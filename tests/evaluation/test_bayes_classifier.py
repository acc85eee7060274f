"""Bayes' rule and its calibration against Gaussians in closed form, scikit-learn and numbers by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.naive_bayes import GaussianNB

from genlab.algorithm import Algorithm
from genlab.errors import InputError
from genlab.evaluation import bayes_classifier as bayes

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
STATE: Any = {"mean": jnp.array([[0.0, 0.0], [2.0, 1.0], [-1.0, 3.0]]), "scale": jnp.array([1.0, 0.5, 2.0])}


def gaussians(log_prob=None) -> Algorithm:
    """p(x | y) = N(mean[y], scale[y]^2 I), its state being mean and scale."""

    def log_density(state, batch, key):
        label = batch["label"]
        scale = state["scale"][label][:, None]
        return jax.scipy.stats.norm.logpdf(batch["x"], state["mean"][label], scale).sum(axis=1)

    lacks: Any = None
    return Algorithm(lacks, lacks, lacks, None, None, None, log_prob or log_density, "exact")


def class_log_probs(split, algorithm=None, show=lambda done: None):
    return bayes.class_log_probs(algorithm or gaussians(), STATE, split, dict, KEY, 4, 3, show)


def test_every_class_is_measured_in_its_own_column_and_own_labels_go_unseen():
    x, done = RNG.normal(size=(10, 2)).astype(np.float32), []
    expected = [
        stats.norm.logpdf(x, mean, scale).sum(axis=1)
        for mean, scale in zip(np.asarray(STATE["mean"]), np.asarray(STATE["scale"]), strict=True)
    ]
    found = class_log_probs({"x": x, "label": np.arange(10) % 3, "other": np.zeros(10)}, show=done.append)
    np.testing.assert_allclose(found, np.stack(expected, axis=1), rtol=1e-4)
    assert done == [4, 8, 10, 14, 18, 20, 24, 28, 30]


def test_all_classes_share_the_noise_of_the_estimator():
    noisy = lambda state, batch, key: jax.random.normal(key, batch["label"].shape) + batch["label"].astype(jnp.float32)
    found = class_log_probs({"x": np.zeros((10, 2), np.float32)}, gaussians(noisy))
    np.testing.assert_allclose(found - found[:, :1], np.broadcast_to([0.0, 1.0, 2.0], (10, 3)), atol=1e-6)
    assert np.std(found[:, 0]) > 0.1


def test_a_model_without_density_is_no_classifier():
    with pytest.raises(InputError, match="no density"):
        class_log_probs({"x": np.zeros((1, 2))}, gaussians()._replace(log_prob=None))


def test_posterior_of_two_gaussians_is_logistic_and_the_evidence_their_mixture():
    x = np.linspace(-4.0, 4.0, 41)
    likelihoods = np.stack([stats.norm.logpdf(x, -1.0), stats.norm.logpdf(x, 1.0)], axis=1)
    log_posterior, log_evidence = bayes.posterior(likelihoods, np.log([0.8, 0.2]))
    # log p(1 | x) / p(0 | x) = 2 x + log(0.2 / 0.8)
    np.testing.assert_allclose(log_posterior[:, 1] - log_posterior[:, 0], 2 * x + np.log(0.25), atol=1e-12)
    mixture = 0.8 * stats.norm.pdf(x, -1.0) + 0.2 * stats.norm.pdf(x, 1.0)
    np.testing.assert_allclose(log_evidence, np.log(mixture), rtol=1e-12)
    np.testing.assert_allclose(np.exp(log_posterior).sum(axis=1), 1.0)


@pytest.mark.parametrize("kind", ["full", "diagonal"])
def test_gaussian_classifiers_are_scikit_learns(kind):
    labels = RNG.choice(3, size=400, p=[0.5, 0.3, 0.2])
    x = RNG.normal(size=(400, 2)) @ RNG.normal(size=(2, 2)) + RNG.normal(size=(3, 2))[labels]
    full = kind == "full"  # their covariance is taken as they have it, of whatever ddof
    theirs: Any = QuadraticDiscriminantAnalysis(store_covariance=True) if full else GaussianNB(var_smoothing=0.0)
    theirs.fit(x, labels)
    columns = []
    for label in range(3):
        own = x[labels == label]
        covariance = theirs.covariance_[label] if full else np.diag(own.var(axis=0))
        columns.append(stats.multivariate_normal.logpdf(x, own.mean(axis=0), covariance))
    prior = bayes.class_prior(labels, 3)
    log_posterior, _ = bayes.posterior(np.stack(columns, axis=1), np.log(prior))
    np.testing.assert_allclose(np.exp(log_posterior), theirs.predict_proba(x), atol=1e-6)
    accuracy = bayes.classifier_block(log_posterior, labels)["accuracy"]["value"]
    np.testing.assert_allclose(accuracy, theirs.score(x, labels))


def test_posterior_stays_right_where_likelihoods_underflow():
    log_posterior, log_evidence = bayes.posterior(np.array([[-5000.0, -5003.0]]), np.log([0.5, 0.5]))
    np.testing.assert_allclose(log_posterior[0], [-np.log1p(np.exp(-3.0)), -3.0 - np.log1p(np.exp(-3.0))])
    np.testing.assert_allclose(log_evidence, -5000.0 + np.log1p(np.exp(-3.0)) + np.log(0.5))


@pytest.mark.parametrize(
    ("likelihoods", "prior", "complaint"),
    [
        (np.zeros((2, 3)), np.zeros(2), r"got shapes \(2, 3\) and \(2,\)"),
        (np.zeros(3), np.zeros(3), "log-likelihoods .N, C."),
        (np.array([[0.0, np.nan], [0.0, 0.0]]), np.zeros(2), "of 1 of 2 examples are not finite"),
    ],
)
def test_posterior_refuses(likelihoods, prior, complaint):
    with pytest.raises(InputError, match=complaint):
        bayes.posterior(likelihoods, prior)


def test_class_prior_counts():
    np.testing.assert_array_equal(bayes.class_prior(np.array([0, 2, 2, 1]), 3), [0.25, 0.25, 0.5])
    with pytest.raises(InputError, match="class 1 has no training example"):
        bayes.class_prior(np.array([0, 2]), 3)
    with pytest.raises(InputError, match=r"vector of 0, \.\.\., 1"):
        bayes.class_prior(np.array([0, 2]), 2)


def test_log_odds_are_those_of_the_largest_posterior_and_do_not_saturate():
    np.testing.assert_allclose(bayes.log_odds(np.log([[0.2, 0.7, 0.1]])), np.log(0.7 / 0.3))
    sure = bayes.posterior(np.array([[0.0, -60.0], [0.0, -80.0]]), np.log([0.5, 0.5]))[0]
    assert (np.exp(sure.max(axis=1)) == 1.0).all()
    np.testing.assert_allclose(bayes.log_odds(sure), [60.0, 80.0])


PROBABILITIES = np.array([[0.95, 0.05], [0.93, 0.07], [0.4, 0.6], [0.7, 0.3]])
LABELS = np.array([0, 1, 1, 0])  # right, wrong, right, right


def test_calibration_error_by_hand():
    # of 15 bins 0.95 lies in the last, 0.93 in the last but one, 0.6 and 0.7 in the ninth and the eleventh
    assert bayes.calibration_error(np.log(PROBABILITIES), LABELS) == pytest.approx((0.05 + 0.93 + 0.4 + 0.3) / 4)
    # of 2 all lie in the upper one: accuracy 3 / 4, mean confidence 3.18 / 4
    assert bayes.calibration_error(np.log(PROBABILITIES), LABELS, 2) == pytest.approx((3.18 - 3.0) / 4)
    found = bayes.reliability(np.log(PROBABILITIES), LABELS, 2)
    np.testing.assert_array_equal(found.count, [0, 4])
    np.testing.assert_allclose([found.confidence[1], found.accuracy[1]], [3.18 / 4, 0.75])
    assert np.isnan(found.confidence[0])


def test_block_by_hand():
    block = bayes.classifier_block(np.log(PROBABILITIES), LABELS, split="test")
    assert block["accuracy"]["value"] == 0.75
    np.testing.assert_allclose(block["accuracy"]["standard_error"], np.sqrt(0.75 * 0.25 / 3))
    truth = np.array([0.95, 0.07, 0.6, 0.7])
    np.testing.assert_allclose(block["negative_log_posterior"]["value"], -np.log(truth).mean())
    np.testing.assert_allclose(block["brier_score"]["value"], 2 * np.square(1 - truth).mean())  # two classes
    assert all(number["n"] == 4 and number["split"] == "test" for number in block.values())
    with pytest.raises(InputError, match=r"labels \[N\]"):
        bayes.classifier_block(np.log(PROBABILITIES), LABELS[:2])


@pytest.mark.parametrize("truth", [0.3, 1.0, 8.0])
def test_temperature_is_the_one_that_labels_were_drawn_at(truth):
    rng = np.random.default_rng(1)
    log_posterior = bayes.temper(5.0 * rng.normal(size=(20_000, 4)), 1.0)
    drawn = np.exp(bayes.temper(log_posterior, truth))
    labels = (rng.random((len(drawn), 1)) > np.cumsum(drawn, axis=1)[:, :-1]).sum(axis=1)
    found = bayes.temperature(log_posterior, labels)
    np.testing.assert_allclose(found, truth, rtol=0.05)
    losses = [
        bayes.classifier_block(bayes.temper(log_posterior, each), labels)["negative_log_posterior"]["value"]
        for each in (0.97 * found, found, 1.03 * found)
    ]
    assert losses[1] < min(losses[0], losses[2])


def test_tempering_keeps_answers_and_normalizes():
    log_posterior = np.log(PROBABILITIES)
    np.testing.assert_allclose(np.exp(bayes.temper(log_posterior, 1.0)), PROBABILITIES)
    root = np.sqrt(PROBABILITIES)
    np.testing.assert_allclose(
        np.exp(bayes.temper(log_posterior, 2.0)), root / root.sum(axis=1, keepdims=True), rtol=1e-12
    )
