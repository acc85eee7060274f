"""What every config must satisfy, said in one line."""

import functools
from typing import Any

import ml_collections
from jax.core import Tracer

from genlab.errors import InputError
from genlab.training import writers


def check(config: ml_collections.ConfigDict) -> None:
    """Raises InputError for values that no run can have."""
    least = dict.fromkeys(("num_steps", "batch_size", "steps_per_call"), 1)
    least |= dict.fromkeys(("log_every_steps", "eval_every_steps", "checkpoint_every_steps", "figure_every_steps"), 0)
    least |= dict.fromkeys(("optimizer.warmup_steps", "optimizer.clip_norm", "optimizer.learning_rate"), 0)
    least |= {"evaluation.batch_size": 1, "evaluation.num_samples": 2, "seed": 0, "devices": 0}
    least |= {"evaluation.few_labels": 1, "evaluation.corruption_level": 0}
    if any(type(num) is not int for num in config.evaluation.few_labels):
        raise InputError(f"evaluation.few_labels is {config.evaluation.few_labels}; it takes whole numbers, as (100,)")
    at_least(config, least)
    if not 0.0 <= config.ema_decay < 1.0:
        raise InputError(f"ema_decay is {config.ema_decay}; it must be at least 0 and less than 1")
    writers.check_writers(config.writers)
    choices = {"data.placement": ("device", "stream"), "data.binarization": ("none", "dynamic"),
               "precision": ("float32", "bfloat16"), "population_mode": ("auto", "vmap", "loop"),
               "evaluation.code_view": ("pca", "tsne"),
               "evaluation.corruption": ("none", "gaussian", "masking")}  # fmt: skip
    for name, known in choices.items():
        if (value := field(config, name)) not in known:
            raise InputError(f"{name} is {value!r}; it must be one of {', '.join(known)}")


def check_padding(config: ml_collections.ConfigDict, density: str) -> None:
    """Raises InputError where a model holds a density ("exact" or "bound") and its images would be padded."""
    if density in ("exact", "bound") and config.data.padding:
        raise InputError(
            f"data.padding is {config.data.padding}; it must be 0 for a density, whose nats and bits per dimension are "
            "of the images' own pixels"
        )


def at_least(config: ml_collections.ConfigDict, least: dict[str, int]) -> None:
    """Raises InputError for a field, or an element of a tuple, that is smaller than it can be."""
    for name, minimum in least.items():
        value = field(config, name)
        if any(element < minimum for element in known(value)):
            raise InputError(f"{name} is {value}; it must be at least {minimum}")


def positive(config: ml_collections.ConfigDict, *names: str) -> None:
    """Raises InputError for a field that is not positive."""
    for name in names:
        if any(element <= 0 for element in known(field(config, name))):
            raise InputError(f"{name} is {field(config, name)}; it must be positive")


def known(value: Any) -> tuple[Any, ...]:
    """The numbers of a field; none of one that is traced, whose values were checked before, member by member."""
    if isinstance(value, Tracer):
        return ()
    return value if isinstance(value, tuple) else (value,)


def field(config: ml_collections.ConfigDict, name: str) -> Any:
    """The value of a dotted name; InputError if the config has no such field."""
    try:
        return functools.reduce(lambda block, part: block[part], name.split("."), config)
    except KeyError:
        raise InputError(f"this experiment needs a config with {name}; the one given is of another family") from None


def choose(name: str, value: str, options: dict[str, Any]) -> Any:
    """options[value], or one line that lists what is known."""
    if value not in options:
        raise InputError(f"{name} is {value!r}; known: {', '.join(options)}")
    return options[value]
