"""Adversarial losses against hand numbers, scipy in float64, and the known optima and values of their games."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, spatial, special, stats

from genlab.losses import adversarial

log_sigmoid = special.log_expit


def on_both(generator_loss):
    """A loss of the fake logits alone as a function of both."""
    return lambda real, fake: generator_loss(fake)


# name -> (the loss, the same in numpy), as functions of (real, fake)
LOSSES = {
    "discriminator_value": (adversarial.discriminator_value, lambda r, f: log_sigmoid(r) + log_sigmoid(-f)),
    "minimax_discriminator": (
        adversarial.minimax_discriminator_loss,
        lambda r, f: -log_sigmoid(r) - log_sigmoid(-f),
    ),
    "minimax_generator": (on_both(adversarial.minimax_generator_loss), lambda r, f: log_sigmoid(-f)),
    "non_saturating_discriminator": (
        adversarial.non_saturating_discriminator_loss,
        lambda r, f: -log_sigmoid(r) - log_sigmoid(-f),
    ),
    "non_saturating_generator": (on_both(adversarial.non_saturating_generator_loss), lambda r, f: -log_sigmoid(f)),
    "least_squares_discriminator": (
        adversarial.least_squares_discriminator_loss,
        lambda r, f: ((r - 1) ** 2 + f**2) / 2,
    ),
    "least_squares_generator": (on_both(adversarial.least_squares_generator_loss), lambda r, f: (f - 1) ** 2 / 2),
    "hinge_discriminator": (
        adversarial.hinge_discriminator_loss,
        lambda r, f: -np.minimum(0, r - 1) - np.minimum(0, -f - 1),
    ),
    "hinge_generator": (on_both(adversarial.hinge_generator_loss), lambda r, f: -f),
    "wasserstein_discriminator": (adversarial.wasserstein_discriminator_loss, lambda r, f: f - r),
    "wasserstein_generator": (on_both(adversarial.wasserstein_generator_loss), lambda r, f: -f),
    "relativistic_discriminator": (adversarial.relativistic_discriminator_loss, lambda r, f: -log_sigmoid(r - f)),
    "relativistic_generator": (
        lambda r, f: adversarial.relativistic_generator_loss(f, r),
        lambda r, f: -log_sigmoid(f - r),
    ),
    "relativistic_average_discriminator": (
        adversarial.relativistic_average_discriminator_loss,
        lambda r, f: -log_sigmoid(r - f.mean()) - log_sigmoid(-(f - r.mean())),
    ),
    "relativistic_average_generator": (
        lambda r, f: adversarial.relativistic_average_generator_loss(f, r),
        lambda r, f: -log_sigmoid(f - r.mean()) - log_sigmoid(-(r - f.mean())),
    ),
}

BOTH = [name for name in LOSSES if "generator" not in name] + ["relativistic_generator"]
SMOOTHED = {
    "minimax": adversarial.minimax_discriminator_loss,
    "non_saturating": adversarial.non_saturating_discriminator_loss,
    "least_squares": adversarial.least_squares_discriminator_loss,
}


def logits(seed, size=7):
    return jnp.asarray(2.0 * np.random.default_rng(seed).standard_normal((2, size)), jnp.float32)


def gradients(loss, real, fake):
    return jax.jit(jax.grad(lambda r, f: jnp.sum(loss(r, f)), argnums=(0, 1)))(real, fake)


def slopes(oracle, real, fake, h=1e-5):
    """The gradient of the oracle's sum by central differences, in float64."""
    both = np.stack([real, fake]).astype(np.float64)
    result = np.zeros_like(both)
    for index in np.ndindex(both.shape):
        step = np.zeros_like(both)
        step[index] = h
        result[index] = np.sum(oracle(*(both + step)) - oracle(*(both - step))) / (2 * h)
    return result


