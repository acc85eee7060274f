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
import numpy as np
from jax.sharding import Sharding

from genlab.algorithm import Algorithm, Array, Batch, Key, Metrics, State
from genlab.training.devices import to_host

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


def begin(algorithm: Algorithm, batches: Batches, arrays: PyTree, reads: PyTree, key: Key) -> Progress:
    """A run before its first step, as a pure function; `reads` are those of its first call.

    Metrics' names come from tracing one step.
    """
    key_init, key_data = jax.random.split(key)
    batch = batches.prepare(batches.select(arrays, reads, jnp.int32(0)), key_data)
    state = algorithm.init(key_init, batch)
    names = sorted(jax.eval_shape(algorithm.step, state, batch, key)[1])
    return Progress(
        state=state,
        mean={name: jnp.zeros(()) for name in names},
        count=jnp.zeros((), jnp.int32),
        diverged={name: jnp.full((), -1, jnp.int32) for name in names},
    )


def take_steps(
    algorithm: Algorithm, batches: Batches, progress: Progress, arrays: PyTree, reads: PyTree, num: Array, root_key: Key
) -> Progress:
    """The progress after `num` more steps, as a pure function.

    `num` is an argument and not a constant of the program, so runs of any period share one compilation.
    """

    def one_step(i: Array, progress: Progress) -> Progress:
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

    # all keys at once: inside the loop their small hashes cost a twentieth of a dense VAE's step
    capacity = jax.tree.leaves(reads)[0].shape[0]
    keys = jax.vmap(lambda i: step_keys(root_key, progress.state.step + i))(jnp.arange(capacity))
    return jax.lax.fori_loop(0, num, one_step, progress)


def start(algorithm: Algorithm, batches: Batches, key: Key, sharding: Sharding | None = None) -> Progress:
    """A run before its first step.

    Args:
        algorithm: what will be trained.
        batches: what it will be trained on.
        key: of the parameters.
        sharding: of every array of the progress; None leaves it to the compiler.
    """
    first = jax.jit(lambda arrays, reads: begin(algorithm, batches, arrays, reads, key), out_shardings=sharding)
    return first(batches.arrays, batches.read(0, 1, 1))


def compile_steps(
    algorithm: Algorithm, batches: Batches, root_key: Key, sharding: Sharding | None = None
) -> Callable[[Progress, PyTree, int], Progress]:
    """The compiled call (progress, reads, num) -> progress after `num` steps; the incoming progress is donated."""

    @functools.partial(jax.jit, donate_argnums=0, out_shardings=sharding)
    def steps(progress: Progress, arrays: PyTree, reads: PyTree, num: Array) -> Progress:
        return take_steps(algorithm, batches, progress, arrays, reads, num, root_key)

    return lambda progress, reads, num: steps(progress, batches.arrays, reads, np.int32(num))


def fit(
    steps: Callable[[Progress, PyTree, int], Progress],
    read: Callable[[int, int, int], PyTree],
    progress: Progress,
    *,
    num_steps: int,
    steps_per_call: int,
    log_every_steps: int,
    log: Callable[[int, dict[str, np.ndarray]], None],
    actions: Sequence[Action] = (),
    show: Callable[[int], None] = lambda step: None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Progress:
    """Trains from `progress` to `num_steps`.

    Args:
        steps: the compiled call, from `compile_steps` here or in `population`.
        read: of the batches, see `Batches`.
        progress: from `start` or a checkpoint. Donated.
        num_steps: steps of the whole run.
        steps_per_call: most steps in one compiled call. No result depends on it.
        log_every_steps: period of `log`.
        log: called with (step, mean of each metric since the last call), f32[] or, of a population, f32[P].
        actions: run in this order after `log`, each at its period and after the last step.
        show: called with the step after every compiled call.
        interrupted: asked between calls.

    Returns:
        The progress after the last step, or earlier where `interrupted` said so.

    Raises:
        DivergedError: as soon as a metric is not finite, and before any action sees parameters that are not. A
            population goes on while one member is healthy.
    """
    periods = [period for period in (log_every_steps, *(action.every for action in actions)) if period > 0]
    step = int(np.max(to_host(progress.state.step)))
    while step < num_steps:
        boundary = min([num_steps, *(period * (step // period + 1) for period in periods)])
        num = min(steps_per_call, boundary - step)
        progress = steps(progress, read(step, num, steps_per_call), num)
        step += num
        raise_if_diverged(progress)
        show(step)
        if step == num_steps or (log_every_steps and step % log_every_steps == 0):
            log(step, to_host(progress.mean))
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


def metric_failures(progress: Progress) -> list[str | None]:
    """For each member of a population, or the one run, the first step and the names of metrics that failed; or None."""
    first = {name: np.atleast_1d(steps) for name, steps in to_host(progress.diverged).items()}  # i32[P] each
    found: list[str | None] = []
    for member in range(progress.count.size):
        bad = {name: int(steps[member]) for name, steps in first.items() if steps[member] >= 0}
        step = min(bad.values(), default=0)
        names = ", ".join(name for name in bad if bad[name] == step)
        found.append(f"step {step}: {names} is not a finite number" if bad else None)
    return found


def failures(progress: Progress) -> list[str | None]:
    """As `metric_failures`, and whatever of a player is not finite, naming the player."""
    found = metric_failures(progress)
    step = int(np.max(to_host(progress.state.step)))
    for name, player in progress.state.players.items():
        for part in ("params", "stats", "opt_state"):
            finite = _finite(getattr(player, part), progress.count)
            complaint = f"step {step}: {part} of player {name!r} is not finite"
            found = [before or (None if fine else complaint) for before, fine in zip(found, finite, strict=True)]
    return found


def raise_if_diverged(progress: Progress) -> None:
    """Raises DivergedError if every member has a metric that has not been finite, naming the first."""
    if all(found := metric_failures(progress)):
        raise DivergedError(found[0])


def raise_if_not_finite(progress: Progress) -> None:
    """Raises DivergedError if every member has a number that is not finite, naming the first."""
    if all(found := failures(progress)):
        raise DivergedError(found[0])


@functools.partial(jax.jit, static_argnums=1)
def _all_finite(tree: PyTree, num_axes: int) -> list[Array]:
    numbers = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return [jnp.all(jnp.isfinite(leaf), axis=tuple(range(num_axes, leaf.ndim))) for leaf in numbers]


def _finite(tree: PyTree, count: Array) -> np.ndarray:
    """bool[P], whether all of a member's numbers are finite; bool[1] of a single run."""
    found = [np.ravel(each) for each in to_host(_all_finite(tree, count.ndim))]
    return np.all([np.ones(count.size, bool), *found], axis=0)
