"""Autoencoders against principal components, hand-made losses and brute force."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genlab.models import autoencoder as models
from genlab.models.greedy import greedy_autoencoder
from genlab.networks.autoencoder import EncoderDecoder, TiedAutoencoder
from genlab.networks.convolutional import ConvDecoder, ConvEncoder
from genlab.networks.dense import MLP, DenseDecoder

KEY = jax.random.key(0)
D = 6


def dense(code_dim=2, hidden=(), code=lambda x: x):
    return EncoderDecoder(MLP(hidden, nn.tanh), DenseDecoder(hidden[::-1], (D,), nn.tanh), code_dim, code)


def gaussian_data(num=400):
    """Points with well separated principal variances, centred away from zero."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(D, D)))[0]
    return (rng.normal(size=(num, D)) * np.array([3, 2, 1, 0.5, 0.3, 0.2]) @ basis + 1.0).astype(np.float32)


def train(algorithm, x, num_steps, key=KEY):
    """The state after full-batch steps, and the last metrics."""
    batch = {"x": jnp.asarray(x)}
    state = jax.jit(algorithm.init)(key, batch)

    @jax.jit
    def run(state):
        return jax.lax.scan(lambda s, k: algorithm.step(s, batch, k), state, jax.random.split(key, num_steps))

    state, metrics = run(state)
    return state, {name: np.asarray(values) for name, values in metrics.items()}


@pytest.fixture(scope="module")
def principal():
    x = gaussian_data()
    mean = x.mean(axis=0)
    _, singular, directions = np.linalg.svd(x - mean, full_matrices=False)
    return x, mean, singular, directions


def test_a_linear_autoencoder_finds_the_principal_subspace(principal):
    x, mean, _, directions = principal
    algorithm = models.autoencoder(dense(2), optax.adam(optax.cosine_decay_schedule(0.05, 2000)), models.LINEAR)
    state, _ = train(algorithm, x, 2000)
    batch = {"x": jnp.asarray(x)}
    codes = algorithm.encode(state, batch, KEY)
    reconstruction = np.asarray(algorithm.decode(state, codes, KEY))
    projected = mean + (x - mean) @ directions[:2].T @ directions[:2]
    np.testing.assert_allclose(reconstruction, projected, atol=2e-3)
    errors = algorithm.evaluate(state, batch, KEY)
    np.testing.assert_allclose(np.mean(errors["mse"]), np.mean((x - projected) ** 2), rtol=1e-3)


def test_under_l2_the_encoder_is_the_transposed_decoder_and_the_directions_are_principal(principal):
    """Kunin et al. 2019: W1 = W2^T, and columns are the directions, each shrunk by sqrt(1 - weight / singular^2)."""
    x, mean, singular, directions = principal
    x = x - mean
    weight = 0.05  # of a loss averaged over examples: the paper's lambda is weight * n
    algorithm = models.autoencoder(
        dense(2),
        optax.adam(optax.cosine_decay_schedule(0.03, 6000)),
        models.LINEAR,
        penalties={"l2": (weight, models.l2())},
    )
    state, _ = train(algorithm, x, 6000)
    params = state.players["autoencoder"].params
    encoder, decoder = params["bottleneck"]["kernel"], params["decoder"]["Dense_0"]["kernel"]
    assert np.linalg.norm(encoder - decoder.T) < 1e-3 * np.linalg.norm(encoder)
    left, sizes, _ = np.linalg.svd(decoder.T, full_matrices=False)  # of [D, 2]
    np.testing.assert_allclose(np.abs(np.sum(left * directions[:2].T, axis=0)), 1.0, atol=1e-3)
    expected = np.sqrt(1 - weight * len(x) / singular[:2] ** 2)
    np.testing.assert_allclose(sizes, expected, rtol=1e-3)


def test_the_loss_is_the_error_and_the_weighted_penalties():
    x = jnp.asarray(gaussian_data(5))
    penalties = {
        "l1": (0.5, models.l1()), "sparsity": (2.0, models.sparsity(0.2)), "contractive": (0.1, models.contractive()),
        "l2": (0.01, models.l2()),
    }  # fmt: skip
    network = dense(3, code=jax.nn.sigmoid)
    algorithm = models.autoencoder(network, optax.sgd(0.0), models.LINEAR, penalties=penalties)
    state = jax.jit(algorithm.init)(KEY, {"x": x})
    found = jax.device_get(algorithm.evaluate(state, {"x": x}, KEY))
    params = jax.device_get(state.players["autoencoder"].params)
    w, v = params["bottleneck"]["kernel"], params["decoder"]["Dense_0"]["kernel"]
    codes = 1 / (1 + np.exp(-(np.asarray(x) @ w)))  # biases are zero at the start
    error = np.sum((np.asarray(x) - codes @ v) ** 2, axis=1)
    mean = codes.mean(axis=0)
    expected = {
        "l1": codes.sum(axis=1),
        "sparsity": np.full(5, np.sum(0.2 * np.log(0.2 / mean) + 0.8 * np.log(0.8 / (1 - mean)))),
        "contractive": np.sum((codes * (1 - codes)) ** 2 * np.sum(w**2, axis=0), axis=1),
        "l2": np.full(5, np.sum(w**2) + np.sum(v**2)),
        "squared_error": error,
        "mse": error / D,
    }
    expected["loss"] = error + sum(penalties[name][0] * expected[name] for name in penalties)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=2e-5, err_msg=name)
    _, metrics = jax.jit(algorithm.step)(state, {"x": x}, KEY)
    assert metrics["loss"] == pytest.approx(expected["loss"].mean(), rel=1e-5)


