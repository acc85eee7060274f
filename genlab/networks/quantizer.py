"""Vector quantization: every vector becomes the nearest of K codes, and the codes follow the vectors.

    z_q = e_k,    k = argmin_j |z_e - e_j|,    loss = ... + beta |z_e - sg(e_k)|^2  [+ |sg(z_e) - e_k|^2]

where sg stops the gradient. The gradient at z_q is handed to z_e as it is (straight-through). The codes e are moved
by the last term, or, without it, are moving averages of the vectors that chose them: k-means, a batch at a time.

All functions are pure, their shapes static; under `vmap` each member has its own codebook.

Reference: van den Oord et al. 2017, "Neural discrete representation learning", equations 1-3 and appendix A.1;
Razavi et al. 2019, "Generating diverse high-fidelity images with VQ-VAE-2".
"""

import jax
import jax.numpy as jnp

from genlab.losses.event import check_same_shape, sum_event

Array = jax.Array

SMOOTHING = 1e-5  # of the counts that sums are divided by, in vectors of a batch


def nearest_code(vectors: Array, codebook: Array) -> Array:
    """The index of the code at the least Euclidean distance; of equal ones the first.

    Args:
        vectors: f32[..., D].
        codebook: f32[K, D].

    Returns:
        i32[...], in 0..K-1.

    Raises:
        ValueError: if the vectors are not of the codes' size.
    """
    if codebook.ndim != 2 or vectors.shape[-1] != codebook.shape[1]:
        raise ValueError(f"vectors [..., D] need a codebook [K, D], got {vectors.shape} and {codebook.shape}")
    # |z - e|^2 = |z|^2 - 2 z.e + |e|^2, of which |z|^2 is the same for all codes; highest precision, because the
    # half-precision products of an accelerator would choose other codes than the distance does
    products = jnp.matmul(vectors, codebook.T, precision=jax.lax.Precision.HIGHEST)  # [..., K]
    return jnp.argmin(0.5 * jnp.sum(jnp.square(codebook), axis=1) - products, axis=-1).astype(jnp.int32)


def quantize(vectors: Array, codebook: Array) -> tuple[Array, Array]:
    """The nearest codes, exactly, with the gradient of the identity: what comes back for a code goes to its vector.

    Args:
        vectors: f32[..., D].
        codebook: f32[K, D]; gets no gradient.

    Returns:
        f32[..., D], the codes, and i32[...], their indices.
    """
    indices = nearest_code(vectors, codebook)
    codes = jax.lax.stop_gradient(codebook[indices])
    # z - sg(z) is zero, so that the value is the code to the last bit; z + sg(e - z) would round it
    return codes + (vectors - jax.lax.stop_gradient(vectors)), indices


def commitment_loss(vectors: Array, codes: Array, beta: float | Array) -> Array:
    """beta |z_e - sg(e)|^2: keeps the encoder near the codes it chose.

    Args:
        vectors, codes: f32[B, ..., D].
        beta: >= 0; 0.25 in the paper.

    Returns:
        f32[B], summed over the event. No gradient in the codes.
    """
    check_same_shape(vectors=vectors, codes=codes)
    return beta * sum_event(jnp.square(vectors - jax.lax.stop_gradient(codes)))


def codebook_loss(vectors: Array, codes: Array) -> Array:
    """|sg(z_e) - e|^2: draws the codes to the vectors that chose them.

    Args:
        vectors, codes: f32[B, ..., D]; the codes as looked up, `codebook[indices]`, not as `quantize` gives them.

    Returns:
        f32[B], summed over the event. No gradient in the vectors.
    """
    return commitment_loss(codes, vectors, 1.0)  # the same distance, its sides exchanged


def histogram(indices: Array, num_codes: int) -> Array:
    """f32[K], how often each code occurs among indices i32[...]."""
    return jnp.sum(jax.nn.one_hot(indices.reshape(-1), num_codes), axis=0)


def perplexity(counts: Array) -> Array:
    """exp of the entropy of the codes' frequencies: how many codes, equally used, would be as hard to guess.

    Args:
        counts: f32[K] >= 0, not all zero.

    Returns:
        f32[], from 1 (one code takes all) to K.
    """
    p = counts / jnp.sum(counts)
    return jnp.exp(-jnp.sum(jax.scipy.special.xlogy(p, p)))  # 0 log 0 = 0


def ema_update(
    counts: Array, sums: Array, vectors: Array, indices: Array, decay: float | Array
) -> tuple[Array, Array, Array]:
    """Moves every code towards the mean of the vectors that chose it.

        N_k <- decay N_k + (1 - decay) n_k,    m_k <- decay m_k + (1 - decay) sum of its vectors,    e_k = m_k / N_k

    where N is smoothed, N_k <- n (N_k + eps) / (n + K eps) with n = sum of N and eps = 1e-5, lest a code that nothing
    chooses be divided by zero. Of a batch split over devices the sums are those of the whole batch.

    Args:
        counts: f32[K], N: vectors of a batch that choose the code, on average.
        sums: f32[K, D], m.
        vectors: f32[..., D]; they get no gradient from here.
        indices: i32[...], their codes.
        decay: in [0, 1); 0.99 in the paper.

    Returns:
        counts f32[K], sums f32[K, D] and codebook f32[K, D].

    Reference: van den Oord et al. 2017, appendix A.1, equations 6-8; the smoothing is that of the authors' code.
    """
    num_codes, dim = sums.shape
    # a product with the one-hot matrix: the order of a scatter's additions is not the same twice on a GPU
    chosen = jax.nn.one_hot(indices.reshape(-1), num_codes)  # [N, K]
    vectors = jax.lax.stop_gradient(vectors).reshape(-1, dim)  # [N, D]
    batch_sums = jnp.matmul(chosen.T, vectors, precision=jax.lax.Precision.HIGHEST)
    counts = decay * counts + (1.0 - decay) * jnp.sum(chosen, axis=0)
    sums = decay * sums + (1.0 - decay) * batch_sums
    total = jnp.sum(counts)
    smoothed = total * (counts + SMOOTHING) / (total + num_codes * SMOOTHING)
    return counts, sums, sums / smoothed[:, None]


def restart_dead_codes(
    key: Array, counts: Array, codebook: Array, vectors: Array, threshold: float | Array, fresh: float | Array
) -> tuple[Array, Array, Array]:
    """Puts codes that hardly anything chooses on vectors of the batch, drawn at random with replacement.

    Args:
        key: of the draw.
        counts: f32[K], as `ema_update` keeps them.
        codebook: f32[K, D].
        vectors: f32[..., D], of the encoder.
        threshold: a code with a smaller count is dead; 0: none is.
        fresh: the count that a restarted code begins with. If nothing chooses it either, it is dead again after
            log(fresh / threshold) / (1 - decay) steps.

    Returns:
        dead bool[K]; counts f32[K] and codebook f32[K, D] after the restart.

    Reference: Dhariwal et al. 2020, "Jukebox", section 3.1 ("random restarts").
    """
    vectors = jax.lax.stop_gradient(vectors).reshape(-1, codebook.shape[1])  # [N, D]
    dead = counts < threshold
    rows = jax.random.randint(key, counts.shape, 0, vectors.shape[0])
    return dead, jnp.where(dead, fresh, counts), jnp.where(dead[:, None], vectors[rows], codebook)
