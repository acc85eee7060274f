"""Convolutions whose gradients are fast on a CPU too, at every order.

XLA's CPU compiler has fast kernels for convolutions whose operands lie in NHWC and HWIO order. The
gradients that `lax.conv_general_dilated` derives lie otherwise; inside `scan` or `while` they run through
a naive loop, ten times slower, and so does the weight gradient of a transposed convolution anywhere. Here
the gradients are written out in the fast order.

The inner product <conv(x, k), g> is linear in the input x, in the kernel k and in g. It has three partial
gradients:

    conv(x, k)              with respect to g
    input_gradient(g, k)    with respect to x
    kernel_gradient(x, g)   with respect to k

and what any one of them needs for its own derivative is the other two. So the three are closed under
reverse-mode differentiation, and the second derivatives of a gradient penalty take the fast path as well.
(Forward mode, `jax.jvp`, is not defined.) On GPU and TPU each is left to XLA's own convolution.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jax import lax

from genlab.networks.pooling import max_pool_with_argmax, max_unpool  # noqa: F401 (found here as well)

Array = jax.Array
Padding = str | Sequence[tuple[int, int]]


class _Window(NamedTuple):
    """The geometry of a convolution, static: one entry for every spatial axis; sizes are before dilation."""

    input_shape: tuple[int, ...]
    kernel_shape: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    lhs_dilation: tuple[int, ...]
    rhs_dilation: tuple[int, ...]
    precision: Any

    @property
    def axes(self) -> list[tuple[int, int, int, int]]:
        """For every axis the input, the kernel and the output, the first two dilated, and the low padding."""
        axes = []
        for size, kernel, stride, (low, high), lhs_step, rhs_step in zip(*self[:-1], strict=True):
            size, kernel = _dilated(size, lhs_step), _dilated(kernel, rhs_step)
            axes.append((size, kernel, (size + low + high - kernel) // stride + 1, low))
        return axes


def _dilated(size: int, step: int) -> int:
    return (size - 1) * step + 1


def _unit(steps: Sequence[int]) -> bool:
    return all(step == 1 for step in steps)


# The three gradients. x: [N, *input, C], k: [*kernel, C, D], g: [N, *output, D].


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv(x: Array, k: Array, window: _Window) -> Array:
    on_cpu = lambda x, k: _canonical(x, k, *window[2:])
    return lax.platform_dependent(x, k, cpu=on_cpu, default=lambda x, k: _lax_conv(x, k, *window[2:]))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _input_gradient(g: Array, k: Array, window: _Window) -> Array:
    def on_cpu(g, k):
        # The stride becomes the dilation of g and the reverse, and the kernel is read backwards.
        padding = []
        for (size, kernel, output, low), stride in zip(window.axes, window.strides, strict=True):
            before = kernel - 1 - low
            padding.append((before, size + kernel - 1 - _dilated(output, stride) - before))
        k = jnp.swapaxes(_flip(k), -1, -2)  # [*kernel, D, C]
        return _canonical(g, k, window.lhs_dilation, padding, window.strides, window.rhs_dilation, window.precision)

    def elsewhere(g, k):
        x = jax.ShapeDtypeStruct((g.shape[0], *window.input_shape, k.shape[-2]), g.dtype)
        return jax.linear_transpose(lambda x: _lax_conv(x, k, *window[2:]), x)(g)[0]

    return lax.platform_dependent(g, k, cpu=on_cpu, default=elsewhere)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _kernel_gradient(x: Array, g: Array, window: _Window) -> Array:
    def on_cpu(x, g):
        # A weight sums over the batch, which takes the place of the channels; the channels take that of the batch.
        if _unit(window.lhs_dilation) or not _unit(window.strides):
            padding = []  # g, dilated by the stride, moves over x
            for (size, kernel, output, low), stride in zip(window.axes, window.strides, strict=True):
                padding.append((low, kernel - 1 + _dilated(output, stride) - size - low))
            x, g = jnp.swapaxes(x, 0, -1), jnp.moveaxis(g, 0, -2)  # [C, *input, N], [*output, N, D]
            steps = window.rhs_dilation, padding, window.lhs_dilation, window.strides
            return jnp.moveaxis(_canonical(x, g, *steps, window.precision), 0, -2)  # [C, *kernel, D] -> [*kernel, C, D]
        padding = []  # transposed: x, dilated, moves over g and meets the weights from the last to the first
        for size, kernel, output, low in window.axes:
            before = kernel - 1 - low
            padding.append((before, kernel - 1 + size - output - before))
        g, x = jnp.swapaxes(g, 0, -1), jnp.moveaxis(x, 0, -2)  # [D, *output, N], [*input, N, C]
        steps = window.rhs_dilation, padding, window.strides, window.lhs_dilation
        return _flip(jnp.moveaxis(_canonical(g, x, *steps, window.precision), 0, -1))  # -> [*kernel, C, D]

    def elsewhere(x, g):
        k = jax.ShapeDtypeStruct((*window.kernel_shape, x.shape[-1], g.shape[-1]), g.dtype)
        return jax.linear_transpose(lambda k: _lax_conv(x, k, *window[2:]), k)(g)[0]

    return lax.platform_dependent(x, g, cpu=on_cpu, default=elsewhere)


# Each is linear in both arguments, so its derivative is the other two, at the cotangent.


def _keep_arguments(fun: Callable) -> Callable:
    return lambda a, b, window: (fun(a, b, window), (a, b))


def _conv_vjp(window, arguments, g):
    x, k = arguments
    return _input_gradient(g, k, window), _kernel_gradient(x, g, window)


def _input_gradient_vjp(window, arguments, x):
    g, k = arguments
    return _conv(x, k, window), _kernel_gradient(x, g, window)


def _kernel_gradient_vjp(window, arguments, k):
    x, g = arguments
    return _input_gradient(g, k, window), _conv(x, k, window)


_conv.defvjp(_keep_arguments(_conv), _conv_vjp)
_input_gradient.defvjp(_keep_arguments(_input_gradient), _input_gradient_vjp)
_kernel_gradient.defvjp(_keep_arguments(_kernel_gradient), _kernel_gradient_vjp)


def _flip(k: Array) -> Array:
    return jnp.flip(k, axis=range(k.ndim - 2))


def _lax_conv(x, k, strides, padding, lhs_dilation, rhs_dilation, precision) -> Array:
    spec = (0, x.ndim - 1, *range(1, x.ndim - 1))
    numbers = lax.ConvDimensionNumbers(spec, (k.ndim - 1, k.ndim - 2, *range(k.ndim - 2)), spec)
    return lax.conv_general_dilated(x, k, strides, padding, lhs_dilation, rhs_dilation, numbers, precision=precision)


def _canonical(x, k, strides, padding, lhs_dilation, rhs_dilation, precision) -> Array:
    """The convolution as XLA's CPU compiler runs it best: x: [N, *input, C], k: [*kernel, C, D]."""
    if any(low < 0 or high < 0 for low, high in padding):
        # XLA's fast kernel returns wrong numbers under a negative padding, so the input is cropped first.
        crops = [(min(low, 0), min(high, 0), step - 1) for (low, high), step in zip(padding, lhs_dilation, strict=True)]
        x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *crops, (0, 0, 0)])
        padding = [(max(low, 0), max(high, 0)) for low, high in padding]
        lhs_dilation = (1,) * len(padding)
    plain = lambda x, k: _lax_conv(x, k, strides, padding, lhs_dilation, rhs_dilation, precision)
    conv = jax.custom_batching.custom_vmap(plain)

    @conv.def_vmap
    def conv_of_members(size, batched, x, k):
        # Members with kernels of their own would become groups of one convolution, at a third of the speed.
        if all(batched):
            return lax.map(lambda member: conv(*member), (x, k)), True
        return jax.vmap(plain, [0 if axis else None for axis in batched])(x, k), True

    if math.prod(k.shape[:-2]) <= math.prod(x.shape[1:-1]):
        return conv(x, k)
    # Of a kernel larger than the input XLA makes the input, in another order. Zeros behind the input prevent it.
    output = jax.eval_shape(plain, x, k).shape
    zeros = [(0, max(kernel - size, 0)) for kernel, size in zip(k.shape, x.shape[1:-1], strict=False)]
    x = lax.optimization_barrier(jnp.pad(x, [(0, 0), *zeros, (0, 0)]))
    return conv(x, k)[tuple(slice(size) for size in output)]


