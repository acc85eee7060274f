"""What a data set is here: three splits of columns, and what else is known about it exactly."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from genlab.data import lazy
from genlab.errors import InputError

Array = jax.Array
# "x": uint8[N, H, W, C], f32[N, D], f32[N, T, C] or tokens i32[N, T]; "label": i32[N] where known; numpy-like
Split = Mapping[str, Any]

_IN_MEMORY_BYTES = 1 << 30  # a larger column is not copied into a new order but read through one


class Modes(NamedTuple):
    """Equally likely isotropic Gaussians.

    Attributes:
        means: f64[K, D].
        sigma: the standard deviation of each along every axis.
    """

    means: np.ndarray
    sigma: float


class Dataset(NamedTuple):
    """A data set by name, split the same way for every run.

    Attributes:
        name: as it was asked for.
        train, validation, test: splits; validation may have no examples.
        num_classes: how many values the labels take; 0 if there are none.
        log_density: f32[N, D] -> f32[N], the exact log-density in nats; points only, else None.
        modes: of which the data are an equal mixture, where they are one.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    num_classes: int
    log_density: Callable[[Array], Array] | None
    modes: Modes | None = None


def fixed_permutation(num_examples: int) -> np.ndarray:
    """i64[N], the order in which every set is split, whatever the run's seed."""
    return np.random.Generator(np.random.Philox(key=[0x67656E6C6162, num_examples])).permutation(num_examples)


def select(split: Split, order: np.ndarray) -> dict[str, Any]:
    """The examples `order` of a split, copied if they are small and read on demand if not."""

    def rows(column):
        copied = isinstance(column, np.ndarray) and column.nbytes <= _IN_MEMORY_BYTES
        return column[order] if copied else lazy.Rows(column, order)

    return {name: rows(column) for name, column in split.items()}


def hold_out(split: Split, order: np.ndarray, num_validation: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Training and validation examples: `order` without its last `num_validation` entries, and those.

    Raises:
        InputError: `num_validation` is negative or leaves nothing to train on.
    """
    num_train = len(order) - num_validation
    if num_validation < 0 or num_train < 1:
        raise InputError(
            f"data.num_validation is {num_validation}; the training split has {len(order)} examples, "
            f"so it must lie between 0 and {len(order) - 1}"
        )
    return select(split, order[:num_train]), select(split, order[num_train:])
