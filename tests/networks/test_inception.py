"""FID's Inception: its blocks by numpy in float64, the whole by numbers of pytorch-fid, and what a file must hold."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.errors import InputError
from genlab.networks import inception
from genlab.networks.inception import LAYERS, Conv, Fork, Pool

# features 0, 128, ... of pytorch-fid 0.3.0, in float64, with `random_weights` on the image of `image`
PUBLISHED = [0.0, 1.272118, 0.029262, 0.053682, 15.277189, 5.844138, 0.041513, 10.155429]
PUBLISHED += [0.340535, 0.033354, 0.008613, 2.742609, 11.224965, 0.455871, 0.179952, 7.11117]
PUBLISHED_MEAN = 3.9776270507918436
SHAPES, _ = inception.weight_shapes(LAYERS, 3)


def random_weights(shapes):
    """Weights that keep activations of order one; RandomState's streams are frozen."""
    rng, weights = np.random.RandomState(0), {}
    for name in sorted(shapes):
        draws = rng.random_sample(shapes[name])
        if name.endswith("conv.weight"):
            draws = (2 * draws - 1) * np.sqrt(6 / np.prod(shapes[name][1:]))
        else:
            draws += 0.5 if name.endswith(("bn.weight", "running_var")) else -0.5
        weights[name] = draws.astype(np.float32)
    return weights


