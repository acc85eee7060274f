"""GANs: what each player is shown and what it learns from it, as told by networks that remember what they saw."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.metrics import roc_auc_score

from genlab.losses import adversarial
from genlab.models.gan import PENALTIES, AdversarialLoss, Regulariser, Replay, accuracy, gan
from genlab.models.judge import pack
from genlab.networks.conditional import WithLabels
from genlab.networks.discriminators import DCGANTrunk, DenseTrunk, Discriminator, MaxoutTrunk, Quadratic
from genlab.networks.generators import DCGANGenerator, DenseGenerator
from genlab.networks.resnet import ResNetGenerator, ResNetTrunk
from genlab.training import devices

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
IMAGES = {
    "x": RNG.uniform(size=(8, 4, 4, 1)).astype(np.float32), "label": np.array([0, 1, 2, 0, 1, 2, 2, 1], np.int32)
}  # fmt: skip
POINTS = {"x": RNG.normal(size=(8, 3)).astype(np.float32), "label": IMAGES["label"]}


def alone(loss):
    return lambda fake_logits, real_logits: loss(fake_logits)


LOSSES = {
    name: AdversarialLoss(
        getattr(adversarial, f"{name}_discriminator_loss"), alone(getattr(adversarial, f"{name}_generator_loss"))
    )
    for name in ("minimax", "non_saturating", "least_squares", "hinge", "wasserstein")
} | {
    name: AdversarialLoss(
        getattr(adversarial, f"{name}_discriminator_loss"), getattr(adversarial, f"{name}_generator_loss"), True
    )
    for name in ("relativistic", "relativistic_average")
}
NETWORKS = {
    "dense": lambda: (DenseGenerator((5,), (4, 4, 1), squash=True), DenseTrunk((5,), "layer")),
    "maxout": lambda: (DenseGenerator((5,), (4, 4, 1), squash=True), MaxoutTrunk((4,), 2)),
    "dcgan": lambda: (DCGANGenerator((3,), (4, 4, 1)), DCGANTrunk((3, 4))),
    "resnet": lambda: (ResNetGenerator((3,), (4, 4, 1)), ResNetTrunk((3,))),
}
REGULARISERS = {
    "none": Regulariser(),
    "gradient": Regulariser("gradient", 10.0),
    "r1": Regulariser("r1", 5.0),
    "spectral": Regulariser(spectral_norm=True),
    "clip": Regulariser(clip=0.01),
}
TRIED = [  # every network and every regulariser
    ("minimax", "resnet", "none"), ("least_squares", "maxout", "r1"), ("hinge", "dcgan", "spectral"),
    ("wasserstein", "dense", "gradient"), ("relativistic_average", "maxout", "clip"),
]  # fmt: skip


def make(loss="non_saturating", network="maxout", regulariser="none", **options):
    generator, trunk = NETWORKS[network]()
    given: dict[str, Any] = {"latent_dim": 2, "regulariser": REGULARISERS[regulariser]} | options
    return gan(generator, Discriminator(trunk), LOSSES[loss], optax.sgd(0.1), optax.sgd(0.1), **given)


def drawn(algorithm, batch):
    """A State at step 0 of random numbers: to compile `init` takes longer than all else."""
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return np.zeros(leaf.shape, leaf.dtype)
        return rng.uniform(-0.5, 0.5, leaf.shape).astype(np.float32) + (path[-1] == jax.tree_util.DictKey("var"))

    return jax.tree.map_with_path(draw, jax.eval_shape(algorithm.init, KEY, batch))


def described(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_step_of_any_game_leaves_a_state_made_as_it_was(network):
    """A loss sees nothing but logits, so that it is enough to try them all with one network and regulariser."""
    games = [("non_saturating", name) for name in (REGULARISERS if network == "maxout" else ("gradient", "spectral"))]
    for loss, regulariser in games + [(name, "none") for name in LOSSES if network == "maxout"]:
        algorithm = make(loss, network, regulariser, ema_decay=0.9)
        state = jax.eval_shape(algorithm.init, KEY, IMAGES)
        after, metrics = jax.eval_shape(algorithm.step, state, IMAGES, KEY)
        assert described(after) == described(state), (loss, regulariser)
        assert {(leaf.shape, leaf.dtype) for leaf in metrics.values()} == {((), jnp.dtype("float32"))}
        want = {"disc_loss", "gen_loss", "real_logit", "fake_logit", "accuracy"}
        assert metrics.keys() == want | ({"penalty"} if regulariser in PENALTIES else set())


@pytest.mark.parametrize(("loss", "network", "regulariser"), TRIED)
def test_a_step_is_finite_and_moves_both_players(loss, network, regulariser):
    algorithm = make(loss, network, regulariser)
    state = drawn(algorithm, IMAGES)
    after, metrics = jax.jit(algorithm.step)(state, IMAGES, KEY)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((after, metrics)))
    flat = lambda state, name: np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(state.players[name].params)])
    for name in ("gen", "disc"):
        assert np.mean(flat(state, name) != flat(after, name)) > 0.5
    clipped = np.max(np.abs(flat(after, "disc"))) <= np.float32(0.01)
    assert clipped == (regulariser == "clip")
    if regulariser == "spectral":  # one power iteration for the real batch and one for the fake
        params, vectors = (state.players["disc"].params, state.players["disc"].stats["spectral"])
        for name, u in vectors.items():
            kernel = functools.reduce(lambda tree, part: tree[part], name.split("/"), params)
            matrix = np.float64(kernel).reshape(-1, kernel.shape[-1])
            u = np.linalg.matrix_power(matrix.T @ matrix, 2) @ u
            found = after.players["disc"].stats["spectral"][name]
            np.testing.assert_allclose(found, u / np.linalg.norm(u), rtol=1e-3, atol=1e-5)


# Networks that remember: a batch passes through each of them into its stats.


class Told(nn.Module):
    """A generator of one trained example for each class, if it is told of any, that notes its codes."""

    shape: tuple[int, ...]
    num_classes: int = 1

    @nn.compact
    def __call__(self, codes, label=None, train=False):
        noted = self.variable("seen", "codes", jnp.zeros, codes.shape)
        if train:
            noted.value = codes
        table = self.param("table", nn.initializers.zeros, (self.num_classes, *self.shape))
        return table[jnp.zeros(codes.shape[0], jnp.int32) if label is None else label]


class Witness(nn.Module):
    """A discriminator, linear in its input, that notes the last two batches it was shown and their labels."""

    labels: int = 0

    @nn.compact
    def __call__(self, x, label=None, train=False):
        noted = self.variable("seen", "x", jnp.zeros, (2, *x.shape))
        if train:
            noted.value = jnp.stack([noted.value[1], x])
        if label is not None:
            told = self.variable("seen", "label", jnp.zeros, (2, *label.shape), jnp.int32)
            if train:
                told.value = jnp.stack([told.value[1], label])
        weights = self.param("weights", nn.initializers.zeros, x.shape[1:])
        return jnp.sum(weights * x, axis=range(1, x.ndim))


def witnessed(batch=POINTS, num_classes=1, gen_rate=0.0, disc_rate=0.0, loss="wasserstein", **options):
    """An algorithm of those two, its first State, and its step, compiled."""
    shape = batch["x"].shape[1:]
    given: dict[str, Any] = {"latent_dim": 2, "images": batch["x"].ndim == 4, "conditional": num_classes > 1} | options
    generator = Told(shape, num_classes)
    algorithm = gan(generator, Witness(), LOSSES[loss], optax.sgd(gen_rate), optax.sgd(disc_rate), **given)
    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(algorithm.init, KEY, batch))
    table = np.arange(num_classes * np.prod(shape), dtype=np.float32).reshape(num_classes, *shape) / 100
    state.players["gen"].params["table"] = table
    state.players["disc"].params["weights"] += 1
    return algorithm, state, jax.jit(algorithm.step)


def test_the_discriminator_sees_images_in_minus_one_to_one_and_what_the_generator_made():
    algorithm, state, step = witnessed(IMAGES, 3)
    state, metrics = step(state, IMAGES, KEY)
    seen = state.players["disc"].stats["seen"]
    np.testing.assert_allclose(seen["x"][0], 2 * IMAGES["x"] - 1, atol=1e-6)
    table = state.players["gen"].params["table"]
    np.testing.assert_array_equal(seen["x"][1], table[IMAGES["label"]])
    np.testing.assert_array_equal(seen["label"], [IMAGES["label"][:, None]] * 2)
    # and what it made is given out in [0, 1]
    np.testing.assert_allclose(algorithm.generate(state, IMAGES, KEY), 0.5 + 0.5 * table[IMAGES["label"]], atol=1e-6)
    real, fake = np.asarray(seen["x"], np.float64).sum((2, 3, 4))
    right = 0.5 * np.mean(real > 0) + 0.5 * np.mean(fake < 0)
    want = {"disc_loss": (fake - real).mean(), "gen_loss": -fake.mean(), "real_logit": real.mean(),
            "fake_logit": fake.mean(), "accuracy": right}  # fmt: skip
    assert jax.tree.map(float, metrics) == pytest.approx(want, rel=1e-4, abs=1e-5)
    assert 0 < right < 1


def test_points_are_seen_as_they_are():
    algorithm, state, step = witnessed()
    state, metrics = step(state, POINTS, KEY)
    seen = state.players["disc"].stats["seen"]["x"]
    np.testing.assert_array_equal(seen, [POINTS["x"], np.tile(np.float32([[0, 0.01, 0.02]]), (8, 1))])
    np.testing.assert_array_equal(algorithm.generate(state, POINTS, KEY), seen[1])
    assert "gen_mean" not in metrics  # for one dimension alone


def test_in_one_dimension_the_players_can_be_plotted():
    batch = {"x": np.float32([[1.0], [2.0], [6.0]])}
    algorithm = gan(
        DenseGenerator((), (1,), kernel_init=nn.initializers.ones), Discriminator(Quadratic()), LOSSES["wasserstein"],
        optax.sgd(0.0), optax.sgd(0.0), latent_dim=1, images=False,
    )  # fmt: skip
    state = drawn(algorithm, batch)
    kernel = state.players["disc"].params["Dense_0"]["kernel"][:, 0]
    state.players["gen"].params["Dense_0"] |= {"bias": np.float32([2.5]), "kernel": np.zeros((1, 1), np.float32)}
    _, metrics = jax.jit(algorithm.step)(state, batch, KEY)
    assert metrics["gen_mean"] == pytest.approx(2.5)
    assert metrics["disc_slope"] == pytest.approx(float(kernel[0] + 2 * 3.0 * kernel[1]), rel=1e-5)  # a + 2 b mean x


@pytest.mark.parametrize("noise", ["normal", "uniform"])
def test_noise_is_of_its_kind_and_new_every_time(noise):
    batch = {"x": np.zeros((4000, 1), np.float32)}
    _, state, step = witnessed(batch, noise=noise)
    codes = np.stack([step(state, batch, jax.random.key(i))[0].players["gen"].stats["seen"]["codes"] for i in range(2)])
    assert codes.shape == (2, 4000, 2) and np.corrcoef(codes.reshape(2, -1))[0, 1] == pytest.approx(0, abs=0.05)
    assert codes.mean() == pytest.approx(0, abs=0.03)
    assert codes.var() == pytest.approx({"normal": 1, "uniform": 1 / 3}[noise], rel=0.05)
    assert (np.abs(codes).max() <= 1) == (noise == "uniform") and codes.min() < -0.99


def test_no_buffer_and_a_buffer_that_is_not_looked_at_give_one_run_bit_for_bit():
    """The generator's codes are noted, so that its draws are compared too."""
    runs = []
    for replay in (Replay(0), Replay(12, 0.0)):
        _, state, step = witnessed(POINTS, 3, 0.1, 0.1, replay_buffer=replay)
        for i in range(3):
            state, metrics = step(state, POINTS, jax.random.key(i))
        runs.append((state, metrics))
    for state, metrics in runs[1:]:
        jax.tree.map(np.testing.assert_array_equal, (state.players, metrics), (runs[0][0].players, runs[0][1]))
    assert runs[0][0].memory == {} and runs[1][0].memory.count == 24


