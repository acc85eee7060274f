"""Reconstruction beside PCA: an Algorithm that is scikit-learn's PCA must equal its own baseline."""

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
    return compression.compression_block(algorithm, STATE, TRAIN, TEST, prepare, KEY, 100)


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
