"""The replay buffer against a deque, and the image pool against the published loop in plain Python."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from genlab import replay
from genlab.errors import InputError

push, draw, query_pool = jax.jit(replay.push), jax.jit(replay.draw, static_argnums=2), jax.jit(replay.query_pool)


def numbered(first, size):
    """Examples that say their number, in every leaf; 0 is what an empty buffer has, so numbers begin with 1."""
    number = np.arange(first, first + size)
    return {"x": jnp.asarray(number[:, None] * np.ones((1, 3)), jnp.float32), "label": jnp.asarray(number, jnp.int32)}


def empty(capacity):
    return replay.init_buffer(capacity, jax.tree.map(lambda leaf: leaf[0], numbered(1, 1)))


def filled(capacity, size):
    return push(empty(capacity), numbered(1, size))


def assert_trees_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


def test_a_new_buffer_is_empty_and_has_the_examples_shapes():
    shapes = {"x": jax.ShapeDtypeStruct((2, 2, 1), jnp.bfloat16), "n": jax.ShapeDtypeStruct((), jnp.int32)}
    buffer = replay.init_buffer(4, shapes)
    assert buffer.count.dtype == jnp.int32 and buffer.count == 0
    assert buffer.examples["x"].shape == (4, 2, 2, 1) and buffer.examples["x"].dtype == jnp.bfloat16
    assert buffer.examples["n"].shape == (4,) and buffer.examples["n"].dtype == jnp.int32
    assert_trees_equal(draw(buffer, jax.random.key(0), 2), jax.tree.map(lambda leaf: leaf[:2], buffer.examples))
    assert not buffer.examples["x"].any()


@pytest.mark.parametrize("capacity", [0, -3])
def test_a_buffer_of_nothing_is_refused(capacity):
    with pytest.raises(InputError, match=rf"^capacity is {capacity}; a buffer holds at least 1 example$"):
        replay.init_buffer(capacity, jnp.zeros(3))


@pytest.mark.parametrize(("capacity", "batch_size"), [(7, 3), (5, 5), (4, 11), (1, 2)])
def test_it_keeps_the_latest_as_a_deque_does(capacity, batch_size):
    buffer, latest = empty(capacity), collections.deque(maxlen=capacity)
    for first in range(1, 6 * batch_size, batch_size):
        buffer = push(buffer, numbered(first, batch_size))
        latest.extend(range(first, first + batch_size))
        assert buffer.count == first + batch_size - 1
        labels, stored = np.asarray(buffer.examples["label"]), min(first + batch_size - 1, capacity)
        oldest = int(buffer.count) % capacity  # which is next to be written over
        ring = np.roll(labels, -oldest) if stored == capacity else labels[:stored]
        np.testing.assert_array_equal(ring, latest)
        assert not labels[stored:].any()
        np.testing.assert_array_equal(buffer.examples["x"], labels[:, None] * np.ones((1, 3)))


@pytest.mark.parametrize(
    "batch",
    [
        {"x": jnp.zeros((2, 1)), "label": jnp.zeros(2, jnp.int32)},  # would broadcast
        {"x": jnp.zeros((2, 3)), "label": jnp.zeros(2)},
        {"x": jnp.zeros((2, 3)), "label": jnp.zeros(1, jnp.int32)},
        {"x": jnp.zeros((2, 3))},
    ],
    ids=["shape", "dtype", "batch size", "structure"],
)
@pytest.mark.parametrize("use", ["push", "query_pool"])
def test_what_is_not_like_its_examples_is_refused(use, batch):
    with pytest.raises(ValueError, match="the buffer takes"):
        replay.push(empty(4), batch) if use == "push" else replay.query_pool(empty(4), batch, jax.random.key(0))


@pytest.mark.parametrize("pushed", [1, 6, 14])
def test_draws_are_uniform_over_what_is_stored(pushed):
    stored = np.arange(max(1, pushed - 9), pushed + 1)
    drawn = draw(filled(10, pushed), jax.random.key(3), 20_000)
    assert drawn["x"].shape == (20_000, 3) and drawn["label"].dtype == jnp.int32
    np.testing.assert_array_equal(drawn["x"][:, 1], drawn["label"])  # leaves of one example stay together
    values, counts = np.unique(drawn["label"], return_counts=True)
    np.testing.assert_array_equal(values, stored)
    assert pushed == 1 or scipy.stats.chisquare(counts).pvalue > 0.01


def test_draws_depend_on_the_key_alone():
    buffer = filled(10, 10)
    one, again, other = (draw(buffer, jax.random.key(seed), 50)["label"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


@jax.jit
def round_of(buffer, batch, key):
    """All that is done with a buffer, for the tests of where it is done."""
    buffer, images = replay.query_pool(replay.push(buffer, batch), batch, key)
    return buffer, images, replay.draw(buffer, key, 5)


def test_it_can_be_donated():
    want = round_of(filled(4, 6), numbered(7, 3), jax.random.key(0))
    buffer = filled(4, 6)
    got = jax.jit(round_of, donate_argnums=0)(buffer, numbered(7, 3), jax.random.key(0))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(buffer))
    assert_trees_equal(got, want)


def test_it_can_be_carried_through_a_scan():
    batches = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(numbered(first, 3) for first in (1, 4, 7)))
    scanned, _ = jax.jit(
        lambda: jax.lax.scan(lambda buffer, batch: (replay.push(buffer, batch), None), empty(4), batches)
    )()
    assert_trees_equal(scanned, functools.reduce(push, [numbered(first, 3) for first in (1, 4, 7)], empty(4)))


def test_a_population_is_as_each_alone():
    """Members differ in how much they have stored, too."""
    members = [
        (filled(4, size), numbered(10 * size, 3), jax.random.key(number)) for number, size in enumerate((2, 4, 7))
    ]
    together = jax.jit(jax.vmap(round_of))(*jax.tree.map(lambda *leaves: jnp.stack(leaves), *members))
    for number, member in enumerate(members):
        alone = round_of(*member)
        assert_trees_equal(jax.tree.map(lambda leaf, number=number: leaf[number], together), alone)


def published_pool(capacity, images, key):
    """`ImagePool.query` of the CycleGAN code on a list, with our draws: (pool, returned) after each batch."""
    pool = []
    for batch, key_batch in zip(images, key, strict=True):
        key_swap, key_which = jax.random.split(key_batch)
        swap = np.asarray(jax.random.bernoulli(key_swap, 0.5, (len(batch),)))
        which = np.asarray(jax.random.randint(key_which, (len(batch),), 0, capacity))
        returned = []
        for number, image in enumerate(batch):
            if len(pool) < capacity:
                pool.append(image)
                returned.append(image)
            elif swap[number]:
                returned.append(pool[which[number]])
                pool[which[number]] = image
            else:
                returned.append(image)
        yield list(pool), returned


@pytest.mark.parametrize(("capacity", "batch_size"), [(3, 8), (1, 6), (50, 7)])
def test_the_pool_is_the_published_one(capacity, batch_size):
    batches = np.arange(1, 10 * batch_size + 1).reshape(10, batch_size)
    keys = jax.random.split(jax.random.key(capacity), 10)
    buffer, own, earlier = empty(capacity), 0, 0
    for batch, key, (pool, returned) in zip(batches, keys, published_pool(capacity, batches, keys), strict=True):
        buffer, images = query_pool(buffer, numbered(batch[0], batch_size), key)
        np.testing.assert_array_equal(images["label"], returned)
        np.testing.assert_array_equal(images["x"], np.array(returned)[:, None] * np.ones((1, 3)))
        np.testing.assert_array_equal(buffer.examples["label"][: len(pool)], pool)
        own += sum(image != number and image in batch for image, number in zip(returned, batch, strict=True))
        earlier += sum(image < batch[0] for image in returned)
        assert min(int(buffer.count), capacity) == len(pool)
    assert earlier or capacity == 50
    assert own or (capacity, batch_size) not in [(3, 8), (1, 6)]  # an image comes back within its own batch


def test_half_of_the_images_are_swapped_for_a_uniformly_chosen_one():
    capacity, num_images = 8, 4096
    buffer, images = query_pool(filled(capacity, capacity), numbered(capacity + 1, num_images), jax.random.key(5))
    given, returned = np.arange(capacity + 1, capacity + num_images + 1), np.asarray(images["label"])
    swapped = returned != given
    assert scipy.stats.binomtest(int(swapped.sum()), num_images, 0.5).pvalue > 0.01
    # every image is at one place: returned once at most, or still there
    left = np.asarray(buffer.examples["label"])
    np.testing.assert_array_equal(np.sort(np.concatenate([returned, left])), np.arange(1, capacity + num_images + 1))
    # an image stays until it is drawn, with probability 1/8, at one of the swaps after it: it is a geometric time
    swap_number = np.cumsum(swapped)
    entered = {image: 0 for image in range(1, capacity + 1)} | dict(
        zip(given[swapped], swap_number[swapped], strict=True)
    )
    stays = [number - entered[image] for image, number in zip(returned[swapped], swap_number[swapped], strict=True)]
    # at its ends the record has shorter stays, of 8 images in 2000
    assert np.mean(stays) == pytest.approx(capacity, abs=4 * np.sqrt(capacity * (capacity - 1) / len(stays)))
    assert np.mean(np.array(stays) == 1) == pytest.approx(1 / capacity, abs=0.03)


def test_a_pool_swaps_pairs_as_a_whole_and_only_when_full():
    images = (jnp.arange(1.0, 7.0), -jnp.arange(1.0, 7.0)[:, None])
    buffer = replay.init_buffer(6, jax.tree.map(lambda leaf: leaf[0], images))
    buffer, same = query_pool(buffer, images, jax.random.key(0))
    assert_trees_equal(same, images)
    assert_trees_equal(buffer.examples, images)
    assert buffer.count == 6
    _, mixed = query_pool(buffer, jax.tree.map(lambda leaf: 10 * leaf, images), jax.random.key(0))
    np.testing.assert_array_equal(mixed[0], -mixed[1][:, 0])
    assert (np.asarray(mixed[0]) != 10 * np.asarray(images[0])).any()