def test_the_contractive_penalty_of_one_layer_in_closed_form_trains_the_same():
    x = gaussian_data(20)
    states = [
        train(models.autoencoder(dense(3, code=jax.nn.sigmoid), optax.sgd(0.01), models.LINEAR,
                                 penalties={"contractive": (0.5, penalty())}), x, 20)[0]
        for penalty in (models.contractive, models.contractive_layer)
    ]  # fmt: skip
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *states)


def test_what_is_corrupted_is_the_input_and_not_the_target():
    """Under an encoder that sees only zeros the reconstruction is one point; the best one is the clean mean."""
    x = gaussian_data(50)
    blind = models.autoencoder(dense(2), optax.adam(0.05), models.LINEAR, corrupt=lambda key, x: jnp.zeros_like(x))
    state, metrics = train(blind, x, 800)
    seen = blind.decode(state, blind.encode(state, {"x": jnp.zeros((1, D))}, KEY), KEY)
    np.testing.assert_allclose(seen[0], x.mean(axis=0), atol=1e-3)
    assert metrics["squared_error"][-1] == pytest.approx(np.sum(x.var(axis=0)), rel=1e-4)


def test_corruption_is_of_training_alone_and_new_at_every_step():
    x = jnp.asarray(gaussian_data(8))
    noisy = models.autoencoder(
        dense(2), optax.sgd(0.0), models.LINEAR, corrupt=lambda key, x: x + jax.random.normal(key, x.shape)
    )
    plain = models.autoencoder(dense(2), optax.sgd(0.0), models.LINEAR)
    state = jax.jit(noisy.init)(KEY, {"x": x})
    for name, values in noisy.evaluate(state, {"x": x}, KEY).items():
        np.testing.assert_array_equal(values, plain.evaluate(state, {"x": x}, KEY)[name])
    losses = {float(noisy.step(state, {"x": x}, jax.random.key(i))[1]["loss"]) for i in range(3)}
    assert len(losses) == 3 and float(plain.step(state, {"x": x}, KEY)[1]["loss"]) not in losses


@pytest.mark.parametrize("output", [models.SIGMOID, models.CROSS_ENTROPY])
def test_outputs_of_images_lie_in_the_unit_interval(output):
    x = jax.random.uniform(KEY, (4, D))
    algorithm = models.autoencoder(dense(3), optax.sgd(0.1), output)
    state = jax.jit(algorithm.init)(KEY, {"x": x})
    decoded = algorithm.decode(state, algorithm.encode(state, {"x": x}, KEY), KEY)
    assert decoded.shape == x.shape and (decoded > 0).all() and (decoded < 1).all()
    found = algorithm.evaluate(state, {"x": x}, KEY)
    clean = np.asarray(decoded)
    if output is models.CROSS_ENTROPY:
        expected = -np.sum(np.asarray(x) * np.log(clean) + (1 - np.asarray(x)) * np.log(1 - clean), axis=1)
    else:
        expected = np.sum((np.asarray(x) - clean) ** 2, axis=1)
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-5)


def test_batch_statistics_move_in_training_only():
    network = EncoderDecoder(ConvEncoder((4,), batch_norm=True), ConvDecoder((4, 4), (), (8, 8, 1), batch_norm=True), 3)
    algorithm = models.autoencoder(network, optax.sgd(0.1), models.SIGMOID)
    batch = {"x": jax.random.uniform(KEY, (5, 8, 8, 1))}
    state = jax.jit(algorithm.init)(KEY, batch)
    after, _ = jax.jit(algorithm.step)(state, batch, KEY)
    moved = jax.tree.map(
        lambda a, b: bool((a != b).any()), state.players["autoencoder"].stats, after.players["autoencoder"].stats
    )
    assert all(jax.tree.leaves(moved)) and len(jax.tree.leaves(moved)) == 4


def test_everything_but_step_uses_the_average():
    x = {"x": jnp.asarray(gaussian_data(8))}
    algorithm = models.autoencoder(dense(2), optax.sgd(0.05), models.LINEAR, ema_decay=0.9)
    state = jax.jit(algorithm.init)(KEY, x)
    after, _ = jax.jit(algorithm.step)(state, x, KEY)
    expected = jax.tree.map(
        lambda a, b: 0.9 * a + 0.1 * b, state.players["autoencoder"].params, after.players["autoencoder"].params
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), after.average["autoencoder"], expected
    )
    raw = dataclasses.replace(after, average={})
    assert not np.allclose(algorithm.encode(after, x, KEY), algorithm.encode(raw, x, KEY))


