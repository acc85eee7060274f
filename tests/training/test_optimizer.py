"""Schedules and first updates against numbers computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genlab.errors import InputError
from genlab.training.optimizer import learning_rate_schedule, make_optimizer

GRADIENT = np.array([3.0, -4.0], np.float32)  # of norm 5
WEIGHTS = np.array([10.0, 20.0], np.float32)


@pytest.fixture(autouse=True)
def optax_promotes():
    """optax raises a float to Adam's integer count."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def updates(num, gradient=GRADIENT, name="sgd", learning_rate=0.1, num_steps=100, **options):
    """The first `num` updates of an optimizer that always sees the same gradient."""
    tx = make_optimizer(name, learning_rate, num_steps, **options)
    state, given = tx.init(jnp.asarray(WEIGHTS)), []
    for _ in range(num):
        update, state = tx.update(jnp.asarray(gradient), state, jnp.asarray(WEIGHTS))
        given.append(np.asarray(update))
    return given


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", {0: 2.0, 5: 2.0, 10: 2.0}),
        ("linear", {0: 2.0, 1: 1.8, 5: 1.0, 10: 0.0}),
        # half (1 + cos(pi t / 10)): cos(0.3 pi) = 0.587785
        ("cosine", {0: 2.0, 3: 1.587785, 5: 1.0, 10: 0.0}),
    ],
)
def test_schedules_pass_through_these_points(name, expected):
    schedule = learning_rate_schedule(name, 2.0, 10)
    for step, rate in expected.items():
        np.testing.assert_allclose(schedule(step), rate, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", {0: 0.0, 1: 0.5, 2: 1.0, 4: 2.0, 5: 2.0, 14: 2.0}),
        ("linear", {0: 0.0, 1: 0.5, 4: 2.0, 9: 1.0, 14: 0.0}),
        ("cosine", {0: 0.0, 3: 1.5, 4: 2.0, 7: 1.587785, 9: 1.0, 14: 0.0}),
    ],
)
def test_warmup_grows_linearly_to_the_peak_and_is_part_of_the_run(name, expected):
    schedule = learning_rate_schedule(name, 2.0, 14, warmup_steps=4)
    for step, rate in expected.items():
        np.testing.assert_allclose(schedule(step), rate, rtol=1e-5, atol=1e-7)


def test_burda_has_the_published_stages():
    """Section 5: 3^i passes at 0.001 * 10^(-i/7), i = 0..7, which makes 3,280 passes; here a pass is two steps."""
    published = [0.001 * 10 ** (-i / 7) for i in range(8) for _ in range(3**i)]
    assert len(published) == 3280 and published[-1] == pytest.approx(1e-4)
    schedule = learning_rate_schedule("burda", 0.001, 6560)
    np.testing.assert_allclose(schedule(jnp.arange(6560)), np.repeat(published, 2), rtol=1e-5)


def test_burda_ends_its_stages_here():
    rates = np.asarray(learning_rate_schedule("burda", 1.0, 3280)(jnp.arange(3280)))
    assert (np.flatnonzero(np.diff(rates)) + 1).tolist() == [1, 4, 13, 40, 121, 364, 1093]


