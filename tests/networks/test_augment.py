"""Augmentations: what they did is read off the images, and set against their definitions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from genlab.errors import InputError
from genlab.networks.augment import differentiable_augment
from genlab.training import devices

KINDS = ("color", "translation", "cutout")


@functools.partial(jax.jit, static_argnames=("kinds", "fill"))
def augment(key, x, kinds, fill=0.0):
    return differentiable_augment(key, x, kinds, fill)


def normal(seed, shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def shifted(image, down, right, fill):
    """Pixel by pixel."""
    height, width = image.shape[:2]
    moved = np.full_like(image, fill)
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                moved[row, column] = image[row - down, column - right]
    return moved


def test_no_kinds_is_the_identity():
    x = normal(0, (3, 5))  # whatever its shape
    assert differentiable_augment(jax.random.key(0), x, ()) is x


@pytest.mark.parametrize("kinds", [("colour",), ("color", "flip"), "color"])
def test_an_unknown_kind_is_refused(kinds):
    with pytest.raises(InputError, match=r"^unknown augmentation '\w+'; known: color, translation, cutout$"):
        differentiable_augment(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), kinds)


def test_what_is_no_image_is_refused():
    with pytest.raises(ValueError, match=r"^images are \[B, H, W, C\], not \(8, 8\)$"):
        differentiable_augment(jax.random.key(0), jnp.zeros((8, 8)), ("color",))


def color_draws(x, y):
    """(brightness, saturation, contrast) [B] each, from what became of the images.

    The image's mean moves by the brightness alone. About it, the part of a pixel that all its channels share is scaled
    by the contrast, and the rest by contrast and saturation.
    """
    x, y = np.float64(x), np.float64(y)
    axes = (1, 2, 3)
    brightness = y.mean(axes) - x.mean(axes)
    grey_x, grey_y = x.mean(-1, keepdims=True), y.mean(-1, keepdims=True)
    contrast = (grey_y - grey_y.mean(axes, keepdims=True)).std(axes) / grey_x.std(axes)
    saturation = (y - grey_y).std(axes) / (x - grey_x).std(axes) / contrast
    return brightness, saturation, contrast


def test_color_is_brightness_then_saturation_then_contrast():
    x = normal(1, (32, 5, 4, 3))
    y = augment(jax.random.key(1), x, ("color",))
    assert y.dtype == jnp.float32
    draws = np.stack(color_draws(x, y), axis=-1)
    for before, after, (brightness, saturation, contrast) in zip(np.float64(x), y, draws, strict=True):
        image = before + brightness
        grey = image.mean(-1, keepdims=True)
        image = (image - grey) * saturation + grey
        image = (image - image.mean()) * contrast + image.mean()
        np.testing.assert_allclose(after, image, atol=2e-6)  # and so no factor was negative


def test_colors_draws_are_uniform_and_independent():
    x = np.broadcast_to(normal(2, (1, 2, 2, 3)), (2000, 2, 2, 3))
    draws = color_draws(x, augment(jax.random.key(2), x, ("color",)))
    for values, low, width in zip(draws, (-0.5, 0.0, 0.5), (1.0, 2.0, 1.0), strict=True):
        assert low - 1e-5 <= values.min() and values.max() <= low + width + 1e-5
        assert scipy.stats.kstest(values, "uniform", (low, width)).pvalue > 0.01
    assert np.abs(np.corrcoef(draws) - np.eye(3)).max() < 0.08


def test_color_on_one_channel_is_brightness_and_contrast():
    x = normal(3, (8, 4, 4, 1))
    y = np.float64(augment(jax.random.key(3), x, ("color",)))
    mean = y.mean((1, 2, 3), keepdims=True)
    centred = np.float64(x) - np.float64(x).mean((1, 2, 3), keepdims=True)
    ratio = (y - mean) / centred
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1, :1], ratio.shape), rtol=1e-3)
    assert ratio.min() > 0.5 - 1e-3 and ratio.max() < 1.5 + 1e-3


@pytest.mark.parametrize(("height", "width", "fill"), [(8, 20, 0.0), (12, 7, -1.0), (3, 4, -1.0)])
def test_translation_moves_by_whole_pixels(height, width, fill):
    """The moves are found by trying all; those of 3 pixels' side are none, of 7, 8 one, of 12, 20 up to 2, 3."""
    most = [{3: 0, 4: 1, 7: 1, 8: 1, 12: 2, 20: 3}[side] for side in (height, width)]
    x = normal(4, (24, height, width, 2))
    y = np.asarray(augment(jax.random.key(4), x, ("translation",), fill))
    moves = [(down, right) for down in range(-4, 5) for right in range(-4, 5)]
    found = []
    for before, after in zip(x, y, strict=True):
        fits = [move for move in moves if np.allclose(shifted(before, *move, fill), after, atol=1e-6)]
        assert len(fits) == 1
        found += fits
    found = np.array(found)
    np.testing.assert_array_equal(np.abs(found).max(0), most)
    np.testing.assert_array_equal(found.min(0), -found.max(0))


