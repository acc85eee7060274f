"""Populations: many members of one algorithm, trained in one compiled program.

Members differ in their seeds and in scalar hyper-parameters. `make(hparams)` builds the algorithm inside the program,
so optimizers and losses take traced numbers and one compilation serves all members. Every member has its own keys and
its own batches: to rounding it is the solo run of its seed and its hyper-parameters.

Every array of a population's Progress, and whatever its batches' `read` returns, has a leading axis of P members.
A compiled call takes its steps in one of two ways:

    "vmap"   all members take each step together, in batched operations: fills a GPU or TPU, and spares small networks
             the overhead of many small operations
    "loop"   one member after the other takes all steps of the call: each as fast as alone, in the caches of a CPU

Over several devices members are split along the mesh's "pop" axis, and no device hears of another.
"""

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from genlab.algorithm import Algorithm, Array, Key
from genlab.errors import InputError
from genlab.training import devices, loop
from genlab.training.loop import Batches, Progress

PyTree = Any
Hparams = Mapping[str, Any]  # name -> scalar of one member, or f32[P] or i32[P] of all
Mode = Literal["vmap", "loop"]
MODES: tuple[Mode, ...] = ("vmap", "loop")


class Population(NamedTuple):
    """What is trained; see `population`.

    Attributes:
        make: hyper-parameters of one member -> its algorithm.
        hparams: name -> f32[P] or i32[P].
    """

    make: Callable[[Hparams], Algorithm]
    hparams: Hparams


def population(make: Callable[[Hparams], Algorithm], hparams: Mapping[str, Any]) -> Population:
    """P members of one algorithm.

    Args:
        make: hyper-parameters of one member, traced scalars -> its algorithm.
        hparams: name -> P numbers; {} where members differ in their keys alone.

    Raises:
        InputError: a hyper-parameter that is not a list of numbers, or lists of different lengths.
    """
    arrays = {name: np.asarray(values) for name, values in hparams.items()}
    for name, values in arrays.items():
        if values.ndim != 1 or not len(values) or values.dtype.kind not in "if":
            raise InputError(f"hyper-parameter {name} of a population must be a list of numbers, got {hparams[name]!r}")
    if len(lengths := {name: len(values) for name, values in arrays.items()}) and len(set(lengths.values())) > 1:
        raise InputError(f"a population needs one value a member of every hyper-parameter, got {lengths}")
    kinds = {"f": np.float32, "i": np.int32}
    return Population(make, {name: values.astype(kinds[values.dtype.kind]) for name, values in arrays.items()})


def check_traceable(members: Population, batches: Batches) -> None:
    """Raises InputError, naming it, for a hyper-parameter that shapes the program: one program has one value of it.

    Args:
        members: of which the first is traced, once for each hyper-parameter.
        batches: what it will be trained on.
    """
    first = {name: values[0].item() for name, values in members.hparams.items()}
    reads = jax.tree.map(lambda leaf: leaf[0], batches.read(0, 1, 1))  # of the first member

    def begin(hparams: Hparams, arrays: PyTree, reads: PyTree) -> Progress:
        return loop.begin(members.make({**first, **hparams}), batches, arrays, reads, jax.random.key(0))

    # a mistake that has nothing to do with hyper-parameters is raised as it is
    jax.eval_shape(lambda *data: begin({}, *data), batches.arrays, reads)
    for name, values in members.hparams.items():
        try:
            jax.eval_shape(begin, {name: values[0]}, batches.arrays, reads)
        except (jax.errors.ConcretizationTypeError, TypeError) as error:
            raise InputError(
                f"{name} shapes the program, so it cannot differ between members of a population; "
                f"give each value a run of its own ({str(error).strip().splitlines()[0][:100]})"
            ) from error


def start(members: Population, batches: Batches, keys: Key, mesh: Mesh | None = None) -> Progress:
    """Every member before its first step.

    Args:
        members: what will be trained.
        batches: what they will be trained on; `read` gives [P, ...].
        keys: Key[P], of the parameters.
        mesh: over whose axis members are split, P divisible by its size; by default the first device.

    Returns:
        Progress of which every array has a leading axis [P].
    """
    mesh = mesh or devices.make_mesh(1, "pop")

    def begin(hparams: Hparams, arrays: PyTree, reads: PyTree, keys: Array) -> Progress:
        def of_one(member: tuple[Hparams, PyTree, Array]) -> Progress:
            hparams, reads, key = member
            return loop.begin(members.make(hparams), batches, arrays, reads, jax.random.wrap_key_data(key))

        # one after the other: decompositions in a batch (orthogonal kernels are made by one) wait for threads that wait
        # for them, on a CPU of few cores for ever (jax 0.10)
        return jax.lax.map(of_one, (hparams, reads, keys))

    each = jax.shard_map(
        begin,
        mesh=mesh,
        in_specs=(P("pop"), P(), P("pop"), P("pop")),
        out_specs=P("pop"),
        check_vma=False,
    )
    hparams, raw_keys = put_members((members.hparams, jax.random.key_data(keys)), mesh)
    return jax.jit(each)(hparams, batches.arrays, batches.read(0, 1, 1), raw_keys)


