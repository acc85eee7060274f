"""Ways from one code to another, and how real the example half-way is."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from genlab.algorithm import Algorithm, Array, State
from genlab.errors import InputError
from genlab.evaluation.held_out import mean_and_error, over_split

Number = dict[str, Any]
Split = Mapping[str, Any]

QUERIES_PER_CHUNK = 200  # whose distances to all training examples are in memory together


@jax.jit
def linear(a: ArrayLike, b: ArrayLike, weights: ArrayLike) -> Array:
    """The straight line (1 - t) a + t b.

    Args:
        a, b: f32[N, D], where it begins and ends.
        weights: f32[T], the t, in [0, 1].

    Returns:
        f32[N, T, D].
    """
    a, b, t = ends_and_weights(a, b, weights)
    return (1.0 - t) * a + t * b


@jax.jit
def spherical(a: ArrayLike, b: ArrayLike, weights: ArrayLike) -> Array:
    """The great circle: the direction turns at constant speed, while the length changes linearly.

    Of vectors of equal length it is Shoemake's slerp. White applies that formula to unequal ones too; there the length
    between is not bounded by those of the ends, here it is. Codes of a Gaussian prior in many dimensions have nearly
    the same length, which a straight line leaves and this way keeps.

    Args:
        a, b: f32[N, D], where it begins and ends. Between opposite ones, where every great circle is as short, it
            takes the one towards the axis that a is least along (in one dimension through zero); from or to zero,
            which has no direction, the straight line.
        weights: f32[T], the t, in [0, 1].

    Returns:
        f32[N, T, D].

    Reference: Shoemake 1985, "Animating rotation with quaternion curves"; White 2016, "Sampling generative networks".
    """
    a, b, t = ends_and_weights(a, b, weights)
    (unit_a, length_a), (unit_b, length_b) = unit_and_length(a), unit_and_length(b)
    unit_a, unit_b = jnp.where(length_a > 0, unit_a, unit_b), jnp.where(length_b > 0, unit_b, unit_a)
    cosine = jnp.sum(unit_a * unit_b, axis=-1, keepdims=True)
    across, sine = unit_and_length(perpendicular(unit_b, unit_a))
    angle = jnp.arctan2(sine, cosine)  # exact where arccos is not, near 0 and pi
    axis = jax.nn.one_hot(jnp.argmin(jnp.abs(unit_a), axis=-1), a.shape[-1])
    across = jnp.where(sine > 1e-6, across, perpendicular(axis, unit_a))
    across, _ = unit_and_length(
        perpendicular(across, unit_a)
    )  # twice: once leaves rounding of the size of a small sine
    return ((1.0 - t) * length_a + t * length_b) * (jnp.cos(t * angle) * unit_a + jnp.sin(t * angle) * across)


def unit_and_length(vectors: Array) -> tuple[Array, Array]:
    """f32[..., D] of length one, zeros staying zero, and the lengths f32[..., 1]."""
    length = jnp.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / jnp.where(length > 0, length, 1.0), length


def perpendicular(vectors: Array, unit: Array) -> Array:
    """What of vectors f32[..., D] is perpendicular to these of length one."""
    return vectors - jnp.sum(vectors * unit, axis=-1, keepdims=True) * unit


def ends_and_weights(a: ArrayLike, b: ArrayLike, weights: ArrayLike) -> tuple[Array, Array, Array]:
    """f32[N, 1, D] twice and f32[T, 1]; InputError where they do not fit."""
    a, b, weights = (jnp.asarray(values, jnp.float32) for values in (a, b, weights))
    if a.ndim != 2 or a.shape != b.shape or weights.ndim != 1:
        raise InputError(
            f"ways between codes take two arrays [N, D] and weights [T]; got {a.shape}, {b.shape}, {weights.shape}"
        )
    return a[:, None], b[:, None], weights[:, None]


PATHS = {"linear": linear, "spherical": spherical}


def midpoint_distances(
    algorithm: Algorithm,
    state: State,
    train: Split,
    test: Split,
    seen: Split,
    prepare: Callable[[Any], Any],
    features: Callable[[Array], Array],
    key: jax.Array,
    batch_size: int,
    *,
    num_pairs: int = 500,
    extractor: str = "features",
) -> dict[str, Number] | None:
    """How far the example half-way between two of different classes lies from the nearest real one.

    Half-way is decode((z_i + z_j) / 2), or the middle of the great circle, or the blend of pixels (x_i + x_j) / 2. All
    are grey and are compared with the same grey training images. What the decoder's own blur or polish adds is not
    taken off: `reconstruction_distance` shows it, the distance of decode(z_i).

    Args:
        algorithm, state: the model.
        train, test: raw images as stored, grey; test with labels.
        seen: the test images as the encoder was trained to see them, in the same order.
        prepare: raw batch -> batch.
        features: images f32[B, H, W, C] in [0, 1] -> f32[B, F]; distances are Euclidean in F.
        key: of the choice of pairs and of the model's draws.
        batch_size: examples in a chunk.
        num_pairs: at most; no test image begins two pairs.
        extractor: what the features are, for the protocol.

    Returns:
        The mean distance to the nearest training example of `linear_midpoint_distance`,
        `spherical_midpoint_distance`, `pixel_midpoint_distance`, `reconstruction_distance` and `real_distance` (x_i
        itself, a floor); and of either path `<path>_reduction`, 1 - latent / pixel, its standard error by the delta
        method over pairs. None without encode, decode or labels.

    Raises:
        InputError: fewer than two classes, or no pair asked for.
    """
    encode, decode = algorithm.encode, algorithm.decode
    if encode is None or decode is None or "label" not in test:
        return None
    key_pairs, key_encode, key_decode = jax.random.split(key, 3)
    labels = np.asarray(test["label"][np.arange(len(test["label"]))])
    first, second = different_pairs(labels, num_pairs, key_pairs)
    x_i, x_j = (np.asarray(prepare({"x": np.asarray(test["x"][index])})["x"]) for index in (first, second))
    z_i, z_j = (
        over_split(encode, prepare, batch_size)(
            state, {name: np.asarray(values[index]) for name, values in seen.items()}, key_encode
        )
        for index in (first, second)
    )
    decode_all = over_split(lambda state, batch, key: decode(state, batch["x"], key), lambda raw: raw, batch_size)
    half = np.array([0.5], np.float32)
    codes = {f"{name}_midpoint": np.asarray(path(z_i, z_j, half))[:, 0] for name, path in PATHS.items()}
    decoded = {name: decode_all(state, {"x": z}, key_decode) for name, z in (codes | {"reconstruction": z_i}).items()}

    extract = over_split(lambda _, batch, key: features(batch["x"]), prepare, batch_size)
    real = extract(None, {"x": train["x"]}, key_decode)
    images = decoded | {"pixel_midpoint": (x_i + x_j) / 2, "real": x_i}
    distances = {name: nearest(extract(None, {"x": each}, key_decode), real) for name, each in images.items()}
    protocol = {"split": "test", "n": len(first), "n_train": len(real), "extractor": extractor}
    block = {
        f"{name}_distance": {
            **with_error(*mean_and_error(each)),
            "estimator": "to the nearest training image",
            **protocol,
        }
        for name, each in distances.items()
    }
    for name in PATHS:
        ratio = relative_reduction(distances[f"{name}_midpoint"], distances["pixel_midpoint"])
        estimator = "1 - latent / pixel, of mean distances; error by the delta method over pairs"
        block[f"{name}_reduction"] = {**with_error(*ratio), "estimator": estimator, **protocol}
    return block


def different_pairs(labels: np.ndarray, num: int, key: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Indices i64[n] twice, of examples of different classes; n = min(num, N) and no example comes first twice.

    Args:
        labels: i[N].
        num: pairs, at least 1.
        key: of the choice.

    Raises:
        InputError: fewer than two classes, or num < 1.
    """
    values, counts = np.unique(labels, return_counts=True)
    if len(values) < 2 or num < 1:
        raise InputError(f"pairs of different classes want 2 classes and 1 pair at least; got {len(values)} and {num}")
    key_first, key_second = jax.random.split(key)
    first = np.asarray(jax.random.permutation(key_first, len(labels)))[:num]
    by_class = np.argsort(labels, kind="stable")
    position = np.searchsorted(values, labels[first])
    begins, own = (np.cumsum(counts) - counts)[position], counts[position]
    uniform = np.asarray(jax.random.uniform(key_second, (len(first),)), np.float64)
    rank = np.floor(uniform * (len(labels) - own)).astype(np.int64)  # among the others, in the order of classes
    return first, by_class[rank + np.where(rank >= begins, own, 0)]


def nearest(queries: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Euclidean distance f64[N] of each of f[N, F] to the nearest of f[M, F]."""
    norms = np.square(real).sum(axis=1)
    distances = []
    for begin in range(0, len(queries), QUERIES_PER_CHUNK):
        some = queries[begin : begin + QUERIES_PER_CHUNK]
        # |q - r|^2 - |q|^2 is enough to find it; the distance itself would cancel
        found = np.argmin(norms - 2.0 * some @ real.T, axis=1)
        distances.append(np.linalg.norm(some.astype(np.float64) - real[found], axis=1))
    return np.concatenate(distances)


def relative_reduction(distances: np.ndarray, baseline: np.ndarray) -> tuple[float, float]:
    """1 - mean(distances) / mean(baseline) of paired f[N], and its standard error to first order."""
    ratio = distances.mean() / baseline.mean()
    _, error = mean_and_error((distances - ratio * baseline) / baseline.mean())
    return float(1.0 - ratio), error


def with_error(value: float, error: float) -> Number:
    """A number of the card; one pair has no error."""
    return {"value": value, "standard_error": error if np.isfinite(error) else None}
