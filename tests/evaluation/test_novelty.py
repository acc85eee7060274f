"""Novelty scores, thresholds and AUROC against scikit-learn, brute force and a density known in closed form."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from genlab.algorithm import Algorithm
from genlab.errors import InputError
from genlab.evaluation.novelty import auroc, calibrate, novelty_block, score

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(11, 3)).astype(np.float32)
IDENTITY = dict
STATE: Any = jnp.float32(0.5)


def algorithm(**abilities: Any) -> Algorithm:
    """One whose evaluate gives a loss and nothing else, whose code is the first coordinate, with what is changed."""
    record: dict[str, Any] = {
        "init": None,
        "step": None,
        "evaluate": lambda state, batch, key: {"loss": batch["x"][:, 0]},
        "generate": None,
        "encode": lambda state, batch, key: batch["x"][:, :1] - state,
        "decode": lambda state, codes, key: jnp.pad(codes + state, ((0, 0), (0, 2))),
        "log_prob": None,
        "density": "none",
    }
    return Algorithm(**(record | abilities))


def scores_of(model, by="reconstruction"):
    return score(model, STATE, {"x": X}, IDENTITY, KEY, 4, by)


def test_score_by_reconstruction_decodes_the_code():
    np.testing.assert_allclose(scores_of(algorithm()), np.square(X[:, 1:].astype(np.float64)).sum(axis=1), rtol=1e-5)


def test_score_by_reconstruction_prefers_the_models_own_squared_error():
    own = lambda state, batch, key: {"squared_error": 2.0 * batch["x"][:, 1], "loss": batch["x"][:, 0]}
    np.testing.assert_allclose(scores_of(algorithm(evaluate=own)), 2 * X[:, 1], rtol=1e-6)
    np.testing.assert_allclose(scores_of(algorithm(evaluate=own, encode=None, decode=None)), 2 * X[:, 1], rtol=1e-6)


def test_score_by_density_is_the_negative_log_density():
    log_prob = lambda state, batch, key: jax.scipy.stats.norm.logpdf(batch["x"], scale=2.0).sum(axis=1)
    expected = -stats.norm.logpdf(X, scale=2.0).sum(axis=1)
    found = scores_of(algorithm(log_prob=log_prob, density="exact"), "density")
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found.dtype == np.float64


@pytest.mark.parametrize(
    ("model", "by", "complaint"),
    [
        (algorithm(), "likelihood", "by reconstruction or density; got 'likelihood'"),
        (algorithm(), "density", "no density; score by reconstruction"),
        (algorithm(decode=None), "reconstruction", "does not reconstruct; score by density"),
    ],
)
def test_scores_that_a_model_cannot_give_are_refused(model, by, complaint):
    with pytest.raises(InputError, match=complaint):
        scores_of(model, by)


@pytest.mark.parametrize(
    ("num", "rate", "rank"),
    [(19, 0.05, 19), (99, 0.05, 95), (100, 0.05, 96), (100, 0.5, 51), (3, 0.25, 3), (999, 0.001, 999)],
)
def test_calibrate_takes_the_order_statistic_by_hand(num, rate, rank):
    scores = np.random.default_rng(num).permutation(num) + 1.0  # 1, ..., num: the r-th smallest is r
    assert calibrate(scores, rate) == rank


@pytest.mark.parametrize(("num", "rate"), [(19, 0.05), (100, 0.05), (50, 0.1), (9, 0.1)])
def test_calibrate_keeps_its_promise_exactly(num, rate):
    """Of num + 1 exchangeable scores each is the new one equally often: the rate is a count, no simulation."""
    scores = np.random.default_rng(0).normal(size=num + 1)
    novel = [scores[i] > calibrate(np.delete(scores, i), rate) for i in range(num + 1)]
    assert rate - 1 / (num + 1) <= np.mean(novel) <= rate


def test_calibrate_is_conservative_where_scores_tie():
    assert calibrate(np.ones(40), 0.05) == 1.0  # nothing is strictly above


@pytest.mark.parametrize(
    ("scores", "rate", "complaint"),
    [
        (np.arange(18), 0.05, "wants at least 19 held-out normal examples; there are 18"),
        (np.arange(8), 0.1, "at least 9 held-out"),
        (np.arange(50), 0.0, "must lie between 0 and 1"),
        (np.arange(50), 1.0, "must lie between 0 and 1"),
        (np.array([1.0, np.nan]), 0.5, "finite vector"),
        (np.array([]), 0.5, "finite vector"),
    ],
)
def test_a_threshold_that_promises_nothing_is_refused(scores, rate, complaint):
    with pytest.raises(InputError, match=complaint):
        calibrate(scores, rate)


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_is_scikit_learns(ties):
    rng = np.random.default_rng(1)
    normal, anomalous = rng.normal(size=40), rng.normal(1.0, 2.0, size=70)
    if ties:
        normal, anomalous = normal.round(), anomalous.round()
    truth = [0] * len(normal) + [1] * len(anomalous)
    expected = roc_auc_score(truth, np.concatenate([normal, anomalous]))
    np.testing.assert_allclose(auroc(normal, anomalous), expected, rtol=1e-12)


def test_auroc_by_hand():
    # pairs (normal, anomalous): 1 < 2, 1 < 3, 2 = 2, 2 < 3
    assert auroc(np.array([1.0, 2.0]), np.array([2.0, 3.0])) == 3.5 / 4
    assert auroc(np.array([2.0, 3.0]), np.array([1.0, 2.0])) == 0.5 / 4
    assert auroc(np.array([0.0]), np.array([1.0])) == 1.0


def test_auroc_refuses_what_is_not_a_number():
    with pytest.raises(InputError, match="anomalous scores must be a finite vector"):
        auroc(np.zeros(3), np.array([np.inf]))


def test_novelty_block_measures_what_the_threshold_does_on_unseen_examples():
    rng = np.random.default_rng(2)
    calibration, normal, anomalous = rng.normal(size=99), rng.normal(size=500), rng.normal(1.5, size=300)
    block = novelty_block(calibration, normal, anomalous, 0.05, normal_class="3", score="reconstruction")
    threshold = np.sort(calibration)[94]
    truth, scores = np.repeat([0, 1], [500, 300]), np.concatenate([normal, anomalous])
    false_positive, true_positive, thresholds = roc_curve(truth, scores, drop_intermediate=False)
    at = np.flatnonzero(thresholds > threshold)[-1]  # the point of the ROC curve that the threshold picks
    np.testing.assert_allclose(block["false_positive_rate"]["value"], false_positive[at])
    np.testing.assert_allclose(block["detection_rate"]["value"], true_positive[at])
    np.testing.assert_allclose(block["auroc"]["value"], roc_auc_score(truth, scores))
    share = false_positive[at]
    np.testing.assert_allclose(block["false_positive_rate"]["standard_error"], np.sqrt(share * (1 - share) / 500))
    for number in block.values():
        assert number["normal_class"] == "3" and number["split"] == "test"
        assert (number["n_normal"], number["n_anomalous"]) == (500, 300)
    assert block["false_positive_rate"]["threshold"] == threshold
    assert block["false_positive_rate"]["rate_asked_for"] == 0.05
    assert block["false_positive_rate"]["n_calibration"] == 99
