"""The duality gap of a game whose best responses are known, against every step of them in numpy.

V(g, d) = (g - m) d + g^2 / 2 - d^2 / 2, convex in g and concave in d, where m is the mean of the batch. Its equilibrium
is g = m / 2, d = -m / 2: the slopes are d + g and g - m - d.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genlab.algorithm import Algorithm, new_player, new_state
from genlab.evaluation.duality import make_duality_gap

KEY, RATE, NUM = jax.random.key(0), 0.3, 4
RNG = np.random.default_rng(0)
BATCHES = {"x": RNG.normal(1.0, 1.0, (NUM, 5)).astype(np.float32)}
BATCH = {"x": RNG.normal(1.0, 1.0, 7).astype(np.float32)}
LEVEL = {"x": np.full((NUM, 5), 0.8, np.float32)}, {"x": np.full(7, 0.8, np.float32)}  # nothing differs


def value(g, d, m):
    return (g - m) * d + 0.5 * g**2 - 0.5 * d**2


def game(noise=0.0):
    """Simultaneous gradient descent, and an evaluation with noise of its key."""
    tx = optax.sgd(RATE)

    def step(state, batch, key):
        g, d, m = state.players["gen"].params, state.players["disc"].params, jnp.mean(batch["x"])
        slopes = {"gen": d + g, "disc": -(g - m - d)}
        players = {}
        for name, player in state.players.items():
            updates, opt_state = tx.update(slopes[name], player.opt_state, player.params)
            players[name] = player.replace(params=player.params + updates, opt_state=opt_state)
        return state.replace(step=state.step + 1, players=players), {}

    def evaluate(state, batch, key):
        g, d = state.players["gen"].params, state.players["disc"].params
        drawn = noise * jax.random.normal(key, batch["x"].shape)
        return {"disc_loss": -value(g, d, batch["x"]) + drawn}  # linear in x: its mean is V at the mean

    return Algorithm(None, step, evaluate, None, None, None, None, "none")


def at(g, d):
    return new_state({name: new_player(jnp.float32(p), optax.sgd(RATE)) for name, p in (("gen", g), ("disc", d))})


def found_gap(g, d, batches=BATCHES, batch=BATCH, num=NUM, key=KEY, noise=0.0):
    gap = jax.jit(make_duality_gap(game(noise), num))(at(g, d), batches, {"x": batch["x"][None]}, key)
    return {name: float(number) for name, number in gap.items()}


def gap_by_hand(g, d, batches=BATCHES, batch=BATCH):
    """Each player's steps with the other where it stands."""
    moved_g, moved_d, m = g, d, float(batch["x"].mean())
    for x in batches["x"]:
        moved_d = moved_d + RATE * (g - x.mean() - moved_d)
        moved_g = moved_g - RATE * (d + moved_g)
    disc_gain = value(g, moved_d, m) - value(g, d, m)
    gen_gain = value(g, d, m) - value(moved_g, d, m)
    return {"duality_gap": disc_gain + gen_gain, "disc_gain": disc_gain, "gen_gain": gen_gain}


@pytest.mark.parametrize(("g", "d"), [(2.0, 0.5), (-1.0, -0.7), (0.3, 1.5)])
def test_gap_is_what_either_gains_by_moving_alone(g, d):
    """On batches in their order, and measured on another."""
    found = found_gap(g, d)
    assert found == pytest.approx(gap_by_hand(g, d), rel=1e-5, abs=1e-6)
    together = gap_by_hand(g, d, {"x": BATCHES["x"][::-1]})
    assert abs(together["disc_gain"] - found["disc_gain"]) > 1e-3  # the order shows


def test_gap_after_many_steps_is_that_of_the_best_responses():
    """max_d V = (g - m)^2 / 2 + g^2 / 2 at d = g - m; min_g V = -m d - d^2 at g = -d."""
    batches = {"x": np.full((60, 5), 0.8, np.float32)}
    g, d, m = 1.2, 0.1, 0.8
    found = found_gap(g, d, batches, LEVEL[1], 60)
    best_d, best_g = 0.5 * (g - m) ** 2 + 0.5 * g**2, -m * d - d**2
    assert found["duality_gap"] == pytest.approx(best_d - best_g, rel=1e-5)
    assert found["disc_gain"] == pytest.approx(best_d - value(g, d, m), rel=1e-5)
    assert found["gen_gain"] == pytest.approx(value(g, d, m) - best_g, rel=1e-5)


def test_gap_is_zero_at_the_equilibrium_and_positive_elsewhere():
    assert found_gap(0.4, -0.4, *LEVEL) == pytest.approx(
        dict.fromkeys(("duality_gap", "disc_gain", "gen_gain"), 0), abs=1e-6
    )
    for g, d in ((0.5, -0.4), (0.4, -0.3), (0.0, 0.0)):
        assert found_gap(g, d, *LEVEL)["duality_gap"] > 1e-3


def test_a_player_at_its_best_response_gains_nothing():
    found = found_gap(1.3, 0.5, *LEVEL)  # d = g - m
    assert found["disc_gain"] == pytest.approx(0, abs=1e-6) and found["gen_gain"] > 0.1


def test_a_player_stays_where_its_steps_would_lose():
    """Batches of another mean lead the discriminator away from its best response."""
    elsewhere = {"x": LEVEL[0]["x"] + 3.0}
    by_hand, found = gap_by_hand(1.3, 0.5, elsewhere, LEVEL[1]), found_gap(1.3, 0.5, elsewhere, LEVEL[1])
    assert by_hand["disc_gain"] < -0.1 and found["disc_gain"] == 0.0
    assert found["duality_gap"] == found["gen_gain"] == pytest.approx(by_hand["gen_gain"], rel=1e-5)


def test_one_key_gives_one_gap_in_which_the_draws_of_the_value_cancel():
    noisy, quiet = found_gap(2.0, 0.5, noise=5.0), found_gap(2.0, 0.5)
    assert noisy == found_gap(2.0, 0.5, noise=5.0)
    assert noisy == pytest.approx(quiet, abs=1e-4)
