"""The network of the Frechet Inception distance, for users who have its weights; none are shipped or downloaded.

What the literature calls FID compares the 2048 averages of the last feature maps of one network with one set of
weights: InceptionV3 as TensorFlow published it on 2015-12-05, trained on ImageNet. In three things that graph is not
the InceptionV3 of the paper and of torchvision:

    average pooling counts the pixels of a window that lie in the image, instead of nine
    the pooling of the last block takes the maximum
    there are 1008 classes

Here the network is a table, `LAYERS`, and what walks over it. Convolutions have the names that PyTorch's state dict
gives them; each is without bias and is followed by batch normalization, in evaluation mode, and a relu.

    weights = load_weights("inception.npz")
    features = jax.jit(inception_features)  # the weights are an argument: captured, they become constants
    features(weights, images)  # sixteen at a time, say: each takes some 15 MB, and more at once are not faster on a CPU

References: Szegedy et al. 2016, "Rethinking the Inception architecture for computer vision" (the blocks are its figures
5, 6, 7 and 10); Heusel et al. 2017, "GANs trained by a two time-scale update rule converge to a local Nash
equilibrium" (the distance). The weights in PyTorch's form are `pt_inception-2015-12-05-6726825d.pth` of
github.com/mseitzer/pytorch-fid.
"""

import functools
import os
import pathlib
import pickle
import zipfile
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from genlab.errors import InputError
from genlab.networks.conv import conv2d

Array = jax.Array
Weights = Mapping[str, Array]  # by their names in the state dict
Shapes = dict[str, tuple[int, ...]]

SIDE = 299  # of the images that the network was trained on
NUM_FEATURES = 2048
NUM_CLASSES = 1008
EPSILON = 1e-3  # of every batch normalization
PUBLISHED = "pt_inception-2015-12-05-6726825d.pth"
CONVERT = (
    "import numpy, torch; numpy.savez('inception.npz', **{k: v.numpy() for k, v in "
    f"torch.load('{PUBLISHED}', map_location='cpu').items()}})"
)

WHENCE = f"they are {PUBLISHED} of github.com/mseitzer/pytorch-fid, converted by: {CONVERT}"


class Conv(NamedTuple):
    """A convolution, batch normalization and a relu."""

    name: str
    channels: int
    height: int
    width: int
    stride: int = 1
    padding: str = "SAME"


class Pool(NamedTuple):
    """The maximum or the average of 3 x 3 windows."""

    over_windows: Callable[..., Array]
    stride: int = 1
    padding: str = "SAME"


class Fork(NamedTuple):
    """Branches from one input, whose channels are put side by side."""

    branches: tuple[tuple["Conv | Pool | Fork", ...], ...]


Layers = tuple[Conv | Pool | Fork, ...]

average_pool = functools.partial(nn.avg_pool, count_include_pad=False)
HALVE = (2, "VALID")  # stride and padding where a map of side n becomes one of side (n - 1) / 2


def _chain(name: str, *convs: tuple) -> Layers:
    """Convolutions (channels, height, width, ...) one after another; several are numbered, from 1."""
    names = [f"{name}_{number}" for number in range(1, len(convs) + 1)] if len(convs) > 1 else [name]
    return tuple(Conv(each, *conv) for each, conv in zip(names, convs, strict=True))


def _block_a(name: str, pooled: int) -> Fork:
    return Fork(
        (
            _chain(f"{name}.branch1x1", (64, 1, 1)),
            _chain(f"{name}.branch5x5", (48, 1, 1), (64, 5, 5)),
            _chain(f"{name}.branch3x3dbl", (64, 1, 1), (96, 3, 3), (96, 3, 3)),
            (Pool(average_pool), *_chain(f"{name}.branch_pool", (pooled, 1, 1))),
        )
    )


def _block_b(name: str) -> Fork:
    return Fork(
        (
            _chain(f"{name}.branch3x3", (384, 3, 3, *HALVE)),
            _chain(f"{name}.branch3x3dbl", (64, 1, 1), (96, 3, 3), (96, 3, 3, *HALVE)),
            (Pool(nn.max_pool, *HALVE),),
        )
    )


