"""The rows of style-based games: products of their parameters, and the peer's networks beside ours."""

import collections
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import stylegan as recipes
from experiments import stylegan
from experiments.peers import torch_stylegan2
from experiments.timing import rows, style_rows
from genlab import data

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def padded():
    rng = np.random.default_rng(0)
    split = {"x": rng.integers(0, 256, (40, 32, 32, 1), np.uint8)}
    return data.Dataset("noise", split, split, split, 0, None)


@pytest.mark.parametrize("variant", ["small", "stylegan", "stylegan2"])
def test_layers_are_those_of_the_parameters(padded, variant):
    """But images of sizes that are not seen at the last stage, and demodulations, which have no weights."""
    config = recipes.get_config(variant)
    config.model.channels = (8, 6, 5, 3)
    row = style_rows.style_row(variant, config, padded)
    state = jax.eval_shape(row.algorithm.init, KEY, {"x": jnp.zeros((4, 32, 32, 1))})
    kernels = collections.Counter(
        leaf.size
        for player in state.players.values()
        for path, leaf in jax.tree.leaves_with_path(player.params)
        if path[-1].key == "kernel"
    )
    layers = collections.Counter(inputs * outputs for _, inputs, outputs in row.layers)
    if variant == "stylegan2":
        assert kernels - layers == collections.Counter()
        demodulated = [(8, 8), (8, 6), (6, 6), (6, 5), (5, 5), (5, 3), (3, 3)]
        assert layers - kernels == collections.Counter(inputs * outputs for inputs, outputs in demodulated)
    else:  # of 4x4 and 8x8, to and from images
        assert kernels - layers == collections.Counter([8, 8, 6, 6]) and layers - kernels == collections.Counter()


def test_products_of_a_small_network_by_hand(padded):
    config = recipes.get_config("stylegan2")
    config.batch_size, config.model.channels, config.model.stddev_group = 2, (3, 2), 0
    found = style_rows.discriminator_layers(config, 1)
    assert found == [(2 * 64, 1, 2), (2 * 64, 18, 2), (2 * 16, 18, 3), (2 * 16, 2, 3), (2 * 16, 27, 3), (2, 48, 3),
                     (2, 3, 1)]  # fmt: skip
    assert {"stylegan2", "styles"} <= set(rows.ROWS)


def in_pairs(params, scheme):
    """Our arrays in the peer's order and layout."""
    for path, convert in scheme:
        leaf = params
        for name in path:
            leaf = leaf[name]
        yield convert(np.asarray(leaf))


same, transposed = (lambda a: a), (lambda a: a.T)
conv = lambda a: a.transpose(3, 2, 0, 1)  # HWIO -> OIHW


def dense(*path):
    return [((*path, "kernel"), transposed), ((*path, "bias"), same)]


def modulated(*path, turned=False):
    flip = (lambda a: conv(a[::-1, ::-1])) if turned else conv
    return [((*path, "kernel"), flip), *dense(*path, "affine")]


def styled(name, turned=False):
    own = [((name, "strength"), same), ((name, "bias"), same)]
    return [*own, *modulated(name, "ModulatedConv_0", turned=turned)]


def to_image(side):
    return [((f"to_image_{side}", "bias"), same), *modulated(f"to_image_{side}", "ModulatedConv_0")]


@pytest.mark.filterwarnings("ignore")  # of PyTorch's own modules
def test_the_torch_networks_and_their_slope_are_ours(padded):
    torch = pytest.importorskip("torch")
    config = recipes.get_config("stylegan2_mnist")
    assert (tuple(config.model.channels), config.model.latent_dim, config.model.mapping_layers) == (
        torch_stylegan2.CHANNELS, torch_stylegan2.LATENT_DIM, torch_stylegan2.MAPPING_LAYERS
    )  # fmt: skip
    assert config.model.penalty_weight == torch_stylegan2.R1_WEIGHT
    assert config.model.penalty_every == torch_stylegan2.R1_EVERY
    painter, discriminator = stylegan.networks(config, padded)
    codes = jnp.asarray(np.random.default_rng(0).normal(size=(8, 128)), jnp.float32)
    params = painter.init(KEY, codes)
    images = painter.paint(params, painter.broadcast(painter.map(params, codes)),
                           [jnp.zeros((1, side, side, 1)) for side in (4, 8, 8, 16, 16, 32, 32)], 32, 1.0)  # fmt: skip
    theirs, judge = (make() for make in torch_stylegan2.modules())
    scheme = [layer for number in range(4) for layer in dense("mapping", f"EqualisedDense_{number}")]
    synthesis = [(("constant",), lambda a: a.transpose(2, 0, 1)[None]), *styled("conv_4"), *to_image(4)]
    for side in (8, 16, 32):
        synthesis += [*styled(f"grow_{side}", turned=True), *styled(f"conv_{side}"), *to_image(side)]
    scheme += [(("synthesis", *path), convert) for path, convert in synthesis]
    with torch.no_grad():
        named = {name: parameter for name, parameter in theirs.named_parameters()}
        order = sorted(named, key=lambda name: (not name.startswith("mapping"), not name.startswith("constant")))
        for name, array in zip(order, in_pairs(params, scheme), strict=True):
            assert named[name].shape == array.shape, name
            named[name].copy_(torch.from_numpy(np.array(array, order="C")))
        made = theirs(torch.from_numpy(np.array(codes))).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(made, images, atol=1e-4)

    disc_params = discriminator.init(KEY, images)["params"]
    conv_and_bias = lambda name: [((name, "kernel"), conv), ((name, "bias"), same)]
    rows_of_image = lambda a: a.reshape(4, 4, -1, a.shape[-1]).transpose(2, 0, 1, 3).reshape(a.shape).T
    scheme = conv_and_bias("from_image")
    for side in (32, 16, 8):
        scheme += [*conv_and_bias(f"conv_{side}"), *conv_and_bias(f"shrink_{side}"), ((f"skip_{side}", "kernel"), conv)]
    scheme += [*conv_and_bias("conv_4"), (("dense_4", "kernel"), rows_of_image), (("dense_4", "bias"), same),
               *dense("logit")]  # fmt: skip
    with torch.no_grad():
        for parameter, array in zip(judge.parameters(), in_pairs(disc_params, scheme), strict=True):
            parameter.copy_(torch.from_numpy(np.array(array, order="C")))
    ours = lambda x: discriminator.apply({"params": disc_params}, x)
    x = torch.from_numpy(np.moveaxis(np.array(images), -1, 1).copy())
    np.testing.assert_allclose(judge(x).detach().numpy(), ours(images), rtol=1e-3, atol=1e-3)
    slope = jax.grad(lambda x: jnp.sum(ours(x)))(images)
    squared = float(jnp.mean(jnp.sum(slope**2, axis=(1, 2, 3))))
    penalty = torch_stylegan2.r1_objective(judge, x).item()
    assert penalty == pytest.approx(torch_stylegan2.R1_WEIGHT * torch_stylegan2.R1_EVERY * squared, rel=1e-3)
    assert math.isfinite(penalty) and squared > 0