def test_translations_are_uniform():
    x = np.zeros((6000, 16, 8, 1), np.float32)
    x[:, 8, 4] = 1
    y = np.asarray(augment(jax.random.key(5), x, ("translation",)))
    down, right = np.argwhere(y[..., 0] == 1)[:, 1:].T - np.array([[8], [4]])
    counts = np.zeros((5, 3))
    np.add.at(counts, (down + 2, right + 1), 1)  # raises, or leaves zeros, where the range is another
    assert counts.sum() == 6000 and scipy.stats.chisquare(counts.ravel()).pvalue > 0.01


@pytest.mark.parametrize(("height", "width", "fill"), [(8, 5, 0.0), (6, 7, -1.0)])  # 4 by 3 pixels, and 3 by 4
def test_cutout_covers_a_square_around_a_uniform_centre(height, width, fill):
    x = normal(6, (5000, height, width, 2))
    y = np.asarray(augment(jax.random.key(6), x, ("cutout",), fill))
    covered = (y != x).any(-1)
    np.testing.assert_array_equal(y, np.where(covered[..., None], np.float32(fill), x))
    assert (y != x).all(-1).sum() == covered.sum()  # in every channel
    sides = []
    for length, axis in ((height, 2), (width, 1)):
        line, size = covered.any(axis), (length + 1) // 2
        # the intervals that a centre can leave within the image, as sets of pixels; an odd square has a central pixel
        centres = range(length + 1 - size % 2)
        starts = [centre - size // 2 for centre in centres]
        possible = np.array([[start <= pixel < start + size for pixel in range(length)] for start in starts])
        matches = (line[:, None] == possible).all(-1)  # [B, centres]
        assert (matches.sum(1) == 1).all()
        assert scipy.stats.chisquare(matches.sum(0)).pvalue > 0.01
        sides.append(matches.argmax(1))
    np.testing.assert_array_equal(covered.sum((1, 2)), covered.any(2).sum(1) * covered.any(1).sum(1))  # a rectangle
    assert abs(np.corrcoef(sides)[0, 1]) < 0.05


def test_gradients_are_the_transposes():
    """<A u, y> = <u, A' y> for the linear part A of an affine map."""
    x, u, y = (jnp.asarray(normal(seed, (16, 9, 8, 3))) for seed in (7, 8, 9))
    affine = functools.partial(augment, jax.random.key(7), kinds=KINDS, fill=-1.0)
    linear = np.float64(affine(x + u)) - np.float64(affine(x))
    (transposed,) = jax.jit(lambda x, y: jax.vjp(affine, x)[1](y))(x, y)
    per_example = np.sum(linear * np.float64(y), (1, 2, 3))
    np.testing.assert_allclose(per_example, np.sum(np.float64(u) * np.float64(transposed), (1, 2, 3)), atol=1e-3)
    assert np.abs(per_example).min() > 1e-2 and np.abs(per_example).max() > 10


def test_second_derivatives_go_through():
    """A gradient penalty's: of |d/dx sum y^3|^2 / 2, where y = A x is a permutation in part, and so is 18 A' y^3."""
    x = jnp.asarray(normal(10, (4, 8, 8, 1)))
    key, kinds = jax.random.key(8), ("translation", "cutout")

    def penalty(x):
        gradient = jax.grad(lambda x: jnp.sum(augment(key, x, kinds) ** 3))(x)
        return jnp.sum(gradient**2) / 2

    def by_hand(x):
        y, transpose = jax.vjp(lambda x: augment(key, x, kinds), x)
        return transpose(18 * y**3)[0]

    np.testing.assert_allclose(jax.jit(jax.grad(penalty))(x), jax.jit(by_hand)(x), rtol=1e-5)


def test_every_example_and_every_key_has_its_own_draws():
    x = np.broadcast_to(normal(11, (1, 32, 32, 1)), (6, 32, 32, 1))
    for kind in KINDS:
        one, again, other = (np.asarray(augment(jax.random.key(seed), x, (kind,))) for seed in (0, 0, 1))
        np.testing.assert_array_equal(one, again)
        assert len(np.unique(np.concatenate([one, other]).reshape(12, -1), axis=0)) == 12


def test_kinds_are_applied_in_their_order():
    """Color, after cutout, changes what is covered."""
    y = augment(jax.random.key(9), normal(12, (8, 8, 8, 1)), ("cutout", "color"), 0.25)
    assert not (y == 0.25).any()
    assert len(np.unique(y)) < y.size - 50  # covered, each image in one colour


def test_a_population_with_split_batches_is_as_each_alone():
    x, keys = normal(13, (2, 16, 8, 8, 3)), jax.random.split(jax.random.key(10), 2)
    alone = [augment(key, images, KINDS) for key, images in zip(keys, x, strict=True)]
    placed = devices.put(x, devices.split(devices.make_mesh(8, "data"), axis=1))
    together = jax.jit(jax.vmap(lambda key, images: differentiable_augment(key, images, KINDS)))(keys, placed)
    assert len(together.sharding.device_set) == 8
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-6)