def test_tied_weights_train_as_one():
    x = gaussian_data()
    algorithm = models.autoencoder(
        TiedAutoencoder((2,), (D,)), optax.adam(optax.cosine_decay_schedule(0.05, 2000)), models.LINEAR
    )
    state, metrics = train(algorithm, x, 2000)
    params = state.players["autoencoder"].params
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == D * 2 + 2 + D
    kernel = np.asarray(params["kernel_0"])
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(2), atol=1e-3)  # a projection: PCA's optimum is among the tied
    centred = x - x.mean(axis=0)
    floor = np.sum(np.linalg.svd(centred, compute_uv=False)[2:] ** 2) / len(x)
    assert metrics["loss"][-1] == pytest.approx(floor, rel=1e-3)


def greedy(pretrain_steps, tx=None, pretrain_tx=None, widths=(4, 2)):
    tx = tx or optax.adam(0.02)
    return greedy_autoencoder(
        widths, (D,), nn.tanh, tx, models.LINEAR, pretrain_steps=pretrain_steps, pretrain_tx=pretrain_tx or tx
    )


def test_each_layer_moves_in_its_own_phase_and_all_of_them_at_the_end():
    algorithm, batch = greedy(3), {"x": jnp.asarray(gaussian_data(20))}
    state, step = jax.jit(algorithm.init)(KEY, batch), jax.jit(algorithm.step)
    for number in range(8):
        after, metrics = step(state, batch, KEY)
        moved = {
            name for name in state.players
            if any((a != b).any() for a, b in zip(jax.tree.leaves(state.players[name].params),
                                                 jax.tree.leaves(after.players[name].params), strict=True))
        }  # fmt: skip
        phase = min(number // 3, 2)
        assert moved == [{"layer_1"}, {"layer_2"}, {"layer_1", "layer_2"}][phase] and metrics["phase"] == phase + 1
        counts = {name: int(after.players[name].opt_state[0].count) for name in after.players}
        expected = {0: (number + 1, 0), 1: (3, number - 2), 2: (number - 5, number - 5)}[phase]  # fresh moments at last
        assert (counts["layer_1"], counts["layer_2"]) == expected
        state = after


def test_the_phases_minimize_what_they_should():
    algorithm, x = greedy(2, optax.sgd(0.0)), jnp.asarray(gaussian_data(20))
    state = jax.jit(algorithm.init)(KEY, {"x": x})
    one, two = (jax.device_get(state.players[f"layer_{i}"].params) for i in (1, 2))
    hidden = np.tanh(np.asarray(x) @ one["down"])
    codes = hidden @ two["down"]
    inner = np.tanh(codes @ two["up"])
    expected = [
        np.mean(np.sum((np.asarray(x) - hidden @ one["up"]) ** 2, axis=1)),
        np.mean(np.sum((hidden - inner) ** 2, axis=1)),
        np.mean(np.sum((np.asarray(x) - inner @ one["up"]) ** 2, axis=1)),
    ]
    for number in range(6):
        state, metrics = jax.jit(algorithm.step)(state, {"x": x}, KEY)
        assert metrics["loss"] == pytest.approx(expected[number // 2], rel=1e-4)
    np.testing.assert_allclose(algorithm.encode(state, {"x": x}, KEY), codes, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        algorithm.decode(state, jnp.asarray(codes), KEY), inner @ one["up"], rtol=1e-3, atol=1e-4
    )
    assert float(jnp.mean(algorithm.evaluate(state, {"x": x}, KEY)["loss"])) == pytest.approx(expected[2], rel=1e-4)


def test_layers_alone_and_together_have_their_own_optimizer():
    batch = {"x": jnp.asarray(gaussian_data(20))}
    for tx, pretrain_tx, moving in ((0.0, 0.1, (0, 1)), (0.1, 0.0, (2, 3))):  # rates; of three phases of a step or two
        algorithm = greedy(1, optax.sgd(tx), optax.sgd(pretrain_tx))
        state, step = jax.jit(algorithm.init)(KEY, batch), jax.jit(algorithm.step)
        for number in range(4):
            after, _ = step(state, batch, KEY)
            pairs = zip(jax.tree.leaves(state.players), jax.tree.leaves(after.players), strict=True)
            assert any((a != b).any() for a, b in pairs) == (number in moving)
            state = after


def test_without_pretraining_all_layers_train_from_the_start():
    _, metrics = train(greedy(0), gaussian_data(), 300)
    assert (metrics["phase"] == 3).all() and metrics["loss"][-1] < 0.5 * metrics["loss"][0]