def test_a_short_burda_skips_stages_that_have_no_step_but_not_their_decay():
    # 40 steps are 40 / 3280 of the list: stages end at 0.01, 0.05, 0.16, 0.49, 1.48, 4.4, 13.3 and 40 steps
    rates = np.asarray(learning_rate_schedule("burda", 1.0, 40)(jnp.arange(40)))
    expected = [10 ** (-4 / 7)] * 1 + [10 ** (-5 / 7)] * 3 + [10 ** (-6 / 7)] * 9 + [10 ** (-7 / 7)] * 27
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"name": "adam", "eps": 1.0}, -0.1 * GRADIENT / (np.abs(GRADIENT) + 1.0)),
        ({"name": "adam", "eps": 0.0, "b1": 0.5, "b2": 0.7}, -0.1 * np.sign(GRADIENT)),
        (
            {"name": "adamw", "eps": 1.0, "weight_decay": 0.5},
            -0.1 * (GRADIENT / (np.abs(GRADIENT) + 1.0) + 0.5 * WEIGHTS),
        ),
        # Nesterov's look-ahead: (b1 m_1 / (1 - b1^2) + g), m_1 = (1 - b1) g
        ({"name": "nadam", "eps": 0.0, "b1": 0.6}, -0.1 * np.sign(GRADIENT) * (0.6 * 0.4 / (1 - 0.36) + 1.0)),
        # no bias correction: sqrt((1 - b2) g^2) = |g| / 2
        ({"name": "rmsprop", "eps": 0.0, "b2": 0.75}, -0.1 * np.sign(GRADIENT) / 0.5),
        ({"name": "sgd"}, -0.1 * GRADIENT),
        ({"name": "sgd", "b1": 0.0}, -0.1 * GRADIENT),
    ],
)
def test_first_updates_are_those_computed_by_hand(options, expected):
    np.testing.assert_allclose(updates(1, **options)[0], expected, rtol=1e-5)


def test_second_updates_know_the_first():
    np.testing.assert_allclose(updates(2, name="sgd", b1=0.5)[1], -0.1 * 1.5 * GRADIENT, rtol=1e-5)
    np.testing.assert_allclose(updates(2, name="sgd", b1=0.0)[1], -0.1 * GRADIENT, rtol=1e-5)
    # without correction nu_2 = (1 - b2^2) g^2, b2 = 0.75
    np.testing.assert_allclose(
        updates(2, name="rmsprop", eps=0.0, b2=0.75)[1], -0.1 * np.sign(GRADIENT) / np.sqrt(1 - 0.75**2), rtol=1e-5
    )


def test_the_schedule_drives_the_updates():
    given = updates(4, name="sgd", b1=0.0, num_steps=10, schedule="linear", warmup_steps=2)
    for update, rate in zip(given, [0.0, 0.05, 0.1, 0.0875], strict=True):
        np.testing.assert_allclose(update, -rate * GRADIENT, rtol=1e-5, atol=1e-8)


def test_clipping_scales_to_the_global_norm_before_the_optimizer():
    np.testing.assert_allclose(updates(1, name="sgd", clip_norm=1.0)[0], -0.1 * GRADIENT / 5.0, rtol=1e-5)
    np.testing.assert_allclose(updates(1, name="sgd", clip_norm=5.5)[0], -0.1 * GRADIENT, rtol=1e-5)
    expected = -0.1 * (GRADIENT / 5) / (np.abs(GRADIENT / 5) + 1.0)
    np.testing.assert_allclose(updates(1, name="adam", eps=1.0, clip_norm=1.0)[0], expected, rtol=1e-5)


def test_without_clipping_a_large_gradient_passes():
    np.testing.assert_allclose(updates(1, name="sgd", gradient=1e6 * GRADIENT)[0], -1e5 * GRADIENT, rtol=1e-5)


@pytest.mark.parametrize("name", ["adam", "adamw", "nadam", "rmsprop", "sgd"])
def test_optimizers_walk_downhill_to_the_minimum(name):
    tx = make_optimizer(name, 0.05, 400, schedule="cosine", b1=0.5, b2=0.9)
    w = jnp.array([3.0, -1.0])
    state = tx.init(w)

    @jax.jit
    def step(_, carry):
        w, state = carry
        update, state = tx.update(w - 1.0, state, w)  # of |w - 1|^2 / 2
        return optax.apply_updates(w, update), state

    w, _ = jax.lax.fori_loop(0, 400, step, (w, state))
    np.testing.assert_allclose(w, 1.0, atol=2e-2)