# log 2 = 0.693147; softplus(1/2) = 0.974077, (-1/2) 0.474077, (1) 1.313262, (-1) 0.313262, (2) 2.126928, (-2) 0.126928,
# (3) 3.048587, (-3) 0.048587; sigmoid(-2) = 0.119203, (-1) 0.268941, (1/2) 0.622459, (-3) 0.047426
@pytest.mark.parametrize(
    ("name", "real", "fake", "value", "real_slope", "fake_slope"),
    [
        ("discriminator_value", 0.0, 0.0, -1.386294, 0.5, -0.5),
        ("discriminator_value", 2.0, 0.5, -0.126928 - 0.974077, 0.119203, -0.622459),
        ("minimax_discriminator", 0.0, 0.0, 1.386294, -0.5, 0.5),
        ("minimax_discriminator", 2.0, 0.5, 0.126928 + 0.974077, -0.119203, 0.622459),
        ("minimax_discriminator", -1.0, 1.0, 2 * 1.313262, -0.731059, 0.731059),
        ("minimax_generator", 9.0, 0.0, -0.693147, 0.0, -0.5),
        ("minimax_generator", 9.0, -1.0, -0.313262, 0.0, -0.268941),
        ("minimax_generator", 9.0, 2.0, -2.126928, 0.0, -0.880797),
        ("non_saturating_discriminator", 2.0, 0.5, 0.126928 + 0.974077, -0.119203, 0.622459),
        ("non_saturating_generator", 9.0, 0.0, 0.693147, 0.0, -0.5),
        ("non_saturating_generator", 9.0, -1.0, 1.313262, 0.0, -0.731059),
        ("non_saturating_generator", 9.0, 2.0, 0.126928, 0.0, -0.119203),
        ("least_squares_discriminator", 0.0, 0.0, 0.5, -1.0, 0.0),
        ("least_squares_discriminator", 3.0, -1.0, 2.5, 2.0, -1.0),
        ("least_squares_generator", 9.0, 3.0, 2.0, 0.0, 2.0),
        ("least_squares_generator", 9.0, 0.0, 0.5, 0.0, -1.0),
        ("hinge_discriminator", 0.0, 0.0, 2.0, -1.0, 1.0),
        ("hinge_discriminator", 1.5, -3.0, 0.0, 0.0, 0.0),
        ("hinge_discriminator", -0.5, -3.0, 1.5, -1.0, 0.0),
        ("hinge_discriminator", 1.5, 2.0, 3.0, 0.0, 1.0),
        ("hinge_discriminator", 1.0, -1.0, 0.0, 0.0, 0.0),
        ("hinge_generator", 9.0, 2.0, -2.0, 0.0, -1.0),
        ("wasserstein_discriminator", 3.0, 1.0, -2.0, -1.0, 1.0),
        ("wasserstein_generator", 9.0, 2.0, -2.0, 0.0, -1.0),
        ("relativistic_discriminator", 1.0, 1.0, 0.693147, -0.5, 0.5),
        ("relativistic_discriminator", 3.0, 1.0, 0.126928, -0.119203, 0.119203),
        ("relativistic_generator", 3.0, 1.0, 2.126928, 0.880797, -0.880797),
        # one pair: both terms are the paired loss
        ("relativistic_average_discriminator", 3.0, 1.0, 2 * 0.126928, -2 * 0.119203, 2 * 0.119203),
        ("relativistic_average_generator", 3.0, 1.0, 2 * 2.126928, 2 * 0.880797, -2 * 0.880797),
    ],
)
def test_by_hand(name, real, fake, value, real_slope, fake_slope):
    loss, _ = LOSSES[name]
    real, fake = jnp.array([real]), jnp.array([fake])
    np.testing.assert_allclose(loss(real, fake), [value], atol=2e-6)
    np.testing.assert_allclose(gradients(loss, real, fake), [[real_slope], [fake_slope]], atol=2e-6)


