"""A linear autoencoder's distance from principal components, by algorithms whose matrices are made by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg

from genlab.algorithm import Algorithm, new_state
from genlab.evaluation.linear import affine_map, linear_block

KEY = jax.random.key(0)
D, K = 12, 10
RNG = np.random.default_rng(0)
BASIS = linalg.qr(RNG.normal(size=(D, D)))[0]
SCALES = 0.8 ** np.arange(D)


def data(num=4000):
    """Centred and whitened before it is scaled, so that its principal components are BASIS's columns exactly."""
    x = RNG.normal(size=(num, D))
    x -= x.mean(axis=0)
    x = x @ np.linalg.inv(np.linalg.cholesky(x.T @ x / num)).T
    return {"x": ((x * SCALES) @ BASIS.T + 3.0).astype(np.float32)}


def autoencoder(encoder, decoder, bend=lambda x: x):
    """codes = bend(encoder x - 1), x = decoder codes + 2, with f[K, D] and f[D, K]."""
    encoder, decoder = jnp.asarray(encoder, jnp.float32), jnp.asarray(decoder, jnp.float32)
    encode = lambda state, batch, key: bend(batch["x"] @ encoder.T - 1.0)
    decode = lambda state, codes, key: codes @ decoder.T + 2.0
    nothing = lambda *arguments: new_state({})
    return Algorithm(nothing, nothing, nothing, None, encode, decode, None, "none")


def measured(algorithm):
    block = linear_block(algorithm, new_state({}), data(), lambda raw: raw, KEY)
    return None if block is None else {name: number["value"] for name, number in block.items()}


def test_any_basis_of_the_principal_subspace_has_no_angle_to_it():
    mixing = RNG.normal(size=(K, K))
    found = measured(autoencoder(np.linalg.inv(mixing) @ BASIS[:, :K].T, BASIS[:, :K] @ mixing))
    assert found["principal_angle"] < 0.1
    assert found["direction_cosine"] < 0.9 and found["encoder_decoder_difference"] > 0.1


def test_a_turned_direction_is_as_far_as_it_was_turned():
    angle = 0.3
    turned = BASIS[:, :K].copy()
    turned[:, 2] = np.cos(angle) * BASIS[:, 2] + np.sin(angle) * BASIS[:, -1]
    sizes = np.linspace(2, 1, K)  # the singular values say which direction is which
    found = measured(autoencoder((turned * sizes).T, turned * sizes))
    assert found["principal_angle"] == pytest.approx(np.degrees(angle), abs=0.05)
    assert found["direction_cosine"] == pytest.approx(np.cos(angle), abs=1e-3)
    assert found["encoder_decoder_difference"] < 1e-6


def test_only_the_first_eight_directions_are_asked_for():
    swapped = BASIS[:, [*range(8), 9, 8]] * np.linspace(2, 1, K)
    found = measured(autoencoder(swapped.T, swapped))
    assert found["direction_cosine"] > 0.999 and found["principal_angle"] < 0.1
    swapped = BASIS[:, [*range(7), 8, 7, 9]] * np.linspace(2, 1, K)
    assert measured(autoencoder(swapped.T, swapped))["direction_cosine"] < 0.05


def test_the_difference_of_encoder_and_decoder_is_relative():
    decoder = BASIS[:, :K] * np.linspace(2, 1, K)
    assert measured(autoencoder(decoder.T / 2, decoder))["encoder_decoder_difference"] == pytest.approx(1.0, rel=1e-5)


def test_what_is_not_linear_or_too_large_is_not_taken_apart(monkeypatch):
    decoder = BASIS[:, :K]
    assert measured(autoencoder(decoder.T, decoder, jnp.tanh)) is None
    assert measured(autoencoder(decoder.T, decoder)._replace(decode=None)) is None
    bent = autoencoder(decoder.T, decoder)
    assert (
        measured(bent._replace(decode=lambda state, codes, key: jnp.abs(codes @ decoder.T.astype(np.float32)))) is None
    )
    monkeypatch.setattr("genlab.evaluation.linear.MAX_PARAMETERS", K * D - 1)
    assert measured(autoencoder(decoder.T, decoder)) is None


def test_the_matrix_of_an_affine_map():
    matrix = RNG.normal(size=(3, 4)).astype(np.float32)
    found = affine_map(lambda x: x.reshape(1, 4) @ matrix.T + 5.0, jnp.ones((1, 2, 2)), KEY)
    np.testing.assert_allclose(found, matrix, rtol=1e-6)
    assert affine_map(lambda x: jnp.maximum(x, 0.0), jnp.ones((1, 4)), KEY) is None
