"""The loop on one quadratic player, against a plain Python loop that takes the documented steps one by one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.core import Tracer

from genlab.algorithm import Algorithm, descend, new_player, new_state
from genlab.training import loop

TABLE = np.random.default_rng(0).normal(size=(11, 2)).astype(np.float32)
BATCH = 3
KEY_INIT, KEY_TRAIN = jax.random.split(jax.random.key(7))


def quadratic(bad=None, calls=None):
    """Follows a noisy mean with momentum. `bad` maps a metric to (its bad steps, the value there)."""
    tx = optax.sgd(0.2, momentum=0.5)

    def init(key, batch):
        return new_state({"follower": new_player({"w": jax.random.normal(key, (2,)) + batch["x"][0]}, tx)})

    def step(state, batch, key):
        if calls is not None:
            calls.append(1)
        target = jnp.mean(batch["x"], axis=0) + jax.random.uniform(key, (2,))

        def loss_fn(params, stats):
            return 0.5 * jnp.sum(jnp.square(params["w"] - target)), (stats, {})

        player, loss, _ = descend(state.players["follower"], tx, loss_fn)
        metrics = {"loss": loss, "first": batch["x"][0, 0], "size": jnp.sum(jnp.abs(player.params["w"]))}
        for name, (when, value) in (bad or {}).items():
            metrics[name] = jnp.where(jnp.isin(state.step + 1, jnp.array(when)), value, metrics[name])
        return dataclasses.replace(state, step=state.step + 1, players={"follower": player}), metrics

    return Algorithm(init, step, lambda *_: {}, None, None, None, None, "none")


def table_batches():
    """Batch t is rows 3t, 3t + 1, 3t + 2 of the table, read round and round, plus noise of the data key."""

    def read(first_step, num, capacity):
        rows = np.full((capacity, BATCH), 10**6, np.int32)  # padding that would be seen: gathers fill with NaN
        steps = np.arange(first_step, first_step + num)
        rows[:num] = (steps[:, None] * BATCH + np.arange(BATCH)) % len(TABLE)
        return rows

    return loop.Batches(
        arrays=jnp.asarray(TABLE),
        read=read,
        select=lambda table, rows, i: {"x": table.at[rows[i]].get(mode="fill", fill_value=jnp.nan)},
        prepare=lambda raw, key: {"x": raw["x"] + jax.random.uniform(key, raw["x"].shape)},
    )


def fit(num_steps=14, steps_per_call=4, log_every_steps=5, progress=None, algorithm=None, **options):
    """(final progress, [(step, means)]) of a run from its start or from `progress`."""
    algorithm, logged = algorithm or quadratic(), []
    if progress is None:
        progress = loop.start(algorithm, table_batches(), KEY_INIT)
    progress = loop.fit(
        loop.compile_steps(algorithm, table_batches(), KEY_TRAIN),
        table_batches().read,
        progress,
        num_steps=num_steps,
        steps_per_call=steps_per_call,
        log_every_steps=log_every_steps,
        log=lambda step, means: logged.append((step, means)),
        **options,
    )
    return jax.device_get(progress), logged


def assert_identical(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


@pytest.fixture(scope="module")
def one_by_one():
    """States after steps 0..14 and the metrics of each step, from the oracle."""
    algorithm = quadratic()
    key_init, key_data = jax.random.split(KEY_INIT)
    noisy = lambda rows, key: {"x": jnp.asarray(TABLE[rows]) + jax.random.uniform(key, (BATCH, 2))}
    state = jax.jit(algorithm.init)(key_init, noisy([0, 1, 2], key_data))
    states, metrics, step = [state], [], jax.jit(algorithm.step)
    for t in range(14):
        key_data, key_algorithm = jax.random.split(jax.random.fold_in(KEY_TRAIN, t))
        rows = [(t * BATCH + j) % len(TABLE) for j in range(BATCH)]
        state, terms = step(state, noisy(rows, key_data), key_algorithm)
        states.append(state)
        metrics.append({name: float(value) for name, value in terms.items()})
    return states, metrics


def test_start_is_the_state_before_the_first_step(one_by_one):
    progress = loop.start(quadratic(), table_batches(), KEY_INIT)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), progress.state, one_by_one[0][0])
    assert progress.state.step == 0 and progress.count == 0
    assert progress.mean == {"first": 0.0, "loss": 0.0, "size": 0.0}
    assert progress.diverged == {"first": -1, "loss": -1, "size": -1}


def test_start_jits_init():
    algorithm = quadratic()
    traced = []

    def init(key, batch):
        traced.append(isinstance(batch["x"], Tracer))
        return algorithm.init(key, batch)

    loop.start(algorithm._replace(init=init), table_batches(), KEY_INIT)
    assert traced == [True]


def test_every_step_gets_its_own_batch_and_keys(one_by_one):
    states, metrics = one_by_one
    final, logged = fit(log_every_steps=1)
    assert [step for step, _ in logged] == list(range(1, 15))
    for (_, means), expected in zip(logged, metrics, strict=True):
        assert means == pytest.approx(expected, rel=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), final.state, states[-1])
    assert final.state.step == 14


def test_a_constant_target_is_approached_as_the_closed_form_says():
    """Without noise, momentum or a moving target, w_t - c = (1 - rate)^t (w_0 - c)."""
    tx = optax.sgd(0.25)

    def step(state, batch, key):
        loss_fn = lambda w, stats: (0.5 * jnp.square(w - 3.0), (stats, {}))
        player, loss, _ = descend(state.players["w"], tx, loss_fn)
        return dataclasses.replace(state, step=state.step + 1, players={"w": player}), {"loss": loss}

    init = lambda key, batch: new_state({"w": new_player(jnp.array(7.0), tx)})
    final, logged = fit(9, algorithm=quadratic()._replace(init=init, step=step), log_every_steps=9)
    np.testing.assert_allclose(final.state.players["w"].params, 3.0 + 4.0 * 0.75**9, rtol=1e-6)
    expected = np.mean([0.5 * (4.0 * 0.75**t) ** 2 for t in range(9)])
    assert logged == [(9, {"loss": pytest.approx(expected, rel=1e-6)})]


def test_logged_means_are_numpys_over_the_steps_since_the_last_log(one_by_one):
    _, metrics = one_by_one
    _, logged = fit(log_every_steps=5)
    assert [step for step, _ in logged] == [5, 10, 14]
    for (_, means), (first, last) in zip(logged, [(0, 5), (5, 10), (10, 14)], strict=True):
        for name, mean in means.items():
            assert mean == pytest.approx(np.mean([row[name] for row in metrics[first:last]]), rel=1e-5)


@pytest.mark.parametrize("steps_per_call", [1, 3, 14, 100])
def test_results_do_not_depend_on_steps_per_call(steps_per_call):
    expected, expected_log = fit(steps_per_call=4)
    final, logged = fit(steps_per_call=steps_per_call)
    assert_identical(final, expected)
    assert logged == expected_log


@pytest.mark.parametrize("killed_at", [3, 9])  # inside a window of 5 logged steps
def test_a_resumed_run_equals_the_uninterrupted_one(killed_at):
    """A checkpoint every 3 steps, a log every 5: the checkpoint carries a mean that is half made."""
    saved = {}
    save = loop.Action(3, lambda step, progress: saved.__setitem__(step, jax.device_get(progress)))
    expected, expected_log = fit(actions=[save])
    assert list(saved) == [3, 6, 9, 12, 14]
    assert saved[killed_at].count == killed_at % 5 > 0
    progress = jax.tree.map(jnp.asarray, saved[killed_at])
    again = {}
    resave = loop.Action(3, lambda step, progress: again.__setitem__(step, jax.device_get(progress)))
    final, logged = fit(progress=progress, actions=[resave])
    assert_identical(final, expected)
    assert logged == [(step, means) for step, means in expected_log if step > killed_at]
    assert list(again) == [step for step in saved if step > killed_at]
    for step, progress in again.items():
        assert_identical(progress, saved[step])


def test_an_interrupted_run_stops_between_calls_and_resumes_to_the_same_result():
    expected, expected_log = fit()
    asked = []

    def interrupted():
        asked.append(1)
        return len(asked) == 3

    shown = []
    stopped, first_log = fit(interrupted=interrupted, show=shown.append)
    assert shown == [4, 5, 9] and stopped.state.step == 9 and stopped.count == 4
    assert [step for step, _ in first_log] == [5]
    final, second_log = fit(progress=jax.tree.map(jnp.asarray, stopped))
    assert_identical(final, expected)
    assert first_log + second_log == expected_log


def test_a_run_interrupted_at_its_end_is_finished():
    final, logged = fit(steps_per_call=14, log_every_steps=0, interrupted=lambda: True)
    assert final.state.step == 14 and [step for step, _ in logged] == [14]


def test_a_finished_run_takes_no_step_and_tells_nobody():
    finished, _ = fit()
    events = []
    action = loop.Action(1, lambda step, progress: events.append(step))
    again, logged = fit(progress=jax.tree.map(jnp.asarray, finished), actions=[action], show=events.append)
    assert_identical(again, finished)
    assert logged == [] and events == []


def test_events_come_exactly_at_their_periods_in_order_and_on_the_last_step():
    events = []

    def record(name):
        def run(step, progress):
            assert progress.state.step == step
            events.append((step, name))

        return run

    algorithm = quadratic()
    loop.fit(
        loop.compile_steps(algorithm, table_batches(), KEY_TRAIN),
        table_batches().read,
        loop.start(algorithm, table_batches(), KEY_INIT),
        num_steps=14,
        steps_per_call=3,
        log_every_steps=4,
        log=lambda step, means: events.append((step, "log")),
        actions=[loop.Action(6, record("six")), loop.Action(0, record("end")), loop.Action(4, record("four"))],
        show=lambda step: events.append((step, "show")),
    )
    expected = []
    for step in range(1, 15):
        # calls of at most three steps that end at every multiple of 4 or 6
        rows = {
            3: ["show"],
            4: ["show", "log", "four"],
            6: ["show", "six"],
            8: ["show", "log", "four"],
            11: ["show"],
            12: ["show", "log", "six", "four"],
            14: ["show", "log", "six", "end", "four"],
        }
        expected += [(step, name) for name in rows.get(step, [])]
    assert events == expected


def test_without_a_period_only_the_last_step_is_logged(one_by_one):
    _, metrics = one_by_one
    _, logged = fit(log_every_steps=0)
    assert [step for step, _ in logged] == [14]
    assert logged[0][1]["loss"] == pytest.approx(np.mean([row["loss"] for row in metrics]), rel=1e-5)


def test_calls_of_any_length_share_one_compilation():
    counts = []
    for periods in ([14], [2, 3, 5]):
        calls = []
        fit(algorithm=quadratic(calls=calls), actions=[loop.Action(period, lambda *_: None) for period in periods])
        counts.append(len(calls))
    assert counts[0] == counts[1]


@pytest.mark.parametrize(("bad_step", "value"), [(1, np.nan), (6, np.inf), (8, -np.inf), (14, np.nan)])
def test_divergence_names_the_first_bad_step_before_any_action_sees_it(bad_step, value):
    events = []
    action = loop.Action(4, lambda step, progress: events.append(step))
    algorithm = quadratic(bad={"loss": ((bad_step, bad_step + 2), value), "size": (bad_step + 1, np.nan)})
    with pytest.raises(loop.DivergedError) as caught:
        loop.fit(
            loop.compile_steps(algorithm, table_batches(), KEY_TRAIN),
            table_batches().read,
            loop.start(algorithm, table_batches(), KEY_INIT),
            num_steps=14,
            steps_per_call=4,
            log_every_steps=4,
            log=lambda step, means: events.append(step),
            actions=[action],
        )
    assert str(caught.value) == f"step {bad_step}: loss is not a finite number"
    assert events == [step for step in (4, 4, 8, 8, 12, 12) if step < bad_step]


def test_divergence_names_every_metric_of_the_first_bad_step():
    with pytest.raises(loop.DivergedError, match=r"^step 6: loss, size is not"):
        fit(algorithm=quadratic(bad={"loss": (6, np.nan), "size": (6, np.inf), "first": (7, np.nan)}))


def test_a_healthy_run_has_not_diverged():
    final, _ = fit()
    loop.raise_if_diverged(final)
    assert final.diverged == {"first": -1, "loss": -1, "size": -1}


@pytest.mark.parametrize("part", ["params", "stats", "opt_state"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_laid_at_its_players_door(part, value):
    tx = optax.adam(0.1)  # whose state holds an integer, too
    params, stats = {"w": jnp.ones((2, 3)), "b": jnp.zeros(2)}, {"mean": jnp.zeros(3), "seen": jnp.zeros(2, bool)}
    players = {name: new_player(params, tx, stats) for name in ("gen", "disc")}
    progress = loop.Progress(new_state(players), {}, jnp.int32(0), {})
    loop.raise_if_not_finite(progress)
    leaves, structure = jax.tree.flatten(getattr(players["disc"], part))
    last = max(i for i, leaf in enumerate(leaves) if leaf.dtype == jnp.float32)
    leaves[last] = leaves[last].at[(-1,) * leaves[last].ndim].set(value)
    sick = dataclasses.replace(players["disc"], **{part: jax.tree.unflatten(structure, leaves)})
    state = dataclasses.replace(new_state({**players, "disc": sick}), step=jnp.int32(12))
    with pytest.raises(loop.DivergedError, match=rf"^step 12: {part} of player 'disc' is not finite$"):
        loop.raise_if_not_finite(dataclasses.replace(progress, state=state))


def test_no_action_sees_parameters_that_are_not_finite():
    """The update of step 5 makes a parameter infinite, which the loss of step 6 would be the first to show."""
    events, healthy = [], quadratic()

    def step(state, batch, key):
        state, metrics = healthy.step(state, batch, key)
        follower = state.players["follower"]
        spoilt = {"w": jnp.where(state.step == 5, jnp.inf, follower.params["w"])}
        return dataclasses.replace(
            state, players={"follower": dataclasses.replace(follower, params=spoilt)}
        ), metrics | {"size": metrics["loss"]}

    action = lambda every, name: loop.Action(every, lambda step, progress: events.append((step, name)))
    with pytest.raises(loop.DivergedError, match=r"^step 5: params of player 'follower' is not finite$"):
        fit(algorithm=healthy._replace(step=step), actions=[action(4, "four"), action(5, "five")])
    assert events == [(4, "four")]


def test_step_keys_are_folded_from_the_step_and_never_repeat():
    root = jax.random.key(3)
    draws = {float(jax.random.uniform(key)) for step in range(50) for key in loop.step_keys(root, step)}
    assert len(draws) == 100
    traced = jax.jit(loop.step_keys)(root, jnp.int32(17))
    for key, expected in zip(traced, jax.random.split(jax.random.fold_in(root, 17)), strict=True):
        assert (jax.random.key_data(key) == jax.random.key_data(expected)).all()
