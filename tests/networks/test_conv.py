import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from genlab.networks import conv

NHWC = ("NHWC", "HWIO", "NHWC")


def normal(seed, *shape, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def by_loops(x, kernel, strides, padding, lhs_dilation, rhs_dilation):
    """The convolution as its definition has it, in float64 numpy, one output pixel at a time."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    dilated = np.zeros(
        (len(x), *[(n - 1) * d + 1 for n, d in zip(x.shape[1:3], lhs_dilation, strict=True)], x.shape[3])
    )
    dilated[:, :: lhs_dilation[0], :: lhs_dilation[1]] = x
    dilated = np.pad(dilated, ((0, 0), *padding, (0, 0)))
    span = [(n - 1) * d + 1 for n, d in zip(kernel.shape, rhs_dilation, strict=False)]
    rows = range(0, dilated.shape[1] - span[0] + 1, strides[0])
    columns = range(0, dilated.shape[2] - span[1] + 1, strides[1])
    y = np.zeros((len(x), len(rows), len(columns), kernel.shape[3]))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            patch = dilated[:, row : row + span[0] : rhs_dilation[0], column : column + span[1] : rhs_dilation[1]]
            y[:, i, j] = np.einsum("nabc,abcd->nd", patch, kernel)
    return y


def all_derivatives(fun, x, kernel, cotangent):
    """Value, first gradients, and the gradients of a nonlinear function of the first gradients."""

    @jax.jit
    def derivatives(x, kernel, cotangent):
        y, pullback = jax.vjp(fun, x, kernel)

        def penalty(x, kernel):
            dx, dk = jax.grad(lambda *a: jnp.sum(jnp.tanh(fun(*a)) * cotangent), (0, 1))(x, kernel)
            return jnp.sum(jnp.sin(dx)) + jnp.sum(jnp.sin(dk))

        return y, pullback(cotangent), jax.grad(penalty, (0, 1))(x, kernel)

    return derivatives(x, kernel, cotangent)


def assert_close(actual, expected, tolerance=1e-4):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), actual, expected)


# size, kernel, strides, padding, lhs_dilation, rhs_dilation, groups
GEOMETRIES = {
    "stride 1": ((5, 4), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), (1, 1), 1),
    "stride 2, even kernel": ((6, 6), (4, 4), (2, 2), ((1, 1), (1, 1)), (1, 1), (1, 1), 1),
    "kernel smaller than stride": ((7, 8), (2, 1), (3, 2), ((0, 0), (0, 0)), (1, 1), (1, 1), 1),
    "remainder, asymmetric": ((8, 7), (3, 4), (3, 2), ((0, 2), (3, 1)), (1, 1), (1, 1), 1),
    "wide padding": ((3, 4), (2, 3), (2, 1), ((3, 2), (4, 3)), (1, 1), (1, 1), 1),
    "dilated kernel": ((8, 9), (3, 2), (2, 1), ((2, 1), (0, 3)), (1, 1), (2, 3), 1),
    "transposed": ((3, 4), (4, 5), (1, 1), ((2, 2), (3, 2)), (2, 2), (1, 1), 1),
    "transposed, kernel smaller than stride": ((3, 2), (2, 3), (1, 1), ((1, 2), (2, 0)), (3, 1), (1, 1), 1),
    "both dilated": ((4, 3), (2, 3), (1, 2), ((1, 2), (2, 2)), (2, 3), (2, 1), 1),
    "groups": ((5, 6), (3, 4), (2, 2), ((1, 1), (1, 2)), (1, 1), (1, 1), 2),
    "transposed groups": ((3, 3), (4, 3), (1, 1), ((2, 2), (1, 2)), (2, 2), (1, 1), 2),
}


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_value_and_two_derivatives_are_those_of_lax(geometry):
    size, kernel_size, *steps, groups = geometry
    x, kernel = normal(0, 2, *size, 2 * groups), normal(1, *kernel_size, 2, 3 * groups)
    run = lambda fun: lambda x, k: fun(x, k, *steps, dimension_numbers=NHWC, feature_group_count=groups)
    cotangent = normal(2, *jax.eval_shape(run(lax.conv_general_dilated), x, kernel).shape)
    actual = all_derivatives(run(conv.conv_general_dilated), x, kernel, cotangent)
    assert_close(actual, all_derivatives(run(lax.conv_general_dilated), x, kernel, cotangent))
    if groups == 1:
        assert_close(actual[0], by_loops(x, kernel, *steps))


def test_negative_padding_crops_in_every_derivative():
    # lax itself is no oracle: on CPU its float32 convolution gets a negative padding wrong.
    x, kernel = normal(0, 2, 5, 6, 2), normal(1, 3, 2, 2, 3)
    crop = lambda x, k: conv.conv_general_dilated(x, k, (2, 1), ((-1, 2), (1, -2)), dimension_numbers=NHWC)
    cut = lambda x, k: lax.conv_general_dilated(x[:, 1:, :-2], k, (2, 1), ((0, 2), (1, 0)), dimension_numbers=NHWC)
    cotangent = normal(2, *jax.eval_shape(cut, x, kernel).shape)
    assert_close(all_derivatives(crop, x, kernel, cotangent), all_derivatives(cut, x, kernel, cotangent))


@pytest.mark.parametrize(
    ("numbers", "size", "kernel_size"),
    [(None, (2, 3, 6, 5), (4, 3, 3, 2)), (("NWC", "WIO", "NWC"), (2, 9, 3), (4, 3, 2))],
    ids=["2-d, NCHW", "1-d"],
)
def test_other_orders_and_ranks(numbers, size, kernel_size):
    x, kernel = normal(0, *size), normal(1, *kernel_size)
    run = lambda fun: lambda x, k: fun(x, k, (2,) * (x.ndim - 2), "SAME", dimension_numbers=numbers)
    cotangent = normal(2, *jax.eval_shape(run(lax.conv_general_dilated), x, kernel).shape)
    assert_close(
        all_derivatives(run(conv.conv_general_dilated), x, kernel, cotangent),
        all_derivatives(run(lax.conv_general_dilated), x, kernel, cotangent),
    )


@pytest.mark.parametrize("padding", ["SAME", "VALID", ((0, 1), (2, 1))])
@pytest.mark.parametrize("strides", [(1, 1), (2, 3)])
def test_plain_functions_are_those_of_lax(strides, padding):
    x, kernel = normal(0, 2, 5, 7, 2), normal(1, 4, 3, 2, 3)
    expected = lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=NHWC)
    assert_close(conv.conv2d(x, kernel, strides, padding), expected)
    assert_close(conv.conv_transpose2d(x, kernel, strides, padding), lax.conv_transpose(x, kernel, strides, padding))


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("kernel_size", [2, 3, 4, 5])
def test_transposed_convolution_is_the_adjoint(kernel_size, padding):
    # <A x, y> = <x, A' y>, with the kernel's axes flipped and its channels swapped. Where the stride does not divide,
    # A' says nothing of the pixels that A does not see: the sizes are such that it divides.
    size = 8 if padding == "SAME" else 2 * 3 + max(kernel_size - 2, 0)
    x, kernel = normal(0, 2, size, size, 3), normal(1, kernel_size, kernel_size, 3, 4)
    forward = conv.conv2d(x, kernel, 2, padding)
    y = normal(2, *forward.shape)
    backward = conv.conv_transpose2d(y, kernel[::-1, ::-1].swapaxes(2, 3), 2, padding)
    assert backward.shape == x.shape
    np.testing.assert_allclose(jnp.vdot(forward, y), jnp.vdot(x, backward), rtol=1e-4)


def layers(x, kernels):
    down, up = kernels
    return jnp.tanh(conv.conv_transpose2d(jnp.tanh(conv.conv2d(x, down, 2)), up, 2))


def lax_layers(x, kernels):
    down, up = kernels
    hidden = jnp.tanh(lax.conv_general_dilated(x, down, (2, 2), "SAME", dimension_numbers=NHWC))
    return jnp.tanh(lax.conv_transpose(hidden, up, (2, 2), "SAME"))


def gradient_penalty(model):
    """A scalar whose gradient needs every second derivative of the model."""

    def penalty(x, kernels):
        gradient = jax.grad(lambda x: jnp.sum(model(x, kernels)))(x)
        return jnp.mean(jnp.square(jnp.sqrt(jnp.sum(jnp.square(gradient), (1, 2, 3))) - 1.0))

    return jax.grad(penalty, (0, 1))


def kernels(*batch):
    return normal(1, *batch, 4, 4, 3, 5), normal(2, *batch, 3, 3, 5, 2)


def test_gradient_penalty_inside_scan():
    def descend(model):
        def body(kernels, x):
            _, gradients = gradient_penalty(model)(x, kernels)
            return jax.tree.map(lambda k, g: k - 0.001 * g, kernels, gradients), None

        return jax.jit(lambda kernels, xs: lax.scan(body, kernels, xs)[0])

    xs = normal(0, 3, 2, 6, 6, 3)
    assert_close(descend(layers)(kernels(), xs), descend(lax_layers)(kernels(), xs))


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)], ids=["inputs", "kernels", "both"])
def test_vmap_is_the_members_one_by_one(axes):
    x = normal(0, 2, 2, 6, 6, 3) if axes[0] == 0 else normal(0, 2, 6, 6, 3)
    k = kernels(2) if axes[1] == 0 else kernels()
    solo = jax.jit(gradient_penalty(layers))
    take = lambda tree, axis, i: tree if axis is None else jax.tree.map(lambda a: a[i], tree)
    members = [solo(take(x, axes[0], i), take(k, axes[1], i)) for i in range(2)]
    expected = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    assert_close(jax.jit(jax.vmap(gradient_penalty(layers), axes))(x, k), expected)


def test_bfloat16_keeps_its_type_and_is_near_float32():
    x, k = normal(0, 4, 6, 6, 3), kernels()
    loss = lambda x, k: jnp.sum(jnp.square(layers(x, k).astype(jnp.float32)))
    gradients = jax.jit(jax.grad(loss, (0, 1)))
    rounded = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (x, k))
    actual = gradients(*rounded)
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(actual))
    expected = gradients(*jax.tree.map(lambda a: a.astype(jnp.float32), rounded))
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert jnp.linalg.norm(a.astype(jnp.float32) - b) < 0.03 * jnp.linalg.norm(b)


def orders(text):
    """The dimension orders of all convolutions in a StableHLO program."""
    return set(re.findall(r"stablehlo.convolution.*dim_numbers = (.*?), window", text))


def lowered(model, platform):
    """Gradient steps on a gradient penalty, inside a scan."""
    body = lambda k, x: (gradient_penalty(model)(x, k)[1], None)
    program = jax.jit(lambda k, xs: lax.scan(body, k, xs)[0]).trace(kernels(), normal(0, 3, 2, 6, 6, 3))
    return program.lower(lowering_platforms=(platform,))


def test_on_cpu_all_convolutions_to_second_order_are_canonical():
    canonical = {"[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"}
    assert orders(lowered(layers, "cpu").as_text()) == canonical < orders(lowered(lax_layers, "cpu").as_text())
    compiled = lowered(layers, "cpu").compile().as_text()
    assert set(re.findall(r"dim_labels=(\S+?)[,\s]", compiled)) == {"b01f_01io->b01f"}
    assert " conditional(" not in compiled  # the platform was chosen before


def test_elsewhere_convolutions_are_xla_s_own():
    gradient = lambda model: jax.grad(lambda k, x: jnp.sum(model(x, k)))
    lower = lambda model: (
        jax.jit(gradient(model)).trace(kernels(), normal(0, 2, 6, 6, 3)).lower(lowering_platforms=("cuda",))
    )
    assert orders(lower(layers).as_text()) == orders(lower(lax_layers).as_text())


@pytest.mark.parametrize(
    ("ours", "theirs", "fields"),
    [
        (conv.Conv, nn.Conv, {"kernel_size": (4, 3), "strides": (2, 1)}),
        (conv.Conv, nn.Conv, {"kernel_size": (3, 3), "padding": "CIRCULAR", "feature_group_count": 3}),
        (conv.Conv, nn.Conv, {"kernel_size": (3, 2), "padding": 2, "kernel_dilation": 2, "use_bias": False}),
        (conv.ConvTranspose, nn.ConvTranspose, {"kernel_size": (4, 4), "strides": (2, 2)}),
        (conv.ConvTranspose, nn.ConvTranspose, {"kernel_size": (5, 2), "strides": (2, 3), "padding": "VALID"}),
        (conv.ConvTranspose, nn.ConvTranspose, {"kernel_size": (5,), "strides": (3,), "padding": 1, "use_bias": False}),
        (
            conv.ConvTranspose,
            nn.ConvTranspose,
            {"kernel_size": (3, 3), "kernel_dilation": (2, 1), "padding": (1, (0, 2))},
        ),
        (conv.ConvTranspose, nn.ConvTranspose, {"kernel_size": (2, 2), "strides": (2, 2), "dtype": jnp.bfloat16}),
    ],
)
def test_modules_are_linen_s(ours, theirs, fields):
    x = normal(0, *(2, 2, 6, 5, 3)[-2 - len(fields["kernel_size"]) :])
    ours, theirs = ours(features=6, **fields), theirs(features=6, **fields)
    variables = theirs.init(jax.random.key(0), x)
    jax.tree.map(np.testing.assert_array_equal, ours.init(jax.random.key(0), x), variables)
    variables = jax.tree.map(lambda p: p + 0.5, variables)  # so that the bias is seen
    expected = theirs.apply(variables, x)
    actual = ours.apply(variables, x)
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    assert_close(actual.astype(jnp.float32), expected.astype(jnp.float32), 1e-4 if x.dtype == actual.dtype else 0.05)


def test_batch_axes_are_kept():
    x = normal(0, 2, 3, 4, 4, 2)
    layer = conv.ConvTranspose(3, (4, 4), strides=(2, 2))
    variables = layer.init(jax.random.key(0), x)
    apply = jax.jit(layer.apply)
    y = apply(variables, x)
    assert y.shape == (2, 3, 8, 8, 3)
    assert_close(y[1, 2], apply(variables, x[1, 2]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, k: conv.conv2d(x[0], k), r"x must be \[N, H, W, C\]"),
        (lambda x, k: conv.conv2d(x, k.astype(jnp.bfloat16)), "one type"),
        (lambda x, k: conv.conv2d(x[..., :1], k), "cannot be applied to 1 channels"),
        (lambda x, k: conv.conv2d(x[:, :2], k, 1, "VALID"), "does not fit"),
        (lambda x, k: conv.conv2d(x, k, (1, 1, 1)), "2 entries each"),
        (lambda x, k: conv.conv2d(x, k, 1, "FULL"), 'must be "SAME"'),
        (lambda x, k: conv.conv_transpose2d(x, k, 2, "FULL"), 'must be "SAME"'),
    ],
)
def test_wrong_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(normal(0, 2, 5, 5, 2), normal(1, 3, 3, 2, 4))
