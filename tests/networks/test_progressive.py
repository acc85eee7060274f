"""ProGAN's networks: stages, fades and their ends, and layers against plain convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.networks import progressive
from genlab.networks.progressive import ProgressiveDiscriminator, ProgressiveGenerator, pixel_norm
from genlab.networks.resampling import downsample_mean, upsample_nearest

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
CHANNELS = (4, 4, 3, 3)  # to 32x32
Z = jnp.asarray(RNG.normal(size=(4, 5)), jnp.float32)
GENERATOR = ProgressiveGenerator(CHANNELS, 2)
DISCRIMINATOR = ProgressiveDiscriminator(CHANNELS)


@pytest.fixture(scope="module")
def params():
    """Of both, biases and all."""
    images = jnp.zeros((4, 32, 32, 2))
    shapes = [jax.eval_shape(GENERATOR.init, KEY, Z), jax.eval_shape(DISCRIMINATOR.init, KEY, images)]
    draw = lambda leaf: jnp.asarray(RNG.normal(size=leaf.shape), jnp.float32)
    return [jax.tree.map(draw, each) for each in shapes]


def jitted(module):
    return jax.jit(module.apply, static_argnums=2) if module is GENERATOR else jax.jit(module.apply)


def test_pixels_have_unit_mean_square_by_hand():
    np.testing.assert_allclose(pixel_norm(jnp.array([[3.0, 4.0]])), [[3.0 / 12.5**0.5, 4.0 / 12.5**0.5]], rtol=1e-6)
    np.testing.assert_allclose(pixel_norm(jnp.zeros((1, 3))), 0.0)


@pytest.mark.parametrize("resolution", [4, 8, 32])
def test_a_stage_makes_and_takes_images_of_its_size_and_has_gradients_of_its_layers_alone(params, resolution):
    def value(both):
        images = GENERATOR.apply(both[0], Z, resolution, 0.5)
        return jnp.sum(DISCRIMINATOR.apply(both[1], images, 0.5)), images.shape

    gradients, shape = jax.jit(jax.grad(value, has_aux=True))(params)
    assert shape == (4, resolution, resolution, 2)
    for tree in gradients:
        for name, leaves in tree["params"].items():
            digits = name.split("_")[-1]
            beyond = digits.isdigit() and int(digits) > resolution
            # of a last image layer whose output is not shown there is no gradient, either
            unseen = name.startswith(("to_image", "from_image")) and int(digits) < resolution // 2
            moved = any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(leaves))
            assert moved == (not beyond and not unseen), name


def test_a_fade_goes_from_the_stage_before_to_the_new_layers_alone(params):
    make, judge = jitted(GENERATOR), jitted(DISCRIMINATOR)
    for side in (8, 16):
        old, new = make(params[0], Z, side // 2, 1.0), make(params[0], Z, side, 1.0)
        np.testing.assert_allclose(make(params[0], Z, side, 0.0), upsample_nearest(old), atol=1e-6)
        half = make(params[0], Z, side, 0.5)
        np.testing.assert_allclose(half, 0.5 * upsample_nearest(old) + 0.5 * new, atol=1e-5)
        assert np.abs(new - upsample_nearest(old)).max() > 0.1
        x = jnp.asarray(RNG.normal(size=(4, side, side, 2)), jnp.float32)
        before = judge(params[1], downsample_mean(x), 1.0)
        np.testing.assert_allclose(judge(params[1], x, 0.0), before, rtol=1e-5, atol=1e-5)
        # at 1 the layer that sees the image before is not looked at
        other = jax.tree.map(lambda leaf: leaf, params[1])
        other["params"][f"from_image_{side // 2}"] = jax.tree.map(jnp.zeros_like, other["params"]["from_image_4"])
        alone = judge(other, x, 1.0) if side == 8 else None
        if alone is not None:
            np.testing.assert_allclose(judge(params[1], x, 1.0), alone, rtol=1e-5, atol=1e-5)


def test_without_a_resolution_the_generator_makes_its_largest(params):
    np.testing.assert_array_equal(GENERATOR.apply(params[0], Z), GENERATOR.apply(params[0], Z, 32, 1.0))


def test_the_largest_networks_are_those_of_the_paper():
    """23.1 million parameters either, at 1024x1024 (Karras et al. 2018, table 2)."""
    widths = (512, 512, 512, 512, 256, 128, 64, 32, 16)
    count = lambda shapes: sum(leaf.size for leaf in jax.tree.leaves(shapes))
    to_image = lambda sizes, width: sum(3 * width + 3 for width in sizes)
    generator = jax.eval_shape(ProgressiveGenerator(widths, 3).init, KEY, jnp.zeros((1, 512)))
    found = count(generator) - to_image(widths[:-1], 0) - 3 * sum(widths[:-1])  # table 2 has the last one's alone
    assert found == pytest.approx(23.1e6, rel=3e-3)
    discriminator = jax.eval_shape(ProgressiveDiscriminator(widths).init, KEY, jnp.zeros((4, 1024, 1024, 3)))
    assert count(discriminator) - 4 * sum(widths[:-1]) == pytest.approx(23.1e6, rel=3e-3)


def test_sides_double():
    assert progressive.sides((1,) * 7) == [4, 8, 16, 32, 64, 128, 256]
