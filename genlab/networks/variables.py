"""Linen modules as pure functions of (params, stats).

`stats` are all variable collections but "params": batch statistics, spectral-norm vectors.
"""

import inspect
from typing import Any

import flax.linen as nn
import jax

Array = jax.Array
PyTree = Any


def takes_train(module: nn.Module, method: str = "__call__") -> bool:
    """Whether a method of the module distinguishes training from evaluation (batch norm)."""
    return "train" in inspect.signature(getattr(type(module), method)).parameters


def init(module: nn.Module, key: Array, *args: Any) -> tuple[PyTree, PyTree]:
    """(params, stats) of a module for arguments like these."""
    variables = dict(module.init(key, *args))
    return variables.pop("params", {}), variables


def apply(
    module: nn.Module, params: PyTree, stats: PyTree, *args: Any, train: bool = False, method: str = "__call__"
) -> tuple[Any, PyTree]:
    """What one of the module's methods gives, and its stats afterwards, which differ from `stats` only in training."""
    options: dict[str, Any] = {"method": method}
    if takes_train(module, method):
        options["train"] = train
    if train and stats:
        return module.apply({"params": params, **stats}, *args, mutable=list(stats), **options)
    return module.apply({"params": params, **stats}, *args, **options), stats
