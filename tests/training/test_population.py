"""Populations against closed forms, and against the solo runs of their members."""

import dataclasses
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genlab.algorithm import Algorithm, descend, new_player, new_state
from genlab.errors import InputError
from genlab.training import devices, loop, population

ROOT = pathlib.Path(__file__).parents[2]
TABLE = np.random.default_rng(0).normal(size=(11, 2)).astype(np.float32)
RATES = np.array([0.1, 0.25, 0.5, 0.75], np.float32)
NUM = len(RATES)


def follower(hparams):
    """Gradient descent towards the mean of the batch, which is noisy where the key says so."""
    tx = optax.sgd(hparams["rate"])

    def init(key, batch):
        return new_state({"w": new_player(7.0 + jax.random.normal(key, (2,)), tx)})

    def step(state, batch, key):
        target = jnp.mean(batch["x"], axis=0) + jax.random.uniform(key, (2,))
        loss_fn = lambda w, stats: (0.5 * jnp.sum(jnp.square(w - target)), (stats, {}))
        player, loss, _ = descend(state.players["w"], tx, loss_fn)
        return dataclasses.replace(state, step=state.step + 1, players={"w": player}), {"loss": loss}

    return Algorithm(init, step, lambda *_: {}, None, None, None, None, "none")


def batches_of(seeds):
    """Batch t of seed s is rows 3t + s, 3t + s + 1, 3t + s + 2 of the table; of several seeds with a leading axis."""

    def read(first_step, num, capacity):
        rows = np.zeros((len(seeds), capacity, 3), np.int32)
        for i, seed in enumerate(seeds):
            rows[i, :num] = (3 * np.arange(first_step, first_step + num)[:, None] + seed + np.arange(3)) % len(TABLE)
        return rows

    return loop.Batches(
        jnp.asarray(TABLE), read, lambda table, rows, i: {"x": table[rows[i]]}, lambda raw, key: dict(raw)
    )


def solo(i, num_steps=14):
    """The run of member i alone, by the loop's functions for one run."""
    batches = batches_of([i])
    batches = batches._replace(read=lambda *call: batches_of([i]).read(*call)[0])
    algorithm = follower({"rate": float(RATES[i])})
    now = loop.start(algorithm, batches, jax.random.key(i))
    return fit(loop.compile_steps(algorithm, batches, jax.random.key(100 + i)), batches, now, num_steps)


def fit(steps, batches, now, num_steps, **options):
    logged = []
    final = loop.fit(
        steps, batches.read, now, num_steps=num_steps, steps_per_call=4, log_every_steps=5,
        log=lambda step, means: logged.append((step, means)), **options,
    )  # fmt: skip
    return jax.device_get(final), logged


def crowd(mode, num_devices=1, num_steps=14, rates=RATES, **options):
    members, batches = population.population(follower, {"rate": rates}), batches_of(range(NUM))
    mesh = devices.make_mesh(num_devices, "pop")
    batches = batches._replace(read=lambda *call: devices.put(batches_of(range(NUM)).read(*call), devices.split(mesh)))
    batches = batches._replace(arrays=devices.put(batches.arrays, devices.on_all(mesh)))
    keys = lambda first: jnp.stack([jax.random.key(first + i) for i in range(NUM)])
    now = population.start(members, batches, keys(0), mesh)
    return fit(population.compile_steps(members, batches, keys(100), mode, mesh), batches, now, num_steps, **options)


@pytest.fixture(scope="module")
def solos():
    return [solo(i) for i in range(NUM)]


@pytest.mark.parametrize("num_devices", [1, 2, 4])
@pytest.mark.parametrize("mode", population.MODES)
def test_every_member_is_its_solo_run(mode, num_devices, solos):
    final, logged = crowd(mode, num_devices)
    for i, (alone, log) in enumerate(solos):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), population.member(final, i), alone
        )
        assert [step for step, _ in logged] == [step for step, _ in log] == [5, 10, 14]
        for (_, means), (_, expected) in zip(logged, log, strict=True):
            np.testing.assert_allclose(means["loss"][i], expected["loss"], rtol=1e-5)
    assert len({float(w) for w in final.state.players["w"].params[:, 0]}) == NUM


@pytest.mark.parametrize("mode", population.MODES)
def test_each_member_learns_at_its_own_rate(mode):
    """Towards a constant c, w_t - c = (1 - rate)^t (w_0 - c)."""
    tx = lambda hparams: optax.sgd(hparams["rate"])

    def make(hparams):
        def step(state, batch, key):
            loss_fn = lambda w, stats: (0.5 * jnp.square(w - 3.0), (stats, {}))
            player, loss, _ = descend(state.players["w"], tx(hparams), loss_fn)
            return dataclasses.replace(state, step=state.step + 1, players={"w": player}), {"loss": loss}

        init = lambda key, batch: new_state({"w": new_player(jnp.array(7.0), tx(hparams))})
        return follower(hparams)._replace(init=init, step=step)

    members, batches = population.population(make, {"rate": RATES}), batches_of(range(NUM))
    keys = jax.random.split(jax.random.key(0), NUM)
    now = population.start(members, batches, keys)
    final, _ = fit(population.compile_steps(members, batches, keys, mode), batches, now, 9)
    np.testing.assert_allclose(final.state.players["w"].params, 3.0 + 4.0 * (1 - RATES) ** 9, rtol=1e-6)