def test_relativistic_average_by_hand():
    real, fake = jnp.array([3.0, 1.0]), jnp.array([0.0, 2.0])  # of means 2 and 1
    # r - mean f = (2, 0), f - mean r = (-2, 0)
    expected = [0.126928 + 0.126928, 0.693147 + 0.693147]
    np.testing.assert_allclose(adversarial.relativistic_average_discriminator_loss(real, fake), expected, atol=2e-6)
    expected = [2.126928 + 2.126928, 0.693147 + 0.693147]
    np.testing.assert_allclose(adversarial.relativistic_average_generator_loss(fake, real), expected, atol=2e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient_are_those_in_float64(name):
    loss, oracle = LOSSES[name]
    real, fake = logits(1)
    actual = loss(real, fake)
    assert actual.shape == (7,) and actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, oracle(*np.asarray((real, fake), np.float64)), rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(gradients(loss, real, fake), slopes(oracle, real, fake), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_extreme_logits(name):
    loss, oracle = LOSSES[name]
    real, fake = jnp.array([100.0, 100.0, -100.0, -100.0]), jnp.array([100.0, -100.0, 100.0, -100.0])
    np.testing.assert_allclose(loss(real, fake), oracle(*np.asarray((real, fake), np.float64)), rtol=1e-6, atol=1e-30)
    # central differences of 10,000 leave 1e-6 or so
    np.testing.assert_allclose(gradients(loss, real, fake), slopes(oracle, real, fake), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", BOTH)
def test_batches_of_unequal_shape_are_refused(name):
    loss, _ = LOSSES[name]
    for real, fake in (((4,), (4, 1)), ((4,), (5,)), ((4,), (1,))):
        with pytest.raises(ValueError, match="expected equal shapes, got"):
            jax.eval_shape(loss, jnp.zeros(real), jnp.zeros(fake))


def test_minimax_is_a_zero_sum_game_and_non_saturating_has_its_fixed_point():
    real, fake = logits(2)
    value = adversarial.discriminator_value(real, fake)
    np.testing.assert_allclose(adversarial.minimax_discriminator_loss(real, fake), -value, rtol=1e-6)
    # the generator's loss is all that depends on the generator
    np.testing.assert_allclose(value - adversarial.minimax_generator_loss(fake), log_sigmoid(real), rtol=1e-5)
    # -log D and log(1 - D) differ by the logit: softplus(-f) + softplus(f) = 2 softplus(f) - f
    difference = adversarial.non_saturating_generator_loss(fake) - adversarial.minimax_generator_loss(fake)
    np.testing.assert_allclose(difference, 2 * np.logaddexp(0, fake) - fake, rtol=1e-5)


@pytest.mark.parametrize("name", ["relativistic_discriminator", "relativistic_average_generator"])
def test_relativistic_losses_see_differences_alone(name):
    loss, _ = LOSSES[name]
    real, fake = logits(3)
    np.testing.assert_allclose(loss(real + 5.0, fake + 5.0), loss(real, fake), rtol=1e-4)
    assert np.all(np.abs(loss(real + 5.0, fake) - loss(real, fake)) > 1e-3)


# The games over a table of logits, one for every point of a space on which p (real) and q (fake) are known.

P = np.array([0.05, 0.1, 0.25, 0.3, 0.2, 0.1])
Q = np.array([0.2, 0.25, 0.2, 0.15, 0.15, 0.05])
RATIO = np.log(P / Q)


def expected(loss, p, q, table):
    """The exact mean of a loss over independent real ~ p and fake ~ q, whose logits stand in the table."""
    size, weights = len(p), np.outer(p, q).astype(np.float32)
    real, fake = jnp.repeat(table, size), jnp.tile(table, size)  # [K K], pair by pair
    return jnp.sum(loss(real, fake) * weights.ravel())


def descended(loss, rate, num_steps):
    """The table after gradient descent on the expected loss, from zero; steps are by the mass at each point."""
    slope = jax.grad(lambda table: expected(loss, P, Q, table))
    step = lambda _, table: table - rate * slope(table) / np.float32(P + Q)
    return jax.jit(lambda: jax.lax.fori_loop(0, num_steps, step, jnp.zeros(len(P))))()


def test_value_at_the_optimal_discriminator_is_2_js_minus_log_4():
    value = expected(adversarial.discriminator_value, P, Q, jnp.float32(RATIO))
    js = spatial.distance.jensenshannon(P, Q) ** 2
    np.testing.assert_allclose(value, 2 * js - np.log(4), rtol=1e-6)
    assert js > 0.02  # and not within the tolerance of -log 4
    for wrong in (RATIO + 0.1, RATIO - 0.1, 0.9 * RATIO, -RATIO):
        assert expected(adversarial.discriminator_value, P, Q, jnp.float32(wrong)) < value


@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1.0), (0.5, 1.0), (2.0, 0.5), (-3.0, 1.5)])
def test_value_between_gaussians_is_2_js_minus_log_4(mean, scale):
    p, q = stats.norm(0, 1), stats.norm(mean, scale)
    mixture = lambda x: (p.pdf(x) + q.pdf(x)) / 2
    # JS = H(mixture) - (H(p) + H(q)) / 2
    entropy = integrate.quad(lambda x: special.entr(mixture(x)), -14, 14, limit=200)[0]
    js = entropy - (p.entropy() + q.entropy()) / 2
    x = np.linspace(-14, 14, 225)
    step = x[1] - x[0]
    logit = jnp.float32(p.logpdf(x) - q.logpdf(x))
    value = expected(adversarial.discriminator_value, p.pdf(x) * step, q.pdf(x) * step, logit)
    np.testing.assert_allclose(value, 2 * js - np.log(4), atol=2e-5)


@pytest.mark.parametrize("name", ["minimax_discriminator", "non_saturating_discriminator"])
def test_the_best_logistic_discriminator_is_p_over_p_plus_q(name):
    table = descended(LOSSES[name][0], rate=2.0, num_steps=100)
    np.testing.assert_allclose(table, RATIO, atol=1e-4)
    np.testing.assert_allclose(jax.nn.sigmoid(table), P / (P + Q), atol=1e-5)