def _block_c(name: str, inner: int) -> Fork:
    narrow, row, column = (inner, 1, 1), (inner, 1, 7), (inner, 7, 1)
    return Fork(
        (
            _chain(f"{name}.branch1x1", (192, 1, 1)),
            _chain(f"{name}.branch7x7", narrow, row, (192, 7, 1)),
            _chain(f"{name}.branch7x7dbl", narrow, column, row, column, (192, 1, 7)),
            (Pool(average_pool), *_chain(f"{name}.branch_pool", (192, 1, 1))),
        )
    )


def _block_d(name: str) -> Fork:
    return Fork(
        (
            _chain(f"{name}.branch3x3", (192, 1, 1), (320, 3, 3, *HALVE)),
            _chain(f"{name}.branch7x7x3", (192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3, *HALVE)),
            (Pool(nn.max_pool, *HALVE),),
        )
    )


def _block_e(name: str, pool: Callable[..., Array]) -> Fork:
    cross = lambda name: Fork(((Conv(f"{name}a", 384, 1, 3),), (Conv(f"{name}b", 384, 3, 1),)))
    return Fork(
        (
            _chain(f"{name}.branch1x1", (320, 1, 1)),
            (Conv(f"{name}.branch3x3_1", 384, 1, 1), cross(f"{name}.branch3x3_2")),
            (*_chain(f"{name}.branch3x3dbl", (448, 1, 1), (384, 3, 3)), cross(f"{name}.branch3x3dbl_3")),
            (Pool(pool), *_chain(f"{name}.branch_pool", (192, 1, 1))),
        )
    )


LAYERS: Layers = (  # side and channels of what comes out; 299 and 3 go in
    Conv("Conv2d_1a_3x3", 32, 3, 3, *HALVE),  # 149, 32
    Conv("Conv2d_2a_3x3", 32, 3, 3, padding="VALID"),  # 147, 32
    Conv("Conv2d_2b_3x3", 64, 3, 3),  # 147, 64
    Pool(nn.max_pool, *HALVE),  # 73, 64
    Conv("Conv2d_3b_1x1", 80, 1, 1),  # 73, 80
    Conv("Conv2d_4a_3x3", 192, 3, 3, padding="VALID"),  # 71, 192
    Pool(nn.max_pool, *HALVE),  # 35, 192
    _block_a("Mixed_5b", 32),  # 35, 256
    _block_a("Mixed_5c", 64),  # 35, 288
    _block_a("Mixed_5d", 64),  # 35, 288
    _block_b("Mixed_6a"),  # 17, 768
    _block_c("Mixed_6b", 128),  # 17, 768
    _block_c("Mixed_6c", 160),  # 17, 768
    _block_c("Mixed_6d", 160),  # 17, 768
    _block_c("Mixed_6e", 192),  # 17, 768
    _block_d("Mixed_7a"),  # 8, 1280
    _block_e("Mixed_7b", average_pool),  # 8, 2048
    _block_e("Mixed_7c", nn.max_pool),  # 8, 2048
)


def apply(weights: Weights, layers: Layers, x: Array) -> Array:
    """The layers one after another, f32[N, H, W, C] -> f32[N, H', W', C']."""
    for layer in layers:
        match layer:
            case Conv(name, _, _, _, stride, padding):
                # normalization by constants is affine: its scale goes into the kernel, its shift is the bias
                scale = weights[f"{name}.bn.weight"] * jax.lax.rsqrt(weights[f"{name}.bn.running_var"] + EPSILON)
                bias = weights[f"{name}.bn.bias"] - weights[f"{name}.bn.running_mean"] * scale
                kernel = jnp.transpose(weights[f"{name}.conv.weight"], (2, 3, 1, 0)) * scale  # [D, C, h, w] as stored
                x = nn.relu(conv2d(x, kernel, stride, padding) + bias)
            case Pool(over_windows, stride, padding):
                x = over_windows(x, (3, 3), (stride, stride), padding)
            case Fork(branches):
                x = jnp.concatenate([apply(weights, branch, x) for branch in branches], axis=-1)
    return x


