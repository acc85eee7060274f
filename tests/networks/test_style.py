"""StyleGAN's generator: adaptive instance normalisation, noise, styles and their layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.networks import style
from genlab.networks.resampling import upsample_nearest
from genlab.networks.style import Mapping, StyleGenerator, adain, draw_noise

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
GENERATOR = StyleGenerator((4, 4, 3), 1)  # to 16x16
SIDES = GENERATOR.noise_sides(16)


def drawn(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


@pytest.fixture(scope="module")
def params():
    shapes = jax.eval_shape(GENERATOR.init, KEY, drawn(2, 6, 5), draw_noise(KEY, 2, SIDES))
    return jax.tree.map(lambda leaf: drawn(*leaf.shape), shapes)


def test_adain_gives_every_channel_its_mean_and_deviation():
    x, scale, shift = drawn(2, 6, 6, 3), drawn(2, 3), drawn(2, 3)
    found = adain(3.0 + 2.0 * x, scale, shift)
    np.testing.assert_allclose(jnp.mean(found, axis=(1, 2)), shift, atol=1e-5)
    np.testing.assert_allclose(jnp.std(found, axis=(1, 2)), jnp.abs(scale), rtol=1e-4)
    np.testing.assert_allclose(adain(jnp.ones((1, 4, 4, 2)), drawn(1, 2), jnp.full((1, 2), 7.0)), 7.0)
    gradient = jax.grad(lambda x: jnp.sum(adain(x, scale, shift) ** 2))(jnp.ones((2, 4, 4, 3)))
    assert np.isfinite(gradient).all()


def test_a_mapping_is_dense_layers_of_a_normalised_code_at_a_hundredth_of_the_rate():
    codes = drawn(3, 4)
    mapping = Mapping(5, 2)
    params = mapping.init(KEY, codes)["params"]
    x = np.asarray(codes, np.float64)
    x = x / np.sqrt(np.mean(x**2, axis=1, keepdims=True) + 1e-8)
    for name, fan_in in (("EqualisedDense_0", 4), ("EqualisedDense_1", 5)):
        y = x @ params[name]["kernel"] * np.sqrt(2 / fan_in) * 0.01 + 0.01 * params[name]["bias"]
        x = np.where(y >= 0, y, 0.2 * y)
    np.testing.assert_allclose(mapping.apply({"params": params}, codes), x, rtol=1e-4)
    np.testing.assert_allclose(mapping.apply({"params": params}, 3.0 * codes), x, rtol=1e-4)


def test_a_style_is_noise_bias_activation_normalisation_by_hand():
    module, x, w, noise = style.Style(), drawn(2, 4, 4, 3), drawn(2, 5), drawn(1, 4, 4, 1)
    params = jax.tree.map(lambda leaf: drawn(*leaf.shape), module.init(KEY, x, w, noise))["params"]
    y = np.asarray(x + noise * params["strength"] + params["bias"], np.float64)
    y = np.where(y >= 0, y, 0.2 * y)
    y = (y - y.mean(axis=(1, 2), keepdims=True)) / y.std(axis=(1, 2), keepdims=True)
    parameters = np.asarray(w @ params["affine"]["kernel"] / np.sqrt(5) + params["affine"]["bias"])
    expected = y * (1 + parameters[:, None, None, :3]) + parameters[:, None, None, 3:]
    np.testing.assert_allclose(module.apply({"params": params}, x, w, noise), expected, rtol=1e-3, atol=1e-4)


def test_noise_of_a_layer_does_not_depend_on_how_many_follow():
    assert SIDES == [4, 4, 8, 8, 16, 16] and style.num_layers(16) == 6
    few, many = draw_noise(KEY, 2, SIDES[:4]), draw_noise(KEY, 2, SIDES)
    for one, other in zip(few, many, strict=False):
        np.testing.assert_array_equal(one, other)
    assert abs(float(jnp.mean(many[4] * many[5]))) < 0.2 and many[4].shape == (2, 16, 16, 1)


def test_every_layer_sees_its_own_style_and_noise_and_fine_ones_move_details(params):
    styles, noise = drawn(2, 6, 5), draw_noise(KEY, 2, SIDES)
    make = jax.jit(lambda styles, noise: GENERATOR.apply(params, styles, noise))
    image = make(styles, noise)
    assert image.shape == (2, 16, 16, 1)
    for layer in range(6):
        restyled = make(styles.at[0, layer].add(1.0), noise)
        assert np.abs(restyled[0] - image[0]).max() > 1e-3
        np.testing.assert_array_equal(restyled[1], image[1])
        other = [each + float(number == layer) * drawn(*each.shape) for number, each in enumerate(noise)]
        assert np.abs(make(styles, other) - image).max() > 1e-3


def test_a_fade_goes_from_the_stage_before_to_the_new_layers_alone(params):
    styles, noise = drawn(2, 6, 5), draw_noise(KEY, 2, SIDES)
    make = jax.jit(
        lambda resolution, alpha: GENERATOR.apply(params, styles, noise, resolution, alpha), static_argnums=0
    )
    old, new = make(8, 1.0), make(16, 1.0)
    np.testing.assert_allclose(make(16, 0.0), upsample_nearest(old), atol=1e-6)
    np.testing.assert_allclose(make(16, 0.25), 0.75 * upsample_nearest(old) + 0.25 * new, atol=1e-4)


@pytest.mark.parametrize("resolution", [64, 256])
def test_large_generators_have_the_layers_of_their_size(resolution):
    widths = (4,) * (style.num_layers(resolution) // 2)
    module = StyleGenerator(widths, 3)
    sides = module.noise_sides(resolution)
    shapes = [jax.ShapeDtypeStruct((1, side, side, 1), jnp.float32) for side in sides]
    styles = jnp.zeros((1, len(sides), 5))
    variables = jax.eval_shape(module.init, KEY, styles, shapes)
    assert jax.eval_shape(module.apply, variables, styles, shapes).shape == (1, resolution, resolution, 3)
    assert len(sides) == style.num_layers(resolution) and sides[-1] == resolution
