"""One run of any family, from a config to a report: what every experiment does once its algorithm is built."""

import contextlib
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import logging

from experiments import results
from experiments.assembly import Assembly, Build, Member, assemble, run_keys
from experiments.checks import check, check_padding
from experiments.generation import check_extractor
from experiments.launch import Launch
from experiments.representation import as_trained, check_evaluation
from genlab import data
from genlab.algorithm import State
from genlab.evaluation.held_out import mean_and_error, over_split
from genlab.training import checkpoint, devices, display, interruption, loop, processes, workdir, writers

# fields that a resumed run may change
FREE = ("classifier", "devices", "evaluation", "population_mode", "steps_per_call")


Diagnose = Callable[[Member, State], dict[str, float]]


def run(launch: Launch, build: Build, diagnose: Callable[[data.Dataset], Diagnose] | None = None) -> None:
    """Trains what `build(config, dataset)` makes, or resumes it, then evaluates it and writes card and report.

    With config.population many are trained at once. A finished run in the workdir is only evaluated again.

    Args:
        launch: what the command line asked for.
        build: (config, dataset) -> Algorithm.
        diagnose: dataset -> (member, state) -> more numbers that are logged at every validation; None for none.

    Raises:
        InputError: for a config that cannot be run.
        loop.DivergedError: if a loss or a parameter stops being finite, of a population in every member.
        interruption.InterruptedRun: after SIGTERM or Ctrl-C, once the run is saved.
    """
    enable_compilation_cache()
    config = launch.config
    check(config)
    processes.check_alike(config.to_json_best_effort(), "the config")
    dataset = data.load(
        config.data.name,
        data_dir=config.data.data_dir,
        num_validation=config.data.num_validation,
        image_size=config.data.image_size,
        padding=config.data.padding,
    )
    check_evaluation(config, dataset)
    check_extractor(config, dataset)
    assembly = assemble(config, dataset, build)
    try:
        check_padding(config, assembly.members[0].algorithm.density)
        with contextlib.ExitStack() as held:
            processes.on_main(lambda: enter(launch, held))  # where process 0 cannot, all end at once
            final = train(launch, assembly, dataset, diagnose(dataset) if diagnose else None)
            failures = loop.failures(final)
            states = assembly.states(final)
            processes.on_main(lambda: results.leave(launch, assembly, dataset, states, failures))
    finally:
        assembly.close()


def enter(launch: Launch, held: contextlib.ExitStack) -> int:
    """Locks the workdir for as long as it is `held`; InputError if another process has it, or another config."""
    held.enter_context(workdir.locked(launch.workdir))
    workdir.check_claim(launch.workdir, as_json(launch.config), free=FREE)
    return 0


