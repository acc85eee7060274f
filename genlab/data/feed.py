"""Batches as a pure function of (seed, step), from device memory or from a stream.

Training visits the examples in one endless sequence: epoch after epoch, each a permutation of the training split drawn
from (seed, epoch). Batch number `step` is positions step B, ..., step B + B - 1 of that sequence, so every epoch visits
every example exactly once whatever B is, nothing about the data needs a checkpoint, and both placements give the
same batches.
"""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from genlab.data.dataset import Split
from genlab.errors import InputError

Array = jax.Array
PyTree = Any
Batch = Mapping[str, Array]

_AHEAD_BYTES = 512 << 20  # of batches read before they are asked for


class Feed(NamedTuple):
    """Where a training loop gets its batches.

    Attributes:
        arrays: what stays on the device for the whole run, passed to every compiled call; {} for a stream.
        read: (first_step, num, capacity) -> what the compiled call that takes steps first_step, ...,
            first_step + num - 1 is given: host arrays [capacity, B, ...], of which rows beyond num are padding.
        select: (arrays, what read returned, i i32[]) -> raw batch number first_step + i; for use in compiled code.
        close: () -> None, ends the reading threads, if any.
    """

    arrays: PyTree
    read: Callable[[int, int, int], PyTree]
    select: Callable[[PyTree, PyTree, Array], Batch]
    close: Callable[[], None]


def _order(seed: int, num_examples: int, offset: int = 0) -> Callable[[int, int], np.ndarray]:
    """(first, last) -> i32[last - first], the examples at these positions of the endless sequence, plus the offset.

    Epochs in use are kept with the function, so that the seeds of a population do not drive out each other's.
    """

    @functools.lru_cache(maxsize=4)
    def permutation(epoch: int) -> np.ndarray:
        rng = np.random.Generator(np.random.Philox(key=[seed, epoch]))
        return rng.permutation(num_examples).astype(np.int32)

    def indices(first: int, last: int) -> np.ndarray:
        pieces, first, last = [np.empty(0, np.int32)], first + offset, last + offset
        while first < last:
            epoch, place = divmod(first, num_examples)
            piece = permutation(epoch)[place : place + last - first]
            pieces.append(piece)
            first += len(piece)
        return np.concatenate(pieces)  # a copy

    return indices


def batch_indices(seed: int, step: int, batch_size: int, num_examples: int) -> np.ndarray:
    """The examples of one batch.

    Args:
        seed: of the run, at least 0.
        step: number of the batch, from 0.
        batch_size: B.
        num_examples: of the training split.

    Returns:
        i32[B], in [0, num_examples).
    """
    return _order(seed, num_examples)(step * batch_size, (step + 1) * batch_size)


