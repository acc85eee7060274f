"""Residual blocks where they are the identity, and against lax where they are not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from linen_modules import KEY, made, normal, outputs, shapes

from genlab.networks.resnet import DownBlock, ResNetGenerator, ResNetTrunk, UpBlock, downsample, upsample


def conv(x, layer):
    numbers = ("NHWC", "HWIO", "NHWC")
    x = jnp.asarray(x, jnp.float32)
    return lax.conv_general_dilated(x, layer["kernel"], (1, 1), "SAME", dimension_numbers=numbers) + layer["bias"]


def relu(x):
    return np.maximum(x, 0)


def slow_downsample(x):
    """The mean of what there is of every 2x2."""
    height, width = x.shape[1:3]
    rows = [x[:, i : i + 2].mean(1) for i in range(0, height, 2)]  # each [B, W, C]
    return np.stack([np.stack([row[:, j : j + 2].mean(1) for j in range(0, width, 2)], 1) for row in rows], 1)


def slow_upsample(x):
    return np.kron(x, np.ones((1, 2, 2, 1), np.float32))


@pytest.mark.parametrize("side", [(4, 6), (5, 6), (7, 3), (1, 1)])
def test_downsampling_takes_means_also_at_odd_borders(side):
    x = normal(0, (2, *side, 3))
    assert downsample(x).shape == (2, -(-side[0] // 2), -(-side[1] // 2), 3)
    np.testing.assert_allclose(downsample(x), slow_downsample(x), rtol=1e-5, atol=1e-6)


def test_upsampling_repeats_pixels_and_downsampling_undoes_it():
    x = normal(1, (2, 3, 4, 2))
    np.testing.assert_array_equal(upsample(x), slow_upsample(x))
    np.testing.assert_allclose(downsample(upsample(x)), x, rtol=1e-6)


def at_identity(module, x):
    """The block with a residual of zero and, where there is one, an identity beside it."""
    variables = made(module, x)
    params = dict(variables["params"]) | {"Conv_1": jax.tree.map(np.zeros_like, variables["params"]["Conv_1"])}
    if "Conv_2" in params:
        params["Conv_2"] = {"kernel": np.eye(3, dtype=np.float32)[None, None], "bias": np.zeros(3, np.float32)}
    return outputs(module, {**variables, "params": params}, x)[0]


def test_blocks_without_a_residual_are_what_they_do_to_the_side():
    x = normal(2, (2, 5, 4, 3))
    np.testing.assert_array_equal(at_identity(DownBlock(3, shrink=False), x), x)
    np.testing.assert_allclose(at_identity(DownBlock(3), x), slow_downsample(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(at_identity(UpBlock(3, True, (9, 8)), x), slow_upsample(x)[:, :9], rtol=1e-6)


def test_a_block_that_keeps_side_and_channels_has_nothing_beside_it():
    x = jnp.zeros((1, 4, 4, 3))
    assert set(shapes(DownBlock(3, shrink=False), x)["params"]) == {"Conv_0", "Conv_1"}
    for other in (DownBlock(3), DownBlock(4, shrink=False)):
        assert set(shapes(other, x)["params"]) == {"Conv_0", "Conv_1", "Conv_2"}


@pytest.mark.parametrize(("first", "shrink"), [(True, True), (False, True), (False, False)])
def test_a_down_block_is_its_layers_written_out(first, shrink):
    module, x = DownBlock(4, first=first, shrink=shrink), normal(3, (2, 5, 6, 3))
    variables = made(module, x)
    params = variables["params"]
    residual = conv(relu(conv(x if first else relu(x), params["Conv_0"])), params["Conv_1"])
    want = np.asarray(residual + conv(x, params["Conv_2"]))  # the block takes the mean before its 1x1 convolution
    np.testing.assert_allclose(
        outputs(module, variables, x)[0], slow_downsample(want) if shrink else want, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("batch_norm", [True, False])
def test_an_up_block_is_its_layers_written_out(batch_norm):
    module, x = UpBlock(4, batch_norm, (9, 8)), normal(4, (3, 5, 4, 2))
    variables = made(module, x)
    params = variables["params"]
    y, _ = outputs(module, variables, x, train=True)

    def active(x, name):
        if batch_norm:
            x = np.asarray(x, np.float64)
            x = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
            x = x * params[name]["scale"] + params[name]["bias"]
        return relu(x)

    residual = conv(slow_upsample(active(x, "BatchNorm_0"))[:, :9, :8], params["Conv_0"])
    want = conv(active(residual, "BatchNorm_1"), params["Conv_1"]) + conv(slow_upsample(x)[:, :9, :8], params["Conv_2"])
    np.testing.assert_allclose(y, want, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_a_down_blocks_norm_stands_before_each_relu(norm):
    module, x = DownBlock(3, norm, shrink=False), 5 + normal(5, (4, 3, 3, 3))
    variables = made(module, x)
    y, _ = outputs(module, variables, x, train=True)
    params = variables["params"]

    def active(x, number):
        if norm != "none":
            (axes, epsilon), x = ((0, 1, 2), 1e-5) if norm == "batch" else (-1, 1e-6), np.asarray(x, np.float64)
            layer = params[f"{'BatchNorm' if norm == 'batch' else 'LayerNorm'}_{number}"]
            x = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)
            x = x * layer["scale"] + layer["bias"]
        return relu(x)

    want = x + conv(active(conv(active(x, 0), params["Conv_0"]), 1), params["Conv_1"])
    np.testing.assert_allclose(y, want, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("side", [(28, 28), (32, 32), (13, 10)])
def test_sides_are_doubled_and_halved_to_any(side):
    generator, trunk = ResNetGenerator((6, 4), (*side, 3)), ResNetTrunk((4, 6))
    images, _ = jax.eval_shape(lambda codes: generator.init_with_output(KEY, codes), jnp.zeros((5, 7)))
    assert images.shape == (5, *side, 3) and images.dtype == jnp.float32
    features, _ = jax.eval_shape(lambda x: trunk.init_with_output(KEY, x), images)
    assert features.shape == (5, 6)


def test_a_generator_has_a_block_for_every_doubling_and_no_norm_at_its_output():
    found = shapes(ResNetGenerator((6, 4), (28, 28, 1)), jnp.zeros((1, 10)))
    assert {name: set(layer) for name, layer in found["params"].items()} == {
        "Dense_0": {"kernel", "bias"},
        "UpBlock_0": {"BatchNorm_0", "Conv_0", "BatchNorm_1", "Conv_1", "Conv_2"},
        "UpBlock_1": {"BatchNorm_0", "Conv_0", "BatchNorm_1", "Conv_1", "Conv_2"},
        "BatchNorm_0": {"scale", "bias"},  # before the last convolution
        "Conv_0": {"kernel", "bias"},
    }
    assert found["params"]["Dense_0"]["kernel"] == (10, 7 * 7 * 6)
    assert found["params"]["Conv_0"]["kernel"] == (3, 3, 4, 1)
    assert list(shapes(ResNetGenerator((6, 4), (28, 28, 1), batch_norm=False), jnp.zeros((1, 10)))) == ["params"]


def test_a_generators_images_are_in_minus_one_to_one():
    module = ResNetGenerator((3,), (5, 4, 1))
    variables = made(module, jnp.zeros((1, 4)))
    images, _ = outputs(module, variables, 9 * normal(6, (8, 4)))
    assert np.max(np.abs(images)) <= 1 and np.min(images) < -0.9 and np.max(images) > 0.9


def test_a_trunk_is_its_blocks_and_the_sum_over_all_places():
    module, x = ResNetTrunk((4, 5)), normal(7, (2, 6, 5, 1))
    variables = made(module, x)
    params, want = variables["params"], x
    assert set(params) == {"DownBlock_0", "DownBlock_1", "DownBlock_2"}
    blocks = [DownBlock(4, first=True), DownBlock(5), DownBlock(5, shrink=False)]
    for i, block in enumerate(blocks):
        want, _ = outputs(block, {"params": params[f"DownBlock_{i}"]}, want)
    assert want.shape == (2, 2, 2, 5)
    np.testing.assert_allclose(outputs(module, variables, x)[0], relu(np.asarray(want)).sum((1, 2)), rtol=1e-4)


def test_a_trunks_first_block_is_not_normalised():
    params = shapes(ResNetTrunk((4, 5), "batch"), jnp.zeros((1, 6, 6, 1)))["params"]
    assert [any("BatchNorm" in name for name in params[f"DownBlock_{i}"]) for i in range(3)] == [False, True, True]


@pytest.mark.parametrize("make", [
    lambda dtype: ResNetGenerator((3,), (5, 4, 1), dtype=dtype), lambda dtype: ResNetTrunk((3,), "batch", dtype=dtype)
])  # fmt: skip
@jax.numpy_dtype_promotion("standard")  # batch norm's means are float32
def test_in_bfloat16_parameters_are_float32(make):
    given = normal(8, (4, 6)) if isinstance(make(None), ResNetGenerator) else normal(8, (4, 5, 4, 1))
    variables = made(make(jnp.bfloat16), given)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    rounded, exact = (outputs(make(dtype), variables, given)[0] for dtype in (jnp.bfloat16, jnp.float32))
    assert rounded.dtype == (jnp.float32 if given.ndim == 2 else jnp.bfloat16)  # a generator's, and a trunk's
    rounded = rounded.astype(jnp.float32)
    assert np.any(rounded != exact)
    np.testing.assert_allclose(rounded, exact, atol=0.1 * np.max(np.abs(exact)))
