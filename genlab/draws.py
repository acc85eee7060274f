"""The numbers of jax.random, drawn in one pass over memory.

On a CPU `jax.random` runs the rounds of its hash as a loop over arrays, and the noise of one batch (a bit a pixel, a
normal a code) costs a sixth of a training step. Here the same hash is written out, so that XLA fuses it into whatever
uses the numbers. They are the same numbers, to the bit.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def threefry2x32(key: Array, counter: tuple[Array, Array]) -> tuple[Array, Array]:
    """Threefry-2x32 with 20 rounds: two words of random bits for every two words of a counter.

    Args:
        key: u32[2].
        counter: two u32[...] of one shape.

    Returns:
        Two u32[...].

    Reference: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 4.
    """
    schedule = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(_PARITY))
    a, b = counter[0] + schedule[0], counter[1] + schedule[1]
    for injection in range(1, 6):
        for rotation in _ROTATIONS[(injection - 1) % 2]:
            a = a + b
            b = ((b << jnp.uint32(rotation)) | (b >> jnp.uint32(32 - rotation))) ^ a
        a = a + schedule[injection % 3]
        b = b + schedule[(injection + 1) % 3] + jnp.uint32(injection)
    return a, b


def bits(key: Array, shape: Sequence[int]) -> Array:
    """`jax.random.bits(key, shape, uint32)`: independent uniform u32[shape].

    Args:
        key: typed PRNG key; of another implementation than threefry it is handed to jax.random.
        shape: of fewer than 2^32 elements.
    """
    if str(jax.random.key_impl(key)) != "threefry2x32":
        return jax.random.bits(key, shape, jnp.uint32)
    index = jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape)
    a, b = threefry2x32(jax.random.key_data(key), (jnp.zeros_like(index), index))
    return a ^ b


def normal(key: Array, shape: Sequence[int]) -> Array:
    """`jax.random.normal(key, shape)`: independent standard normal f32[shape]."""
    # 23 bits are the mantissa of a float in [1, 2); erfinv then inverts the normal's distribution function
    unit = jax.lax.bitcast_convert_type((bits(key, shape) >> jnp.uint32(9)) | jnp.uint32(0x3F800000), jnp.float32) - 1.0
    low = np.nextafter(np.float32(-1.0), np.float32(0.0))  # -1 itself would be minus infinity
    uniform = jnp.maximum(low, unit * (np.float32(1.0) - low) + low)
    return np.float32(math.sqrt(2.0)) * jax.lax.erf_inv(uniform)
