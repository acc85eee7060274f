"""What a finished run leaves behind: samples, figures, card and report, of one model or of every member."""

import json
import math
import pathlib
import shlex
from typing import Any

import jax
import ml_collections

from experiments import language
from experiments.assembly import MODE_FILE, Assembly, Member
from experiments.generation import is_conditional, measure_samples
from experiments.launch import Launch
from experiments.representation import as_trained, corruption_of, measure_codes
from genlab import data
from genlab.algorithm import State
from genlab.evaluation import card as cards
from genlab.evaluation.kinds import kind_of
from genlab.training import display, workdir, writers
from genlab.training.loop import DivergedError

DENSITY_FILE = "density.npz"  # log_prob and elbo f32[N] of every test example
BLOCKS = ("generation", "representation", "density")
NOT_SOLO = ("config.population", "config.population_mode", "workdir",
            "distributed", "coordinator", "num_processes", "process_id")  # fmt: skip


def leave(
    launch: Launch, assembly: Assembly, dataset: data.Dataset, states: list[State], failures: list[str | None]
) -> int:
    """Writes all of it, says where it lies and what was measured, and gives 0.

    Args:
        launch: of the run.
        assembly: whose members were trained.
        dataset: on which.
        states: of the members, on one device or the host.
        failures: of the members, what of each is not finite, or None.
    """
    from genlab.evaluation.numbers import format_number, format_reference
    from genlab.evaluation.report import write_report

    directory, config = launch.workdir, launch.config
    print("evaluating", flush=True)
    if config.population is None:
        (member,) = assembly.members
        records = writers.read_jsonl(directory / "metrics.jsonl")
        card = leave_model(directory, launch, member, dataset, states[0], records)
    else:
        card = leave_population(launch, assembly, dataset, states, failures)
    page = write_report(directory, launch.command)
    print(f"workdir  {directory}\nreport   {page}")
    if config.population is not None:
        print(f"mean and standard deviation over {len(card['evaluated_members'])} of {len(states)} members:")
    for block in BLOCKS:
        for name, number in (card[block] or {}).items():
            print(f"{block:15} {name:24} {format_number(number)} {format_reference(number)}".rstrip())
    return 0


def leave_model(
    directory: pathlib.Path,
    launch: Launch,
    member: Member,
    dataset: data.Dataset,
    state: State,
    records: list[dict[str, Any]],
) -> dict[str, Any]:
    """samples.npz, figures and card.json of one model; the card."""
    from genlab.evaluation import pictures
    from genlab.plots.images import to_uint8

    config, algorithm = member.config, member.algorithm
    key_samples, key_density, key_codes, key_figures = jax.random.split(jax.random.key(0), 4)  # the same for all runs
    size = config.evaluation.batch_size
    samples = cards.generate_samples(
        algorithm, state, dataset.test, config.evaluation.num_samples, key_samples, data.prepare, size
    )
    if samples is not None:
        kind = kind_of(samples)
        pictures.save_arrays(directory / "samples.npz", **{kind: to_uint8(samples) if kind == "images" else samples})
        if kind == "text":
            language.write_samples(directory, algorithm, state, dataset.test, samples, key_figures)
    test = as_trained(config, dataset.test)
    codes, compression = measure_codes(member, state, dataset, key_codes)
    generation, neighbours = measure_samples(config, samples, dataset)
    card = heading(launch, config, dataset, state, records) | {
        "generation": generation,
        "representation": codes,
        "density": cards.density_block(
            algorithm, state, test, data.prepare, key_density, size,
            config.evaluation.get("num_importance_samples"), config.data.binarization,
            display.progress_line(len(test["x"]), unit="test example"),
            lambda values: pictures.save_arrays(directory / DENSITY_FILE, **values), dataset.log_density,
        ),
    }  # fmt: skip
    if kind_of(test["x"]) == "text" and card["density"]:
        card["density"] |= language.ngram_block(dataset)
    if bad := [name for block in BLOCKS for name, number in (card[block] or {}).items() if not is_finite(number)]:
        raise DivergedError(f"step {card['steps']}: of the evaluation, {', '.join(bad)} is not a finite number")
    write_json(directory / "card.json", card)
    pictures.draw_curves(directory / "figures", records)
    pictures.draw_final(
        directory / "figures", algorithm, state, test, data.prepare, key_figures, samples, dataset.log_density,
        corrupt=corruption_of(config), compression=compression, code_view=config.evaluation.code_view,
        activation_target=sparsity_target(config), by_class=is_conditional(config),
    )  # fmt: skip
    if samples is not None and neighbours is not None:
        pictures.draw_nearest_training(directory / "figures", samples, *neighbours)
    return card


