"""StyleGAN2's networks: modulated convolutions against one convolution an example, and the shape of both networks."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from genlab.networks import modulated
from genlab.networks.modulated import ModulatedConv, ResidualDiscriminator, SkipGenerator, demodulation
from genlab.networks.style import draw_noise

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


def drawn(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def test_demodulated_weights_have_unit_norm():
    kernel, style = drawn(3, 3, 4, 5), drawn(2, 4)
    weights = kernel * style[:, None, None, :, None] * demodulation(kernel, style)[:, None, None, None]
    np.testing.assert_allclose(jnp.sum(weights**2, axis=(1, 2, 3)), 1.0, rtol=1e-5)


@pytest.mark.parametrize(("demodulate", "enlarge"), [(True, False), (False, False), (True, True)])
def test_a_modulated_convolution_is_a_convolution_of_each_examples_own_kernel(demodulate, enlarge):
    x, w = drawn(2, 4, 6, 3), drawn(2, 5)
    module = ModulatedConv(4, demodulate=demodulate, enlarge=enlarge)
    params = jax.tree.map(lambda leaf: drawn(*leaf.shape), module.init(KEY, x, w))["params"]
    style = w @ params["affine"]["kernel"] / math.sqrt(5) + params["affine"]["bias"]
    taps = jnp.array([1.0, 3.0, 3.0, 1.0]) / 4
    fir = jnp.einsum("i,j->ij", taps, taps)

    def one(x, style):
        kernel = params["kernel"] / math.sqrt(27) * style[None, None, :, None]
        if demodulate:
            kernel = kernel / jnp.sqrt(jnp.sum(kernel**2, axis=(0, 1, 2)) + 1e-8)
        numbers = ("NHWC", "HWIO", "NHWC")
        if not enlarge:
            return lax.conv_general_dilated(x[None], kernel, (1, 1), "SAME", dimension_numbers=numbers)[0]
        wide = lax.conv_transpose(x[None], kernel, (2, 2), "VALID", dimension_numbers=numbers)
        filters = jnp.tile(fir[..., None, None], (1, 1, 1, 4))
        return lax.conv_general_dilated(
            wide, filters, (1, 1), ((1, 1), (1, 1)), dimension_numbers=numbers, feature_group_count=4
        )[0]

    expected = jnp.stack([one(*each) for each in zip(x, style, strict=True)])
    found = module.apply({"params": params}, x, w)
    assert found.shape == (2, 8 if enlarge else 4, 12 if enlarge else 6, 4)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_at_first_styles_are_about_one_and_every_layer_keeps_the_variance():
    x, w = jnp.broadcast_to(drawn(8, 1, 1, 64), (8, 8, 8, 64)), drawn(8, 16)
    for enlarge in (False, True):
        module = modulated.StyledConv(64, enlarge)
        y = module.apply(module.init(KEY, x, w, jnp.zeros((1, 1, 1, 1))), x, w, jnp.zeros((1, 1, 1, 1)))
        assert float(jnp.mean(y[:, 2:-2, 2:-2] ** 2)) == pytest.approx(1.04, abs=0.35)


@pytest.mark.parametrize("resolution", [8, 16, 256])
def test_networks_of_every_size_have_their_layers(resolution):
    widths = (4,) * int(math.log2(resolution) - 1)
    generator, discriminator = SkipGenerator(widths, 3), ResidualDiscriminator(widths)
    sides = generator.noise_sides(resolution)
    assert len(sides) == 2 * len(widths) - 1 and sides[:3] == [4, 8, 8] and sides[-1] == resolution
    styles, noise = jnp.zeros((4, 2 * len(widths), 5)), draw_noise(KEY, 4, sides)
    variables = jax.eval_shape(generator.init, KEY, styles, noise)
    images = jax.eval_shape(generator.apply, variables, styles, noise)
    assert images.shape == (4, resolution, resolution, 3)
    said = jax.eval_shape(discriminator.init_with_output, KEY, images)[0]
    assert said.shape == (4,)


def test_the_image_is_the_sum_of_what_every_size_draws():
    generator = SkipGenerator((4, 3), 1)
    styles, noise = drawn(2, 4, 5), draw_noise(KEY, 2, generator.noise_sides(8))
    params = jax.tree.map(lambda leaf: drawn(*leaf.shape), generator.init(KEY, styles, noise))["params"]
    bias = params["to_image_4"]["bias"]
    more = params | {"to_image_4": params["to_image_4"] | {"bias": bias + 2.0}}
    make = lambda params: generator.apply({"params": params}, styles, noise)
    np.testing.assert_allclose(make(more) - make(params), 2.0, rtol=1e-4)
    for layer in range(4):
        assert np.abs(make(params) - generator.apply({"params": params}, styles.at[:, layer].add(1.0), noise)).max() > 0


def test_a_block_of_the_discriminator_is_the_mean_of_two_ways_by_hand():
    """Of one channel and a 1x1 signal of ones, where filters change nothing: sqrt(1/2) (skip + two convolutions)."""
    module = ResidualDiscriminator((1, 1), 0)
    x = jnp.ones((1, 8, 8, 1))
    params = jax.tree.map(jnp.ones_like, module.init(KEY, x)["params"])
    centre = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1.0)
    for name in ("conv_8", "shrink_8", "conv_4"):
        params[name]["kernel"] = centre
    params = jax.tree.map_with_path(lambda path, leaf: jnp.zeros_like(leaf) if path[-1].key == "bias" else leaf, params)
    shown = math.sqrt(2.0)  # of from_image
    block = math.sqrt(0.5) * (shown + math.sqrt(2.0) / 3 * math.sqrt(2.0) / 3 * shown)
    flat = math.sqrt(2.0) * block / 3  # conv_4, of fan-in 9
    expected = math.sqrt(2.0) * 16 * flat / 4  # dense_4, of fan-in 16; the logit's is 1
    assert float(module.apply({"params": params}, x)[0]) == pytest.approx(expected, rel=1e-4)