def test_a_buffer_holds_what_the_generator_made_in_its_order_and_the_labels():
    """Three classes whose examples move at every step: which step and which label an example is of can be told."""
    _, state, step = witnessed(POINTS, 3, gen_rate=0.5, replay_buffer=Replay(20, 0.5))
    made, labels = [], []
    for i in range(4):
        batch = {"x": POINTS["x"], "label": np.roll(POINTS["label"], i)}
        made.append(np.asarray(state.players["gen"].params["table"])[batch["label"]])
        labels.append(batch["label"])
        state, _ = step(state, batch, jax.random.key(i))
    made, labels = np.concatenate(made), np.concatenate(labels)
    assert state.memory.count == 32
    for number in range(12, 32):  # the last 20 of 32
        np.testing.assert_array_equal(state.memory.examples["x"][number % 20], made[number])
        assert state.memory.examples["label"][number % 20] == labels[number]


def test_the_discriminator_sees_its_share_of_old_examples_with_their_labels():
    _, state, step = witnessed(POINTS, 3, gen_rate=0.5, replay_buffer=Replay(64, 0.25))
    tables, old = [], 0
    for i in range(8):
        tables.append(np.asarray(state.players["gen"].params["table"]))
        state, _ = step(state, POINTS, jax.random.key(i))
        seen = jax.tree.map(np.asarray, state.players["disc"].stats["seen"])
        fakes, labels = seen["x"][1], seen["label"][1][:, 0]
        np.testing.assert_array_equal(fakes[2:], tables[-1][POINTS["label"][2:]])  # six of eight are new
        np.testing.assert_array_equal(labels[2:], POINTS["label"][2:])
        for fake, label in zip(fakes[:2], labels[:2], strict=True):
            assert any(np.array_equal(fake, table[label]) for table in tables)
            old += not np.array_equal(fake, tables[-1][label])
    assert old >= 6  # of 16 draws, most of them from a buffer that is mostly old
    # the generator learns from what it made now: all of it moves along D's slope of 1 for its share of the labels
    share = np.bincount(POINTS["label"]) / 8
    np.testing.assert_allclose(tables[1] - tables[0], np.tile(0.5 * share[:, None], 3), rtol=1e-4)


