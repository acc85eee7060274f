"""The step of one player against the update computed by hand, and the State that carries it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genlab.algorithm import Algorithm, descend, new_player, new_state

RATE = 0.1


def quadratic(center):
    """sum (w - center)^2 / 2, which counts its calls in stats and returns what it saw in aux."""

    def loss_fn(params, stats):
        loss = 0.5 * jnp.sum(jnp.square(params["w"] - center))
        return loss, ({"calls": stats["calls"] + 1}, {"seen": params["w"]})

    return loss_fn


def quadratic_player(w, tx):
    return new_player({"w": jnp.asarray(w)}, tx, {"calls": jnp.zeros((), jnp.int32)})


def test_descend_takes_the_hand_computed_step():
    tx = optax.sgd(RATE)
    player, loss, aux = descend(quadratic_player([3.0, -1.0], tx), tx, quadratic(1.0))
    np.testing.assert_allclose(player.params["w"], [2.8, -0.8], rtol=1e-6)  # w - 0.1 (w - 1)
    np.testing.assert_allclose(loss, 4.0, rtol=1e-6)  # before the step
    np.testing.assert_array_equal(aux["seen"], [3.0, -1.0])
    assert player.stats["calls"] == 1


def test_descend_keeps_the_optimizer_state_between_steps():
    tx = optax.sgd(RATE, momentum=0.5)
    player = quadratic_player([3.0], tx)
    w, velocity = 3.0, 0.0
    for calls in range(1, 6):
        player, _, _ = descend(player, tx, quadratic(1.0))
        velocity = 0.5 * velocity + (w - 1.0)
        w -= RATE * velocity
        np.testing.assert_allclose(player.params["w"], [w], rtol=1e-5)
        assert player.stats["calls"] == calls


def test_descend_gives_the_optimizer_the_parameters():
    tx = optax.chain(optax.add_decayed_weights(0.5), optax.sgd(RATE))
    player, _, _ = descend(quadratic_player([3.0], tx), tx, quadratic(1.0))
    np.testing.assert_allclose(player.params["w"], [3.0 - RATE * (2.0 + 0.5 * 3.0)], rtol=1e-6)


def test_descend_takes_adams_first_step_by_the_learning_rate():
    tx = optax.adam(RATE, eps=0.0)
    # under strict promotion, though optax raises a float to Adam's integer count
    player, _, _ = descend(quadratic_player([3.0, -200.0], tx), tx, quadratic(1.0))
    np.testing.assert_allclose(player.params["w"], [2.9, -199.9], rtol=1e-6)


def test_descend_moves_no_player_but_its_own():
    tx = optax.sgd(RATE)
    mine = new_player({"w": jnp.array(3.0)}, tx)
    other = new_player({"w": jnp.array(5.0)}, tx, {"mean": jnp.array(2.0)})

    def loss_fn(params, stats):  # reads the other player's parameters and stats
        return params["w"] * other.params["w"] * other.stats["mean"], (stats, ())

    moved, loss, aux = descend(mine, tx, loss_fn)
    np.testing.assert_allclose(loss, 30.0)
    np.testing.assert_allclose(moved.params["w"], 3.0 - RATE * 10.0, rtol=1e-6)
    assert other.params["w"] == 5.0 and other.stats["mean"] == 2.0
    assert moved.stats == {} and aux == ()


def test_descend_in_a_game_gives_each_player_its_own_gradient():
    """min over x, max over y of x y, moved in turns: y sees the x that has already moved."""
    tx = optax.sgd(RATE)

    def step(state, _):
        x, y = state.players["x"], state.players["y"]
        x, _, _ = descend(x, tx, lambda params, stats: (params * y.params, (stats, ())))
        y, _, _ = descend(y, tx, lambda params, stats: (-params * x.params, (stats, ())))
        return state.replace(step=state.step + 1, players={"x": x, "y": y}), None

    state = new_state({"x": new_player(jnp.array(1.0), tx), "y": new_player(jnp.array(0.5), tx)})
    state, _ = jax.lax.scan(step, state, length=3)
    x, y = 1.0, 0.5
    for _ in range(3):
        x -= RATE * y
        y += RATE * x
    np.testing.assert_allclose([state.players["x"].params, state.players["y"].params], [x, y], rtol=1e-6)
    assert state.step == 3


def test_descend_does_not_differentiate_stats_or_aux():
    tx = optax.sgd(RATE)

    def loss_fn(params, stats):
        return params * stats["scale"], ({"scale": params * 100.0}, params * 1000.0)

    player, _, aux = descend(new_player(jnp.array(2.0), tx, {"scale": jnp.array(3.0)}), tx, loss_fn)
    np.testing.assert_allclose(player.params, 2.0 - RATE * 3.0, rtol=1e-6)
    np.testing.assert_allclose(player.stats["scale"], 200.0)
    np.testing.assert_allclose(aux, 2000.0)


def test_descend_is_the_same_under_jit_and_scan():
    tx = optax.sgd(RATE, momentum=0.5)

    def step(player, _):
        player, loss, _ = descend(player, tx, quadratic(1.0))
        return player, loss

    player = quadratic_player([3.0, -1.0], tx)
    scanned, losses = jax.jit(lambda p: jax.lax.scan(step, p, length=5))(player)
    for expected in losses:
        player, loss = step(player, None)
        np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert jax.tree.structure(scanned) == jax.tree.structure(player)
    for a, b in zip(jax.tree.leaves(scanned), jax.tree.leaves(player), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert np.all(np.diff(losses) < 0)


def test_descend_vmaps_over_a_population_with_its_own_learning_rates():
    rates = jnp.array([0.0, 0.1, 0.5])

    def member(rate, w):
        tx = optax.sgd(rate)
        player, loss, _ = descend(quadratic_player(w, tx), tx, quadratic(1.0))
        return player.params["w"], loss

    w, loss = jax.jit(jax.vmap(member))(rates, jnp.array([[3.0], [3.0], [5.0]]))
    np.testing.assert_allclose(w, [[3.0], [2.8], [3.0]], rtol=1e-6)
    np.testing.assert_allclose(loss, [2.0, 2.0, 8.0], rtol=1e-6)


def test_descend_refuses_a_loss_that_was_not_reduced():
    tx = optax.sgd(RATE)
    with pytest.raises(TypeError, match="scalar-output"):
        descend(new_player(jnp.ones(3), tx), tx, lambda params, stats: (params, (stats, ())))


def test_new_player_starts_with_a_fresh_optimizer_and_no_stats():
    params = {"w": jnp.array([3.0])}
    player = new_player(params, optax.adam(RATE))
    assert player.params is params
    assert player.stats == {}
    count, mu, nu = jax.tree.leaves(player.opt_state)
    assert count == 0 and mu == 0 and nu == 0


def test_new_state_starts_at_step_zero_with_nothing_to_remember():
    player = new_player({"w": jnp.array([3.0])}, optax.sgd(RATE))
    state = new_state({"model": player})
    assert state.step.shape == () and state.step.dtype == jnp.int32 and state.step == 0
    assert state.players == {"model": player}
    assert state.average == {} and state.memory == {}


def test_new_state_keeps_what_it_is_given():
    average, memory = {"gen": {"w": jnp.ones(2)}}, (jnp.zeros(4),)
    state = new_state({}, average, memory)
    assert state.average is average and state.memory is memory


def test_state_holds_arrays_only_and_survives_a_round_trip():
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.linear_schedule(RATE, 0.0, 10)))
    state = new_state(
        {"gen": quadratic_player([3.0], tx), "disc": quadratic_player([1.0, 2.0], tx)},
        {"gen": {"w": jnp.ones(1)}},
        {"buffer": jnp.zeros((4, 2))},
    )
    leaves, structure = jax.tree.flatten(state)
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    rebuilt = jax.tree.unflatten(structure, leaves)
    assert jax.tree.structure(rebuilt) == structure
    assert rebuilt.players["disc"].params["w"] is state.players["disc"].params["w"]


def test_algorithm_names_its_abilities():
    abilities = ("init", "step", "evaluate", "generate", "encode", "decode", "log_prob")
    facts = ("density", "latents", "space", "conditional")
    assert Algorithm._fields == (*abilities, *facts, "complete", "stages")
