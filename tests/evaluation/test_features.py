"""The classifier's convolution against lax, its shifts against numpy, and that it learns what can be told apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.errors import InputError
from genlab.evaluation import features

KEY = jax.random.key(0)


def bars(num, seed=0, side=8):
    """Bytes with a horizontal (0) or a vertical (1) bar among noise, and labels."""
    rng = np.random.default_rng(seed)
    images, labels = rng.integers(0, 120, (num, side, side, 1)), rng.integers(0, 2, num).astype(np.int32)
    for image, label, place in zip(images, labels, rng.integers(0, side, num), strict=True):
        (image[:, place] if label else image[place])[:] = 255
    return images.astype(np.uint8), labels


@pytest.fixture(scope="module")
def trained():
    return features.train_classifier(*bars(400), 2, KEY, num_steps=120, batch_size=32)


@pytest.mark.parametrize("sides", [(8, 8), (7, 5), (6, 9)])
def test_patches_times_a_kernel_are_a_convolution_of_stride_two(sides):
    x = jax.random.normal(KEY, (3, *sides, 2))
    kernel = jax.random.normal(jax.random.key(1), (18, 4))
    padding = [(1, side % 2) for side in sides]
    theirs = jax.lax.conv_general_dilated(
        x, kernel.reshape(3, 3, 2, 4), (2, 2), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(features.patches(x) @ kernel, theirs, atol=1e-5)


def test_shifts_move_each_image_by_its_own_few_pixels():
    images = np.zeros((64, 9, 9, 1), np.float32)
    images[:, 4, 4] = 1.0
    moved = np.asarray(features.shift(KEY, jnp.asarray(images), 2))
    _, rows, columns, _ = np.nonzero(moved)
    assert len(rows) == 64
    assert set(rows) == set(columns) == {2, 3, 4, 5, 6}
    assert len(set(zip(rows, columns, strict=True))) > 12  # of 25
    corner = np.zeros((64, 3, 3, 1), np.float32)
    corner[:, 0, 0] = 1.0
    assert 0 < np.asarray(features.shift(KEY, jnp.asarray(corner), 1)).sum() < 64  # what leaves does not come back
    np.testing.assert_array_equal(features.shift(KEY, jnp.asarray(images), 0), images)


def test_bars_are_told_apart_and_labels_turned_round_are_all_wrong(trained):
    images, labels = bars(200, seed=1)
    right = features.accuracy(trained, images, labels, batch_size=64)
    assert right["value"] > 0.97 and right["n"] == 200
    assert features.accuracy(trained, images, 1 - labels)["value"] == pytest.approx(1 - right["value"])
    error = np.sqrt(right["value"] * (1 - right["value"]) / 199)
    assert right["standard_error"] == pytest.approx(error)


def test_bytes_and_intensities_are_the_same_images(trained):
    images, labels = bars(50, seed=2)
    assert features.accuracy(trained, images, labels) == features.accuracy(trained, images / np.float32(255), labels)


def test_logits_are_linear_in_the_features(trained):
    images = bars(20)[0].astype(np.float32) / 255
    hidden, logits = features.apply(trained, images)
    assert hidden.shape == (20, features.NUM_FEATURES)
    np.testing.assert_allclose(logits, hidden @ trained.output.kernel + trained.output.bias, atol=1e-5)
    assert (np.asarray(hidden).std(axis=0) > 0).all()  # no feature is dead


def test_the_same_key_gives_the_same_classifier_and_another_another():
    train = lambda seed: features.train_classifier(*bars(400), 2, jax.random.key(seed), num_steps=3, batch_size=32)
    once, again, other = train(0), train(0), train(1)
    jax.tree.map(np.testing.assert_array_equal, once, again)
    assert not np.array_equal(once.output.kernel, other.output.kernel)


@pytest.mark.parametrize(
    ("shape", "num_classes", "num_convolutions", "inputs"),
    [((28, 28, 1), 10, 2, 7 * 7 * 64), ((32, 32, 3), 10, 2, 8 * 8 * 64), ((8, 8, 1), 10, 1, 4 * 4 * 32),
     ((64, 48, 3), 5, 3, 8 * 6 * 128)],
)  # fmt: skip
def test_images_of_any_size_have_features(shape, num_classes, num_convolutions, inputs):
    classifier = features.init(KEY, shape, num_classes)
    assert len(classifier.convolutions) == num_convolutions
    assert classifier.hidden.kernel.shape == (inputs, features.NUM_FEATURES)
    _, logits = jax.eval_shape(features.apply, classifier, jax.ShapeDtypeStruct((2, *shape), jnp.float32))
    assert logits.shape == (2, num_classes)


def test_progress_is_told():
    told = []
    features.train_classifier(*bars(400), 2, KEY, num_steps=60, batch_size=32, show=told.append)
    assert told == [50, 60]


@pytest.mark.parametrize(
    ("images", "labels", "num_classes", "complaint"),
    [
        (np.zeros((4, 8, 8, 1)), None, 2, "this data set has none"),
        (np.zeros((4, 2)), np.zeros(4, int), 2, r"takes \[N, H, W, C\]"),
        (np.zeros((0, 8, 8, 1)), np.zeros(0, int), 2, r"N >= 1"),
        (np.zeros((4, 8, 8, 1)), np.zeros(3, int), 2, "as many labels"),
        (np.zeros((4, 8, 8, 1)), np.array([0, 1, 2, 0]), 2, "labels 0 to 2 and num_classes = 2"),
        (np.zeros((4, 8, 8, 1)), np.array([0, -1, 1, 0]), 2, "labels -1 to 1"),
        (np.zeros((4, 8, 8, 1)), np.zeros(4, int), 1, "num_classes = 1"),
    ],
)
def test_what_cannot_be_classified_is_refused(images, labels, num_classes, complaint):
    with pytest.raises(InputError, match=complaint):
        features.train_classifier(images, labels, num_classes, KEY)


def test_directions_are_features_at_length_one(trained):
    images = bars(20)[0].astype(np.float32) / 255
    plain, _ = features.apply(trained, images)
    found = np.asarray(features.directions(trained, images))
    np.testing.assert_allclose(np.sum(np.square(found), axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(found * np.linalg.norm(plain, axis=1, keepdims=True), plain, rtol=1e-4, atol=1e-5)
