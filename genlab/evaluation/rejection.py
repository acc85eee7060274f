"""When a classifier had better not answer: for an input that is ambiguous, or like nothing it has learnt.

The confidence in an answer orders inputs from the surest to the least sure; abstaining from the least sure buys
accuracy with coverage. A rejection rule asks instead whether the input belongs to the data at all. From a table of
scores f64[N, S], whose first column is log p(x), and the same scores of a calibration set f64[M, S], it makes one score
a row, higher for more foreign; its threshold `novelty.calibrate` sets on the calibration set, which is like the test.
Foreign inputs are never seen before they are counted.

Likelihood alone is not enough: a smooth or an empty image can be far likelier than any example. So there are rules with
two sides, too.

Reference: El-Yaniv & Wiener 2010, "On the foundations of noise-free selective classification"; Nalisnick et al. 2019,
"Do deep generative models know what they don't know?" and "Detecting out-of-distribution inputs to deep generative
models using typicality".
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from genlab.errors import InputError
from genlab.evaluation.novelty import calibrate, share_above

Number = dict[str, Any]


def accuracy_coverage(confidence: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy among the answers that are given, by how many are.

    Args:
        confidence: f[N], higher for surer; the least sure is abstained from first, of ties any one, in expectation.
        correct: bool[N], whether an answer would be right.

    Returns:
        coverage k / N and accuracy of the k surest, f64[N], k = 1, ..., N. The mean of the accuracies is the area under
        the curve.

    Raises:
        InputError: shapes that do not belong together, or a confidence that is NaN.
    """
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    if confidence.ndim != 1 or confidence.shape != correct.shape or not len(correct) or np.isnan(confidence).any():
        raise InputError(
            "a curve takes confidences [N], numbers all, and as many answers; "
            f"got shapes {confidence.shape} and {correct.shape}"
        )
    _, group, size = np.unique(-confidence, return_inverse=True, return_counts=True)
    expected = (np.bincount(group, correct) / size)[group]  # of any one of a group of ties
    k = np.arange(1, len(correct) + 1)
    return k / len(correct), np.cumsum(expected[np.argsort(-confidence, kind="stable")]) / k


def accuracy_at_coverage(confidence: np.ndarray, correct: np.ndarray, coverage: float) -> Number:
    """Accuracy of the ceil(coverage N) surest answers, with its binomial standard error; arguments as above."""
    if not 0.0 < coverage <= 1.0:
        raise InputError(f"coverage is {coverage}; it must be above 0 and at most 1")
    kept, accuracy = accuracy_coverage(confidence, correct)
    num = math.ceil(round(coverage * len(kept), 9))  # a product of floats can lie a little above the whole number
    return binomial(float(accuracy[num - 1]), num) | {"coverage": float(kept[num - 1])}


def abstention_block(
    calibration: np.ndarray, confidence: np.ndarray, correct: np.ndarray, coverage: float, **protocol: Any
) -> dict[str, Number]:
    """What abstaining from the least sure answers gives, as numbers of a card.

    Args:
        calibration: f[M], confidences in validation examples.
        confidence, correct: f[N], bool[N], of the test's.
        coverage: the share of answers that are to be given.
        **protocol: what else there is to say.

    Returns:
        `accuracy_at_coverage`, the coverage being that of the test itself; `area_under_curve` of accuracy over
        coverage; and what the validation's threshold does: `answered`, the share of the test that is not below it, and
        `accuracy_answered`.
    """
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, bool)
    threshold = -calibrate(-np.asarray(calibration), 1.0 - coverage)
    answered = confidence >= threshold
    sizes = {"split": "test", "n": len(correct), **protocol}
    decision = {"threshold": threshold, "n_calibration": len(calibration), "coverage_asked_for": coverage}
    block = {
        "accuracy_at_coverage": sizes | accuracy_at_coverage(confidence, correct, coverage),
        "area_under_curve": {"value": float(accuracy_coverage(confidence, correct)[1].mean()), **sizes},
        "answered": binomial(float(answered.mean()), len(answered)) | decision | sizes,
    }
    if answered.any():
        accuracy = binomial(float(correct[answered].mean()), int(answered.sum()))
        block["accuracy_answered"] = sizes | decision | accuracy
    return block


def binomial(share: float, num: int) -> Number:
    """A share of `num` with its binomial standard error."""
    return {"value": share, "standard_error": math.sqrt(max(share * (1.0 - share), 0.0) / num), "n": num}


def by_density(calibration: np.ndarray, table: np.ndarray) -> np.ndarray:
    """-log p(x): one-sided, what is unlikely is foreign. f64[N], of score tables f64[M, S] and f64[N, S]."""
    return -table[:, 0]


