"""Each GAN recipe builds and keeps the shape of its state; losses by hand; what cannot go together is one line."""

import dataclasses
import itertools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import gan as recipes
from experiments.assembly import assemble
from experiments.checks import check
from experiments.gan import build, optimizers
from experiments.generation import check_extractor
from experiments.members import with_fields
from genlab import data
from genlab.errors import InputError
from genlab.evaluation.card import count_parameters

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
SHAPES = {"ring": (2,), "grid": (2,), "gaussian": (1,), "stacked_mnist": (28, 28, 3)}
TINY = {"batch_size": 12, "model.hidden": (3,), "model.disc_hidden": (3,), "model.channels": (2, 4),
        "model.latent_dim": 2}  # fmt: skip


def dataset(shape=(8, 8, 1), num=24, labels=True):
    """Random pixels, or points, in the place of the data that a recipe names."""

    def split():
        x = RNG.integers(0, 256, (num, *shape), dtype=np.uint8) if len(shape) == 3 else RNG.normal(size=(num, *shape))
        found = {"x": x if len(shape) == 3 else x.astype(np.float32)}
        return found | ({"label": np.arange(num, dtype=np.int32) % 10} if labels else {})

    return data.Dataset("fake", split(), split(), split(), 10 if labels else 0, None)


def configured(variant, **changes):
    """A recipe of tiny networks; `changes` by name, a dot written as two underscores."""
    config = recipes.get_config(variant)
    config.update_from_flattened_dict(TINY | {name.replace("__", "."): value for name, value in changes.items()})
    return config


def shapes_of(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def batch_of(config, given):
    few = jax.tree.map(lambda column: jnp.asarray(np.resize(column, (config.batch_size, *column.shape[1:]))),
                       given.train)  # fmt: skip
    return data.prepare(few)


def keeps_its_state(config, given):
    """The algorithm, its state and what a step tells, as shapes; the step must leave the state's as it was."""
    algorithm, batch = build(config, given), batch_of(config, given)
    state = jax.eval_shape(algorithm.init, KEY, batch)
    after, metrics = jax.eval_shape(algorithm.step, state, batch, KEY)
    assert shapes_of(after) == shapes_of(state)
    assert all(value.shape == () for value in metrics.values())
    return algorithm, state, metrics


# Recipes


def affine(*widths):
    """Parameters of a dense stack of these widths."""
    return sum((inputs + 1) * outputs for inputs, outputs in itertools.pairwise(widths))


NUM_PARAMETERS = {
    # by layer; kernels before a normalisation have no bias, its scale and offset instead
    "small": 100 * 16 * 64 + 2 * 64 + 25 * 64 * 32 + 2 * 32 + 25 * 32 * 16 + 2 * 16 + 25 * 16 + 1
    + 25 * 16 + 16 + 25 * 16 * 32 + 2 * 32 + 25 * 32 * 64 + 2 * 64 + affine(16 * 64, 1),
    "r1": 100 * 16 * 64 + 2 * 64 + 25 * 64 * 32 + 2 * 32 + 25 * 32 * 16 + 2 * 16 + 25 * 16 + 1
    + 25 * 16 + 16 + 25 * 16 * 32 + 32 + 25 * 32 * 64 + 64 + affine(16 * 64, 1),
    "ring": 2 * 400 + 3 * 400 * 400 + 4 * 2 * 400 + affine(400, 2)
    + affine(2, 1000) + 2 * affine(200, 1000) + affine(200, 1),
    "gaussian": affine(1, 1) + affine(2, 1),  # x and x^2 are looked at
    "bilinear": 2,
}  # fmt: skip


ALIKE = {"mnist": "small", "mnist_conditional": "conditional", "grid": "ring"}  # of one game, on other data, or wider


@pytest.mark.parametrize("variant", sorted(set(recipes.VARIANTS) - set(ALIKE)))
def test_a_variant_builds_and_its_step_keeps_the_state_of_a_population(variant):
    """As shapes: two members' step has the state of two, at rates of their own."""
    config = recipes.get_config(variant)
    check(config)
    given = dataset(SHAPES.get(config.data.name, (28, 28, 1)), num=512)

    def member(rate, key, batch):
        algorithm = build(with_fields(config, {"optimizer.learning_rate": rate}), given)
        state = algorithm.init(key, batch)
        return state, algorithm.step(state, batch, key)

    algorithm, batch = build(config, given), batch_of(config, given)
    together = jax.vmap(member, in_axes=(0, 0, None))
    states, (after, metrics) = jax.eval_shape(together, jnp.ones(2), jax.random.split(KEY, 2), batch)
    assert shapes_of(after) == shapes_of(states) and after.step.shape == (2,)
    assert {value.shape for value in metrics.values()} == {(2,)}
    state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), states)
    if variant in NUM_PARAMETERS:
        assert count_parameters(state) == NUM_PARAMETERS[variant]
    assert bool(state.average) == (config.ema_decay > 0)
    if config.model.network == "bilinear":
        assert algorithm.generate is None and {"x", "y", "distance"} <= set(metrics)
        return
    assert {"disc_loss", "gen_loss", "accuracy", "real_logit", "fake_logit"} <= set(metrics)
    assert ("penalty" in metrics) == (config.model.penalty != "none")
    assert (algorithm.decode is None) == (config.model.conditioning != "none")
    assert jax.eval_shape(algorithm.generate, state, batch, KEY).shape == batch["x"].shape


