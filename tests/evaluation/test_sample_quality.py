"""Distances between sets against loops over their definitions, known cases, and draws whose answer is known."""

import jax
import numpy as np
import pytest
from scipy import stats

from genlab.errors import InputError
from genlab.evaluation import sample_quality
from genlab.evaluation.extractor import Extractor
from genlab.evaluation.generation import frechet_distance
from genlab.evaluation.sample_quality import (
    class_balance,
    density_coverage,
    kernel_distance,
    memorisation,
    nearest_training,
    precision_recall,
    quality_block,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(params=["whole", "in chunks"])
def chunks(request, monkeypatch):
    """Matrices at once, and two or three rows at a time."""
    if request.param == "in chunks":
        monkeypatch.setattr(sample_quality, "CHUNK_ELEMENTS", 60)


def kernel(x, y):
    return (x @ y / len(x) + 1) ** 3


def by_pairs(a, b):
    """The U-statistic, pair by pair."""
    within = lambda x: np.mean([kernel(p, q) for i, p in enumerate(x) for j, q in enumerate(x) if i != j])
    return within(a) + within(b) - 2 * np.mean([kernel(p, q) for p in a for q in b])


def test_kernel_distance_is_the_statistic_of_all_pairs(rng, chunks):
    a, b = rng.normal(size=(20, 3)), rng.normal(size=(27, 3)) + 0.3
    np.testing.assert_allclose(kernel_distance(a, b)["value"], by_pairs(a, b), rtol=1e-10)


def test_kernel_distance_has_the_error_of_the_jackknife(rng, chunks):
    a, b = rng.normal(size=(9, 2)), rng.normal(size=(11, 2)) + 1
    without = [
        np.array([by_pairs(np.delete(a, i, 0), b) for i in range(9)]),
        np.array([by_pairs(a, np.delete(b, i, 0)) for i in range(11)]),
    ]
    variance = sum((len(each) - 1) / len(each) * np.sum((each - each.mean()) ** 2) for each in without)
    np.testing.assert_allclose(kernel_distance(a, b)["standard_error"], np.sqrt(variance), rtol=1e-8)


def test_kernel_distance_of_equal_distributions_is_zero_on_average(rng):
    """A biased estimate, with the pairs (i, i), would be above zero every time."""
    found = [kernel_distance(rng.normal(size=(40, 4)), rng.normal(size=(30, 4))) for _ in range(300)]
    values, errors = (np.array([each[part] for each in found]) for part in ("value", "standard_error"))
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(300)
    assert (values < 0).any()
    assert values.std() < np.sqrt(np.mean(errors**2)) < 2 * values.std()  # it errs upwards here


def test_kernel_distance_of_one_dimension_has_a_closed_form_and_an_honest_error(rng):
    """(xy + 1)^3 is 1 + 3 xy + 3 x^2 y^2 + x^3 y^3, so the squared MMD is that of three moments.

    N(0, 1) has moments 0, 1, 0 and N(1, 1) 1, 2, 4: 3 + 3 + 16.
    """
    found = [kernel_distance(rng.normal(size=(60, 1)), rng.normal(size=(80, 1)) + 1) for _ in range(400)]
    values, errors = (np.array([each[part] for each in found]) for part in ("value", "standard_error"))
    assert abs(values.mean() - 22.0) < 3 * values.std() / 20
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(values.std(), rel=0.25)


def loops(real, fake, k):
    """Precision, recall, density and coverage as they are defined, distance by distance."""
    distance = lambda x, y: np.sqrt(np.sum((x - y) ** 2))
    reach = lambda x: [sorted(distance(p, q) for j, q in enumerate(x) if j != i)[k - 1] for i, p in enumerate(x)]
    of_real, of_fake = reach(real), reach(fake)
    precision = np.mean([any(distance(f, r) <= s for r, s in zip(real, of_real, strict=True)) for f in fake])
    recall = np.mean([any(distance(f, r) <= s for f, s in zip(fake, of_fake, strict=True)) for r in real])
    density = sum(distance(f, r) < s for f in fake for r, s in zip(real, of_real, strict=True)) / (k * len(fake))
    coverage = np.mean([any(distance(f, r) < s for f in fake) for r, s in zip(real, of_real, strict=True)])
    return precision, recall, density, coverage


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("points", ["anywhere", "on a grid"])  # where distances are equal, and exactly so
def test_precision_recall_density_and_coverage_are_their_definitions(rng, chunks, points, k):
    real, fake = rng.normal(size=(25, 3)), 1.4 * rng.normal(size=(31, 3)) + 0.5
    if points == "on a grid":
        real, fake = np.round(real), np.round(fake)
    precision, recall = precision_recall(real, fake, k)
    density, coverage = density_coverage(real, fake, k)
    np.testing.assert_allclose((precision, recall, density, coverage), loops(real, fake, k), rtol=1e-12)
    assert precision != recall and density != coverage  # so none stands in for the other


def test_the_boundary_belongs_to_a_manifold_and_not_to_a_ball_of_coverage():
    """Reals at 0 and 1, whose balls of k = 1 reach 1; a fake at 2 is on the boundary of one of them."""
    real, fake = np.array([[0.0], [1.0]]), np.array([[2.0], [9.0]])
    assert precision_recall(real, fake, 1) == (0.5, 1.0)  # the fakes' balls reach 7: down to -5 and to 2
    assert density_coverage(real, fake, 1) == (0.0, 0.0)


def test_equal_sets_agree_and_far_ones_do_not(rng):
    real = np.round(1000 * rng.normal(size=(80, 5)))  # whole numbers, so that a fake on a boundary is exactly there
    precision, recall = precision_recall(real, real)
    density, coverage = density_coverage(real, real)
    assert precision == recall == coverage == 1.0
    assert density == pytest.approx(1.0)  # each ball holds its centre and the k - 1 nearest
    far = real + 1e5
    assert precision_recall(real, far) == density_coverage(real, far) == (0.0, 0.0)


def test_precision_is_of_the_fakes_and_recall_of_the_reals(rng):
    """Fakes of one of two modes."""
    modes = np.repeat([[0.0, 0.0], [50.0, 0.0]], 100, axis=0)
    precision, recall = precision_recall(rng.normal(size=(200, 2)) + modes, rng.normal(size=(200, 2)))
    assert precision > 0.9
    assert 0.4 < recall <= 0.5


def test_density_and_coverage_of_fresh_draws_are_as_expected(rng):
    k, n = 5, 60
    found = np.array([density_coverage(rng.normal(size=(n, 4)), rng.normal(size=(n, 4)), k) for _ in range(200)])
    i = np.arange(1, k + 1)
    expected = 1.0, 1 - np.prod((n - i) / (2 * n - i))
    assert (np.abs(found.mean(axis=0) - expected) < 3.5 * found.std(axis=0) / np.sqrt(200)).all()


def test_the_nearest_is_that_of_all_distances(rng, chunks):
    samples, train = rng.normal(size=(30, 4)), rng.normal(size=(50, 4)) + 2
    distances = np.linalg.norm(samples[:, None] - train, axis=-1)
    indices, found = nearest_training(samples, train)
    np.testing.assert_array_equal(indices, distances.argmin(axis=1))
    np.testing.assert_allclose(found, distances.min(axis=1))
    assert (nearest_training(train, train)[1] == 0).all()  # no cancellation


def test_copies_are_detected_and_fresh_draws_are_not(rng):
    train, test, fresh = rng.normal(size=(800, 6)), rng.normal(size=(500, 6)), rng.normal(size=(400, 6))
    of_fresh, of_copies, of_noise = (
        memorisation(each, train, test) for each in (fresh, train[:400], 5 * rng.normal(size=(400, 6)))
    )
    new = of_fresh["nearer_than_test"]
    assert abs(new["value"] - 0.5) < 3 * new["standard_error"] < 0.1
    assert of_fresh["near_training_share"]["value"] < 0.04 and of_fresh["exact_copies"]["value"] == 0
    assert of_copies["nearer_than_test"]["value"] == of_copies["near_training_share"]["value"] == 1.0
    assert of_copies["exact_copies"]["value"] == 400
    assert of_noise["nearer_than_test"]["value"] < 0.1


def test_a_few_copies_are_counted_where_the_average_hides_them(rng):
    train, test = rng.normal(size=(800, 6)), rng.normal(size=(500, 6))
    samples = np.concatenate([5 * rng.normal(size=(90, 6)), train[:10] + 1e-3 * rng.normal(size=(10, 6))])
    found = memorisation(samples, train, test)
    assert found["nearer_than_test"]["value"] < 0.5
    assert found["near_training_share"]["value"] == 0.1
    assert found["exact_copies"]["value"] == 0  # they are near, not exact


def test_nearer_than_test_is_the_statistic_of_mann_and_whitney(rng):
    """And its error that of both samples' draws, over many of them."""
    train, found, errors = rng.normal(size=(100, 2)), [], []
    for _ in range(200):
        samples, test = 1.2 * rng.normal(size=(50, 2)), rng.normal(size=(70, 2))
        number = memorisation(samples, train, test)["nearer_than_test"]
        of_samples, of_test = (nearest_training(each, train)[1] for each in (samples, test))
        statistic = stats.mannwhitneyu(of_test, of_samples).statistic
        assert number["value"] == pytest.approx(statistic / (50 * 70))
        found.append(number["value"])
        errors.append(number["standard_error"])
    assert np.mean(errors) == pytest.approx(np.std(found), rel=0.2)


def test_ties_of_distances_count_half():
    train, copies = np.array([[0.0], [10.0]]), np.array([[0.0], [0.0]])
    assert memorisation(copies, train, np.array([[0.0], [1.0]]))["nearer_than_test"]["value"] == 0.75


def test_class_balance_by_hand():
    probabilities = [[0.95, 0.05, 0.0], [0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.01, 0.98, 0.01]]
    confident, shares, effective = class_balance(np.array(probabilities))
    np.testing.assert_array_equal(confident, [True, False, False, True])  # above 0.9, not at it
    np.testing.assert_array_equal(shares, [0.5, 0.5, 0.0])
    assert effective == pytest.approx(2.0)
    assert class_balance(np.eye(3)[[0, 0, 0, 1]]).effective_classes == pytest.approx(4 / 27**0.25)  # exp of the entropy


def stripes(rng, num, labels=None):
    """Bytes [num, 4, 4, 1] of three classes: the row that is bright, its intensity and noise at random."""
    labels = rng.integers(0, 3, num) if labels is None else labels
    images = rng.integers(0, 60, (num, 4, 4, 1))
    images[np.arange(num), labels] += rng.integers(120, 190, (num, 1, 1))
    return images.astype(np.uint8), labels


def extractor(convention="features", classes=True):
    """Pixels as features; classes by how bright the first three rows are."""

    def features(images):
        assert images.dtype == np.float32 and images.max() <= 1
        return images.reshape(len(images), -1)

    return Extractor(
        name="pixels of stripes",
        convention=convention,
        features=features,
        probabilities=(lambda images: np.array(jax.nn.softmax(60 * images.mean(axis=(2, 3))[:, :3])))
        if classes
        else None,
        accuracy={"value": 0.99} if classes else None,
    )


def floats(images):
    return images.astype(np.float32) / 255


def test_the_block_says_what_is_good_and_what_is_not(rng):
    (train, _), (test, _), (good, labels) = (stripes(rng, num) for num in (400, 150, 120))
    collapsed, _ = stripes(rng, 120, np.zeros(120, int))
    fine, poor, copied = (
        quality_block(floats(images), labels, train, test, extractor()) for images in (good, collapsed, train[:120])
    )
    value = lambda block, name: block[name]["value"]
    for name in ("frechet_features", "kernel_features"):
        assert abs(value(fine, name)) < 3 * abs(value(fine, f"{name}_floor")) + 0.02
        assert value(poor, name) > 10 * abs(value(fine, name))
        assert poor[f"{name}_floor"] == fine[f"{name}_floor"]
    assert value(fine, "frechet_features") == pytest.approx(
        frechet_distance(floats(good).reshape(120, -1), floats(test).reshape(150, -1)), rel=1e-4
    )
    assert value(fine, "recall") > 0.8 > 0.5 > value(poor, "recall")
    assert value(fine, "coverage") > 0.8 > 0.5 > value(poor, "coverage")
    assert value(poor, "precision") > 0.8 and fine["precision"]["real_images"] > 0.8
    assert value(fine, "nearer_than_test") == pytest.approx(0.5, abs=0.15)
    assert value(copied, "nearer_than_test") == 1.0 and value(copied, "exact_copies") == 120
    assert value(fine, "label_accuracy") == 1.0 and value(poor, "label_accuracy") == np.mean(labels == 0)
    assert (value(poor, "least_class_share"), value(poor, "greatest_class_share")) == (0.0, 1.0)
    assert value(poor, "effective_classes") == 1.0 and fine["effective_classes"]["real_images"] > 2.9


def test_every_number_states_its_protocol(rng):
    (train, _), (test, _), (samples, labels) = (stripes(rng, num) for num in (400, 150, 120))
    block = quality_block(floats(samples), labels, train, floats(test), extractor())
    for name, number in block.items():
        assert np.isfinite(number["value"]), name
        assert number["split"] == "test" and number["extractor"] == "pixels of stripes" and number["n"] == 120
    assert (block["precision"]["k"], block["coverage"]["k"]) == (3, 5)
    assert block["precision"]["n_real"] == 120 and block["frechet_features"]["n_real"] == 150  # as many of each: above
    assert block["nearer_than_test"]["n_train"] == 400


def test_only_inceptions_distances_are_called_fid_and_kid(rng):
    (train, _), (test, _), (samples, _) = (stripes(rng, num) for num in (60, 40, 30))
    ours, theirs = (
        quality_block(floats(samples), None, train, test, extractor(convention, classes))
        for convention, classes in (("features", True), ("FID", False))
    )
    assert {"frechet_features", "frechet_features_floor", "kernel_features", "kernel_features_floor"} <= set(ours)
    assert {"fid", "fid_floor", "kid", "kid_floor"} <= set(theirs)
    assert not {"fid", "kid"} & set(ours) and not {"confident_share", "frechet_features"} & set(theirs)
    assert "label_accuracy" not in ours  # no label was asked for
    assert ours["frechet_features"]["value"] == theirs["fid"]["value"]


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda x: kernel_distance(x[:2], x), "at least 3 examples of each; got 2 and 8"),
        (lambda x: precision_recall(x, x[:3]), "at least 4 examples"),
        (lambda x: density_coverage(x, x[:, :1]), r"got \(8, 2\) and \(8, 1\)"),
        (lambda x: class_balance(x[0]), r"got shape \(2,\)"),
        (lambda x: quality_block(x, None, x, x, extractor()), r"\[N, H, W, C\] and alike; got samples \(8, 2\)"),
        (
            lambda x: quality_block(np.full((8, 4, 4, 1), np.nan), None, *2 * [np.zeros((8, 4, 4, 1))], extractor()),
            "samples hold values that are not finite",
        ),
        (
            lambda x: quality_block(*[np.zeros((8, 4, 4, 1)), np.zeros(3)], *2 * [np.zeros((8, 4, 4, 1))], extractor()),
            r"8 samples were asked for as many labels; got shape \(3,\)",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(rng, call, complaint):
    with pytest.raises(InputError, match=complaint):
        call(rng.normal(size=(8, 2)))
