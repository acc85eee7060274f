import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32

from genlab import draws

SHAPES = [(7,), (128, 20), (3, 5, 7), (0, 4), ()]


def test_the_hash_is_threefry():
    key = jax.random.key(3)
    counter = jnp.arange(10, dtype=jnp.uint32)
    words = draws.threefry2x32(jax.random.key_data(key), (counter[:5], counter[5:]))
    np.testing.assert_array_equal(jnp.concatenate(words), threefry_2x32(jax.random.key_data(key), counter))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", [0, 12345])
def test_draws_are_those_of_jax_random_to_the_bit(shape, seed):
    key = jax.random.fold_in(jax.random.key(seed), 7)
    np.testing.assert_array_equal(draws.bits(key, shape), jax.random.bits(key, shape, jnp.uint32))
    ours, theirs = (jax.jit(f, static_argnums=1)(key, shape) for f in (draws.normal, jax.random.normal))
    assert ours.dtype == jnp.float32
    np.testing.assert_array_equal(ours, theirs)


def test_draws_of_many_keys_at_once_are_those_of_each():
    keys = jax.random.split(jax.random.key(0), 3)
    together = jax.vmap(lambda key: draws.normal(key, (4, 2)))(keys)
    np.testing.assert_array_equal(
        together, jnp.stack([jax.jit(draws.normal, static_argnums=1)(k, (4, 2)) for k in keys])
    )


def test_keys_of_another_implementation_are_left_to_jax():
    key = jax.random.key(1, impl="rbg")
    np.testing.assert_array_equal(draws.bits(key, (5,)), jax.random.bits(key, (5,), jnp.uint32))