@pytest.mark.parametrize("variant", ALIKE)
def test_a_variant_of_other_data_is_the_same_game(variant):
    config, other = recipes.get_config(variant), recipes.get_config(ALIKE[variant])
    check(config)
    of_game = lambda config: {name: value for name, value in config.model.items() if name != "channels"}
    assert of_game(config) == of_game(other) and config.data.name != other.data.name


def test_an_unknown_variant_lists_the_known():
    with pytest.raises(ValueError, match=r"no variant 'biggan'; known: small, mnist, conditional, "):
        recipes.get_config("biggan")
    assert recipes.get_config().to_dict() == recipes.get_config("small").to_dict()


def test_recipes_have_what_their_papers_have():
    """Steps of the critic, rates, and what holds its slope."""
    found = {name: recipes.get_config(name) for name in ("wgan", "wgan_gp", "r1", "sngan", "ring", "mnist")}
    wgan, wgan_gp = found["wgan"], found["wgan_gp"]
    assert (wgan.optimizer.name, wgan.optimizer.learning_rate, wgan.model.clip_weights) == ("rmsprop", 5e-5, 0.01)
    assert wgan.model.penalty == "none" and wgan_gp.model.clip_weights == 0.0
    assert (wgan_gp.model.penalty_weight, wgan_gp.model.disc_steps, wgan_gp.batch_size // 5) == (10.0, 5, 64)
    assert found["r1"].model.penalty_weight == 10 / 2  # gamma / 2
    assert found["sngan"].model.spectral_norm and found["sngan"].model.loss == "hinge"
    assert (found["ring"].optimizer.b1, found["ring"].model.maxout_pieces) == (0.8, 5)
    assert found["mnist"].num_steps == 18_593  # 20 epochs of 59,500 by 64


# Fields

LOGIT = 1.0  # of real examples in the test below, and less this of fakes
HALF = math.log1p(math.exp(-LOGIT))  # softplus(-1)
LOSSES = {  # -> of the discriminator, of the generator
    "minimax": (2 * HALF, -HALF),
    "non_saturating": (2 * HALF, HALF + 1),
    "least_squares": (0.5, 2.0),
    "hinge": (0.0, 1.0),
    "wasserstein": (-2.0, 1.0),
    "relativistic": (math.log1p(math.exp(-2)), math.log1p(math.exp(2))),
    "relativistic_average": (2 * math.log1p(math.exp(-2)), 2 * math.log1p(math.exp(2))),
}


@pytest.mark.parametrize("smoothing", [0.0, 0.25])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_by_hand(loss, smoothing):
    """A generator that gives 0, and a discriminator 2 x - 1, at real examples of 1."""
    config = configured("gaussian", model__loss=loss, model__label_smoothing=smoothing, model__latent_dim=1)
    expected = {"disc_loss": LOSSES[loss][0], "gen_loss": LOSSES[loss][1], "real_logit": 1.0, "fake_logit": -1.0}
    if smoothing:
        if loss not in ("minimax", "non_saturating", "least_squares"):
            with pytest.raises(InputError, match=f"label_smoothing has no part in model.loss '{loss}'; set it to 0"):
                build(config, dataset((1,)))
            return
        # the target of real examples is 3/4: the cross-entropy grows by s r, the square from 0 to 1/16
        expected["disc_loss"] += 1 / 32 if loss == "least_squares" else 0.25
    algorithm, batch = build(config, dataset((1,))), {"x": jnp.ones((4, 1))}
    state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(algorithm.init, KEY, batch))
    gen, disc = (state.players[name] for name in ("gen", "disc"))
    zeros = gen.params, disc.params
    weights = {(2, 1): jnp.array([[2.0], [0.0]]), (1,): jnp.array([-1.0])}  # of x, x^2 and 1
    players = {
        "gen": dataclasses.replace(gen, params=zeros[0]),
        "disc": dataclasses.replace(disc, params=jax.tree.map(lambda leaf: weights[leaf.shape], zeros[1])),
    }
    terms = algorithm.evaluate(dataclasses.replace(state, players=players), batch, KEY)
    assert set(terms) == {*expected, "accuracy"}
    for name, value in {**expected, "accuracy": 1.0}.items():
        np.testing.assert_allclose(terms[name], np.full(4, value), rtol=1e-6, atol=1e-6, err_msg=name)


