"""The VAE: exactly where a linear one is probabilistic PCA, and step by step against an ELBO written out here."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from linear_gaussian import EVIDENCE, MU, POINTS, SHIFT, STRETCH, VARIANCE, M, W
from scipy import special, stats
from sklearn.datasets import load_digits

from genlab.algorithm import new_player, new_state
from genlab.models import likelihoods
from genlab.models.latent import kl_warmup, variational
from genlab.models.objectives import evidence
from genlab.models.priors import standard_normal
from genlab.models.vae import one_layer
from genlab.networks.convolutional import ConvDecoder, ConvEncoder
from genlab.networks.dense import MLP, DenseDecoder, GaussianHead

KEY = jax.random.key(0)


def vae(encoder, decoder, likelihood, tx, *, latent_dim, **options):
    """The classic: a standard normal prior, one sample of z, the divergence in closed form."""
    model = one_layer(encoder, decoder, likelihood, latent_dim, standard_normal())
    return variational(model, evidence(), tx, **options)


def float64(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def assert_trees_close(actual, expected, rtol=1e-5, atol=1e-6):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=rtol, atol=atol), actual, expected)


def any_leaf_differs(a, b):
    return any(np.any(np.asarray(x) != np.asarray(y)) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


# A linear VAE is probabilistic PCA (Tipping & Bishop 1999): p(x) = N(mu, W W' + s^2 I), and with orthogonal columns
# of W the posterior of z is a diagonal Gaussian, N(M^-1 W' (x - mu), s^2 M^-1) with M = W' W + s^2 I.

POSTERIOR_MEAN, POSTERIOR_VAR = (POINTS - MU) @ W / M, VARIANCE / M

GAP = 0.5 * np.sum(STRETCH - 1 - np.log(STRETCH) + SHIFT**2 / POSTERIOR_VAR)  # KL(q || posterior), the same for all x


def linear_vae(**options):
    encoder, decoder = GaussianHead(MLP(()), 2), DenseDecoder((), (4,))
    likelihood = likelihoods.gaussian(float(np.log(VARIANCE)), squash=False)
    return vae(encoder, decoder, likelihood, optax.sgd(0.1), latent_dim=2, **options)


def ppca_state(shift=0.0, stretch=1.0):
    """The linear VAE whose decoder is (W, mu) and whose encoder is the exact posterior, or off by this much."""
    kernel = np.concatenate([W / M, np.zeros_like(W)], axis=1)  # [4, mean and log-variance]
    bias = np.concatenate([-MU @ W / M + shift, np.log(POSTERIOR_VAR * stretch)])
    params = {
        "encoder": {"Dense_0": {"kernel": kernel, "bias": bias}},
        "decoder": {"Dense_0": {"kernel": W.T, "bias": MU}},
    }
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    shapes = jax.eval_shape(linear_vae().init, KEY, batch_of(POINTS)).players["vae"].params
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)
    return new_state({"vae": new_player(params, optax.sgd(0.1), {"encoder": {}, "decoder": {}})})


def batch_of(x):
    return {"x": jnp.asarray(x, jnp.float32)}


def over_keys(function, num, state, x=POINTS):
    """The function's values under `num` keys, leaves [num, B], float64."""
    keys = jax.random.split(jax.random.key(1), num)
    return float64(jax.jit(jax.vmap(lambda key: function(state, batch_of(x), key)))(keys))


def assert_mean(values, expected, tolerance=0.02):
    """The mean over keys within five of its standard errors, which are small enough to tell."""
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    assert np.all(error < tolerance), error
    assert np.all(np.abs(values.mean(axis=0) - expected) < 5 * error + 1e-5)


def test_linear_vae_with_the_exact_posterior_reaches_the_evidence():
    terms = over_keys(linear_vae().evaluate, 20_000, ppca_state())
    assert_mean(terms["elbo"], EVIDENCE)
    kl = 0.5 * np.sum(POSTERIOR_VAR + POSTERIOR_MEAN**2 - 1 - np.log(POSTERIOR_VAR), axis=1)
    np.testing.assert_allclose(terms["kl"][0], kl, rtol=1e-5)
    np.testing.assert_allclose(terms["elbo"], terms["log_likelihood"] - terms["kl"], atol=1e-4)


