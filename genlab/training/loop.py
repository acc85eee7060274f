"""The training loop: many steps in one compiled call, and actions at their own periods between calls.

Everything that a killed run needs to go on as if nothing had happened lies in `Progress`, one pytree of
arrays. Keys and batches are functions of (seed, step), so they are not in it.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from genlab.algorithm import Algorithm, Array, Batch, Key, Metrics, State

PyTree = Any


@flax.struct.dataclass
class Progress:
    """A run between two steps: what a checkpoint holds.

    Attributes:
        state: the algorithm's State.
        mean: running mean of each metric since the last log event. It is kept on the device and in the
            checkpoint, so a resumed run logs the numbers of one that was never killed.
        count: i32[], steps in that mean.
        diverged: for each metric i32[], the first step at which it was not finite, or -1.
    """

    state: State
    mean: Metrics
    count: Array
    diverged: dict[str, Array]


class Action(NamedTuple):
    """Something done between steps.

    Attributes:
        every: its period in steps; 0 for only after the last step, which every action sees.
        run: called with (step, progress).
    """

    every: int
    run: Callable[[int, Progress], None]


class Batches(NamedTuple):
    """Where a run's batches come from, see genlab.data.Feed for the first three.

    Attributes:
        arrays: what stays on the device.
        read: (first_step, num, capacity) -> what one compiled call is given.
        select: (arrays, read's result, i) -> raw batch i, inside the compiled step.
        prepare: (raw batch, key) -> batch, inside the compiled step.
    """

    arrays: PyTree
    read: Callable[[int, int, int], PyTree]
    select: Callable[[PyTree, PyTree, Array], Mapping[str, Array]]
    prepare: Callable[[Mapping[str, Array], Key], Batch]


class DivergedError(RuntimeError):
    """A metric or a parameter is no longer a finite number; the message names the step and which."""


def step_keys(root_key: Key, step: Array | int) -> tuple[Key, Key]:
    """(key of the data, key of the algorithm) for one step of a run."""
    key_data, key_algorithm = jax.random.split(jax.random.fold_in(root_key, step))
    return key_data, key_algorithm


def start(algorithm: Algorithm, batches: Batches, key: Key) -> Progress:
    """A run before its first step. Metrics' names come from tracing one step."""

    def init(arrays: PyTree, reads: PyTree) -> State:
        key_init, key_data = jax.random.split(key)
        return algorithm.init(key_init, batches.prepare(batches.select(arrays, reads, jnp.int32(0)), key_data))

    reads = batches.read(0, 1, 1)
    state = jax.jit(init)(batches.arrays, reads)

    def first_step(state: State, arrays: PyTree, reads: PyTree) -> Metrics:
        batch = batches.prepare(batches.select(arrays, reads, jnp.int32(0)), key)
        return algorithm.step(state, batch, key)[1]

    names = sorted(jax.eval_shape(first_step, state, batches.arrays, reads))
    return Progress(
        state=state,
        mean={name: jnp.zeros(()) for name in names},
        count=jnp.zeros((), jnp.int32),
        diverged={name: jnp.full((), -1, jnp.int32) for name in names},
    )


def compile_steps(algorithm: Algorithm, batches: Batches, root_key: Key) -> Callable[[Progress, PyTree, int], Progress]:
    """The compiled call: (progress, reads, num) -> progress after `num` steps.

    `num` is an argument and not a constant of the program, so runs of any period share one compilation.
    The incoming progress is donated.
    """

    def one_step(i: Array, progress: Progress, arrays: PyTree, reads: PyTree, keys: tuple[Key, Key]) -> Progress:
        key_data, key_algorithm = keys[0][i], keys[1][i]
        batch = batches.prepare(batches.select(arrays, reads, i), key_data)
        state, metrics = algorithm.step(progress.state, batch, key_algorithm)
        count = progress.count + 1
        weight = 1.0 / count.astype(jnp.float32)
        return Progress(
            state=state,
            mean={name: mean + weight * (metrics[name] - mean) for name, mean in progress.mean.items()},
            count=count,
            diverged={
                name: jnp.where((first < 0) & ~jnp.isfinite(metrics[name]), state.step, first)
                for name, first in progress.diverged.items()
            },
        )

    @functools.partial(jax.jit, donate_argnums=0)
    def steps(progress: Progress, arrays: PyTree, reads: PyTree, num: Array) -> Progress:
        # all keys at once: inside the loop their small hashes cost a twentieth of a dense VAE's step
        capacity = jax.tree.leaves(reads)[0].shape[0]
        keys = jax.vmap(lambda i: step_keys(root_key, progress.state.step + i))(jnp.arange(capacity))
        return jax.lax.fori_loop(0, num, lambda i, progress: one_step(i, progress, arrays, reads, keys), progress)

    return lambda progress, reads, num: steps(progress, batches.arrays, reads, jnp.int32(num))


def fit(
    algorithm: Algorithm,
    batches: Batches,
    progress: Progress,
    root_key: Key,
    *,
    num_steps: int,
    steps_per_call: int,
    log_every_steps: int,
    log: Callable[[int, dict[str, float]], None],
    actions: Sequence[Action] = (),
    show: Callable[[int], None] = lambda step: None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Progress:
    """Trains from `progress` to `num_steps`.

    Args:
        algorithm: what is trained.
        batches: what it is trained on.
        progress: from `start` or a checkpoint. Donated.
        root_key: of the run; the same for a resumed run.
        num_steps: steps of the whole run.
        steps_per_call: most steps in one compiled call. No result depends on it.
        log_every_steps: period of `log`.
        log: called with (step, mean of each metric since the last call).
        actions: run in this order after `log`, each at its period and after the last step.
        show: called with the step after every compiled call.
        interrupted: asked between calls.

    Returns:
        The progress after the last step, or earlier where `interrupted` said so.

    Raises:
        DivergedError: as soon as a metric is not finite, and before any action sees parameters that are not.
    """
    periods = [period for period in (log_every_steps, *(action.every for action in actions)) if period > 0]
    steps = compile_steps(algorithm, batches, root_key)
    step = int(progress.state.step)
    while step < num_steps:
        boundary = min([num_steps, *(period * (step // period + 1) for period in periods)])
        num = min(steps_per_call, boundary - step)
        progress = steps(progress, batches.read(step, num, steps_per_call), num)
        step += num
        raise_if_diverged(progress)
        show(step)
        if step == num_steps or (log_every_steps and step % log_every_steps == 0):
            log(step, {name: float(value) for name, value in jax.device_get(progress.mean).items()})
            progress = dataclasses.replace(
                progress, mean=jax.tree.map(jnp.zeros_like, progress.mean), count=jnp.zeros_like(progress.count)
            )
        due = [action for action in actions if step == num_steps or (action.every and step % action.every == 0)]
        if due:
            raise_if_not_finite(progress)
        for action in due:
            action.run(step, progress)
        if step < num_steps and interrupted():
            break
    return progress


def raise_if_diverged(progress: Progress) -> None:
    """Raises DivergedError if a metric has not been finite; names the first step at which one was not."""
    bad = {name: int(step) for name, step in jax.device_get(progress.diverged).items() if step >= 0}
    if bad:
        first = min(bad.values())
        names = ", ".join(name for name, step in bad.items() if step == first)
        raise DivergedError(f"step {first}: {names} is not a finite number")


def raise_if_not_finite(progress: Progress) -> None:
    """Raises DivergedError if any number of a player is not finite, naming the player and what of it."""
    for name, player in progress.state.players.items():
        for part in ("params", "stats", "opt_state"):
            numbers = [
                leaf for leaf in jax.tree.leaves(getattr(player, part)) if jnp.issubdtype(leaf.dtype, jnp.inexact)
            ]
            if not all(jax.device_get([jnp.all(jnp.isfinite(leaf)) for leaf in numbers])):
                step = int(progress.state.step)
                raise DivergedError(f"step {step}: {part} of player {name!r} is not finite")