def device_feed(
    split: Split,
    batch_size: int,
    seed: int,
    shard: tuple[int, int] = (0, 1),
    put: Callable[[PyTree], PyTree] = lambda columns: jax.device_put(jax.tree.map(np.asarray, columns)),
    offset: int = 0,
) -> Feed:
    """Batches gathered on the device from the whole split; the host sends nothing but indices.

    Args:
        split: columns [N, ...].
        batch_size: B, of the whole batch.
        seed: of the order.
        shard: (k, n), for one process of n: `read` gives its k-th contiguous part of every batch, B / n examples.
        put: columns -> columns on the device, or on every device of several.
        offset: batch number `step` begins at position step B + offset of the endless sequence: where another batch
            size went before, so that every epoch is whole.

    Raises:
        InputError: B is not in [1, N], n does not divide it, or the split takes more than half of the memory there is.
    """
    part = _part(batch_size, shard)
    num_examples = _check(split, batch_size)
    order = _order(seed, num_examples, offset)
    size, memory = sum(column.nbytes for column in split.values()), _memory()
    if 2 * size > memory:
        raise InputError(
            f"the training split takes {size / 2**30:.1f} GiB, over half of the {memory / 2**30:.1f} GiB there is: "
            "set data.placement to 'stream'"
        )

    def read(first_step: int, num: int, capacity: int) -> np.ndarray:
        index = np.zeros((capacity, batch_size // shard[1]), np.int32)
        rows = order(first_step * batch_size, (first_step + num) * batch_size)
        index[:num] = rows.reshape(num, batch_size)[:, part]
        return index

    def select(arrays: PyTree, index: Array, i: Array) -> Batch:
        rows = jax.lax.dynamic_index_in_dim(index, i, keepdims=False)
        return jax.tree.map(lambda column: column.at[rows].get(mode="promise_in_bounds"), arrays)

    return Feed(put(dict(split)), read, select, close=lambda: None)


def stream_feed(
    split: Split,
    batch_size: int,
    seed: int,
    num_threads: int = 2,
    shard: tuple[int, int] = (0, 1),
    num_feeds: int = 1,
    offset: int = 0,
) -> Feed:
    """Batches read on the host, ahead of need, by grain's threads; for splits that do not fit on the device.

    Args:
        split: columns [N, ...], indexed by i32[B] from several threads at once.
        batch_size: B, of the whole batch.
        seed: of the order.
        num_threads: that read.
        shard: (k, n), for one process of n: its k-th contiguous part of every batch, B / n examples, is all that is
            read.
        num_feeds: that share the memory for batches read ahead.
        offset: as of `device_feed`.

    Raises:
        InputError: B is not in [1, N], or n does not divide it.
    """
    import grain

    num_examples = _check(split, batch_size)
    part, size = _part(batch_size, shard), batch_size // shard[1]
    order = _order(seed, num_examples, offset)

    class Batches:
        """Random access by step."""

        def __len__(self):
            return np.iinfo(np.int64).max // batch_size  # endless

        def __getitem__(self, index):
            rows = order(int(index) * batch_size, (int(index) + 1) * batch_size)[part]
            return {name: column[rows] for name, column in split.items()}

    batches = grain.MapDataset.source(Batches())
    batch_bytes = sum(column.nbytes // num_examples for column in split.values()) * size
    iterator, next_step, made_for = None, 0, 0

    def read(first_step: int, num: int, capacity: int) -> PyTree:
        nonlocal iterator, next_step, made_for
        if iterator is None or capacity != made_for:
            close()
            # as much as one call takes: the next call's batches are read while this one computes
            ahead = max(num_threads, min(capacity, _AHEAD_BYTES // num_feeds // max(batch_bytes, 1)))
            iterator = iter(batches.to_iter_dataset(grain.ReadOptions(num_threads, ahead)))
            next_step, made_for = 0, capacity
        if first_step != next_step:
            iterator.set_state({"next_index": first_step})
        stacked = {name: np.zeros((capacity, size, *column.shape[1:]), column.dtype) for name, column in split.items()}
        for i in range(num):
            for name, rows in next(iterator).items():
                stacked[name][i] = rows
        next_step = first_step + num
        return stacked

    def select(arrays: PyTree, stacked: PyTree, i: Array) -> Batch:
        del arrays
        return jax.tree.map(lambda column: jax.lax.dynamic_index_in_dim(column, i, keepdims=False), stacked)

    def close() -> None:
        nonlocal iterator
        if iterator is not None:
            iterator.close()
            iterator = None

    return Feed({}, read, select, close)


def stack_feeds(feeds: Sequence[Feed]) -> Feed:
    """One feed for the members of a population: what `read` gives has a leading axis of members.

    Args:
        feeds: one a member, of one kind, over the same split; the first one's arrays serve all. A feed that stands
            there several times is read once.
    """
    distinct = list({id(feed): feed for feed in feeds}.values())
    of_member = [next(i for i, other in enumerate(distinct) if other is feed) for feed in feeds]

    def read(first_step: int, num: int, capacity: int) -> PyTree:
        reads = [feed.read(first_step, num, capacity) for feed in distinct]
        return jax.tree.map(lambda *leaves: np.stack([leaves[i] for i in of_member]), *reads)

    def close() -> None:
        for feed in distinct:
            feed.close()

    return Feed(feeds[0].arrays, read, feeds[0].select, close)


def _part(batch_size: int, shard: tuple[int, int]) -> slice:
    """The rows of every batch that process k of n reads."""
    k, n = shard
    if batch_size % n:
        raise InputError(f"batch_size {batch_size} does not divide among {n} processes")
    return slice(k * (batch_size // n), (k + 1) * (batch_size // n))


def _check(split: Split, batch_size: int) -> int:
    num_examples = len(split["x"])
    if not 1 <= batch_size <= num_examples:
        raise InputError(
            f"batch_size is {batch_size}; it must lie between 1 and the {num_examples} examples of the training split"
        )
    return num_examples


def _memory() -> int:
    """Bytes of memory of the default device; where it does not tell, of this machine."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    return statistics.get("bytes_limit") or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