def test_the_best_least_squares_discriminator_is_p_over_p_plus_q():
    table = descended(adversarial.least_squares_discriminator_loss, rate=0.5, num_steps=50)
    np.testing.assert_allclose(table, P / (P + Q), atol=1e-5)
    # and what is left is half the harmonic overlap
    value = expected(adversarial.least_squares_discriminator_loss, P, Q, table)
    np.testing.assert_allclose(value, 0.5 * np.sum(P * Q / (P + Q)), rtol=1e-5)


def test_the_best_hinge_discriminator_is_the_sign_of_p_minus_q():
    table = descended(adversarial.hinge_discriminator_loss, rate=0.01, num_steps=2000)
    np.testing.assert_allclose(table, np.sign(P - Q), atol=0.02)
    value = expected(adversarial.hinge_discriminator_loss, P, Q, jnp.float32(np.sign(P - Q)))
    np.testing.assert_allclose(value, 2 * np.sum(np.minimum(P, Q)), rtol=1e-5)


def test_wasserstein_loss_of_the_best_critic_is_minus_the_distance():
    x = np.arange(6.0)
    assert np.all(np.cumsum(Q) >= np.cumsum(P) - 1e-9)  # q lies left of p, so that the best critic is x itself
    value = expected(adversarial.wasserstein_discriminator_loss, P, Q, jnp.float32(x))
    np.testing.assert_allclose(value, -stats.wasserstein_distance(x, x, P, Q), rtol=1e-5)


def test_the_best_relativistic_discriminator_tells_the_order_of_pairs():
    table = descended(adversarial.relativistic_discriminator_loss, rate=2.0, num_steps=300)
    # log p - log q up to a constant, which no difference sees
    np.testing.assert_allclose(table - table[0], RATIO - RATIO[0], atol=1e-3)
    # two equally likely orders, of which it tells as much as their Jensen-Shannon divergence
    value = expected(adversarial.relativistic_discriminator_loss, P, Q, table)
    js = spatial.distance.jensenshannon(np.outer(P, Q).ravel(), np.outer(Q, P).ravel()) ** 2
    np.testing.assert_allclose(value, np.log(2) - js, rtol=1e-5)


# Label smoothing


@pytest.mark.parametrize("name", SMOOTHED)
@pytest.mark.parametrize("s", [0.1, 0.3])
def test_label_smoothing_moves_the_target_of_real_examples_alone(name, s):
    real, fake = logits(4)
    r, f = np.asarray((real, fake), np.float64)
    if name == "least_squares":
        oracle = lambda r, f: ((r - (1 - s)) ** 2 + f**2) / 2
    else:
        oracle = lambda r, f: -(1 - s) * log_sigmoid(r) - s * log_sigmoid(-r) - log_sigmoid(-f)
    smoothed = lambda r, f: SMOOTHED[name](r, f, label_smoothing=s)
    np.testing.assert_allclose(smoothed(real, fake), oracle(r, f), rtol=2e-6)
    np.testing.assert_allclose(gradients(smoothed, real, fake), slopes(oracle, real, fake), rtol=1e-4, atol=1e-6)
    extreme = jnp.array([100.0, -100.0])
    np.testing.assert_allclose(
        smoothed(extreme, extreme), oracle(*np.asarray((extreme, extreme), np.float64)), rtol=1e-6
    )
    assert np.all(np.isfinite(gradients(smoothed, extreme, extreme)))


@pytest.mark.parametrize("name", SMOOTHED)
def test_the_best_smoothed_discriminator(name):
    s = 0.2
    smoothed = lambda real, fake: SMOOTHED[name](real, fake, label_smoothing=s)
    table = descended(smoothed, rate=0.5 if name == "least_squares" else 2.0, num_steps=100)
    # the targets at a point are 1 - s with mass p and 0 with mass q, and D is their mean
    probability = table if name == "least_squares" else jax.nn.sigmoid(table)
    np.testing.assert_allclose(probability, (1 - s) * P / (P + Q), atol=1e-5)


@pytest.mark.parametrize("name", SMOOTHED)
def test_label_smoothing_may_differ_by_member(name):
    real, fake = logits(5)
    smoothed = lambda s: SMOOTHED[name](real, fake, label_smoothing=s)
    members = jax.jit(jax.vmap(smoothed))(jnp.array([0.0, 0.25]))
    np.testing.assert_allclose(members, [SMOOTHED[name](real, fake), smoothed(0.25)], rtol=1e-5, atol=1e-6)