def conv_general_dilated(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: Padding,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:
    """`jax.lax.conv_general_dilated` with the gradients of this module; Linen's `nn.Conv` takes it by that name.

    Any number of spatial axes, strides, paddings, dilations, feature groups and dimension orders; as in lax
    the default order is NCHW and OIHW. What no network here needs is handed to lax: groups of the batch, types other
    than floating-point ones, an output type other than the inputs'.

    Args:
        lhs: f[N, C, *input], or in the order of `dimension_numbers`.
        rhs: f[D, C / groups, *kernel], of lhs's type.
        window_strides, padding, lhs_dilation, rhs_dilation: one entry for every spatial axis; padding may be "SAME"
            or "VALID" where lhs_dilation is 1.
        dimension_numbers, feature_group_count, batch_group_count, precision, preferred_element_type: as in lax.

    Returns:
        f[N, D, *output], of the inputs' type.

    Raises:
        ValueError: if the channels do not match, the types differ, or the kernel does not fit into the input.
    """
    if lhs.ndim != rhs.ndim or lhs.ndim < 3:
        raise ValueError(f"a convolution needs an input and a kernel of one rank >= 3, got {lhs.shape} and {rhs.shape}")
    if lhs.dtype != rhs.dtype:
        raise ValueError(f"input and kernel must have one type, got {lhs.dtype} and {rhs.dtype}")
    same_type = preferred_element_type is None or jnp.dtype(preferred_element_type) == lhs.dtype
    if batch_group_count != 1 or not same_type or not jnp.issubdtype(lhs.dtype, jnp.floating):
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            dimension_numbers,
            feature_group_count,
            batch_group_count,
            precision,
            preferred_element_type,
        )
    lhs_spec, rhs_spec, out_spec = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    lhs = lhs.transpose(lhs_spec[0], *lhs_spec[2:], lhs_spec[1])  # [N, *input, C]
    rhs = rhs.transpose(*rhs_spec[2:], rhs_spec[1], rhs_spec[0])  # [*kernel, C / groups, D]
    out = _channels_last(
        lhs, rhs, window_strides, padding, lhs_dilation, rhs_dilation, feature_group_count, precision
    )  # [N, *output, D]
    return jnp.moveaxis(out, range(out.ndim), (out_spec[0], *out_spec[2:], out_spec[1]))


