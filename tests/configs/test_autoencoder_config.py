"""Every autoencoder recipe builds, and one step of it runs: sizes, codes, steps and penalties by hand."""

import functools
import itertools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import autoencoder as recipes
from experiments.autoencoder import build, check_effects
from genlab import data
from genlab.errors import InputError
from genlab.evaluation.card import count_parameters

KEY = jax.random.key(0)
CODES = 12  # numbers in a small network's code
SIDE = 8  # of the images on which steps are taken; 28 where only shapes are asked for


def dataset(shape=(28, 28, 1), num=20):
    """Random pixels, series or points, in the place of the data that a recipe names."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (num, *shape), np.uint8) if len(shape) == 3 else rng.normal(size=(num, *shape))
    split = {"x": x if len(shape) == 3 else x.astype(np.float32), "label": np.arange(num, dtype=np.int32) % 10}
    return data.Dataset("fake", split, split, split, 10, None)


def affine(*widths):
    """Parameters of a dense stack of these widths."""
    return sum((inputs + 1) * outputs for inputs, outputs in itertools.pairwise(widths))


def lstm(inputs, features):
    """Four gates, each of a kernel for the input, one for the state, and a bias."""
    return 4 * (inputs + features + 1) * features


DEEP = affine(784, 500, 250, 30, 250, 500, 784)
DEEP_KERNELS, DEEP_BIASES = 2 * (784 * 500 + 500 * 250 + 250 * 30), 2 * (500 + 250) + 30 + 784
NUM_PARAMETERS = {
    "deep": DEEP,
    "pca": 784 + 784 * 32 + 32 + 1,  # mean, components, variances, noise
    "linear": affine(784, 32, 784),
    "linear_l2": affine(784, 32, 784),
    "undercomplete": affine(784, 30, 784),
    "tied": DEEP_KERNELS // 2 + DEEP_BIASES,
    "greedy": DEEP,
    "conv": (16 * 1 + 1) * 32 + (16 * 32 + 1) * 64 + affine(7 * 7 * 64, 256, 30)
    + affine(30, 256, 7 * 7 * 64) + (16 * 64 + 1) * 32 + (16 * 32 + 1) * 1,
    "unpooling": (9 * 1 + 1) * 16 + (9 * 16 + 1) * 16 + affine(7 * 7 * 16, 30)
    + affine(30, 7 * 7 * 16) + (9 * 16 + 1) * 16 + (9 * 16 + 1) * 1,
    "recurrent": lstm(28, 128) + affine(128, 30) + 2 * affine(30, 128) + lstm(30, 128) + affine(128, 28),
    "waves": lstm(1, 64) + affine(64, 4) + 2 * affine(4, 64) + lstm(4, 64) + affine(64, 1),
    "overcomplete": affine(784, 1000, 784),
    "denoising": DEEP,
    "masking": DEEP,
    "pretraining": DEEP,
    "sparse_l1": affine(784, 500, 300, 500, 784),
    "sparse_kl": affine(784, 500, 300, 500, 784),
    "contractive": affine(784, 300, 784),
    "hashing": affine(784, 500, 250, 16, 250, 500, 784),
}  # fmt: skip
CODE_DIM = dict.fromkeys(recipes.VARIANTS, 30) | {
    "pca": 32, "linear": 32, "linear_l2": 32, "waves": 4, "overcomplete": 1000, "sparse_l1": 300, "sparse_kl": 300,
    "contractive": 300, "hashing": 16, "unpooling": 30 + 14 * 14 * 16 + 7 * 7 * 16,  # what, and where of both poolings
}  # fmt: skip


@pytest.mark.parametrize("variant", recipes.VARIANTS)
def test_a_variant_has_the_sizes_of_its_description(variant):
    config, shape = recipes.get_config(variant), (50, 1) if variant == "waves" else (28, 28, 1)
    algorithm, batch = build(config, dataset(shape)), {"x": jnp.zeros((4, *shape))}
    state = jax.eval_shape(algorithm.init, KEY, batch)
    assert count_parameters(state) == NUM_PARAMETERS[variant]
    codes = jax.eval_shape(algorithm.encode, state, batch, KEY)
    assert (codes.shape, codes.dtype) == ((4, CODE_DIM[variant]), jnp.float32)
    assert jax.eval_shape(algorithm.decode, state, codes, KEY).shape == (4, *shape)
    after, metrics = jax.eval_shape(algorithm.step, state, batch, KEY)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    assert {metric.shape for metric in metrics.values()} == {()}
    terms = jax.eval_shape(algorithm.evaluate, state, batch, KEY)
    assert {"loss", "squared_error", "mse", *config.model.penalties} == set(terms)
    assert {term.shape for term in terms.values()} == {(4,)}
    # what it can do: reconstruct; principal components are the one that has a density and can be drawn from
    exact = variant == "pca"
    assert algorithm.density == ("exact" if exact else "none")
    assert (algorithm.generate is not None, algorithm.log_prob is not None) == (exact, exact)


def test_tying_halves_the_kernels_and_keeps_the_biases():
    def leaves(variant):
        algorithm = build(recipes.get_config(variant), dataset())
        state = jax.eval_shape(algorithm.init, KEY, {"x": jnp.zeros((1, 28, 28, 1))})
        return jax.tree.leaves(state.players["autoencoder"].params)

    kernels, biases = ({v: sum(x.size for x in leaves(v) if (x.ndim > 1) == big) for v in ("deep", "tied")}
                       for big in (True, False))  # fmt: skip
    assert kernels == {"deep": DEEP_KERNELS, "tied": DEEP_KERNELS // 2}
    assert biases == {"deep": DEEP_BIASES, "tied": DEEP_BIASES}


def shrunk(variant, **changes):
    """The recipe with networks for images of 8x8."""
    config = recipes.get_config(variant)
    hidden = tuple(12 for _ in config.model.hidden)  # as many layers
    small = {"model.hidden": hidden, "model.channels": (4, 4), "model.features": 8, "model.code_dim": CODES,
             "optimizer.warmup_steps": 0}  # fmt: skip
    if variant == "overcomplete":
        small["model.code_dim"] = SIDE * SIDE + 10
    config.update_from_flattened_dict(small | {name.replace("__", "."): value for name, value in changes.items()})
    return config


def images(num=16):
    return jax.random.bernoulli(jax.random.key(1), shape=(num, SIDE, SIDE, 1)).astype(jnp.float32)


def examples(variant):
    return images()[..., 0] if variant == "waves" else images()  # whose rows are series as well


@functools.cache
def first_step(variant):
    """(state, state after a step, its metrics, those of another key, codes, reconstruction) of an untrained model."""
    algorithm, batch = build(shrunk(variant), dataset(examples(variant).shape[1:])), {"x": examples(variant)}
    state = jax.jit(algorithm.init)(KEY, batch)
    step = jax.jit(algorithm.step)
    after, metrics = step(state, batch, jax.random.key(2))
    _, again = step(state, batch, jax.random.key(3))

    @jax.jit
    def run(state):
        codes = algorithm.encode(state, batch, KEY)
        return codes, algorithm.decode(state, codes, KEY)

    return jax.device_get((state, after, metrics, again, *run(state)))


CORRUPTED = ("denoising", "masking", "pretraining", "overcomplete")


@pytest.mark.parametrize("variant", [variant for variant in recipes.VARIANTS if variant != "pca"])
def test_a_variant_takes_a_step_of_adam_along_its_loss(variant):
    state, after, metrics, again, codes, reconstruction = first_step(variant)
    assert int(after.step) == 1 and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))
    moved = [
        max(np.abs(a - b).max() for a, b in zip(*(jax.tree.leaves(s.players[name].params) for s in (state, after)),
                                                strict=True))
        for name in sorted(state.players)
    ]  # fmt: skip
    # Adam's first step is the rate, in the direction of the gradient; greedy training moves the first layer
    config = recipes.get_config(variant)
    rate, model = config.optimizer.learning_rate, config.model
    np.testing.assert_allclose(moved, [rate, 0, 0] if variant == "greedy" else [rate], rtol=0.02)
    # the target is the image as it is, also where the encoder saw another
    assert (metrics["loss"] == again["loss"]) == (variant not in CORRUPTED)
    if variant in (*CORRUPTED, "greedy"):  # whose step's loss is of another input, or of another network
        return
    x = np.asarray(examples(variant))
    error = np.sum(np.square(x - reconstruction).reshape(len(x), -1), axis=1)
    if variant == "contractive":
        error = -np.sum(np.log(np.where(x == 1, reconstruction, 1 - reconstruction)), axis=(1, 2, 3))
    kernels = [leaf for leaf in jax.tree.leaves(state.players["autoencoder"].params) if leaf.ndim > 1]
    mean = codes.mean(axis=0)
    penalties = {
        "linear_l2": lambda: model.l2_weight * sum(np.sum(kernel**2) for kernel in kernels),
        "sparse_l1": lambda: model.l1_weight * np.abs(codes).sum(axis=1),
        "sparse_kl": lambda: np.sum(0.1 * np.log(0.1 / mean) + 0.9 * np.log(0.9 / (1 - mean))),
        "contractive": lambda: (
            model.contractive_weight * np.square(codes * (1 - codes)) @ np.square(kernels[0]).sum(axis=0)
        ),
    }
    expected = np.mean(error + penalties.get(variant, lambda: 0.0)())
    assert metrics["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("variant", ["deep", "linear", "undercomplete", "sparse_l1", "sparse_kl", "hashing"])
def test_a_code_has_the_values_of_its_kind(variant):
    *_, codes, _ = first_step(variant)
    if variant in ("undercomplete", "sparse_l1"):  # rectified: about half of an untrained code is 0
        assert codes.min() == 0 and 0.2 < np.mean(codes == 0) < 0.8
    elif variant == "sparse_kl":
        assert codes.min() > 0 and codes.max() < 1 and np.ptp(codes) > 0.1
    elif variant == "hashing":
        assert np.unique(codes).tolist() == [0, 1]
    else:
        assert codes.min() < -0.1 and codes.max() > 0.1 and len(np.unique(codes)) == codes.size


def test_the_linear_variant_is_linear():
    """Codes are a product with the kernel, and what is made of them another; biases are zero at first."""
    state, *_, codes, outputs = first_step("linear")
    params = state.players["autoencoder"].params
    x = np.asarray(images()).reshape(len(codes), -1)
    expected = x @ params["bottleneck"]["kernel"]
    np.testing.assert_allclose(codes, expected, atol=1e-5)
    made = expected @ params["decoder"]["Dense_0"]["kernel"]
    np.testing.assert_allclose(outputs.reshape(made.shape), made, atol=1e-5)


@pytest.mark.parametrize(
    ("variant", "mean", "spread"),
    [("denoising", 0.5, 0.3 * math.sqrt(2 / math.pi)), ("masking", 0.25, 0.25), ("pretraining", 0.075, 0.1275)],
)
def test_a_corruption_has_the_level_of_its_recipe(variant, mean, spread):
    """An encoder of one unit that sees one pixel of grey images: its mean, and mean distance from there."""
    config = shrunk(
        variant, model__hidden=(), model__code_dim=1, model__penalties=("l1",), optimizer__learning_rate=0.0
    )
    algorithm, x = build(config, dataset((SIDE, SIDE, 1))), jnp.full((2000, SIDE, SIDE, 1), 0.5)

    @jax.jit
    def code(batch):
        state = algorithm.init(KEY, batch)
        params = state.players["autoencoder"].params
        params["bottleneck"]["kernel"] = jnp.zeros((SIDE * SIDE, 1)).at[5].set(1.0)  # pixel 5 alone
        penalties = [algorithm.step(state, batch, jax.random.key(i))[1]["l1"] for i in range(2)]
        params["bottleneck"]["bias"] = jnp.full(1, -mean)
        return *penalties, algorithm.step(state, batch, jax.random.key(0))[1]["l1"]

    first, second, distance = code({"x": x})
    # E|x~|, over 2,000 draws
    folded = 0.5 + 2 * 0.3 * normal_tail(0.5 / 0.3) if variant == "denoising" else mean
    np.testing.assert_allclose([first, second], folded, atol=0.02)
    assert first != second
    np.testing.assert_allclose(distance, spread, atol=0.02)


def normal_tail(a):
    """E max(z - a, 0) of a standard normal z: its density at a less a times what lies beyond."""
    return math.exp(-a * a / 2) / math.sqrt(2 * math.pi) - a * 0.5 * math.erfc(a / math.sqrt(2))


@pytest.mark.parametrize(
    ("network", "hidden", "code"),
    [("dense", (), "sigmoid"), ("dense", (6,), "sigmoid"), ("dense", (), "relu"), ("tied", (), "sigmoid")],
)
def test_every_encoder_can_be_contracted(network, hidden, code):
    """The penalty that `build` chooses, in closed form or not, is the Jacobian's squared norm."""
    config = shrunk("contractive", model__network=network, model__hidden=hidden, model__code=code)
    algorithm, batch = build(config, dataset((SIDE, SIDE, 1))), {"x": images(3)}

    @jax.jit
    def both(batch):
        state = algorithm.init(KEY, batch)
        found = algorithm.evaluate(state, batch, KEY)["contractive"]
        rows = jax.vmap(jax.jacrev(lambda x: algorithm.encode(state, {"x": x[None]}, KEY)[0]))(batch["x"])
        return found, jnp.sum(jnp.square(rows), axis=(1, 2, 3, 4))

    found, expected = both(batch)
    assert (expected > 1e-4).all()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_principal_components_are_fitted_by_their_one_step():
    config = recipes.get_config("pca")
    assert config.num_steps == 1 and config.batch_size == 3_500  # all training digits but 500
    _, after, metrics, again, *_ = first_step("pca")
    x = np.asarray(images()).reshape(16, -1)
    singular = np.linalg.svd(x - x.mean(axis=0), compute_uv=False)
    assert metrics["squared_error"] == pytest.approx(np.sum(singular[CODES:] ** 2) / 16, rel=1e-4)
    assert metrics == again and int(after.step) == 1