def by_typicality(calibration: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Minus the two-sided p-value of log p(x): what is likelier than the data is foreign, too. f64[N].

    Reference: Nalisnick et al. 2019, "Detecting out-of-distribution inputs ... using typicality", for one input.
    """
    return -two_sided(calibration[:, :1], table[:, :1])[:, 0]


def typical_interval(calibration: np.ndarray, rate: float) -> tuple[float, float]:
    """Where log p(x) is typical by the rule `by_typicality` and its threshold: strictly between the two.

    Args:
        calibration: f[M], log p(x) of validation examples; infinite ends where they are too few to reject any.
        rate: in (0, 1).
    """
    ascending = np.sort(calibration)
    beyond = math.floor(round((len(ascending) + 1) * rate, 9)) - 1  # above `calibrate`'s threshold, and half at an end
    if (num := beyond // 2) < 1:
        return -math.inf, math.inf
    return float(ascending[num - 1]), float(ascending[-num])


def combined(calibration: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Minus the least two-sided p-value of any score, f64[N]: foreign in one respect is foreign.

    Its threshold accounts for there being several: it is the quantile of this very score on the calibration set.
    """
    values = two_sided(calibration, table)
    # least p-values are multiples of 2 / (M + 1) and often tie; the mean, weighted to less than such a step, decides
    return -(values.min(axis=1) + values.mean(axis=1) / (len(calibration) + 1))


Rule = Callable[[np.ndarray, np.ndarray], np.ndarray]
RULES: dict[str, Rule] = {"density": by_density, "typicality": by_typicality, "combined": combined}


def two_sided(calibration: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Empirical two-sided p-values of every score, f64[N, S] in (0, 1].

        p = 2 min(1 + #{below}, 1 + #{above}) / (M + 1),    counted among the M calibration scores

    A calibration example is not below or above itself, so that its own p-value is the one that the others give it.
    """
    calibration, table = checked(calibration, "calibration"), checked(table, "table")
    if calibration.shape[1] != table.shape[1]:
        raise InputError(f"{calibration.shape[1]} calibration scores do not serve a table of {table.shape[1]}")
    columns = []
    for known, new in zip(np.sort(calibration, axis=0).T, table.T, strict=True):
        below = np.searchsorted(known, new, side="left")
        above = len(known) - np.searchsorted(known, new, side="right")
        columns.append(2.0 * (1 + np.minimum(below, above)) / (len(known) + 1))
    return np.minimum(np.stack(columns, axis=1), 1.0)


def within_class(values: np.ndarray, classes: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Values in standard deviations from the mean of the calibration values of the same class, f64[N].

    Classes differ in likelihood: what is usual for an 8 is very unlikely for a 1. A calibration example is compared to
    the others of its class, for it would be closer to a mean that it has part in than a new example is. A class with
    fewer than three calibration examples, or without spread, takes mean and deviation of all.

    Args:
        values, classes: f[N], i[N], the class being the predicted one.
        known: bool[N], the calibration examples; at least three, that are not all alike.
    """
    values = np.asarray(values, np.float64)
    found = standardized(values, known)
    for label in np.unique(classes):
        own = classes == label
        calibration = values[own & known]
        if len(calibration) > 2 and calibration.std() > 0.0:
            found[own] = standardized(values[own], known[own])
    return found


def standardized(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Values minus mean over deviation (ddof 1) of the known ones, of a known one without itself; f64[N]."""
    num, mean, variance = np.sum(known), values[known].mean(), values[known].var(ddof=1)
    away = values - mean
    # without x_i the sum of squares is less by n / (n - 1) (x_i - mean)^2, and x_i - mean grows by n / (n - 1)
    without = ((num - 1) * variance - num / (num - 1) * np.square(away)) / (num - 2)
    with np.errstate(divide="ignore", invalid="ignore"):  # a known one that is all the spread there is: infinitely far
        far = away * num / (num - 1) / np.sqrt(np.where(known, np.maximum(without, 0.0), 1.0))
    return np.where(known, np.clip(far, -1e6, 1e6), away / np.sqrt(variance))


def rejection_block(
    rule: Rule, calibration: np.ndarray, tables: Mapping[str, np.ndarray], rate: float, **protocol: Any
) -> dict[str, Number]:
    """The share of every set that a rule rejects, as numbers of a card.

    Args:
        rule: one of `RULES`.
        calibration: f64[M, S], scores of validation examples, of which the threshold rejects the share `rate`.
        tables: name of a set -> its scores f64[N, S].
        rate: in (0, 1).
        **protocol: what else there is to say.

    Raises:
        InputError: see `novelty.calibrate`; or tables that do not belong together.
    """
    calibration = checked(calibration, "calibration")
    threshold = calibrate(rule(calibration, calibration), rate)
    decision = {"threshold": threshold, "n_calibration": len(calibration), "rate_asked_for": rate}
    return {
        name: share_above(rule(calibration, checked(table, name)), threshold) | {"n": len(table)} | decision | protocol
        for name, table in tables.items()
    }


def checked(table: np.ndarray, name: str) -> np.ndarray:
    """f64[N, S], or InputError."""
    table = np.asarray(table, np.float64)
    if table.ndim != 2 or not table.size or not np.isfinite(table).all():
        raise InputError(f"{name}: scores must be a finite table [N, S]; got shape {table.shape}")
    return table