REGULARISERS = {
    "none": {},
    "gradient": {"model__penalty": "gradient", "model__disc_norm": "none"},
    "r1": {"model__penalty": "r1", "model__disc_norm": "layer"},
    "spectral": {"model__spectral_norm": True},
    "clipped": {"model__clip_weights": 0.01},
}


# of those that look into the network, a slope and its kernels, each with each
FITTED = [
    *(("dense", regulariser) for regulariser in REGULARISERS),
    *itertools.product(("dcgan", "resnet", "maxout", "affine"), ("gradient", "spectral")),
]


@pytest.mark.parametrize(("network", "regulariser"), FITTED)
def test_every_regulariser_fits_every_network(network, regulariser):
    points = network in ("maxout", "affine")  # so that either kind of example is seen
    loss = list(LOSSES)[list(REGULARISERS).index(regulariser)]
    config = configured(
        "small", model__network=network, model__loss=loss, model__label_smoothing=0.0, **REGULARISERS[regulariser]
    )
    if network == "resnet":
        config.model.channels = (2,)
    _, state, metrics = keeps_its_state(config, dataset((2,) if points else (4, 4, 1)))
    assert ("penalty" in metrics) == (regulariser in ("gradient", "r1"))
    assert ("spectral" in state.players["disc"].stats) == (regulariser == "spectral")


OVERRIDES = {
    "layer norm": {"model__disc_norm": "layer"},
    "no norm": {"model__disc_norm": "none", "model__gen_batch_norm": False},
    "uniform noise": {"model__noise": "uniform"},
    "concatenation": {"model__conditioning": "concatenation", "model__packing": 2},
    "projection, replayed": {"model__conditioning": "projection", "model__packing": 3, "model__replay_capacity": 5},
    "relativistic, unrolled": {"model__loss": "relativistic", "model__unroll_steps": 2},
    "relativistic average": {"model__loss": "relativistic_average", "ema_decay": 0.9},
    "steps of each": {"model__disc_steps": 3, "model__gen_steps": 2},
    "simultaneous": {"model__dynamics": "simultaneous", "model__disc_learning_rate": 1e-3},
    "extragradient, replayed": {"model__dynamics": "extragradient", "model__replay_capacity": 100},
    "minibatch": {"model__minibatch_kernels": 3, "model__minibatch_kernel_dim": 2, "evaluation__batch_size": 12},
    "standard deviation": {"model__stddev_group": 3, "evaluation__batch_size": 6},
    "bfloat16": {"precision": "bfloat16"},
    **{f"{name}, scheduled": {"optimizer__name": name, "optimizer__schedule": "cosine", "optimizer__warmup_steps": 2}
       for name in ("optimistic_adam", "optimistic_sgd")},
}  # fmt: skip


@pytest.mark.parametrize("override", OVERRIDES)
def test_every_field_has_a_game_to_be_played(override):
    # flax's batch normalisation promotes the mean that it takes in float32
    with jax.numpy_dtype_promotion("standard" if override == "bfloat16" else "strict"):
        keeps_its_state(configured("ring", model__network="dense", **OVERRIDES[override]), dataset((2,)))


