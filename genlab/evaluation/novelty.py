"""Telling what is new from what is normal, by a model that has seen the normal only.

A score is higher for what is more novel. It is turned into a decision by a threshold, which normal examples that were
held out of training set at a false-positive rate; how well it orders is the area under the ROC curve, which needs no
threshold.

    novel(x)  <=>  score(x) > threshold

One-class protocol: one class of a labelled set is normal. The model is trained on that class's training images but some
held out, which set the threshold and every hyper-parameter; no anomaly is seen before the test, which is the whole test
split, the other classes being anomalies.

Reference: Ruff et al. 2018, "Deep One-Class Classification", section 4.1, for the protocol.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from scipy import stats

from genlab.algorithm import Algorithm, State
from genlab.errors import InputError
from genlab.evaluation.compression import reconstruction_error
from genlab.evaluation.held_out import over_split

Number = dict[str, Any]
Split = Mapping[str, Any]

SCORES = ("reconstruction", "density")


def score(
    algorithm: Algorithm,
    state: State,
    split: Split,
    prepare: Callable[[Any], Any],
    key: jax.Array,
    batch_size: int,
    by: str = "reconstruction",
) -> np.ndarray:
    """How novel every example of a raw split is to a model.

    Args:
        algorithm, state: the model, of any family.
        split: raw examples, "x": [N, ...].
        prepare: raw batch -> batch.
        key: of the model's draws, if it makes any.
        batch_size: examples in a chunk.
        by: "reconstruction": the squared error, summed over the event, that `evaluate` calls "squared_error", or else
            that of decode(encode(x)); "density": -log p(x) in nats, or its upper bound where density is "bound".

    Returns:
        f64[N], higher for more novel.

    Raises:
        InputError: another `by`, or one that the algorithm cannot serve.
    """
    if by not in SCORES:
        raise InputError(f"a novelty score is by {' or '.join(SCORES)}; got {by!r}")
    if by == "density":
        if algorithm.log_prob is None:
            raise InputError("this model has no density; score by reconstruction")
        return -over_split(algorithm.log_prob, prepare, batch_size)(state, split, key).astype(np.float64)
    raw = {name: np.asarray(values[:1]) for name, values in split.items()}
    evaluated = jax.eval_shape(lambda state, raw: algorithm.evaluate(state, prepare(raw), key), state, raw)
    if "squared_error" in evaluated:
        only = lambda state, batch, key: algorithm.evaluate(state, batch, key)["squared_error"]
        return over_split(only, prepare, batch_size)(state, split, key).astype(np.float64)
    if algorithm.encode is None or algorithm.decode is None:
        raise InputError("this model does not reconstruct; score by density")
    return reconstruction_error(algorithm, state, split, prepare, key, batch_size).astype(np.float64)


def calibrate(normal_scores: np.ndarray, false_positive_rate: float) -> float:
    """The threshold above which at most this share of normal examples lies, in expectation and for any distribution.

    Of n held-out scores it is the ceil((n + 1)(1 - rate))-th smallest, and only scores strictly above it are novel: a
    new normal example, exchangeable with the held-out ones, is then called novel with probability at most `rate`, and
    more than rate - 1 / (n + 1) where scores do not tie. (The plain quantile lies lower and cannot promise it.)

    Args:
        normal_scores: f[n], of normal examples that neither training nor a choice by score has fitted.
        false_positive_rate: in (0, 1).

    Raises:
        InputError: a rate outside (0, 1), scores that are not finite, or fewer than 1 / rate - 1 of them, which no
            threshold among them can promise anything for.

    Reference: Vovk et al. 2005 (split conformal); Bates et al. 2023, "Testing for outliers with conformal p-values".
    """
    scores = checked(normal_scores, "normal")
    if not 0.0 < false_positive_rate < 1.0:
        raise InputError(f"the false-positive rate is {false_positive_rate}; it must lie between 0 and 1")
    # ceil of a product of floats: 20 * 0.95 is 19.000000000000004 on some days
    rank = math.ceil(round((len(scores) + 1) * (1.0 - false_positive_rate), 9))
    if rank > len(scores):
        least = math.ceil(round(1.0 / false_positive_rate, 9)) - 1
        raise InputError(
            f"a false-positive rate of {false_positive_rate} wants at least {least} held-out normal examples; "
            f"there are {len(scores)}"
        )
    return float(np.sort(scores)[rank - 1])


def auroc(normal_scores: np.ndarray, anomalous_scores: np.ndarray) -> float:
    """The probability that an anomaly scores higher than a normal example, ties counting half; in [0, 1].

    Args:
        normal_scores, anomalous_scores: f[n], f[m].

    Raises:
        InputError: a set that is empty, or not finite.

    Reference: Mann & Whitney 1947; Hanley & McNeil 1982 for its being the area under the ROC curve.
    """
    normal, anomalous = checked(normal_scores, "normal"), checked(anomalous_scores, "anomalous")
    ranks = stats.rankdata(np.concatenate([anomalous, normal]))[: len(anomalous)]  # of ties the mean rank
    wins = ranks.sum() - len(anomalous) * (len(anomalous) + 1) / 2
    return float(wins / (len(anomalous) * len(normal)))


def novelty_block(
    calibration: np.ndarray,
    normal: np.ndarray,
    anomalous: np.ndarray,
    false_positive_rate: float,
    **protocol: Any,
) -> dict[str, Number]:
    """AUROC, and what the calibrated threshold does, as numbers of a card.

    Args:
        calibration: f[n], scores of held-out normal examples.
        normal, anomalous: f[m], f[l], scores of test examples, unseen by all that was chosen.
        false_positive_rate: asked for, see `calibrate`.
        **protocol: what else there is to say: which class is normal, the score, k, the sizes of splits.

    Returns:
        `auroc`; `false_positive_rate`, the share of unseen normal examples above the threshold, and `detection_rate`,
        that of anomalies.
    """
    threshold = calibrate(calibration, false_positive_rate)
    sizes = {"split": "test", "n_normal": len(normal), "n_anomalous": len(anomalous), **protocol}
    decision = {"threshold": threshold, "n_calibration": len(calibration), "rate_asked_for": false_positive_rate}
    return {
        "auroc": {"value": auroc(normal, anomalous), **sizes},
        "false_positive_rate": share_above(normal, threshold) | decision | sizes,
        "detection_rate": share_above(anomalous, threshold) | decision | sizes,
    }


def share_above(scores: np.ndarray, threshold: float) -> Number:
    """The share of scores above the threshold, with its binomial standard error."""
    share = float(np.mean(np.asarray(scores) > threshold))
    return {"value": share, "standard_error": math.sqrt(share * (1.0 - share) / len(scores))}


def checked(scores: np.ndarray, kind: str) -> np.ndarray:
    """f64[n], or InputError."""
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1 or len(scores) == 0 or not np.isfinite(scores).all():
        raise InputError(f"{kind} scores must be a finite vector [n], n >= 1; got shape {scores.shape}")
    return scores