def leave_population(
    launch: Launch, assembly: Assembly, dataset: data.Dataset, states: list[State], failures: list[str | None]
) -> dict[str, Any]:
    """A folder a member, with all that its solo run would leave, and the card and curves of them all; that card.

    A member that failed is not evaluated, and says so in the population's card.
    """
    from genlab.evaluation import pictures
    from genlab.evaluation.report import write_report

    directory, config = launch.workdir, launch.config
    records = writers.read_jsonl(directory / "metrics.jsonl")
    found, entries = [], []
    for number, (member, state, failure) in enumerate(zip(assembly.members, states, failures, strict=True)):
        differs = ", ".join(f"{name}={value}" for name, value in member.fields.items())
        entries.append({**member.fields, "failure": failure})
        if failure:
            print(f"member {number} ({differs}) failed at {failure}; it is not evaluated", flush=True)
            continue
        print(f"member {number} of {len(states)}: {differs}", flush=True)
        own = directory / "members" / str(number)
        own.mkdir(parents=True, exist_ok=True)
        rows = [of_member(record, number) for record in records]
        write_json(own / "config.json", json.loads(member.config.to_json_best_effort()))
        workdir.write_text(own / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        try:
            found.append(leave_model(own, launch, member, dataset, state, rows))
        except DivergedError as error:
            entries[-1]["failure"] = str(error)
            print(f"member {number} ({differs}) failed at {error}", flush=True)
            continue
        write_report(own, solo_command(launch, member))
    if not found:
        raise DivergedError("no member of the population could be evaluated")
    card = heading(launch, config, dataset, states[0], records) | {
        "population": {"size": len(states), **mode_of(directory, config), "members": entries},
        "evaluated_members": [number for number, entry in enumerate(entries) if not entry["failure"]],
        **{block: cards.over_members([card[block] for card in found]) for block in BLOCKS},
    }
    write_json(directory / "card.json", card)
    pictures.draw_curves(directory / "figures", records)
    pictures.draw_samples_by_member(directory)
    return card


def heading(
    launch: Launch,
    config: ml_collections.ConfigDict,
    dataset: data.Dataset,
    state: State,
    records: list[dict[str, Any]],
) -> dict[str, Any]:
    """What a card says before its measurements."""
    return {
        "recipe": launch.recipe,
        "experiment": launch.module,
        "dataset": config.data.name,
        "split_sizes": {name: len(getattr(dataset, name)["x"]) for name in ("train", "validation", "test")},
        "seed": config.seed,
        "num_params": cards.count_parameters(state),
        "weights": "moving average" if state.average else "last step",
        "steps": int(state.step),
        "train_seconds": round(max((r["seconds"] for r in records if "seconds" in r), default=0.0), 2),
        "train_seconds_count": ("of all members together: " if launch.config.population is not None else "")
        + "wall clock, with compilation, validation, figures and checkpoints",
        "device": f"{jax.devices()[0].device_kind} x {launch.config.devices or jax.device_count()}",
    }


def sparsity_target(config: ml_collections.ConfigDict) -> float | None:
    """The mean activation that a sparse autoencoder was asked for."""
    model = config.get("model", {})
    return model.get("sparsity_target") if "sparsity" in model.get("penalties", ()) else None


def is_finite(number: dict[str, Any]) -> bool:
    """Whether a number of a card and its error are finite."""
    return all(math.isfinite(number[part]) for part in ("value", "standard_error") if number.get(part) is not None)


def of_member(record: dict[str, Any], number: int) -> dict[str, Any]:
    """A member's part of a population's record."""
    return {name: value[number] if isinstance(value, list) else value for name, value in record.items()}


def solo_command(launch: Launch, member: Member) -> str:
    """The command line that trains a member alone."""
    words, rest = [], iter(shlex.split(launch.command))
    fields = {"population": None, **member.fields}  # a recipe may have one
    for word in rest:
        name, equals, _ = word.lstrip("-").partition("=")
        if word.startswith("-") and name in NOT_SOLO:
            if name == "config.population":
                fields.pop("population", None)
            if not equals and name != "distributed":
                next(rest, None)  # its value, after a space
        else:
            words.append(word)
    return shlex.join([*words, *(f"--config.{name}={value}" for name, value in fields.items())])


def mode_of(directory: pathlib.Path, config: ml_collections.ConfigDict) -> dict[str, Any]:
    """How a population was computed, and how fast either way is where that was measured."""
    measured = directory / MODE_FILE
    if measured.exists() and config.population_mode == "auto":
        return json.loads(measured.read_text())
    return {"mode": config.population_mode if config.population_mode != "auto" else "vmap"}


def write_json(path: pathlib.Path, value: dict[str, Any]) -> None:
    """Writes a JSON file whole or not at all."""
    workdir.write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
