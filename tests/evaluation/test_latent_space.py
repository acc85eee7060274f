"""Directions and planes of a linear decoder, and diagnostics of Gaussian posteriors whose integrals are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from scipy.integrate import quad
from scipy.special import logsumexp
from sklearn.decomposition import PCA

from genlab.algorithm import Algorithm, Latents
from genlab.errors import InputError
from genlab.evaluation import latent_space

KEY = jax.random.key(0)
WEIGHTS = jax.random.normal(jax.random.key(7), (3, 4))


def gaussian_model(**changes):
    """x is the mean of its posterior and, in its second half, the log-variance; the prior is standard normal."""
    half = lambda x: (x[:, : x.shape[1] // 2], x[:, x.shape[1] // 2 :])
    kl = lambda mean, log_var: 0.5 * jnp.sum(jnp.square(mean) + jnp.exp(log_var) - log_var - 1.0, axis=1)
    model = Algorithm(
        init=None,
        step=None,
        evaluate=lambda state, batch, key: {"kl": kl(*half(batch["x"])), "log_likelihood": -3.0 * batch["x"][:, 0]},
        generate=None,
        encode=lambda state, batch, key: half(batch["x"])[0] + 5.0 * jax.random.normal(key, half(batch["x"])[0].shape),
        decode=lambda state, codes, key: codes @ state,
        log_prob=None,
        density="bound",
        latents=Latents(
            log_prior=lambda state, batch, z: jax.scipy.stats.norm.logpdf(z).sum(axis=1),
            log_joint=None,
            sample_prior=None,
            moments=lambda state, batch: half(batch["x"]),
        ),
    )
    return model._replace(**changes)


def diagnose(mean, deviation, model=None, **options):
    """The block for posteriors N(mean, deviation^2), f[N, D] each."""
    x = np.concatenate(np.broadcast_arrays(mean, 2 * np.log(deviation)), axis=1).astype(np.float32)
    model = gaussian_model() if model is None else model
    return latent_space.diagnostics_block(model, WEIGHTS, {"x": x}, lambda raw: raw, KEY, 128, **options)


def near(number, value):
    assert abs(number["value"] - value) < 4 * number["standard_error"] + 1e-4, (number, value)


def test_separate_posteriors_tell_which_example_it_is_and_no_more():
    mean = 100.0 * np.arange(300)[:, None] * np.ones((1, 2))
    number = diagnose(mean, np.ones((300, 2)))["mutual_information"]
    assert number["value"] == pytest.approx(np.log(300), abs=1e-4) and number["at_most"] == np.log(300)
    assert (number["bound"], number["n"], number["unit"]) == ("lower", 300, "nats")


def test_equal_posteriors_tell_nothing_and_lie_as_far_from_the_prior_as_each():
    mean, deviation = np.array([0.5, -1.0]), np.array([0.3, 2.0])
    block = diagnose(np.tile(mean, (400, 1)), np.tile(deviation, (400, 1)))
    assert block["mutual_information"]["value"] == pytest.approx(0.0, abs=1e-4)
    kl = np.sum((mean**2 + deviation**2 - 1) / 2 - np.log(deviation))
    near(block["aggregate_divergence"], kl)
    assert block["rate"]["value"] == pytest.approx(kl, rel=1e-4)
    assert block["aggregate_divergence"]["bound"] == "upper"


def test_a_mixture_of_three_gives_the_integrals():
    means, deviations = np.array([-1.0, 0.4, 2.0]), np.array([0.5, 0.9, 0.3])
    block = diagnose(np.repeat(means, 600)[:, None], np.repeat(deviations, 600)[:, None])

    def log_q(z):
        return logsumexp(scipy.stats.norm.logpdf(z, means, deviations)) - np.log(3)

    entropy = quad(lambda z: -np.exp(log_q(z)) * log_q(z), -9, 9, points=list(means), limit=200)[0]
    cross = quad(lambda z: -np.exp(log_q(z)) * scipy.stats.norm.logpdf(z), -9, 9, points=list(means), limit=200)[0]
    within = np.mean(scipy.stats.norm.entropy(means, deviations))
    near(block["mutual_information"], entropy - within)
    near(block["aggregate_divergence"], cross - entropy)
    assert block["rate"]["value"] == pytest.approx(cross - within, rel=1e-4)  # the two are its parts


def test_densities_are_scipys_whatever_the_chunk():
    rng = np.random.default_rng(0)
    mean, log_var, codes = rng.normal(size=(3, 2 * latent_space.CODES_PER_CHUNK + 7, 5)).astype(np.float32)
    table = scipy.stats.norm.logpdf(codes[:, None], mean, np.exp(log_var / 2)).sum(axis=-1)  # [code, posterior]
    own, every = jax.jit(latent_space.log_densities)(mean, log_var, codes)
    np.testing.assert_allclose(own, np.diag(table), rtol=1e-4)
    np.testing.assert_allclose(every, logsumexp(table, axis=1) - np.log(len(mean)), rtol=1e-4)


def test_only_so_many_posteriors_are_mixed():
    number = diagnose(100.0 * np.arange(50)[:, None], np.ones((50, 1)), num_posteriors=20)["mutual_information"]
    assert number["n"] == 20 and number["value"] == pytest.approx(np.log(20), abs=1e-4)


def test_active_units_are_those_whose_posterior_mean_varies():
    rng = np.random.default_rng(1)
    mean = rng.normal(size=(500, 4)) * np.sqrt([0.02, 0.005, 1.0, 0.0]) + 3.0
    number = diagnose(mean, np.ones((500, 4)))["active_units"]
    assert (number["value"], number["of"], number["n"]) == (2, 4, 500)  # the noise of encode would make it four
    number = diagnose(mean, np.ones((500, 4)), gaussian_model(latents=None))["active_units"]
    assert number["value"] == 4


def test_distortion_is_minus_the_log_likelihood():
    number = diagnose(np.arange(5.0)[:, None], np.ones((5, 1)))["distortion"]
    assert number["value"] == pytest.approx(6.0)
    assert number["standard_error"] == pytest.approx(np.std(3.0 * np.arange(5), ddof=1) / np.sqrt(5))


def test_a_model_tells_what_it_can():
    silent = gaussian_model(latents=None, encode=None, evaluate=lambda state, batch, key: {"loss": batch["x"][:, 0]})
    assert diagnose(np.zeros((6, 1)), np.ones((6, 1)), silent) == {}
    no_moments = gaussian_model(latents=gaussian_model().latents._replace(moments=None))
    assert set(diagnose(np.zeros((6, 1)), np.ones((6, 1)), no_moments)) == {"active_units", "rate", "distortion"}


def test_traversals_change_one_number_of_the_code():
    code, dims, values = np.array([1.0, 2.0, 3.0]), np.array([2, 0]), np.array([[7.0, 8.0], [-1.0, -2.0]])
    walked = latent_space.traversals(gaussian_model(), WEIGHTS, code, dims, values, KEY)
    codes = np.array([[(1, 2, 7), (1, 2, 8)], [(-1, 2, 3), (-2, 2, 3)]], np.float32)
    np.testing.assert_allclose(walked, codes @ np.asarray(WEIGHTS), rtol=1e-4)
    np.testing.assert_array_equal(code, [1, 2, 3])


def test_traversals_want_a_decoder_and_values_for_every_dimension():
    call = (WEIGHTS, np.ones(3), np.array([0, 1]))
    with pytest.raises(InputError, match="no decoder"):
        latent_space.traversals(gaussian_model(decode=None), *call, np.ones((2, 5)), KEY)
    with pytest.raises(InputError, match="as many rows"):
        latent_space.traversals(gaussian_model(), *call, np.ones((3, 5)), KEY)


def test_the_most_used_dimensions_vary_most():
    codes = np.random.default_rng(0).normal(size=(200, 4)) * [1.0, 3.0, 0.1, 2.0] + [0.0, 0.0, 50.0, 0.0]
    assert latent_space.most_used(codes, 3).tolist() == [1, 3, 0]
    assert len(latent_space.most_used(codes, 9)) == 4


def test_attributes_by_hand_and_exchanged():
    codes = np.array([[0.0, 0.0], [2.0, 0.0], [4.0, 6.0], [6.0, 6.0]], np.float32)
    labels = np.array([0, 0, 1, 1])
    vectors = latent_space.attribute_vectors(codes, labels, 2)
    np.testing.assert_allclose(vectors, [(-2, -3), (2, 3)])
    moved = latent_space.exchange(codes[:3], vectors, labels[:3], np.array([1, 0]))
    np.testing.assert_allclose(moved, [[(4, 6), (0, 0)], [(6, 6), (2, 0)], [(4, 6), (0, 0)]])


def test_a_class_without_examples_has_no_vector():
    for labels in ([0, 0, 2], [0, 1, 3]):
        with pytest.raises(InputError, match="all 3 classes"):
            latent_space.attribute_vectors(np.zeros((3, 2)), np.array(labels), 3)


def test_the_principal_grid_is_scikit_learns_plane():
    rng = np.random.default_rng(3)
    codes = (rng.normal(size=(400, 5)) * [0.3, 2.0, 0.1, 1.0, 0.2]) @ np.linalg.qr(rng.normal(size=(5, 5)))[0] + 4.0
    grid = latent_space.principal_grid(codes, 9)
    theirs = PCA(2).fit(codes)
    plane = theirs.transform(grid.reshape(-1, 5)).reshape(9, 9, 2) / np.sqrt(theirs.explained_variance_)
    signs = [np.sign(row[np.abs(row).argmax()]) for row in theirs.components_]
    right, up = np.meshgrid(np.linspace(-2, 2, 9), np.linspace(2, -2, 9))
    np.testing.assert_allclose(plane * signs, np.stack([right, up], axis=-1), atol=1e-4)
    back = theirs.inverse_transform(theirs.transform(grid.reshape(-1, 5)))
    np.testing.assert_allclose(back, grid.reshape(-1, 5), atol=1e-4)  # it lies in the plane
    np.testing.assert_allclose(grid[4, 4], codes.mean(axis=0), rtol=1e-5)


def test_a_line_has_no_plane():
    with pytest.raises(InputError, match="both at least 2"):
        latent_space.principal_grid(np.zeros((10, 1)), 3)
