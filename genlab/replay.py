"""A replay buffer as a value: a pytree of arrays that lives in `State.memory` and is passed through pure functions.

It has a fixed size, so that it can be jitted, donated, scanned, checkpointed, vmapped over a population and sharded
like the rest of a State. It shows a player what its opponent made earlier, which keeps the game from chasing its tail.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from genlab.errors import InputError

Array = jax.Array
Key = jax.Array
PyTree = Any


@flax.struct.dataclass
class Buffer:
    """A ring of examples: the next one goes to position `count % capacity`, over the oldest.

    Attributes:
        examples: pytree of arrays [capacity, ...]; zeros where nothing has been stored yet.
        count: i32[], how many examples were ever stored; min(count, capacity) are there. It must stay below 2^31.
    """

    examples: PyTree
    count: Array


def init_buffer(capacity: int, example: PyTree) -> Buffer:
    """An empty buffer.

    Args:
        capacity: how many examples it holds, at least 1.
        example: one example without a batch axis, a pytree of arrays or of `jax.ShapeDtypeStruct`; only shapes and
            dtypes are looked at.

    Raises:
        InputError: capacity is less than 1.
    """
    if capacity < 1:
        raise InputError(f"capacity is {capacity}; a buffer holds at least 1 example")
    examples = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), example)
    return Buffer(examples, jnp.zeros((), jnp.int32))


def push(buffer: Buffer, batch: PyTree) -> Buffer:
    """Stores a batch in its order, over the oldest examples; of more than `capacity` the last `capacity` are kept.

    Args:
        buffer: where.
        batch: pytree of arrays [B, ...], with the structure, shapes and dtypes of the buffer's.

    Raises:
        ValueError: the batch is not made of the examples that the buffer was made for.
    """
    capacity, batch_size = _sizes(buffer, batch)
    kept = min(batch_size, capacity)
    # the positions are distinct, so that the order in which they are written does not matter
    positions = (buffer.count + jnp.arange(batch_size - kept, batch_size)) % capacity
    examples = jax.tree.map(
        lambda stored, new: stored.at[positions].set(new[batch_size - kept :], unique_indices=True),
        buffer.examples,
        batch,
    )
    return Buffer(examples, buffer.count + batch_size)


def draw(buffer: Buffer, key: Key, n: int) -> PyTree:
    """n examples, uniformly with replacement from the min(count, capacity) that are stored.

    To draw from an empty buffer is a mistake that compiled code cannot raise: it gives zeros.

    Returns:
        pytree of arrays [n, ...].
    """
    num_stored = jnp.minimum(buffer.count, _capacity(buffer))
    index = jax.random.randint(key, (n,), 0, jnp.maximum(num_stored, 1))
    return jax.tree.map(lambda stored: stored[index], buffer.examples)


def query_pool(buffer: Buffer, images: PyTree, key: Key) -> tuple[Buffer, PyTree]:
    """What to show a discriminator in place of these images: half of them, and half from a pool of earlier ones.

    While the pool is not full, every image is stored and returned. After that each is, with probability 1/2, returned
    as it is; otherwise a stored image, chosen uniformly, is returned and the new one takes its place. Images are
    taken one by one as in the published code, so that an image may come back for a later one of its own batch.

    Args:
        buffer: the pool. It should be filled by this function alone: which image is the oldest is not kept.
        images: [B, ...] as the buffer's; a pytree is swapped as a whole.
        key: of the swaps.

    Returns:
        The pool after it, and B images.

    Raises:
        ValueError: the images are not made as the buffer's.

    Reference: Zhu et al. 2017, "Unpaired Image-to-Image Translation", section 4, and the code's `ImagePool`; after
    Shrivastava et al. 2017, section 2.3, whose buffer is otherwise: half of each batch is drawn from it.
    """
    capacity, batch_size = _sizes(buffer, images)
    key_swap, key_which = jax.random.split(key)
    swap = jax.random.bernoulli(key_swap, 0.5, (batch_size,))
    which = jax.random.randint(key_which, (batch_size,), 0, capacity)

    def query(pool: Buffer, given: tuple[PyTree, Array, Array]) -> tuple[Buffer, PyTree]:
        image, swap, which = given
        full = pool.count >= capacity
        position = jnp.where(full, which, pool.count)
        stores, swaps = ~full | swap, full & swap
        stored = jax.tree.map(lambda leaf: leaf[position], pool.examples)
        written = jax.tree.map(lambda new, old: jnp.where(stores, new, old), image, stored)
        returned = jax.tree.map(lambda new, old: jnp.where(swaps, old, new), image, stored)
        examples = jax.tree.map(lambda leaf, new: leaf.at[position].set(new), pool.examples, written)
        return Buffer(examples, pool.count + stores.astype(jnp.int32)), returned

    return jax.lax.scan(query, buffer, (images, swap, which))


def _capacity(buffer: Buffer) -> int:
    return jax.tree.leaves(buffer.examples)[0].shape[0]


def _sizes(buffer: Buffer, batch: PyTree) -> tuple[int, int]:
    """(capacity, B), after a look at whether the batch fits the buffer."""
    capacity, batch_size = _capacity(buffer), jax.tree.leaves(batch)[0].shape[0]
    want = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((batch_size, *leaf.shape[1:]), leaf.dtype), buffer.examples)
    have = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), batch)
    if want != have:
        raise ValueError(f"the buffer takes {want}, not {have}")
    return capacity, batch_size
