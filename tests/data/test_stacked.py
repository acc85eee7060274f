import numpy as np
import pytest

from genlab import data
from genlab.data import stacked
from genlab.data.dataset import Dataset
from genlab.errors import InputError


@pytest.fixture(scope="module", autouse=True)
def stack_of_small_digits():
    """A set like the others, of the digits that are fastest to load."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(stacked.SETS, "stacked_digits", ("digits", 32_000))
        yield


@pytest.fixture(scope="module")
def ours():
    return data.load("stacked_digits")


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def test_the_published_number_of_triples_is_drawn_of_mnist():
    assert stacked.SETS["stacked_mnist"] == ("mnist", 128_000)
    assert stacked.SETS["stacked_mnist_5k"] == ("mnist_5k", 32_000)


def splits(dataset):
    return {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}


def label_of(split):
    """{bytes of a digit: its label}."""
    return {image.tobytes(): int(label) for image, label in zip(split["x"], split["label"], strict=True)}


def test_every_channel_is_a_digit_of_its_own_split_and_the_label_names_all_three(ours, digits):
    assert {name: len(split["x"]) for name, split in splits(ours).items()} == {
        "train": 32_000, "validation": 500, "test": 10_000,
    }  # fmt: skip
    assert ours.num_classes == 1000 and ours.log_density is None and ours.modes is None
    known = {name: label_of(split) for name, split in splits(digits).items()}
    for name, split in splits(ours).items():
        x, label = split["x"][:300], split["label"][:300]
        assert x.shape == (300, 8, 8, 3) and x.dtype == np.uint8 and label.dtype == np.int32
        for image, number in zip(x, label, strict=True):
            a, b, c = (known[name][image[..., channel].tobytes()] for channel in range(3))
            assert number == int(f"{a}{b}{c}")


def test_no_digit_is_in_two_splits(ours):
    seen = {name: set() for name in splits(ours)}
    for name, split in splits(ours).items():
        for channel in range(3):
            seen[name] |= {image.tobytes() for image in split["x"][:3000][..., channel]}
    assert not seen["train"] & seen["test"] and not seen["train"] & seen["validation"]
    assert not seen["validation"] & seen["test"]


def test_triples_are_uniform_and_independent(ours, digits):
    label = np.asarray(ours.train["label"])
    channels = np.stack([label // 100, label // 10 % 10, label % 10])
    assert set(np.unique(label)) == set(range(1000))
    share = np.bincount(digits.train["label"]) / len(digits.train["label"])
    for channel in channels:
        np.testing.assert_allclose(np.bincount(channel) / 32_000, share, atol=5 * np.sqrt(0.09 / 32_000))
    # one index for all three channels would make these correlations one
    np.testing.assert_allclose(np.corrcoef(channels), np.eye(3), atol=5 / np.sqrt(32_000))


def test_the_draw_is_fixed(ours):
    again = data.load("stacked_digits")
    for name, split in splits(ours).items():
        np.testing.assert_array_equal(split["label"], splits(again)[name]["label"])
        np.testing.assert_array_equal(split["x"][:50], splits(again)[name]["x"][:50])
    # the test split does not depend on how many are held out, and no split repeats another's draws
    without = data.load("stacked_digits", num_validation=0)
    np.testing.assert_array_equal(without.test["x"][:50], ours.test["x"][:50])
    assert without.validation["x"].shape == (0, 8, 8, 3) and without.validation["label"].shape == (0,)
    same = np.corrcoef(ours.train["x"].triples[:10_000].ravel(), ours.test["x"].triples.ravel())[0, 1]
    assert abs(same) < 5 / np.sqrt(30_000)


def test_a_column_of_triples_looks_like_an_array(ours):
    column = ours.validation["x"]
    whole = np.asarray(column)
    assert whole.shape == column.shape and whole.dtype == column.dtype and whole.nbytes == column.nbytes
    assert column.ndim == 4
    index = np.array([[3, 1], [4, 1]])
    np.testing.assert_array_equal(column[index], whole[index])
    np.testing.assert_array_equal(column[7], whole[7])
    np.testing.assert_array_equal(column[2:5], whole[2:5])
    with pytest.raises(ValueError, match="without a copy"):
        np.array(column, copy=False)


def test_batches_on_the_device_are_those_of_the_column(ours):
    split = {name: values[:40] for name, values in ours.validation.items()}
    lazily = {"x": stacked.Triples(ours.validation["x"].column, ours.validation["x"].triples[:40])}
    held, read = data.device_feed(split, 8, seed=3), data.device_feed(lazily, 8, seed=3)
    index = held.read(0, 1, 1)
    np.testing.assert_array_equal(
        held.select(held.arrays, index, 0)["x"], read.select(read.arrays, read.read(0, 1, 1), 0)["x"]
    )


def test_what_is_no_digit_is_refused():
    colours = {"x": np.zeros((4, 8, 8, 3), np.uint8), "label": np.zeros(4, np.int32)}
    with pytest.raises(InputError, match="grey images of ten classes"):
        stacked.stack("stacked", Dataset("colours", colours, colours, colours, 10, None), 5)
    with pytest.raises(InputError, match=r"'stacked_digits' is made of 'digits': data\.num_validation is -1"):
        data.load("stacked_digits", num_validation=-1)


def test_digits_that_are_not_prepared_are_named(tmp_path):
    with pytest.raises(InputError, match=r"'stacked_mnist' is made of 'mnist'.*download_and_prepare"):
        data.load("stacked_mnist", data_dir=str(tmp_path))