def test_the_discriminator_learns_from_what_it_is_shown():
    """Of D = w x under the Wasserstein loss the gradient is mean fake - mean real."""
    _, state, step = witnessed(disc_rate=0.3)
    state, _ = step(state, POINTS, KEY)
    want = 1 - 0.3 * (np.array([0, 0.01, 0.02]) - POINTS["x"].mean(0))
    np.testing.assert_allclose(state.players["disc"].params["weights"], want, rtol=1e-5)


@pytest.mark.parametrize(
    ("penalty", "slope"), [("r1", lambda norm: 2.0), ("gradient", lambda norm: 2 * (norm - 1) / norm)]
)
def test_the_penalty_has_its_weight(penalty, slope):
    """Of a linear critic both are functions of |w|: |w|^2, and (|w| - 1)^2."""
    _, state, step = witnessed(disc_rate=0.1, regulariser=Regulariser(penalty, 0.7))
    state, metrics = step(state, POINTS, KEY)
    norm = np.sqrt(3)
    want = 1 - 0.1 * (np.array([0, 0.01, 0.02]) - POINTS["x"].mean(0) + 0.7 * slope(norm))
    np.testing.assert_allclose(state.players["disc"].params["weights"], want, rtol=1e-5)
    assert metrics["penalty"] == pytest.approx({"r1": 3.0, "gradient": (norm - 1) ** 2}[penalty], rel=1e-5)


