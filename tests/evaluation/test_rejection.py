"""Abstention against brute force and hand numbers, rejection rules against the quantiles that they promise."""

import numpy as np
import pytest
from scipy import stats

from genlab.errors import InputError
from genlab.evaluation import rejection
from genlab.evaluation.rejection import RULES, abstention_block, accuracy_at_coverage, accuracy_coverage

RNG = np.random.default_rng(0)


def test_the_curve_by_hand():
    coverage, accuracy = accuracy_coverage(np.array([0.2, 0.9, 0.5, 0.7]), np.array([False, True, False, True]))
    np.testing.assert_allclose(coverage, [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(accuracy, [1.0, 1.0, 2 / 3, 0.5])  # the least sure goes first


def test_ties_count_as_any_order_does_on_average():
    confidence, correct = np.array([1.0, 0.5, 0.5, 0.5, 0.1]), np.array([0, 1, 0, 0, 1], bool)
    curves = []
    for seed in range(2_000):
        order = np.random.default_rng(seed).permutation(5)
        order = order[np.argsort(-confidence[order], kind="stable")]
        curves.append(np.cumsum(correct[order]) / np.arange(1, 6))
    found = accuracy_coverage(confidence, correct)[1]
    np.testing.assert_allclose(found, np.mean(curves, axis=0), atol=0.03)
    np.testing.assert_array_equal(found, accuracy_coverage(confidence[::-1], correct[::-1])[1])


@pytest.mark.parametrize(("coverage", "kept"), [(0.95, 95), (0.951, 96), (1.0, 100), (0.07, 7)])
def test_accuracy_at_coverage_is_that_of_the_surest(coverage, kept):
    confidence, correct = RNG.normal(size=100), RNG.random(100) < 0.7
    surest = correct[np.argsort(-confidence)[:kept]]
    number = accuracy_at_coverage(confidence, correct, coverage)
    np.testing.assert_allclose(number["value"], surest.mean())
    np.testing.assert_allclose(number["standard_error"], stats.binom(kept, surest.mean()).std() / kept)
    assert number["n"] == kept and number["coverage"] == kept / 100


def test_abstaining_from_what_is_wrong_and_unsure_makes_the_rest_right():
    calibration, confidence = RNG.normal(size=999), RNG.normal(size=4_000)
    correct = confidence > -1.0
    block = abstention_block(calibration, confidence, correct, 0.9)
    threshold = np.sort(calibration)[99]  # 99 of 999 lie below: as many as 1 - 0.9 promises for a new one
    assert block["answered"]["threshold"] == threshold
    np.testing.assert_allclose(block["answered"]["value"], np.mean(confidence >= threshold))
    np.testing.assert_allclose(block["answered"]["value"], 0.9, atol=0.03)
    np.testing.assert_allclose(block["accuracy_answered"]["value"], correct[confidence >= threshold].mean())
    assert block["accuracy_answered"]["value"] > correct.mean()
    k = np.arange(1, 4_001)
    np.testing.assert_allclose(
        block["area_under_curve"]["value"], np.mean(np.minimum(correct.sum(), k) / k)
    )  # all that is right comes first
    assert block["area_under_curve"]["n"] == 4_000


@pytest.mark.parametrize(
    ("confidence", "correct", "coverage", "complaint"),
    [
        (np.zeros(3), np.zeros(2), 0.5, "confidences .N."),
        (np.array([np.nan]), np.zeros(1), 0.5, "numbers all"),
        (np.zeros(3), np.zeros(3), 0.0, "above 0 and at most 1"),
    ],
)
def test_what_makes_no_curve_is_refused(confidence, correct, coverage, complaint):
    with pytest.raises(InputError, match=complaint):
        accuracy_at_coverage(confidence, correct, coverage)


def normal_table(num, seed):
    """Scores like those of images: two that go together, one on its own."""
    first, second = np.random.default_rng(seed).normal(size=(2, num))
    return np.stack([first, 0.8 * first + 0.6 * second, second], axis=1)


@pytest.mark.parametrize("rule", list(RULES))
def test_a_rule_rejects_of_the_test_what_was_asked_for(rule):
    found = []
    for seed in range(20):
        calibration, test = normal_table(499, seed), normal_table(2_000, 1_000 + seed)
        found.append(rejection.rejection_block(RULES[rule], calibration, {"test": test}, 0.05)["test"]["value"])
    np.testing.assert_allclose(np.mean(found), 0.05, atol=0.008)


def test_each_rule_sees_what_it_is_made_for():
    calibration = normal_table(999, 0)
    sets = {
        "unlikely": np.array([[-5.0, -4.0, 0.0]]),
        "too likely": np.array([[5.0, 4.0, 0.0]]),
        "odd otherwise": np.array([[0.0, 0.0, 5.0]]),
        "usual": np.array([[0.3, 0.2, 0.0]]),
    }
    rejected = {
        name: [rejection.rejection_block(rule, calibration, sets, 0.05)[each]["value"] for each in sets]
        for name, rule in RULES.items()
    }
    assert rejected == {
        "density": [1.0, 0.0, 0.0, 0.0],
        "typicality": [1.0, 1.0, 0.0, 0.0],
        "combined": [1.0, 1.0, 1.0, 0.0],
    }


def test_two_sided_p_values_by_hand():
    known = np.array([[1.0], [2.0], [3.0], [4.0]])
    new = np.array([[0.0], [1.0], [1.5], [2.5], [4.0], [9.0]])
    np.testing.assert_allclose(rejection.two_sided(known, new)[:, 0], np.array([2, 2, 4, 5, 2, 2]) / 5)
    with pytest.raises(InputError, match="1 calibration scores do not serve a table of 2"):
        rejection.two_sided(known, np.zeros((1, 2)))
    with pytest.raises(InputError, match="finite table"):
        rejection.two_sided(known, np.array([[np.nan]]))


def test_two_sided_p_values_are_those_of_the_distribution():
    known, new = normal_table(20_000, 1), normal_table(50, 2)
    variance = [1.0, 1.0, 1.0]
    expected = 2 * stats.norm.sf(np.abs(new) / np.sqrt(variance))
    np.testing.assert_allclose(rejection.two_sided(known, new), expected, atol=0.03)


@pytest.mark.parametrize("num", [99, 500, 1_000])
def test_the_typical_interval_is_what_the_rule_accepts(num):
    calibration, test = RNG.normal(size=num), RNG.normal(size=(3_000, 1))
    low, high = rejection.typical_interval(calibration, 0.05)
    share = rejection.rejection_block(RULES["typicality"], calibration[:, None], {"x": test}, 0.05)["x"]["value"]
    np.testing.assert_allclose(np.mean((test <= low) | (test >= high)), share)
    assert low < np.quantile(calibration, 0.04) and high > np.quantile(calibration, 0.96)


def test_no_interval_is_drawn_from_too_few():
    assert rejection.typical_interval(np.arange(20.0), 0.05) == (-np.inf, np.inf)


def test_within_class_compares_a_calibration_example_to_the_others_of_its_class():
    values = np.array([1.0, 2.0, 6.0, 100.0, 110.0, 135.0, 10.0, 3.0, 115.0])
    classes = np.array([0, 0, 0, 1, 1, 1, 2, 0, 1])
    known = np.arange(9) < 6
    found = rejection.within_class(values, classes, known)
    for i in range(6):
        others = values[[j for j in range(6) if j != i and classes[j] == classes[i]]]
        np.testing.assert_allclose(found[i], (values[i] - others.mean()) / others.std(ddof=1), rtol=1e-9)
    np.testing.assert_allclose(found[7], (3.0 - 3.0) / np.std([1, 2, 6], ddof=1))
    np.testing.assert_allclose(found[8], 0.0, atol=1e-12)  # the mean of 100, 110, 135 is 115
    everyone = values[:6]
    np.testing.assert_allclose(found[6], (10.0 - everyone.mean()) / everyone.std(ddof=1))  # of a class never seen