def test_optimism_follows_twice_the_gradient_less_the_last():
    """Daskalakis et al. 2018, equation 5: w' = w - 2 rate g_t + rate g_{t-1}; before the first g is as the first."""
    tx = make_optimizer("optimistic_sgd", 0.1, 100)
    state = tx.init(jnp.asarray(WEIGHTS))
    for factor, expected in ((1, 1), (5, 2 * 5 - 1), (-2, 2 * -2 - 5)):
        update, state = tx.update(jnp.asarray(factor * GRADIENT), state, jnp.asarray(WEIGHTS))
        np.testing.assert_allclose(update, -0.1 * expected * GRADIENT, rtol=1e-5)


def test_optimistic_adam_follows_twice_adams_direction_less_the_last():
    """Algorithm 1 of the same; with b1 = b2 = 0 Adam's direction is the gradient's sign."""
    tx = make_optimizer("optimistic_adam", 0.1, 100, b1=0.0, b2=0.0, eps=0.0)
    state = tx.init(jnp.asarray(WEIGHTS))
    _, state = tx.update(jnp.asarray(GRADIENT), state, jnp.asarray(WEIGHTS))
    same, state = tx.update(jnp.asarray(3 * GRADIENT), state, jnp.asarray(WEIGHTS))
    np.testing.assert_allclose(same, -0.1 * np.sign(GRADIENT), rtol=1e-5)  # 2 s - s
    turned, _ = tx.update(jnp.asarray(-GRADIENT), state, jnp.asarray(WEIGHTS))
    np.testing.assert_allclose(turned, 0.1 * 3 * np.sign(GRADIENT), rtol=1e-5)  # 2 (-s) - s


@pytest.mark.parametrize(("name", "goes_in"), [("sgd", False), ("optimistic_sgd", True), ("optimistic_adam", True)])
def test_optimism_goes_into_the_saddle_that_descent_circles(name, goes_in):
    """min over x, max over y of x y, both at once, from (1, 0)."""
    tx = make_optimizer(name, 0.1, 1_000, b1=0.0, b2=0.9, eps=1.0)

    def step(carry, _):
        w, state = carry
        update, state = tx.update(jnp.stack([w[1], -w[0]]), state, w)
        return (optax.apply_updates(w, update), state), None

    start = jnp.array([1.0, 0.0])
    (w, _), _ = jax.lax.scan(step, (start, tx.init(start)), None, 1_000)
    assert np.hypot(*w) < 0.2 if goes_in else np.hypot(*w) == pytest.approx(1.01**500, rel=1e-3)


def test_eps_root_stands_under_adams_root():
    """The first step is g / (sqrt(g^2 + eps_root) + eps): 3 / 5 and 4 / 5 for 16 and 9; at 0 its slope is 1 / root."""
    first = updates(1, name="adam", eps=0.0, eps_root=16.0)[0][0], updates(1, name="adam", eps=0.0, eps_root=9.0)[0][1]
    np.testing.assert_allclose(first, [-0.1 * 3 / 5, 0.1 * 4 / 5], rtol=1e-5)

    def moved(gradient, eps_root):
        tx = make_optimizer("adam", 0.1, 100, eps=0.0, eps_root=eps_root)
        return tx.update(gradient, tx.init(gradient), gradient)[0]

    assert not np.isfinite(jax.grad(moved)(0.0, 0.0))
    np.testing.assert_allclose(jax.grad(moved)(0.0, 1e-4), -0.1 / 1e-2, rtol=1e-5)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(
        InputError, match=r"unknown optimizer\.name 'lion'; known: adam, adamw, nadam, optimistic_adam, "
    ):
        make_optimizer("lion", 0.1, 10)
    with pytest.raises(InputError, match=r"unknown optimizer\.schedule 'step'; known: burda, constant, cosine, linear"):
        make_optimizer("adam", 0.1, 10, schedule="step")


def test_warmup_longer_than_the_run_is_refused():
    learning_rate_schedule("cosine", 0.1, 10, warmup_steps=10)
    with pytest.raises(InputError, match=r"warmup_steps=11 is more than num_steps=10"):
        learning_rate_schedule("cosine", 0.1, 10, warmup_steps=11)