@pytest.mark.parametrize("shape", [(6, 5), (6, 2, 3, 2)])
def test_packs_are_examples_side_by_side_in_their_channels(shape):
    x = RNG.normal(size=shape)
    np.testing.assert_array_equal(pack(x, 1), x)
    np.testing.assert_array_equal(
        pack(jnp.asarray(x, jnp.float32), 3), [np.concatenate(x[i : i + 3].astype(np.float32), -1) for i in (0, 3)]
    )


def test_packs_of_real_and_of_fake_examples_are_judged_with_their_labels():
    _, state, step = witnessed(IMAGES, 3, packing=2)
    state, _ = step(state, IMAGES, KEY)
    seen, table = state.players["disc"].stats["seen"], np.asarray(state.players["gen"].params["table"])
    for i in range(4):
        rows = slice(2 * i, 2 * i + 2)
        np.testing.assert_allclose(seen["x"][0][i], np.concatenate(2 * IMAGES["x"][rows] - 1, -1), atol=1e-6)
        np.testing.assert_array_equal(seen["x"][1][i], np.concatenate(table[IMAGES["label"][rows]], -1))
        np.testing.assert_array_equal(seen["label"][:, i], [IMAGES["label"][rows]] * 2)


@pytest.mark.parametrize("size", [6, 5])
def test_evaluation_gives_an_example_its_packs_numbers(size):
    """Where packs do not make up the batch its first examples come again."""
    algorithm = gan(
        DenseGenerator((), (3,)), Discriminator(Quadratic()), LOSSES["non_saturating"], optax.sgd(0.1), optax.sgd(0.1),
        latent_dim=2, images=False, packing=2,
    )  # fmt: skip
    state = drawn(algorithm, POINTS)
    x = POINTS["x"][:size]
    found = jax.jit(algorithm.evaluate)(state, {"x": x}, KEY)
    assert {values.shape for values in found.values()} == {(size,)}
    head = jax.tree.map(np.float64, state.players["disc"].params["Dense_0"])
    for i in range(size):
        first = i - i % 2
        together = np.concatenate([x[first], x[(first + 1) % size]])
        logit = np.concatenate([together, together**2]) @ head["kernel"][:, 0] + head["bias"][0]
        assert found["real_logit"][i] == pytest.approx(logit, rel=1e-4, abs=1e-6)
    real, fake = np.float64(found["real_logit"]), np.float64(found["fake_logit"])
    np.testing.assert_allclose(found["disc_loss"], np.log1p(np.exp(-real)) + np.log1p(np.exp(fake)), rtol=1e-5)
    np.testing.assert_allclose(found["gen_loss"], np.log1p(np.exp(-fake)), rtol=1e-5)
    np.testing.assert_allclose(found["accuracy"], 0.5 * (real > 0) + 0.5 * (fake < 0))