def test_linear_vae_with_a_worse_encoder_loses_its_divergence_from_the_posterior():
    assert GAP > 0.2
    terms = over_keys(linear_vae().evaluate, 20_000, ppca_state(SHIFT, STRETCH))
    assert_mean(terms["elbo"], EVIDENCE - GAP, tolerance=0.04)


@pytest.mark.parametrize(("num_samples", "chunk"), [(1, 1), (5, 2), (64, 16)])
def test_log_prob_with_the_exact_posterior_is_the_evidence_for_any_number_of_samples(num_samples, chunk):
    algorithm = linear_vae(num_importance_samples=num_samples, importance_chunk=chunk)
    assert algorithm.density == "bound"
    actual = jax.jit(algorithm.log_prob)(ppca_state(), batch_of(POINTS), KEY)
    assert actual.shape == (3,) and actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, EVIDENCE, rtol=1e-5)


def test_log_prob_with_a_worse_encoder_grows_from_the_elbo_to_the_evidence():
    state = ppca_state(SHIFT, STRETCH)
    bound = {
        k: over_keys(linear_vae(num_importance_samples=k, importance_chunk=k).log_prob, num_keys, state)
        for k, num_keys in {1: 20_000, 5: 8_000, 4_000: 4}.items()
    }
    assert_mean(bound[1], EVIDENCE - GAP, tolerance=0.04)
    means = np.array([values.mean(axis=0) for values in bound.values()])  # [k, B]
    assert np.all(np.diff(means, axis=0) > 0)
    assert np.all(means[1] < EVIDENCE)
    np.testing.assert_allclose(means[2], EVIDENCE, atol=0.03)


def test_log_prob_does_not_depend_on_the_chunk():
    state = ppca_state(SHIFT, STRETCH)
    values = [
        jax.jit(linear_vae(num_importance_samples=7, importance_chunk=chunk).log_prob)(state, batch_of(POINTS), KEY)
        for chunk in (7, 3, 50)  # exact, with a remainder, more than there are
    ]
    for other in values[1:]:
        np.testing.assert_allclose(other, values[0], rtol=1e-6)
    assert np.all(np.abs(values[0] - EVIDENCE) > 1e-3)


