import collections

import grain
import jax
import numpy as np
import pytest

from genlab.data import batch_indices, device_feed, feed, stack_feeds, stream_feed
from genlab.errors import InputError

SIZES = [(10, 3), (7, 7), (12, 4), (5, 4), (9, 1)]  # (examples, batch size): dividing and not


def numbered(num_examples):
    """A split whose row n holds n, in both columns."""
    number = np.arange(num_examples, dtype=np.int32)
    return {"x": np.broadcast_to(number[:, None, None], (num_examples, 2, 3)).astype(np.uint8), "label": number}


def batches(made, first_step, num, capacity):
    """What the compiled loop would see of one read: a list of raw batches."""
    given = made.read(first_step, num, capacity)

    @jax.jit
    def every(arrays, given):
        return jax.lax.map(lambda i: made.select(arrays, given, i), np.arange(capacity, dtype=np.int32))

    stacked = jax.tree.map(np.asarray, every(made.arrays, given))
    return [{name: column[i] for name, column in stacked.items()} for i in range(num)]


@pytest.mark.parametrize(("num_examples", "batch_size"), SIZES)
def test_every_epoch_visits_every_example_once(num_examples, batch_size):
    num_epochs = batch_size  # so that epochs end where batches do
    visits = np.concatenate([batch_indices(3, step, batch_size, num_examples) for step in range(num_examples)])
    epochs = visits.reshape(num_epochs, num_examples)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(num_examples), (num_epochs, 1)))


def test_order_is_shuffled_anew_every_epoch_and_by_the_seed():
    orders = {tuple(batch_indices(seed, epoch, 50, 50)) for seed in range(4) for epoch in range(5)}
    assert len(orders) == 20
    assert tuple(range(50)) not in orders


def test_order_is_uniform():
    # each example comes first in 1 / 4 of 2,000 epochs: binomial, standard deviation 0.0097
    first = np.array([batch_indices(0, epoch, 4, 4)[0] for epoch in range(2000)])
    np.testing.assert_allclose(np.bincount(first, minlength=4) / 2000, 0.25, atol=0.04)


@pytest.mark.parametrize("make", [device_feed, stream_feed])
@pytest.mark.parametrize(("num_examples", "batch_size"), SIZES)
def test_a_batch_is_a_function_of_seed_and_step(make, num_examples, batch_size):
    made = make(numbered(num_examples), batch_size, seed=5)
    # from the start, on, back, far ahead, and padded
    for first_step, num, capacity in [(0, 4, 4), (4, 4, 4), (1, 2, 4), (1000, 3, 4), (1003, 1, 4)]:
        for i, batch in enumerate(batches(made, first_step, num, capacity)):
            expected = batch_indices(5, first_step + i, batch_size, num_examples)
            np.testing.assert_array_equal(batch["label"], expected)
            np.testing.assert_array_equal(batch["x"], np.broadcast_to(expected[:, None, None], (batch_size, 2, 3)))
            assert batch["x"].dtype == np.uint8
    made.close()


def test_both_placements_give_the_same_batches():
    split = {"x": np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32), "label": np.zeros(100, np.int32)}
    device, stream = device_feed(split, 32, seed=1), stream_feed(split, 32, seed=1)
    for first_step in np.random.default_rng(1).integers(0, 10_000, size=5).tolist():
        left, right = batches(device, first_step, 3, 5), batches(stream, first_step, 3, 5)
        jax.tree.map(np.testing.assert_array_equal, left, right)
    stream.close()


@pytest.mark.parametrize("make", [device_feed, stream_feed])
def test_another_batch_size_goes_on_where_the_first_stopped(make):
    """Three batches of 4, then batches of 3 from step 3 on: every epoch of 12 is whole."""
    small, large = make(numbered(12), 3, seed=0, offset=3 * 4 - 3 * 3), make(numbered(12), 4, seed=0)
    then = np.concatenate([batch["label"] for batch in batches(small, 3, 4, 4)])
    whole = np.concatenate([batch["label"] for batch in batches(large, 0, 6, 6)])
    np.testing.assert_array_equal(then, whole[12:])
    for made in (small, large):
        made.close()


@pytest.mark.parametrize("make", [device_feed, stream_feed])
def test_what_is_read_has_the_shape_of_the_capacity(make):
    made = make(numbered(10), 4, seed=0)
    shapes = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), made.read(0, num, 6)) for num in (0, 2, 6)]
    assert shapes[0] == shapes[1] == shapes[2]
    assert all(leaf.shape[:2] == (6, 4) for leaf in jax.tree.leaves(made.read(0, 2, 6)))
    made.close()
    made.close()


