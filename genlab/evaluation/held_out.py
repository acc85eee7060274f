"""Applying a function of a batch to a whole split, in chunks of one shape."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

PyTree = Any
Split = Mapping[str, Any]  # "x": [N, ...], "label": [N]; anything that can be indexed by an array of ints


def over_split(
    function: Callable[[Any, Any, jax.Array], PyTree],
    prepare: Callable[[Any], Any],
    batch_size: int,
    show: Callable[[int], None] = lambda done: None,
) -> Callable[[Any, Split, jax.Array], PyTree]:
    """Compiles (state, batch, key) -> [B, ...] once and maps it over splits.

    The last chunk is padded and its padding cut off, so that each example counts exactly once; chunk i gets
    the key fold_in(key, i).

    Args:
        function: one of an Algorithm's, such as `evaluate` or `log_prob`; any pytree of arrays [B, ...].
        prepare: raw batch -> batch.
        batch_size: examples in a chunk.
        show: told after every chunk how many examples are done.

    Returns:
        (state, split, key) -> the pytree with numpy leaves [N, ...].
    """
    compiled = jax.jit(lambda state, raw, key: function(state, prepare(raw), key))

    def apply(state: Any, split: Split, key: jax.Array) -> PyTree:
        num_examples = len(split["x"])
        chunks = []
        for number, first in enumerate(range(0, num_examples, batch_size)):
            index = np.minimum(np.arange(first, first + batch_size), num_examples - 1)
            raw = {name: np.asarray(values[index]) for name, values in split.items()}
            kept = min(batch_size, num_examples - first)
            result = jax.device_get(compiled(state, raw, jax.random.fold_in(key, number)))
            chunks.append(jax.tree.map(lambda leaf, kept=kept: leaf[:kept], result))
            show(first + kept)
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *chunks)

    return apply


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """The mean over examples and its standard error (sample standard deviation, ddof 1, over root n)."""
    values = np.asarray(values, np.float64)
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return float(values.mean()), float(error)