@pytest.mark.parametrize("kind", ["color", "translation", "cutout"])
def test_images_are_augmented(kind):
    keeps_its_state(configured("small", model__augment=(kind,)), dataset((8, 8, 3)))


def test_schedules_end_with_the_run_however_many_steps_a_round_takes():
    config = configured(
        "ring", num_steps=2, model__gen_steps=3, model__disc_steps=2, model__disc_learning_rate=0.6,
        optimizer__name="sgd", optimizer__b1=0.0, optimizer__learning_rate=0.3, optimizer__schedule="linear",
        optimizer__warmup_steps=1,
    )  # fmt: skip

    def rates(tx, num):
        state, found = tx.init(jnp.zeros(())), []
        for _ in range(num):
            update, state = tx.update(jnp.ones(()), state)
            found.append(-float(update))
        return found

    with jax.numpy_dtype_promotion("standard"):
        gen_tx, disc_tx = optimizers(config)
        # a round of warm-up, and one of decay
        np.testing.assert_allclose(rates(gen_tx, 7), [0, 0.1, 0.2, 0.3, 0.2, 0.1, 0], atol=1e-6)
        np.testing.assert_allclose(rates(disc_tx, 5), [0, 0.3, 0.6, 0.3, 0], atol=1e-6)


def test_a_schedule_counts_both_looks_of_an_extragradient():
    config = configured("bilinear_extragradient", num_steps=2, optimizer__schedule="linear")
    algorithm, batch = build(config, dataset((1,))), {"x": jnp.zeros((1, 1))}
    state, step = jax.jit(algorithm.init)(KEY, batch), jax.jit(algorithm.step)
    found = []
    for _ in range(2):
        state, metrics = step(state, batch, KEY)
        found.append((float(metrics["x"]), float(metrics["y"])))
    # from (1, 0) at rates 0.1, 0.075, then 0.05, 0.025: the first of each looks ahead, the second steps
    ahead = 0.9925 - 0.05 * 0.075, 0.075 + 0.05 * 0.9925
    expected = [(1 - 0.075 * 0.1, 0.075), (0.9925 - 0.025 * ahead[1], 0.075 + 0.025 * ahead[0])]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_only_a_discriminator_that_is_unrolled_has_a_root_that_can_be_differentiated():
    """Adam's step at a gradient of 0 has no slope, unless something is added under its root."""
    for unroll_steps in (0, 5):
        txs = optimizers(configured("ring", model__unroll_steps=unroll_steps))

        def moved(gradient, tx):
            with jax.numpy_dtype_promotion("standard"):
                updates, _ = tx.update(gradient, tx.init(jnp.zeros(())))
            return optax.apply_updates(jnp.zeros(()), updates)

        slopes = [float(jax.grad(moved)(jnp.zeros(()), tx)) for tx in txs]
        assert np.isnan(slopes[0])  # of the generator, which nothing differentiates
        assert np.isfinite(slopes[1]) == (unroll_steps > 0)


def played(algorithm, batch, num_steps):
    """The state after so many steps on one batch."""
    step = lambda state, key: (algorithm.step(state, batch, key)[0], None)
    return jax.jit(lambda: jax.lax.scan(step, algorithm.init(KEY, batch), jax.random.split(KEY, num_steps))[0])()


def test_replay_of_which_nothing_is_shown_is_no_replay():
    given, states = dataset((2,)), []
    for changes in ({}, {"model__replay_capacity": 20, "model__replay_share": 0.0}):
        config = configured("ring", model__network="affine", optimizer__learning_rate=0.1, **changes)
        states.append(played(build(config, given), batch_of(config, given), 3))
    without, kept = states
    assert not without.memory and int(kept.memory.count) == 3 * 12 and kept.memory.examples["x"].shape == (20, 2)
    jax.tree.map(np.testing.assert_array_equal, kept.players, without.players)


# Populations

TRACED = {  # what members may differ in; 0 says of the last two that there is none
    "optimizer.learning_rate": (0.1, 0.01),
    "model.penalty_weight": (1.0, 3.0),
    "model.label_smoothing": (0.0, 0.2),
    "model.clip_weights": (0.0, 0.01),
    "model.disc_learning_rate": (0.0, 0.02),
}


