"""Every kind of autoencoder, small: a member of a population is its solo run; eight devices take the steps of one."""

import functools
import pathlib

import jax
import numpy as np
import pytest

from configs import autoencoder as recipes
from experiments.assembly import assemble
from experiments.autoencoder import build
from genlab import data
from genlab.training import devices, population

NUM_STEPS = 4  # of greedy training: one of each of two layers, and two of both
SMALL = {
    "batch_size": 16, "num_steps": NUM_STEPS, "seed": 3, "population_mode": "vmap",
    "model.hidden": (16,), "model.channels": (4, 4), "model.features": 8, "model.code_dim": 6,
    "model.pretrain_steps": 1, "optimizer.warmup_steps": 0,
    # where a gradient vanishes Adam divides its last bit by eps, and at a kink the last bit decides
    "optimizer.eps": 1e-4, "model.activation": "tanh",
}  # fmt: skip
CHANGES = {
    "linear_l2": {"model.hidden": ()}, "contractive": {"model.hidden": ()},
    "pca": {"batch_size": 400, "num_steps": 1},
}  # fmt: skip
# -> what has its network, its corruption and its penalties, on other data, of another size or with one penalty more
ALIKE = {
    "waves": "recurrent", "linear": "linear_l2", "undercomplete": "sparse_l1", "overcomplete": "masking",
    "pretraining": "masking",
}  # fmt: skip
KINDS = [variant for variant in recipes.VARIANTS if variant not in ALIKE]
DRAW = ("pca", "recurrent")  # members of two seeds; kernels by a decomposition, which batches otherwise
# two values of a number that the variant has beside others; the recipe's own is the second
LISTS = {
    "pca": "seed=4,3",
    "denoising": "model.corruption_level=0.1,0.3", "masking": "model.corruption_level=0.1,0.5",
    "sparse_l1": "model.l1_weight=1,0.05", "sparse_kl": "model.sparsity_target=0.3,0.1",
    "contractive": "model.contractive_weight=1,0.1",
}  # fmt: skip


@functools.cache
def dataset():
    return data.load("digits", num_validation=0)


def recipe(variant, **changes):
    config = recipes.get_config(variant)
    config.update_from_flattened_dict(SMALL | CHANGES.get(variant, {}) | changes)
    return config


def trained(variant, beginning=None, **changes):
    """The progress before and after all steps of a recipe, on the host; it begins as told where it is told."""
    config = recipe(variant, **changes)
    assembly = assemble(config, dataset(), build)
    everywhere = devices.on_all(devices.make_mesh(config.devices, "data"))
    now = assembly.start() if beginning is None else devices.put(beginning, everywhere)
    before = jax.device_get(now)
    steps = assembly.compile_steps(pathlib.Path("nowhere"), now)
    now = steps(now, assembly.batches.read(0, config.num_steps, config.num_steps), config.num_steps)
    assembly.close()
    return before, jax.device_get(now)


@functools.cache
def alone(variant):
    """What its recipe begins and ends with on one device."""
    return trained(variant)


def assert_close(left, right, tolerance=1e-5):
    """Every array, to `tolerance` times its largest number, or times one where they are all smaller."""
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(left), jax.tree.leaves(right), strict=True):
        scale = max(1.0, float(np.max(np.abs(b), initial=0)))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale, err_msg=jax.tree_util.keystr(path))


def test_the_others_are_of_these_kinds():
    for variant, like in ALIKE.items():
        model, other = recipes.get_config(variant).model, recipes.get_config(like).model
        assert (model.network, model.corruption) == (other.network, other.corruption)
        assert set(model.penalties) <= set(other.penalties) and like in KINDS


@pytest.mark.parametrize("variant", KINDS)
def test_a_member_of_a_population_is_its_solo_run(variant):
    lists = LISTS.get(variant, f"optimizer.learning_rate=1e-4,{recipe(variant).optimizer.learning_rate}")
    # members of one seed begin alike: to draw parameters, which others test, is most of what there is to compile
    both = None if variant in DRAW else jax.tree.map(lambda leaf: np.stack([leaf, leaf]), alone(variant)[0])
    before, after = trained(variant, both, population=lists)
    for together, solo in zip((before, after), alone(variant), strict=True):
        assert_close(population.member(together, 1), solo)
    # and the other is not: the number is a member's own
    params = [leaf for player in after.state.players.values() for leaf in jax.tree.leaves(player.params)]
    assert max(np.abs(leaf[0] - leaf[1]).max() for leaf in params) > 1e-4


@pytest.mark.parametrize("variant", KINDS)
def test_eight_devices_take_the_steps_of_one(variant):
    before, after = alone(variant)
    _, together = trained(variant, before, devices=8)
    assert_close(together, after)
    assert int(together.state.step) == recipe(variant).num_steps
    assert np.isfinite(together.mean["loss"])
