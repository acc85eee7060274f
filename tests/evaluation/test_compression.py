"""Reconstruction beside PCA: an Algorithm that is scikit-learn's PCA must equal its own baseline; sparsity by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from genlab.algorithm import Algorithm
from genlab.evaluation import compression

KEY = jax.random.key(0)
DIGITS = load_digits().images.astype(np.uint8)[..., None]  # 0..16
TRAIN, TEST = {"x": DIGITS[:1200]}, {"x": DIGITS[1200:]}


def prepare(raw):
    return {"x": jnp.asarray(raw["x"]).astype(jnp.float32) / 16}


def principal(code_dim, scale=1.0) -> Any:
    """scikit-learn's components as an Algorithm whose codes are `scale` as large."""
    fitted = PCA(code_dim, svd_solver="full").fit(np.asarray(prepare(TRAIN)["x"]).reshape(1200, 64))
    mean, components = jnp.asarray(fitted.mean_), jnp.asarray(fitted.components_)
    record: dict[str, Any] = dict(
        init=lambda key, batch: None,
        step=lambda state, batch, key: (state, {}),
        evaluate=lambda state, batch, key: {},
        generate=None,
        encode=lambda state, batch, key: scale * (batch["x"].reshape(-1, 64) - mean) @ components.T,
        decode=lambda state, codes, key: (codes / scale @ components + mean).reshape(-1, 8, 8, 1),
        log_prob=None,
        density="none",
    )
    return Algorithm(**record)


STATE: Any = None


def compression_block(algorithm) -> Any:
    found = compression.compress(algorithm, STATE, TRAIN, TEST, prepare, KEY, 100)
    return found and found.block


@pytest.mark.parametrize("code_dim", [1, 8, 64])
def test_pca_compresses_as_pca_does(code_dim):
    block = compression_block(principal(code_dim, 3.0))
    x = TEST["x"].reshape(-1, 64) / 16
    reference = PCA(code_dim, svd_solver="full").fit(TRAIN["x"].reshape(-1, 64) / 16)
    errors = np.square(x - reference.inverse_transform(reference.transform(x))).mean(axis=1)
    for name in ("reconstruction_mse", "pca_mse"):
        np.testing.assert_allclose(block[name]["value"], errors.mean(), rtol=1e-4, atol=1e-9)
        np.testing.assert_allclose(
            block[name]["standard_error"], errors.std(ddof=1) / np.sqrt(len(x)), rtol=1e-3, atol=1e-9
        )
        assert (block[name]["n"], block[name]["code_size"]) == (len(x), code_dim)
    assert block["compression_ratio"]["value"] == 64 / code_dim
    assert block["pca_mse"]["n_train"] == 1200


def test_a_code_larger_than_the_example_stands_beside_all_components():
    wide = principal(64)
    encode, decode = wide.encode, wide.decode
    wide = wide._replace(
        encode=lambda *a: jnp.tile(encode(*a), (1, 2)),
        decode=lambda state, codes, key: decode(state, codes[:, :64], key),
    )
    block = compression_block(wide)
    assert block["compression_ratio"]["value"] == 0.5
    assert (block["reconstruction_mse"]["code_size"], block["pca_mse"]["code_size"]) == (128, 64)
    assert block["pca_mse"]["value"] < 1e-9


def test_pca_is_fitted_on_what_fits_in_memory(monkeypatch):
    monkeypatch.setattr(compression, "MAX_PCA_BYTES", 500 * 64 * 4)
    block = compression_block(principal(8))
    reference = PCA(8, svd_solver="full").fit(TRAIN["x"][:500].reshape(-1, 64) / 16)
    x = TEST["x"].reshape(-1, 64) / 16
    error = np.square(x - reference.inverse_transform(reference.transform(x))).mean()
    np.testing.assert_allclose(block["pca_mse"]["value"], error, rtol=1e-4)
    assert block["pca_mse"]["n_train"] == 500


