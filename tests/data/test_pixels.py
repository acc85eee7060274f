import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.data import fixed_binarization, pixels, prepare
from genlab.errors import InputError

EVERY_VALUE = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)


def test_images_are_divided_by_255_to_the_last_bit_or_the_one_before():
    batch = {"x": EVERY_VALUE, "label": np.array([7], np.int32)}
    prepared = jax.jit(prepare)(batch)
    assert prepared["x"].dtype == jnp.float32
    # compilers may multiply by the rounded reciprocal; the ends are exact all the same
    np.testing.assert_array_max_ulp(np.asarray(prepared["x"]), EVERY_VALUE.astype(np.float32) / np.float32(255))
    assert prepared["x"].max() == 1 and prepared["x"].min() == 0
    assert prepared["label"] == 7


def test_points_pass_through():
    points = jnp.array([[-3.0, 300.0]])
    assert prepare({"x": points})["x"] is points


@pytest.mark.parametrize("shape", [(16, 16, 1), (3, 5, 17)])  # an even and an odd number of pixels
def test_dynamic_binarization_has_the_pixel_as_its_mean(shape):
    # every pixel of row n has value n % 256; 60 rows of each
    rows = np.tile(np.arange(256), 60)
    x = np.broadcast_to(rows.astype(np.uint8)[:, None, None, None], (len(rows), *shape))
    draw = np.asarray(jax.jit(lambda key: prepare({"x": jnp.asarray(x)}, "dynamic", key)["x"])(jax.random.key(0)))
    assert draw.shape == x.shape and draw.dtype == np.float32
    assert set(np.unique(draw)) == {0.0, 1.0}
    by_value = draw.reshape(60, 256, -1).transpose(1, 0, 2)  # [256, 60, D]
    probability = np.arange(256) / 255
    deviation = np.sqrt(probability * (1 - probability) / (60 * np.prod(shape)))
    error = np.abs(by_value.mean((1, 2)) - probability)
    assert np.all(error <= 5 * deviation)  # 256 draws: once in 7,000 seeds by chance; exact at 0 and 255
    # pixels that share a random word, and neighbours, are independent: correlations of 1 / sqrt(n) or so
    grey = by_value[64:192].reshape(128 * 60, -1) - probability[64:192].repeat(60)[:, None]
    half = (grey.shape[1] + 1) // 2
    for shift in (1, half):
        correlation = np.mean(grey[:, shift:] * grey[:, :-shift]) / np.mean(np.square(grey))
        assert abs(correlation) < 5 / np.sqrt(grey[:, shift:].size)
    assert abs(np.mean(grey[1:] * grey[:-1])) / np.mean(np.square(grey)) < 5 / np.sqrt(grey[1:].size)


def test_the_sixteen_bit_threshold_is_the_rounded_probability(monkeypatch):
    # the exact probability of each value, by enumerating all 2^16 draws
    words = np.arange(1 << 16, dtype=np.uint32)
    monkeypatch.setattr(pixels.draws, "bits", lambda key, shape: jnp.asarray(words[:, None]))
    for value in range(256):
        x = jnp.full((1 << 16, 1, 1, 1), value, jnp.uint8)
        count = int(np.asarray(pixels._bernoulli(jax.random.key(0), x)).sum())
        assert count == round(65536 * value / 255)


def test_dynamic_binarization_follows_its_key():
    grey = {"x": jnp.full((4, 8, 8, 1), 128, jnp.uint8)}
    draws = [np.asarray(prepare(grey, "dynamic", jax.random.key(seed))["x"]) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert np.mean(draws[0] != draws[2]) == pytest.approx(0.5, abs=0.16)  # 256 pixels, five deviations


def test_fixed_binarization_is_one_draw_with_the_pixel_as_its_mean():
    split = {"x": np.tile(EVERY_VALUE, (4000, 1, 1, 1)), "label": np.arange(4000, dtype=np.int32)}
    frozen = fixed_binarization(split)
    assert frozen["x"].dtype == np.uint8 and set(np.unique(frozen["x"])) == {0, 255}
    probability = np.arange(256) / 255
    error = np.abs((frozen["x"] / 255).mean(0).ravel() - probability)
    assert np.all(error <= 5 * np.sqrt(probability * (1 - probability) / 4000))
    np.testing.assert_array_equal(frozen["label"], split["label"])
    np.testing.assert_array_equal(fixed_binarization(split)["x"], frozen["x"])
    # the first rows are drawn as they are in the whole
    np.testing.assert_array_equal(fixed_binarization({"x": split["x"][:77]})["x"], frozen["x"][:77])
    assert np.any(fixed_binarization(split, seed=1)["x"] != frozen["x"])
    assert set(np.unique(prepare({"x": jnp.asarray(frozen["x"][:9])})["x"])) == {0.0, 1.0}


def test_square_crops_the_centre():
    image = np.zeros((4, 8, 3), np.uint8)
    image[:, 2:6] = 200  # exactly the central square
    np.testing.assert_array_equal(pixels.square(image, 4), np.full((4, 4, 3), 200, np.uint8))
    np.testing.assert_array_equal(pixels.square(image.transpose(1, 0, 2), 2), np.full((2, 2, 3), 200, np.uint8))
    assert pixels.square(image[..., :1], 6).shape == (6, 6, 1)


def test_what_cannot_be_binarized_is_refused():
    image, points = {"x": jnp.asarray(EVERY_VALUE)}, {"x": jnp.zeros((3, 2))}
    with pytest.raises(InputError, match="must be 'none' or 'dynamic'"):
        prepare(image, "static")
    with pytest.raises(InputError, match="needs images"):
        prepare(points, "dynamic", jax.random.key(0))
    with pytest.raises(InputError, match="needs images"):
        fixed_binarization(points)
    with pytest.raises(ValueError, match="key"):
        prepare(image, "dynamic")
