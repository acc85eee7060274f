"""Discriminators against numpy and lax, and against themselves fed by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from linen_modules import KEY, made, normal, outputs, shapes

from genlab.networks.discriminators import DCGANTrunk, DenseTrunk, Discriminator, MaxoutTrunk, Quadratic

LABEL = np.array([[2], [0], [1], [2], [1], [0]], np.int32)


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def normalised(x, scale, bias, axes):
    x, epsilon = np.asarray(x, np.float64), 1e-6 if axes == -1 else 1e-5
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon) * scale + bias


def test_a_dcgan_trunk_has_the_layers_of_its_paper():
    """Convolutions of stride 2 alone; the first is not normalised, and those that are have no bias."""
    assert shapes(DCGANTrunk((4, 6, 8)), jnp.zeros((1, 28, 28, 1))) == {
        "params": {
            "Conv_0": {"kernel": (5, 5, 1, 4), "bias": (4,)},
            "Conv_1": {"kernel": (5, 5, 4, 6)},
            "BatchNorm_0": {"scale": (6,), "bias": (6,)},
            "Conv_2": {"kernel": (5, 5, 6, 8)},
            "BatchNorm_1": {"scale": (8,), "bias": (8,)},
        },
        "batch_stats": {"BatchNorm_0": {"mean": (6,), "var": (6,)}, "BatchNorm_1": {"mean": (8,), "var": (8,)}},
    }
    plain = shapes(DCGANTrunk((4, 6), norm="none"), jnp.zeros((1, 28, 28, 1)))
    assert list(plain) == ["params"] and all(set(layer) == {"kernel", "bias"} for layer in plain["params"].values())


def test_a_dcgan_discriminator_has_no_dense_layer_but_its_logit():
    params = shapes(Discriminator(DCGANTrunk((4, 6))), jnp.zeros((1, 28, 28, 1)))["params"]
    assert set(params) == {"trunk", "Dense_0"} and params["Dense_0"] == {"kernel": (7 * 7 * 6, 1), "bias": (1,)}


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_a_dcgan_trunk_is_its_layers_written_out(norm):
    """Every side is halved, rounded up: 13 x 10, 7 x 5, 4 x 3."""
    module, x = DCGANTrunk((4, 6), norm), normal(0, (5, 13, 10, 2))
    variables = made(module, x)
    params = variables["params"]
    features, _ = outputs(module, variables, x, train=True)
    numbers = ("NHWC", "HWIO", "NHWC")
    conv = lambda x, name: lax.conv_general_dilated(
        jnp.float32(x), params[name]["kernel"], (2, 2), "SAME", dimension_numbers=numbers
    ) + params[name].get("bias", 0.0)  # fmt: skip
    second = conv(leaky(conv(x, "Conv_0")), "Conv_1")
    layer = {"batch": "BatchNorm_0", "layer": "LayerNorm_0"}.get(norm)
    if layer:
        second = normalised(second, **params[layer], axes=(0, 1, 2) if norm == "batch" else -1)
    assert features.shape == (5, 4, 3, 6)
    np.testing.assert_allclose(features, leaky(np.asarray(second)), rtol=1e-3, atol=1e-4)


def test_a_maxout_unit_is_the_largest_of_its_affine_pieces():
    module, x = MaxoutTrunk((3, 2), pieces=4), normal(1, (6, 5, 1))
    variables = made(module, x)
    want = x.reshape(6, 5)
    for i, width in enumerate((3, 2)):
        layer = variables["params"][f"Dense_{i}"]
        pieces = [
            want @ layer["kernel"][:, k * width : (k + 1) * width] + layer["bias"][k * width : (k + 1) * width]
            for k in range(4)
        ]
        want = np.max(pieces, axis=0)
    np.testing.assert_allclose(outputs(module, variables, x)[0], want, rtol=1e-4, atol=1e-4)
    assert np.min(want) < 0  # there is no other nonlinearity


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_a_dense_trunk_is_its_layers_written_out(norm):
    module, x = DenseTrunk((4, 3), norm), normal(2, (6, 2, 2))
    variables, want = made(module, x), x.reshape(6, 4)
    params = variables["params"]
    for i in range(2):
        assert ("bias" in params[f"Dense_{i}"]) == (norm == "none")
        want = want @ np.float64(params[f"Dense_{i}"]["kernel"]) + params[f"Dense_{i}"].get("bias", 0.0)
        if norm != "none":
            layer = {"batch": "BatchNorm", "layer": "LayerNorm"}[norm]
            want = normalised(want, **params[f"{layer}_{i}"], axes=0 if norm == "batch" else -1)
        want = leaky(want)
    features, _ = outputs(module, variables, x, train=True)
    np.testing.assert_allclose(features, want, rtol=1e-3, atol=1e-4)


def test_quadratic_features_are_the_numbers_and_their_squares():
    np.testing.assert_array_equal(Quadratic().apply({}, jnp.array([[-2.0, 3.0]])), [[-2, 3, 4, 9]])


# A trunk whose examples do not see each other, so that whatever else they see of each other is the head's.

TRUNK = DenseTrunk((7,))


@functools.cache
def logits_of(module, x_shape=(6, 4, 4, 2), labels=1):
    """(variables, jitted (x, label) -> logits)."""
    x, label = jnp.zeros(x_shape), jnp.zeros((x_shape[0], labels), jnp.int32)
    variables = made(module, x, label)
    return variables, jax.jit(lambda variables, x, label=None: module.apply(variables, x, label))


def test_a_logit_is_linear_in_the_trunks_features():
    x = normal(3, (6, 4, 4, 2))
    variables, judge = logits_of(Discriminator(TRUNK))
    features, _ = outputs(TRUNK, {"params": variables["params"]["trunk"]}, x)
    head = variables["params"]["Dense_0"]
    want = features @ head["kernel"][:, 0] + head["bias"]
    assert judge(variables, x).shape == (6,)
    np.testing.assert_allclose(judge(variables, x), want, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(judge(variables, x, LABEL), judge(variables, x))  # nor does it look at labels


@pytest.mark.parametrize(("shape", "labels"), [((6, 4, 4, 2), 1), ((6, 4, 4, 2), 2), ((6, 5), 2)])
def test_concatenation_is_feeding_the_label_as_planes(shape, labels):
    x, label = normal(4, shape), np.concatenate([LABEL, (LABEL + 1) % 3], axis=1)[:, :labels]
    trunk = DCGANTrunk((3,)) if len(shape) == 4 else TRUNK
    variables, judge = logits_of(Discriminator(trunk, "concatenation", 3), shape, labels)
    planes = np.zeros((*shape[:-1], 3 * labels), np.float32)
    for i in range(6):
        for m in range(labels):
            planes[i, ..., 3 * m + label[i, m]] = 1
    by_hand = outputs(Discriminator(trunk), variables, np.concatenate([x, planes], axis=-1))[0]
    np.testing.assert_allclose(judge(variables, x, label), by_hand, rtol=1e-5, atol=1e-6)
    assert np.all(np.abs(judge(variables, x, (label + 1) % 3) - by_hand) > 1e-4)


@pytest.mark.parametrize("labels", [1, 2])
def test_projection_adds_the_inner_product_of_features_and_embedding(labels):
    x, label = normal(5, (6, 4, 4, 2)), np.concatenate([LABEL, (LABEL + 1) % 3], axis=1)[:, :labels]
    variables, judge = logits_of(Discriminator(TRUNK, "projection", 3), labels=labels)
    params = dict(variables["params"])
    table = np.asarray(params.pop("Embed_0")["embedding"])
    assert table.shape == (3, 7)
    features = np.asarray(outputs(TRUNK, {"params": params["trunk"]}, x)[0])
    unconditional, _ = outputs(Discriminator(TRUNK), {"params": params}, x)
    want = unconditional + np.sum(table[label].sum(1) * features, axis=-1)
    np.testing.assert_allclose(judge(variables, x, label), want, rtol=1e-5, atol=1e-5)
    assert np.max(np.abs(want - unconditional)) > 0.1


def test_minibatch_kernels_are_appended_to_what_the_dense_logit_is_made_of_alone():
    module = Discriminator(TRUNK, "projection", 3, num_kernels=4, kernel_dim=2)
    params = shapes(module, jnp.zeros((6, 4, 4, 2)), LABEL)["params"]
    assert params["MinibatchDiscrimination_0"] == {"tensor": (7, 4, 2)}
    assert params["Dense_0"]["kernel"] == (11, 1) and params["Embed_0"]["embedding"] == (3, 7)


def test_stddev_is_seen_by_one_more_layer():
    on_features = shapes(Discriminator(TRUNK, stddev_group=2), jnp.zeros((6, 4)))["params"]
    assert on_features["Dense_0"]["kernel"] == (8, 7) and on_features["Dense_1"]["kernel"] == (7, 1)
    on_images = shapes(Discriminator(DCGANTrunk((3,)), stddev_group=2), jnp.zeros((6, 4, 4, 2)))["params"]
    assert on_images["Conv_0"]["kernel"] == (3, 3, 4, 3) and on_images["Dense_0"]["kernel"] == (12, 1)


@pytest.mark.parametrize(
    ("options", "seeing"),
    [
        ({}, [1]),
        ({"num_kernels": 3}, [0, 1, 2, 3, 4, 5]),
        ({"stddev_group": 6}, [0, 1, 2, 3, 4, 5]),
        ({"stddev_group": 2}, [1, 4]),  # of groups {0, 3}, {1, 4}, {2, 5}
    ],
)
@pytest.mark.parametrize("trunk", [TRUNK, DCGANTrunk((3,))])
def test_an_example_sees_another_where_that_was_asked_for(options, seeing, trunk):
    variables, judge = logits_of(Discriminator(trunk, **options))
    x = 0.3 * normal(6, (6, 4, 4, 2))
    before, after = judge(variables, x), judge(variables, jnp.asarray(x).at[1].multiply(-2.0))
    np.testing.assert_array_equal(np.flatnonzero(np.abs(after - before) > 1e-6), seeing)


@pytest.mark.parametrize("conditioning", ["concatenation", "projection"])
@jax.numpy_dtype_promotion("standard")  # batch norm's means are float32
def test_in_bfloat16_parameters_and_logits_are_float32(conditioning):
    x = normal(7, (6, 4, 4, 2))
    make = lambda dtype: Discriminator(DCGANTrunk((3, 4), dtype=dtype), conditioning, 3, 2, 2, 2, dtype)
    variables = made(make(jnp.bfloat16), x, LABEL)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    rounded, exact = (outputs(make(dtype), variables, x, LABEL)[0] for dtype in (jnp.bfloat16, jnp.float32))
    assert rounded.dtype == jnp.float32 and np.any(rounded != exact)
    np.testing.assert_allclose(rounded, exact, atol=0.05 * np.max(np.abs(exact)))


def test_maxout_in_bfloat16_has_float32_parameters():
    features, variables = jax.eval_shape(MaxoutTrunk((3,), dtype=jnp.bfloat16).init_with_output, KEY, jnp.zeros((2, 4)))
    assert features.dtype == jnp.bfloat16 and {leaf.dtype for leaf in jax.tree.leaves(variables)} == {
        jnp.dtype("float32")
    }