def test_log_prob_of_one_sample_is_the_log_weight_of_that_sample():
    """log p(x|z) + log p(z) - log q(z|x) by SciPy, at the z that the same key draws."""
    algorithm = linear_vae(num_importance_samples=1)
    actual = jax.jit(algorithm.log_prob)(ppca_state(SHIFT, STRETCH), batch_of(POINTS), KEY)
    mean, deviation = POSTERIOR_MEAN + SHIFT, np.sqrt(POSTERIOR_VAR * STRETCH)
    z = mean + deviation * float64(jax.random.normal(jax.random.split(KEY, 1)[0], (3, 2)))
    expected = (
        stats.norm.logpdf(POINTS, z @ W.T + MU, np.sqrt(VARIANCE)).sum(1)
        + stats.norm.logpdf(z).sum(1)
        - stats.norm.logpdf(z, mean, deviation).sum(1)
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_linear_vae_codes_and_decoded_points():
    algorithm, state = linear_vae(), ppca_state()
    codes = jax.jit(algorithm.encode)(state, batch_of(POINTS), KEY)
    np.testing.assert_allclose(codes, POSTERIOR_MEAN, rtol=1e-5, atol=1e-6)
    decoded = jax.jit(algorithm.decode)(state, codes, KEY)
    np.testing.assert_allclose(decoded, POSTERIOR_MEAN @ W.T + MU, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("means", [False, True])
def test_linear_vae_generates_its_own_marginal(means):
    """N(mu, W W' + s^2 I) if x is drawn, N(mu, W W') if E[x|z] is shown."""
    num = 40_000
    algorithm = linear_vae(generate_means=means)
    x = float64(jax.jit(algorithm.generate)(ppca_state(), {"x": jnp.zeros((num, 4))}, KEY))
    covariance = W @ W.T + (0.0 if means else VARIANCE) * np.eye(4)
    variances = np.diag(covariance)
    assert np.all(np.abs(x.mean(axis=0) - MU) < 5 * np.sqrt(variances / num))
    error = np.sqrt((np.outer(variances, variances) + covariance**2) / num)
    assert np.all(np.abs(np.cov(x, rowvar=False) - covariance) < 5 * error)


# A tiny dense VAE against an ELBO in NumPy


def tiny_vae(tx=None, likelihood=None, **options):
    return vae(
        GaussianHead(MLP((3,), nn.tanh), 2),
        DenseDecoder((3,), (4,), nn.tanh),
        likelihoods.bernoulli() if likelihood is None else likelihood,
        optax.sgd(0.1) if tx is None else tx,
        latent_dim=2,
        num_importance_samples=4,
        importance_chunk=2,
        **options,
    )


TINY = batch_of(np.random.default_rng(2).integers(0, 2, (5, 4)))


@functools.cache
def tiny_params():
    """Parameters whose biases are not zero."""
    params = jax.jit(tiny_vae().init)(jax.random.key(3), TINY).players["vae"].params
    rng = np.random.default_rng(4)
    return jax.tree.map(lambda leaf: leaf + jnp.asarray(0.3 * rng.normal(size=leaf.shape), leaf.dtype), params)


def tiny_state(tx=None, average=False, step=0):
    """A state of any tiny VAE, always with the same parameters."""
    player = new_player(tiny_params(), optax.sgd(0.1) if tx is None else tx, {"encoder": {}, "decoder": {}})
    state = new_state({"vae": player}, {"vae": tiny_params()} if average else {})
    return dataclasses.replace(state, step=jnp.int32(step))


def numpy_terms(params, x, noise):
    """log p(x|z) and KL of the tiny VAE, f64[B]."""
    dense = lambda layer, x: x @ layer["kernel"] + layer["bias"]
    encoder, decoder = params["encoder"], params["decoder"]
    mean, log_var = np.split(dense(encoder["Dense_0"], np.tanh(dense(encoder["trunk"]["Dense_0"], x))), 2, axis=1)
    z = mean + np.exp(log_var / 2) * noise
    p = special.expit(dense(decoder["Dense_0"], np.tanh(dense(decoder["MLP_0"]["Dense_0"], z))))
    log_likelihood = np.sum(x * np.log(p) + (1 - x) * np.log(1 - p), axis=1)
    return log_likelihood, 0.5 * np.sum(np.exp(log_var) + mean**2 - 1 - log_var, axis=1)


def numpy_loss(params, beta=1.0, key=KEY):
    noise = float64(jax.random.normal(key, (5, 2)))
    log_likelihood, kl = numpy_terms(params, float64(TINY["x"]), noise)
    return -np.mean(log_likelihood - beta * kl)


def numpy_gradient(params, beta=1.0, step=1e-5):
    """Central differences, parameter by parameter."""
    leaves, structure = jax.tree.flatten(params)
    gradients = [np.zeros_like(leaf) for leaf in leaves]
    for leaf, gradient in zip(leaves, gradients, strict=True):
        for index in np.ndindex(leaf.shape):
            centre, losses = leaf[index], []
            for sign in (1, -1):
                leaf[index] = centre + sign * step
                losses.append(numpy_loss(params, beta))
            leaf[index] = centre
            gradient[index] = (losses[0] - losses[1]) / (2 * step)
    return jax.tree.unflatten(structure, gradients)


@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_step_descends_the_elbo_written_in_numpy(beta):
    algorithm = tiny_vae(beta=lambda step: jnp.full((), beta))
    state = tiny_state()
    after, metrics = jax.jit(algorithm.step)(state, TINY, KEY)
    before = float64(state.players["vae"].params)
    log_likelihood, kl = numpy_terms(before, float64(TINY["x"]), float64(jax.random.normal(KEY, (5, 2))))
    expected = {
        "loss": -np.mean(log_likelihood - beta * kl),
        "elbo": np.mean(log_likelihood - kl),
        "log_likelihood": np.mean(log_likelihood),
        "kl": np.mean(kl),
        "beta": beta,
    }
    assert_trees_close(metrics, expected)
    by_hand = jax.tree.map(lambda value, gradient: value - 0.1 * gradient, before, numpy_gradient(before, beta))
    assert_trees_close(after.players["vae"].params, by_hand)
    assert any_leaf_differs(after.players["vae"].params, state.players["vae"].params)
    assert int(state.step) == 0 and int(after.step) == 1 and after.step.dtype == jnp.int32


def test_step_with_adam_moves_every_parameter_by_the_rate_at_first():
    """Adam's bias-corrected first step is rate * g / (|g| + eps), with eps large enough here to tell g's size."""
    tx = optax.adam(0.01, eps=0.05)
    algorithm, state = tiny_vae(tx), tiny_state(tx)
    after, _ = jax.jit(algorithm.step)(state, TINY, KEY)
    before = float64(state.players["vae"].params)
    by_hand = jax.tree.map(lambda p, g: p - 0.01 * g / (np.abs(g) + 0.05), before, numpy_gradient(before))
    assert_trees_close(after.players["vae"].params, by_hand, atol=2e-6)


def test_evaluate_gives_the_terms_of_each_example_and_weighs_the_loss_as_training_does():
    algorithm = tiny_vae(beta=lambda step: step.astype(jnp.float32))
    terms = jax.jit(algorithm.evaluate)(tiny_state(step=3), TINY, KEY)
    params = float64(tiny_params())
    log_likelihood, kl = numpy_terms(params, float64(TINY["x"]), float64(jax.random.normal(KEY, (5, 2))))
    expected = {
        "loss": -(log_likelihood - 3 * kl),
        "elbo": log_likelihood - kl,
        "log_likelihood": log_likelihood,
        "kl": kl,
    }
    assert_trees_close(terms, expected)


@pytest.mark.parametrize(
    ("num_steps", "step", "expected"),
    [(10, 0, 0.4), (10, 4, 2.0), (10, 9, 4.0), (10, 10, 4.0), (10, 1_000_000, 4.0), (1, 0, 4.0), (0, 0, 4.0)],
)
def test_kl_warmup_grows_linearly_to_beta(num_steps, step, expected):
    np.testing.assert_allclose(kl_warmup(4.0, num_steps)(jnp.int32(step)), expected, rtol=1e-6)


def test_warmup_reaches_the_loss_step_by_step():
    algorithm = tiny_vae(beta=kl_warmup(2.0, 3))
    state, step = tiny_state(), jax.jit(algorithm.step)
    for expected in (2 / 3, 4 / 3, 2.0, 2.0):
        state, metrics = step(state, TINY, KEY)
        np.testing.assert_allclose(metrics["beta"], expected, rtol=1e-6)
        np.testing.assert_allclose(metrics["loss"], -(metrics["log_likelihood"] - expected * metrics["kl"]), rtol=1e-5)
        np.testing.assert_allclose(metrics["elbo"], metrics["log_likelihood"] - metrics["kl"], rtol=1e-5)


def test_squared_error_loss_is_the_tutorials_and_no_density_is_claimed():
    """1000 MSE + KL, by hand."""
    algorithm = tiny_vae(likelihood=likelihoods.squared_error(1000.0))
    assert algorithm.log_prob is None and algorithm.density == "none"
    terms = jax.jit(algorithm.evaluate)(tiny_state(), TINY, KEY)
    params, x = float64(tiny_params()), float64(TINY["x"])
    dense = lambda layer, x: x @ layer["kernel"] + layer["bias"]
    encoder, decoder = params["encoder"], params["decoder"]
    mean, log_var = np.split(dense(encoder["Dense_0"], np.tanh(dense(encoder["trunk"]["Dense_0"], x))), 2, axis=1)
    z = mean + np.exp(log_var / 2) * float64(jax.random.normal(KEY, (5, 2)))
    shown = special.expit(dense(decoder["Dense_0"], np.tanh(dense(decoder["MLP_0"]["Dense_0"], z))))
    kl = 0.5 * np.sum(np.exp(log_var) + mean**2 - 1 - log_var, axis=1)
    np.testing.assert_allclose(terms["loss"], 1000 * np.mean((x - shown) ** 2, axis=1) + kl, rtol=1e-5)


# The moving average


def test_average_follows_its_recursion_and_training_does_not_see_it():
    decay = 0.8
    averaged, raw = tiny_vae(ema_decay=decay), tiny_vae()
    state, other = tiny_state(average=True), tiny_state()
    step, other_step = jax.jit(averaged.step), jax.jit(raw.step)
    expected = float64(state.players["vae"].params)
    for i in range(4):
        key = jax.random.fold_in(KEY, i)
        state, other = step(state, TINY, key)[0], other_step(other, TINY, key)[0]
        params = float64(state.players["vae"].params)
        expected = jax.tree.map(lambda mean, new: decay * mean + (1 - decay) * new, expected, params)
        assert_trees_close(state.average["vae"], expected)
        assert_trees_close(params, float64(other.players["vae"].params), rtol=1e-6)
    assert other.average == {}


def test_everything_but_step_uses_the_average():
    averaged, raw = tiny_vae(ema_decay=0.9), tiny_vae()
    state = jax.jit(averaged.step)(tiny_state(average=True), TINY, KEY)[0]
    # a model without an average whose parameters are the other's average
    player = dataclasses.replace(state.players["vae"], params=state.average["vae"])
    as_params = dataclasses.replace(state, players={"vae": player}, average={})
    codes = jnp.ones((5, 2))
    for name in ("evaluate", "generate", "encode", "decode", "log_prob"):
        argument = codes if name == "decode" else TINY
        actual = jax.jit(getattr(averaged, name))(state, argument, KEY)
        plain = jax.jit(getattr(raw, name))
        assert_trees_close(actual, plain(as_params, argument, KEY), rtol=1e-6)
        assert any_leaf_differs(actual, plain(dataclasses.replace(state, average={}), argument, KEY)), name


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_init_under_jit_gives_a_state_that_can_be_donated(ema_decay):
    algorithm = tiny_vae(optax.sgd(0.1, momentum=0.9), ema_decay=ema_decay)
    state = jax.jit(algorithm.init)(KEY, TINY)
    if ema_decay:
        assert_trees_close(state.average["vae"], state.players["vae"].params, rtol=0, atol=0)
    else:
        assert state.average == {}
    step = jax.jit(algorithm.step, donate_argnums=0)
    for i in range(3):
        old, (state, metrics) = state, step(state, TINY, jax.random.fold_in(KEY, i))
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old.players["vae"].params))
    assert int(state.step) == 3 and np.isfinite(metrics["loss"])