def test_label_smoothing_reaches_the_loss():
    """-(1 - s) log D(real) - s log(1 - D(real)) is s r more."""
    smooth = LOSSES["non_saturating"]._replace(
        discriminator=functools.partial(adversarial.non_saturating_discriminator_loss, label_smoothing=0.1)
    )
    _, state, step = witnessed(loss="non_saturating")
    plain = step(state, POINTS, KEY)[1]["disc_loss"]
    algorithm = gan(Told((3,)), Witness(), smooth, optax.sgd(0.1), optax.sgd(0.1), latent_dim=2, images=False)
    smoothed = jax.jit(algorithm.step)(state, POINTS, KEY)[1]["disc_loss"]
    real, fake = POINTS["x"].sum(1, dtype=np.float64), 0.03
    assert plain == pytest.approx(np.mean(np.log1p(np.exp(-real)) + np.log1p(np.exp(fake))), rel=1e-5)
    assert smoothed - plain == pytest.approx(0.1 * real.mean(), rel=1e-4)


def test_real_and_fake_images_are_augmented_wherever_the_discriminator_looks():
    """A square is covered by black, -1, a place of its own in every image; what is covered has no gradient."""
    batch = {"x": np.ones((32, 4, 4, 1), np.float32), "label": np.zeros(32, np.int32)}
    _, state, step = witnessed(batch, gen_rate=1.0, augment=("cutout",))
    after, metrics = step(state, batch, KEY)
    real, fake = np.asarray(after.players["disc"].stats["seen"]["x"])
    before = np.asarray(state.players["gen"].params["table"][0])
    covered = real == -1
    np.testing.assert_array_equal(real, np.where(covered, -1, 1))
    np.testing.assert_array_equal(fake, np.where(fake == -1, -1, np.broadcast_to(before, fake.shape)))
    for mask in (covered, fake == -1):
        assert {1, 2, 4} >= set(mask.sum((1, 2, 3)).tolist()) and len(np.unique(mask, axis=0)) > 4
    assert np.any(covered != (fake == -1))
    # D's slope is 1 where an image is not covered: the generator's step is the share of those, at most 1 - 1 / 32
    moved = np.asarray(after.players["gen"].params["table"][0]) - before
    assert np.all(moved < 0.99) and 0.6 < moved.mean() < 0.95
    np.testing.assert_allclose(32 * moved, np.round(32 * moved), atol=1e-3)
    assert metrics["real_logit"] == pytest.approx(real.sum((1, 2, 3)).mean(), rel=1e-5)


