"""Which devices a run's numbers live on: one batch split over them, or one population.

A run has a mesh of one axis. Along "data" every batch is split, and everything else is on every device; the compiler
puts in the sums over the batch. Along "pop" the members of a population are split, and no device waits for another.
Several processes, one a host, share a mesh: each gives its own part of what it reads.
"""

from collections.abc import Mapping
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from genlab.errors import InputError

PyTree = Any


def make_mesh(num_devices: int, axis: Literal["data", "pop"]) -> Mesh:
    """A mesh of the first devices in the order of processes.

    Args:
        num_devices: how many; 0 for all there are, which several processes always take.
        axis: its name.

    Raises:
        InputError: there are not so many, or some process would have none.
    """
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))  # a slice's are not, by id
    if num_devices > len(devices):
        raise InputError(f"devices is {num_devices}; there are {len(devices)}")
    if jax.process_count() > 1 and num_devices not in (0, len(devices)):
        raise InputError(
            f"devices is {num_devices}; {jax.process_count()} processes share all of their {len(devices)}: set it to 0"
        )
    return Mesh(np.array(devices[: num_devices or len(devices)]), (axis,), axis_types=(AxisType.Auto,))


def check_divides(size: int, what: str, mesh: Mesh) -> None:
    """Raises InputError unless `size` divides among the devices of a mesh."""
    if size % mesh.size:
        raise InputError(f"{what} {size} does not divide among {mesh.size} devices")


def on_all(mesh: Mesh) -> NamedSharding:
    """Where every device has all of an array."""
    return NamedSharding(mesh, P())


def split(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """Where axis number `axis` of an array is split over the mesh."""
    return NamedSharding(mesh, P(*(None,) * axis, mesh.axis_names[0]))


def process_part(mesh: Mesh) -> tuple[int, int]:
    """(k, n): what is split over the mesh is given in n equal parts, of which this process gives the k-th."""
    processes = sorted({device.process_index for device in mesh.devices.flat})
    return processes.index(jax.process_index()), len(processes)


def put(tree: PyTree, sharding: NamedSharding) -> PyTree:
    """Host arrays on the devices; of what is split each process gives its own part."""
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree)


def split_batch(batch: Mapping[str, jax.Array], mesh: Mesh) -> Mapping[str, jax.Array]:
    """A batch within compiled code, held to be split along its first axis."""
    return jax.lax.with_sharding_constraint(batch, split(mesh))


def to_host(tree: PyTree) -> PyTree:
    """Numpy arrays of all of a tree, whichever process holds its parts; every process of the mesh must ask."""
    arrays = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    if all(leaf.is_fully_addressable or leaf.is_fully_replicated for leaf in arrays):
        return jax.device_get(tree)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(tree, tiled=True)


def on_one(tree: PyTree) -> PyTree:
    """What every device has all of, as this process's first device has it."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)
