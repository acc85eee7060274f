"""How far generated examples are from real ones."""

from typing import Any

import numpy as np

from genlab.errors import InputError

Number = dict[str, Any]


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Frechet distance between the Gaussians fitted to two sets of features.

    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2); covariances with ddof 1.

    Args:
        a, b: f[N, D], f[M, D].

    Returns:
        The squared 2-Wasserstein distance of the two Gaussians, >= 0, in squared units of the features.

    Raises:
        InputError: a set of fewer than 2 examples, which has no covariance.

    Reference: Dowson & Landau 1982; Heusel et al. 2017, equation 6.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if min(len(a), len(b)) < 2:
        raise InputError(f"a Frechet distance needs at least 2 examples of each kind; got {len(a)} and {len(b)}")
    cov_a, cov_b = (np.atleast_2d(np.cov(features, rowvar=False)) for features in (a, b))
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T  # C_a^1/2, symmetric
    # the eigenvalues of C_a^1/2 C_b C_a^1/2 are those of C_a C_b, and it is symmetric: no sqrtm
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ cov_b @ root), 0, None)).sum()
    distance = np.square(a.mean(axis=0) - b.mean(axis=0)).sum() + np.trace(cov_a) + np.trace(cov_b) - 2.0 * cross
    return float(max(distance, 0.0))


def principal_frechet(samples: np.ndarray, train: np.ndarray, test: np.ndarray, dim: int = 64) -> dict[str, Number]:
    """Frechet distance to the test set in the space of the training set's first principal components.

    Pixels, not a network's features: it sees mean, contrast and the covariance of strokes and is blind to
    most else. It needs no weights, and the training set's own distance to the test set stands beside it.

    Args:
        samples: f32[N, ...], generated, on the scale of the data.
        train, test: f32[M, ...], f32[K, ...].
        dim: number of components, at most the number of dimensions.

    Returns:
        `frechet_pca` of the samples and `frechet_pca_floor` of as many training examples.
    """
    from sklearn.decomposition import PCA

    samples, train, test = (array.reshape(len(array), -1) for array in (samples, train, test))
    dim = min(dim, train.shape[1], len(train))
    principal = PCA(dim, svd_solver="full" if train.shape[1] < dim * 2 else "auto", random_state=0).fit(train[:10_000])
    real = principal.transform(test)
    protocol = {
        "split": "test",
        "n_real": len(test),
        "extractor": f"{dim} principal components of {len(train[:10_000]):,} training examples",
        "estimator": "Gaussians fitted to both, covariance with ddof 1",
    }
    floor = train[: len(samples)]
    return {
        "frechet_pca": {
            "value": frechet_distance(principal.transform(samples), real), "n": len(samples), **protocol,
        },
        "frechet_pca_floor": {
            "value": frechet_distance(principal.transform(floor), real), "n": len(floor), "of": "training examples",
            **protocol,
        },
    }  # fmt: skip
