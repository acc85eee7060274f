"""Whole recipes, assembled for one model, for several devices and for a population, take the same steps."""

import functools
import pathlib
from typing import Any

import jax
import numpy as np
import pytest

from configs import vae as recipes
from experiments.assembly import assemble
from experiments.members import member_fields, with_fields
from experiments.vae import build
from genlab import data
from genlab.errors import InputError
from genlab.training import population

RECIPES = {"dense": {}, "conv": {"model.batch_norm": True}}


@pytest.fixture(scope="module")
def dataset():
    return data.load("mnist_5k", num_validation=0)


def recipe(name, **changes):
    """A recipe of small networks, batch 32."""
    config = recipes.get_config(name)
    fields: dict[str, Any] = {
        "batch_size": 32,
        "seed": 3,
        "model.hidden": (64,),
        "model.channels": (4, 8),
        "model.latent_dim": 8,
    }
    # where a gradient vanishes Adam divides its last bit by eps, and at a kink the last bit decides
    fields |= {"optimizer.eps": 1e-4, "model.activation": "tanh"}
    config.update_from_flattened_dict(fields | RECIPES[name] | changes)
    return config


def trained(config, dataset, *stops):
    """([progress on the host after so many steps, for each stop], assembly), in one call up to each."""
    assembly, found = assemble(config, dataset, build), []
    now, done = assembly.start(), 0
    steps = assembly.compile_steps(pathlib.Path("nowhere"), now)
    for stop in stops:
        now = steps(now, assembly.batches.read(done, stop - done, stops[-1]), stop - done)
        found.append(jax.device_get(now))
        done = stop
    assembly.close()
    return found, assembly


@pytest.fixture(scope="module")
def alone(dataset):
    """(name, seed) -> a recipe's solo run after 10 steps and after 50, trained once."""
    return functools.cache(lambda name, seed: trained(recipe(name, seed=seed), dataset, 10, 50)[0])


def assert_close(left, right, tolerance=1e-5):
    """Every array, to `tolerance` times its largest number, or times one where they are all smaller."""
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(left), jax.tree.leaves(right), strict=True):
        scale = max(1.0, float(np.max(np.abs(a), initial=0)))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize(("name", "placement"), [("dense", "device"), ("dense", "stream"), ("conv", "device")])
def test_eight_devices_take_the_steps_of_one(name, placement, alone, dataset):
    """Whose batches lie on the device, where theirs may be streamed."""
    (_, together), assembly = trained(recipe(name, devices=8, **{"data.placement": placement}), dataset, 3, 10)
    (part, *_) = (shard.data.shape for shard in jax.tree.leaves(assembly.batches.read(0, 1, 1))[0].addressable_shards)
    assert part[:2] == (1, 4)  # of a batch of 32
    assert_close(together, alone(name, 3)[0])


# members in turn run the solo program, whatever their network
@pytest.mark.parametrize(("mode", "name"), [("vmap", "dense"), ("vmap", "conv"), ("loop", "dense")])
def test_members_are_the_solo_runs_of_their_seeds_over_50_steps(name, mode, alone, dataset):
    config = recipe(name, population_mode=mode, population=2)
    (_, together), assembly = trained(config, dataset, 17, 50)
    assert [member.config.seed for member in assembly.members] == [3, 4]
    for number, member in enumerate(assembly.members):
        assert_close(population.member(together, number), alone(name, member.config.seed)[1])


def test_members_are_the_solo_runs_of_their_rates_on_eight_devices(alone, dataset):
    lists = "optimizer.learning_rate=1e-4,1e-3 model.beta=4,1 seed=3,4"
    config = recipe("dense", population=lists, devices=8, population_mode="loop")
    (_, together), assembly = trained(config, dataset, 4, 10)
    assert len(assembly.members) == 8
    kernel = together.state.players["vae"].params["decoder"]["Dense_0"]["kernel"]
    assert len(np.unique(kernel.reshape(8, -1), axis=0)) == 8
    # the two share no value of any list, and the last has the recipe's
    (first,), _ = trained(assembly.members[0].config, dataset, 10)
    assert_close(population.member(together, 0), first)
    usual = recipe("dense")
    assert assembly.members[7].fields == {
        "optimizer.learning_rate": usual.optimizer.learning_rate, "model.beta": usual.model.beta, "seed": 4,
    }  # fmt: skip
    assert_close(population.member(together, 7), alone("dense", 4)[0])


def test_members_differ_by_every_combination_the_last_name_fastest():
    config = recipe("dense", population="model.beta=1,4.5 seed=2,7")
    fields = member_fields(config)
    assert fields == [
        {"model.beta": 1.0, "seed": 2}, {"model.beta": 1.0, "seed": 7},
        {"model.beta": 4.5, "seed": 2}, {"model.beta": 4.5, "seed": 7},
    ]  # fmt: skip
    own = with_fields(config, fields[3])
    assert (own.model.beta, own.seed, own.population) == (4.5, 7, None) and config.model.beta == 1.0
    assert member_fields(recipe("dense", seed=5, population=3)) == [{"seed": 5}, {"seed": 6}, {"seed": 7}]
    assert member_fields(recipe("dense")) == []
    assert [type(each["model.beta"]) for each in member_fields(recipe("dense", population="model.beta=1,2"))] == [
        float
    ] * 2


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "population is 0; it must be at least 1"),
        (10**9, "population is 1000000000; it must be at most 10000"),
        (
            "seed=" + ",".join(map(str, range(101))) + " model.latent_dim=" + ",".join(map(str, range(1, 101))),
            "combine",
        ),
        (True, "give a number of seeds, or lists of values"),
        ("", "give a number of seeds, or lists of values"),
        (1.5, "give a number of seeds, or lists of values"),
        ({"seed": (0, 1)}, "give a number of seeds, or lists of values"),
        ("beta=1,2", r"no field 'beta'; did you mean model.beta\?"),
        ("model.betta=1,2", r"no field 'model.betta'; did you mean model.beta\?"),
        ("batch_size=16,32", "batch_size is the same for all members"),
        ("model.hidden=16,32", "not a number; give each value a run of its own"),
        ("model.network=dense,conv", "not a number; give each value a run of its own"),
        ("model.batch_norm=1,0", "not a number; give each value a run of its own"),
        ("model.latent_dim=2,x", "'x' is no value of model.latent_dim, of type int"),
        ("model.latent_dim=2,2.5", "2.5 is no value of model.latent_dim, of type int"),
    ],
)
def test_what_a_population_cannot_be_is_said(value, message):
    with pytest.raises(InputError, match=message):
        member_fields(recipe("dense", population=value))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"population": "model.latent_dim=2,3"}, "^model.latent_dim shapes the program"),
        (
            {"population": "optimizer.learning_rate=1e-3,-1.0"},
            "^optimizer.learning_rate is -1.0; it must be at least 0",
        ),
        ({"population": 3, "devices": 2}, "^population of 3 does not divide among 2 devices"),
        ({"devices": 3}, "^batch_size 32 does not divide among 3 devices"),
        ({"devices": 9}, "^devices is 9; there are 8"),
    ],
)
def test_what_cannot_be_assembled_is_said(changes, message, dataset):
    with pytest.raises(InputError, match=message):
        assemble(recipe("dense", **changes), dataset, build)
