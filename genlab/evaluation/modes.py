"""Mode collapse: how many of the modes of the data a model's samples reach, and how evenly.

Beside every number stands what a perfect sampler, one that draws from the data's own distribution, is expected to get
with as many samples.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from genlab.errors import InputError

Number = dict[str, Any]

DEVIATIONS = 3.0  # a sample nearer than this to a mode is of high quality
MAX_MATCHED = 1_000  # points that are matched exactly, at a cost of their number cubed
NUM_STACKED_MODES = 1_000
NUM_STACKED_SAMPLES = 26_000  # of the published protocol


def modes_block(
    samples: np.ndarray, means: np.ndarray, sigma: float, test: np.ndarray | None = None
) -> dict[str, Number]:
    """How samples cover a mixture of K equally likely Gaussians N(mean_k, sigma^2 I), whose modes lie well apart.

    As PacGAN's code counts: a sample belongs to the mode nearest to it and counts if it lies within 3 sigma; a mode is
    covered by one such sample; the divergence is that of the counts of these samples alone. The published protocol
    takes 2,500 samples.

    Args:
        samples: f[N, D], generated.
        means: f[K, D].
        sigma: of every mode.
        test: f[M, D], points of the data, M >= 2; or None.

    Returns:
        `modes_covered` of K; `high_quality_share`, the fraction of samples that count; `reverse_kl`, KL(p || uniform)
        of their distribution p over modes, in nats, and log K where no sample counts; and with test points
        `wasserstein`, the exact 2-Wasserstein distance of samples and as many test points, and `wasserstein_floor`,
        that of other test points from the same.

    Raises:
        InputError: no samples, samples that are not finite, or of another dimension.

    Reference: Srivastava et al. 2017 (VEEGAN), section 5.1; Lin et al. 2018 (PacGAN), section 4.1, and
    `MetricLogger` in its code.
    """
    samples, means = np.asarray(samples, np.float64), np.asarray(means, np.float64)
    _check(samples, means.shape[1])
    num, num_modes, dim = len(samples), *means.shape
    squares = np.square(samples[:, None] - means).sum(axis=-1)  # [N, K]
    near = np.sqrt(squares.min(axis=1)) < DEVIATIONS * sigma
    counts = np.bincount(squares.argmin(axis=1)[near], minlength=num_modes)
    share, perfect_share = float(near.mean()), ball_probability(dim)
    protocol = {"n": num, "estimator": f"nearest mode, within {DEVIATIONS:g} sigma"}
    block: dict[str, Number] = {
        "modes_covered": {
            "value": int(np.count_nonzero(counts)), "of": num_modes, **protocol,
            "perfect_sampler": expected_modes(num, num_modes, perfect_share),
        },
        "high_quality_share": {
            "value": share, "standard_error": math.sqrt(share * (1 - share) / num), **protocol,
            "perfect_sampler": perfect_share,
        },
    }  # fmt: skip
    block["reverse_kl"] = {
        "value": kl_from_uniform(counts) if counts.any() else math.log(num_modes),  # of none: the worst there is
        "unit": "nats", **protocol, "of": "samples of high quality",
        "perfect_sampler": expected_kl(round(num * perfect_share), num_modes),
    }  # fmt: skip
    if test is not None:
        block |= _wasserstein_block(samples, np.asarray(test, np.float64))
    return block


def stacked_block(
    samples: np.ndarray, test: Mapping[str, Any], probabilities: Callable[[np.ndarray], np.ndarray]
) -> dict[str, Number]:
    """How samples cover the thousand modes of stacked MNIST, three digits that a classifier reads channel by channel.

    Every sample counts for the mode of its most probable digits, however unsure the classifier is. What it makes of the
    test triples stands beside each number: its errors, and digits that are not equally frequent, are in both.

    Args:
        samples: f32[N, H, W, 3] in [0, 1], generated; NUM_STACKED_SAMPLES of them in the published protocol.
        test: raw triples, uint8[M, H, W, 3], and labels 100 a + 10 b + c.
        probabilities: f32[B, H, W, 1] -> f32[B, 10], the classifier; given a whole channel at a time.

    Returns:
        `modes_covered` of 1,000 and `reverse_kl`, KL(p || uniform) of the samples' distribution p over modes, in nats.

    Raises:
        InputError: samples of another shape, none, or not finite.

    Reference: Srivastava et al. 2017 (VEEGAN), section 5.1; Lin et al. 2018 (PacGAN), section 4.2.
    """
    if np.ndim(samples) != 4 or np.shape(samples)[3] != 3 or len(samples) == 0 or not np.isfinite(samples).all():
        raise InputError(f"stacked digits are finite images [N, H, W, 3], N >= 1; got shape {np.shape(samples)}")

    def count(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Digits i64[N, 3] and the number of images of every mode i64[1000]."""
        digits = [np.asarray(probabilities(images[..., c : c + 1])).argmax(axis=-1) for c in range(3)]
        digits = np.stack(digits, axis=-1)
        return digits, np.bincount(digits @ np.array([100, 10, 1]), minlength=NUM_STACKED_MODES)

    real = np.asarray(test["x"], np.float32) / 255
    label = np.asarray(test["label"])
    read, real_counts = count(real)
    right = read == np.stack([label // 100, label // 10 % 10, label % 10], axis=-1)
    _, counts = count(np.asarray(samples, np.float32))
    num = len(samples)
    protocol = {
        "n": num,
        "estimator": "most probable digit of each channel",
        "classifier_accuracy": float(right.mean()),
        "n_real": len(real),
    }
    return {
        "modes_covered": {
            "value": int(np.count_nonzero(counts)), "of": NUM_STACKED_MODES, **protocol,
            "perfect_sampler": expected_modes(num, NUM_STACKED_MODES), "real": int(np.count_nonzero(real_counts)),
            "perfect_sampler_of_n_real": expected_modes(len(real), NUM_STACKED_MODES),
        },
        "reverse_kl": {
            "value": kl_from_uniform(counts), "unit": "nats", **protocol,
            "perfect_sampler": expected_kl(num, NUM_STACKED_MODES), "real": kl_from_uniform(real_counts),
            "perfect_sampler_of_n_real": expected_kl(len(real), NUM_STACKED_MODES),
        },
    }  # fmt: skip


def kl_from_uniform(counts: np.ndarray) -> float:
    """KL(p || uniform) in nats of p = counts / sum, i[K]: log K minus the entropy of p. 0 to log K."""
    p = counts[counts > 0] / counts.sum()
    return float(math.log(len(counts)) + np.sum(p * np.log(p)))


def expected_kl(num_samples: int, num_modes: int) -> float:
    """E KL(p || uniform) in nats of the frequencies p of samples that are drawn from the uniform distribution.

    Exact, as every count is Binomial(n, 1 / K); (K - 1) / (2 n) to first order in 1 / n (Miller 1955).
    """
    from scipy import stats

    counts = np.arange(1, num_samples + 1)
    frequencies = counts / num_samples
    mass = stats.binom.pmf(counts, num_samples, 1 / num_modes)
    return float(num_modes * np.sum(mass * frequencies * np.log(frequencies * num_modes)))


def expected_modes(num_samples: int, num_modes: int, share: float = 1.0) -> float:
    """How many of K equally likely modes n samples reach on average, if each counts with probability `share`."""
    return -num_modes * math.expm1(num_samples * math.log1p(-share / num_modes)) if share < num_modes else 1.0


def ball_probability(dim: int) -> float:
    """That a standard normal vector of this dimension is shorter than 3: 0.9973, 0.9889, ... for D = 1, 2, ..."""
    from scipy import stats

    return float(stats.chi2.cdf(DEVIATIONS**2, dim))


def wasserstein(a: np.ndarray, b: np.ndarray) -> float:
    """The 2-Wasserstein distance of two sets of points f[N, D]: root mean square of the best matching's moves."""
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    costs = cdist(a, b, "sqeuclidean")
    return math.sqrt(costs[linear_sum_assignment(costs)].mean())


def _wasserstein_block(samples: np.ndarray, test: np.ndarray) -> dict[str, Number]:
    _check(test, samples.shape[1])
    num = min(len(samples), len(test) // 2, MAX_MATCHED)
    if num < 1:
        raise InputError(f"a distance to test points and its floor need at least 2 of them; got {len(test)}")
    protocol = {"split": "test", "n": num, "estimator": "2-Wasserstein distance, optimal matching"}
    real, other = test[:num], test[num : 2 * num]
    return {
        "wasserstein": {"value": wasserstein(samples[:num], real), **protocol},
        "wasserstein_floor": {"value": wasserstein(other, real), "of": "other test points", **protocol},
    }


def _check(points: np.ndarray, dim: int) -> None:
    if points.ndim != 2 or points.shape[1] != dim or len(points) == 0 or not np.isfinite(points).all():
        raise InputError(f"modes in {dim} dimensions take finite points [N, {dim}], N >= 1; got shape {points.shape}")
