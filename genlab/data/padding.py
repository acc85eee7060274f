"""Images with a black margin, as where a network wants a side that is a power of two."""

from typing import Any

import numpy as np

from genlab.data.dataset import Dataset, Split
from genlab.errors import InputError


def pad(dataset: Dataset, padding: int) -> Dataset:
    """The same examples with `padding` pixels of 0 on every side of every image: H and W grow by twice as much.

    Raises:
        InputError: the set holds no images.

    Reference: Karras et al. 2018 (progressive growing), whose code makes 32 x 32 images of MNIST by a padding of 2.
    """
    x = dataset.train["x"]
    if x.dtype != np.uint8 or len(x.shape) != 4:
        raise InputError(f"'{dataset.name}' holds no images; data.padding must be 0")

    def padded(split: Split) -> dict[str, Any]:
        column = Padded(split["x"], padding)
        in_memory = isinstance(column.column, np.ndarray) and not isinstance(column.column, np.memmap)
        return {**split, "x": column[:] if in_memory else column}

    return dataset._replace(
        train=padded(dataset.train), validation=padded(dataset.validation), test=padded(dataset.test)
    )


class Padded:
    """A column of images with a margin that is put around what is read: looks like an array.

    Attributes:
        column: uint8[N, H, W, C], or what looks like it.
        padding: width of the margin in pixels.
    """

    def __init__(self, column: Any, padding: int):
        self.column, self.padding = column, padding
        num, height, width, channels = column.shape
        self.shape, self.dtype = (num, height + 2 * padding, width + 2 * padding, channels), np.dtype(column.dtype)
        self.ndim, self.nbytes = len(self.shape), int(np.prod(self.shape)) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        images = np.asarray(self.column[rows])  # [..., H, W, C]
        margins = [(0, 0)] * (images.ndim - 3) + [(self.padding, self.padding)] * 2 + [(0, 0)]
        return np.pad(images, margins)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        if copy is False:
            raise ValueError("padded images cannot be seen as an array without a copy")
        return np.asarray(self[:], dtype)
