"""Our programs: a row's training step in the loop that trains, in a population, and compiled alone.

They are compiled here rather than by `compile_steps`, so that compilation can be timed and memory asked for.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.peers.worker import Program
from experiments.timing import memory
from experiments.timing.row import Row
from genlab import data
from genlab.algorithm import State
from genlab.training import devices, loop, population

LOOP, CALL = "genlab, training loop", "genlab, one step a call"


def in_loop(row: Row, dataset: data.Dataset, num_devices: int = 1) -> Program:
    """As a run drives it: up to `steps_per_call` steps a call, and a look at the losses after each call.

    Args:
        row: what is trained.
        dataset: on what.
        num_devices: that share every batch.
    """
    mesh = devices.make_mesh(num_devices, "data")
    everywhere = devices.on_all(mesh)
    put = functools.partial(devices.put, sharding=everywhere)
    feed = data.device_feed(dataset.train, row.batch_size, seed=0, put=put)
    batches = loop.Batches(
        feed.arrays,
        lambda *call: devices.put(feed.read(*call), devices.split(mesh, axis=1)),
        lambda arrays, reads, i: devices.split_batch(feed.select(arrays, reads, i), mesh),
        _prepare(row),
    )
    key_init, key_train = jax.random.split(jax.random.key(0))

    def steps(now: loop.Progress, arrays: Any, reads: Any, num: Any) -> loop.Progress:
        return loop.take_steps(row.algorithm, batches, now, arrays, reads, num, key_train)

    now = loop.start(row.algorithm, batches, key_init, everywhere)
    return _looped(steps, now, batches, row.steps_per_call, everywhere)


def in_population(row: Row, dataset: data.Dataset, num_members: int, mode: population.Mode) -> Program:
    """As `in_loop`, with members that differ in their seeds; a step is a step of every member.

    Args:
        row: what each member trains.
        dataset: on what.
        num_members: in one program on one device.
        mode: see genlab.training.population.
    """
    arrays = jax.device_put(dict(dataset.train))  # one copy for all
    feed = data.stack_feeds([
        data.device_feed(dataset.train, row.batch_size, seed=i, put=lambda columns: arrays) for i in range(num_members)
    ])  # fmt: skip
    batches = loop.Batches(feed.arrays, feed.read, feed.select, _prepare(row))
    keys_init, keys_train = (jax.random.split(key, num_members) for key in jax.random.split(jax.random.key(0)))
    members = population.population(lambda hparams: row.algorithm, {})

    def steps(now: loop.Progress, arrays: Any, reads: Any, num: Any) -> loop.Progress:
        return population.take_steps(members, batches, now, arrays, reads, num, keys_train, mode)

    now = population.start(members, batches, keys_init)
    return _looped(steps, now, batches, row.steps_per_call)


def alone(row: Row, dataset: data.Dataset) -> Program:
    """One step a call, and nothing looked at."""
    feed = data.device_feed(dataset.train, row.batch_size, seed=0)
    batches = loop.Batches(feed.arrays, feed.read, feed.select, _prepare(row))
    key_init, key_train = jax.random.split(jax.random.key(0))

    def step(state: State, arrays: Any, reads: Any) -> State:
        key_data, key_algorithm = loop.step_keys(key_train, state.step)
        batch = batches.prepare(feed.select(arrays, reads, jnp.int32(0)), key_data)
        return row.algorithm.step(state, batch, key_algorithm)[0]

    state = loop.start(row.algorithm, batches, key_init).state
    call, seconds = _compiled(step, state, feed.arrays, feed.read(0, 1, 1))

    def run(num_steps: int) -> float:
        nonlocal state
        began = time.perf_counter()
        for i in range(num_steps):
            state = call(state, feed.arrays, feed.read(i, 1, 1))
        jax.block_until_ready(state)
        return time.perf_counter() - began

    return Program(CALL, run, seconds, *memory.peak(call, run), CALL)


def _prepare(row: Row) -> Callable[..., Any]:
    return lambda raw, key: data.prepare(raw, row.binarization, key)


def _looped(
    steps: Callable[..., loop.Progress], now: loop.Progress, batches: loop.Batches, capacity: int, sharding: Any = None
) -> Program:
    """The program of a pure function (progress, arrays, reads, num) -> progress."""
    call, seconds = _compiled(
        steps, now, batches.arrays, batches.read(0, 1, capacity), np.int32(1), out_shardings=sharding
    )
    step = 0

    def run(num_steps: int) -> float:
        nonlocal now, step
        began, last = time.perf_counter(), step + num_steps
        while step < last:
            num = min(capacity, last - step)
            now = call(now, batches.arrays, batches.read(step, num, capacity), np.int32(num))
            step += num
            loop.raise_if_diverged(now)
        return time.perf_counter() - began

    return Program(LOOP, run, seconds, *memory.peak(call, run), LOOP)


def _compiled(function: Callable[..., Any], *arguments: Any, out_shardings: Any = None) -> tuple[Any, float]:
    """The function compiled for arguments like these, the first donated; and the seconds that took."""
    began = time.perf_counter()
    call = jax.jit(function, donate_argnums=0, out_shardings=out_shardings).lower(*arguments).compile()
    return call, time.perf_counter() - began
