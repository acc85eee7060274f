"""The VQ-VAE: its bound against p(x) by enumeration of all codes, and its step against losses written in NumPy."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from scipy import special

from genlab.algorithm import new_player, new_state
from genlab.errors import InputError
from genlab.models import likelihoods
from genlab.models.vq_vae import code_vectors, vq_vae
from genlab.networks.token_prior import TokenPrior

KEY = jax.random.key(0)
K, T, D = 3, 2, 2  # codes, places, numbers of a code
X = np.array(list(itertools.product([0, 1], repeat=4)), np.float32)  # every binary example of four numbers
BATCH = {"x": jnp.asarray(X)}
BETA, DECAY, RATE = 0.4, 0.8, 0.05


class Encoder(nn.Module):
    """Linear, to T vectors."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(T * D)(x).reshape(-1, T, D)


class Decoder(nn.Module):
    """Linear, from T codes."""

    @nn.compact
    def __call__(self, codes):
        return nn.Dense(4)(codes.reshape(-1, T * D))


def tiny(likelihood=None, tx=None, **options):
    tx = optax.sgd(RATE) if tx is None else tx
    options = {"beta": BETA, "decay": DECAY, "restart_below": 0.0, **options}
    prior = TokenPrior(K, T, features=3, embedding=2)
    likelihood = likelihoods.bernoulli() if likelihood is None else likelihood
    return vq_vae(Encoder(), Decoder(), likelihood, tx, prior, tx, grid=(T,), code_dim=D, **options)


@functools.cache
def params():
    """Of both players and a codebook, so large that every code is chosen by something."""
    shapes = jax.eval_shape(tiny().init, KEY, BATCH).players
    rng = np.random.default_rng(1)
    draw = lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32)
    drawn = {name: jax.tree.map(draw, player.params) for name, player in shapes.items()}
    return drawn, jnp.asarray(rng.normal(size=(K, D)), jnp.float32)


def state_of(tx=None, codebook="ema", average=False):
    """A state with these parameters, whatever its optimizer."""
    tx = optax.sgd(RATE) if tx is None else tx
    players, codes = params()
    own = dict(players)
    memory = {"counts": jnp.ones(K), "sums": codes, "codebook": codes}
    if codebook == "gradient":
        own["vq_vae"] = {**players["vq_vae"], "codebook": codes}
        memory = {"counts": jnp.ones(K)}
    stats = {"vq_vae": {"encoder": {}, "decoder": {}}, "prior": {}}
    made = {name: new_player(own[name], tx, stats[name]) for name in own}
    return new_state(made, own if average else {}, memory)


@functools.cache
def stepped(codebook="ema"):
    """(state before, state after, metrics) of one step on BATCH."""
    state = state_of(codebook=codebook)
    return state, *jax.jit(tiny(codebook=codebook).step)(state, BATCH, KEY)


def float64(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def assert_trees_close(actual, expected, rtol=1e-5, atol=1e-6):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=rtol, atol=atol), actual, expected)


def dense(layer, x):
    return x @ layer["kernel"] + layer["bias"]


def log_bernoulli(decoder, codes, x):
    """log p(x | codes), f64[B]."""
    logits = dense(decoder["Dense_0"], codes.reshape(len(codes), -1))
    return np.sum(x * special.log_expit(logits) + (1 - x) * special.log_expit(-logits), axis=1)


def chosen(encoder, codes, x=X):
    """z_e f64[B, T, D] and k i64[B, T]."""
    vectors = dense(encoder["Dense_0"], x.astype(np.float64)).reshape(-1, T, D)
    return vectors, np.square(vectors[:, :, None] - codes).sum(-1).argmin(-1)


def log_prior_table(prior_params):
    """[K, K], log p(k_1, k_2), by the network's own logits, which tests of their own have seen to be a distribution."""
    sequences = np.array(list(itertools.product(range(K), repeat=T)), np.int32)
    logits = np.asarray(TokenPrior(K, T, 3, 2).apply({"params": prior_params}, sequences), np.float64)
    each = np.take_along_axis(special.log_softmax(logits, axis=-1), sequences[..., None], axis=-1)[..., 0]
    return each.sum(axis=1).reshape(K, K)


@pytest.fixture(scope="module")
def truth():
    """The model in NumPy: p(x) by all codes, and the one term that the encoder chooses."""
    players, codes = params()
    vq, codes = float64(players["vq_vae"]), float64(codes)
    table = log_prior_table(players["prior"])
    pairs = list(itertools.product(range(K), repeat=T))
    joint = np.stack([table[pair] + log_bernoulli(vq["decoder"], codes[[pair] * len(X)], X) for pair in pairs])
    vectors, k = chosen(vq["encoder"], codes)
    assert set(k.ravel()) == set(range(K))
    terms = {
        "log_likelihood": log_bernoulli(vq["decoder"], codes[k], X),
        "prior_nll": -table[k[:, 0], k[:, 1]],
        "commitment": BETA * np.square(vectors - codes[k]).sum(axis=(1, 2)),
    }
    return special.logsumexp(joint, axis=0), terms, k