def take_steps(
    members: Population,
    batches: Batches,
    progress: Progress,
    arrays: PyTree,
    reads: PyTree,
    num: Array,
    keys: Key,
    mode: Mode,
) -> Progress:
    """The progress after `num` more steps of every member, as a pure function; see loop.take_steps.

    Args:
        members, progress, reads, keys: with a leading axis [P].
        batches: their `select` and `prepare`, for one member.
        arrays: of the batches, shared.
        num: i32[].
        mode: see the module's docstring.
    """

    def of_one(member: tuple[Hparams, Progress, PyTree, Key]) -> Progress:
        hparams, progress, reads, key = member
        return loop.take_steps(members.make(hparams), batches, progress, arrays, reads, num, key)

    over_members = {"vmap": jax.vmap, "loop": lambda of_one: functools.partial(jax.lax.map, of_one)}[mode]
    return over_members(of_one)((members.hparams, progress, reads, keys))


def compile_steps(
    members: Population, batches: Batches, keys: Key, mode: Mode, mesh: Mesh | None = None
) -> Callable[[Progress, PyTree, int], Progress]:
    """The compiled call (progress, reads, num) -> progress after `num` steps; the incoming progress is donated.

    Args:
        members, batches, mesh: as in `start`.
        keys: Key[P], of the runs.
        mode: see the module's docstring.
    """
    mesh = mesh or devices.make_mesh(1, "pop")

    def local(progress: Progress, hparams: Hparams, arrays: PyTree, reads: PyTree, num: Array, keys: Array) -> Progress:
        here = members._replace(hparams=hparams)
        return take_steps(here, batches, progress, arrays, reads, num, jax.random.wrap_key_data(keys), mode)

    specs = (P("pop"), P("pop"), P(), P("pop"), P(), P("pop"))
    each = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=P("pop"), check_vma=False)
    steps = jax.jit(each, donate_argnums=0)
    hparams, raw_keys = put_members((members.hparams, jax.random.key_data(keys)), mesh)
    return lambda progress, reads, num: steps(progress, hparams, batches.arrays, reads, np.int32(num), raw_keys)


def put_members(tree: PyTree, mesh: Mesh) -> PyTree:
    """Arrays [P, ...], known to every process, split over the mesh."""
    part, num_parts = devices.process_part(mesh)
    return devices.put(jax.tree.map(lambda x: np.split(np.asarray(x), num_parts)[part], tree), devices.split(mesh))


def time_modes(
    calls: Mapping[Mode, Callable[[Progress, PyTree, int], Progress]],
    read: Callable[[int, int, int], PyTree],
    progress: Progress,
    steps_per_call: int,
    seconds: float = 0.5,
) -> dict[Mode, float]:
    """Seconds that a step of the whole population takes in each mode: the least of three turns of about `seconds`.

    Args:
        calls: mode -> its compiled call.
        read: of the batches.
        progress: copied, not donated.
        steps_per_call: most steps in one compiled call.
        seconds: of computing, for each turn.
    """
    least: dict[Mode, float] = {}
    copies = {mode: jax.tree.map(jnp.copy, progress) for mode in calls}

    def turn(mode: Mode, num: int) -> float:
        reads = jax.block_until_ready(read(0, num, steps_per_call))
        began = time.perf_counter()
        copies[mode] = jax.block_until_ready(calls[mode](copies[mode], reads, num))
        return (time.perf_counter() - began) / num

    for mode in calls:
        turn(mode, 1)  # compiles
    num_steps = max(1, min(steps_per_call, round(seconds / min(turn(mode, 1) for mode in calls))))
    for _ in range(3):
        for mode in calls:
            least[mode] = min(least.get(mode, float("inf")), turn(mode, num_steps))
    return least


def fastest(seconds: Mapping[Mode, float]) -> Mode:
    """The mode to take, by the seconds of each; where they are close "loop", whose rounding is that of solo runs."""
    return "vmap" if seconds["vmap"] < 0.95 * seconds["loop"] else "loop"


def member(tree: PyTree, index: int) -> PyTree:
    """One member's part of arrays [P, ...]."""
    return jax.tree.map(lambda leaf: leaf[index], tree)
