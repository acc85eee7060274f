"""Denoising, against autoencoders whose errors are known and filters written as loops."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from sklearn.datasets import load_digits

from genlab.algorithm import Algorithm
from genlab.evaluation import denoising

KEY = jax.random.key(0)
DIGITS = load_digits().images.astype(np.uint8)[..., None]  # 0..16
VALIDATION, TEST = {"x": DIGITS[:150]}, {"x": DIGITS[150:550]}
STATE: Any = None


def prepare(raw):
    return {"x": jnp.asarray(raw["x"]).astype(jnp.float32) / 16}


def gaussian(key, x):
    return x + 0.3 * jax.random.normal(key, x.shape)


CLEAN = TEST["x"].astype(np.float32) / 16


def algorithm(decode=lambda state, codes, key: codes.reshape(-1, 8, 8, 1)) -> Any:
    """Codes are the pixels."""
    record: dict[str, Any] = dict(
        init=lambda key, batch: None,
        step=lambda state, batch, key: (state, {}),
        evaluate=lambda state, batch, key: {},
        generate=None,
        encode=lambda state, batch, key: batch["x"].reshape(len(batch["x"]), -1),
        decode=decode,
        log_prob=None,
        density="none",
    )
    return Algorithm(**record)


def block_of(model=None, validation=VALIDATION, test=TEST, corrupt=gaussian, batch_size=64, key=KEY) -> Any:
    model = algorithm() if model is None else model
    return denoising.denoising_block(model, STATE, validation, test, corrupt, prepare, key, batch_size, "some noise")


def test_an_autoencoder_that_copies_leaves_the_noise():
    block = block_of()
    denoised, untouched = block["denoised_mse"], block["corrupted_mse"]
    assert denoised["value"] == pytest.approx(untouched["value"], rel=1e-6)
    assert untouched["value"] == pytest.approx(0.3**2, rel=0.03)  # 25,600 draws: 0.9 %
    # of a mean of 64 squared normals
    assert untouched["standard_error"] == pytest.approx(0.3**2 * np.sqrt(2 / 64 / 400), rel=0.15)
    for number in block.values():
        assert (number["split"], number["n"], number["corruption"]) == ("test", 400, "some noise")
        assert "64 dimensions" in number["unit"]


def test_an_autoencoder_that_knows_the_mean_alone_has_its_distance_to_the_clean_images():
    mean = jnp.asarray(CLEAN.mean(axis=0))
    block = block_of(algorithm(lambda state, codes, key: jnp.broadcast_to(mean, (len(codes), 8, 8, 1))))
    errors = np.square(CLEAN - CLEAN.mean(axis=0)).mean(axis=(1, 2, 3))
    assert block["denoised_mse"]["value"] == pytest.approx(errors.mean(), rel=1e-5)
    assert block["denoised_mse"]["standard_error"] == pytest.approx(errors.std(ddof=1) / 20, rel=1e-4)


def test_the_optimal_linear_shrinkage_of_white_noise():
    """x + n scaled by half: |(x + n) / 2 - x|^2 = (|x|^2 + sigma^2) / 4 in the mean. And the model sees the noise."""
    block = block_of(algorithm(lambda state, codes, key: 0.5 * codes.reshape(-1, 8, 8, 1)))
    expected = (np.square(CLEAN).mean() + 0.3**2) / 4
    assert block["denoised_mse"]["value"] == pytest.approx(expected, rel=0.02)


def test_a_mask_leaves_its_share_of_the_squares():
    half = lambda key, x: jnp.where(jax.random.bernoulli(key, 0.25, x.shape), 0.0, x)
    assert block_of(corrupt=half)["corrupted_mse"]["value"] == pytest.approx(0.25 * np.square(CLEAN).mean(), rel=0.05)


def test_the_corruption_is_one_draw_that_batches_do_not_change():
    first, second, other = block_of(), block_of(batch_size=400), block_of(key=jax.random.key(1))
    for name, number in first.items():
        assert number["value"] == pytest.approx(second[name]["value"], rel=1e-5)
        assert number["value"] != pytest.approx(other[name]["value"], rel=1e-5)
    # nor the number of examples; and no two examples share theirs
    batches = [denoising.numbered({"x": jnp.zeros((n, 8, 8, 1))}) for n in (3, 5)]
    three, five = (np.asarray(denoising.corrupted(gaussian, KEY, batch)) for batch in batches)
    np.testing.assert_array_equal(three, five[:3])
    assert np.abs(np.corrcoef(five.reshape(5, 64)) - np.eye(5)).max() < 0.6


def mirrored(index, size):
    """Where a border that repeats its last pixel continues: d c b a | a b c d | d c b a."""
    index %= 2 * size
    return index if index < size else 2 * size - 1 - index


def median_by_hand(image, side):
    height, width = image.shape
    result = np.empty_like(image)
    offsets = range(-(side // 2), side - side // 2)  # of an even window: one more to the left
    for i in range(height):
        for j in range(width):
            window = [image[mirrored(i + di, height), mirrored(j + dj, width)] for di in offsets for dj in offsets]
            result[i, j] = sorted(window)[side * side // 2]  # of an even number the upper one
    return result


def gaussian_by_hand(image, sigma):
    """Weights exp(-d^2 / 2 sigma^2) to 4 sigma, normalized, along rows and then along columns."""
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    for _ in range(2):
        size = image.shape[1]
        taken = [[mirrored(j + d, size) for d in range(-reach, reach + 1)] for j in range(size)]
        image = (image[:, taken] @ weights).T
    return image


@pytest.mark.parametrize("by", denoising.FILTERS)
def test_a_filter_is_of_every_channel_of_every_image_alone(by):
    kind, width = by
    images = np.random.default_rng(0).normal(size=(2, 7, 6, 3))
    found = denoising.filtered(images, by)
    by_hand = {"gaussian": gaussian_by_hand, "median": median_by_hand}[kind]
    for n in range(2):
        for channel in range(3):
            smooth = np.clip(by_hand(images[n, :, :, channel], width), 0, 1)
            np.testing.assert_allclose(found[n, :, :, channel], smooth, atol=1e-12)


def pepper(key, x):
    """A tenth of the pixels are white or black: what medians are for."""
    hit = jax.random.uniform(key, x.shape)
    return jnp.where(hit < 0.1, (hit < 0.05).astype(x.dtype), x)


def weak(key, x):
    return x + 0.03 * jax.random.normal(key, x.shape)


@pytest.mark.parametrize(("corrupt", "kind"), [(gaussian, "gaussian"), (pepper, "median"), (weak, "gaussian")])
def test_the_filter_is_the_best_of_the_grid_on_validation_and_measured_on_test(corrupt, kind):
    """Every filter of scipy is tried on every image alone; digits of three times the size, which are smooth."""
    validation, test = ({"x": split["x"][:60].repeat(3, axis=1).repeat(3, axis=2)} for split in (VALIDATION, TEST))
    copies = algorithm(lambda state, codes, key: codes.reshape(-1, 24, 24, 1))
    number = block_of(copies, validation, test, corrupt)["filter_mse"]
    key_test, key_validation, _ = jax.random.split(KEY, 3)

    def images(split, key):
        x = np.asarray(prepare(split)["x"])
        draw = jax.jit(lambda i, image: corrupt(jax.random.fold_in(key, i), image))
        return x, np.stack([np.asarray(draw(i, image)) for i, image in enumerate(x)])

    def grid(x, noisy):
        errors = {}
        for sigma in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2, 1.5, 2.0):
            left = [ndimage.gaussian_filter(image[..., 0], sigma).clip(0, 1) - clean[..., 0]
                    for image, clean in zip(noisy, x, strict=True)]  # fmt: skip
            errors[f"gaussian filter, sigma {sigma:g} pixels"] = np.square(left).mean()
        for side in (2, 3, 5):
            left = [ndimage.median_filter(image[..., 0], side).clip(0, 1) - clean[..., 0]
                    for image, clean in zip(noisy, x, strict=True)]  # fmt: skip
            errors[f"median filter, side {side} pixels"] = np.square(left).mean()
        return errors

    on_validation = grid(*images(validation, key_validation))
    best = min(on_validation, key=on_validation.__getitem__)
    assert best.startswith(kind)
    assert number["estimator"] == f"{best}, clipped, the best of 13 on 60 validation images"
    assert number["value"] == pytest.approx(grid(*images(test, key_test))[best], rel=1e-5)


def test_filters_are_chosen_on_the_first_thousand_and_parts_make_the_whole(monkeypatch):
    monkeypatch.setattr(denoising, "MAX_CHOSEN_ON", 40)
    few = block_of()["filter_mse"]
    assert "on 40 validation images" in few["estimator"]
    monkeypatch.setattr(denoising, "CHUNK", 130)  # 400 are three parts and a rest
    parts = block_of()["filter_mse"]
    assert parts["value"] == pytest.approx(few["value"], rel=1e-6) and parts["n"] == 400


def test_without_validation_images_there_is_no_filter():
    block = block_of(validation={"x": DIGITS[:0]})
    assert set(block) == {"denoised_mse", "corrupted_mse"}


@pytest.mark.parametrize("lacking", ["encode", "decode"])
def test_without_a_code_there_is_nothing_to_say(lacking):
    assert block_of(algorithm()._replace(**{lacking: None})) is None


def test_points_are_not_denoised():
    points = {"x": np.zeros((5, 2), np.float32)}
    assert block_of(test=points, validation=points) is None
