"""Two stochastic layers: a linear Gaussian chain, whose evidence is known, inferred in both directions."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from linear_gaussian import Moments, dense, f32
from scipy import stats

from genlab.algorithm import new_player, new_state
from genlab.losses.elbo import importance_bound
from genlab.models import likelihoods
from genlab.models.hierarchical import bottom_up, product, top_down
from genlab.models.latent import variational
from genlab.models.objectives import evidence, importance_weighted
from genlab.models.priors import mixture, standard_normal, vamp
from genlab.networks.dense import MLP, DenseDecoder

KEY = jax.random.key(0)
RNG = np.random.default_rng(3)

# z2 ~ N(0, I_2), z1 | z2 ~ N(A z2 + a, V1), x | z1 ~ N(W z1 + m, V)
A, OFFSET, V1 = RNG.normal(size=(3, 2)), np.array([0.2, -0.4, 0.1]), np.array([0.5, 0.8, 0.3])
W, MEAN, V = RNG.normal(size=(4, 3)), np.array([0.3, -1.0, 0.5, 2.0]), 0.4
COVARIANCE = W @ (A @ A.T + np.diag(V1)) @ W.T + V * np.eye(4)
POINTS = MEAN + W @ OFFSET + 0.5 * RNG.multivariate_normal(np.zeros(4), COVARIANCE, size=3)
EVIDENCE = stats.multivariate_normal(MEAN + W @ OFFSET, COVARIANCE).logpdf(POINTS)
BATCH = {"x": jnp.asarray(POINTS, jnp.float32)}


def affine(inputs, outputs, scale=0.1):
    """Moments that are not far from a wide Gaussian about the origin, so that importance sampling needs few samples."""
    bias = np.concatenate([scale * RNG.normal(size=outputs), np.ones(outputs)])
    return {"Dense_0": dense(scale * RNG.normal(size=(inputs, 2 * outputs)), bias)}


GENERATOR = f32({
    "decoders_0": {"Dense_0": dense(np.concatenate([A.T, np.zeros((2, 3))], 1), np.concatenate([OFFSET, np.log(V1)]))},
    "decoder_0": {"Dense_0": dense(W.T, MEAN)},
})  # fmt: skip
LIKELIHOOD = likelihoods.gaussian(float(np.log(V)), squash=False)
UP = bottom_up([Moments(3), Moments(2)], [Moments(3)], DenseDecoder((), (4,)), LIKELIHOOD, (3, 2), standard_normal())
DOWN = top_down(
    [MLP((5,)), MLP(())], [Moments(3), Moments(2)], [Moments(3)], DenseDecoder((), (4,)), LIKELIHOOD, (3, 2),
    standard_normal(),
)  # fmt: skip
UP_PARAMS = f32({"encoders_0": affine(4, 3), "encoders_1": affine(3, 2)}) | GENERATOR
TRUNKS = {"trunks_0": {"Dense_0": dense(0.3 * RNG.normal(size=(4, 5)), np.zeros(5))}, "trunks_1": {}}
DOWN_PARAMS = f32(TRUNKS | {"heads_0": affine(5, 3), "heads_1": affine(5, 2)}) | GENERATOR
MODELS = {"bottom_up": (UP, UP_PARAMS), "top_down": (DOWN, DOWN_PARAMS)}


def stats_of(params):
    return {name: {} for name in params}


def normal(z, mean, log_var):
    return stats.norm(mean, np.exp(log_var / 2)).logpdf(z).sum(axis=-1)


def by_hand(layer, z):
    """Mean and log-variance of an affine layer, f64."""
    kernel, bias = (np.asarray(layer["Dense_0"][name], np.float64) for name in ("kernel", "bias"))
    return np.split(z @ kernel + bias, 2, axis=-1)


@pytest.mark.parametrize("direction", MODELS)
def test_importance_sampling_finds_the_evidence(direction):
    model, params = MODELS[direction]
    assert jax.tree.map(jnp.shape, model.init(KEY, BATCH)[0]) == jax.tree.map(jnp.shape, params)

    @jax.jit
    def bound(key):
        features, _ = model.infer(params, stats_of(params), BATCH, False)
        codes, log_q = model.sample(params, features, key, 200_000)
        log_joint = model.log_likelihood(params, stats_of(params), BATCH, codes, False)[0]
        return importance_bound(log_joint + model.log_prior(params, stats_of(params), BATCH, codes) - log_q)

    together = importance_bound(jnp.stack([bound(key) for key in jax.random.split(KEY, 4)]))
    np.testing.assert_allclose(together, EVIDENCE, atol=0.08)


@pytest.mark.parametrize("direction", MODELS)
def test_densities_of_samples_are_those_that_scipy_finds(direction):
    model, params = MODELS[direction]
    features, _ = model.infer(params, stats_of(params), BATCH, False)
    codes, log_q = model.sample(params, features, KEY, 5)
    np.testing.assert_allclose(model.log_posterior(params, features, codes), log_q, rtol=1e-4, atol=1e-4)
    z1, z2 = np.split(np.asarray(codes, np.float64), [3], axis=-1)
    prior = normal(z1, z2 @ A.T + OFFSET, np.log(V1)) + normal(z2, 0.0, 0.0)
    np.testing.assert_allclose(model.log_prior(params, stats_of(params), BATCH, codes), prior, rtol=1e-4)
    if direction == "bottom_up":
        expected = normal(z1, *by_hand(params["encoders_0"], POINTS)) + normal(z2, *by_hand(params["encoders_1"], z1))
    else:
        d = np.maximum(POINTS @ np.asarray(params["trunks_0"]["Dense_0"]["kernel"], np.float64), 0)
        mean, log_var = by_hand(params["heads_0"], d)
        precision, other = np.exp(-log_var), 1 / V1
        merged = (mean * precision + (z2 @ A.T + OFFSET) * other) / (precision + other)
        expected = normal(z1, merged, -np.log(precision + other)) + normal(z2, *by_hand(params["heads_1"], d))
    np.testing.assert_allclose(log_q, expected, rtol=1e-4, atol=1e-4)


def test_product_of_gaussians_by_their_densities():
    mean, log_var = product(*map(jnp.asarray, (1.0, 0.3, -0.5, -1.2)))
    z = np.linspace(-2, 2, 5)
    both = stats.norm(1.0, np.exp(0.15)).logpdf(z) + stats.norm(-0.5, np.exp(-0.6)).logpdf(z)
    ratio = stats.norm(float(mean), np.exp(float(log_var) / 2)).logpdf(z) - both
    np.testing.assert_allclose(ratio, ratio[0], atol=1e-5)  # proportional


@pytest.mark.parametrize("direction", MODELS)
def test_generated_points_have_the_models_moments(direction):
    model, params = MODELS[direction]
    algorithm = variational(model, evidence(), optax.sgd(0.1), generate_means=False)
    num = 40_000
    state = new_state({"vae": new_player(params, optax.sgd(0.1), stats_of(params))})
    x = np.asarray(jax.jit(algorithm.generate)(state, {"x": jnp.zeros((num, 4))}, KEY), np.float64)
    variances = np.diag(COVARIANCE)
    assert np.all(np.abs(x.mean(axis=0) - MEAN - W @ OFFSET) < 5 * np.sqrt(variances / num))
    error = np.sqrt((np.outer(variances, variances) + COVARIANCE**2) / num)
    assert np.all(np.abs(np.cov(x, rowvar=False) - COVARIANCE) < 5 * error)


@pytest.mark.parametrize("direction", MODELS)
def test_training_both_bounds_approaches_the_evidence(direction):
    """Only q is wrong at the start; its steps close most of the gap, by the gradient of either bound."""
    model, params = MODELS[direction]
    for objective in (evidence(), importance_weighted(5, doubly_reparameterized=True)):
        tx = optax.adam(0.02)
        algorithm = variational(model, objective, tx, num_importance_samples=1)
        state = new_state({"vae": new_player(params, tx, stats_of(params))})
        run = jax.jit(lambda s, keys, a=algorithm: jax.lax.scan(lambda s, key: a.step(s, BATCH, key), s, keys))
        before = jax.jit(algorithm.evaluate)(state, BATCH, KEY)
        after = jax.jit(algorithm.evaluate)(run(state, jax.random.split(KEY, 300))[0], BATCH, KEY)
        assert np.mean(after["loss"]) < np.mean(before["loss"]) - 0.5


def test_priors_of_the_highest_layer():
    images = jnp.asarray(RNG.uniform(size=(5, 2, 2, 1)), jnp.float32)
    make = lambda prior: top_down(
        [MLP((5,)), MLP((5,))], [Moments(3), Moments(2)], [Moments(3)], DenseDecoder((), (2, 2, 1)),
        likelihoods.bernoulli(), (3, 2), prior,
    )  # fmt: skip
    for prior in (mixture(5, 2), vamp(5, images)):
        algorithm = variational(make(prior), evidence(), optax.adam(0.01), num_importance_samples=2)
        batch = {"x": images}
        state = jax.jit(algorithm.init)(KEY, batch)
        before = jax.device_get(state.players["vae"].params["prior"])
        after, metrics = jax.jit(algorithm.step)(state, batch, KEY)
        moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), after.players["vae"].params["prior"], before)
        assert max(jax.tree.leaves(moved)) > 1e-3 and np.isfinite(metrics["loss"])
        assert jax.eval_shape(algorithm.log_prob, after, batch, KEY).shape == (5,)
        assert jax.eval_shape(algorithm.generate, after, batch, KEY).shape == (5, 2, 2, 1)