class Counting:
    """A column that remembers which rows were read."""

    def __init__(self, column):
        self.column, self.reads = column, collections.Counter()
        self.shape, self.dtype, self.nbytes = column.shape, column.dtype, column.nbytes

    def __len__(self):
        return len(self.column)

    def __getitem__(self, rows):
        self.reads[tuple(rows)] += 1
        return self.column[rows]


def test_a_stream_read_in_order_reads_nothing_twice():
    column = Counting(np.arange(1000, dtype=np.float32)[:, None])
    made = stream_feed({"x": column}, 10, seed=0)
    for call in range(6):
        made.read(4 * call, 4, 4)
    made.close()
    assert len(column.reads) >= 24
    assert max(column.reads.values()) == 1


def test_a_stream_reads_ahead_as_far_as_a_call_takes_whatever_was_read_before(monkeypatch):
    """A run is started from one batch: what reads that must not be what feeds calls of a hundred."""
    made_with, options = [], grain.ReadOptions
    monkeypatch.setattr(grain, "ReadOptions", lambda *given: made_with.append(given) or options(*given))
    made = stream_feed(numbered(50), 3, seed=4)
    first = made.read(0, 1, 1)["label"]
    np.testing.assert_array_equal(first[0], batch_indices(4, 0, 3, 50))
    for first_step in (0, 100):
        labels = made.read(first_step, 100, 100)["label"]
        np.testing.assert_array_equal(labels, [batch_indices(4, first_step + i, 3, 50) for i in range(100)])
    made.close()
    assert made_with == [(2, 2), (2, 100)]  # (threads, batches ahead); the second reader serves both calls


def test_a_closed_stream_can_be_read_again():
    made = stream_feed(numbered(10), 3, seed=0)
    once = made.read(7, 2, 2)
    made.close()
    jax.tree.map(np.testing.assert_array_equal, made.read(7, 2, 2), once)
    made.close()


def test_processes_share_a_batch_in_order():
    whole = stream_feed(numbered(30), 8, seed=2)
    parts = [stream_feed(numbered(30), 8, seed=2, shard=(k, 4)) for k in range(4)]
    joined = np.concatenate([part.read(3, 5, 5)["label"] for part in parts], axis=1)
    np.testing.assert_array_equal(joined, whole.read(3, 5, 5)["label"])
    for made in (whole, *parts):
        made.close()


@pytest.mark.parametrize("make", [device_feed, stream_feed])
@pytest.mark.parametrize("batch_size", [0, 11])
def test_impossible_batch_sizes_are_refused(make, batch_size):
    with pytest.raises(InputError, match="between 1 and the 10 examples"):
        make(numbered(10), batch_size, seed=0)


def test_a_batch_that_processes_cannot_share_is_refused():
    with pytest.raises(InputError, match="8 does not divide among 3"):
        stream_feed(numbered(10), 8, seed=0, shard=(0, 3))


def test_a_split_too_large_for_the_device_is_refused(monkeypatch):
    monkeypatch.setattr(feed, "_memory", lambda: 100)
    with pytest.raises(InputError, match="'stream'"):
        device_feed(numbered(10), 2, seed=0)


def test_the_feeds_of_members_are_stacked_and_one_that_stands_there_twice_is_read_once():
    first, second = (device_feed(numbered(10), 3, seed=seed) for seed in (0, 1))
    calls = []
    counted = first._replace(read=lambda *call: calls.append(call) or first.read(*call))
    stacked = stack_feeds([counted, second, counted])
    reads = stacked.read(4, 2, 5)
    assert reads.shape == (3, 5, 3) and calls == [(4, 2, 5)]
    for member, alone in enumerate((first, second, first)):
        np.testing.assert_array_equal(reads[member], alone.read(4, 2, 5))
        for i in range(2):
            batch, expected = (each.select(each.arrays, rows, i)["label"] for each, rows in
                               ((stacked, reads[member]), (alone, alone.read(4, 2, 5))))  # fmt: skip
            np.testing.assert_array_equal(batch, expected)


def test_the_parts_of_several_processes_make_up_the_batch():
    whole = device_feed(numbered(12), 4, seed=3).read(0, 6, 6)
    parts = [device_feed(numbered(12), 4, seed=3, shard=(k, 2)).read(0, 6, 6) for k in range(2)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    with pytest.raises(InputError, match="batch_size 4 does not divide among 3 processes"):
        device_feed(numbered(12), 4, seed=3, shard=(0, 3))


def test_columns_go_where_they_are_put():
    arrays = device_feed(
        numbered(5), 2, seed=0, put=lambda columns: {name: -column for name, column in columns.items()}
    )
    np.testing.assert_array_equal(arrays.arrays["label"], -np.arange(5))
