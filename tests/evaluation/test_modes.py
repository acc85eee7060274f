"""Counts over modes against hand-made cases, and what a perfect sampler is expected to get against perfect samplers."""

import math

import numpy as np
import pytest

from genlab.errors import InputError
from genlab.evaluation import modes

RING = np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], axis=1)


def values(block):
    return {name: number["value"] for name, number in block.items()}


def test_samples_on_three_of_eight_modes():
    block = modes.modes_block(np.repeat(RING[[0, 3, 4]], [2, 1, 1], axis=0), RING, 0.01)
    # frequencies 1/2, 1/4, 1/4 have entropy 1.5 log 2, of log 8 = 3 log 2
    assert values(block) == {
        "modes_covered": 3, "high_quality_share": 1.0, "reverse_kl": pytest.approx(1.5 * math.log(2)),
    }  # fmt: skip
    assert {number["n"] for number in block.values()} == {4} and block["modes_covered"]["of"] == 8


def test_samples_beyond_three_sigma_count_for_nothing():
    step = 0.01 * np.array([0.6, 0.8])  # one sigma, slantwise
    samples = np.concatenate([RING[:2] + 2.9 * step, RING[1:4] + 3.1 * step, [[0.0, 0.0]]])
    found = values(modes.modes_block(samples, RING, 0.01))
    assert found["modes_covered"] == 2 and found["high_quality_share"] == pytest.approx(2 / 6)
    # of the counted alone, two modes once each; the four others would lower it
    assert found["reverse_kl"] == pytest.approx(math.log(4))


def test_no_sample_near_a_mode_is_as_bad_as_it_gets():
    assert values(modes.modes_block(np.zeros((5, 2)), RING, 0.01)) == {
        "modes_covered": 0, "high_quality_share": 0.0, "reverse_kl": pytest.approx(math.log(len(RING))),
    }  # fmt: skip


@pytest.mark.parametrize("means", [RING, np.array([[-5.0], [3.0], [9.0]])], ids=["plane", "line"])
def test_a_perfect_sampler_gets_what_is_expected_of_it(means):
    rng = np.random.default_rng(1)
    num, runs = 40, 400
    found, expected = [], {}
    for _ in range(runs):
        samples = means[rng.integers(len(means), size=num)] + 0.01 * rng.standard_normal((num, means.shape[1]))
        block = modes.modes_block(samples, means, 0.01)
        found.append([number["value"] for number in block.values()])
        expected = {name: number["perfect_sampler"] for name, number in block.items()}
    error = np.std(found, axis=0, ddof=1) / math.sqrt(runs)
    assert np.all(np.abs(np.mean(found, axis=0) - list(expected.values())) < 4 * error + 1e-3)
    # the case is one where neither is at its limit
    assert expected["modes_covered"] < len(means) and expected["reverse_kl"] > 0.02


def test_the_published_expectations():
    assert modes.ball_probability(2) == pytest.approx(1 - math.exp(-4.5))
    assert modes.ball_probability(1) == pytest.approx(math.erf(3 / math.sqrt(2)))
    # Miller's first order, to a tenth of it
    for num, of in ((2_500, 8), (2_500, 25), (26_000, 1_000)):
        assert modes.expected_kl(num, of) == pytest.approx((of - 1) / (2 * num), rel=0.1)
    assert modes.expected_kl(1, 8) == pytest.approx(math.log(8))
    # two tosses of a coin: the same twice, log 2, or both
    assert modes.expected_kl(2, 2) == pytest.approx(0.5 * math.log(2))
    assert modes.expected_modes(2, 2) == pytest.approx(1.5)
    assert modes.expected_modes(1, 8, 0.5) == pytest.approx(0.5)
    assert modes.expected_modes(5, 1) == 1.0


def test_the_distance_of_a_shifted_set_is_the_shift():
    test = np.random.default_rng(0).normal(size=(60, 2))
    shift = np.array([0.3, -0.4])
    block = modes.modes_block((test + shift)[:30][::-1], RING, 0.01, test)
    assert block["wasserstein"]["value"] == pytest.approx(0.5) and block["wasserstein"]["n"] == 30
    assert block["wasserstein_floor"]["value"] > 0.05
    # the floor is of the other half: with the same points in it, it is zero
    twice = np.concatenate([test, test])
    assert modes.modes_block(test, RING, 0.01, twice)["wasserstein_floor"]["value"] == 0.0


