"""Flows against densities in closed form: Gaussians, logistics, and what dequantisation and the logit make of them."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from genlab.models.flow import LOGISTIC, NORMAL, flow
from genlab.networks.autoregressive_flow import MaskedAutoregressive
from genlab.networks.coupling import Coupling, DenseConditioner
from genlab.networks.flow import ActNorm, Chain, InvertibleLinear
from genlab.networks.masked import MADE

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


def affine(shape=(2,), **options):
    return flow(ActNorm(), optax.sgd(0.1), shape=shape, **options)


def at(algorithm, batch, scale, mean):
    """Its State with p(x) = N(mean, scale^2)."""
    state = algorithm.init(KEY, batch)
    params = {"log_scale": -jnp.log(jnp.asarray(scale)), "shift": -jnp.asarray(mean) / jnp.asarray(scale)}
    return with_params(state, params)


def with_params(state, params):
    player = dataclasses.replace(state.players["flow"], params=params)
    return dataclasses.replace(state, players={"flow": player})


@pytest.mark.parametrize(("base", "law"), [(NORMAL, stats.norm), (LOGISTIC, stats.logistic)])
def test_an_affine_flow_has_the_density_of_its_base_moved_and_scaled(base, law):
    x = jnp.asarray(RNG.normal(size=(7, 2)), jnp.float32)
    algorithm = affine(base=base)
    state = at(algorithm, {"x": x}, [2.0, 0.5], [1.0, -1.0])
    expected = law([1.0, -1.0], [2.0, 0.5]).logpdf(np.asarray(x)).sum(axis=1)
    np.testing.assert_allclose(algorithm.log_prob(state, {"x": x}, KEY), expected, rtol=1e-5)
    found = algorithm.evaluate(state, {"x": x}, KEY)
    assert set(found) == {"loss", "log_prob"}
    np.testing.assert_allclose(found["loss"], -expected, rtol=1e-5)
    np.testing.assert_allclose(
        algorithm.encode(state, {"x": x}, KEY), (x - np.array([1.0, -1.0])) / np.array([2.0, 0.5]), rtol=1e-5
    )
    samples = algorithm.generate(state, {"x": jnp.zeros((4_000, 2))}, KEY)
    deviation = law.std() * np.array([2.0, 0.5])
    np.testing.assert_allclose(jnp.mean(samples, axis=0), [1.0, -1.0], atol=4 * deviation.max() / 4_000**0.5)
    np.testing.assert_allclose(jnp.std(samples, axis=0), deviation, rtol=0.05)


def test_maximum_likelihood_finds_mean_and_deviation():
    x = jnp.asarray([3.0, -2.0] + np.array([0.5, 2.0]) * RNG.normal(size=(512, 2)), jnp.float32)
    algorithm = flow(ActNorm(), optax.adam(0.05), shape=(2,))
    state = at(algorithm, {"x": x}, [1.0, 1.0], [0.0, 0.0])
    state, metrics = jax.jit(
        lambda s: jax.lax.scan(lambda s, key: algorithm.step(s, {"x": x}, key), s, jax.random.split(KEY, 1_500))
    )(state)
    params = state.players["flow"].params
    scale = np.exp(-params["log_scale"])
    np.testing.assert_allclose(scale, np.std(x, axis=0), rtol=0.01)
    np.testing.assert_allclose(-params["shift"] * scale, np.mean(x, axis=0), rtol=0.01)
    best = stats.norm(np.mean(x, axis=0), np.std(x, axis=0)).logpdf(np.asarray(x)).sum(axis=1).mean()
    assert metrics["loss"][-1] == pytest.approx(-best, abs=1e-3) and metrics["loss"][0] > -best + 0.5
    assert int(state.step) == 1_500


@pytest.mark.parametrize("kind", ["coupling", "spline", "autoregressive"])
def test_densities_in_the_plane_integrate_to_one(kind):
    affine_coupling = lambda i: Coupling(DenseConditioner((8,), 2, 1.0), parity=i)
    spline_coupling = lambda i: Coupling(DenseConditioner((8,), 11), parity=i, transform="spline", num_bins=4)
    known = {
        "coupling": lambda: Chain([affine_coupling(0), affine_coupling(1)]),
        "spline": lambda: Chain([spline_coupling(0), spline_coupling(1)]),
        "autoregressive": lambda: Chain(
            [InvertibleLinear(), MaskedAutoregressive(MADE(2, 2, (8,)), log_scale_bound=1.0)]
        ),
    }
    network = known[kind]()
    algorithm = flow(network, optax.sgd(0.1), shape=(2,))
    state = algorithm.init(KEY, {"x": jnp.zeros((1, 2))})
    noise = lambda leaf: leaf + jnp.asarray(0.3 * RNG.normal(size=leaf.shape), jnp.float32)
    state = with_params(state, jax.tree.map(noise, state.players["flow"].params))
    side = np.linspace(-9, 9, 361, dtype=np.float32)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    density = np.exp(jax.jit(algorithm.log_prob)(state, {"x": jnp.asarray(grid)}, KEY))
    assert density.sum() * (side[1] - side[0]) ** 2 == pytest.approx(1.0, abs=0.01)
    assert density.std() > 0


@pytest.mark.parametrize("alpha", [0.0, 0.05])
def test_of_images_it_is_the_density_of_dequantized_levels(alpha):
    """Bits per dimension are those of the levels: a flat density has 8, less what a known bin is worth."""
    x = jnp.asarray(RNG.integers(0, 256, (5, 2, 2, 1)) / 255, jnp.float32)
    algorithm = affine((2, 2, 1), images=True, alpha=alpha)
    state = at(algorithm, {"x": x}, [0.7] * 4, [0.4] * 4)
    found = algorithm.evaluate(state, {"x": x}, KEY)
    # z gives back u
    z = np.asarray(algorithm.encode(state, {"x": x}, KEY), np.float64)
    y = 0.7 * z + 0.4
    p = 1 / (1 + np.exp(-y))
    u = (p - alpha) / (1 - 2 * alpha) if alpha else y
    np.testing.assert_array_equal(np.floor(256 * u), np.round(255 * np.asarray(x)).reshape(5, 4))
    expected = stats.norm(0.4, 0.7).logpdf(y)
    if alpha:
        np.testing.assert_allclose(found["logit_log_prob"], expected.sum(axis=1), rtol=1e-4)
        expected = expected + np.log((1 - 2 * alpha) / (p * (1 - p)))
    np.testing.assert_allclose(found["log_prob"], expected.sum(axis=1), rtol=1e-4)
    np.testing.assert_allclose(
        found["dequantized_bits_per_dim"], -expected.sum(axis=1) / (4 * np.log(2)) + 8, rtol=1e-5
    )
    back = algorithm.decode(state, algorithm.encode(state, {"x": x}, KEY), KEY)
    np.testing.assert_allclose(back, x, atol=1e-6)
    samples = algorithm.generate(state, {"x": jnp.zeros((50, 2, 2, 1))}, KEY)
    assert samples.shape == (50, 2, 2, 1) and np.all((samples >= 0) & (samples <= 1))
    np.testing.assert_allclose(255 * samples, np.round(255 * samples), atol=1e-4)


def test_the_noise_is_new_at_every_key_and_its_mean_bounds_the_levels_from_below():
    """A logistic on u whose bins are known in closed form: E log p(u) - D log 256 <= log P(level), and not by much."""
    x = jnp.asarray(np.array([[10.0], [128.0]]) / 255, jnp.float32)
    algorithm = affine((1,), images=True, base=LOGISTIC)
    state = at(algorithm, {"x": x}, [0.05], [0.3])
    draws = jnp.stack([algorithm.log_prob(state, {"x": x}, jax.random.key(i)) for i in range(300)])
    assert np.all(np.std(draws, axis=0) > 0)
    law = stats.logistic(0.3, 0.05)
    mass = law.cdf(np.array([11, 129]) / 256) - law.cdf(np.array([10, 128]) / 256)
    bound = np.mean(draws, axis=0) - np.log(256)
    assert np.all(bound <= np.log(mass) + 2e-3) and np.all(bound > np.log(mass) - 0.02)


def test_the_class_that_is_asked_for_is_generated_and_has_its_own_density():
    class Shift(nn.Module):
        """z = x - 10 y."""

        def __call__(self, x, context=None):
            return x - 10 * jnp.argmax(context, axis=-1)[:, None].astype(jnp.float32), jnp.zeros(len(x))

        def inverse(self, z, context=None):
            return z + 10 * jnp.argmax(context, axis=-1)[:, None].astype(jnp.float32), jnp.zeros(len(z))

    algorithm = flow(Shift(), optax.sgd(0.1), shape=(1,), num_classes=3)
    batch = {"x": jnp.array([[0.5], [10.5], [20.5], [0.5]]), "label": jnp.array([0, 1, 2, 2])}
    state = algorithm.init(KEY, batch)
    expected = stats.norm.logpdf([0.5, 0.5, 0.5, -19.5])
    np.testing.assert_allclose(algorithm.log_prob(state, batch, KEY), expected, rtol=1e-5)
    np.testing.assert_array_equal(np.round(algorithm.generate(state, batch, KEY)[:, 0] / 10), [0, 1, 2, 2])
    assert algorithm.decode is None


def test_samples_are_cooled_by_the_temperature_and_made_by_the_average():
    x = jnp.asarray(RNG.normal(size=(8, 2)), jnp.float32)
    warm, cool = affine(), affine(temperature=0.5)
    state = at(warm, {"x": x}, [2.0, 2.0], [1.0, 1.0])
    a, b = (algorithm.generate(state, {"x": x}, KEY) for algorithm in (warm, cool))
    np.testing.assert_allclose(b - 1, 0.5 * (a - 1), rtol=1e-5, atol=1e-6)
    averaged = affine(ema_decay=0.75)
    state = averaged.init(KEY, {"x": x})
    before = state.average["flow"]
    state, _ = averaged.step(state, {"x": x + 1}, KEY)
    params = state.players["flow"].params
    for name in params:
        np.testing.assert_allclose(state.average["flow"][name], 0.75 * before[name] + 0.25 * params[name], rtol=1e-6)
    shown = averaged.encode(state, {"x": x}, KEY)
    np.testing.assert_allclose(
        shown, x * np.exp(state.average["flow"]["log_scale"]) + state.average["flow"]["shift"], rtol=1e-5
    )