def test_the_first_examples_are_enough_for_pca_and_no_other_is_read(monkeypatch):
    monkeypatch.setattr(compression, "MAX_PCA_EXAMPLES", 300)

    class Column:
        shape, dtype = TRAIN["x"].shape, TRAIN["x"].dtype

        def __len__(self):
            return len(TRAIN["x"])

        def __getitem__(self, rows):
            assert np.max(rows) < 300
            return TRAIN["x"][rows]

    block = compression.compress(principal(8), STATE, {"x": Column()}, TEST, prepare, KEY, 100).block
    assert block["pca_mse"]["n_train"] == 300
    assert compression.num_pca_examples(784) == 300
    monkeypatch.setattr(compression, "MAX_PCA_BYTES", 4 * 784 * 20 + 1)
    assert compression.num_pca_examples(784) == 20


# PCA's curve


@pytest.mark.parametrize("code_dim", [3, 64])
def test_the_curve_is_pca_fitted_anew_for_every_size(code_dim):
    curve = compression.compress(principal(code_dim), STATE, TRAIN, TEST, prepare, KEY, 100).pca_mse
    train, x = (split["x"].reshape(-1, 64) / 16 for split in (TRAIN, TEST))
    assert curve.shape == (65,)
    np.testing.assert_allclose(curve[0], np.square(x - train.mean(axis=0)).mean(), rtol=1e-6)
    for size in (1, 2, 7, 30, 60, 64):
        fitted = PCA(size, svd_solver="full").fit(train)
        error = np.square(x - fitted.inverse_transform(fitted.transform(x))).mean()
        np.testing.assert_allclose(curve[size], error, rtol=1e-5, atol=1e-12)


def test_the_curve_ends_where_the_examples_do():
    few = {"x": TRAIN["x"][:20]}
    found = compression.compress(principal(64), STATE, few, TEST, prepare, KEY, 100)
    assert found.pca_mse.shape == (21,) and found.block["pca_mse"]["code_size"] == 20
    np.testing.assert_allclose(found.pca_mse[20], found.block["pca_mse"]["value"], rtol=1e-12)


def test_errors_of_wide_examples_are_scikit_learn_s():
    """1,100 dimensions, of which 10 vary by much: solved by random projections."""
    rng = np.random.default_rng(0)
    wide = (rng.normal(size=(300, 10)) @ rng.normal(size=(10, 1100)) + 0.1 * rng.normal(size=(300, 1100))).astype("f4")
    fitted = compression.principal_components(wide[:200], 12)
    errors = compression.pca_errors(fitted, {"x": wide[200:]}, lambda raw: raw, [12, 4])
    for size, ours in zip((12, 4), errors, strict=True):
        exact = PCA(size, svd_solver="full").fit(wide[:200].astype("f8"))
        left = np.square(wide[200:] - exact.inverse_transform(exact.transform(wide[200:]))).mean(axis=1)
        np.testing.assert_allclose(ours.mean(), left.mean(), rtol=2e-3)


# Sparse codes


def coded(codes) -> Any:
    """An Algorithm that encodes pixels as is said, and decodes to black."""
    return principal(1)._replace(
        encode=lambda state, batch, key: codes(batch["x"].reshape(-1, 64)),
        decode=lambda state, z, key: jnp.zeros((len(z), 8, 8, 1)),
    )


def test_sparsity_of_codes_written_by_hand():
    codes = np.array([
        [0.0, 8.0, 0.011, 5.0],
        [0.0, 0.0, 1.000, 5.0],
        [0.0, 0.0, 0.009, 5.0],
        [0.0, 0.1, 0.000, 5.0],  # 0.08 is a hundredth of 8
    ], np.float32)  # fmt: skip
    block = compression.sparsity(codes)
    active, mean = block["active_units"], block["mean_activation"]
    assert active["value"] == (3 + 2 + 1 + 2) / 4 and active["never_active"] == 1
    assert active["standard_error"] == pytest.approx(np.std([3, 2, 1, 2], ddof=1) / 2)
    means = [0.0, 8.1 / 4, 1.02 / 4, 5.0]
    assert mean["value"] == pytest.approx(np.mean(means))
    assert mean["mean_deviation_of_a_unit"] == pytest.approx(np.abs(means - np.mean(means)).mean())
    assert mean["largest_deviation_of_a_unit"] == pytest.approx(5.0 - np.mean(means))
    assert mean["units_above_it"] == (1 + 4) / 4  # of the second unit once, of the last always
    assert active["n"] == mean["n"] == 4 and active["code_size"] == mean["code_size"] == 4