def test_members_that_differ_in_numbers_take_the_steps_of_their_solo_runs():
    given, population = dataset((1,)), " ".join(f"{name}={a},{b}" for name, (a, b) in TRACED.items())
    config = configured(
        "gaussian", model__latent_dim=1, model__loss="non_saturating", model__penalty="r1", population=population
    )
    assembly, batch = assemble(config, given, build), batch_of(config, given)
    assembly.close()
    assert len(assembly.members) == 2**5

    @jax.jit
    def traced(hparams):
        algorithm = build(with_fields(config, hparams), given)
        return algorithm.step(algorithm.init(KEY, batch), batch, KEY)[0]

    found = {}
    for number in (0, 3, 31):  # the first values; the last of the last two; the last of all
        member = assembly.members[number]
        found[number] = jax.device_get(traced(member.hparams))
        solo = jax.jit(lambda algorithm=member.algorithm: algorithm.step(algorithm.init(KEY, batch), batch, KEY)[0])()
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found[number], solo)
    weights = [state.players["disc"].params["Dense_0"]["kernel"] for state in found.values()]
    assert len({each.tobytes() for each in weights}) == 3
    assert np.abs(weights[0]).max() > 0.01 >= np.abs(weights[1]).max()


@pytest.mark.parametrize(
    ("population", "changes"),
    [("model.replay_share=0.2,0.4", {"model__replay_capacity": 10}), ("model.packing=1,2", {})],
)
def test_members_cannot_differ_in_what_shapes_the_program(population, changes):
    name = population.partition("=")[0]
    config = configured("ring", model__network="affine", population=population, **changes)
    with pytest.raises(InputError, match=f"{name} shapes the program, so it cannot differ between members"):
        assemble(config, dataset((2,)), build)


# Mistakes

POINTS, IMAGES, UNLABELLED = "points", "images", "unlabelled"
MISTAKES = [
    (
        POINTS,
        {"model__network": "unet"},
        "model.network is 'unet'; known: dcgan, resnet, dense, maxout, affine, bilinear",
    ),
    (
        POINTS,
        {"model__network": "dcgan"},
        "model.network 'dcgan' is for images; fake holds points: add --config.model.",
    ),
    (POINTS, {"model__network": "resnet"}, "model.network 'resnet' is for images; fake holds points"),
    (IMAGES, {"model__channels": ()}, "model.channels is empty; model.network 'dcgan' needs at least one"),
    (IMAGES, {"model__channels": (4, 0)}, "model.channels is (4, 0); it must be at least 1"),
    (POINTS, {"model__augment": ("color",)}, "model.augment is for images; fake holds points"),
    (POINTS, {"model__loss": "jensen"}, "model.loss is 'jensen'; known: minimax, non_saturating, least_squares, "),
    (POINTS, {"model__noise": "cauchy"}, "model.noise is 'cauchy'; known: normal, uniform"),
    (POINTS, {"model__conditioning": "film"}, "model.conditioning is 'film'; known: none, concatenation, projection"),
    (POINTS, {"model__penalty": "r2"}, "model.penalty is 'r2'; known: none, gradient, r1"),
    (POINTS, {"model__dynamics": "consensus"}, "model.dynamics is 'consensus'; known: alternating, simultaneous, "),
    (POINTS, {"model__disc_norm": "group"}, "model.disc_norm is 'group'; known: none, batch, layer"),
    (UNLABELLED, {"model__conditioning": "projection"}, "fake has no labels for model.conditioning"),
    (POINTS, {"model__latent_dim": 0}, "model.latent_dim is 0; it must be at least 1"),
    (POINTS, {"model__hidden": (4, 0)}, "model.hidden is (4, 0); it must be at least 1"),
    (POINTS, {"model__disc_hidden": (0,)}, "model.disc_hidden is (0,); it must be at least 1"),
    (POINTS, {"model__maxout_pieces": 0}, "model.maxout_pieces is 0; it must be at least 1"),
    (POINTS, {"model__packing": 0}, "model.packing is 0; it must be at least 1"),
    (POINTS, {"model__disc_steps": 0}, "model.disc_steps is 0; it must be at least 1"),
    (POINTS, {"model__gen_steps": 0}, "model.gen_steps is 0; it must be at least 1"),
    (POINTS, {"model__replay_capacity": -1}, "model.replay_capacity is -1; it must be at least 0"),
    (
        POINTS,
        {"model__replay_share": 1.5},
        "model.replay_share is 1.5; it must be at most 1",
    ),
    (POINTS, {"model__label_smoothing": 1.0}, "model.label_smoothing is 1.0; it must be less than 1"),
    (POINTS, {"model__loss": "wasserstei", "model__label_smoothing": 0.1}, "model.loss is 'wasserstei'"),
    (POINTS, {"model__label_smoothing": -0.1}, "model.label_smoothing is -0.1; it must be at least 0"),
    (POINTS, {"model__penalty_weight": -1.0}, "model.penalty_weight is -1.0; it must be at least 0"),
    (POINTS, {"model__clip_weights": -0.1}, "model.clip_weights is -0.1; it must be at least 0"),
    (POINTS, {"model__disc_learning_rate": -0.1}, "model.disc_learning_rate is -0.1; it must be at least 0"),
    (POINTS, {"model__unroll_steps": -1}, "model.unroll_steps is -1; it must be at least 0"),
    (POINTS, {"model__packing": 5}, "batch_size is 12, the examples of one step; it must be divisible by model.disc_"),
    (POINTS, {"model__disc_steps": 4, "model__packing": 2}, "batch_size is 12, the examples of one step; it must be"),
    (POINTS, {"model__stddev_group": 5}, "model.stddev_group is 5; it must divide the 12 of a step"),
    (POINTS, {"model__stddev_group": 24}, "model.stddev_group is 24; it must divide the 12 of a step"),
    (POINTS, {"model__stddev_group": 3}, "evaluation.batch_size is 500; it must be divisible by model.stddev_group"),
    (
        POINTS,
        {"model__dynamics": "extragradient", "model__disc_steps": 2},
        "model.dynamics 'extragradient' looks ahead",
    ),
    (POINTS, {"model__dynamics": "extragradient", "model__unroll_steps": 2}, "model.dynamics 'extragradient' looks"),
    (POINTS, {"model__network": "bilinear"}, "model.network 'bilinear' has no examples to measure a gap on: add "),
    (
        POINTS,
        {"model__network": "bilinear", "model__duality_gap_steps": 0, "model__disc_steps": 2},
        "model.disc_steps has no part in model.network 'bilinear'; set it to 1",
    ),
    (POINTS, {"optimizer__name": "lion"}, "unknown optimizer.name 'lion'; known: adam, "),
    (POINTS, {"model__duality_gap_steps": -1}, "model.duality_gap_steps is -1; it must be at least 0"),
]


