"""Generators against their papers' rules, and against the same layers written out with numpy and lax."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from linen_modules import KEY, made, normal, outputs, shapes

from genlab.networks.generators import DCGANGenerator, DenseGenerator, halved


def trained(x, scale, bias):
    """Batch normalisation by the batch's own statistics, then relu."""
    x = np.asarray(x, np.float64)
    axes = tuple(range(x.ndim - 1))
    return np.maximum((x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-5) * scale + bias, 0)


DCGAN = DCGANGenerator((4, 3), (13, 10, 2))
CODE = jnp.zeros((1, 5))


def test_sides_are_halved_and_rounded_up():
    assert halved((28, 28), 2) == [(7, 7), (14, 14), (28, 28)]
    assert halved((13, 10), 3) == [(2, 2), (4, 3), (7, 5), (13, 10)]


@pytest.mark.parametrize("side", [(28, 28), (32, 32), (13, 10), (27, 31)])
@pytest.mark.parametrize("num", [1, 2, 4])
def test_a_dcgan_gives_images_of_any_side(side, num):
    module = DCGANGenerator(range(num + 2, 2, -1), (*side, 3))
    images, _ = jax.eval_shape(lambda codes: module.init_with_output(KEY, codes), jnp.zeros((5, 7)))
    assert images.shape == (5, *side, 3) and images.dtype == jnp.float32


def test_a_dcgan_has_the_layers_of_its_paper():
    """One matrix product, then 5x5 convolutions; normalised layers have no bias, and the output is not normalised."""
    norm = {"scale": (6,), "bias": (6,)}
    assert shapes(DCGANGenerator((6, 4), (28, 28, 1)), jnp.zeros((1, 10))) == {
        "params": {
            "Dense_0": {"kernel": (10, 7 * 7 * 6)},
            "BatchNorm_0": norm,
            "ConvTranspose_0": {"kernel": (5, 5, 6, 4)},
            "BatchNorm_1": {"scale": (4,), "bias": (4,)},
            "ConvTranspose_1": {"kernel": (5, 5, 4, 1), "bias": (1,)},
        },
        "batch_stats": {"BatchNorm_0": {"mean": (6,), "var": (6,)}, "BatchNorm_1": {"mean": (4,), "var": (4,)}},
    }
    plain = shapes(DCGANGenerator((6, 4), (28, 28, 1), batch_norm=False), jnp.zeros((1, 10)))
    assert list(plain) == ["params"] and all(set(layer) == {"kernel", "bias"} for layer in plain["params"].values())


def test_a_dcgan_starts_from_its_papers_normals():
    params = jax.jit(DCGANGenerator((8, 4), (28, 28, 1)).init)(KEY, CODE)["params"]
    for name, layer in params.items():
        if "BatchNorm" not in name:
            assert np.std(layer["kernel"]) == pytest.approx(0.02, rel=0.2) and abs(np.mean(layer["kernel"])) < 0.005
        else:
            assert 0 < np.max(np.abs(layer["scale"] - 1)) < 0.1 and not np.any(layer["bias"])


