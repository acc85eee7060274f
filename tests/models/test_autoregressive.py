"""Autoregressive models: probabilities of all images, samples as often as they should be, and each conditional."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from genlab.models import autoregressive as models
from genlab.models.factorizations import convolutional, masked, sequential
from genlab.networks.masked import MADE
from genlab.networks.pixelcnn import GatedPixelCNN
from genlab.networks.transformer import CausalTransformer

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
IMAGES = np.array(list(itertools.product([0.0, 1.0], repeat=4)), np.float32).reshape(-1, 2, 2, 1)
LABELS = np.zeros(16, np.int32)
NETWORKS = {
    "made": lambda outputs: masked(MADE(4, outputs, (48,))),
    "fvsbn": lambda outputs: masked(MADE(4, outputs, ())),
    "deep made, reversed": lambda outputs: masked(MADE(4, outputs, (9, 7), "reversed")),
    "transformer": lambda outputs: sequential(CausalTransformer(2, 4, 8, 1, 2, num_outputs=outputs), 2),
    "made of several orders": lambda outputs: masked(MADE(4, outputs, (8,), "random", num_orders=3)),
    "pixelcnn": lambda outputs: convolutional(GatedPixelCNN(outputs, 3, 1, 2, 1, 8)),
}


def randomized(algorithm, batch, seed=0):
    """A State of random parameters."""
    rng = np.random.default_rng(seed)
    state = jax.eval_shape(algorithm.init, KEY, batch)
    draw = lambda leaf: jnp.asarray(0.8 * rng.normal(size=leaf.shape), leaf.dtype)
    player = dataclasses.replace(state.players["network"], params=jax.tree.map(draw, state.players["network"].params))
    return dataclasses.replace(state, players={"network": player}, step=jnp.zeros((), jnp.int32))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("num_classes", [0, 2])
def test_probabilities_of_all_images_add_up_and_samples_are_as_frequent(name, num_classes):
    algorithm = models.autoregressive(NETWORKS[name](1), models.bernoulli(), optax.sgd(0.1), num_classes=num_classes)
    batch = {"x": jnp.asarray(IMAGES), "label": jnp.asarray(LABELS)}
    state = randomized(algorithm, batch)
    log_prob = jax.jit(algorithm.log_prob)
    probability = np.exp(np.asarray(log_prob(state, batch, KEY), np.float64))
    assert probability.sum() == pytest.approx(1.0, abs=1e-5) and probability.std() > 0.01
    if num_classes:
        other = np.exp(log_prob(state, {**batch, "label": jnp.asarray(LABELS + 1)}, KEY))
        assert other.sum() == pytest.approx(1.0, abs=1e-5) and np.abs(other - probability).max() > 0.01
    # a call draws one of the orders: as many calls as samples
    like = {"x": jnp.zeros((1, 2, 2, 1)), "label": jnp.zeros(1, jnp.int32)}
    alone = jax.jit(jax.vmap(lambda key: algorithm.generate(state, like, key)))
    samples = np.asarray(alone(jax.random.split(KEY, 4_000))).reshape(-1, 4)
    counts = np.bincount((samples @ [8, 4, 2, 1]).astype(int), minlength=16)
    assert stats.chisquare(counts, 4_000 * probability / probability.sum()).pvalue > 1e-3


@pytest.mark.parametrize("name", ["made", "pixelcnn", "transformer"])
def test_what_is_known_stays_and_the_rest_is_as_likely_as_given_it(name):
    algorithm = models.autoregressive(NETWORKS[name](1), models.bernoulli(), optax.sgd(0.1))
    batch = {"x": jnp.asarray(IMAGES)}
    state = randomized(algorithm, batch, 1)
    probability = np.exp(np.asarray(jax.jit(algorithm.log_prob)(state, batch, KEY), np.float64))
    known = {"x": jnp.tile(jnp.asarray(IMAGES[9:10]), (3_000, 1, 1, 1))}  # 1 0 0 1
    made = np.asarray(jax.jit(algorithm.complete)(state, known, jnp.int32(2), KEY)).reshape(-1, 4)
    np.testing.assert_array_equal(made[:, :2], np.tile([1, 0], (3_000, 1)))
    given = probability[8:12] / probability[8:12].sum()  # of those that begin so
    counts = np.bincount((made[:, 2:] @ [2, 1]).astype(int), minlength=4)
    assert stats.chisquare(counts, 3_000 * given).pvalue > 1e-3


def test_as_many_examples_are_made_by_each_order_and_each_comes_back_to_its_place():
    network = NETWORKS["made of several orders"](1)
    shown = network._replace(
        sample=lambda params, draw, key, known, num, context, which: known + 100.0 * which.astype(jnp.float32)
    )
    algorithm = models.autoregressive(shown, models.bernoulli(), optax.sgd(0.1))
    batch = {"x": jnp.broadcast_to(jnp.arange(8.0)[:, None, None, None], (8, 2, 2, 1))}
    state = randomized(algorithm, batch)
    made = [np.asarray(algorithm.generate(state, batch, jax.random.key(seed)))[:, 1, 1, 0] for seed in range(3)]
    for each in made:
        np.testing.assert_array_equal(each % 100, np.arange(8))
        assert set(np.bincount((each // 100).astype(int), minlength=3)) <= {2, 3}  # eight among three
    assert len({tuple(each // 100) for each in made}) > 1


def test_the_model_of_several_orders_is_the_mixture_of_their_probabilities():
    network = NETWORKS["made of several orders"](1)
    algorithm = models.autoregressive(network, models.bernoulli(), optax.sgd(0.1))
    batch = {"x": jnp.asarray(IMAGES)}
    state = randomized(algorithm, batch)
    params = state.players["network"].params
    each = [
        np.exp(models.bernoulli().log_prob(network.outputs(params, batch["x"], None, which), batch["x"]))
        for which in range(3)
    ]
    np.testing.assert_allclose(np.exp(algorithm.log_prob(state, batch, KEY)), np.mean(each, axis=0), rtol=1e-5)
    assert np.std(each, axis=0).max() > 1e-3


@pytest.mark.parametrize("name", ["made", "pixelcnn"])
def test_maximum_likelihood_finds_the_frequencies_of_a_few_images(name):
    x = jnp.asarray(IMAGES[[3, 3, 3, 12, 9, 9, 6, 0]])
    algorithm = models.autoregressive(NETWORKS[name](1), models.bernoulli(), optax.adam(0.03), ema_decay=0.9)
    state = jax.jit(algorithm.init)(KEY, {"x": x})
    run = jax.jit(
        lambda state: jax.lax.scan(lambda s, key: algorithm.step(s, {"x": x}, key), state, jax.random.split(KEY, 600))
    )
    state, metrics = run(state)
    entropy = stats.entropy([3, 1, 2, 1, 1])
    found = algorithm.evaluate(state, {"x": x}, KEY)
    assert entropy - 1e-3 < np.mean(found["loss"]) < entropy + 0.05
    assert metrics["loss"][0] > entropy + 0.5 and set(metrics) == {"loss", "log_prob"}
    np.testing.assert_array_equal(found["loss"], -found["log_prob"])
    assert not jax.tree.all(
        jax.tree.map(lambda a, b: (a == b).all(), state.average["network"], state.players["network"].params)
    )


CONDITIONALS = {
    "bernoulli": (models.bernoulli(), 2), "categorical": (models.categorical(5), 5),
    "logistic mixture": (models.logistic_mixture(2, 6), 6),
}  # fmt: skip


@pytest.mark.parametrize("name", CONDITIONALS)
def test_a_conditionals_levels_add_up_to_one_and_are_drawn_as_often(name):
    conditional, num_levels = CONDITIONALS[name]
    outputs = jnp.asarray(RNG.normal(size=conditional.num_outputs), jnp.float32)
    levels = jnp.arange(num_levels) / (num_levels - 1)
    repeated = jnp.tile(outputs, (num_levels, 1, 1))  # [B, D = 1, P]
    mass = np.exp(np.asarray(conditional.log_prob(repeated, levels[:, None]), np.float64))
    assert mass.sum() == pytest.approx(1.0, abs=1e-5)
    sample = jax.jit(conditional.sample)
    drawn = sample(KEY, jnp.tile(outputs, (6_000, 1)), 1.0)
    counts = np.bincount(np.round(np.asarray(drawn) * (num_levels - 1)).astype(int), minlength=num_levels)
    assert stats.chisquare(counts, 6_000 * mass / mass.sum()).pvalue > 1e-3
    cool = np.bincount(
        np.round(np.asarray(sample(KEY, jnp.tile(outputs, (6_000, 1)), 0.5)) * (num_levels - 1)).astype(int),
        minlength=num_levels,
    )
    assert stats.chisquare(cool, 6_000 * mass**2 / np.sum(mass**2)).pvalue > 1e-3  # p^(1 / T), normalised
    cold = sample(KEY, jnp.tile(outputs, (50, 1)), 1e-4)
    assert (np.asarray(cold) == levels[np.argmax(mass)]).all()
    if name == "categorical":
        np.testing.assert_allclose(mass, np.exp(outputs) / np.exp(outputs).sum(), rtol=1e-5)


def test_a_mixture_of_one_logistic_is_that_logistic():
    outputs = jnp.array([[[0.3, 0.4, -1.0]], [[-2.0, -0.4, 1.0]]])  # [B, D, 3 K]
    x = jnp.array([[0.0], [0.6]])
    found = models.logistic_mixture(1, 11).log_prob(outputs, x)
    scale = np.exp(-7 + np.logaddexp(0, np.array([-1.0, 1.0]) - 2.3 + 7))
    law = stats.logistic(1 / (1 + np.exp([-0.4, 0.4])), scale)
    expected = np.log([law.cdf(0.05)[0], law.cdf(0.65)[1] - law.cdf(0.55)[1]])
    np.testing.assert_allclose(found, expected, rtol=1e-4)
