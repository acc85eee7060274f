"""What an autoencoder takes away of a corruption, beside what a filter does that has learnt nothing."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from genlab.algorithm import Algorithm, State
from genlab.evaluation.compression import flat, valued
from genlab.evaluation.held_out import over_split

Number = dict[str, Any]
Split = Mapping[str, Any]
Prepare = Callable[[Any], Any]
Corrupt = Callable[[jax.Array, jax.Array], jax.Array]  # (key, x [B, H, W, C]) -> x~ of x's shape

Filter = tuple[str, float]  # its kind, and its width in pixels: the standard deviation, or the side of the window
FILTERS: tuple[Filter, ...] = (
    *(("gaussian", sigma) for sigma in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2, 1.5, 2.0)),
    *(("median", side) for side in (2, 3, 5)),
)
MAX_CHOSEN_ON = 1_000  # validation images
CHUNK = 1_000  # images filtered at a time


def denoising_block(
    algorithm: Algorithm,
    state: State,
    validation: Split,
    test: Split,
    corrupt: Corrupt,
    prepare: Prepare,
    key: jax.Array,
    batch_size: int,
    corruption: str,
) -> dict[str, Number] | None:
    """Squared error to the clean test images that a corruption leaves: after the model, after a filter, after nothing.

    Args:
        algorithm, state: the model.
        validation, test: raw images, as the model was trained to see them.
        corrupt: (key, x) -> x~, of prepared images, see `corrupted`.
        prepare: raw batch -> batch.
        key: of the corruptions, and of the encoder's and the decoder's draws.
        batch_size: examples in a chunk.
        corruption: its name and level, for the protocol.

    Returns:
        Averaged over the numbers of an image, `denoised_mse` of decode(encode(x~)), `corrupted_mse` of x~ itself, and
        `filter_mse` of the Gaussian or median filter that was the best on the first 1,000 validation images, corrupted
        alike. Without validation images there is nothing to choose a filter on, and it is left out. None without encode
        and decode, and for data that are no images.
    """
    encode, decode = algorithm.encode, algorithm.decode
    if encode is None or decode is None or np.ndim(test["x"]) != 4:
        return None
    key_test, key_validation, key_model = jax.random.split(key, 3)

    def errors(state_and_key: Any, batch: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        state, key_corrupt = state_and_key
        key_encode, key_decode = jax.random.split(key)
        noisy = corrupted(corrupt, key_corrupt, batch)
        restored = decode(state, encode(state, {**batch, "x": noisy}, key_encode), key_decode)
        return squared_error(restored, batch["x"]), squared_error(noisy, batch["x"])

    prepare = with_numbers(prepare)
    num_dims = math.prod(np.shape(test["x"])[1:])
    denoised, untouched = over_split(errors, prepare, batch_size)((state, key_test), numbered(test), key_model)
    protocol = {
        "split": "test", "n": len(denoised), "unit": f"per dimension, {num_dims} dimensions", "corruption": corruption,
    }  # fmt: skip
    block = {
        "denoised_mse": {
            **valued(denoised / num_dims), "estimator": "decoded codes of corrupted images, to the clean ones",
            **protocol,
        },
        "corrupted_mse": {
            **valued(untouched / num_dims), "estimator": "corrupted images as they are, to the clean ones", **protocol,
        },
    }  # fmt: skip
    num_chosen_on = min(len(validation["x"]), MAX_CHOSEN_ON)
    if num_chosen_on:
        chosen_on = {name: values[np.arange(num_chosen_on)] for name, values in validation.items()}
        images = over_split(
            lambda key, batch, unused: (batch["x"], corrupted(corrupt, key, batch)), prepare, batch_size
        )
        trials = filter_errors(FILTERS, chosen_on, images, key_validation)
        kind, width = best = FILTERS[int(np.argmin(trials.mean(axis=1)))]
        (left,) = filter_errors([best], test, images, key_test)
        block["filter_mse"] = {
            **valued(left / num_dims),
            "estimator": f"{kind} filter, {'sigma' if kind == 'gaussian' else 'side'} {width:g} pixels, clipped, "
            f"the best of {len(FILTERS)} on {num_chosen_on:,} validation images",
            **protocol,
        }
    return block


def corrupted(corrupt: Corrupt, key: jax.Array, batch: Any) -> jax.Array:
    """The images of a batch, each corrupted by a draw of its own.

    Example i has the key fold_in(key, i): its corruption depends neither on the batch it is in nor on the model.

    Args:
        corrupt: (key, x) -> x~.
        key: of the split.
        batch: "x" f32[B, ...] and "number" u32[B], the examples' places in the split.
    """
    one = lambda number, x: corrupt(jax.random.fold_in(key, number), x[None])[0]
    return jax.vmap(one)(batch["number"], batch["x"])


def numbered(split: Split) -> dict[str, Any]:
    """The split with a column of the examples' places in it."""
    return {**split, "number": np.arange(len(split["x"]), dtype=np.uint32)}


def with_numbers(prepare: Prepare) -> Prepare:
    """The same for raw batches that are numbered."""

    def prepare_numbered(raw: Any) -> Any:
        return {**prepare({name: values for name, values in raw.items() if name != "number"}), "number": raw["number"]}

    return prepare_numbered


def filter_errors(
    filters: Sequence[Filter], split: Split, images: Callable[..., tuple[np.ndarray, np.ndarray]], key: jax.Array
) -> np.ndarray:
    """Squared error to the clean images of a raw split that each filter leaves, f64[len(filters), N], summed.

    Args:
        filters: kinds and widths.
        split: raw images.
        images: (key of the corruptions, numbered split, unused key) -> clean and corrupted images.
        key: of the corruptions.
    """
    errors = []
    for part in parts(numbered(split), CHUNK):
        clean, noisy = images(key, part, key)
        errors.append(np.stack([squared_error(filtered(noisy, each), clean) for each in filters]))
    return np.concatenate(errors, axis=1).astype(np.float64)


def parts(split: Split, size: int) -> Iterator[dict[str, Any]]:
    """A split cut into parts of so many examples, the last of what is left."""
    for first in range(0, len(split["x"]), size):
        rows = np.arange(first, min(first + size, len(split["x"])))
        yield {name: values[rows] for name, values in split.items()}


def filtered(images: np.ndarray, by: Filter) -> np.ndarray:
    """f[N, H, W, C], each channel of each image filtered over its height and width, and clipped to [0, 1].

    Borders are mirrored. Clipped, since a model knows the range of its data too.
    """
    from scipy import ndimage

    kind, width = by
    if kind == "gaussian":
        smooth = ndimage.gaussian_filter(images, (0, width, width, 0))
    else:
        smooth = ndimage.median_filter(images, size=(1, int(width), int(width), 1))
    return np.clip(smooth, 0.0, 1.0)


def squared_error(ours: Any, clean: Any) -> Any:
    """[B, ...], twice -> [B], summed over the event."""
    difference = flat(ours) - flat(clean)
    return (difference * difference).sum(axis=1)
