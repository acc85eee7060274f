"""One run of any family, from a config to a report: what every experiment does once its algorithm is built."""

import contextlib
import functools
import json
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
from absl import logging

from experiments.launch import Launch
from genlab import data
from genlab.algorithm import Algorithm
from genlab.errors import InputError
from genlab.evaluation import card as cards
from genlab.evaluation.held_out import mean_and_error, over_split
from genlab.training import checkpoint, display, interruption, loop, workdir, writers

Build = Callable[[ml_collections.ConfigDict, data.Dataset], Algorithm]


def run(launch: Launch, build: Build) -> None:
    """Trains what `build(config, dataset)` makes, or resumes it, then evaluates it and writes card and report.

    A finished run in the workdir is only evaluated again.

    Raises:
        InputError: for a config that cannot be run.
        loop.DivergedError: if a loss or a parameter stops being finite.
        interruption.InterruptedRun: after SIGTERM or Ctrl-C, once the run is saved.
    """
    enable_compilation_cache()
    config = launch.config
    check(config)
    dataset = data.load(
        config.data.name,
        data_dir=config.data.data_dir,
        num_validation=config.data.num_validation,
        image_size=config.data.image_size,
    )
    algorithm = build(config, dataset)
    feeds = {"device": data.device_feed, "stream": data.stream_feed}
    feed = feeds[config.data.placement](dataset.train, config.batch_size, config.seed)
    try:
        with workdir.locked(launch.workdir):
            workdir.check_claim(launch.workdir, json.loads(config.to_json_best_effort()))
            final = train(launch, algorithm, dataset, feed)
            report(launch, algorithm, dataset, final)
    finally:
        feed.close()


def check(config: ml_collections.ConfigDict) -> None:
    """Raises InputError for values that no run can have."""
    least = dict.fromkeys(("num_steps", "batch_size", "steps_per_call"), 1)
    least |= dict.fromkeys(("log_every_steps", "eval_every_steps", "checkpoint_every_steps", "figure_every_steps"), 0)
    least |= dict.fromkeys(("optimizer.warmup_steps", "optimizer.clip_norm", "optimizer.learning_rate"), 0)
    least |= {"evaluation.batch_size": 1, "evaluation.num_samples": 2, "seed": 0}
    at_least(config, least)
    if not 0.0 <= config.ema_decay < 1.0:
        raise InputError(f"ema_decay is {config.ema_decay}; it must be at least 0 and less than 1")
    writers.check_writers(config.writers)
    choices = {"data.placement": ("device", "stream"), "data.binarization": ("none", "dynamic"),
               "precision": ("float32", "bfloat16")}  # fmt: skip
    for name, known in choices.items():
        if (value := field(config, name)) not in known:
            raise InputError(f"{name} is {value!r}; it must be one of {', '.join(known)}")


def at_least(config: ml_collections.ConfigDict, least: dict[str, int]) -> None:
    """Raises InputError for a field, or an element of a tuple, that is smaller than it can be."""
    for name, minimum in least.items():
        value = field(config, name)
        if any(element < minimum for element in (value if isinstance(value, tuple) else (value,))):
            raise InputError(f"{name} is {value}; it must be at least {minimum}")


def field(config: ml_collections.ConfigDict, name: str) -> Any:
    """The value of a dotted name; InputError if the config has no such field."""
    try:
        return functools.reduce(lambda block, part: block[part], name.split("."), config)
    except KeyError:
        raise InputError(f"this experiment needs a config with {name}; the one given is of another family") from None