@pytest.mark.parametrize("codebook", ["ema", "gradient"])
def test_terms_of_every_example_are_those_of_the_chosen_codes(truth, codebook):
    _, expected, _ = truth
    terms = jax.jit(tiny(codebook=codebook).evaluate)(state_of(codebook=codebook), BATCH, KEY)
    distance = expected["commitment"] / BETA if codebook == "gradient" else 0.0
    expected = expected | {
        "kl": expected["prior_nll"],
        "elbo": expected["log_likelihood"] - expected["prior_nll"],
        "loss": expected["commitment"] - expected["log_likelihood"] + distance,
    }
    assert_trees_close(dict(terms), expected)


def test_the_bound_lies_below_the_probability_that_enumeration_gives(truth):
    evidence, _, _ = truth
    np.testing.assert_allclose(np.exp(evidence).sum(), 1.0, rtol=1e-6)  # of all 16 examples
    algorithm = tiny()
    assert algorithm.density == "bound"
    bound = np.asarray(jax.jit(algorithm.log_prob)(state_of(), BATCH, KEY), np.float64)
    # by what p(x) holds of the other eight pairs of codes
    assert np.all(bound < evidence - 1e-3) and np.exp(bound).sum() < 1.0


def test_without_a_density_there_is_no_log_prob():
    algorithm = tiny(likelihoods.bernoulli()._replace(normalized=False))
    assert algorithm.log_prob is None and algorithm.density == "none"


def numpy_objective(vq, codes, frozen, codebook):
    """The mean loss of the first player as a function of its parameters, what is stopped being held at `frozen`."""
    vectors_before, codes_before, k = frozen
    vectors, _ = chosen(vq["encoder"], codes_before)
    through = codes_before[k] + (vectors - vectors_before)  # straight-through: the change of z_e reaches the decoder
    loss = -log_bernoulli(vq["decoder"], through, X)
    loss = loss + BETA * np.square(vectors - codes_before[k]).sum(axis=(1, 2))
    if codebook == "gradient":
        loss = loss + np.square(vectors_before - codes[k]).sum(axis=(1, 2))
    return loss.mean()


def differences(function, tree, size=1e-5):
    """The gradient of a function of a tree of float64 arrays, by central differences."""
    leaves, structure = jax.tree.flatten(tree)
    gradients = [np.zeros_like(leaf) for leaf in leaves]
    for leaf, gradient in zip(leaves, gradients, strict=True):
        for index in np.ndindex(leaf.shape):
            centre, values = leaf[index], []
            for sign in (1, -1):
                leaf[index] = centre + sign * size
                values.append(function(tree))
            leaf[index] = centre
            gradient[index] = (values[0] - values[1]) / (2 * size)
    return jax.tree.unflatten(structure, gradients)


@pytest.mark.parametrize("codebook", ["ema", "gradient"])
def test_a_step_of_the_first_player_descends_the_loss_written_in_numpy(truth, codebook):
    _, expected, k = truth
    state, after, metrics = stepped(codebook)
    vq, codes = float64(state.players["vq_vae"].params), float64(params()[1])
    vectors, _ = chosen(vq["encoder"], codes)
    frozen = (vectors, codes.copy(), k)
    objective = lambda tree: numpy_objective(tree, tree.get("codebook", codes), frozen, codebook)
    by_hand = jax.tree.map(lambda p, g: p - RATE * g, vq, differences(objective, vq))
    assert_trees_close(dict(after.players["vq_vae"].params), by_hand)
    np.testing.assert_allclose(metrics["loss"], objective(vq), rtol=1e-5)
    np.testing.assert_allclose(metrics["elbo"], np.mean(expected["log_likelihood"] - expected["prior_nll"]), rtol=1e-5)
    assert int(after.step) == 1 and all(np.shape(value) == () for value in metrics.values())


def test_a_step_of_the_prior_descends_its_code_length(truth):
    _, expected, k = truth
    state, after, metrics = stepped()
    np.testing.assert_allclose(metrics["prior_nll"], expected["prior_nll"].mean(), rtol=1e-5)
    prior = TokenPrior(K, T, 3, 2)

    @jax.jit
    def code_length(prior_params):
        log_p = jax.nn.log_softmax(prior.apply({"params": prior_params}, jnp.asarray(k, jnp.int32)))
        return -jnp.mean(jnp.sum(jnp.take_along_axis(log_p, jnp.asarray(k)[..., None], axis=-1), axis=(1, 2)))

    before = state.players["prior"].params
    by_hand = jax.tree.map(lambda p, g: p - RATE * g, before, jax.grad(code_length)(before))
    assert_trees_close(dict(after.players["prior"].params), dict(by_hand))
    assert code_length(after.players["prior"].params) < code_length(before)


