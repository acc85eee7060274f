"""The members of `config.population`: the fields in which each differs, and its own config.

--config.population=8                                        seeds seed, seed + 1, ..., seed + 7
--config.population="optimizer.learning_rate=1e-4,1e-3"      two members of one seed
--config.population="model.beta=1,4 seed=0,1,2"              every combination, the last name fastest: six members
"""

import difflib
import itertools
import math
from collections.abc import Mapping
from typing import Any

import ml_collections

from experiments.checks import field
from experiments.launch import fields
from genlab.errors import InputError

MOST = 10_000  # members; each has a config and an algorithm of its own
MAY_DIFFER = ("seed", "model", "optimizer")  # fields, and blocks of fields, that the algorithm is made of


def member_fields(config: ml_collections.ConfigDict) -> list[dict[str, Any]]:
    """For every member the values of the fields in which members differ; [] without a population.

    Raises:
        InputError: not a number of members or lists of values; a field that is unknown, not a number, or no part of
            the algorithm; a value that is not of the field's type.
    """
    lists = value_lists(config)
    for name, values in lists.items():
        if name not in (known := list(fields(config))):
            near = difflib.get_close_matches(name, known, 1) or [each for each in known if each.endswith(f".{name}")]
            raise InputError(f"population: no field {name!r}" + (f"; did you mean {near[0]}?" if near else ""))
        present = field(config, name)
        if name.split(".")[0] not in MAY_DIFFER:
            raise InputError(
                f"population: {name} is the same for all members; what may differ: {', '.join(MAY_DIFFER)}"
            )
        if len(set(values)) < len(values):
            raise InputError(f"population: {name} has a value twice; members of one seed and one setting are the same")
        if isinstance(present, bool) or not isinstance(present, int | float):
            raise InputError(f"population: {name} is {present!r}, not a number; give each value a run of its own")
        for value in values:
            kinds = (int, float) if isinstance(present, float) else int
            if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
                raise InputError(f"population: {value!r} is no value of {name}, of type {type(present).__name__}")
    if math.prod(map(len, lists.values())) > MOST:
        raise InputError(f"population: the lists combine to more than {MOST} members")
    combinations = itertools.product(*lists.values()) if lists else []
    return [
        {name: type(field(config, name))(value) for name, value in zip(lists, values, strict=True)}
        for values in combinations
    ]


def value_lists(config: ml_collections.ConfigDict) -> dict[str, tuple[Any, ...]]:
    """Field name -> its values, as `config.population` has them."""
    population = config.population
    if population is None:
        return {}
    if isinstance(population, int) and not isinstance(population, bool):
        if population < 1:
            raise InputError(f"population is {population}; it must be at least 1")
        if population > MOST:
            raise InputError(f"population is {population}; it must be at most {MOST}")
        return {"seed": tuple(range(config.seed, config.seed + population))}
    lists: dict[str, tuple[Any, ...]] = {}
    for part in population.split() if isinstance(population, str) else ():
        name, _, values = part.partition("=")
        if name in lists:
            raise InputError(f"population: {name} is listed twice")
        lists[name] = tuple(number(value) for value in values.split(","))
    if not lists:
        raise InputError(
            f"population is {population!r}; give a number of seeds, or lists of values such as "
            "'optimizer.learning_rate=1e-4,1e-3 seed=0,1'"
        )
    return lists


def number(text: str) -> int | float | str:
    """The number that a text is; the text if it is none."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def with_fields(config: ml_collections.ConfigDict, values: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """A config of one member: the same but for these fields, which may be traced numbers."""
    member = config.copy_and_resolve_references()
    with member.unlocked(), member.ignore_type():
        member.population = None
        for name, value in values.items():
            *blocks, last = name.split(".")
            block = member
            for part in blocks:
                block = block[part]
            block[last] = value
    return member
