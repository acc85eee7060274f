"""Pixels as a model wants them: scaled, cropped, binarized."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genlab import draws
from genlab.data.dataset import Split
from genlab.errors import InputError

Array = jax.Array
Key = jax.Array
Batch = Mapping[str, Array]


def prepare(batch: Batch, binarization: str = "none", key: Key | None = None) -> dict[str, Array]:
    """A raw batch as the model sees it; runs inside the compiled step, so that pixels travel as bytes.

    Args:
        batch: "x" is uint8[B, H, W, C], or points, series or text, which pass through as other columns do.
        binarization: "none" divides by 255, so that 255 becomes exactly 1. (mnist.pkl.gz holds k/256, which
            adds 1.3 nats of noise per binarized image.) "dynamic" draws every pixel from Bernoulli(x / 255)
            at every visit.
        key: for "dynamic".

    Returns:
        The batch with x f32, of images in [0, 1].

    Raises:
        InputError: another binarization, or "dynamic" for what is no image.

    Reference: Salakhutdinov & Murray 2008 (dynamic binarization).
    """
    if binarization not in ("none", "dynamic"):
        raise InputError(f"data.binarization is {binarization!r}; it must be 'none' or 'dynamic'")
    x = batch["x"]
    if x.dtype != jnp.uint8:
        if binarization != "none":
            raise InputError(f"data.binarization='{binarization}' needs images; this set holds {x.dtype} values")
        return dict(batch)
    if binarization == "none":
        return {**batch, "x": x.astype(jnp.float32) / 255}
    if key is None:
        raise ValueError("dynamic binarization needs a key")
    return {**batch, "x": _bernoulli(key, x).astype(jnp.float32)}


def _bernoulli(key: Key, x: Array) -> Array:
    """bool[B, ...], true with probability x / 255 to within 2^-17; always true at 255 and never at 0.

    Sixteen random bits a pixel, two pixels a word: `jax.random.bernoulli` spends a word and a conversion to float on
    each. Rows keep their own words, so a sharded batch stays sharded.
    """
    batch_size, size = x.shape[0], int(np.prod(x.shape[1:]))
    words = draws.bits(key, (batch_size, (size + 1) // 2))
    bits = jnp.concatenate([words & jnp.uint32(0xFFFF), words >> 16], axis=1)[:, :size].reshape(x.shape)
    pixel = x.astype(jnp.uint32)
    # round(65536 pixel / 255) = 257 pixel + [pixel >= 128]
    return bits < 257 * pixel + (pixel >> 7)


def fixed_binarization(split: Split, seed: int = 0) -> dict[str, Any]:
    """One frozen binary draw of a split, so that every model is scored on the same binary images.

    It depends on `seed` and the split alone, not on the run's seed nor on the batches it is read in; the first
    rows of a split are drawn as they are in the whole. It is a draw of ours, not Larochelle's published one.

    Args:
        split: "x" is uint8[N, H, W, C].
        seed: of the draw.

    Returns:
        The split with x uint8 in {0, 255}, where 255 has probability exactly x / 255.

    Raises:
        InputError: the split holds points.
    """
    x = np.asarray(split["x"])
    if x.dtype != np.uint8:
        raise InputError(f"binarization needs images; this set holds {x.dtype} values")
    rng = np.random.Generator(np.random.Philox(key=[seed, 0x62696E617279]))
    # 255 equally likely integers, of which x lie below x
    draw = rng.integers(0, 255, size=x.shape, dtype=np.uint8) < x
    return {**split, "x": np.where(draw, np.uint8(255), np.uint8(0))}


def square(image: np.ndarray, size: int) -> np.ndarray:
    """The largest centred square of an image, resized to `size`.

    Args:
        image: uint8[H, W, C], C in {1, 3, 4}.
        size: side of the result, in pixels.

    Returns:
        uint8[size, size, C]; bicubic, antialiased where it shrinks.
    """
    from PIL import Image

    height, width, channels = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    image = image[top : top + side, left : left + side]
    if side == size:
        return image
    picture = Image.fromarray(image[..., 0] if channels == 1 else image)
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC)).reshape(size, size, channels)