# Under the transformations that training uses


def test_a_scan_of_steps_equals_steps_one_by_one():
    tx = optax.sgd(0.1, momentum=0.9)
    algorithm, start = tiny_vae(tx, ema_decay=0.5, beta=kl_warmup(1.0, 2)), tiny_state(tx, average=True)
    keys = jax.random.split(KEY, 3)
    scanned, metrics = jax.jit(lambda s: jax.lax.scan(lambda s, key: algorithm.step(s, TINY, key), s, keys))(start)
    state, step, losses = start, jax.jit(algorithm.step), []
    for key in keys:
        state, terms = step(state, TINY, key)
        losses.append(terms["loss"])
    assert_trees_close(scanned, state)
    np.testing.assert_allclose(metrics["loss"], losses, rtol=1e-5)


def test_members_of_a_vmap_over_keys_equal_their_solo_runs():
    algorithm = tiny_vae(ema_decay=0.5)

    def train(key):
        key_init, key_step = jax.random.split(key)
        return algorithm.step(algorithm.init(key_init, TINY), TINY, key_step)

    keys = jax.random.split(KEY, 3)
    together, alone = jax.jit(jax.vmap(train))(keys), jax.jit(train)
    for i in range(3):
        assert_trees_close(jax.tree.map(lambda leaf, i=i: leaf[i], together), alone(keys[i]))
    assert len(set(np.asarray(together[1]["loss"]).tolist())) == 3