def counts_by_hand(k):
    return DECAY * np.ones(K) + (1 - DECAY) * np.bincount(k.ravel(), minlength=K)


def test_averages_follow_the_vectors_of_the_batch(truth):
    _, _, k = truth
    state, after, metrics = stepped()
    codes = float64(params()[1])
    vectors, _ = chosen(float64(state.players["vq_vae"].params)["encoder"], codes)
    counts = counts_by_hand(k)
    sums = DECAY * codes + (1 - DECAY) * np.stack([vectors[k == code].sum(axis=0) for code in range(K)])
    expected = {"counts": counts, "sums": sums, "codebook": sums / counts[:, None]}
    assert_trees_close(after.memory, expected, rtol=1e-4)
    np.testing.assert_array_equal(code_vectors(after), after.memory["codebook"])
    shares = np.bincount(k.ravel(), minlength=K) / k.size
    np.testing.assert_allclose(metrics["perplexity"], np.exp(special.entr(shares).sum()), rtol=1e-5)
    assert metrics["codes_used"] == 1.0 and metrics["codes_restarted"] == 0.0


@pytest.mark.parametrize("codebook", ["ema", "gradient"])
def test_codes_that_nothing_chooses_are_put_on_vectors_of_the_batch(codebook):
    algorithm = tiny(codebook=codebook, restart_below=0.5, decay=0.0)
    state = state_of(codebook=codebook)
    far = jnp.asarray([[0.0, 0.0], [90.0, 0.0], [0.0, 90.0]])
    if codebook == "ema":
        state = dataclasses.replace(state, memory={"counts": jnp.ones(K), "sums": far, "codebook": far})
    else:
        player = state.players["vq_vae"]
        player = dataclasses.replace(player, params={**player.params, "codebook": far})
        state = dataclasses.replace(state, players={**state.players, "vq_vae": player})
    after, metrics = jax.jit(algorithm.step)(state, BATCH, KEY)
    vectors, k = chosen(float64(state.players["vq_vae"].params)["encoder"], float64(far))
    assert np.all(k == 0)
    codes = np.asarray(code_vectors(after))
    for code in codes[1:]:
        assert np.abs(vectors.reshape(-1, D) - code).max(axis=1).min() < 1e-5
    assert np.any(codes[1] != codes[2])
    np.testing.assert_allclose(metrics["codes_restarted"], 2 / 3, rtol=1e-6)
    np.testing.assert_allclose(metrics["codes_used"], 1 / 3, rtol=1e-6)
    alike = len(X) * T / K
    np.testing.assert_allclose(after.memory["counts"], [len(X) * T, alike, alike], rtol=1e-6)
    if codebook == "ema":  # the averages go on from the new codes, not from the old sums
        np.testing.assert_allclose(after.memory["sums"][1:], alike * codes[1:], rtol=1e-5)
        np.testing.assert_allclose(codes[0], vectors.reshape(-1, D).mean(axis=0), rtol=1e-3, atol=1e-4)


def test_codes_are_the_nearest_and_decoding_takes_the_nearest_first(truth):
    _, _, k = truth
    algorithm = tiny()
    state = state_of()
    encoded = jax.jit(algorithm.encode)(state, BATCH, KEY)
    codes = np.asarray(code_vectors(state))
    np.testing.assert_array_equal(encoded, codes[k].reshape(len(X), T * D))
    decoded = jax.jit(algorithm.decode)(state, encoded, KEY)
    decoder = float64(state.players["vq_vae"].params)["decoder"]
    expected = special.expit(dense(decoder["Dense_0"], codes[k].reshape(len(X), -1).astype(np.float64)))
    np.testing.assert_allclose(decoded, expected, rtol=1e-4)
    apart = np.sqrt(np.square(codes[:, None] - codes).sum(-1) + 1e9 * np.eye(K)).min()
    nudged = encoded + 0.3 * apart * np.float32(np.tile([1.0, 0.0], T))  # less than half of the way to any other code
    np.testing.assert_array_equal(jax.jit(algorithm.decode)(state, nudged, KEY), decoded)