def test_the_class_that_is_asked_for_is_generated():
    algorithm, state, _ = witnessed(POINTS, 3)
    asked = {"x": np.zeros((5, 3), np.float32), "label": np.array([2, 2, 0, 1, 0], np.int32)}
    np.testing.assert_array_equal(
        algorithm.generate(state, asked, KEY), state.players["gen"].params["table"][asked["label"]]
    )
    assert algorithm.decode is None


def test_a_generator_of_the_library_is_told_the_class():
    generator = WithLabels(DenseGenerator((), (3,)), 3)
    discriminator = Discriminator(Quadratic(), "projection", 3)
    tx = optax.sgd(0.1)
    algorithm = gan(generator, discriminator, LOSSES["hinge"], tx, tx, latent_dim=2, images=False, conditional=True)
    state = drawn(algorithm, POINTS)
    show = jax.jit(algorithm.generate)
    first, other = (show(state, {"x": POINTS["x"], "label": np.full(8, label, np.int32)}, KEY) for label in (0, 1))
    assert np.all(np.max(np.abs(first - other), axis=1) > 0)  # with the same noise
    after, _ = jax.jit(algorithm.step)(state, POINTS, KEY)
    moved = after.players["disc"].params["Embed_0"]["embedding"] - state.players["disc"].params["Embed_0"]["embedding"]
    assert np.all(np.any(moved != 0, axis=1))


def test_what_is_shown_is_made_by_the_average_of_parameters_and_of_statistics():
    algorithm = make(ema_decay=0.75)
    state = drawn(algorithm, IMAGES)
    step, decode = jax.jit(algorithm.step), jax.jit(algorithm.decode)
    want = state.average
    for i in range(3):
        state, _ = step(state, IMAGES, jax.random.key(i))
        latest = {"gen": state.players["gen"].params, "gen_stats": state.players["gen"].stats}
        decay = min(0.75, (1 + i) / (10 + i))
        want = jax.tree.map(lambda mean, new, d=decay: d * mean + (1 - d) * np.asarray(new), want, latest)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), state.average, want)

    codes = RNG.normal(size=(5, 2)).astype(np.float32)
    params, stats = want["gen"], want["gen_stats"]["batch_stats"]["BatchNorm_0"]
    norm, last = params["BatchNorm_0"], params["Dense_1"]
    hidden = (codes @ params["Dense_0"]["kernel"] - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
    hidden = np.maximum(hidden * norm["scale"] + norm["bias"], 0)
    images = 0.5 + 0.5 * np.tanh(hidden @ last["kernel"] + last["bias"]).reshape(5, 4, 4, 1)
    np.testing.assert_allclose(decode(state, codes, KEY), images, rtol=1e-4, atol=1e-5)

    # and of noise N(0, I), whatever the raw weights are
    players = {
        name: player.replace(params=jax.tree.map(np.zeros_like, jax.device_get(player.params)))
        for name, player in state.players.items()
    }
    shown = jax.jit(algorithm.generate)(state.replace(players=players), IMAGES, KEY)
    np.testing.assert_allclose(shown[:5], decode(state, jax.random.normal(KEY, (8, 2))[:5], KEY), atol=1e-6)


def test_an_average_starts_as_a_copy():
    algorithm = gan(Told((3,)), Witness(), LOSSES["hinge"], optax.sgd(0.1), optax.sgd(0.1), latent_dim=2, images=False,
                    ema_decay=0.9)  # fmt: skip
    state = jax.jit(algorithm.init)(KEY, POINTS)
    gen = state.players["gen"]
    jax.tree.map(np.testing.assert_array_equal, state.average, {"gen": gen.params, "gen_stats": gen.stats})
    # that donation does not free twice
    jax.jit(lambda state: state, donate_argnums=0)(state)


def test_without_an_average_what_is_shown_is_made_by_the_generator_as_it_is():
    algorithm, state, _ = witnessed(gen_rate=0.1)
    assert state.average == {} and algorithm.density == "implicit"
    assert algorithm.encode is None and algorithm.log_prob is None
    np.testing.assert_array_equal(algorithm.decode(state, jnp.zeros((2, 2)), KEY), np.float32([[0, 0.01, 0.02]] * 2))


def assert_close(left, right, tolerance=1e-5):
    """Every array, to `tolerance` times its largest number, or times one where they are all smaller."""
    for (path, a), b in zip(jax.tree.leaves_with_path(left), jax.tree.leaves(right), strict=True):
        scale = max(1.0, float(np.max(np.abs(a), initial=0)))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale, err_msg=jax.tree_util.keystr(path))