def test_members_without_hyper_parameters_differ_by_their_keys():
    members, batches = population.population(lambda hparams: follower({"rate": 0.1}), {}), batches_of([0, 0, 0])
    keys = jax.random.split(jax.random.key(0), 3)
    now = population.start(members, batches, keys)
    assert np.unique(now.state.players["w"].params).size == 6
    final, _ = fit(population.compile_steps(members, batches, keys, "vmap"), batches, now, 3)
    assert np.unique(final.state.players["w"].params).size == 6 and final.state.step.tolist() == [3, 3, 3]


def test_the_others_go_on_when_a_member_diverges():
    rates = np.array([0.1, 0.2, 1e30, 0.3], np.float32)
    seen = []
    action = loop.Action(7, lambda step, progress: seen.append(step))
    final, logged = crowd("vmap", rates=rates, actions=[action])
    found = loop.failures(final)
    assert [failure is None for failure in found] == [True, True, False, True] and seen == [7, 14]
    assert found[2] and "loss is not a finite number" in found[2]
    last = logged[-1][1]["loss"]
    assert np.isfinite(last[[0, 1, 3]]).all() and not np.isfinite(last[2])


def test_a_population_of_which_no_member_is_left_has_diverged():
    with pytest.raises(loop.DivergedError, match=r"^step \d+: loss is not a finite number$"):
        crowd("vmap", rates=np.full(NUM, 1e30, np.float32))


def test_parameters_that_are_not_finite_are_laid_at_their_member():
    members, batches = population.population(follower, {"rate": RATES}), batches_of(range(NUM))
    now = population.start(members, batches, jax.random.split(jax.random.key(0), NUM))
    player = now.state.players["w"]
    spoilt = dataclasses.replace(player, params=player.params.at[1, 0].set(jnp.nan))
    now = dataclasses.replace(now, state=dataclasses.replace(now.state, players={"w": spoilt}))
    assert loop.failures(now) == [None, "step 0: params of player 'w' is not finite", None, None]
    loop.raise_if_not_finite(now)


def test_timing_takes_no_step_of_the_population():
    members, batches = population.population(follower, {"rate": RATES}), batches_of(range(NUM))
    keys = jax.random.split(jax.random.key(0), NUM)
    now = population.start(members, batches, keys)
    before = jax.device_get(now)
    calls = {mode: population.compile_steps(members, batches, keys, mode) for mode in population.MODES}
    seconds = population.time_modes(calls, batches.read, now, 4, seconds=0.01)
    assert set(seconds) == set(population.MODES) and all(0 < s < 5 for s in seconds.values())
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(now), before)


def test_a_hyper_parameter_that_shapes_the_program_is_named():
    def make(hparams):
        tx = optax.sgd(hparams["rate"])

        def step(state, batch, key):
            loss_fn = lambda w, stats: (jnp.sum(jnp.square(w)), (stats, {}))
            player, loss, _ = descend(state.players["w"], tx, loss_fn)
            return dataclasses.replace(state, step=state.step + 1, players={"w": player}), {"loss": loss}

        init = lambda key, batch: new_state({"w": new_player(jnp.ones(hparams["width"]), tx)})
        return follower(hparams)._replace(init=init, step=step)

    members = population.population(make, {"rate": [0.1, 0.2], "width": [3, 4]})
    with pytest.raises(InputError, match=r"^width shapes the program"):
        population.check_traceable(members, batches_of([0, 1]))
    population.check_traceable(population.population(follower, {"rate": [0.1, 0.2]}), batches_of([0, 1]))


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ({"rate": 0.1}, "hyper-parameter rate of a population must be a list of numbers"),
        ({"rate": []}, "must be a list of numbers"),
        ({"rate": ["a", "b"]}, "must be a list of numbers"),
        ({"rate": [0.1, 0.2], "beta": [1.0]}, "one value a member of every hyper-parameter"),
    ],
)
def test_hyper_parameters_are_lists_of_numbers_of_one_length(hparams, message):
    with pytest.raises(InputError, match=message):
        population.population(follower, hparams)


RECURRENT = """
import jax, numpy as np, optax
from genlab.models import autoencoder
from genlab.networks.recurrent import recurrent_autoencoder
from genlab.training import loop, population

network = recurrent_autoencoder(128, 30, (28, 28, 1))
make = lambda hparams: autoencoder.autoencoder(network, optax.adam(1e-3), autoencoder.SIGMOID)
read = lambda first, num, capacity: np.zeros((3, capacity, 4, 28, 28, 1), np.float32)
batches = loop.Batches({}, read, lambda arrays, reads, i: {"x": reads[i]}, lambda raw, key: raw)
now = population.start(population.population(make, {}), batches, jax.random.split(jax.random.key(0), 3))
print(jax.block_until_ready(now.state.step).tolist())
"""


def test_members_with_orthogonal_kernels_begin():
    """In a batch their decompositions never end where a CPU has two cores: each waits for a thread that another has."""
    environment = {**os.environ, "XLA_FLAGS": ""}
    done = subprocess.run(
        [sys.executable, "-c", RECURRENT], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "[0, 0, 0]\n", done.stderr
