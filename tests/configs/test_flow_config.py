"""Recipes of flows: each makes a flow of its data, and what cannot be is refused in one line."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import flow as recipes
from experiments.checks import check
from experiments.flow import build
from experiments.members import with_fields
from genlab import data
from genlab.errors import InputError
from genlab.evaluation.card import count_parameters

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
TINY = {"batch_size": 6, "model.hidden": (3, 3), "model.channels": 2, "model.num_layers": 2}


def dataset(shape=(4, 4, 1), labels=True):
    """Random pixels, or points."""

    def split():
        x = RNG.integers(0, 256, (24, *shape), dtype=np.uint8) if len(shape) == 3 else RNG.normal(size=(24, *shape))
        found = {"x": x if len(shape) == 3 else x.astype(np.float32)}
        return found | ({"label": np.arange(24, dtype=np.int32) % 10} if labels else {})

    return data.Dataset("fake", split(), split(), split(), 10 if labels else 0, None)


def configured(variant, **changes):
    config = recipes.get_config(variant)
    config.update_from_flattened_dict(TINY | {name.replace("__", "."): value for name, value in changes.items()})
    config.model.checkerboard = min(config.model.checkerboard, 2)
    return config


def shape_of(variant):
    return (2,) if recipes.get_config(variant).data.name == "ring" else (4, 4, 1)


def batch_of(given, num=6):
    return data.prepare({name: jnp.asarray(column[:num]) for name, column in given.train.items()})


ALIKE = {"classifier": "conditional", "novelty": "small", "glow": "small"}  # the same flow, longer or on other data


@pytest.mark.parametrize("variant", ALIKE)
def test_a_recipe_of_another_end_is_the_same_flow(variant):
    config, other = recipes.get_config(variant), recipes.get_config(ALIKE[variant])
    check(config)
    sizes = {"num_layers", "channels"}
    of_flow = lambda config: {name: value for name, value in config.model.items() if name not in sizes}
    assert of_flow(config) == of_flow(other)


@pytest.mark.parametrize("variant", sorted({*recipes.VARIANTS} - {*ALIKE}))
def test_a_recipe_makes_a_flow_whose_samples_are_like_its_data(variant):
    """Its step as one of two members of a population, at rates of their own, as shapes."""
    config, given = configured(variant), dataset(shape_of(variant))
    check(recipes.get_config(variant))
    if config.model.network == "multi_scale":
        config.model.num_layers = 1
    algorithm, batch = build(config, given), batch_of(given)

    def member(rate, key):
        algorithm = build(with_fields(config, {"optimizer.learning_rate": rate}), given)
        state = algorithm.init(key, batch)
        return state, algorithm.step(state, batch, key)

    states, (after, metrics) = jax.eval_shape(jax.vmap(member), jnp.ones(2), jax.random.split(KEY, 2))
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, states) and after.step.shape == (2,)
    state = jax.jit(algorithm.init)(KEY, batch)
    images = batch["x"].ndim == 4
    assert set(metrics) == {"loss", "log_prob"} | ({"dequantized_bits_per_dim"} if images else set()) | (
        {"logit_log_prob"} if config.model.alpha else set()
    )
    assert algorithm.space == ("dequantized" if images else "continuous") and algorithm.density == "exact"
    assert jax.eval_shape(algorithm.generate, state, batch, KEY).shape == batch["x"].shape
    codes = jax.jit(algorithm.encode)(state, batch, KEY)
    assert codes.shape == (6, batch["x"][0].size)
    if algorithm.decode is not None:  # a pixel at the end of its bin may fall into the next
        back = jax.jit(algorithm.decode)(state, codes, KEY)
        np.testing.assert_allclose(back, batch["x"], atol=1.01 / 255 if images else 1e-4)


MIXED = [("realnvp", "none"), ("realnvp", "reverse"), ("nice", "none"), ("maf", "reverse"), ("small", "reverse"),
         ("realnvp_multi_scale", "none"),          ("spline", "linear")]  # fmt: skip


@pytest.mark.parametrize(("variant", "mixing"), MIXED)
def test_every_number_is_coupled_with_others(variant, mixing):
    """One that no layer changes by the others would be modelled as if it were alone."""
    config, given = configured(variant, model__mixing=mixing), dataset(shape_of(variant))
    config.model.num_layers, config.model.log_scale_bound = (4 if config.model.network == "autoregressive" else 2), 0.5
    algorithm, batch = build(config, given), batch_of(given)
    state = jax.jit(algorithm.init)(KEY, batch)
    draw = lambda leaf: jnp.asarray(0.5 * RNG.normal(size=leaf.shape), leaf.dtype)
    player = dataclasses.replace(state.players["flow"], params=jax.tree.map(draw, state.players["flow"].params))
    state = dataclasses.replace(state, players={"flow": player})
    x = batch["x"][0].ravel()
    each = jnp.concatenate([x[None], jnp.where(jnp.eye(x.size, dtype=bool), 1.0 - x, x)])  # one number is another
    encode = lambda x: algorithm.encode(state, {"x": x.reshape(batch["x"][:1].shape)}, KEY)[0]
    codes = np.asarray(jax.jit(jax.vmap(encode))(each))  # under the same noise
    moves = np.abs(codes[1:] - codes[0]) > 1e-6  # [number, code]
    assert (moves.sum(axis=0) > 1).all() and moves.any(axis=1).all()


def dense(*widths):
    return sum((inputs + 1) * outputs for inputs, outputs in itertools.pairwise(widths))


def test_numbers_of_parameters_by_hand():
    shape = dataset((28, 28, 1))
    found = {
        variant: count_parameters(jax.eval_shape(build(recipes.get_config(variant), shape).init, KEY, batch_of(shape)))
        for variant in ("nice", "realnvp", "maf")
    }
    actnorm = 2 * 784
    assert found["nice"] == 4 * dense(784, *(1000,) * 5, 784) + 5 * actnorm
    assert found["realnvp"] == 10 * dense(784, 1024, 2 * 784) + 11 * actnorm
    assert found["maf"] == 5 * dense(784, 1024, 2 * 784) + 6 * actnorm


@pytest.mark.parametrize(
    ("variant", "changes", "complaint"),
    [
        ("spline", {"model__transform": "quadratic"},
         "model.transform is 'quadratic'; known: additive, affine, spline"),
        ("spline", {"model__network": "multi_scale"},
         "model.network 'multi_scale' is for images; fake holds none: take coupling"),
        ("spline", {"model__alpha": 0.1}, "model.alpha is of the logit of images, and fake holds none; set it to 0"),
        ("small", {"model__alpha": 0.5}, "model.alpha is 0.5; it must be less than 0.5"),
        ("small", {"model__levels": 3},
         r"model.levels is 3: height and width are halved as often, and \(4, 4\) cannot be"),
        ("small", {"model__actnorm": "first"}, "model.actnorm is 'first'; known: every, last, none"),
        ("spline", {"model__spline_bound": 0.0}, "model.spline_bound is 0.0; it must be positive"),
        ("spline", {"model__num_bins": 1000}, "model.num_bins is 1000; it must be less than 1000"),
        ("small", {"batch_size": 1}, "takes a variance over the first batch: batch_size must be at least 2"),
        ("small", {"model__num_layers": 0}, "model.num_layers is 0; it must be at least 1"),
        ("small", {"model__mixing": "shuffle"}, "model.mixing is 'shuffle'; known: none, reverse, random, linear"),
        ("small", {"model__base": "laplace"}, "model.base is 'laplace'; known: normal, logistic"),
        ("small", {"data__binarization": "dynamic"},
         "a flow is a density of dequantised levels: set data.binarization to none"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(variant, changes, complaint):
    with pytest.raises(InputError, match=complaint):
        build(configured(variant, **changes), dataset(shape_of(variant)))


def test_a_variant_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(
        ValueError, match="no variant 'vae'; known: small, conditional, classifier, novelty, nice, realnvp"
    ):
        recipes.get_config("vae")
    with pytest.raises(InputError, match=r"fake has no labels for model\.conditional"):
        build(configured("conditional"), dataset(labels=False))
    tokens = {"x": np.zeros((24, 2), np.int32)}
    with pytest.raises(InputError, match="a flow is a density of images or points; fake holds neither"):
        build(configured("spline"), data.Dataset("fake", tokens, tokens, tokens, 0, None))
