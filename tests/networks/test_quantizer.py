"""Vector quantization against distances by SciPy, recursions by hand and scikit-learn's k-means."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans

from genlab.networks import quantizer

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
CODEBOOK = RNG.normal(size=(5, 3)).astype(np.float32)
VECTORS = RNG.normal(size=(4, 2, 2, 3)).astype(np.float32)


def by_distance(vectors, codebook):
    flat = vectors.reshape(-1, vectors.shape[-1]).astype(np.float64)
    return cdist(flat, codebook.astype(np.float64)).argmin(axis=1).reshape(vectors.shape[:-1])


@pytest.mark.parametrize("shape", [(3,), (7, 3), (2, 5, 6, 3)])
def test_the_nearest_code_is_the_one_at_the_least_distance(shape):
    vectors = 1.5 * RNG.normal(size=shape).astype(np.float32)
    codebook = RNG.normal(size=(40, 3)).astype(np.float32)
    indices = jax.jit(quantizer.nearest_code)(vectors, codebook)
    assert indices.dtype == jnp.int32 and indices.shape == shape[:-1]
    np.testing.assert_array_equal(indices, by_distance(vectors, codebook))


def test_codes_of_different_lengths_are_told_by_distance_not_by_product():
    codebook = np.float32([[10.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    assert int(quantizer.nearest_code(np.float32([1.2, 0.1]), codebook)) == 1  # of the two equal ones the first
    assert int(quantizer.nearest_code(np.float32([5.6, 0.1]), codebook)) == 0


def test_a_vector_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"got \(4, 2\) and \(5, 3\)"):
        quantizer.nearest_code(jnp.zeros((4, 2)), CODEBOOK)


def test_quantized_vectors_are_codes_exactly_and_their_gradient_is_the_identity():
    vectors = 1e3 * VECTORS + 0.1
    cotangent = RNG.normal(size=VECTORS.shape).astype(np.float32)
    (codes, indices), pull = jax.vjp(jax.jit(quantizer.quantize), vectors, CODEBOOK)
    np.testing.assert_array_equal(indices, by_distance(vectors, CODEBOOK))
    np.testing.assert_array_equal(codes, CODEBOOK[by_distance(vectors, CODEBOOK)])
    to_vectors, to_codebook = pull((cotangent, np.zeros(indices.shape, jax.dtypes.float0)))
    np.testing.assert_array_equal(to_vectors, cotangent)
    np.testing.assert_array_equal(to_codebook, np.zeros_like(CODEBOOK))


def test_commitment_pulls_vectors_to_codes_and_the_codebook_loss_codes_to_vectors():
    codes = CODEBOOK[by_distance(VECTORS, CODEBOOK)]
    distance = np.square(VECTORS.astype(np.float64) - codes).reshape(4, -1).sum(axis=1)
    weights = np.arange(1.0, 5.0, dtype=np.float32)
    along = weights[:, None, None, None] * 2 * (VECTORS - codes)

    commitment = lambda vectors, codes: quantizer.commitment_loss(vectors, codes, 0.25)
    for loss, scale, slopes in (
        (commitment, 0.25, (0.25 * along, 0.0 * along)),
        (quantizer.codebook_loss, 1.0, (0.0 * along, -along)),
    ):
        value, pull = jax.vjp(loss, VECTORS, codes)
        np.testing.assert_allclose(value, scale * distance, rtol=1e-5)
        for actual, expected in zip(pull(weights), slopes, strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="expected equal shapes"):
        quantizer.codebook_loss(VECTORS, CODEBOOK)


def test_histogram_counts_every_place():
    indices = np.array([[0, 3, 3], [3, 1, 0]])
    np.testing.assert_array_equal(quantizer.histogram(jnp.asarray(indices), 5), [2, 1, 0, 3, 0])


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([3, 3, 3, 3], 4.0), ([0, 7, 0], 1.0), ([2, 1, 1], 2**1.5), ([0.5, 0.25, 0, 0.25], 2**1.5), ([1e-6, 1e-6], 2.0)],
)
def test_perplexity_is_the_number_of_codes_that_would_be_as_hard_to_guess(counts, expected):
    np.testing.assert_allclose(quantizer.perplexity(jnp.asarray(counts, jnp.float32)), expected, rtol=1e-5)


def test_ema_follows_its_recursion():
    """Equations 6 to 8 of the paper, code by code in float64, over steps whose choices differ."""
    decay, dim, num = 0.9, 3, 5
    counts, sums = np.ones(num), CODEBOOK.astype(np.float64)
    now, update = (jnp.ones(num), jnp.asarray(CODEBOOK)), jax.jit(quantizer.ema_update)
    for step in range(4):
        rng = np.random.default_rng(step)
        vectors = rng.normal(size=(6, 2, dim)).astype(np.float32)
        indices = rng.integers(0, num - 1, (6, 2))  # the last code is never chosen
        for k in range(num):
            mine = vectors[indices == k].astype(np.float64)
            counts[k] = decay * counts[k] + (1 - decay) * len(mine)
            sums[k] = decay * sums[k] + (1 - decay) * mine.sum(axis=0)
        *now, codebook = update(*now, vectors, jnp.asarray(indices, jnp.int32), decay)
        total = counts.sum()
        smoothed = (counts + 1e-5) / (total + num * 1e-5) * total
        for actual, expected in zip((*now, codebook), (counts, sums, sums / smoothed[:, None]), strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_without_a_past_an_update_is_a_step_of_k_means():
    points = np.random.default_rng(1).normal(size=(300, 2)).astype(np.float32)
    codebook = jnp.asarray(points[:6])
    update = jax.jit(quantizer.ema_update)
    for _ in range(7):
        indices = quantizer.nearest_code(points, codebook)
        *_, codebook = update(jnp.zeros(6), jnp.zeros((6, 2)), points, indices, 0.0)
    theirs = KMeans(6, init=points[:6], n_init=1, max_iter=7, tol=0.0, algorithm="lloyd").fit(points)
    np.testing.assert_allclose(codebook, theirs.cluster_centers_, atol=1e-4)


def test_a_code_without_vectors_keeps_its_place_and_stays_finite():
    counts, sums = jnp.float32([4.0, 1e-30]), jnp.float32([[4.0], [3e-30]])
    *_, codebook = quantizer.ema_update(counts, sums, jnp.ones((2, 1)), jnp.zeros(2, jnp.int32), 0.5)
    assert np.isfinite(codebook).all()
    np.testing.assert_allclose(codebook[0], 1.0, rtol=1e-4)


def test_the_encoder_gets_no_gradient_from_the_averages():
    def total(vectors):
        indices = quantizer.nearest_code(vectors, CODEBOOK)
        counts, sums, codebook = quantizer.ema_update(jnp.ones(5), CODEBOOK, vectors, indices, 0.5)
        _, _, restarted = quantizer.restart_dead_codes(KEY, counts, codebook, vectors, 1.0, 2.0)
        return jnp.sum(sums) + jnp.sum(codebook) + jnp.sum(restarted)

    np.testing.assert_array_equal(jax.jit(jax.grad(total))(VECTORS), np.zeros_like(VECTORS))


def test_dead_codes_are_put_on_vectors_of_the_batch_and_the_living_are_left():
    counts = np.float32([3.0, 0.1, 0.5, 0.0, 2.0])
    restart = jax.jit(quantizer.restart_dead_codes)
    dead, fresh, codebook = restart(KEY, counts, CODEBOOK, VECTORS, 0.5, 7.0)
    np.testing.assert_array_equal(dead, [False, True, False, True, False])  # at the threshold it lives
    np.testing.assert_array_equal(fresh, np.float32([3.0, 7.0, 0.5, 7.0, 2.0]))
    np.testing.assert_array_equal(codebook[~np.asarray(dead)], CODEBOOK[[0, 2, 4]])
    flat = VECTORS.reshape(-1, 3)
    rows = [np.flatnonzero((flat == code).all(axis=1)).tolist() for code in np.asarray(codebook)[[1, 3]]]
    assert all(len(row) == 1 for row in rows) and rows[0] != rows[1]
    others = restart(jax.random.key(1), counts, CODEBOOK, VECTORS, 0.5, 7.0)[2]
    assert np.any(np.asarray(others) != np.asarray(codebook))
    assert not np.any(restart(KEY, counts, CODEBOOK, VECTORS, 0.0, 7.0)[0])


def test_restarts_draw_every_vector_alike():
    vectors = jnp.arange(4.0)[:, None]
    drawn = quantizer.restart_dead_codes(KEY, jnp.zeros(20_000), jnp.zeros((20_000, 1)), vectors, 1.0, 1.0)[2]
    shares = np.bincount(np.asarray(drawn).ravel().astype(int), minlength=4) / 20_000
    assert np.all(np.abs(shares - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 20_000))


@pytest.mark.parametrize(("threshold", "used"), [(0.0, 1), (0.5, 32)])
def test_restarts_bring_far_codes_into_use(threshold, used):
    """All codes but one start where no vector is."""
    vectors = jax.random.normal(KEY, (2_000, 2))
    codebook = jnp.full((32, 2), 50.0).at[0].set(0.0)

    @jax.jit
    def update(counts, sums, codebook, key):
        indices = quantizer.nearest_code(vectors, codebook)
        counts, sums, codebook = quantizer.ema_update(counts, sums, vectors, indices, 0.9)
        dead, counts, codebook = quantizer.restart_dead_codes(key, counts, codebook, vectors, threshold, 60.0)
        return counts, jnp.where(dead[:, None], counts[:, None] * codebook, sums), codebook

    counts, sums = jnp.ones(32), codebook
    for step in range(60):
        counts, sums, codebook = update(counts, sums, codebook, jax.random.key(step))
    assert np.count_nonzero(quantizer.histogram(quantizer.nearest_code(vectors, codebook), 32)) == used


def one_update(key, vectors):
    """Everything that a step does to a codebook, from its own start."""
    codebook = jax.random.normal(key, (6, 3))
    codes, indices = quantizer.quantize(vectors, codebook)
    counts, sums, codebook = quantizer.ema_update(jnp.ones(6), codebook, vectors, indices, 0.9)
    return codes, quantizer.restart_dead_codes(key, counts, codebook, vectors, 1.0, 2.0), sums


def test_members_of_a_population_have_their_own_codebooks():
    keys = jax.random.split(KEY, 3)
    together = jax.jit(jax.vmap(one_update, in_axes=(0, None)))(keys, VECTORS)
    alone = [jax.jit(one_update)(key, VECTORS) for key in keys]
    for i in range(3):
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-6), together, alone[i])
    assert np.any(np.asarray(together[2][0]) != np.asarray(together[2][1]))


def test_sums_of_a_batch_on_eight_devices_are_those_of_the_whole_batch():
    vectors = np.random.default_rng(3).normal(size=(16, 4, 3)).astype(np.float32)
    mesh = Mesh(np.array(jax.devices()), ("data",))
    split = jax.device_put(vectors, NamedSharding(mesh, PartitionSpec("data")))
    assert len(split.sharding.device_set) == 8
    apart, whole = (jax.jit(functools.partial(one_update, KEY))(x) for x in (split, vectors))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), apart, whole)
