"""From a config to what is trained, on what, and where: one model, or the members of a population."""

import functools
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import ml_collections

from experiments.checks import check, choose
from experiments.members import member_fields, with_fields
from genlab import data
from genlab.algorithm import Algorithm, Stage, State
from genlab.training import devices, loop, population, processes, workdir

MODE_FILE = "population_mode.json"

Build = Callable[[ml_collections.ConfigDict, data.Dataset], Algorithm]
Call = Callable[[loop.Progress, Any, int], loop.Progress]


class Member(NamedTuple):
    """One model of a run.

    Attributes:
        fields: in which it differs from the other members; {} of a solo run.
        config: of its solo run.
        algorithm: made by that config.
        hparams: `fields` without the seed: what the compiled program takes as numbers.
    """

    fields: dict[str, Any]
    config: ml_collections.ConfigDict
    algorithm: Algorithm
    hparams: dict[str, Any]


class Leg(NamedTuple):
    """A part of a run that one compiled program trains.

    Attributes:
        last_step: steps taken when it ends.
        batches: what the loop reads; of a population with a leading axis of members.
        compile_steps: (directory, progress) -> the compiled call.
    """

    last_step: int
    batches: loop.Batches
    compile_steps: Callable[[pathlib.Path, loop.Progress], Call]


class Assembly(NamedTuple):
    """All that a run is made of.

    Attributes:
        members: one without a population.
        make: hyper-parameters of a member -> its algorithm.
        legs: one after the other; one alone but for methods that grow.
        start: () -> the progress before the first step.
        states: progress -> the members' States, of one device or the host; every process must ask.
        close: () -> None, ends reading.
    """

    members: list[Member]
    make: Callable[[Mapping[str, Any]], Algorithm]
    legs: list[Leg]
    start: Callable[[], loop.Progress]
    states: Callable[[loop.Progress], list[State]]
    close: Callable[[], None]

    @property
    def batches(self) -> loop.Batches:
        """Of the first leg."""
        return self.legs[0].batches

    @property
    def compile_steps(self) -> Callable[[pathlib.Path, loop.Progress], Call]:
        """Of the first leg."""
        return self.legs[0].compile_steps


def run_keys(seed: int) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Keys of a run: of its parameters, its steps, its validation and its figures."""
    key_init, key_train, key_eval, key_figures = jax.random.split(jax.random.key(seed), 4)
    return key_init, key_train, key_eval, key_figures


def assemble(config: ml_collections.ConfigDict, dataset: data.Dataset, build: Build) -> Assembly:
    """A solo run, or with config.population many.

    Raises:
        InputError: for a config that cannot be run.
    """
    fields = member_fields(config)
    return assemble_population(config, fields, dataset, build) if fields else assemble_solo(config, dataset, build)


def stages_of(config: ml_collections.ConfigDict, algorithm: Algorithm) -> list[tuple[Stage, int]]:
    """The stages of a run, and by how many examples its batches begin later than if all had the stage's batch size."""
    found, first_step, position = [], 0, 0
    for stage in algorithm.stages or (Stage(config.num_steps, config.batch_size, algorithm.step),):
        found.append((stage, position - first_step * stage.batch_size))
        position += (stage.last_step - first_step) * stage.batch_size
        first_step = stage.last_step
    return found


def assemble_solo(config: ml_collections.ConfigDict, dataset: data.Dataset, build: Build) -> Assembly:
    """One model; every batch is split over the devices, and every device has all parameters."""
    algorithm = build(config, dataset)
    mesh = devices.make_mesh(config.devices, "data")
    key_init, key_train, _, _ = run_keys(config.seed)
    everywhere, part = devices.on_all(mesh), devices.process_part(mesh)
    placed = functools.cache(lambda: devices.put(dict(dataset.train), everywhere))
    legs, feeds = [], []
    for stage, offset in stages_of(config, algorithm):
        devices.check_divides(stage.batch_size, "batch_size", mesh)
        feed = open_feed(config, dataset, config.seed, part, lambda columns: placed(), stage.batch_size, offset)
        feeds.append(feed)
        batches = loop.Batches(
            feed.arrays,
            lambda *call, feed=feed: devices.put(feed.read(*call), devices.split(mesh, axis=1)),  # [capacity, B, ...]
            lambda arrays, reads, i, feed=feed: devices.split_batch(feed.select(arrays, reads, i), mesh),
            lambda raw, key: data.prepare(raw, config.data.binarization, key),
        )
        own = at_stage(algorithm, len(legs))
        legs.append(Leg(stage.last_step, batches, functools.partial(compile_solo, own, batches, key_train, everywhere)))

    def close() -> None:
        for feed in feeds:
            feed.close()

    return Assembly(
        [Member({}, config, algorithm, {})],
        lambda hparams: algorithm,
        legs,
        lambda: loop.start(at_stage(algorithm, 0), legs[0].batches, key_init, everywhere),
        lambda now: [devices.on_one(now.state)],
        close,
    )


def compile_solo(
    algorithm: Algorithm, batches: loop.Batches, key: jax.Array, sharding: Any, directory: pathlib.Path,
    now: loop.Progress,
) -> Call:  # fmt: skip
    """A leg's compiled call."""
    return loop.compile_steps(algorithm, batches, key, sharding)


