"""A VQ-VAE trained on small digits: it uses its codes, its prior predicts them, and both are left on record."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import vq_vae as recipes
from experiments import vq_vae
from experiments.launch import Launch
from experiments.trained import Trained
from genlab import data


def test_numbers_of_a_histogram_by_hand():
    numbers = vq_vae.codebook_numbers(np.array([4.0, 2.0, 2.0, 0.0]), num_images=2)
    assert numbers["codes_used"]["value"] == 0.75 and numbers["codes_used"]["num_codes"] == 4
    np.testing.assert_allclose(numbers["perplexity"]["value"], 2**1.5, rtol=1e-5)
    rate = numbers["rate_of_independent_codes"]  # four places an image, 1.5 bits each
    assert rate["places"] == 4 and rate["n"] == 2
    np.testing.assert_allclose(rate["value"], 4 * 1.5 * np.log(2), rtol=1e-5)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Five hundred steps of a small recipe on pixels without noise, for a draw of 0 or 255 is certain."""
    config = recipes.get_config()
    config.data.name, config.num_steps = "digits", 500
    config.model.channels, config.model.code_dim, config.model.num_codes = (16,), 8, 32
    config.model.prior_features, config.model.prior_embedding = 32, 16
    config.optimizer.learning_rate = config.model.prior_learning_rate = 5e-3
    config.optimizer.schedule = "constant"
    dataset = data.load("digits", num_validation=100)
    sharp = lambda split: {**split, "x": np.where(np.asarray(split["x"]) > 127, 255, 0).astype(np.uint8)}
    dataset = dataset._replace(train=sharp(dataset.train), test=sharp(dataset.test))
    algorithm, images = vq_vae.build(config, dataset), jnp.asarray(dataset.train["x"])

    @jax.jit
    def fit(key):
        def step(state, key):
            key_rows, key_pixels, key_step = jax.random.split(key, 3)
            rows = jax.random.randint(key_rows, (64,), 0, len(images))
            return algorithm.step(state, data.prepare({"x": images[rows]}, "dynamic", key_pixels), key_step)

        return jax.lax.scan(step, algorithm.init(key, data.prepare({"x": images[:64]})), jax.random.split(key, 500))

    state, metrics = fit(jax.random.key(0))
    assert all(np.isfinite(values).all() for values in metrics.values())
    directory = tmp_path_factory.mktemp("run")
    (directory / "card.json").write_text("{}")
    return Trained(directory, config, dataset, algorithm, state, {})


def test_nearly_all_codes_are_used_and_the_prior_knows_how_they_hang_together(trained):
    algorithm, state = trained.algorithm, trained.state
    counts = vq_vae.code_counts(trained)
    batch = data.prepare(jax.tree.map(jnp.asarray, trained.dataset.test))
    num_images = len(batch["x"])
    assert counts.sum() == 16 * num_images and np.mean(counts > 0) >= 0.8
    codes = np.asarray(jax.jit(algorithm.encode)(state, batch, None)).reshape(num_images, 16, 8)
    kinds = np.unique(codes.reshape(-1, 8), axis=0, return_inverse=True)[1].reshape(num_images, 16)
    np.testing.assert_array_equal(np.sort(np.bincount(kinds.ravel())), np.sort(counts[counts > 0]))
    terms = {name: np.mean(value) for name, value in jax.jit(algorithm.evaluate)(state, batch, None).items()}
    # the best distribution without dependence between places, fitted to these very codes
    shares = [np.bincount(place) / num_images for place in kinds.T]
    independent = sum(-np.sum(p[p > 0] * np.log(p[p > 0])) for p in shares)
    assert terms["prior_nll"] < independent - 3.0
    assert terms["prior_nll"] < vq_vae.codebook_numbers(counts, num_images)["rate_of_independent_codes"]["value"] - 10.0
    x = np.asarray(batch["x"])
    p = x.mean(axis=0).clip(1e-6, 1 - 1e-6)
    pixels = np.mean(np.sum(x * np.log(p) + (1 - x) * np.log(1 - p), axis=(1, 2, 3)))
    assert terms["log_likelihood"] > pixels + 15.0


def test_the_entry_point_leaves_numbers_and_figure_of_the_codebook(trained, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(vq_vae, "run", lambda arguments, build: seen.append(build))
    monkeypatch.setattr(vq_vae, "open_run", lambda directory: trained)
    vq_vae.main(Launch(trained.config, "vq_vae", trained.directory, "python -m experiments.vq_vae"))
    assert seen == [vq_vae.build]
    left = json.loads((trained.directory / "codebook.json").read_text())
    assert left == vq_vae.codebook_numbers(vq_vae.code_counts(trained), len(trained.dataset.test["x"]))
    assert (trained.directory / "figures" / "codebook.png").stat().st_size > 1_000
    assert "data:image/png" in (trained.directory / "report.html").read_text()
    assert f"codes_used               {left['codes_used']['value']:.4g}" in capsys.readouterr().out
