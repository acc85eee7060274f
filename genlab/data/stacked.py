"""Stacked MNIST: three digits as the channels of one image, a set of exactly a thousand modes.

A digit a in red, b in green and c in blue is an image of mode 100 a + 10 b + c. Triples of digits are drawn uniformly
with replacement from a stream fixed by the set's name and split, so training sees one fixed list of them as in PacGAN's
protocol. Theirs are drawn from the training and the test digits of MNIST together; ours from the training digits alone,
so that validation and test triples are of digits that no model has seen. Modes are as even as the digits' classes are.

Reference: Metz et al. 2017 (unrolled GANs), section 3.3; Srivastava et al. 2017 (VEEGAN); Lin et al. 2018 (PacGAN),
section 4.2, with 128,000 triples.
"""

import zlib
from typing import Any

import numpy as np

from genlab.data.dataset import Dataset, Split
from genlab.errors import InputError

NUM_TEST = 10_000

# name -> (the digits, number of training triples)
SETS: dict[str, tuple[str, int]] = {"stacked_mnist": ("mnist", 128_000), "stacked_mnist_5k": ("mnist_5k", 32_000)}


def stack(name: str, digits: Dataset, num_train: int) -> Dataset:
    """Triples of a set of digits, each split's drawn from the same split.

    Args:
        name: of the result, and of its stream of draws.
        digits: images uint8[N, H, W, 1] with labels 0, ..., 9.
        num_train: of training triples; of validation there are as many as digits, of test NUM_TEST.

    Returns:
        Images uint8[N, H, W, 3] that are gathered when they are indexed, labels 100 a + 10 b + c.

    Raises:
        InputError: they are no grey digits with labels.
    """
    if digits.num_classes != 10 or np.shape(digits.train["x"])[3:] != (1,):
        raise InputError(f"grey images of ten classes can be stacked; {digits.name} holds others")

    def draw(number: int, split: Split, num_examples: int) -> dict[str, Any]:
        rng = np.random.Generator(np.random.Philox(key=[zlib.crc32(name.encode()), number]))
        triples = rng.integers(max(len(split["x"]), 1), size=(num_examples, 3))
        label = np.asarray(split["label"])[triples] @ np.array([100, 10, 1])
        return {"x": Triples(split["x"], triples), "label": label.astype(np.int32)}

    train = draw(0, digits.train, num_train)
    validation = draw(1, digits.validation, len(digits.validation["x"]))
    return Dataset(name, train, validation, draw(2, digits.test, NUM_TEST), num_classes=1000, log_density=None)


class Triples:
    """A column of images, three grey ones as the channels of each: looks like an array, gathers what is asked for.

    Attributes:
        column: uint8[M, H, W, 1], indexed by i64[K].
        triples: i64[N, 3], the rows of `column` that are the channels.
    """

    def __init__(self, column: Any, triples: np.ndarray):
        self.column, self.triples = column, triples
        self.shape, self.dtype = (len(triples), *column.shape[1:3], 3), np.dtype(column.dtype)
        self.ndim, self.nbytes = len(self.shape), int(np.prod(self.shape)) * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self.triples)

    def __getitem__(self, rows: Any) -> np.ndarray:
        chosen = self.triples[rows]  # [..., 3]
        images = np.empty((*chosen.shape[:-1], *self.shape[1:]), self.dtype)
        for channel in range(3):  # one at a time: the whole as [..., 3, H, W, 1] would be held twice
            index = chosen[..., channel]
            images[..., channel] = self.column[np.ravel(index)].reshape(*index.shape, *self.shape[1:3])
        return images

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        if copy is False:
            raise ValueError("triples cannot be seen as an array without a copy")
        return np.asarray(self[:], dtype)
