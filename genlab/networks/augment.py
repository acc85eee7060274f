"""Augmentations that gradients pass through: both real and generated images go through them, at every update.

A discriminator with few real images learns them by heart. Shown only augmented ones, and the generator's gradient taken
through the same augmentations, it sees more images without the generator learning to make augmented ones.

Reference: Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training".
"""

import jax
import jax.numpy as jnp

from genlab.errors import InputError

Array = jax.Array
Key = jax.Array


def differentiable_augment(key: Key, x: Array, kinds: tuple[str, ...], fill: float = 0.0) -> Array:
    """Augments every image by draws of its own, kind after kind in the order given.

    Args:
        key: of the draws.
        x: f[B, H, W, C]; the strengths are meant for a range of [-1, 1]. Nothing is clipped to it.
        kinds: any of
            "color"        adds U[-0.5, 0.5) to the image, then moves each pixel's channels to or from their mean by a
                           factor U[0, 2) (saturation), then the image to or from its mean by U[0.5, 1.5) (contrast);
            "translation"  moves the image by whole pixels, uniform over -s..s in each direction, s an eighth of the
                           side (rounded, half up);
            "cutout"       covers a square of half the side (rounded, half up) around a uniform centre; what of it is
                           outside the image is lost.
        fill: the value of what translation moves in and of what cutout covers. The authors' code has 0, grey; where
            the background has a colour, such as -1, that leaves fewer traces.

    Returns:
        f[B, H, W, C], differentiable in x any number of times; affine in it, and linear for a fill of 0 without
        "color".

    Raises:
        InputError: a kind is not known.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise InputError(f"unknown augmentation {kind!r}; known: {', '.join(KINDS)}")
    if kinds and x.ndim != 4:
        raise ValueError(f"images are [B, H, W, C], not {x.shape}")
    for number, kind in enumerate(kinds):
        x = KINDS[kind](jax.random.fold_in(key, number), x, fill)
    return x


def _color(key: Key, x: Array, fill: float) -> Array:
    uniform = jax.random.uniform(key, (3, x.shape[0], 1, 1), x.dtype)
    brightness, saturation, contrast = uniform[0] - 0.5, 2 * uniform[1], uniform[2] + 0.5
    # XLA's CPU compiler takes 5 times as long over a last axis of 3 channels as over 3 arrays
    channels = [x[..., channel] for channel in range(x.shape[-1])]
    grey = sum(channels[1:], channels[0]) / len(channels)  # [B, H, W]
    mean = jnp.mean(grey, axis=(1, 2), keepdims=True)
    # brightness moves both means by itself, and saturation moves neither: the three steps come down to one
    common = contrast * (1 - saturation) * grey + (1 - contrast) * mean + brightness
    return jnp.stack([contrast * saturation * channel + common for channel in channels], axis=-1)


def _translation(key: Key, x: Array, fill: float) -> Array:
    most = jnp.array([(side + 4) // 8 for side in x.shape[1:3]])  # round(side / 8)
    shifts = jax.random.randint(key, (x.shape[0], 2), -most, most + 1)
    return _shift(x - fill, shifts) + fill


@jax.custom_vjp
def _shift(x: Array, shifts: Array) -> Array:
    """Moves images [B, H, W, C] down and right by whole pixels i32[B, 2], at most an eighth; zeros come in."""
    most = [(side + 4) // 8 for side in x.shape[1:3]]
    padded = jnp.pad(x, ((0, 0), (most[0], most[0]), (most[1], most[1]), (0, 0)))
    starts = jnp.array(most) - shifts
    return jax.vmap(lambda image, start: jax.lax.dynamic_slice(image, (*start, 0), x.shape[1:]))(padded, starts)


def _shift_backward(shifts: Array, cotangent: Array) -> tuple[Array, None]:
    # a shift's transpose is the shift back: a gather again, where autodiff of one is a scatter
    return _shift(cotangent, -shifts), None


_shift.defvjp(lambda x, shifts: (_shift(x, shifts), shifts), _shift_backward)


def _cutout(key: Key, x: Array, fill: float) -> Array:
    covered = []
    for side, key_side in zip(x.shape[1:3], jax.random.split(key), strict=True):
        size = (side + 1) // 2  # round(side / 2)
        # centres of an even square are between pixels, the image's borders among them, as in the authors' code
        centre = jax.random.randint(key_side, (x.shape[0], 1), 0, side + 1 - size % 2)
        offset = jnp.arange(side) - (centre - size // 2)  # [B, side], from where the square begins
        covered.append((offset >= 0) & (offset < size))
    rows, columns = covered
    square = rows[:, :, None, None] & columns[:, None, :, None]  # [B, H, W, 1]
    return jnp.where(square, jnp.asarray(fill, x.dtype), x)


KINDS = {"color": _color, "translation": _translation, "cutout": _cutout}
