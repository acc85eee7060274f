"""A generative model as a classifier, by Bayes' rule.

    p(y | x) = p(x | y) p(y) / p(x),    p(x) = sum_y p(x | y) p(y)

The class-conditional densities are a model's log_prob under every label in turn, the priors p(y) the frequencies of the
training labels. Where log_prob is a bound, so is log p(x), and the posterior is an approximation of neither kind.

Log-likelihoods of images differ by tens of nats from class to class, for the errors of a density add up over pixels as
if they were independent: posteriors are over-confident as they stand, and a temperature is reported beside them.

Reference: Ng & Jordan 2002, "On discriminative vs. generative classifiers"; Guo et al. 2017, "On calibration of modern
neural networks".
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy import optimize, special

from genlab.algorithm import Algorithm, State
from genlab.errors import InputError
from genlab.evaluation.held_out import mean_and_error, over_split

Number = dict[str, Any]
Split = Mapping[str, Any]

NUM_BINS = 15  # of the calibration error, as Guo et al. 2017
TEMPERATURES = (1e-2, 1e4)  # between which the best one is sought


def class_log_probs(
    algorithm: Algorithm,
    state: State,
    split: Split,
    prepare: Callable[[Any], Any],
    key: jax.Array,
    batch_size: int,
    num_classes: int,
    show: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """log p(x | y) of every example under every class.

    All classes get the same key, so that an estimator's noise is shared and mostly cancels in their differences.

    Args:
        algorithm, state: a model whose log_prob heeds the batch's labels.
        split: raw examples, "x": [N, ...]; labels that it has go unseen.
        prepare: raw batch -> batch.
        key: of the estimator's draws.
        batch_size: examples in a chunk.
        num_classes: C; labels are 0, ..., C - 1.
        show: told after every chunk how many of the N C pairs are done.

    Returns:
        f32[N, C], nats.

    Raises:
        InputError: the algorithm has no density.
    """
    if algorithm.log_prob is None:
        raise InputError("this model has no density, so Bayes' rule cannot make a classifier of it")
    num, done = len(split["x"]), 0
    # compiled once: the label is data
    log_prob = over_split(algorithm.log_prob, prepare, batch_size, lambda here: show(done + here))
    columns = []
    for label in range(num_classes):
        columns.append(log_prob(state, labelled(split, np.full(num, label)), key))
        done += num
    return np.stack(columns, axis=1)


def labelled(split: Split, labels: np.ndarray) -> Split:
    """The examples of a split under these labels i[N], whatever their own."""
    return {"x": split["x"], "label": labels.astype(np.int32)}


def class_prior(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """p(y), the frequencies f64[C] of labels i[N] in 0, ..., C - 1.

    Raises:
        InputError: a class without examples, which no density was learnt for; or a label that is no class.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not len(labels) or labels.min() < 0 or labels.max() >= num_classes:
        raise InputError(f"labels must be a vector of 0, ..., {num_classes - 1}; got shape {labels.shape}")
    counts = np.bincount(labels, minlength=num_classes)
    if not counts.all():
        raise InputError(f"class {int(np.argmin(counts))} has no training example, so there is no density of it")
    return counts / len(labels)


