"""Images from elsewhere, which a model of some images should not take for its own."""

import numpy as np

from genlab.errors import InputError


def foreign_sets(images: np.ndarray, num: int = 1_000, seed: int = 0) -> dict[str, np.ndarray]:
    """Sets of foreign images of the shape of these.

    Args:
        images: uint8[N, H, W, C], examples held out of training; the first `num` are altered for some of the sets.
        num: at most so many images a set.
        seed: of all draws, which depend on nothing else but the shapes.

    Returns:
        name -> uint8[n, H, W, C]:

            noise           every value uniform on 0, ..., 255; `num` of them
            blank, white    all 0 and all 255; one image each, for there is no other
            inverted        255 - x
            rotated         a quarter turn counter-clockwise; only of square images
            shuffled        the pixels of each image in an order of its own
            sklearn_digits  the 8x8 digits of scikit-learn, 0, ..., 16 scaled to 255, enlarged (bicubic) to H x W, in
                            every channel: digits, but of other writers, another scanner, another size and frame

    Raises:
        InputError: what is no uint8 image, or no number of them.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.dtype != np.uint8 or not len(images) or num < 1:
        raise InputError(
            f"foreign images are made for images uint8[N, H, W, C], at least one; got {images.dtype}"
            f"{list(images.shape)} and num = {num}"
        )
    key_noise, key_order = np.random.SeedSequence(seed).spawn(2)
    own = images[:num]
    shape = images.shape[1:]
    pixels = own.reshape(len(own), -1, shape[2])  # [n, H W, C]
    order = np.random.default_rng(key_order).permuted(np.tile(np.arange(pixels.shape[1]), (len(own), 1)), axis=1)
    sets = {
        "noise": np.random.default_rng(key_noise).integers(0, 256, (num, *shape), dtype=np.uint8),
        "blank": np.zeros((1, *shape), np.uint8),
        "white": np.full((1, *shape), 255, np.uint8),
        "inverted": 255 - own,
        "rotated": np.rot90(own, axes=(1, 2)),
        "shuffled": np.take_along_axis(pixels, order[..., None], axis=1).reshape(own.shape),
        "sklearn_digits": sklearn_digits(shape)[:num],
    }
    if shape[0] != shape[1]:
        del sets["rotated"]
    return sets


def sklearn_digits(shape: tuple[int, ...]) -> np.ndarray:
    """uint8[1797, H, W, C], scikit-learn's digits enlarged to a shape (H, W, C)."""
    from PIL import Image
    from sklearn.datasets import load_digits

    height, width, channels = shape
    small = np.round(load_digits().images * (255 / 16)).astype(np.uint8)
    large = [np.asarray(Image.fromarray(each).resize((width, height), Image.Resampling.BICUBIC)) for each in small]
    return np.stack([np.stack(large)] * channels, axis=-1)