def as_json(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """The resolved config in JSON's types."""
    return json.loads(config.to_json_best_effort())


def enable_compilation_cache() -> None:
    """Keeps compiled programs between processes, in JAX_COMPILATION_CACHE_DIR or the user's cache."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(data.cache_directory() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def train(launch: Launch, assembly: Assembly, dataset: data.Dataset, diagnose: Diagnose | None = None) -> loop.Progress:
    """The run's progress after its last step, from wherever its newest good checkpoint left it."""
    config, directory, main = launch.config, launch.workdir, processes.is_main()
    now = assembly.start()
    if main:
        workdir.claim(directory, as_json(config), free=FREE)
    with contextlib.ExitStack() as cleanup:
        checkpoints = checkpoint.Checkpoints(directory / "checkpoints")
        cleanup.callback(checkpoints.close)
        if restored := checkpoints.restore(now, report=logging.warning):
            step, now = restored
            if main:
                print(f"finished at step {step:,} before" if step >= config.num_steps else f"resuming at step {step:,}",
                      flush=True)  # fmt: skip
            if step >= config.num_steps:
                return now
        log, actions = observers(launch, assembly, dataset, restored[0] if restored else 0, cleanup, diagnose)
        actions = [*actions, loop.Action(config.checkpoint_every_steps, checkpoints.save)]
        with interruption.deferred_signals() as received:
            for leg in assembly.legs:
                if processes.largest(received()) or leg.last_step <= int(np.max(devices.to_host(now.state.step))):
                    continue
                now = loop.fit(
                    leg.compile_steps(directory, now),
                    leg.batches.read,
                    now,
                    num_steps=leg.last_step,
                    steps_per_call=config.steps_per_call,
                    log_every_steps=config.log_every_steps,
                    log=log,
                    actions=actions,
                    show=display.progress_line(config.num_steps) if main else lambda step: None,
                    interrupted=lambda: processes.largest(received()) != 0,
                )
            if signal := processes.largest(received()):  # after the last step, too: the report can wait
                loop.raise_if_not_finite(now)
                step = int(np.max(devices.to_host(now.state.step)))
                checkpoints.save(step, now)
                raise interruption.InterruptedRun(step, signal)
        return now


def observers(
    launch: Launch,
    assembly: Assembly,
    dataset: data.Dataset,
    first_step: int,
    cleanup: contextlib.ExitStack,
    diagnose: Diagnose | None = None,
) -> tuple[Callable[[int, dict[str, np.ndarray]], None], list[loop.Action]]:
    """(log, actions): the log of training, and validation and pictures at their periods. The main process writes them.

    Of a population a record holds a list for every metric, a number a member; null for a member that failed.
    """
    config, directory, members = launch.config, launch.workdir, assembly.members
    is_population = config.population is not None
    records = writers.read_jsonl(directory / "metrics.jsonl")  # of this run before it was stopped
    failed = set().union(*(missing(record.values()) for record in records if record["step"] <= first_step))
    began = time.monotonic() - max((r["seconds"] for r in records if "seconds" in r), default=0.0)
    write = open_log(config, directory, first_step, cleanup) if processes.is_main() else lambda *record: None
    validation = as_trained(config, dataset.validation) if len(dataset.validation["x"]) else None
    evaluate = over_split(
        lambda member, batch, key: assembly.make(member[0]).evaluate(member[1], batch, key),
        data.prepare,
        config.evaluation.batch_size,
    )

    def log(step: int, means: dict[str, np.ndarray]) -> None:
        numbers = {name: finite_or_none(value) for name, value in means.items()}
        gone = missing(numbers.values()) - failed
        if gone and processes.is_main():
            which = ", ".join(map(str, sorted(gone)))
            print(f"no longer finite by step {step:,}: member {which}; the others go on", file=sys.stderr, flush=True)
        failed.update(gone)
        write(step, "train", {**numbers, "seconds": time.monotonic() - began})

    def validate(step: int, states: list[State]) -> None:
        if validation is None:
            return
        rows: dict[str, list[float]] = {}
        for member, state in zip(members, states, strict=True):
            terms = evaluate((member.hparams, state), validation, run_keys(member.config.seed)[2])
            numbers = {name: mean_and_error(values)[0] for name, values in terms.items()}
            for name, number in (numbers | (diagnose(member, state) if diagnose else {})).items():
                rows.setdefault(name, []).append(number)
        write(step, "validation", {
            name: finite_or_none(np.array(row if is_population else row[0])) for name, row in rows.items()
        })  # fmt: skip

    def draw(step: int, states: list[State]) -> None:
        from genlab.evaluation import pictures

        if not all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(states[0].players)):
            return  # of a member that failed there is no picture
        algorithm, key = members[0].algorithm, run_keys(members[0].config.seed)[3]
        pictures.draw_samples_over_time(directory / "figures", algorithm, states[0], dataset.test, data.prepare, key)

    def on_main(name: str, act: Callable[[int, list[State]], None], every: int) -> loop.Action:
        def run(step: int, now: loop.Progress) -> None:
            states = assembly.states(now)
            if processes.is_main():
                act(step, states)
            processes.everyone_waits(f"{name} at step {step}")

        return loop.Action(every, run)

    return log, [
        on_main("validation", validate, config.eval_every_steps),
        on_main("figures", draw, config.figure_every_steps),
    ]


def missing(values: Iterable[Any]) -> set[int]:
    """The members that have no value in one of a record's lists."""
    return {number for value in values if isinstance(value, list) for number, x in enumerate(value) if x is None}


def finite_or_none(values: np.ndarray) -> Any:
    """A float, or a list of floats, with None for what is not finite."""
    if values.ndim:
        return [finite_or_none(value) for value in values]
    return float(values) if np.isfinite(values) else None


def open_log(
    config: ml_collections.ConfigDict, directory: pathlib.Path, first_step: int, cleanup: contextlib.ExitStack
) -> Callable[[int, str, dict[str, float]], None]:
    """A function that writes (step, split, metrics) to every writer of the config; `cleanup` closes them."""
    opened = writers.open_writers(config.writers, directory, config.to_dict(), first_step)
    for writer in opened:
        cleanup.callback(writer.close)

    def write(step: int, split: str, metrics: dict[str, float]) -> None:
        for writer in opened:
            writer.write(step, split, metrics)

    return write
