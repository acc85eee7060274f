"""Distances between two sets of features: their kernel mean embeddings, and the manifolds that they lie on.

The functions take features f[N, D] and count in float64; what is as large as a matrix of all distances is made a few
rows at a time.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from genlab.errors import InputError

Number = dict[str, Any]

CHUNK_ELEMENTS = 1 << 23  # of a matrix of distances that are in memory together: 64 MB


def kernel_distance(a: np.ndarray, b: np.ndarray) -> Number:
    """Squared maximum mean discrepancy with the kernel (x.y / D + 1)^3; with Inception's features it is the KID.

    The U-statistic of all pairs, without bias, so that it falls below zero where the sets are alike. Reference code
    averages it over random subsets, which has the same expectation and a larger variance; subsets as large as the sets
    would moreover all be the same, and their spread no error.

    Args:
        a, b: f[N, D], f[M, D]; at least 3 of each.

    Returns:
        `value`, and its `standard_error` by the two-sample jackknife, which errs upwards where the sets are alike.

    Raises:
        InputError: fewer examples, or features of different sizes.

    Reference: Binkowski et al. 2018, "Demystifying MMD GANs", section 4; Arvesen 1969 for the jackknife.
    """
    a, b = check_features(a, b, at_least=3)
    (m, dim), n = a.shape, len(b)
    kernel = lambda products: np.power(products / dim + 1.0, 3)

    def sums(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the kernel over y, for every x; over x, for every y."""
        rows, columns = np.empty(len(x)), np.zeros(len(y))
        for part in row_chunks(len(x), len(y)):
            values = x[part] @ y.T / dim + 1.0
            values *= values * values  # ten times faster than a power
            rows[part] = values.sum(axis=1)
            columns += values.sum(axis=0)
        return rows, columns

    within_a, within_b = (sums(x, x)[0] - kernel(np.square(x).sum(axis=1)) for x in (a, b))  # of all others
    a_over_b, b_over_a = sums(a, b)
    mean_a, mean_b = within_a.sum() / (m * (m - 1)), within_b.sum() / (n * (n - 1))
    cross = a_over_b.sum()
    # the statistic without one of a, and without one of b
    without_a = (within_a.sum() - 2 * within_a) / ((m - 1) * (m - 2)) - 2 * (cross - a_over_b) / ((m - 1) * n)
    without_b = (within_b.sum() - 2 * within_b) / ((n - 1) * (n - 2)) - 2 * (cross - b_over_a) / ((n - 1) * m)
    variance = (m - 1) * without_a.var() + (n - 1) * without_b.var()
    return {
        "value": float(mean_a + mean_b - 2 * cross / (m * n)),
        "standard_error": float(np.sqrt(variance)),
        "estimator": "squared MMD, U-statistic, kernel (x.y / D + 1)^3; error by the jackknife",
    }


def precision_recall(real: np.ndarray, fake: np.ndarray, k: int = 3) -> tuple[float, float]:
    """The share of fakes in the manifold of the reals, and of reals in that of the fakes.

    A set's manifold is the union of balls about its examples that reach to their k-th neighbours; the boundary belongs
    to it (<=), as in the paper and its code. No example is its own neighbour.

    Args:
        real, fake: f[N, D], f[M, D], more than k of each; both depend on N and M.
        k: of neighbours, at least 1.

    Raises:
        InputError: k or fewer examples.

    Reference: Kynkaanniemi et al. 2019, "Improved precision and recall metric", equations 1 and 2.
    """
    real, fake = check_features(real, fake, at_least=k + 1)
    reach_real, reach_fake = squared_reach(real, k), squared_reach(fake, k)
    in_real, in_fake = np.zeros(len(fake), bool), np.zeros(len(real), bool)
    for part in row_chunks(len(fake), len(real)):
        squared = squared_distances(fake[part], real)
        in_real[part] = (squared <= reach_real).any(axis=1)
        in_fake |= (squared <= reach_fake[part, None]).any(axis=0)
    return float(in_real.mean()), float(in_fake.mean())


def density_coverage(real: np.ndarray, fake: np.ndarray, k: int = 5) -> tuple[float, float]:
    """How many of the reals' balls a fake is in on average, over k; and the share of those balls that hold a fake.

    Balls about reals alone, which an outlier among the fakes cannot enlarge. The boundary does not belong to them (<),
    as in the authors' code. Of two sets of N from one distribution the density is 1 on average and the coverage
    1 - (N - 1) ... (N - k) / ((2N - 1) ... (2N - k)), for k = 5 and many examples 0.969.

    Args:
        real, fake: f[N, D], f[M, D], more than k of the first; the coverage depends on N and M.
        k: of neighbours, at least 1.

    Returns:
        Density, >= 0 and possibly above 1, and coverage, in [0, 1].

    Raises:
        InputError: k or fewer examples.

    Reference: Naeem et al. 2020, "Reliable fidelity and diversity metrics for generative models", section 3.
    """
    real, fake = check_features(real, fake, at_least=k + 1)
    reach = squared_reach(real, k)
    num_balls, covered = 0, np.zeros(len(real), bool)
    for part in row_chunks(len(fake), len(real)):
        inside = squared_distances(fake[part], real) < reach
        num_balls += int(inside.sum())
        covered |= inside.any(axis=0)
    return num_balls / (k * len(fake)), float(covered.mean())


def nearest_training(samples: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest of train f[M, D] to each of samples f[N, D]: indices i64[N] and Euclidean distances f64[N].

    Of several as near, the first, up to rounding.
    """
    samples, train = check_features(samples, train, at_least=1)
    squared_norms, doubled = np.square(train).sum(axis=1), 2.0 * train.T
    indices = np.empty(len(samples), np.int64)
    for part in row_chunks(len(samples), len(train)):
        # |s - t|^2 - |s|^2 is enough to find it; the distance itself would cancel
        score = samples[part] @ doubled
        indices[part] = np.argmin(np.subtract(squared_norms, score, out=score), axis=1)
    return indices, np.linalg.norm(samples - train[indices], axis=1)


def check_features(a: np.ndarray, b: np.ndarray, at_least: int) -> tuple[np.ndarray, np.ndarray]:
    """Both in float64; InputError where they are no features of one size, or too few."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise InputError(f"sets of features are [N, D] and [M, D]; got {a.shape} and {b.shape}")
    if min(len(a), len(b)) < at_least:
        raise InputError(f"this comparison needs at least {at_least} examples of each; got {len(a)} and {len(b)}")
    return a, b


def row_chunks(num_rows: int, num_columns: int) -> Iterator[slice]:
    """Slices of the rows of a matrix that hold CHUNK_ELEMENTS each, or one row."""
    size = max(1, CHUNK_ELEMENTS // num_columns)
    return (slice(first, min(first + size, num_rows)) for first in range(0, num_rows, size))


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """f64[N, M] between f64[N, D] and f64[M, D]."""
    squared = -2.0 * a @ b.T
    squared += np.square(a).sum(axis=1)[:, None]
    squared += np.square(b).sum(axis=1)
    return np.maximum(squared, 0.0, out=squared)


def squared_reach(x: np.ndarray, k: int) -> np.ndarray:
    """f64[N], the squared distance of each to the k-th nearest of the others."""
    reach = np.empty(len(x))
    for part in row_chunks(len(x), len(x)):
        squared = squared_distances(x[part], x)
        squared[np.arange(len(squared)), np.arange(part.start, part.stop)] = np.inf  # itself
        reach[part] = np.partition(squared, k - 1, axis=1)[:, k - 1]
    return reach