@pytest.mark.parametrize(("kind", "changes", "message"), MISTAKES)
def test_what_does_not_go_together_is_one_line(kind, changes, message):
    given = dataset((2,), labels=kind != UNLABELLED) if kind != IMAGES else dataset()
    with pytest.raises(InputError) as caught:
        build(configured("small" if kind == IMAGES else "ring", **changes), given)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variant", "shape", "changes", "message"),
    [
        ("ring", (2,), {"extractor": "classifier"}, "evaluation.extractor 'classifier' is for images; for fake add"),
        ("ring", (2,), {"extractor": "inception.npz"}, "evaluation.extractor 'inception.npz' is for images; for fake"),
        ("small", (8, 8, 1), {"extractor": "nowhere.npz"}, "evaluation.extractor is 'nowhere.npz', and there is no"),
        ("small", (8, 8, 1), {"num_samples": 5}, "evaluation.num_samples is 5; evaluation.extractor 'classifier'"),
        ("small", (8, 8, 1), {"extractor": "none", "num_samples": 5}, None),
        ("small", (8, 8, 1), {"num_samples": 6}, None),
    ],
)  # fmt: skip
def test_features_that_cannot_be_had_are_refused_before_training(variant, shape, changes, message):
    config = configured(variant, **{f"evaluation__{name}": value for name, value in changes.items()})
    if message is None:
        check_extractor(config, dataset(shape))
        return
    with pytest.raises(InputError, match=re.escape(message)):
        check_extractor(config, dataset(shape))


def test_a_classifier_needs_labels():
    with pytest.raises(InputError, match="fake has no labels for a classifier of ours: add --config"):
        check_extractor(configured("small"), dataset(labels=False))


def test_a_config_of_another_family_is_named():
    from configs import base

    with pytest.raises(InputError, match=r"needs a config with model\.disc_learning_rate; the one given is of another"):
        build(base.get_config(), dataset((2,)))