# Images


def digits():
    """f32[1797, 8, 8, 1] in [0, 1], in a fixed random order."""
    x = load_digits().images[..., None] / 16
    return jnp.asarray(x[np.random.default_rng(0).permutation(len(x))], jnp.float32)


def test_training_beats_the_best_independent_pixels_on_digits():
    images = digits()
    train, validation = images[:1500], images[1500:]
    algorithm = vae(
        GaussianHead(MLP((128,)), 8),
        DenseDecoder((128,), (8, 8, 1)),
        likelihoods.bernoulli(),
        optax.adam(3e-3),
        latent_dim=8,
    )

    @jax.jit
    def fit(state):
        def step(state, key):
            rows = jax.random.randint(key, (128,), 0, len(train))
            return algorithm.step(state, {"x": train[rows]}, key)

        return jax.lax.scan(step, state, jax.random.split(KEY, 500))[0]

    start = jax.jit(algorithm.init)(KEY, {"x": train[:1]})
    evaluate = jax.jit(algorithm.evaluate)
    before, after = (np.mean(evaluate(state, {"x": validation}, KEY)["loss"]) for state in (start, fit(start)))
    # no model without latent variables does better than the mean of each pixel
    p, x = np.clip(float64(train).mean(axis=0), 1e-3, 1 - 1e-3), float64(validation)
    independent = -np.mean(np.sum(x * np.log(p) + (1 - x) * np.log(1 - p), axis=(1, 2, 3)))
    assert before > independent + 10 and after < independent - 2


