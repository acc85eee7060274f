"""Two models on the same examples: the difference of their numbers, with a confidence interval."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from genlab.errors import InputError

Number = dict[str, Any]


def paired_difference(a: np.ndarray, b: np.ndarray, level: float = 0.95) -> Number:
    """The mean of a - b over examples.

    The spread of a number over examples, ten or twenty nats, is common to both models; that of their difference is not.

    Args:
        a, b: f[N], one number an example, in the same order.
        level: of the interval.

    Returns:
        `value`, `standard_error` (ddof 1, over root N), `low` and `high` of the normal interval, and `n`.

    Raises:
        InputError: not the same number of examples, or fewer than two.
    """
    from scipy import stats

    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise InputError(
            f"a paired comparison needs two numbers for each of at least 2 examples; got {a.shape}, {b.shape}"
        )
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    half = stats.norm.ppf(0.5 + level / 2) * error
    mean = difference.mean()
    return {
        "value": float(mean), "standard_error": float(error), "low": float(mean - half), "high": float(mean + half),
        "level": level, "n": len(difference),
    }  # fmt: skip


def over_seeds(values: Sequence[float], level: float = 0.95) -> Number:
    """The mean of paired differences, one a pair of seeds, with Student's interval over them.

    Args:
        values: at least two.
        level: of the interval.

    Returns:
        `value`, `sd` (ddof 1), `low`, `high`, `num_pairs` and the `values`.
    """
    from scipy import stats

    mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(stats.t.ppf(0.5 + level / 2, len(values) - 1)) * sd / np.sqrt(len(values))
    return {
        "value": mean, "sd": sd, "low": mean - half, "high": mean + half, "level": level, "num_pairs": len(values),
        "values": list(values),
    }  # fmt: skip