def assemble_population(
    config: ml_collections.ConfigDict, fields: list[dict[str, Any]], dataset: data.Dataset, build: Build
) -> Assembly:
    """Many models in one program, split over the devices."""
    mesh = devices.make_mesh(config.devices, "pop")
    devices.check_divides(len(fields), "population of", mesh)
    configs = [with_fields(config, each) for each in fields]
    for own in configs:
        check(own)
    hparams = [{name: value for name, value in each.items() if name != "seed"} for each in fields]
    everyone = [
        Member(each, own, build(own, dataset), numbers)
        for each, own, numbers in zip(fields, configs, hparams, strict=True)
    ]
    make = lambda numbers: build(with_fields(config, numbers), dataset)
    keys = [run_keys(own.seed) for own in configs]
    keys_init, keys_train = (jax.numpy.stack([each[i] for each in keys]) for i in (0, 1))

    # one copy of the data on the devices, and one feed a seed of this process's members
    placed = functools.cache(lambda: devices.put(dict(dataset.train), devices.on_all(mesh)))
    k, n = devices.process_part(mesh)
    here = [own.seed for own in configs[k * len(configs) // n : (k + 1) * len(configs) // n]]
    stages, legs, feeds = stages_of(config, everyone[0].algorithm), [], []
    for number, (stage, offset) in enumerate(stages):
        open_one = functools.cache(lambda seed, stage=stage, offset=offset: open_feed(
            config, dataset, seed, (0, 1), lambda columns: placed(), stage.batch_size, offset, len(set(here))
        ))  # fmt: skip
        feed = data.stack_feeds([open_one(seed) for seed in here])
        feeds.append(feed)
        batches = loop.Batches(
            feed.arrays,
            lambda *call, feed=feed: devices.put(feed.read(*call), devices.split(mesh)),  # [P, capacity, B, ...]
            feed.select,
            lambda raw, key: data.prepare(raw, config.data.binarization, key),
        )
        crowd = population.population(
            lambda numbers, number=number: at_stage(make(numbers), number),
            {name: [each[name] for each in hparams] for name in hparams[0]},
        )
        if not number:
            population.check_traceable(crowd, batches)
            start = functools.partial(population.start, crowd, batches, keys_init, mesh)
        legs.append(Leg(stage.last_step, batches,
                        functools.partial(compile_population, config, crowd, batches, keys_train, mesh)))  # fmt: skip

    def states(now: loop.Progress) -> list[State]:
        together = devices.to_host(now.state)  # once: between processes it is a gathering of all members
        return [population.member(together, number) for number in range(len(everyone))]

    def close() -> None:
        for feed in feeds:
            feed.close()

    return Assembly(everyone, make, legs, start, states, close)


def at_stage(algorithm: Algorithm, number: int) -> Algorithm:
    """The algorithm with the step of that stage."""
    return algorithm._replace(step=algorithm.stages[number].step) if algorithm.stages else algorithm


def compile_population(
    config: ml_collections.ConfigDict, crowd: population.Population, batches: loop.Batches, keys: jax.Array, mesh: Any,
    directory: pathlib.Path, now: loop.Progress,
) -> Call:  # fmt: skip
    """A leg's compiled call, in the mode that the directory names, or that turns out to be the fastest."""
    calls = {mode: population.compile_steps(crowd, batches, keys, mode, mesh) for mode in modes(directory, config)}
    seconds = population.time_modes(calls, batches.read, now, config.steps_per_call) if len(calls) > 1 else {}
    fastest = population.fastest(seconds) if seconds else next(iter(calls))
    mode = population.MODES[processes.from_main(population.MODES.index(fastest))]
    if processes.is_main() and seconds:
        found = {"mode": mode, "seconds_per_step": {name: float(f"{s:.4g}") for name, s in seconds.items()}}
        workdir.write_text(directory / MODE_FILE, json.dumps(found) + "\n")
    return calls[mode]


def modes(directory: pathlib.Path, config: ml_collections.ConfigDict) -> tuple[population.Mode, ...]:
    """How the population may be computed: as it was before, as the config says, on a CPU as turns out to be faster."""
    on_cpu = jax.default_backend() == "cpu"
    found = population.MODES if on_cpu else ("vmap",)
    if config.population_mode != "auto":
        found = (config.population_mode,)
    elif on_cpu and (directory / MODE_FILE).exists():  # a resumed run computes as it began, to the bit
        found = (json.loads((directory / MODE_FILE).read_text())["mode"],)
    choices = [*((mode,) for mode in population.MODES), population.MODES]
    return choices[processes.from_main(choices.index(found))]


def open_feed(
    config: ml_collections.ConfigDict,
    dataset: data.Dataset,
    seed: int,
    shard: tuple[int, int],
    put: Callable[[Mapping[str, Any]], Any],
    batch_size: int,
    offset: int,
    num_feeds: int = 1,
) -> data.Feed:
    """Batches of the training split, from the devices or from a stream, one of `num_feeds` that share the memory."""
    open_as = choose("data.placement", config.data.placement, {
        "device": lambda: data.device_feed(dataset.train, batch_size, seed, shard, put, offset),
        "stream": lambda: data.stream_feed(
            dataset.train, batch_size, seed, shard=shard, num_feeds=num_feeds, offset=offset
        ),
    })  # fmt: skip
    return open_as()
