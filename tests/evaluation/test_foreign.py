"""Foreign images are what they are called."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from genlab.errors import InputError
from genlab.evaluation.foreign import foreign_sets

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 28, 28, 1), dtype=np.uint8)


@pytest.fixture(scope="module")
def sets():
    return foreign_sets(IMAGES, num=20)


def test_every_set_has_images_of_the_shape_of_the_data(sets):
    sizes = {name: len(images) for name, images in sets.items()}
    assert sizes == {
        "noise": 20, "blank": 1, "white": 1, "inverted": 20, "rotated": 20, "shuffled": 20, "sklearn_digits": 20
    }  # fmt: skip
    assert all(images.shape[1:] == (28, 28, 1) and images.dtype == np.uint8 for images in sets.values())
    assert not sets["blank"].any() and (sets["white"] == 255).all()


def test_noise_is_uniform_over_all_levels():
    counts = np.bincount(foreign_sets(IMAGES, num=200)["noise"].ravel(), minlength=256)
    expected = counts.sum() / 256
    # chi^2 with 255 degrees of freedom: mean 255, deviation 22.6
    assert abs(np.sum((counts - expected) ** 2 / expected) - 255) < 5 * 22.6


def test_altered_images_are_the_first_of_the_data(sets):
    np.testing.assert_array_equal(sets["inverted"].astype(int) + IMAGES[:20], 255)
    turned = sets["rotated"]
    for i, j in [(0, 0), (3, 20), (27, 5)]:
        # a quarter turn counter-clockwise: the right-most column becomes the top row
        np.testing.assert_array_equal(turned[:, i, j], IMAGES[:20, j, 27 - i])


def test_shuffling_keeps_the_pixels_of_each_image_and_has_an_order_for_each(sets):
    before, after = IMAGES[:20].reshape(20, -1), sets["shuffled"].reshape(20, -1)
    np.testing.assert_array_equal(np.sort(before, axis=1), np.sort(after, axis=1))
    assert np.mean(before == after) < 0.02
    same = foreign_sets(np.broadcast_to(IMAGES[:1], (2, 28, 28, 1)))["shuffled"]
    assert (same[0] != same[1]).any()


def test_colours_of_a_pixel_stay_together_when_shuffled():
    colours = np.stack([IMAGES[..., 0], 255 - IMAGES[..., 0], IMAGES[..., 0]], axis=-1)
    found = foreign_sets(colours, num=4)
    np.testing.assert_array_equal(found["shuffled"][..., 1], 255 - found["shuffled"][..., 0])
    assert found["sklearn_digits"].shape == (4, 28, 28, 3)


def test_digits_of_scikit_learn_are_themselves_where_they_have_the_size():
    found = foreign_sets(IMAGES[:, :8, :8], num=5_000)["sklearn_digits"]
    np.testing.assert_allclose(found[..., 0] / 255 * 16, load_digits().images, atol=0.04)
    assert len(found) == 1_797


def test_enlarged_digits_shrink_back_to_what_they_were(sets):
    small = load_digits().images[:20] / 16
    blocks = sets["sklearn_digits"][:, 2:26, 2:26, 0]  # the middle of each small pixel
    centre = np.round((np.arange(8) + 0.5) * 28 / 8 - 0.5).astype(int)
    sampled = sets["sklearn_digits"][:, centre][:, :, centre, 0] / 255
    assert blocks.max() == 255
    correlations = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(small, sampled, strict=True)]
    assert min(correlations) > 0.97


def test_sets_depend_on_the_seed_alone(sets):
    again, other = foreign_sets(IMAGES, num=20), foreign_sets(IMAGES, num=20, seed=1)
    for name in sets:
        np.testing.assert_array_equal(sets[name], again[name])
    assert (sets["noise"] != other["noise"]).any() and (sets["shuffled"] != other["shuffled"]).any()


def test_oblong_images_are_not_rotated():
    assert "rotated" not in foreign_sets(IMAGES[:, :20], num=3)


@pytest.mark.parametrize("images", [IMAGES / 255, IMAGES[0], IMAGES[:0]])
def test_what_is_no_image_is_refused(images):
    with pytest.raises(InputError, match=r"uint8\[N, H, W, C\]"):
        foreign_sets(images)