def test_a_sparse_code_stands_beside_as_many_components_as_it_has_active_units():
    """Ten units: one counts a pixel, two are always on, one of the others is on for any example, by a pixel's value."""
    pixel = TEST["x"].reshape(-1, 64)[:, 20] / 16

    def codes(x):
        which = jax.nn.one_hot(jnp.minimum((7 * x[:, 20]).astype(jnp.int32), 6), 7)
        return jnp.concatenate([x[:, 20:21], jnp.full((len(x), 2), 0.3), 0.2 * which], axis=1)

    block = compression_block(coded(codes))
    active = 3 + (pixel > 0.01).mean()
    assert block["active_units"]["value"] == pytest.approx(active) and 3 < active < 4
    assert block["mean_activation"]["value"] == pytest.approx((pixel.mean() + 0.6 + 0.2) / 10, rel=1e-5)
    x = TEST["x"].reshape(-1, 64) / 16
    four = PCA(4, svd_solver="full").fit(TRAIN["x"].reshape(-1, 64) / 16)
    errors = np.square(x - four.inverse_transform(four.transform(x))).mean(axis=1)
    of_active = block["pca_mse_active_units"]
    assert of_active["code_size"] == 4 and of_active["value"] == pytest.approx(errors.mean(), rel=1e-5)
    assert block["pca_mse"]["code_size"] == 10 and block["pca_mse"]["value"] < of_active["value"]
    np.testing.assert_allclose(block["reconstruction_mse"]["value"], np.square(x).mean(), rtol=1e-5)


def test_a_dead_code_stands_beside_the_mean():
    block = compression_block(coded(lambda x: jnp.zeros((len(x), 5))))
    x, mean = TEST["x"].reshape(-1, 64) / 16, TRAIN["x"].reshape(-1, 64).mean(axis=0) / 16
    assert block["active_units"]["value"] == 0 and block["active_units"]["never_active"] == 5
    assert block["pca_mse_active_units"]["code_size"] == 0
    assert block["pca_mse_active_units"]["value"] == pytest.approx(np.square(x - mean).mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("codes", "activations"),
    [
        (lambda x: jax.nn.relu(x[:, :5] - 0.5), True),
        (lambda x: jax.nn.sigmoid(x[:, :5]), True),
        (lambda x: (x[:, 20:25] > 0.5).astype(jnp.float32), True),
        (lambda x: x[:, 20:25] - 0.1, False),
        (lambda x: jnp.floor(5 * x[:, 20:25]), False),  # indices into a book
    ],
)
def test_sparsity_is_of_activations(codes, activations):
    block = compression_block(coded(codes))
    assert (block.keys() >= {"active_units", "mean_activation", "pca_mse_active_units"}) == activations
    assert activations or block.keys() == {"reconstruction_mse", "pca_mse", "compression_ratio"}


def test_the_test_split_is_encoded_once():
    seen = []

    def codes(x):
        jax.debug.callback(lambda first: seen.append(len(first)), x)
        return jax.nn.relu(x[:, :5] - 0.5)

    compression_block(coded(codes))
    jax.effects_barrier()
    assert sum(seen) == 600  # 597 examples in batches of 100


@pytest.mark.parametrize("lacking", ["encode", "decode"])
def test_without_a_code_there_is_nothing_to_say(lacking):
    assert compression_block(principal(2)._replace(**{lacking: None})) is None


def test_reconstruction_error_sums_over_the_event_and_draws_with_the_keys():
    """A decoder that adds noise of known variance to every pixel of a perfect reconstruction."""
    noisy = principal(64)._replace(
        encode=lambda state, batch, key: batch["x"].reshape(-1, 64),
        decode=lambda state, codes, key: (
            codes.reshape(-1, 8, 8, 1) + 0.5 * jax.random.normal(key, (len(codes), 8, 8, 1))
        ),
    )
    errors = compression.reconstruction_error(noisy, STATE, TEST, prepare, KEY, 100)
    assert errors.shape == (len(TEST["x"]),)
    np.testing.assert_allclose(errors.mean(), 64 * 0.25, rtol=0.05)
    assert len(np.unique(errors)) == len(errors)
