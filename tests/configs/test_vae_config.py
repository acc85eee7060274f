"""Each VAE recipe builds, and one step of it runs: sizes, steps and the first loss by hand."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import vae as recipes
from experiments.vae import build
from genlab import data
from genlab.errors import InputError
from genlab.evaluation.card import count_parameters

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
SMALL = ("dense", "conv", "keras", "mnist", "burda")


def dataset(shape=(28, 28, 1), num=20):
    """Random pixels, or points, in the place of the data that a recipe names."""

    def split():
        x = RNG.integers(0, 256, (num, *shape), dtype=np.uint8) if len(shape) == 3 else RNG.normal(size=(num, *shape))
        return {"x": x if len(shape) == 3 else x.astype(np.float32), "label": np.arange(num, dtype=np.int32) % 10}

    return data.Dataset("fake", split(), split(), split(), 10, None)


def affine(*widths):
    """Parameters of a dense stack of these widths."""
    return sum((inputs + 1) * outputs for inputs, outputs in itertools.pairwise(widths))


NUM_PARAMETERS = {
    "dense": affine(784, 400, 40) + affine(20, 400, 784),
    "conv": 16 * 1 * 32 + 32 + 16 * 32 * 64 + 64 + affine(3136, 256, 40)
    + affine(20, 256, 3136) + 16 * 64 * 32 + 32 + 16 * 32 * 1 + 1,
    "keras": affine(784, 256, 4) + affine(2, 256, 784),
    "mnist": affine(784, 400, 40) + affine(20, 400, 784),
    "burda": affine(784, 200, 200, 100) + affine(50, 200, 200, 784),
}  # fmt: skip


@pytest.mark.parametrize("variant", SMALL)
def test_a_variant_builds_and_takes_a_step(variant):
    config = recipes.get_config(variant)
    algorithm = build(config, dataset())
    batch = {"x": jnp.asarray(RNG.integers(0, 2, (4, 28, 28, 1)), jnp.float32)}
    state = jax.jit(algorithm.init)(KEY, batch)
    assert count_parameters(state) == NUM_PARAMETERS[variant]
    before = jax.device_get(state.players["vae"].params)
    after, metrics = jax.jit(algorithm.step, donate_argnums=0)(state, batch, KEY)
    assert int(after.step) == 1 and all(np.isfinite(value) for value in metrics.values())
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), jax.device_get(after.players["vae"].params), before)
    # Adam's first step is the rate, in the direction of the gradient
    np.testing.assert_allclose(max(jax.tree.leaves(moved)), 1e-3, rtol=0.02)
    # untrained, a pixel's mean is near 1/2: log 2 nats each, or 1000 / 4 of squared error
    untrained = 250.0 if variant == "keras" else 784 * math.log(2)
    np.testing.assert_allclose(-metrics["log_likelihood"], untrained, rtol=0.2)
    np.testing.assert_allclose(metrics["loss"], metrics["beta"] * metrics["kl"] - metrics["log_likelihood"], rtol=1e-5)
    assert algorithm.density == ("none" if variant == "keras" else "bound")


def test_warmup_of_the_default_recipe_takes_its_first_thousand_steps():
    config = recipes.get_config()
    algorithm, batch = build(config, dataset()), {"x": jnp.zeros((2, 28, 28, 1))}
    state = jax.jit(algorithm.init)(KEY, batch)
    evaluate = jax.jit(algorithm.evaluate)
    for step, beta in ((0, 0.001), (499, 0.5), (999, 1.0), (5_000, 1.0)):
        terms = evaluate(dataclasses.replace(state, step=jnp.int32(step)), batch, KEY)
        np.testing.assert_allclose(terms["loss"], beta * terms["kl"] - terms["log_likelihood"], rtol=1e-5)


def test_data_bias_starts_the_decoder_at_the_mean_pixel():
    config = recipes.get_config("burda")
    given = dataset(num=200)
    given.train["x"][:, 0, 0] = 0  # a pixel that is never on is clipped to 1/1000
    algorithm = build(config, given)
    state = jax.jit(algorithm.init)(KEY, {"x": jnp.zeros((1, 28, 28, 1))})
    bias = np.asarray(state.players["vae"].params["decoder"]["Dense_0"]["bias"], np.float64).reshape(28, 28)
    mean = given.train["x"].astype(np.float64).mean(axis=0)[..., 0] / 255
    mean[0, 0] = 1e-3
    np.testing.assert_allclose(1 / (1 + np.exp(-bias)), mean, rtol=1e-4)


@pytest.mark.parametrize(
    ("variant", "batch_size", "num_train", "epochs", "steps_per_epoch", "num_steps"),
    [
        ("mnist", 128, 59_600, 100, 465, 46_562),
        ("burda", 20, 59_600, 410, 2_980, 1_221_800),
        ("keras", 32, 60_000, 20, 1_875, 37_500),
    ],
)
def test_epochs_on_full_mnist_are_counted_in_steps(variant, batch_size, num_train, epochs, steps_per_epoch, num_steps):
    config = recipes.get_config(variant)
    assert config.data.name == "mnist" and 60_000 - config.data.num_validation == num_train
    assert (config.batch_size, config.log_every_steps, config.num_steps) == (batch_size, steps_per_epoch, num_steps)
    # the run sees every example `epochs` times, to within a batch
    assert 0 <= epochs * num_train - num_steps * batch_size < batch_size
    for period in (config.eval_every_steps, config.checkpoint_every_steps, config.figure_every_steps):
        assert period % steps_per_epoch == 0 and 0 < period <= num_steps


def test_the_default_is_dense():
    assert recipes.get_config().to_dict() == recipes.get_config("dense").to_dict()


def test_an_unknown_variant_lists_the_known():
    with pytest.raises(ValueError, match=r"no variant 'vgg'; known: dense, conv, ladder, "):
        recipes.get_config("vgg")


def configured(binarization="dynamic", **model):
    config = recipes.get_config()
    config.data.binarization = binarization
    with config.unlocked():
        config.model.update({"hidden": (6,), "latent_dim": 2, **model})
    return config


GREY = ("gaussian", "learned_gaussian", "discretized_logistic")
LIKELIHOODS = {  # (likelihood, binarization) -> density
    ("bernoulli", "dynamic"): "bound",
    ("bernoulli", "none"): "none",  # the cross-entropy of a grey pixel is no log-probability
    ("squared_error", "dynamic"): "none",
    ("squared_error", "none"): "none",
    **{(likelihood, "none"): "bound" for likelihood in GREY},
}


@pytest.mark.parametrize("network", ["dense", "conv"])
@pytest.mark.parametrize(("likelihood", "binarization"), LIKELIHOODS)
def test_every_likelihood_fits_every_network(likelihood, binarization, network):
    algorithm = build(configured(binarization, likelihood=likelihood, network=network), dataset((8, 8, 3)))
    assert algorithm.density == LIKELIHOODS[likelihood, binarization]
    assert (algorithm.log_prob is None) == (algorithm.density == "none")
    batch = {"x": jnp.zeros((4, 8, 8, 3))}
    state = jax.eval_shape(algorithm.init, KEY, batch)
    assert algorithm.generate is not None
    assert jax.eval_shape(algorithm.generate, state, batch, KEY).shape == (4, 8, 8, 3)
    assert jax.eval_shape(algorithm.evaluate, state, batch, KEY)["elbo"].shape == (4,)


@pytest.mark.parametrize("network", ["dense", "conv"])
@pytest.mark.parametrize("likelihood", GREY)
def test_a_likelihood_of_greys_refuses_binary_images_and_says_what_to_add(likelihood, network):
    with pytest.raises(InputError) as caught:
        build(configured("dynamic", likelihood=likelihood, network=network), dataset((8, 8, 3)))
    assert str(caught.value) == (
        f"model.likelihood {likelihood!r} is for grey images; add --config.data.binarization=none"
    )


@pytest.mark.parametrize("likelihood", ["gaussian", "learned_gaussian"])
def test_points_are_modelled_by_gaussians_and_drawn_with_their_noise(likelihood):
    algorithm = build(configured(likelihood=likelihood), dataset((2,)))
    batch = {"x": jnp.zeros((50, 2))}
    state = jax.jit(algorithm.init)(KEY, batch)
    codes = jnp.zeros((50, 2))  # one code, many draws
    assert algorithm.decode is not None
    points = jax.jit(algorithm.decode)(state, codes, KEY)
    assert points.shape == (50, 2)
    # the variance is 1: given, or the exponential of an output that starts at 0 and sits far above its floor
    assert 0.7 < np.std(points) < 1.3


PRIORS = affine(784, 300, 300, 80) + affine(40, 300, 300, 784)
BURDA = affine(784, 200, 200, 100) + affine(50, 200, 200, 784)
DENSE = affine(784, 400, 40) + affine(20, 400, 784)
MORE = {  # variant -> parameters
    "one_layer": BURDA,
    "iwae": BURDA,
    "two_layers": affine(784, 200, 200, 200) + affine(100, 100, 100, 100) + affine(50, 100, 100, 200)
    + affine(100, 200, 200, 784),
    "best": affine(784, 200, 200, 200) + affine(100, 100, 100, 100) + affine(50, 100, 100, 200)
    + affine(100, 200, 200, 784) + 500 * (50 + 50 + 1),
    "standard": PRIORS,
    "mixture": PRIORS + 500 * (40 + 40 + 1),
    "vamp": PRIORS + 500 * 784,
    "ladder": affine(784, 400) + affine(400, 64) + affine(400, 128) + affine(128, 32) + affine(16, 128, 64)
    + affine(32, 400, 784),
    "planar": affine(784, 400, 40) + 401 * 10 * 41 + affine(20, 400, 784),
    "conditional": affine(784 + 10, 400, 40) + affine(20 * 10 + 10, 400, 784),
    "beta": DENSE,
    "total_correlation": DENSE,
    "free_bits": DENSE,
    "linear": affine(784, 64) + affine(32, 784) + 1,
}  # fmt: skip


@pytest.mark.parametrize("variant", MORE)
def test_a_variant_of_another_bound_or_model_has_its_parameters_and_abilities(variant):
    config = recipes.get_config(variant)
    algorithm = build(config, dataset(num=600))
    batch = {"x": jnp.zeros((4, 28, 28, 1)), "label": jnp.zeros(4, jnp.int32)}
    state = jax.eval_shape(algorithm.init, KEY, batch)
    assert count_parameters(state) == MORE[variant]
    after, metrics = jax.eval_shape(algorithm.step, state, batch, KEY)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    assert {"loss", "elbo", "log_likelihood", "kl", "beta"} <= set(metrics)
    assert jax.eval_shape(algorithm.log_prob, state, batch, KEY).shape == (4,)
    assert jax.eval_shape(algorithm.generate, state, batch, KEY).shape == (4, 28, 28, 1)
    codes = jax.eval_shape(algorithm.encode, state, batch, KEY)
    assert codes.shape == (4, config.model.latent_dim)
    assert (algorithm.decode is None) == (variant == "conditional")
    every_layer = jnp.zeros((4, config.model.latent_dim + sum(config.model.upper_dims)))
    assert jax.eval_shape(algorithm.latents.log_joint, state, batch, every_layer).shape == (4,)


def test_every_variant_is_tested():
    with pytest.raises(ValueError) as caught:
        recipes.get_config("none")
    assert set(str(caught.value).rpartition("known: ")[2].split(", ")) == {*SMALL, *MORE}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {"objective": "dreg", "num_samples": 2, "num_flows": 2},
            "model.objective 'dreg' needs the density of any code",
        ),
        ({"objective": "total_correlation", "prior": "mixture"}, "model.objective 'total_correlation' is for one"),
        ({"objective": "total_correlation", "num_samples": 2}, "model.objective 'total_correlation' takes one sample"),
        ({"objective": "iwae"}, "model.objective 'iwae' of one sample is the ELBO; add --config.model.num_samples=5"),
        ({"num_components": 5}, "model.num_components is 5, but applies only to model.prior 'mixture' and 'vamp'"),
        (
            {"objective": "iwae", "num_samples": 2, "free_bits": 0.1},
            "model.free_bits is 0.1, but applies only to model.objective 'elbo' with",
        ),
        (
            {"prior": "mixture", "free_bits": 0.1},
            "model.free_bits is 0.1, but applies only to model.objective 'elbo' with",
        ),
        ({"tc_weight": 6.0}, "model.tc_weight is 6.0, but applies only to model.objective 'total_correlation'"),
        ({"inference": "top_down"}, "model.inference is 'top_down', but applies only to several stochastic layers"),
        (
            {"objective": "dreg", "num_samples": 2, "network": "conv", "batch_norm": True},
            "model.objective 'dreg' needs the density",
        ),
        (
            {"prior": "vamp", "network": "conv", "batch_norm": True, "num_components": 5},
            "model.prior 'vamp' cannot have",
        ),
        ({"prior": "vamp", "num_components": 21}, "model.num_components is 21; pseudo-inputs start from as many"),
        ({"objective": "renyi"}, "model.objective is 'renyi'; known: elbo, iwae, dreg, total_correlation"),
        ({"prior": "horseshoe"}, "model.prior is 'horseshoe'; known: standard, mixture, vamp"),
        ({"prior": "vamp", "conditional": True}, "model.prior 'vamp' learns images as pseudo-inputs"),
        ({"prior": "vamp", "upper_dims": (2,)}, "model.prior 'vamp' needs q(z_L | x): with upper_dims set"),
        ({"class_prior": True}, "model.class_prior weighs the components of model.prior 'mixture' by class"),
        ({"conditional": True, "upper_dims": (2,)}, "model.conditional, class_prior and num_flows are for one"),
        ({"inference": "sideways"}, "model.inference is 'sideways'; known: bottom_up, top_down"),
        ({"num_samples": 0}, "model.num_samples is 0; it must be at least 1"),
        ({"network": "conv", "activation": "glu"}, "model.activation 'glu' and model.likelihood 'shared_gaussian' are"),
    ],
)
def test_bounds_priors_and_posteriors_that_do_not_go_together_are_one_clear_line(model, message):
    with pytest.raises(InputError) as caught:
        build(configured(**model), dataset((8, 8, 1)))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        ({"likelihood": "poisson"}, (8, 8, 1), "model.likelihood is 'poisson'; known: bernoulli, gaussian, "),
        ({"activation": "swish"}, (8, 8, 1), "model.activation is 'swish'; known: relu, tanh, gelu, elu, glu"),
        ({"network": "unet"}, (8, 8, 1), "model.network is 'unet'; known: dense, conv"),
        ({"latent_dim": 0}, (8, 8, 1), "model.latent_dim is 0; it must be at least 1"),
        ({"hidden": (6, 0)}, (8, 8, 1), "model.hidden is (6, 0); it must be at least 1"),
        ({"likelihood": "bernoulli"}, (2,), "model.likelihood 'bernoulli' is for images; fake holds points"),
        ({"likelihood": "gaussian", "network": "conv"}, (2,), "model.network 'conv' is for images; fake holds points"),
        (
            {"network": "conv", "channels": ()},
            (8, 8, 1),
            "model.channels is empty; model.network 'conv' needs at least",
        ),
        ({"likelihood": "gaussian", "variance": 0.0}, (8, 8, 1), "model.variance is 0.0; it must be positive"),
    ],
)
def test_what_cannot_be_built_is_one_clear_line(model, shape, message):
    with pytest.raises(InputError) as caught:
        build(configured(**model), dataset(shape))
    assert str(caught.value).startswith(message)
