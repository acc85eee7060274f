"""Meshes and what lies on them, on eight fake devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.errors import InputError
from genlab.training import devices


@pytest.mark.parametrize(("asked", "size"), [(1, 1), (3, 3), (8, 8), (0, 8)])
def test_a_mesh_has_the_first_devices(asked, size):
    mesh = devices.make_mesh(asked, "data")
    assert mesh.axis_names == ("data",) and list(mesh.devices.flat) == jax.devices()[:size]
    assert devices.process_part(mesh) == (0, 1)


def test_more_devices_than_there_are_cannot_be_had():
    with pytest.raises(InputError, match=r"^devices is 9; there are 8$"):
        devices.make_mesh(9, "pop")


def test_what_does_not_divide_is_said():
    devices.check_divides(12, "batch_size", devices.make_mesh(4, "data"))
    with pytest.raises(InputError, match=r"^batch_size 13 does not divide among 4 devices$"):
        devices.check_divides(13, "batch_size", devices.make_mesh(4, "data"))


@pytest.mark.parametrize("axis", [0, 1])
def test_an_array_is_split_along_one_axis_and_comes_back(axis):
    mesh, array = devices.make_mesh(4, "data"), np.arange(64.0, dtype=np.float32).reshape(8, 8)
    placed = devices.put({"x": array}, devices.split(mesh, axis))["x"]
    parts = [np.asarray(shard.data) for shard in placed.addressable_shards]
    np.testing.assert_array_equal(np.stack(parts), np.stack(np.split(array, 4, axis=axis)))
    np.testing.assert_array_equal(devices.to_host({"x": placed})["x"], array)


def test_what_is_on_all_devices_can_be_had_from_one():
    mesh, array = devices.make_mesh(8, "data"), np.arange(3.0, dtype=np.float32)
    placed = devices.put(array, devices.on_all(mesh))
    assert [shard.data.shape for shard in placed.addressable_shards] == [(3,)] * 8
    one = devices.on_one({"x": placed})["x"]
    assert one.devices() == {jax.devices()[0]}
    np.testing.assert_array_equal(one, array)


def test_a_batch_stays_split_within_a_program():
    mesh = devices.make_mesh(8, "data")
    whole = devices.put(np.arange(16.0, dtype=np.float32), devices.on_all(mesh))
    rows = devices.put(np.arange(16, dtype=np.int32)[::-1].copy(), devices.split(mesh))
    batch = jax.jit(lambda whole, rows: devices.split_batch({"x": 2 * whole[rows]}, mesh))(whole, rows)["x"]
    assert batch.sharding.is_equivalent_to(devices.split(mesh), 1)
    np.testing.assert_array_equal(batch, 2 * np.arange(16)[::-1])
    assert jnp.sum(batch) == 240