def posterior(log_likelihoods: np.ndarray, log_prior: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bayes' rule.

    Args:
        log_likelihoods: f[N, C], log p(x | y) in nats, finite.
        log_prior: f[C], log p(y).

    Returns:
        log p(y | x), f64[N, C], and log p(x), f64[N], in nats.

    Raises:
        InputError: shapes that do not belong together, or a likelihood that is not finite.
    """
    log_likelihoods, log_prior = np.asarray(log_likelihoods, np.float64), np.asarray(log_prior, np.float64)
    if log_likelihoods.ndim != 2 or log_prior.shape != log_likelihoods.shape[1:] or not log_likelihoods.size:
        raise InputError(
            "Bayes' rule takes log-likelihoods [N, C] and log-priors [C]; "
            f"got shapes {log_likelihoods.shape} and {log_prior.shape}"
        )
    if bad := np.count_nonzero(~np.isfinite(log_likelihoods).all(axis=1)):
        raise InputError(f"the log-likelihoods of {bad} of {len(log_likelihoods)} examples are not finite")
    log_joint = log_likelihoods + log_prior
    log_evidence = special.logsumexp(log_joint, axis=1)
    return log_joint - log_evidence[:, None], log_evidence


def log_odds(log_posterior: np.ndarray) -> np.ndarray:
    """f64[N], log p / (1 - p) of the most probable class, of log p(y | x) f64[N, C].

    It orders examples as the largest posterior does, but still where that is 1 to every digit of a float.
    """
    ascending = np.sort(log_posterior, axis=1)
    return ascending[:, -1] - special.logsumexp(ascending[:, :-1], axis=1)


class Reliability(NamedTuple):
    """What became of predictions, by their confidence; of bin b those in (b / B, (b + 1) / B].

    Attributes:
        confidence, accuracy: f64[B], means over a bin; NaN for an empty one.
        count: i64[B].
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray


def reliability(log_posterior: np.ndarray, labels: np.ndarray, num_bins: int = NUM_BINS) -> Reliability:
    """Predictions of log p(y | x) f64[N, C] against labels i[N], in bins of equal width of the largest posterior."""
    confidence = np.exp(log_posterior.max(axis=1))
    correct = log_posterior.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    count = np.bincount(bins, minlength=num_bins)
    total = lambda values: np.bincount(bins, values, minlength=num_bins)
    filled = np.where(count, count, np.nan)
    return Reliability(total(confidence) / filled, total(correct) / filled, count)


def calibration_error(log_posterior: np.ndarray, labels: np.ndarray, num_bins: int = NUM_BINS) -> float:
    """The expected calibration error, sum_b n_b / N |accuracy_b - confidence_b|, in [0, 1]; bins as `reliability`.

    It is of the most probable class alone, and biased upwards by the noise of bins with few examples.

    Reference: Guo et al. 2017, equation 3.
    """
    confidence, accuracy, count = reliability(log_posterior, labels, num_bins)
    return float(np.nansum(count / count.sum() * np.abs(accuracy - confidence)))


def temperature(log_posterior: np.ndarray, labels: np.ndarray) -> float:
    """The T of least negative log-posterior of p(y | x)^(1 / T), normalized; above 1 where posteriors are too sure.

    Args:
        log_posterior: f64[N, C], of examples that are not those to be reported.
        labels: i[N].

    Returns:
        T in [0.01, 10000]; the least where every answer is right, for then no posterior is too sure.

    Reference: Guo et al. 2017, section 4.2; the posterior is tempered as a whole, prior included.
    """

    def loss(log_temperature: float) -> float:  # convex in 1 / T, so it has one minimum in log T
        tempered = temper(log_posterior, np.exp(log_temperature))
        return float(-np.take_along_axis(tempered, labels[:, None], axis=1).mean())

    bounds = tuple(np.log(TEMPERATURES))
    return float(np.exp(optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4}).x))


def temper(log_posterior: np.ndarray, temperature: float) -> np.ndarray:
    """log of p(y | x)^(1 / T) / sum_y' p(y' | x)^(1 / T), f64[N, C]; the ranking of classes stays."""
    return special.log_softmax(log_posterior / temperature, axis=1)


def classifier_block(log_posterior: np.ndarray, labels: np.ndarray, **protocol: Any) -> dict[str, Number]:
    """How good a classifier's decisions and its probabilities are, as numbers of a card.

    Args:
        log_posterior: f64[N, C], log p(y | x).
        labels: i[N].
        **protocol: what else there is to say of every number, as the split.

    Returns:
        `accuracy`; `negative_log_posterior` of the true class in nats; `brier_score`, the squared distance of the
        posterior from the true class's indicator summed over classes, in [0, 2] (Brier 1950; half of it elsewhere);
        `expected_calibration_error`, see `calibration_error`.

    Raises:
        InputError: shapes that do not belong together.
    """
    log_posterior, labels = np.asarray(log_posterior, np.float64), np.asarray(labels)
    if log_posterior.ndim != 2 or labels.shape != log_posterior.shape[:1] or not len(labels):
        raise InputError(
            f"a classifier takes log-posteriors [N, C] and labels [N]; got {log_posterior.shape} and {labels.shape}"
        )
    truth = np.eye(log_posterior.shape[1])[labels]
    each = {
        "accuracy": log_posterior.argmax(axis=1) == labels,
        "negative_log_posterior": -np.take_along_axis(log_posterior, labels[:, None], axis=1)[:, 0],
        "brier_score": np.square(np.exp(log_posterior) - truth).sum(axis=1),
    }
    sizes = {"n": len(labels), **protocol}
    block = {}
    for name, values in each.items():
        value, error = mean_and_error(values)
        block[name] = {"value": value, "standard_error": error if len(labels) > 1 else None, **sizes}
    block["negative_log_posterior"]["unit"] = "nats"
    error = calibration_error(log_posterior, labels)
    block["expected_calibration_error"] = {"value": error, "bins": f"{NUM_BINS} of equal width", **sizes}
    return block