def test_the_distance_on_the_line_matches_sorted_points():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(50, 1)), rng.exponential(size=(50, 1))
    expected = math.sqrt(np.mean(np.square(np.sort(a[:, 0]) - np.sort(b[:, 0]))))
    assert modes.wasserstein(a, b) == pytest.approx(expected)


def test_no_more_points_are_matched_than_can_be():
    test = np.random.default_rng(0).normal(size=(3_000, 2))
    block = modes.modes_block(test[:1_500], RING, 0.01, test)
    assert block["wasserstein"]["n"] == block["wasserstein_floor"]["n"] == 1_000


@pytest.mark.parametrize(
    ("samples", "test"),
    [
        (np.zeros((3, 1)), None),
        (np.zeros((0, 2)), None),
        (np.full((2, 2), np.inf), None),
        (np.zeros((3, 2)), np.zeros((4, 3))),
        (np.zeros((3, 2)), np.zeros((1, 2))),
    ],
)
def test_points_that_do_not_fit_are_refused(samples, test):
    with pytest.raises(InputError, match=r"test points|finite points"):
        modes.modes_block(samples, RING, 0.01, test)


def digits(numbers):
    """f32[N, 4, 4, 3] whose channels hold the digits of the labels, as grey levels in bytes 25 d."""
    numbers = np.asarray(numbers)
    channels = np.stack([numbers // 100, numbers // 10 % 10, numbers % 10], axis=-1)
    return np.broadcast_to(25 * channels[:, None, None, :], (len(numbers), 4, 4, 3)).astype(np.uint8)


def reader(images):
    """f32[B, 4, 4, 1] -> f32[B, 10]: the digit that the grey level stands for, barely the most probable."""
    assert images.shape[1:] == (4, 4, 1) and images.dtype == np.float32 and images.max() <= 1
    return 0.1 + 0.01 * np.eye(10)[np.rint(images[:, 0, 0, 0] * 255 / 25).astype(int)]


def test_stacked_digits_are_read_channel_by_channel():
    every = np.arange(1_000)
    test = {"x": digits(every), "label": every}
    samples = digits([123, 123, 321, 7]).astype(np.float32) / 255
    block = modes.stacked_block(samples, test, reader)
    assert values(block) == {"modes_covered": 3, "reverse_kl": pytest.approx(math.log(1_000) - 1.5 * math.log(2))}
    assert {name: number["real"] for name, number in block.items()} == {
        "modes_covered": 1_000, "reverse_kl": pytest.approx(0.0, abs=1e-9),
    }  # fmt: skip
    assert block["modes_covered"]["classifier_accuracy"] == 1.0
    assert block["modes_covered"]["perfect_sampler"] == pytest.approx(4, abs=0.01)
    assert (block["reverse_kl"]["n"], block["reverse_kl"]["n_real"]) == (4, 1_000)


def test_the_classifier_s_accuracy_is_of_single_digits_in_their_places():
    test = {"x": digits([123, 456]), "label": np.array([123, 457])}
    block = modes.stacked_block(digits([0]).astype(np.float32), test, reader)
    assert block["reverse_kl"]["classifier_accuracy"] == pytest.approx(5 / 6)
    swapped = {"x": digits([123]), "label": np.array([321])}
    block = modes.stacked_block(digits([0]).astype(np.float32), swapped, reader)
    assert block["reverse_kl"]["classifier_accuracy"] == pytest.approx(1 / 3)


def test_a_perfect_sampler_of_stacked_digits_gets_what_is_expected_of_it():
    rng = np.random.default_rng(0)
    draws = [np.bincount(rng.integers(1_000, size=3_000), minlength=1_000) for _ in range(50)]
    expected = modes.expected_modes(3_000, 1_000), modes.expected_kl(3_000, 1_000)
    found = np.array([(np.count_nonzero(counts), modes.kl_from_uniform(counts)) for counts in draws])
    assert np.all(np.abs(found.mean(axis=0) - expected) < 4 * found.std(axis=0, ddof=1) / math.sqrt(50))
    assert 940 < expected[0] < 960


@pytest.mark.parametrize("shape", [(3, 4, 4, 1), (0, 4, 4, 3), (4, 4, 3)])
def test_what_is_no_stack_is_refused(shape):
    with pytest.raises(InputError, match=r"finite images \[N, H, W, 3\]"):
        modes.stacked_block(np.zeros(shape, np.float32), {"x": digits([1]), "label": np.array([1])}, reader)
