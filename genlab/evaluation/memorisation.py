"""Whether a model has learnt its training examples by heart, told by distances to them in a feature space."""

from typing import Any, NamedTuple

import numpy as np

from genlab.evaluation.feature_distances import check_features, nearest_training
from genlab.evaluation.held_out import mean_and_error

Number = dict[str, Any]

FIRST_PERCENTILE = 0.01
EXACT = 1e-4  # of the median distance of a test image: nearer than this is a copy, up to the rounding of features


class Memorisation(NamedTuple):
    """What distances to the training set say of samples.

    Attributes:
        numbers: `nearer_than_test`, `near_training_share` and `exact_copies`, each with its protocol.
        nearest: i64[N], the training example that is nearest to each sample.
        distances: f64[N], how far it is.
    """

    numbers: dict[str, Number]
    nearest: np.ndarray
    distances: np.ndarray


def memorisation(samples: np.ndarray, train: np.ndarray, test: np.ndarray) -> Memorisation:
    """Whether samples are nearer to the training set than new examples of the same distribution are.

    `nearer_than_test` is the probability that a sample is nearer to its nearest training example than a test example
    to its own (the Mann-Whitney statistic): 1/2 for fresh draws, 1 for copies. Samples that resemble no data at all
    pull it below 1/2, and so hide copies among them; the other two numbers see those. `near_training_share` is the
    share of samples that are nearer than 99 % of the test examples, 0.01 for fresh draws; `exact_copies` counts those
    at distance zero.

    Args:
        samples, train, test: features f[N, D], f[M, D], f[K, D], N and K at least 2.

    Returns:
        Memorisation; the standard error of its first number is DeLong's, given the training set.

    Raises:
        InputError: too few examples.

    Reference: the statistic of Meehan et al. 2020, "A non-parametric test to detect data-copying in generative models",
    in one cell; DeLong et al. 1988.
    """
    check_features(samples, test, at_least=2)
    (nearest, of_samples), (_, of_test) = (nearest_training(each, train) for each in (samples, test))
    farther = 1.0 - ranks(of_samples, of_test)  # of each sample, the share of test examples that are farther
    nearer = ranks(of_test, of_samples)
    error = np.sqrt(farther.var(ddof=1) / len(farther) + nearer.var(ddof=1) / len(nearer))
    share, share_error = mean_and_error(of_samples < np.quantile(of_test, FIRST_PERCENTILE))
    protocol = {"n": len(of_samples), "n_test": len(of_test), "n_train": len(train)}
    numbers: dict[str, Number] = {
        "nearer_than_test": {
            "value": float(farther.mean()), "standard_error": float(error),
            "expected": 0.5,
            "estimator": "probability that a sample is nearer to the training set than a test image is: 1 for copies, "
            "0.5 for new examples, 0 for what is far from all data",
            **protocol,
        },
        "near_training_share": {
            "value": share, "standard_error": share_error, "expected": FIRST_PERCENTILE,
            "estimator": "samples nearer to the training set than 99 % of test images",
            **protocol,
        },
        "exact_copies": {
            "value": int(np.sum(of_samples <= EXACT * np.median(of_test))), "estimator": "samples at distance zero",
            **protocol,
        },
    }  # fmt: skip
    return Memorisation(numbers, nearest, of_samples)


def ranks(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """The share of `among` f[M] below each of f[N], ties counting half."""
    among = np.sort(among)
    return (np.searchsorted(among, values, "left") + np.searchsorted(among, values, "right")) / (2 * len(among))