def _channels_last(
    x: Array,
    kernel: Array,
    strides: Sequence[int],
    padding: Padding,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    groups: int = 1,
    precision: Any = None,
) -> Array:
    n = x.ndim - 2
    lhs_dilation, rhs_dilation = lhs_dilation or (1,) * n, rhs_dilation or (1,) * n
    input_shape, kernel_shape = x.shape[1:-1], kernel.shape[:-2]
    if any(len(steps) != n for steps in (strides, lhs_dilation, rhs_dilation)):
        raise ValueError(f"strides and dilations need {n} entries each, got {strides}, {lhs_dilation}, {rhs_dilation}")
    if x.shape[-1] != kernel.shape[-2] * groups or kernel.shape[-1] % groups:
        raise ValueError(
            f"a kernel of {kernel.shape[-2]} input and {kernel.shape[-1]} output channels in {groups} groups cannot "
            f"be applied to {x.shape[-1]} channels"
        )
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID") or not _unit(lhs_dilation):
            raise ValueError(f'padding must be "SAME", "VALID" (without lhs_dilation) or {n} pairs, got {padding!r}')
        windows = [_dilated(size, step) for size, step in zip(kernel_shape, rhs_dilation, strict=True)]
        padding = lax.padtype_to_pads(input_shape, windows, strides, padding)
    window = _Window(
        input_shape,
        kernel_shape,
        tuple(strides),
        tuple((int(low), int(high)) for low, high in padding),
        tuple(lhs_dilation),
        tuple(rhs_dilation),
        precision,
    )
    if any(output < 1 for _, _, output, _ in window.axes):
        raise ValueError(f"a kernel of {kernel_shape} does not fit into an input of {input_shape} padded by {padding}")
    if groups == 1:
        return _conv(x, kernel, window)
    # XLA holds the groups in blocks, so they are an axis of their own, over which vmap runs.
    x = x.reshape(*x.shape[:-1], groups, -1)  # [N, *input, groups, C / groups]
    kernel = kernel.reshape(*kernel.shape[:-1], groups, -1)  # [*kernel, C / groups, groups, D / groups]
    y = jax.vmap(lambda x, k: _conv(x, k, window), in_axes=(-2, -2), out_axes=-2)(x, kernel)
    return y.reshape(*y.shape[:-2], -1)


def _repeat(value: Any, n: int) -> tuple[Any, ...]:
    return (value,) * n if isinstance(value, int) else tuple(value)


def conv2d(x: Array, kernel: Array, strides: int | Sequence[int] = 1, padding: Padding = "SAME") -> Array:
    """Two-dimensional convolution, a cross-correlation as everywhere in deep learning: the kernel is not flipped.

    Args:
        x: f[N, H, W, C].
        kernel: f[kH, kW, C, D], of x's type.
        strides: one for both axes, or a pair.
        padding: "SAME", "VALID" or ((top, bottom), (left, right)).

    Returns:
        f[N, H', W', D]: H' is ceil(H / stride) for "SAME", ceil((H - kH + 1) / stride) for "VALID".

    Raises:
        ValueError: if shapes, channels or types do not match.
    """
    _check_rank(x, kernel)
    return _channels_last(x, kernel, _repeat(strides, 2), padding)


