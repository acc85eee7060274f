"""What a code keeps of an example, beside what as many principal components keep."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from genlab.algorithm import Algorithm, State
from genlab.evaluation.held_out import mean_and_error, over_split

Number = dict[str, Any]
Split = Mapping[str, Any]

MAX_PCA_BYTES = 1 << 30  # of training examples in float32, from which PCA is fitted


def compression_block(
    algorithm: Algorithm,
    state: State,
    train: Split,
    test: Split,
    prepare: Callable[[Any], Any],
    key: jax.Array,
    batch_size: int,
) -> dict[str, Number] | None:
    """Reconstruction error on the test split, of decode(encode(x)) and of PCA with as many numbers in its code.

    Args:
        algorithm, state: the model.
        train, test: raw examples as the model was trained to see them. PCA is fitted on all of train, or on the first
            gibibyte of it.
        prepare: raw batch -> batch.
        key: of the encoder's and the decoder's draws.
        batch_size: examples in a chunk.

    Returns:
        `reconstruction_mse` and `pca_mse`, averaged over the numbers of an example, and `compression_ratio`, how many
        numbers of an example there are for one of its code, whatever that is made of: indices and bits count like any
        other. None without encode and decode.
    """
    if algorithm.encode is None or algorithm.decode is None:
        return None
    prepared = jax.eval_shape(prepare, {"x": np.asarray(test["x"][:1])})["x"]
    num_dims = math.prod(prepared.shape[1:])
    code_size = code_size_of(algorithm, state, prepare, test, key)
    errors = reconstruction_error(algorithm, state, test, prepare, key, batch_size) / num_dims
    num_train = min(len(train["x"]), max(1, MAX_PCA_BYTES // (4 * num_dims)))
    fitted = flat(prepare({"x": np.asarray(train["x"][np.arange(num_train)])})["x"])
    components = min(code_size, *fitted.shape)
    theirs = pca_error(fitted, flat(prepare({"x": np.asarray(test["x"][np.arange(len(test["x"]))])})["x"]), components)
    protocol = {"split": "test", "n": len(errors), "unit": f"per dimension, {num_dims} dimensions"}
    (ours, our_error), (pca, pca_spread) = mean_and_error(errors), mean_and_error(theirs)
    return {
        "reconstruction_mse": {
            "value": ours, "standard_error": our_error, "code_size": code_size,
            "estimator": "decoded codes of the examples", **protocol,
        },
        "pca_mse": {
            "value": pca, "standard_error": pca_spread, "code_size": components,
            "estimator": "principal components", "n_train": num_train, **protocol,
        },
        "compression_ratio": {
            "value": num_dims / code_size, "code_size": code_size, "of": f"{num_dims} numbers of an example",
        },
    }  # fmt: skip


def reconstruction_error(
    algorithm: Algorithm,
    state: State,
    split: Split,
    prepare: Callable[[Any], Any],
    key: jax.Array,
    batch_size: int,
) -> np.ndarray:
    """|x - decode(encode(x))|^2 of every example of a raw split, f32[N], summed over the event."""
    encode, decode = algorithm.encode, algorithm.decode
    assert encode is not None and decode is not None

    def error(state: State, batch: Any, key: jax.Array) -> jax.Array:
        key_encode, key_decode = jax.random.split(key)
        restored = decode(state, encode(state, batch, key_encode), key_decode)
        difference = flat(restored) - flat(batch["x"])
        return (difference * difference).sum(axis=1)

    return over_split(error, prepare, batch_size)(state, split, key)


def code_size_of(algorithm: Algorithm, state: State, prepare: Callable[[Any], Any], like: Split, key: jax.Array) -> int:
    """D of an algorithm's codes f32[B, D], for examples like these; nothing is computed."""
    encode = algorithm.encode
    assert encode is not None
    raw = {name: np.asarray(values[:1]) for name, values in like.items()}
    return jax.eval_shape(lambda state, raw: encode(state, prepare(raw), key), state, raw).shape[1]


def pca_error(train: np.ndarray, test: np.ndarray, code_size: int) -> np.ndarray:
    """Squared error per dimension that PCA leaves of f32[M, D], f32[M]; fitted on f32[N, D]."""
    from sklearn.decomposition import PCA

    train, test = np.asarray(train), np.asarray(test)
    # exact up to 1,000 dimensions, and wherever most components are kept; randomized beyond
    principal = PCA(code_size, random_state=0).fit(train)
    return np.square(test - principal.inverse_transform(principal.transform(test))).mean(axis=1)


def flat(array: Any) -> Any:
    """[B, ...] -> [B, D]."""
    return array.reshape(array.shape[0], math.prod(array.shape[1:]))