def test_members_are_the_solo_runs_of_their_hyper_parameters():
    """A learning rate, the clip and the decay are traced; where they are zero they do nothing."""
    hparams = {name: jnp.float32(values) for name, values in
               {"rate": [0.01, 0.1], "clip": [0.05, 0.4], "decay": [0.0, 0.9]}.items()}  # fmt: skip

    def step(hparams, state, key):
        tx = optax.sgd(hparams["rate"])
        generator = DenseGenerator((), (3,))
        algorithm = gan(
            generator, Discriminator(DenseTrunk((3,), activation=jnp.tanh)), LOSSES["non_saturating"], tx, tx,
            latent_dim=2, images=False, regulariser=Regulariser(clip=hparams["clip"]), ema_decay=hparams["decay"],
            replay_buffer=Replay(10),
        )  # fmt: skip
        if state is None:
            return drawn(algorithm, POINTS)
        return algorithm.step(state, POINTS, key)

    first = step(jax.tree.map(lambda leaf: leaf[1], hparams), None, KEY)
    together, solo = jax.jit(jax.vmap(step)), jax.jit(step)
    states, alone = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), first), [first, first]
    for i in range(5):
        keys = jax.random.split(jax.random.key(i), 2)
        states, _ = together(hparams, states, keys)
        alone = [solo(jax.tree.map(lambda leaf, m=m: leaf[m], hparams), alone[m], keys[m])[0] for m in range(2)]
    for m in range(2):
        assert_close(jax.tree.map(lambda leaf, m=m: leaf[m], states), alone[m])
    for state, limit, averaged in zip(alone, (0.05, 0.4), (False, True), strict=True):
        assert max(np.max(np.abs(leaf)) for leaf in jax.tree.leaves(state.players["disc"].params)) <= np.float32(limit)
        latest, mean = (tree["Dense_0"]["kernel"] for tree in (state.players["gen"].params, state.average["gen"]))
        assert (np.max(np.abs(latest - mean)) > 1e-6) == averaged


ACROSS_THE_BATCH = {
    "batch norm, minibatch layers and a buffer": (
        DCGANGenerator((3,), (4, 4, 1)),
        {"trunk": DCGANTrunk((3,)), "num_kernels": 2, "stddev_group": 4},
        {"replay_buffer": Replay(24, 0.5)},
    ),
    "packs with labels, spectral norm and two steps of the critic": (
        WithLabels(DenseGenerator((3,), (4, 4, 1)), 3),
        {"trunk": DenseTrunk((3,), "batch"), "conditioning": "projection", "num_classes": 3},
        {"conditional": True, "packing": 2, "regulariser": REGULARISERS["spectral"], "disc_steps": 2,
         "ema_decay": 0.9},
    ),
}  # fmt: skip


