"""Recipes of autoregressive models: each makes a model of its data, and what cannot be is refused in one line."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import autoregressive as recipes
from experiments.autoregressive import build
from experiments.checks import check
from experiments.members import with_fields
from genlab import data
from genlab.errors import InputError
from genlab.evaluation.card import count_parameters

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
TINY = {"batch_size": 6, "model.hidden": (3,), "model.features": 4, "model.num_layers": 2, "model.head": 3}


def dataset(shape=(4, 4, 1), labels=True):
    """Random pixels, or tokens."""

    def split():
        text = len(shape) == 1
        x = RNG.integers(0, 128, (24, *shape), dtype=np.int32 if text else np.uint8)
        return {"x": x} | ({"label": np.arange(24, dtype=np.int32) % 10} if labels else {})

    return data.Dataset("fake", split(), split(), split(), 10 if labels else 0, None)


def configured(variant, **changes):
    config = recipes.get_config(variant)
    hidden = () if variant == "fvsbn" else (3,)
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    every = {"model.attention_every": 2} if variant == "attention" else {}
    config.update_from_flattened_dict(TINY | {"model.hidden": hidden} | every | changes)
    return config


def shape_of(variant):
    return (6,) if recipes.get_config(variant).data.name == "python_topics" else (4, 4, 1)


def batch_of(config, given, num=6):
    raw = {name: jnp.asarray(column[:num]) for name, column in given.train.items()}
    return data.prepare(raw, config.data.binarization, KEY)


ALIKE = {"classifier": "conditional", "made_mnist": "made", "pixelcnn_mnist": "small"}  # in all but size and data


@pytest.mark.parametrize("variant", ALIKE)
def test_a_recipe_of_another_size_is_the_same_model(variant):
    config, other = recipes.get_config(variant), recipes.get_config(ALIKE[variant])
    check(config)
    sizes = {"hidden", "features", "num_layers", "head"}
    of_model = lambda config: {name: value for name, value in config.model.items() if name not in sizes}
    assert of_model(config) == of_model(other)


@pytest.mark.parametrize("variant", sorted({*recipes.VARIANTS} - {*ALIKE}))
def test_a_recipe_makes_a_model_whose_samples_are_like_its_data(variant):
    """Its step as one of two members of a population, at rates of their own, as shapes."""
    check(recipes.get_config(variant))
    config, given = configured(variant), dataset(shape_of(variant))
    algorithm, batch = build(config, given), batch_of(config, given)

    def member(rate, key):
        algorithm = build(with_fields(config, {"optimizer.learning_rate": rate}), given)
        state = algorithm.init(key, batch)
        return state, algorithm.step(state, batch, key)

    states, (after, metrics) = jax.eval_shape(jax.vmap(member), jnp.ones(2), jax.random.split(KEY, 2))
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, states) and after.step.shape == (2,)
    state = jax.jit(algorithm.init)(KEY, batch)
    assert set(metrics) == {"loss", "log_prob"} and algorithm.density == "exact" and algorithm.space == "discrete"
    complete, known = algorithm.complete, 4
    if complete is None:  # of several orders, in which no pixels are always the first
        assert config.model.num_orders > 1 and algorithm.generate is not None
        complete, known = lambda state, batch, num, key: algorithm.generate(state, batch, key), 0
    made = np.asarray(jax.jit(complete)(state, batch, jnp.int32(known), KEY))
    assert made.shape == batch["x"].shape and made.dtype == batch["x"].dtype
    made, given_x = made.reshape(6, -1), np.asarray(batch["x"]).reshape(6, -1)
    np.testing.assert_allclose(made[:, :known], given_x[:, :known], atol=1e-6)
    assert (np.abs(made[:, known:] - given_x[:, known:]) > 1e-6).any()
    steps = 1 if made.dtype == np.int32 or config.model.output == "bernoulli" else 255
    np.testing.assert_allclose(made * steps, np.round(made * steps), atol=1e-4)
    assert made.min() >= 0 and made.max() <= (127 if made.dtype == np.int32 else 1)


def dense(*widths):
    return sum((inputs + 1) * outputs for inputs, outputs in itertools.pairwise(widths))


def test_numbers_of_parameters_by_hand():
    images, text = dataset((28, 28, 1)), dataset((256,), labels=False)
    found = {}
    for variant, given in (("made_mnist", images), ("fvsbn", images), ("pixelcnn_mnist", images), ("language", text)):
        config = recipes.get_config(variant)
        algorithm = build(config, given)
        found[variant] = count_parameters(jax.eval_shape(algorithm.init, KEY, batch_of(config, given)))
    assert found["made_mnist"] == dense(784, 8000, 784) and found["fvsbn"] == dense(784, 784)
    # vertical and horizontal convolution, the link of the two and the mix, of 24 features
    layer = lambda channels, above, left: (
        (above * channels + 1) * 48 + (left * channels + 1) * 48 + dense(48, 48) + dense(24, 24)
    )
    biases = 28 * 28 * 3 * 24
    assert found["pixelcnn_mnist"] == biases + layer(1, 3 * 7, 3) + 6 * layer(24, 2 * 3, 2) + dense(24, 128, 1)
    block = 4 * 128 + dense(128, 3 * 128) + dense(128, 128) + dense(128, 512, 128)
    assert found["language"] == (129 + 256) * 128 + 4 * block + 2 * 128 + dense(128, 128)


@pytest.mark.parametrize(
    ("variant", "changes", "complaint"),
    [
        ("small", {"model__network": "lstm"}, "model.network is 'lstm'; known: pixelcnn, made, transformer"),
        ("small", {"model__output": "gaussian"}, "model.output 'gaussian' does not fit data.binarization 'dynamic'"),
        ("grey", {"model__output": "gaussian"},
         "model.output is 'gaussian'; known: bernoulli, categorical, logistic_mixture"),
        ("grey", {"model__output": "bernoulli"}, "bernoulli is for binary pixels"),
        ("made", {"model__order": "spiral"}, "model.order is 'spiral'; known: natural, reversed, random"),
        ("small", {"model__num_orders": 2}, "model.num_orders is 2; of several orders there is a made only"),
        ("small", {"model__order": "reversed"}, "model.order is 'reversed'; a pixelcnn takes pixels as they stand"),
        ("attention", {"model__features": 5}, "model.features is 5; model.num_heads, 2, must divide it"),
        ("attention", {"model__attention_every": 3}, "model.attention_every is 3; there are 2 layers"),
        ("small", {"model__temperature": 0.0}, "model.temperature is 0"),
        ("language", {"model__network": "pixelcnn"}, "fake holds text, for which model.network must be transformer"),
        ("language", {"model__output": "logistic_mixture"}, "and model.output categorical; got 'transformer' and"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(variant, changes, complaint):
    with pytest.raises(InputError, match=complaint):
        build(configured(variant, **changes), dataset(shape_of(variant)))


def test_of_other_data_there_is_no_model():
    points = np.zeros((24, 2), np.float32)
    for x in (points, np.zeros((24, 4, 4, 3), np.uint8)):
        given = data.Dataset("fake", {"x": x}, {"x": x}, {"x": x}, 0, None)
        with pytest.raises(InputError, match="of images of one channel or of text; fake has"):
            build(configured("small"), given)
    with pytest.raises(InputError, match=r"fake has no labels for model\.conditional"):
        build(configured("conditional"), dataset(labels=False))
    with pytest.raises(ValueError, match="no variant 'vae'; known: small, conditional"):
        recipes.get_config("vae")
