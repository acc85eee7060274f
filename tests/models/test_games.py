"""The bilinear game, whose every dynamics has a closed form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genlab.models.games import bilinear

KEY, BATCH = jax.random.key(0), {"x": jnp.zeros((3, 1))}
RATE, NUM = 0.2, 40


@functools.cache
def played(dynamics, tx=optax.sgd, num=NUM, **options):
    """Metrics [num] of so many steps from (0.8, 0.3)."""
    algorithm = bilinear(tx(RATE), tx(RATE), dynamics=dynamics, start=(0.8, 0.3), **options)

    @jax.jit
    def run():
        state = algorithm.init(KEY, BATCH)
        return jax.lax.scan(lambda state, key: algorithm.step(state, BATCH, key), state, jax.random.split(KEY, num))

    state, metrics = run()
    return algorithm, state, {name: np.asarray(values, np.float64) for name, values in metrics.items()}


def assert_path(metrics, move, rtol=1e-4):
    """Every step is this function of (x, y)."""
    x, y = 0.8, 0.3
    for i in range(NUM):
        x, y = move(x, y)
        np.testing.assert_allclose([metrics["x"][i], metrics["y"][i]], [x, y], rtol=rtol, atol=1e-5)


def test_simultaneous_descent_spirals_out():
    _, state, metrics = played("simultaneous")
    assert_path(metrics, lambda x, y: (x - RATE * y, y + RATE * x))
    growth = np.sqrt(1 + RATE**2) ** np.arange(1, NUM + 1)
    np.testing.assert_allclose(metrics["distance"], np.hypot(0.8, 0.3) * growth, rtol=1e-5)
    assert state.step == NUM and "average_x" not in metrics


def test_extragradient_spirals_in():
    _, _, metrics = played("extragradient")
    assert_path(metrics, lambda x, y: (x - RATE * (y + RATE * x), y + RATE * (x - RATE * y)))
    shrinking = np.sqrt(1 - RATE**2 + RATE**4) ** np.arange(1, NUM + 1)
    np.testing.assert_allclose(metrics["distance"], np.hypot(0.8, 0.3) * shrinking, rtol=1e-5)


def test_alternating_descent_stays_on_an_ellipse():
    """y' = y + r x and x' = x - r y' leave x^2 + y^2 + r x y as it was."""
    _, _, metrics = played("alternating")
    assert_path(metrics, lambda x, y: (x - RATE * (y + RATE * x), y + RATE * x))
    x, y = metrics["x"], metrics["y"]
    np.testing.assert_allclose(x**2 + y**2 + RATE * x * y, 0.8**2 + 0.3**2 + RATE * 0.8 * 0.3, rtol=1e-5)
    assert metrics["distance"].max() / metrics["distance"].min() > 1.05  # it is no circle


def test_optimistic_descent_converges():
    _, _, metrics = played("simultaneous", optax.optimistic_gradient_descent)
    last = [0.3, -0.8]  # at the first step, which is therefore plain, the gradient itself

    def move(x, y):
        gradient = [y, -x]
        found = [value - 2 * RATE * new + RATE * old for value, new, old in zip((x, y), gradient, last, strict=True)]
        last[:] = gradient
        return found

    assert_path(metrics, move)
    assert metrics["distance"][-1] < 0.6 * metrics["distance"][0]


def test_the_average_of_what_goes_round_goes_in():
    _, state, metrics = played("alternating", num=10 * NUM, ema_decay=0.95)
    x, y = 0.8, 0.3
    for i in range(10 * NUM):
        decay = min(0.95, (1 + i) / (10 + i))
        x, y = decay * x + (1 - decay) * metrics["x"][i], decay * y + (1 - decay) * metrics["y"][i]
        found = metrics["average_x"][i], metrics["average_y"][i], metrics["average_distance"][i]
        np.testing.assert_allclose(found, [x, y, np.hypot(x, y)], rtol=1e-4, atol=1e-5)
    assert metrics["average_distance"][-1] < 0.5 * metrics["distance"].min()
    np.testing.assert_allclose(state.average["gen"]["x"], x, rtol=1e-4)


def test_evaluation_tells_where_the_players_are_for_every_example():
    algorithm, state, metrics = played("alternating", ema_decay=0.95)
    found = algorithm.evaluate(state, BATCH, KEY)
    assert found.keys() == metrics.keys()
    for name, values in found.items():
        np.testing.assert_allclose(values, np.full(3, metrics[name][-1]), rtol=1e-6)


def test_it_has_none_of_a_models_abilities():
    algorithm, *_ = played("simultaneous")
    assert algorithm[3:8] == (None, None, None, None, "none")
    with pytest.raises(ValueError, match="dynamics is 'still'; known"):
        bilinear(optax.sgd(0.1), optax.sgd(0.1), dynamics="still")
