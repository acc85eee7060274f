"""What a code keeps of an example, beside what as many principal components keep; and how few of its units it uses."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from genlab.algorithm import Algorithm, State
from genlab.evaluation.held_out import mean_and_error, over_split

Number = dict[str, Any]
Split = Mapping[str, Any]

MAX_PCA_EXAMPLES = 60_000  # of the training split, from which PCA is fitted
MAX_PCA_BYTES = 1 << 30  # of them in float32
MAX_CURVE_SIZE = 300  # of the codes of which PCA's errors are measured, one by one
ACTIVE = 0.01  # of a unit's largest activation: what is above counts as active
CHUNK = 1_000  # examples projected at a time


class Compression(NamedTuple):
    """What was measured of a code.

    Attributes:
        block: the card's numbers.
        pca_mse: f64[min(300, N, D) + 1], PCA's error per dimension on the test split, by the size of its code from 0.
    """

    block: dict[str, Number]
    pca_mse: np.ndarray


class Components(NamedTuple):
    """Principal components, fitted once for all sizes of a code.

    Attributes:
        mean: f64[D].
        directions: f64[D, K], orthonormal columns, the largest variance first.
    """

    mean: np.ndarray
    directions: np.ndarray


def compress(
    algorithm: Algorithm,
    state: State,
    train: Split,
    test: Split,
    prepare: Callable[[Any], Any],
    key: jax.Array,
    batch_size: int,
) -> Compression | None:
    """Reconstruction error on the test split, of decode(encode(x)) and of PCA with as many numbers in its code.

    Where codes are activations, see `are_activations`, it is also counted how many units an example uses, and PCA is
    measured with that many components. They are the same ones for every example, while a sparse code chooses its units
    for each; that choice is not counted as part of the code.

    Args:
        algorithm, state: the model.
        train, test: raw examples as the model was trained to see them. PCA is fitted on the first
            `num_pca_examples` of train.
        prepare: raw batch -> batch.
        key: of the encoder's and the decoder's draws.
        batch_size: examples in a chunk.

    Returns:
        The block has `reconstruction_mse` and `pca_mse`, averaged over the numbers of an example, and
        `compression_ratio`, how many numbers of an example there are for one of its code, whatever that is made of:
        indices and bits count like any other. Of activations also `active_units`, `mean_activation` and
        `pca_mse_active_units`. None without encode and decode, and for a flow, whose codes are its examples.
    """
    encode = algorithm.encode
    if encode is None or algorithm.decode is None:
        return None
    raw = {name: np.asarray(values[:1]) for name, values in test.items()}
    code = jax.eval_shape(lambda state, raw: encode(state, prepare(raw), key), state, raw)
    if algorithm.density == "exact" and code.shape[1] == math.prod(np.shape(test["x"])[1:]):
        return None
    squared, codes = over_split(reconstruct(algorithm), prepare, batch_size)(state, test, key)
    code_size, num_dims = codes.shape[1], math.prod(np.shape(test["x"])[1:])
    num_train = min(len(train["x"]), num_pca_examples(num_dims))
    fitted = flat(np.asarray(prepare({"x": np.asarray(train["x"][np.arange(num_train)])})["x"]))
    most = min(fitted.shape)
    components = principal_components(fitted, min(most, max(code_size, MAX_CURVE_SIZE)))
    protocol = {"split": "test", "n": len(squared), "unit": f"per dimension, {num_dims} dimensions"}
    block = {"reconstruction_mse": {
        **valued(squared / num_dims), "code_size": code_size, "estimator": "decoded codes of the examples", **protocol,
    }}  # fmt: skip
    sparse = sparsity(codes) if are_activations(codes) else {}
    sizes = {"pca_mse": min(most, code_size)}
    if sparse:
        sizes["pca_mse_active_units"] = min(most, math.ceil(sparse["active_units"]["value"]))
    curve = range(min(most, MAX_CURVE_SIZE) + 1)
    errors = pca_errors(components, test, prepare, [*curve, *sizes.values()])
    baselines = {
        name: {
            **valued(theirs), "code_size": size, "estimator": "principal components", "n_train": num_train, **protocol,
        }
        for (name, size), theirs in zip(sizes.items(), errors[len(curve) :], strict=True)
    }  # fmt: skip
    block["pca_mse"] = baselines.pop("pca_mse")
    block["compression_ratio"] = {
        "value": num_dims / code_size, "code_size": code_size, "of": f"{num_dims} numbers of an example",
    }  # fmt: skip
    return Compression({**block, **sparse, **baselines}, errors[: len(curve)].mean(axis=1))


def reconstruct(algorithm: Algorithm) -> Callable[[State, Any, jax.Array], tuple[jax.Array, jax.Array]]:
    """(state, batch, key) -> |x - decode(encode(x))|^2 f32[B], summed over the event, and the codes f32[B, D]."""
    encode, decode = algorithm.encode, algorithm.decode
    assert encode is not None and decode is not None

    def error_and_codes(state: State, batch: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        key_encode, key_decode = jax.random.split(key)
        codes = encode(state, batch, key_encode)
        difference = flat(decode(state, codes, key_decode)) - flat(batch["x"])
        return (difference * difference).sum(axis=1), codes

    return error_and_codes


def reconstruction_error(
    algorithm: Algorithm,
    state: State,
    split: Split,
    prepare: Callable[[Any], Any],
    key: jax.Array,
    batch_size: int,
) -> np.ndarray:
    """|x - decode(encode(x))|^2 of every example of a raw split, f32[N], summed over the event."""
    both = reconstruct(algorithm)
    return over_split(lambda *call: both(*call)[0], prepare, batch_size)(state, split, key)


def are_activations(codes: np.ndarray) -> bool:
    """Whether codes f[N, D] say how active units are: never negative, as of relu, sigmoid or bits, and no indices."""
    largest, whole = codes.max(axis=0), (codes == np.round(codes)).all(axis=0)
    return bool((codes >= 0).all() and not (whole & (largest > 1)).any())  # a whole number beyond 1 is an index


def sparsity(codes: np.ndarray) -> dict[str, Number]:
    """How many units of a code an example uses, and how much.

    A unit is active where it exceeds 0.01 of its largest activation over these examples. So units of any scale count
    alike, of relu and of sigmoid, and a unit that is always the same counts as always active, unless it is zero: a code
    is rather taken to be less sparse than it is.

    Args:
        codes: f[N, D] >= 0.

    Returns:
        `active_units` of an example, of D, and `mean_activation` over units and examples, with how far the means of
        single units lie from it.
    """
    largest = codes.max(axis=0, initial=0.0)
    active = np.count_nonzero(codes > ACTIVE * largest, axis=1)
    deviations = np.abs(codes.mean(axis=0, dtype=np.float64) - codes.mean(dtype=np.float64))
    protocol = {"split": "test", "n": len(codes), "code_size": codes.shape[1]}
    return {
        "active_units": {
            **valued(active), "estimator": f"units above {ACTIVE:g} of their largest activation on the split",
            "never_active": int(np.count_nonzero(largest == 0)), **protocol,
        },
        "mean_activation": {
            **valued(codes.mean(axis=1, dtype=np.float64)), "estimator": "mean over units and examples",
            "units_above_it": float(np.count_nonzero(codes > codes.mean(dtype=np.float64)) / len(codes)),
            "mean_deviation_of_a_unit": float(deviations.mean()),
            "largest_deviation_of_a_unit": float(deviations.max()), **protocol,
        },
    }  # fmt: skip


def num_pca_examples(num_dims: int) -> int:
    """How many examples of so many dimensions PCA is fitted on, at most: 60,000, or what a gibibyte holds."""
    return min(MAX_PCA_EXAMPLES, max(1, MAX_PCA_BYTES // (4 * num_dims)))


def principal_components(train: np.ndarray, num: int) -> Components:
    """The first `num` principal components of f32[N, D], num <= min(N, D)."""
    from sklearn.decomposition import PCA
    from threadpoolctl import threadpool_limits

    # randomized leaves 1 % more error in the last of 300 components: only where the exact fit would take minutes
    exact = train.shape[1] <= 1_000
    principal = PCA(num, svd_solver="covariance_eigh" if exact else "auto", iterated_power=7, random_state=0)
    with threadpool_limits(1 if exact else None):  # so small a matrix takes 0.4 s; 15 s by threads that share cores
        principal.fit(train)
    # orthonormal to float64, so that errors are differences of squares; leading columns span what they did
    return Components(principal.mean_.astype(np.float64), np.linalg.qr(principal.components_.T.astype(np.float64))[0])


def pca_errors(components: Components, split: Split, prepare: Callable[[Any], Any], sizes: Sequence[int]) -> np.ndarray:
    """Squared error per dimension that PCA leaves of every example of a raw split, f64[len(sizes), N].

    Args:
        components: the fit.
        split: raw examples.
        prepare: raw batch -> batch.
        sizes: of the code, each from 0, the mean alone, to K.
    """
    chunks = []
    for first in range(0, len(split["x"]), CHUNK):
        rows = np.arange(first, min(first + CHUNK, len(split["x"])))
        x = flat(np.asarray(prepare({"x": np.asarray(split["x"][rows])})["x"])).astype(np.float64)
        centred = x - components.mean
        # |x - U U'x|^2 = |x|^2 - |U'x|^2, for all sizes at once
        kept = np.cumsum(np.square(centred @ components.directions), axis=1)
        kept = np.concatenate([np.zeros((len(kept), 1)), kept], axis=1)
        left = np.square(centred).sum(axis=1, keepdims=True) - kept[:, list(sizes)]
        chunks.append(np.maximum(left, 0.0).T / x.shape[1])
    return np.concatenate(chunks, axis=1)


def valued(values: np.ndarray) -> Number:
    """The mean over examples, and its standard error."""
    value, error = mean_and_error(values)
    return {"value": value, "standard_error": error}


def flat(array: Any) -> Any:
    """[B, ...] -> [B, D]."""
    return array.reshape(array.shape[0], math.prod(array.shape[1:]))
