"""Ways between codes against geometry, and midpoints on a circle against brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from genlab.algorithm import Algorithm
from genlab.errors import InputError
from genlab.evaluation import interpolation as ways

KEY = jax.random.key(0)
WEIGHTS = np.array([0.0, 0.25, 0.5, 1.0])


def test_the_straight_line_is_the_one_by_hand():
    path = ways.linear(np.array([[0.0, 4.0], [1.0, 1.0]]), np.array([[8.0, 0.0], [1.0, 1.0]]), WEIGHTS)
    np.testing.assert_allclose(path[0], [(0, 4), (2, 3), (4, 2), (8, 0)], atol=1e-6)
    np.testing.assert_allclose(path[1], np.ones((4, 2)), atol=1e-6)


def test_the_great_circle_turns_evenly_and_grows_evenly():
    path = ways.spherical(np.array([[1.0, 0.0, 0.0]]), np.array([[0.0, 4.0, 0.0]]), np.array([0.0, 1 / 3, 2 / 3, 1.0]))
    turn, length = np.deg2rad([0, 30, 60, 90]), np.array([1, 2, 3, 4])
    by_hand = np.stack([length * np.cos(turn), length * np.sin(turn), 0 * turn], axis=1)
    np.testing.assert_allclose(path[0], by_hand, atol=1e-5)


@pytest.mark.parametrize("dim", [2, 5, 64])
def test_between_equal_lengths_it_is_shoemakes(dim):
    a, b = np.random.default_rng(dim).normal(size=(2, 7, dim))
    b *= np.linalg.norm(a, axis=1, keepdims=True) / np.linalg.norm(b, axis=1, keepdims=True)
    angle = np.arccos(np.sum(a * b, axis=1) / np.sum(a * a, axis=1))[:, None, None]
    t = WEIGHTS[:, None]
    shoemake = (np.sin((1 - t) * angle) * a[:, None] + np.sin(t * angle) * b[:, None]) / np.sin(angle)
    np.testing.assert_allclose(ways.spherical(a, b, WEIGHTS), shoemake, atol=1e-4)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("nearly", [0.0, 1e-5])
def test_along_one_line_the_ends_are_met_and_the_length_is_kept(sign, nearly):
    a = np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 2.0]])
    b = sign * 2 * a + nearly
    path = np.asarray(ways.spherical(a, b, WEIGHTS))
    np.testing.assert_allclose(path[:, 0], a, atol=1e-4)
    np.testing.assert_allclose(path[:, -1], b, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(path, axis=-1), np.array([[5.0], [2.0]]) * (1 + WEIGHTS), atol=1e-3)
    if sign > 0:
        np.testing.assert_allclose(path, ways.linear(a, b, WEIGHTS), atol=1e-4)


def test_zero_has_no_direction_and_one_dimension_no_circle():
    a, zero = np.array([[1.0, -2.0]]), np.zeros((1, 2))
    for ends in ((a, zero), (zero, a), (zero, zero)):
        np.testing.assert_allclose(ways.spherical(*ends, WEIGHTS), ways.linear(*ends, WEIGHTS), atol=1e-6)
    path = np.asarray(ways.spherical([[1.0]], [[-3.0]], WEIGHTS))[0, :, 0]
    np.testing.assert_allclose(path[[0, 2, 3]], [1.0, 0.0, -3.0], atol=1e-6)


@pytest.mark.parametrize(
    ("a", "b", "weights"),
    [((3, 2), (3, 1), (4,)), ((3,), (3,), (4,)), ((3, 2), (3, 2), (4, 1)), ((3, 2), (2, 2), (4,))],
)
def test_ends_that_do_not_fit_are_refused(a, b, weights):
    for path in ways.PATHS.values():
        with pytest.raises(InputError, match="ways between codes"):
            path(np.ones(a), np.ones(b), np.ones(weights))


def test_pairs_differ_in_class_and_every_other_example_is_as_likely():
    labels = np.array([2, 0, 0, 2, 5, 0, 2, 0])
    seconds = []
    for seed in range(400):
        first, second = ways.different_pairs(labels, 5, jax.random.key(seed))
        assert len(set(first)) == 5 and (labels[first] != labels[second]).all()
        seconds += second[first == 4].tolist()  # the partners of the only five: all others, in equal parts
    counts = np.bincount(seconds, minlength=8)
    assert counts[4] == 0
    expected = len(seconds) / 7
    assert np.square(np.delete(counts, 4) - expected).sum() / expected < 22.5  # chi-square, 6 degrees, 0.1 %


def test_as_many_pairs_as_there_are_examples_and_two_classes_at_least():
    first, _ = ways.different_pairs(np.array([0, 1, 1]), 100, KEY)
    assert sorted(first) == [0, 1, 2]
    for labels, num in ((np.zeros(4, int), 2), (np.arange(4), 0)):
        with pytest.raises(InputError, match="pairs of different classes"):
            ways.different_pairs(labels, num, KEY)


def test_nearest_distances_are_scipys_also_far_from_zero():
    rng = np.random.default_rng(0)
    queries, real = (rng.normal(size=(num, 6)).astype(np.float32) + 30 for num in (450, 90))
    np.testing.assert_allclose(ways.nearest(queries, real), cdist(queries, real).min(axis=1), rtol=1e-3)


def test_the_reduction_and_its_error_are_those_of_a_bootstrap():
    rng = np.random.default_rng(1)
    baseline = rng.gamma(9.0, size=300)
    distances = 0.7 * baseline + rng.normal(scale=0.6, size=300)
    value, error = ways.relative_reduction(distances, baseline)
    assert value == pytest.approx(1 - distances.sum() / baseline.sum())
    draws = rng.integers(0, 300, size=(4000, 300))
    ratios = 1 - distances[draws].mean(axis=1) / baseline[draws].mean(axis=1)
    assert error == pytest.approx(ratios.std(), rel=0.1)


def circle(angles):
    """Images f32[N, 1, 2, 1] that lie on the unit circle."""
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)[:, None, :, None]


ON_A_CIRCLE = Algorithm(
    init=None,
    step=None,
    evaluate=None,
    generate=None,
    encode=lambda state, batch, key: jnp.arctan2(batch["x"][:, 0, 1], batch["x"][:, 0, 0]) + state,
    decode=lambda state, codes, key: jnp.stack([jnp.cos(codes - state), jnp.sin(codes - state)], axis=1)[:, None],
    log_prob=None,
    density="none",
)


def on_a_circle(algorithm=ON_A_CIRCLE, **changes):
    rng = np.random.default_rng(2)
    angles = rng.uniform(0.2, 2.8, 60)
    train = {"x": circle(np.linspace(0.0, 3.0, 301))}
    test = {"x": circle(angles), "label": (angles > 1.5).astype(np.int32)}
    arguments = {"num_pairs": 50, "extractor": "coordinates"} | changes
    block = ways.midpoint_distances(
        algorithm, jnp.ones(()), train, test, test, lambda raw: raw,
        lambda images: 3.0 * images.reshape(len(images), -1), KEY, 16, **arguments,
    )  # fmt: skip
    return block, angles, train, test


def test_midpoints_of_codes_stay_on_a_circle_that_those_of_pixels_leave():
    block, angles, train, test = on_a_circle()
    first, second = ways.different_pairs(test["label"], 50, jax.random.split(KEY, 3)[0])
    real = 3.0 * train["x"].reshape(-1, 2)
    images = {
        "linear_midpoint": circle((angles[first] + angles[second]) / 2),
        "pixel_midpoint": (test["x"][first] + test["x"][second]) / 2,
        "real": test["x"][first],
        "reconstruction": test["x"][first],
    }
    for name, each in images.items():
        brute = cdist(3.0 * each.reshape(-1, 2), real).min(axis=1)
        number = block[f"{name}_distance"]
        np.testing.assert_allclose(number["value"], brute.mean(), atol=1e-4)
        np.testing.assert_allclose(number["standard_error"], brute.std(ddof=1) / np.sqrt(50), atol=1e-4)
        assert (number["n"], number["n_train"], number["extractor"]) == (50, 301, "coordinates")
    # angles (shifted by 1) are positive numbers, whose great circle is the straight line
    assert block["spherical_midpoint_distance"]["value"] == pytest.approx(block["linear_midpoint_distance"]["value"])
    reduction = block["linear_reduction"]
    ratio = block["linear_midpoint_distance"]["value"] / block["pixel_midpoint_distance"]["value"]
    assert reduction["value"] == pytest.approx(1 - ratio) and reduction["value"] > 0.9
    assert 0 < reduction["standard_error"] < 0.05


def test_without_a_way_back_there_are_no_midpoints():
    assert on_a_circle(ON_A_CIRCLE._replace(decode=None))[0] is None
    assert on_a_circle(ON_A_CIRCLE._replace(encode=None))[0] is None


def test_one_pair_has_no_error():
    block, *_ = on_a_circle(num_pairs=1)
    assert block["linear_reduction"]["standard_error"] is None
