"""Linen modules as pure functions of (params, stats).

`stats` are all variable collections but "params": batch statistics, spectral-norm vectors.
"""

import inspect
from typing import Any

import flax.linen as nn
import jax

Array = jax.Array
PyTree = Any


def takes_train(module: nn.Module) -> bool:
    """Whether the module's call distinguishes training from evaluation (batch norm)."""
    return "train" in inspect.signature(type(module).__call__).parameters


def init(module: nn.Module, key: Array, *args: Any) -> tuple[PyTree, PyTree]:
    """(params, stats) of a module for arguments like these."""
    variables = dict(module.init(key, *args))
    return variables.pop("params", {}), variables


def apply(module: nn.Module, params: PyTree, stats: PyTree, *args: Any, train: bool = False) -> tuple[Any, PyTree]:
    """The module's output and its stats afterwards, which differ from `stats` only in training."""
    options: dict[str, Any] = {"train": train} if takes_train(module) else {}
    if train and stats:
        return module.apply({"params": params, **stats}, *args, mutable=list(stats), **options)
    return module.apply({"params": params, **stats}, *args, **options), stats