def test_generated_examples_follow_the_prior(truth):
    algorithm, num = tiny(), 20_000
    state = state_of()
    x = np.asarray(jax.jit(algorithm.generate)(state, {"x": jnp.zeros((num, 4))}, KEY))
    codes, decoder = np.asarray(params()[1], np.float64), float64(state.players["vq_vae"].params)["decoder"]
    pairs = np.array(list(itertools.product(range(K), repeat=T)))
    means = special.expit(dense(decoder["Dense_0"], codes[pairs].reshape(len(pairs), -1)))
    which = np.square(x[:, None] - means).sum(-1).argmin(1)
    np.testing.assert_allclose(x, means[which], atol=1e-5)
    p = np.exp(log_prior_table(params()[0]["prior"])).ravel()
    shares = np.bincount(which, minlength=K**T) / num
    assert np.ptp(p) > 0.05 and np.all(np.abs(shares - p) < 5 * np.sqrt(p * (1 - p) / num))


def test_everything_but_step_uses_the_average():
    averaged, raw = tiny(ema_decay=0.9, codebook="gradient"), tiny(codebook="gradient")
    before = state_of(codebook="gradient", average=True)
    state, _ = jax.jit(averaged.step)(before, BATCH, KEY)
    mix = lambda old, new: 0.9 * np.asarray(old) + 0.1 * np.asarray(new)
    expected = {name: jax.tree.map(mix, before.average[name], each.params) for name, each in state.players.items()}
    assert_trees_close(state.average, expected)
    moved = {n: dataclasses.replace(each, params=state.average[n]) for n, each in state.players.items()}
    as_params = dataclasses.replace(state, players=moved, average={})

    def seen(algorithm):
        abilities = (algorithm.evaluate, algorithm.generate)
        return jax.jit(lambda state: [ability(state, BATCH, KEY) for ability in abilities])

    plain = seen(raw)
    actual, others = seen(averaged)(state), plain(dataclasses.replace(state, average={}))
    assert_trees_close(actual, plain(as_params))
    for mine, other in zip(actual, others, strict=True):
        assert any(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (mine, other)), strict=True))


# Under the transformations that training uses


def test_a_scan_of_donated_steps_equals_steps_one_by_one():
    tx = optax.adam(0.01)
    algorithm, keys = tiny(tx=tx, ema_decay=0.5, restart_below=0.5), jax.random.split(KEY, 4)
    start = jax.tree.map(jnp.copy, state_of(tx, average=True))
    state, step, losses = start, jax.jit(algorithm.step), []
    for key in keys:
        state, terms = step(state, BATCH, key)
        losses.append(terms["loss"])
    many = jax.jit(lambda s: jax.lax.scan(lambda s, key: algorithm.step(s, BATCH, key), s, keys), donate_argnums=0)
    scanned, metrics = many(start)
    assert_trees_close(scanned, state, atol=1e-5)
    np.testing.assert_allclose(metrics["loss"], losses, rtol=1e-5)


def test_members_of_a_vmap_equal_their_solo_runs_and_take_traced_settings():
    def train(beta, decay, restart_below, rate):
        tx = optax.sgd(rate)
        algorithm = tiny(tx=tx, beta=beta, decay=decay, restart_below=restart_below)
        return algorithm.step(state_of(tx), BATCH, KEY)

    settings = ([BETA, 1.0], [DECAY, 0.5], [0.0, 0.9], [RATE, 0.01])
    together = jax.jit(jax.vmap(train))(*(jnp.asarray(each, jnp.float32) for each in settings))
    first, second = (jax.tree.map(lambda leaf, i=i: leaf[i], together) for i in (0, 1))
    assert_trees_close(first, stepped()[1:], atol=1e-5)
    assert np.any(np.asarray(second[0].memory["codebook"]) != np.asarray(first[0].memory["codebook"]))


def test_a_step_on_eight_devices_is_the_step_on_one():
    mesh = Mesh(np.array(jax.devices()), ("data",))
    split = jax.device_put(BATCH, NamedSharding(mesh, PartitionSpec("data")))
    everywhere = jax.device_put(state_of(), NamedSharding(mesh, PartitionSpec()))
    assert len(split["x"].sharding.device_set) == 8
    assert_trees_close(jax.jit(tiny().step)(everywhere, split, KEY), stepped()[1:], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "prior", "message"),
    [
        ({}, TokenPrior(1, T), "a codebook of 1 codes says nothing; at least 2 are needed"),
        ({"codebook": "kmeans"}, TokenPrior(K, T), "codebook is 'kmeans'; known: ema, gradient"),
        ({}, TokenPrior(K, 3), "the prior is over 3 tokens, the grid (2,) has 2"),
    ],
)
def test_what_cannot_be_built_is_one_clear_line(options, prior, message):
    tx = optax.sgd(RATE)
    with pytest.raises(InputError) as caught:
        vq_vae(Encoder(), Decoder(), likelihoods.bernoulli(), tx, prior, tx, grid=(T,), code_dim=D, **options)
    assert str(caught.value) == message
