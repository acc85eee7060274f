"""Linear Gaussian models, whose evidence and posterior have closed forms: the oracle of every bound."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from scipy import stats

from genlab.models import likelihoods
from genlab.networks.dense import MLP, DenseDecoder, GaussianHead

# probabilistic PCA: p(x) = N(mu, W W' + s^2 I); columns of W are orthogonal, so q(z | x) is a diagonal Gaussian
W = np.array([[1.2, 0.3], [-0.4, 0.9], [0.5, 0.0], [0.0, 0.6]])
W[:, 1] -= W[:, 0] * (W[:, 0] @ W[:, 1]) / (W[:, 0] @ W[:, 0])
MU = np.array([0.3, -1.0, 0.5, 2.0])
VARIANCE = 0.3
M = np.diag(W.T @ W) + VARIANCE
POINTS = np.random.default_rng(0).normal(size=(3, 4)) * 1.5 + MU
EVIDENCE = stats.multivariate_normal(MU, W @ W.T + VARIANCE * np.eye(4)).logpdf(POINTS)
SHIFT, STRETCH = np.array([0.4, -0.3]), np.array([1.5, 0.7])  # of a worse encoder: of its mean and its variance
BATCH = {"x": jnp.asarray(POINTS, jnp.float32)}


def f32(tree):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)


def dense(kernel, bias):
    return {"kernel": kernel, "bias": bias}


def encoder():
    return GaussianHead(MLP(()), 2)


def decoder():
    return DenseDecoder((), (4,))


def likelihood():
    return likelihoods.gaussian(float(np.log(VARIANCE)), squash=False)


def params(shift=0.0, stretch=1.0):
    """Of the decoder (W, mu), and of the encoder that is the exact posterior, or off by this much."""
    kernel = np.concatenate([W / M, np.zeros_like(W)], axis=1)  # [4, mean and log-variance]
    bias = np.concatenate([-MU @ W / M + shift, np.log(VARIANCE / M * stretch)])
    return f32({"encoder": {"Dense_0": dense(kernel, bias)}, "decoder": {"Dense_0": dense(W.T, MU)}})


STATS = {"encoder": {}, "decoder": {}}


class Moments(nn.Module):
    """z -> mean and log sigma^2, both affine."""

    dim: int

    @nn.compact
    def __call__(self, z):
        return jnp.split(nn.Dense(2 * self.dim)(z.reshape(z.shape[0], -1)), 2, axis=-1)