def test_the_default_is_deep_and_an_unknown_variant_lists_the_known():
    assert recipes.get_config().to_dict() == recipes.get_config("deep").to_dict()
    with pytest.raises(ValueError, match=r"no variant 'vae'; known: deep, pca, linear, .*, contractive, hashing$"):
        recipes.get_config("vae")


@pytest.mark.parametrize(
    ("changes", "shape", "message"),
    [
        ({"network": "unet"}, (8, 8, 1), "model.network is 'unet'; known: dense, tied, conv, unpooling, recurrent, "),
        ({"activation": "swish"}, (8, 8, 1), "model.activation is 'swish'; known: relu, tanh, gelu, elu, sigmoid"),
        ({"code": "ternary"}, (8, 8, 1), "model.code is 'ternary'; known: linear, relu, sigmoid, binary"),
        ({"output": "tanh"}, (8, 8, 1), "model.output is 'tanh'; known: linear, sigmoid, cross_entropy"),
        ({"corruption": "blur"}, (8, 8, 1), "model.corruption is 'blur'; known: none, gaussian, masking"),
        ({"penalties": ("l1", "l3")}, (8, 8, 1), "model.penalties is 'l3'; known: l1, sparsity, contractive, l2"),
        ({"code_dim": 0}, (8, 8, 1), "model.code_dim is 0; it must be at least 1"),
        ({"hidden": (6, 0)}, (8, 8, 1), "model.hidden is (6, 0); it must be at least 1"),
        ({"corruption_level": -0.5}, (8, 8, 1), "model.corruption_level is -0.5; it must be at least 0"),
        *(
            (
                {"network": network},
                shape,
                f"model.network {network!r} is for images; fake holds examples of shape {shape}",
            )
            for network in ("conv", "unpooling")
            for shape in ((2,), (50, 1))
        ),
        ({"network": "recurrent"}, (2,), "model.network 'recurrent' is for images and time series; fake holds points"),
        ({"sparsity_target": 1.5}, (8, 8, 1), "model.sparsity_target is 1.5; it must lie between 0 and 1"),
        ({"l1_weight": -1.0}, (8, 8, 1), "model.l1_weight is -1.0; it must be at least 0"),
        ({"corruption": "masking", "corruption_level": 1.5}, (8, 8, 1), "model.corruption_level is 1.5; of masking it"),
        (
            {"network": "conv", "channels": ()},
            (8, 8, 1),
            "model.channels is empty; model.network 'conv' needs at least",
        ),
        ({"penalties": ("sparsity",)}, (8, 8, 1), "penalty 'sparsity' needs a code in [0, 1], sigmoid or binary; mod"),
        (
            {"network": "unpooling", "penalties": ("l2", "l1")},
            (8, 8, 1),
            "model.network 'unpooling' takes no penalty 'l1'",
        ),
        ({"network": "pca", "penalties": ("l1",)}, (8, 8, 1), "model.network 'pca' takes no penalties, corruption or"),
        *(
            ({"network": "greedy", **change}, (8, 8, 1), "model.network 'greedy' takes no penalties, corruption or oth")
            for change in ({"penalties": ("l1",)}, {"corruption": "masking"}, {"code": "sigmoid"})
        ),
        (
            {"network": "greedy", "hidden": (6,), "pretrain_steps": 2_000},
            (8, 8, 1),
            "model.pretrain_steps is 2000 for each of 2 layers, which leaves none of num_steps=4000",
        ),
    ],
)
def test_what_cannot_be_built_is_one_clear_line(changes, shape, message):
    config = recipes.get_config()
    with config.unlocked():
        config.model.update(changes)
    with pytest.raises(InputError) as caught:
        build(config, dataset(shape))
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "shape", "message"),
    [
        ({"network": "conv"}, (10, 8, 1), "2 transposed convolutions of stride 2 cannot make 10x8 images; height and"),
        ({"network": "unpooling"}, (10, 8, 1), "2 poolings of 2x2 cannot halve 10x8 images; height and width must"),
        ({"network": "pca", "code_dim": 65}, (8, 8, 1), "code_dim is 65; of examples (8, 8, 1) PCA has from 1 to 64"),
    ],
)
def test_what_the_images_do_not_fit_is_one_clear_line(changes, shape, message):
    config = recipes.get_config()
    with config.unlocked():
        config.model.update(changes)
    algorithm = build(config, dataset(shape))
    with pytest.raises(InputError) as caught:
        jax.eval_shape(algorithm.init, KEY, {"x": jnp.zeros((2, *shape))})
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


