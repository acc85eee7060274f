"""Finished runs, opened again: what the tools work on that take a --workdir instead of a config."""

import importlib
import json
import logging
import pathlib
from typing import Any, NamedTuple

import ml_collections

from experiments.assembly import assemble
from experiments.run import enable_compilation_cache
from genlab import data
from genlab.algorithm import Algorithm, State
from genlab.errors import InputError
from genlab.training import checkpoint, workdir


class Trained(NamedTuple):
    """A finished run of one model, or one member of a population.

    Attributes:
        directory: where its card lies: the workdir, or members/<i> in it.
        config: of the run; of a member its solo run's.
        dataset: that it was trained on.
        algorithm: that its config describes.
        state: after the last step.
        card: of its evaluation.
    """

    directory: pathlib.Path
    config: ml_collections.ConfigDict
    dataset: data.Dataset
    algorithm: Algorithm
    state: State
    card: dict[str, Any]


def open_run(directory: str | pathlib.Path) -> Trained:
    """The run in a workdir; a member of a population by the path of its folder, RUN/members/0.

    Raises:
        InputError: no finished run there, several, or one that another process holds.
    """
    enable_compilation_cache()
    directory = pathlib.Path(directory)
    card = read_card(directory)
    is_member = directory.parent.name == "members"
    root = directory.parent.parent if is_member else directory
    if not is_member and "population" in card:
        raise InputError(f"{directory} holds a population; name one of its members, such as {directory}/members/0")
    if "experiment" not in card:
        raise InputError(f"{directory}/card.json does not say what made it; give the run's command again")
    try:
        build = importlib.import_module(card["experiment"]).build
    except (ImportError, AttributeError) as error:
        raise InputError(f"{directory} was made by {card['experiment']}, which has no build here: {error}") from None
    config = read_config(root)
    with config.unlocked():
        config.devices = 1  # whatever it was trained on
    dataset = data.load(
        config.data.name, config.data.data_dir, config.data.num_validation, config.data.image_size,
        config.data.get("padding", 0),  # runs that are older have none
    )  # fmt: skip
    with workdir.locked(root):
        assembly = assemble(config, dataset, build)
        checkpoints = checkpoint.Checkpoints(root / "checkpoints")
        try:
            restored = checkpoints.restore(assembly.start(), report=logging.warning)
            if restored is None:
                raise InputError(f"{root} has no checkpoint; give the run's command again")
            if restored[0] != card["steps"]:
                raise InputError(
                    f"the newest good checkpoint of {root} is of step {restored[0]:,}, its card of {card['steps']:,}; "
                    "give the run's command again"
                )
            number = int(directory.name) if is_member else 0
            state, member = assembly.states(restored[1])[number], assembly.members[number]
        finally:
            checkpoints.close()
            assembly.close()
    return Trained(directory, member.config, dataset, member.algorithm, state, card)


def read_card(directory: pathlib.Path) -> dict[str, Any]:
    """card.json of a finished run; InputError where there is none that can be read."""
    path = directory / "card.json"
    if not directory.is_dir():
        raise InputError(f"no run at {directory}: there is no such folder")
    if not path.exists():
        raise InputError(f"{directory} holds no finished run: it has no card.json")
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from None


def read_config(directory: pathlib.Path) -> ml_collections.ConfigDict:
    """config.json of a run as the config that it was, tuples being tuples."""
    fields = json.loads((directory / "config.json").read_text())
    return ml_collections.ConfigDict(with_tuples(fields)).lock()


def with_tuples(value: Any) -> Any:
    """A tree of JSON with its lists as tuples."""
    if isinstance(value, dict):
        return {name: with_tuples(each) for name, each in value.items()}
    return tuple(with_tuples(each) for each in value) if isinstance(value, list) else value