def weight_shapes(layers: Layers, channels: int) -> tuple[Shapes, int]:
    """Name and shape of every array that `apply` takes on an input of so many channels, and the output's channels."""
    shapes: Shapes = {}
    for layer in layers:
        match layer:
            case Conv(name, outputs, height, width):
                shapes[f"{name}.conv.weight"] = (outputs, channels, height, width)
                shapes |= {
                    f"{name}.bn.{part}": (outputs,) for part in ("weight", "bias", "running_mean", "running_var")
                }
                channels = outputs
            case Fork(branches):
                parts = [weight_shapes(branch, channels) for branch in branches]
                shapes |= {name: shape for part, _ in parts for name, shape in part.items()}
                channels = sum(outputs for _, outputs in parts)
    return shapes, channels


def inception_features(weights: Weights, images: Array) -> Array:
    """What FID is computed from: the average over places of every map of the last block, "pool3".

    Images are brought to 299 x 299 by bilinear interpolation between pixel centres, without a filter against aliasing
    when they shrink, as pytorch-fid does it; TensorFlow's own graph starts at the corner of the first pixel. Numbers
    depend on that, and on whether generated images were rounded to bytes first.

    Args:
        weights: as `load_weights` gives them.
        images: f32[N, H, W, C] in [0, 1], any side; one channel is repeated to three.

    Returns:
        f32[N, 2048], at least 0.

    Raises:
        InputError: if images are no floating-point images of one or three channels.
    """
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or images.dtype != jnp.float32:
        raise InputError(
            f"Inception takes images f32[N, H, W, C] in [0, 1] of 1 or 3 channels, got {images.dtype}{[*images.shape]}"
        )
    n, _, _, channels = images.shape
    x = jax.image.resize(images, (n, SIDE, SIDE, channels), "bilinear", antialias=False)
    x = jnp.broadcast_to(2.0 * x - 1.0, (n, SIDE, SIDE, 3))
    # not in the shorter floats that accelerators multiply by default: these numbers are compared with others'
    with jax.default_matmul_precision("highest"):
        return jnp.mean(apply(weights, LAYERS, x), axis=(1, 2))


def load_weights(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Reads the network's weights from an .npz whose entries have the names of PyTorch's state dict.

    Where PyTorch is installed the .pth file itself may be given; elsewhere these lines convert it:

        import numpy, torch
        state = torch.load("pt_inception-2015-12-05-6726825d.pth", map_location="cpu")
        numpy.savez("inception.npz", **{name: value.numpy() for name, value in state.items()})

    Args:
        path: of the file.

    Returns:
        f32 arrays by name: what `inception_features` needs, and the last layer, "fc.weight" f32[1008, 2048] and
        "fc.bias" f32[1008], where the file has it. Other entries are ignored.

    Raises:
        InputError: if the file cannot be read, or an array is missing, has another shape, or is not finite.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"no file of Inception weights at {path}; {WHENCE}")
    state = _read_pth(path) if path.suffix in (".pth", ".pt") else _read_npz(path)
    last = {"fc.weight": (NUM_CLASSES, NUM_FEATURES), "fc.bias": (NUM_CLASSES,)}
    # the last layer first: by its shape, and no other's, do torchvision's weights differ from FID's
    shapes = {name: shape for name, shape in last.items() if name in state} | weight_shapes(LAYERS, channels=3)[0]
    for name, shape in shapes.items():
        if name not in state:
            raise InputError(f"{path} has no entry {name}, which FID's Inception needs; convert the .pth by: {CONVERT}")
        if state[name].shape != shape:
            raise InputError(f"{name} of {path} has shape {state[name].shape}; that of FID's Inception has {shape}")
        if not (np.issubdtype(state[name].dtype, np.floating) and np.isfinite(state[name]).all()):
            raise InputError(f"{name} of {path} is not all finite numbers, as the weights of FID's Inception are")
    return {name: jnp.asarray(state[name], jnp.float32) for name in shapes}


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile):
        raise InputError(f"{path} is no .npz of arrays; PyTorch makes one of the .pth by: {CONVERT}") from None


def _read_pth(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise InputError(f"reading {path} needs PyTorch; where it is installed, convert by: {CONVERT}") from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {name: value.numpy() for name, value in state.items()}
    except (OSError, EOFError, RuntimeError, ValueError, AttributeError, pickle.UnpicklingError):
        raise InputError(f"{path} is no state dict that PyTorch can read; FID's is {PUBLISHED}") from None
