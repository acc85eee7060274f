"""Paired differences against SciPy's paired t-test and by hand."""

import numpy as np
import pytest
from scipy import stats

from genlab.errors import InputError
from genlab.evaluation.comparison import over_seeds, paired_difference


def test_what_both_share_does_not_count():
    rng = np.random.default_rng(0)
    common = 20 * rng.normal(size=2_000)
    a, b = common + 0.1 + rng.normal(size=2_000), common + rng.normal(size=2_000)
    found = paired_difference(a, b)
    test = stats.ttest_rel(a, b)
    np.testing.assert_allclose(found["value"] / found["standard_error"], test.statistic, rtol=1e-9)
    low, high = test.confidence_interval(0.95)
    np.testing.assert_allclose([found["low"], found["high"]], [low, high], rtol=2e-2)
    assert found["high"] - found["low"] < 0.2 and found["n"] == 2_000
    other = paired_difference(b, a)
    np.testing.assert_allclose(other["value"], -found["value"])


def test_seeds_have_students_interval():
    values = [1.0, 1.5, 0.8]
    found = over_seeds(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose([found["low"], found["high"]], [low, high], rtol=1e-9)
    np.testing.assert_allclose(found["sd"], np.std(values, ddof=1))


@pytest.mark.parametrize(("a", "b"), [((3,), (4,)), ((1,), (1,)), ((2, 2), (2, 2))])
def test_what_cannot_be_paired_is_one_clear_line(a, b):
    with pytest.raises(InputError, match="paired comparison needs two numbers"):
        paired_difference(np.zeros(a), np.zeros(b))