def enable_compilation_cache() -> None:
    """Keeps compiled programs between processes, in JAX_COMPILATION_CACHE_DIR or the user's cache."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(data.cache_directory() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def as_trained(config: ml_collections.ConfigDict, split: data.Split) -> data.Split:
    """A split as the model is trained to see it: where training binarizes, one fixed binary draw."""
    return data.fixed_binarization(split) if config.data.binarization == "dynamic" else split


def train(launch: Launch, algorithm: Algorithm, dataset: data.Dataset, feed: data.Feed) -> loop.Progress:
    """The run's progress after its last step, from wherever its newest good checkpoint left it."""
    config, directory = launch.config, launch.workdir
    key_init, key_train, key_eval, key_figures = jax.random.split(jax.random.key(config.seed), 4)
    prepare = lambda raw, key: data.prepare(raw, config.data.binarization, key)
    batches = loop.Batches(feed.arrays, feed.read, feed.select, prepare)
    now = loop.start(algorithm, batches, key_init)
    workdir.claim(directory, json.loads(config.to_json_best_effort()))
    with contextlib.ExitStack() as cleanup:
        checkpoints = checkpoint.Checkpoints(directory / "checkpoints")
        cleanup.callback(checkpoints.close)
        if restored := checkpoints.restore(now, report=logging.warning):
            now = restored[1]
        first_step = int(now.state.step)
        if first_step >= config.num_steps:
            print(f"finished at step {first_step:,} before", flush=True)
            return now
        if restored:
            print(f"resuming at step {first_step:,}", flush=True)
        write = open_log(config, directory, first_step, cleanup)
        records = writers.read_jsonl(directory / "metrics.jsonl")  # of this run before it was stopped
        began = time.monotonic() - max((r["seconds"] for r in records if "seconds" in r), default=0.0)
        evaluate = over_split(algorithm.evaluate, data.prepare, config.evaluation.batch_size)
        validation = as_trained(config, dataset.validation) if len(dataset.validation["x"]) else None

        def validate(step: int, now: loop.Progress) -> None:
            if validation is not None:
                terms = evaluate(now.state, validation, key_eval)
                write(step, "validation", {name: mean_and_error(values)[0] for name, values in terms.items()})

        def draw(step: int, now: loop.Progress) -> None:
            from genlab.evaluation import pictures

            like = dataset.test
            pictures.draw_samples_over_time(
                directory / "figures", algorithm, now.state, like, data.prepare, key_figures
            )

        with interruption.deferred_signals() as received:
            now = loop.fit(
                algorithm,
                batches,
                now,
                key_train,
                num_steps=config.num_steps,
                steps_per_call=config.steps_per_call,
                log_every_steps=config.log_every_steps,
                log=lambda step, means: write(step, "train", {**means, "seconds": time.monotonic() - began}),
                actions=[
                    loop.Action(config.eval_every_steps, validate),
                    loop.Action(config.figure_every_steps, draw),
                    loop.Action(config.checkpoint_every_steps, checkpoints.save),
                ],
                show=display.progress_line(config.num_steps),
                interrupted=lambda: received() != 0,
            )
            step = int(now.state.step)
            if received():  # after the last step, too: the report can wait for the same command
                loop.raise_if_not_finite(now)
                checkpoints.save(step, now)
                raise interruption.InterruptedRun(step, received())
        return now


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


def report(launch: Launch, algorithm: Algorithm, dataset: data.Dataset, final: loop.Progress) -> None:
    """Everything a finished run leaves: samples.npz, figures, card.json and report.html, and a last word."""
    from genlab.evaluation import pictures
    from genlab.evaluation.report import format_number, write_report
    from genlab.plots.images import to_uint8

    config, state, directory = launch.config, final.state, launch.workdir
    key_samples, key_density, key_codes, key_figures = jax.random.split(jax.random.key(0), 4)  # the same for all runs
    size = config.evaluation.batch_size
    print("evaluating: samples, density, representation, figures", flush=True)
    devices = jax.tree.leaves(state)[0].devices()
    samples = cards.generate_samples(
        algorithm, state, dataset.test, config.evaluation.num_samples, key_samples, data.prepare, size
    )
    if samples is not None:
        arrays = {"images": to_uint8(samples)} if samples.ndim == 4 else {"points": samples}
        pictures.save_arrays(directory / "samples.npz", **arrays)
    test = as_trained(config, dataset.test)
    records = writers.read_jsonl(directory / "metrics.jsonl")
    card: dict[str, Any] = {
        "recipe": launch.recipe,
        "dataset": config.data.name,
        "split_sizes": {name: len(getattr(dataset, name)["x"]) for name in ("train", "validation", "test")},
        "seed": config.seed,
        "num_params": cards.count_parameters(state),
        "weights": "moving average" if state.average else "last step",
        "steps": int(state.step),
        "train_seconds": round(max((r["seconds"] for r in records if "seconds" in r), default=0.0), 2),
        "train_seconds_count": "wall clock, with compilation, validation, figures and checkpoints",
        "device": f"{next(iter(devices)).device_kind} x {len(devices)}",
        "generation": cards.generation_block(samples, dataset.train, dataset.test, data.prepare),
        "representation": cards.representation_block(
            algorithm, state, as_trained(config, cards.first(dataset.train, cards.MAX_PROBE_EXAMPLES)), test,
            data.prepare, key_codes, size,
        ),
        "density": cards.density_block(
            algorithm, state, test, data.prepare, key_density, size,
            config.evaluation.get("num_importance_samples"), config.data.binarization,
            display.progress_line(len(test["x"]), unit="test example"),
        ),
    }  # fmt: skip
    workdir.write_text(directory / "card.json", json.dumps(card, indent=2, allow_nan=False) + "\n")
    pictures.draw_curves(directory / "figures", records)
    pictures.draw_final(
        directory / "figures", algorithm, state, test, data.prepare, key_figures, samples, dataset.log_density
    )
    page = write_report(directory, launch.command)
    print(f"workdir  {directory}\nreport   {page}")
    for block in ("generation", "representation", "density"):
        for name, number in (card[block] or {}).items():
            print(f"{block:15} {name:24} {format_number(number)}")
