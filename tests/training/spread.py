"""A small run whose arrays lie on several devices, of whichever processes."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def values(step, size):
    """name -> (array, whether it is split over the devices), functions of the step."""
    rng = np.random.default_rng(step)
    key = jax.random.key_data(jax.random.key(step))
    return {
        "all": (rng.normal(size=(3, 4)).astype(np.float32), False),
        "step": (np.int32(step), False),
        "key": (np.asarray(key), False),
        "members": (rng.normal(size=(8, size)).astype(np.float32), True),
        "counts": (rng.integers(0, 256, size=8).astype(np.uint8), True),
    }


def spread(step, devices, size=5):
    """Those values on a mesh of these devices: some on all of them, some split along the first axis."""
    mesh = Mesh(np.array(devices), ("pop",), axis_types=(AxisType.Auto,))
    tree = {}
    for name, (value, is_split) in values(step, size).items():
        sharding = NamedSharding(mesh, PartitionSpec("pop") if is_split else PartitionSpec())
        tree[name] = jax.make_array_from_callback(value.shape, sharding, lambda index, value=value: value[index])
    return tree | {"key": jax.random.wrap_key_data(tree["key"])}


def assert_spread(tree, step, devices, size=5):
    """The tree is `spread(step, devices)`: the bytes of every part that this process holds, and where it lies."""
    like = spread(step, devices, size)
    assert tree.keys() == like.keys()
    for name, (value, is_split) in values(step, size).items():
        assert tree[name].sharding == like[name].sharding and tree[name].dtype == like[name].dtype
        array = jax.random.key_data(tree[name]) if name == "key" else tree[name]
        assert array.shape == value.shape and array.dtype == value.dtype
        for shard in array.addressable_shards:
            assert np.asarray(shard.data).tobytes() == value[shard.index].tobytes(), name
        part = np.size(value) // (len(devices) if is_split else 1)
        assert {shard.data.size for shard in array.addressable_shards} == {part}
