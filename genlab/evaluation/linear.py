"""A linear autoencoder beside principal components: the same subspace, and under L2 the same directions.

The optimum of a linear autoencoder's squared error is the subspace of the first principal components, and any basis of
it. With squared kernels as a penalty the encoder is the decoder transposed, and the decoder's left singular vectors are
the components themselves.

Reference: Baldi & Hornik 1989; Kunin et al. 2019, "Loss landscapes of regularized linear autoencoders", theorem 1.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genlab.algorithm import Algorithm, State
from genlab.evaluation.compression import flat

Number = dict[str, Any]
Split = Mapping[str, Any]

MAX_PARAMETERS = 1 << 20  # of a map's matrix, beyond which it is not taken apart
MAX_TRAIN_EXAMPLES = 60_000
NUM_DIRECTIONS = 8


def linear_block(
    algorithm: Algorithm, state: State, train: Split, prepare: Callable[[Any], Any], key: jax.Array
) -> dict[str, Number] | None:
    """How far a linear autoencoder is from the principal components of its training split.

    Args:
        algorithm, state: the model, of any family.
        train: raw examples as the model was trained to see them; the first 60,000 are used.
        prepare: raw batch -> batch.
        key: of the encoder's and the decoder's draws, and of the codes at which linearity is tried.

    Returns:
        `principal_angle`, the largest between the decoder's span and that of as many components, in degrees (under L2
        the directions of less variance than its weight vanish, and the angle is then any);
        `direction_cosine`, the smallest |cos| between the decoder's first eight left singular vectors and the first
        eight components; `encoder_decoder_difference`, |W1 - W2'| / |W1| in the Frobenius norm. None where encode or
        decode is missing or not an affine map, or has more than a million entries.
    """
    encode, decode = algorithm.encode, algorithm.decode
    if encode is None or decode is None:
        return None
    like = prepare({name: np.asarray(values[:1]) for name, values in train.items()})
    encoder = affine_map(lambda x: encode(state, {**like, "x": x}, key), like["x"], key)
    if encoder is None:
        return None
    decoder = affine_map(lambda codes: decode(state, codes, key), jnp.zeros((1, encoder.shape[0])), key)
    if decoder is None:
        return None
    rows = np.arange(min(len(train["x"]), MAX_TRAIN_EXAMPLES))
    x = np.asarray(flat(prepare({"x": np.asarray(train["x"][rows])})["x"]), np.float64)
    code_size = decoder.shape[1]
    _, vectors = np.linalg.eigh(np.cov(x, rowvar=False, bias=True))  # eigenvalues ascend
    components = vectors[:, ::-1][:, :code_size]
    left, _, _ = np.linalg.svd(decoder, full_matrices=False)  # [D, k], largest singular value first
    cosine = np.linalg.svd(components.T @ left, compute_uv=False).min()
    num = min(NUM_DIRECTIONS, code_size)
    cosines = np.abs(np.sum(left[:, :num] * components[:, :num], axis=0))
    difference = np.linalg.norm(encoder - decoder.T) / np.linalg.norm(encoder)
    protocol = {"code_size": code_size, "components_of": "train split", "n_train": len(x)}
    return {
        "principal_angle": {"value": math.degrees(math.acos(min(1.0, cosine))), "unit": "degrees", **protocol},
        "direction_cosine": {"value": float(cosines.min()), "of": f"the first {num} directions", **protocol},
        "encoder_decoder_difference": {"value": float(difference), "of": "encoder and decoder transposed", **protocol},
    }


def affine_map(function: Callable[[jax.Array], jax.Array], like: jax.Array, key: jax.Array) -> np.ndarray | None:
    """The matrix f64[M, N] of an affine function [1, ...] -> [1, ...] of N numbers, or None where it is not affine.

    Tried at two random points: f(a + b) - f(a) - f(b) + f(0) is zero, to 1e-4 of the largest of them.
    """
    a, b = jax.random.normal(key, (2, *like.shape))
    zero = jnp.zeros_like(like)
    shape = jax.eval_shape(function, like)
    if math.prod(shape.shape) * like.size > MAX_PARAMETERS:
        return None
    function = jax.jit(function)
    values = [np.asarray(flat(function(point)), np.float64) for point in (a + b, a, b, zero)]
    bend = np.abs(values[0] - values[1] - values[2] + values[3]).max()
    if not bend <= 1e-4 * max(np.abs(value).max() for value in values):  # a NaN is not affine
        return None
    jacobian = jax.jit(jax.jacrev(function))(zero)
    return np.asarray(jacobian, np.float64).reshape(math.prod(shape.shape), like.size)