def conv_vae(batch_norm=True, dtype=None):
    return vae(
        GaussianHead(ConvEncoder((4, 6), (5,), nn.relu, batch_norm, dtype), 3, dtype),
        ConvDecoder((6, 4), (5,), (8, 8, 1), nn.relu, batch_norm, dtype),
        likelihoods.bernoulli(),
        optax.sgd(0.05),
        latent_dim=3,
        num_importance_samples=2,
    )


def test_batch_statistics_move_in_training_only():
    algorithm, batch = conv_vae(), {"x": digits()[:6]}
    state = jax.jit(algorithm.init)(KEY, batch)
    after, _ = jax.jit(algorithm.step)(state, batch, KEY)
    # the first layer's statistics by hand: 0.9 old + 0.1 those of the batch, old being mean 0 and variance 1
    kernel = state.players["vae"].params["encoder"]["trunk"]["Conv_0"]["kernel"]
    y = float64(
        jax.lax.conv_general_dilated(batch["x"], kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    )
    moved = after.players["vae"].stats["encoder"]["batch_stats"]["trunk"]["BatchNorm_0"]
    np.testing.assert_allclose(moved["mean"], 0.1 * y.mean((0, 1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(moved["var"], 0.9 + 0.1 * y.var((0, 1, 2)), rtol=1e-4, atol=1e-6)
    assert any_leaf_differs(after.players["vae"].stats["decoder"], state.players["vae"].stats["decoder"])
    # in evaluation an example's code does not depend on its company, and does on the statistics
    encode = jax.jit(algorithm.encode)
    codes = encode(after, batch, KEY)
    np.testing.assert_array_equal(encode(after, {"x": batch["x"].at[2:].set(0.5)}, KEY)[:2], codes[:2])
    player = dataclasses.replace(after.players["vae"], stats=state.players["vae"].stats)
    assert any_leaf_differs(codes, encode(dataclasses.replace(after, players={"vae": player}), batch, KEY))


def test_bfloat16_arithmetic_keeps_float32_parameters_and_losses():
    batch, half, full = {"x": digits()[:6]}, conv_vae(False, jnp.bfloat16), conv_vae(False)
    state = jax.jit(full.init)(KEY, batch)
    assert jax.tree.map(jnp.shape, jax.eval_shape(half.init, KEY, batch)) == jax.tree.map(jnp.shape, state)
    after, metrics = jax.jit(half.step)(state, batch, KEY)
    expected, expected_metrics = jax.jit(full.step)(state, batch, KEY)
    floats = [leaf for leaf in jax.tree.leaves((after, metrics)) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert len(floats) > 20 and all(leaf.dtype == jnp.float32 for leaf in floats)
    assert_trees_close(metrics, expected_metrics, rtol=0.02, atol=0.02)
    assert any_leaf_differs(metrics, expected_metrics)
    assert_trees_close(after.players["vae"].params, expected.players["vae"].params, rtol=0.05, atol=0.02)


def test_abilities_of_a_dense_vae_shapes_ranges_and_keys():
    algorithm = vae(
        GaussianHead(MLP((5,)), 3),
        DenseDecoder((5,), (8, 8, 1)),
        likelihoods.bernoulli(),
        optax.sgd(0.05),
        latent_dim=3,
        num_importance_samples=2,
    )
    batch = {"x": digits()[:4]}
    state = jax.jit(algorithm.init)(KEY, batch)
    calls = {  # argument, shape, whether the key matters
        "generate": (batch, (4, 8, 8, 1), True),
        "encode": (batch, (4, 3), False),
        "decode": (jnp.ones((4, 3)), (4, 8, 8, 1), False),
        "log_prob": (batch, (4,), True),
    }
    for ability, (argument, shape, random) in calls.items():
        function = jax.jit(getattr(algorithm, ability))
        values = function(state, argument, KEY)
        assert values.shape == shape and values.dtype == jnp.float32, ability
        np.testing.assert_array_equal(values, function(state, argument, KEY))
        assert any_leaf_differs(values, function(state, argument, jax.random.key(9))) == random, ability
        if ability in ("generate", "decode"):
            assert 0 <= np.min(values) < np.max(values) <= 1
        if ability == "log_prob":
            assert np.all(values < 0)


def test_abilities_of_a_convolutional_vae_have_the_same_shapes():
    algorithm, batch = conv_vae(), {"x": jnp.zeros((4, 8, 8, 1))}
    state = jax.eval_shape(algorithm.init, KEY, batch)
    shape = lambda function, argument: jax.eval_shape(function, state, argument, KEY).shape
    assert shape(algorithm.generate, batch) == shape(algorithm.decode, jnp.ones((4, 3))) == (4, 8, 8, 1)
    assert shape(algorithm.encode, batch) == (4, 3) and shape(algorithm.log_prob, batch) == (4,)
    terms = jax.eval_shape(algorithm.evaluate, state, batch, KEY)
    assert {name: value.shape for name, value in terms.items()} == (
        dict.fromkeys(("loss", "elbo", "log_likelihood", "kl"), (4,))
    )
    after, metrics = jax.eval_shape(algorithm.step, state, batch, KEY)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    assert all(value.shape == () and value.dtype == jnp.float32 for value in metrics.values())


def test_decode_draws_binary_pixels_where_means_are_not_asked_for():
    algorithm = tiny_vae(generate_means=False)
    codes = jnp.zeros((2_000, 2))
    x = np.asarray(jax.jit(algorithm.decode)(tiny_state(), codes, KEY))
    p = np.asarray(jax.jit(tiny_vae().decode)(tiny_state(), codes, KEY))
    assert set(np.unique(x)) == {0.0, 1.0}
    assert np.all(np.abs(x.mean(axis=0) - p[0]) < 5 * np.sqrt(p[0] * (1 - p[0]) / len(x)))