def test_a_dcgan_is_its_layers_written_out():
    """Sides are odd, so that doubled ones are cropped: 13 x 10 from 7 x 5 from 4 x 3."""
    variables, codes = made(DCGAN, CODE, size=0.3), normal(0, (6, 5))
    images, updated = outputs(DCGAN, variables, codes, train=True)

    params = variables["params"]
    doubled = lambda x, name: lax.conv_transpose(jnp.float32(x), params[name]["kernel"], (2, 2), "SAME")
    first = (codes @ params["Dense_0"]["kernel"]).reshape(6, 4, 3, 4)
    second = doubled(trained(first, **params["BatchNorm_0"]), "ConvTranspose_0")[:, :7, :5]
    last = doubled(trained(second, **params["BatchNorm_1"]), "ConvTranspose_1")[:, :13, :10]
    np.testing.assert_allclose(images, np.tanh(last + params["ConvTranspose_1"]["bias"]), atol=2e-5)

    before, after = (stats["batch_stats"]["BatchNorm_1"] for stats in (variables, updated))
    batch = np.asarray(second)
    np.testing.assert_allclose(after["mean"], 0.9 * before["mean"] + 0.1 * batch.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(after["var"], 0.9 * before["var"] + 0.1 * batch.var((0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize("train", [False, True])
def test_in_training_alone_an_image_depends_on_the_others(train):
    show = jax.jit(lambda variables, codes: DCGAN.apply(variables, codes, train=train, mutable=["batch_stats"])[0])
    variables, codes = made(DCGAN, CODE, size=0.3), normal(1, (4, 5))
    other = np.concatenate([codes[:1], 9 + normal(2, (3, 5))])
    difference = np.max(np.abs(show(variables, codes)[0] - show(variables, other)[0]))
    assert (difference > 1e-3) if train else (difference < 1e-6)


@pytest.mark.parametrize("module", [DCGANGenerator((4,), (5, 6, 2)), DenseGenerator((4,), (3, 2, 1), squash=True)])
def test_images_are_in_minus_one_to_one_whatever_the_parameters(module):
    variables = made(module, CODE, size=0.3)
    variables |= {"params": jax.tree.map(lambda leaf: 50 * leaf, variables["params"])}
    images, _ = outputs(module, variables, 9 * normal(3, (8, 5)))
    assert np.max(np.abs(images)) <= 1 and np.min(images) < -0.9 and np.max(images) > 0.9


def test_a_dense_generator_is_its_layers_written_out():
    module = DenseGenerator((6, 4), (3, 2))
    variables, x = made(module, CODE, size=0.3), normal(4, (7, 5))
    params = variables["params"]
    assert jax.tree.map(np.shape, params) == {
        "Dense_0": {"kernel": (5, 6)}, "BatchNorm_0": {"scale": (6,), "bias": (6,)},
        "Dense_1": {"kernel": (6, 4)}, "BatchNorm_1": {"scale": (4,), "bias": (4,)},
        "Dense_2": {"kernel": (4, 6), "bias": (6,)},
    }  # fmt: skip
    points, _ = outputs(module, variables, x, train=True)
    for i in range(2):
        x = trained(x @ params[f"Dense_{i}"]["kernel"], **params[f"BatchNorm_{i}"])
    want = x @ np.float64(params["Dense_2"]["kernel"]) + params["Dense_2"]["bias"]
    np.testing.assert_allclose(points, want.reshape(7, 3, 2), rtol=1e-3, atol=1e-4)
    assert np.max(np.abs(want)) > 0.5  # there is no tanh unless asked for: it would show


def test_an_affine_generator_is_one_matrix_product():
    module = DenseGenerator((), (2,), kernel_init=nn.initializers.ones)
    variables = jax.jit(module.init)(KEY, jnp.zeros((1, 2)))
    assert list(variables) == ["params"] and list(variables["params"]) == ["Dense_0"]
    np.testing.assert_allclose(outputs(module, variables, jnp.array([[1.0, 2.5]]))[0], [[3.5, 3.5]])


def test_without_batch_norm_dense_layers_have_biases_and_the_given_activation():
    module = DenseGenerator((3,), (2,), activation=jnp.cos, batch_norm=False)
    variables, codes = made(module, CODE, size=0.3), normal(5, (4, 5))
    first, last = variables["params"]["Dense_0"], variables["params"]["Dense_1"]
    want = np.cos(codes @ first["kernel"] + first["bias"]) @ last["kernel"] + last["bias"]
    np.testing.assert_allclose(outputs(module, variables, codes)[0], want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("make", [
    lambda dtype: DCGANGenerator((4,), (3, 4, 1), dtype=dtype), lambda dtype: DenseGenerator((8,), (3,), dtype=dtype)
])  # fmt: skip
@jax.numpy_dtype_promotion("standard")  # batch norm's means are float32
def test_in_bfloat16_parameters_and_outputs_are_float32(make):
    codes, variables = normal(6, (8, 5)), made(make(jnp.bfloat16), CODE, size=0.3)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    rounded, exact = (outputs(make(dtype), variables, codes, train=True)[0] for dtype in (jnp.bfloat16, jnp.float32))
    assert rounded.dtype == jnp.float32 and np.any(rounded != exact)
    np.testing.assert_allclose(rounded, exact, atol=0.05 * np.max(np.abs(exact)))