@pytest.mark.parametrize("game", ACROSS_THE_BATCH)
def test_eight_devices_take_the_step_of_one(game):
    """Whatever looks across the batch: statistics, minibatch layers, the buffer, packs."""
    rng = np.random.default_rng(1)
    batch = {"x": rng.uniform(size=(32, 4, 4, 1)).astype(np.float32), "label": rng.integers(0, 3, 32).astype(np.int32)}
    tx, (generator, judge, options) = optax.sgd(0.1), ACROSS_THE_BATCH[game]
    algorithm = gan(
        generator, Discriminator(**judge), LOSSES["non_saturating"], tx, tx, latent_dim=2, **options
    )  # fmt: skip
    state = drawn(algorithm, batch)
    step = jax.jit(algorithm.step)
    mesh = devices.make_mesh(8, "data")
    placed = devices.put(state, devices.on_all(mesh)), devices.put(batch, devices.split(mesh))
    assert placed[1]["x"].addressable_shards[0].data.shape == (4, 4, 4, 1)
    together = step(*placed, KEY)
    assert len(together[1]["disc_loss"].sharding.device_set) == 8
    assert_close(jax.device_get(together), jax.device_get(step(state, batch, KEY)))


# Of one Gaussian everything is known: an affine generator has its mean and its scale, a discriminator that is linear in
# x and x^2 tells when either is wrong.


@functools.cache
def recovered(dynamics, num_steps=6_000):
    """Means and scales [num_steps] of the generator on its way to N(1, 1/4)."""
    tx = optax.sgd(0.1)
    algorithm = gan(
        DenseGenerator((), (1,), kernel_init=nn.initializers.ones), Discriminator(Quadratic()), LOSSES["wasserstein"],
        tx, tx, latent_dim=1, images=False, dynamics=dynamics,
    )  # fmt: skip

    def step(state, key):
        key_data, key_step = jax.random.split(key)
        batch = {"x": 1.0 + 0.5 * jax.random.normal(key_data, (512, 1))}
        state, _ = algorithm.step(state, batch, key_step)
        return state, state.players["gen"].params["Dense_0"]

    @jax.jit
    def run():
        state = algorithm.init(KEY, {"x": jnp.zeros((512, 1))})
        return jax.lax.scan(step, state, jax.random.split(KEY, num_steps))[1]

    path = run()
    return np.asarray(path["bias"][:, 0]), np.asarray(path["kernel"][:, 0, 0])


def test_extragradient_recovers_a_gaussian():
    mean, scale = recovered("extragradient")
    assert np.all(np.abs(mean[-500:] - 1) < 0.15) and np.all(np.abs(np.abs(scale[-500:]) - 0.5) < 0.15)
    assert mean[0] == pytest.approx(0, abs=0.1)


def test_simultaneous_descent_goes_round_it():
    mean, _ = recovered("simultaneous")
    assert np.std(mean[-1_000:]) > 0.2 and not np.any(np.isnan(mean))


@pytest.mark.parametrize("shift", [0.0, 50.0, -50.0])
def test_accuracy_by_comparison_is_the_area_under_the_roc_curve_whatever_the_shift(shift):
    real, fake = RNG.normal(1, 1, 30).astype(np.float32), RNG.normal(size=30).astype(np.float32)
    fake[:3] = real[:3]  # ties
    found = accuracy(jnp.asarray(real + shift), jnp.asarray(fake + shift), None)
    labels = np.repeat([1, 0], 30)
    assert np.mean(found) == pytest.approx(roc_auc_score(labels, np.concatenate([real, fake])), abs=1e-4)
    one = np.mean([(real[5] > other) + 0.5 * (real[5] == other) for other in fake])
    other = np.mean([(fake[5] < each) + 0.5 * (fake[5] == each) for each in real])
    assert found[5] == pytest.approx(0.5 * (one + other), abs=1e-5)


def test_accuracy_is_by_the_threshold_of_the_loss():
    real, fake = jnp.array([1.1, 0.9, 0.4]), jnp.array([0.1, -0.1, 0.6])
    np.testing.assert_array_equal(accuracy(real, fake, 0.5), [1, 1, 0])
    np.testing.assert_array_equal(accuracy(real, fake, 0.0), [0.5, 1, 0.5])