def image():
    return np.random.RandomState(1).random_sample((1, 32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def weights():
    return random_weights(SHAPES)


@pytest.fixture(scope="module")
def features(weights):
    return np.asarray(jax.jit(inception.inception_features)(weights, image()))


# The whole network


def test_the_features_are_those_of_pytorch_fid(features):
    assert features.shape == (1, 2048)
    np.testing.assert_allclose(features[0, ::128], PUBLISHED, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(features.mean(), PUBLISHED_MEAN, rtol=1e-5)


def test_the_features_are_those_of_the_installed_pytorch_fid(weights, features, monkeypatch):
    theirs = pytest.importorskip("pytorch_fid.inception")
    import torch

    monkeypatch.setattr(theirs, "load_state_dict_from_url", lambda *_, **__: None)  # nothing is downloaded
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.Module, "load_state_dict", lambda *_: None)
        network = theirs.fid_inception_v3()
    loaded = network.load_state_dict({name: torch.tensor(value) for name, value in weights.items()}, strict=False)
    assert loaded.unexpected_keys == []
    assert {name for name in loaded.missing_keys if "num_batches" not in name} == {"fc.weight", "fc.bias"}
    monkeypatch.setattr(theirs, "fid_inception_v3", lambda: network)
    with torch.no_grad():
        (expected,) = theirs.InceptionV3([3]).eval()(torch.tensor(image().transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(features, expected[:, :, 0, 0].numpy(), rtol=1e-4, atol=1e-5)


def test_the_maps_have_the_sides_and_channels_of_the_paper():
    sizes, x = [], jax.ShapeDtypeStruct((2, 299, 299, 3), jnp.float32)
    weights = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in SHAPES.items()}
    for layer in LAYERS:
        x = jax.eval_shape(lambda weights, x, layer=layer: inception.apply(weights, (layer,), x), weights, x)
        sizes.append((x.shape[1], x.shape[3]))
    stem = [(149, 32), (147, 32), (147, 64), (73, 64), (73, 80), (71, 192), (35, 192)]
    blocks = [(35, 256), (35, 288), (35, 288), *[(17, 768)] * 5, (8, 1280), (8, 2048), (8, 2048)]
    assert sizes == stem + blocks


def test_it_has_as_many_parameters_as_torchvision_counts():
    # 27,161,264 with the auxiliary classifier, 3,326,696, and the layer of 1000 classes, 2,049,000
    trained = sum(np.prod(shape) for name, shape in SHAPES.items() if "running" not in name)
    assert trained == 27_161_264 - 3_326_696 - 2_049_000
    assert sum(name.endswith("conv.weight") for name in SHAPES) == 94


# Its parts, by numpy in float64


def windows(x, height, width, value):
    """[N, H, W, C, height, width]: the surroundings of every pixel, `value` outside of the image."""
    rows, columns = height // 2, width // 2
    x = np.pad(x, ((0, 0), (rows, rows), (columns, columns), (0, 0)), constant_values=value)
    return np.lib.stride_tricks.sliding_window_view(x, (height, width), (1, 2))


def unit(weights, name, x, stride=1):
    """Convolution, then normalization as its definition has it, then relu; a stride means no padding."""
    parts = {part: weights[f"{name}.bn.{part}"].astype(np.float64) for part in ("weight", "bias")}
    mean, var = (weights[f"{name}.bn.running_{part}"].astype(np.float64) for part in ("mean", "var"))
    kernel = weights[f"{name}.conv.weight"].astype(np.float64)
    seen = windows(x, *kernel.shape[2:], 0.0)
    if stride == 2:
        seen = seen[:, 1:-1:2, 1:-1:2]
    y = np.tensordot(seen, kernel, ((3, 4, 5), (1, 2, 3)))
    return np.maximum((y - mean) / np.sqrt(var + 0.001) * parts["weight"] + parts["bias"], 0.0)


def averages(x):
    return np.nanmean(windows(x, 3, 3, np.nan), axis=(4, 5))


def maxima(x):
    return windows(x, 3, 3, -np.inf).max(axis=(4, 5))


def figure_5(weights, x):
    f = lambda name, x: unit(weights, f"Mixed_5b.{name}", x)
    double = f("branch3x3dbl_3", f("branch3x3dbl_2", f("branch3x3dbl_1", x)))
    return [f("branch1x1", x), f("branch5x5_2", f("branch5x5_1", x)), double, f("branch_pool", averages(x))]


def figure_10(weights, x):
    f = lambda name, x, stride=1: unit(weights, f"Mixed_6a.{name}", x, stride)
    double = f("branch3x3dbl_3", f("branch3x3dbl_2", f("branch3x3dbl_1", x)), 2)
    return [f("branch3x3", x, 2), double, maxima(x)[:, 1:-1:2, 1:-1:2]]


def figure_7(name, pool):
    def block(weights, x):
        f = lambda part, x: unit(weights, f"{name}.{part}", x)
        single, double = f("branch3x3_1", x), f("branch3x3dbl_2", f("branch3x3dbl_1", x))
        single = [f("branch3x3_2a", single), f("branch3x3_2b", single)]
        double = [f("branch3x3dbl_3a", double), f("branch3x3dbl_3b", double)]
        return [f("branch1x1", x), *single, *double, f("branch_pool", pool(x))]

    return block


@pytest.mark.parametrize(
    ("number", "channels", "oracle"),
    [
        (7, 192, figure_5),
        (10, 288, figure_10),
        (16, 1280, figure_7("Mixed_7b", averages)),
        (17, 2048, figure_7("Mixed_7c", maxima)),
    ],
    ids=["Mixed_5b", "Mixed_6a", "Mixed_7b", "Mixed_7c"],
)
def test_a_block_by_numpy(number, channels, oracle, weights):
    # not all positive, or a padding of zeros could pass for one that never is the maximum
    x = np.random.default_rng(2).normal(size=(2, 5, 3, channels)).astype(np.float32)
    block = (LAYERS[number],)
    names, _ = inception.weight_shapes(block, channels)
    used = {name: weights[name] for name in names}
    y = jax.jit(lambda weights, x: inception.apply(weights, block, x))(used, x)
    np.testing.assert_allclose(y, np.concatenate(oracle(weights, x.astype(np.float64)), axis=-1), rtol=1e-4, atol=1e-4)


def test_the_average_is_over_the_pixels_inside():
    x = np.random.default_rng(3).normal(size=(2, 4, 3, 2)).astype(np.float32)
    expected = np.empty_like(x)
    for i, j in np.ndindex(4, 3):
        expected[:, i, j] = x[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].mean(axis=(1, 2))
    y = inception.apply({}, (Pool(inception.average_pool),), jnp.asarray(x))
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


def bilinear(x, side):
    """Interpolation between the centres of pixels, the outermost continued outwards, one axis after the other."""
    for axis in (1, 2):
        size = x.shape[axis]
        place = np.clip((np.arange(side) + 0.5) * size / side - 0.5, 0, size - 1)
        low = np.floor(place).astype(int)
        part = (place - low).reshape([-1 if a == axis else 1 for a in range(4)])
        x = (1 - part) * np.take(x, low, axis) + part * np.take(x, np.minimum(low + 1, size - 1), axis)
    return x


@pytest.mark.parametrize("shape", [(2, 28, 28, 1), (1, 32, 45, 3), (1, 400, 610, 3), (1, 299, 299, 3)])
def test_images_are_resized_between_centres_and_scaled(shape, monkeypatch):
    x = np.random.default_rng(4).random(shape).astype(np.float32)
    seen = {}
    monkeypatch.setattr(inception, "apply", lambda weights, layers, x: seen.update(x=x) or x)
    inception.inception_features({}, jnp.asarray(x))
    expected = np.broadcast_to(2 * bilinear(x.astype(np.float64), 299) - 1, (shape[0], 299, 299, 3))
    np.testing.assert_allclose(seen["x"], expected, atol=2e-4)


def test_a_small_table_in_a_nested_fork():
    layers = (Fork(((Conv("a", 2, 1, 1),), (Fork(((Conv("b", 3, 1, 1),), ())),))),)
    shapes, channels = inception.weight_shapes(layers, 4)
    assert channels == 2 + 3 + 4
    assert shapes["a.conv.weight"] == (2, 4, 1, 1) and shapes["b.bn.running_var"] == (3,)
    assert inception.apply(random_weights(shapes), layers, jnp.ones((1, 2, 2, 4))).shape == (1, 2, 2, 9)


@pytest.mark.parametrize(
    "images", [np.zeros((2, 8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.float32), np.zeros((2, 8, 8, 4), np.float32)]
)
def test_what_is_no_image_is_refused(images):
    with pytest.raises(InputError, match=re.escape(f"got {images.dtype}{list(images.shape)}")):
        inception.inception_features({}, images)


# The file


def test_weights_are_read_and_what_is_not_needed_is_left(weights, tmp_path):
    last = {"fc.weight": np.zeros((1008, 2048), np.float32), "fc.bias": np.ones(1008, np.float64)}
    more = {"Conv2d_1a_3x3.bn.num_batches_tracked": np.zeros((), np.int64)}
    np.savez(tmp_path / "weights.npz", **weights, **last, **more)
    loaded = inception.load_weights(tmp_path / "weights.npz")
    assert set(loaded) == set(weights) | set(last)
    for name, value in (weights | last).items():
        assert loaded[name].dtype == jnp.float32
        np.testing.assert_array_equal(loaded[name], value)


FIRST = "Conv2d_1a_3x3.conv.weight"
GOOD = np.zeros((32, 3, 3, 3), np.float32)


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        ({}, f"no entry {FIRST}.*numpy.savez"),
        ({FIRST: GOOD}, "no entry Conv2d_1a_3x3.bn.weight"),
        ({FIRST: GOOD.transpose(2, 3, 1, 0)}, rf"{FIRST} of .* \(3, 3, 3, 32\).* \(32, 3, 3, 3\)"),
        ({FIRST: GOOD + np.nan}, f"{FIRST} of .* finite"),
        ({FIRST: GOOD.astype(np.int32)}, f"{FIRST} of .* finite"),
        ({FIRST: GOOD, "fc.bias": np.zeros(1000, np.float32)}, r"fc.bias of .* \(1000,\).* \(1008,\)"),  # torchvision's
    ],
    ids=["empty", "missing", "another order", "not finite", "integers", "torchvision"],
)
def test_another_file_is_refused_in_one_line(entries, complaint, tmp_path):
    np.savez(tmp_path / "weights.npz", **entries)
    with pytest.raises(InputError, match=complaint) as error:
        inception.load_weights(tmp_path / "weights.npz")
    assert "\n" not in str(error.value)


def test_what_is_no_file_of_arrays_is_refused(tmp_path):
    with pytest.raises(InputError, match="no file of Inception weights"):
        inception.load_weights(tmp_path / "weights.npz")
    (tmp_path / "text.npz").write_text("weights")
    np.save(tmp_path / "array.npy", GOOD)
    np.savez(tmp_path / "objects.npz", **{FIRST: np.array([None])})
    for name in ("text.npz", "array.npy", "objects.npz"):
        with pytest.raises(InputError, match=f"{name} is no .npz of arrays.*numpy.savez"):
            inception.load_weights(tmp_path / name)


def test_the_command_that_converts_makes_the_file(monkeypatch, tmp_path):
    compile(inception.CONVERT, "", "exec")  # raises where it is no Python
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    torch.save({FIRST: torch.ones(32, 3, 3, 3)}, inception.PUBLISHED)
    exec(inception.CONVERT)
    with np.load("inception.npz") as arrays:
        np.testing.assert_array_equal(arrays[FIRST], np.ones((32, 3, 3, 3)))
    with pytest.raises(InputError, match=r"no entry Conv2d_1a_3x3\.bn\.weight"):
        inception.load_weights(inception.PUBLISHED)


def test_a_pth_that_is_none_is_refused(tmp_path):
    (tmp_path / "weights.pth").write_text("weights")
    with pytest.raises(InputError, match=r"needs PyTorch.*numpy\.savez|no state dict"):
        inception.load_weights(tmp_path / "weights.pth")