def conv_transpose2d(x: Array, kernel: Array, strides: int | Sequence[int] = 1, padding: Padding = "SAME") -> Array:
    """Two-dimensional transposed convolution: x is spread out by the stride, then convolved with stride 1.

    The convention is that of `lax.conv_transpose` and `nn.ConvTranspose`: the kernel is neither flipped nor are its
    channel axes swapped. It is the adjoint of `conv2d` under the kernel `kernel[::-1, ::-1].swapaxes(2, 3)` and the
    same strides and string padding, where the strides divide; that kernel is the one PyTorch stores.

    Args:
        x: f[N, H, W, C].
        kernel: f[kH, kW, C, D], of x's type.
        strides: one for both axes, or a pair.
        padding: "SAME" or "VALID", that of the convolution of which this is the transpose, or pairs
            ((top, bottom), (left, right)) that pad the spread-out x; PyTorch's padding p is kernel - 1 - p here.

    Returns:
        f[N, H', W', D]: H' is H * stride for "SAME", H * stride + max(kH - stride, 0) for "VALID".

    Raises:
        ValueError: if shapes, channels or types do not match.
    """
    _check_rank(x, kernel)
    strides = _repeat(strides, 2)
    return _channels_last(x, kernel, (1, 1), _transpose_padding(kernel.shape[:2], strides, padding), strides)


def _check_rank(x: Array, kernel: Array) -> None:
    if x.ndim != 4 or kernel.ndim != 4:
        raise ValueError(f"x must be [N, H, W, C] and the kernel [kH, kW, C, D], got {x.shape} and {kernel.shape}")
    if x.dtype != kernel.dtype:
        raise ValueError(f"x and the kernel must have one type, got {x.dtype} and {kernel.dtype}")


def _transpose_padding(windows: Sequence[int], strides: Sequence[int], padding: Padding) -> Sequence[tuple[int, int]]:
    """The padding of the dilated input that transposes a convolution of this (dilated) kernel, stride and padding."""
    if not isinstance(padding, str):
        return padding
    pairs = []
    for window, stride in zip(windows, strides, strict=True):
        if padding == "SAME":
            before = window - 1 if stride >= window else math.ceil((window + stride - 2) / 2)
            pairs.append((before, window + stride - 2 - before))
        elif padding == "VALID":
            pairs.append((window - 1, window - 1 + max(stride - window, 0)))
        else:
            raise ValueError(f'padding must be "SAME", "VALID" or a pair for every axis, got {padding!r}')
    return pairs


class Conv(nn.Conv):
    """Linen's `nn.Conv`, same fields and parameters, with the gradients of this module."""

    conv_general_dilated: Callable[..., Array] | None = conv_general_dilated


class ConvTranspose(nn.Module):
    """Linen's `nn.ConvTranspose`, same parameters, with the gradients of this module; see `conv_transpose2d`.

    Attributes:
        features: channels of the output.
        kernel_size: one entry for every spatial axis.
        strides: the factor by which every axis grows.
        padding: "SAME", "VALID", an integer, or one integer or pair for every axis, of the spread-out input.
        kernel_dilation: steps between the kernel's weights.
        use_bias: whether a bias is added.
        dtype: of the arithmetic; None: what inputs and parameters promote to.
        param_dtype: of the parameters.
        precision: as in `lax.conv_transpose`.
        kernel_init, bias_init: initializers of `kernel`, f[*kernel_size, C, features], and `bias`, f[features].
    """

    features: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: str | int | Sequence[int | tuple[int, int]] = "SAME"
    kernel_dilation: int | Sequence[int] = 1
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    precision: Any = None
    kernel_init: Callable[..., Array] = nn.initializers.lecun_normal()
    bias_init: Callable[..., Array] = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """f[..., *input, C] -> f[..., *output, features]; any number of batch axes."""
        size = _repeat(self.kernel_size, 1)
        n = len(size)
        strides, steps = _repeat(self.strides, n), _repeat(self.kernel_dilation, n)
        padding = self.padding
        if not isinstance(padding, str):
            padding = [(pad, pad) if isinstance(pad, int) else pad for pad in _repeat(padding, n)]
        padding = _transpose_padding([_dilated(k, step) for k, step in zip(size, steps, strict=True)], strides, padding)

        kernel = self.param("kernel", self.kernel_init, (*size, x.shape[-1], self.features), self.param_dtype)
        bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype) if self.use_bias else None
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        batch = x.shape[: -n - 1]
        x = x.reshape(-1, *x.shape[-n - 1 :])
        y = _channels_last(x, kernel, (1,) * n, padding, strides, steps, precision=self.precision)
        y = y if bias is None else y + bias
        return y.reshape(*batch, *y.shape[1:])