@pytest.mark.parametrize("variant", ["deep", "tied", "greedy", "denoising", "contractive", "hashing"])
def test_what_is_dense_takes_points_too(variant):
    config = recipes.get_config(variant)
    with pytest.raises(InputError, match=r"is for images, in \[0, 1\]; for fake add --config.model.output=linear"):
        build(config, dataset((2,)))
    config.model.output = "linear"
    algorithm = build(config, dataset((2,)))
    batch = {"x": jnp.zeros((4, 2))}
    state = jax.eval_shape(algorithm.init, KEY, batch)
    codes = jax.eval_shape(algorithm.encode, state, batch, KEY)
    assert jax.eval_shape(algorithm.decode, state, codes, KEY).shape == (4, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corruption": "gaussian"}, "model.corruption_level is 0, so nothing would be corrupted"),
        ({"penalties": ("l1",)}, "model.l1_weight is 0.0, and model.penalties is ('l1',): set both"),
        ({"l2_weight": 0.1}, "model.l2_weight is 0.1, and model.penalties is (): set both"),
    ],
)
def test_what_would_have_no_effect_is_refused(changes, message):
    config = recipes.get_config()
    config.model.update(changes)
    with pytest.raises(InputError, match=rf"^{re.escape(message)}$"):
        check_effects(config)


def test_every_variant_has_its_effects():
    for variant in recipes.VARIANTS:
        check_effects(recipes.get_config(variant))
