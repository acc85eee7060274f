"""Codes of many dimensions laid out in the plane by who is near whom."""

import numpy as np

from genlab.errors import InputError

MAX_POINTS = 2_000


def tsne_plane(codes: np.ndarray, seed: int = 0) -> np.ndarray:
    """t-SNE of the first 2,000 codes: near neighbours stay near, distances between groups mean nothing.

    Args:
        codes: f[N, D], N >= 4, finite.
        seed: of the embedding.

    Returns:
        f32[min(N, 2000), 2], the same for the same seed on the same machine. The perplexity is 30, and with fewer than
        91 codes a third of their number.

    Raises:
        InputError: too few codes, or not finite.

    Reference: van der Maaten & Hinton 2008; started from the principal plane, Kobak & Berens 2019.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    codes = np.asarray(codes, np.float32)[:MAX_POINTS]
    if codes.ndim != 2 or len(codes) < 4 or not np.isfinite(codes).all():
        raise InputError(f"t-SNE lays out at least 4 finite codes [N, D]; got shape {codes.shape}")
    start = "pca" if codes.shape[1] >= 2 else "random"
    embedding = TSNE(2, perplexity=min(30.0, (len(codes) - 1) / 3), init=start, random_state=seed)
    with threadpool_limits(1):  # threads that wait for each other at every step come to a halt on shared cores
        return embedding.fit_transform(codes)
