"""Each VQ-VAE recipe builds: its sizes by hand, its likelihoods, and what it refuses."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import vq_vae as recipes
from experiments import vq_vae as experiment
from experiments.vq_vae import build
from genlab import data
from genlab.errors import InputError
from genlab.evaluation.card import count_parameters

KEY = jax.random.key(0)


def dataset(shape=(28, 28, 1), num=20):
    x = np.zeros((num, *shape), np.uint8 if len(shape) == 3 else np.float32)
    split = {"x": x, "label": np.arange(num, dtype=np.int32) % 10}
    return data.Dataset("fake", split, split, split, 10, None)


def configured(binarization="dynamic", variant="small", **model):
    config = recipes.get_config(variant)
    config.data.binarization = binarization
    with config.unlocked():
        config.model.update(model)
    return config


def num_parameters(outputs=1, codebook=0, residual=0):
    """Of channels 32 and 64, 16 numbers a code, and an LSTM of 128 after embeddings of 64."""
    block = 9 * 64 * 32 + 32 + 32 * 64 + 64
    encoder = 16 * 32 + 32 + 16 * 32 * 64 + 64 + residual * block + 64 * 16 + 16
    decoder = 9 * 16 * 64 + 64 + residual * block + 16 * 64 * 32 + 32 + 16 * 32 * outputs + outputs
    prior = 4 * 257 * 64 + 49 * 64 + 4 * (64 * 128 + 128 * 128 + 128) + 128 * 256 + 256
    return encoder + decoder + prior + codebook


@pytest.mark.parametrize(
    ("variant", "model", "expected"),
    [
        ("small", {}, num_parameters()),
        ("mnist", {}, num_parameters()),
        ("small", {"codebook": "gradient"}, num_parameters(codebook=256 * 16)),
        ("small", {"num_residual": 2}, num_parameters(residual=2)),
        ("small", {"likelihood": "discretized_logistic"}, num_parameters(outputs=2)),
    ],
)
def test_a_recipe_has_the_parameters_that_its_layers_have(variant, model, expected):
    binarization = "none" if "likelihood" in model else "dynamic"
    algorithm = build(configured(binarization, variant, **model), dataset())
    batch = {"x": jnp.zeros((4, 28, 28, 1))}
    state = jax.eval_shape(algorithm.init, KEY, batch)
    assert count_parameters(state) == expected
    assert algorithm.generate is not None and algorithm.decode is not None and algorithm.encode is not None
    codes = jax.eval_shape(algorithm.encode, state, batch, KEY)
    assert codes.shape == (4, 49 * 16)
    assert jax.eval_shape(algorithm.decode, state, codes, KEY).shape == (4, 28, 28, 1)
    assert jax.eval_shape(algorithm.generate, state, batch, KEY).shape == (4, 28, 28, 1)


@pytest.mark.parametrize(
    ("likelihood", "binarization", "density"),
    [("bernoulli", "dynamic", "bound"), ("bernoulli", "none", "none"), ("gaussian", "none", "bound"),
     ("learned_gaussian", "none", "bound"), ("discretized_logistic", "none", "bound")],
)  # fmt: skip
def test_a_likelihood_has_a_density_where_it_fits_the_pixels(likelihood, binarization, density):
    algorithm = build(configured(binarization, likelihood=likelihood), dataset((8, 8, 3)))
    assert algorithm.density == density and (algorithm.log_prob is None) == (density == "none")
    batch = {"x": jnp.zeros((4, 8, 8, 3))}
    state = jax.eval_shape(algorithm.init, KEY, batch)
    assert jax.eval_shape(algorithm.evaluate, state, batch, KEY)["elbo"].shape == (4,)


def test_the_two_players_have_their_own_learning_rates(monkeypatch):
    monkeypatch.setattr(experiment, "vq_vae", lambda *players, **options: players)
    config = configured()
    config.optimizer.learning_rate, config.model.prior_learning_rate = 0.001, 0.02
    players: Any = build(config, dataset())
    for tx, rate in ((players[3], 0.001), (players[5], 0.02)):  # Adam's first step is the rate, against the gradient
        with jax.numpy_dtype_promotion("standard"):
            update, _ = tx.update(jnp.float32(3.0), tx.init(jnp.float32(0.0)))
        np.testing.assert_allclose(update, -rate, rtol=1e-4)


def test_the_default_is_small_and_an_unknown_variant_lists_the_known():
    assert recipes.get_config().to_dict() == recipes.get_config("small").to_dict()
    with pytest.raises(ValueError, match=r"no variant 'imagenet'; known: small, mnist$"):
        recipes.get_config("imagenet")


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        ({"num_codes": 1}, (8, 8, 1), "model.num_codes is 1; it must be at least 2"),
        ({"code_dim": 0}, (8, 8, 1), "model.code_dim is 0; it must be at least 1"),
        ({"channels": ()}, (8, 8, 1), "model.channels is empty; a VQ-VAE needs at least one convolution"),
        (
            {"channels": (8, 8, 8)},
            (28, 28, 1),
            "3 convolutions of stride 2 need images whose sides are divisible by 8; these are 28x28",
        ),
        ({"codebook": "kmeans"}, (8, 8, 1), "model.codebook is 'kmeans'; known: ema, gradient"),
        ({"decay": 1.0}, (8, 8, 1), "model.decay is 1.0; it must be at least 0 and less than 1"),
        ({"restart_below": 1.5}, (8, 8, 1), "model.restart_below is 1.5; it must be at least 0 and less than 1"),
        ({"commitment": -1.0}, (8, 8, 1), "model.commitment is -1.0; it must be at least 0"),
        ({"likelihood": "poisson"}, (8, 8, 1), "model.likelihood is 'poisson'; known: bernoulli, gaussian, "),
        (
            {"likelihood": "gaussian"},
            (8, 8, 1),
            "model.likelihood 'gaussian' is for grey images; add --config.data.binarization=none",
        ),
        ({"activation": "swish"}, (8, 8, 1), "model.activation is 'swish'; known: relu, tanh, gelu, elu"),
        ({}, (2,), "a VQ-VAE is for images; fake holds examples of shape (2,)"),
    ],
)
def test_what_cannot_be_built_is_one_clear_line(model, shape, message):
    with pytest.raises(InputError) as caught:
        build(configured(**model), dataset(shape))
    assert str(caught.value).startswith(message)
