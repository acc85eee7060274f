"""A column that is read when it is indexed, for sets that do not fit in memory."""

from typing import Any

import numpy as np


class Rows:
    """Some rows of a column in some order: looks like an array, reads what is asked for.

    Attributes:
        column: has `shape`, `dtype` and `column[i64[K]] -> [K, ...]`; a memory-map, or images still encoded.
        order: i64[N], row numbers of `column`.
    """

    def __init__(self, column: Any, order: np.ndarray):
        self.column, self.order = column, order
        self.shape, self.dtype = (len(order), *column.shape[1:]), np.dtype(column.dtype)
        self.ndim, self.nbytes = len(self.shape), int(np.prod(self.shape)) * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, rows: Any) -> np.ndarray:
        chosen = self.order[rows]
        return np.asarray(self.column[np.ravel(chosen)]).reshape(*np.shape(chosen), *self.shape[1:])

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        if copy is False:
            raise ValueError("the rows of a lazy column cannot be seen as an array without a copy")
        return np.asarray(self[:], dtype)
