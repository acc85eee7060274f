"""A function of a batch over a whole split: padding never counts, and the keys are the documented ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.evaluation.held_out import mean_and_error, over_split

KEY = jax.random.key(0)


def split(num):
    rng = np.random.default_rng(0)
    return {"x": rng.integers(0, 256, (num, 2, 3, 1), dtype=np.uint8), "label": np.arange(num, dtype=np.int32)}


def prepare(raw):
    return {**raw, "x": raw["x"].astype(jnp.float32) / 255}


def terms(state, batch, key):
    """Of each example alone: its scaled sum and its label."""
    del key
    return {"sum": state * jnp.sum(batch["x"], axis=(1, 2, 3)), "label": batch["label"]}


@pytest.mark.parametrize("num", [1, 3, 4, 5, 8, 11])
def test_every_example_counts_once_and_in_order_whatever_the_chunks(num):
    result = over_split(terms, prepare, 4)(jnp.float32(2.0), split(num), KEY)
    assert isinstance(result["sum"], np.ndarray)
    np.testing.assert_array_equal(result["label"], np.arange(num))
    expected = 2.0 * (split(num)["x"].astype(np.float64) / 255).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(result["sum"], expected, rtol=1e-6)


def test_all_chunks_have_one_shape_so_that_one_program_serves_them():
    traced = []

    def function(state, batch, key):
        traced.append(batch["x"].shape)
        return batch["label"]

    over = over_split(function, prepare, 4)
    for num in (9, 2):
        over(jnp.zeros(()), split(num), KEY)
    assert traced == [(4, 2, 3, 1)]


def test_chunk_i_gets_the_key_folded_with_i():
    noise = lambda state, batch, key: jax.random.normal(key, (batch["x"].shape[0],))
    result = over_split(noise, prepare, 4)(jnp.zeros(()), split(6), KEY)
    expected = np.concatenate([jax.random.normal(jax.random.fold_in(KEY, i), (4,)) for i in range(2)])[:6]
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_columns_need_only_be_indexable_by_an_array_of_ints():
    class Column:
        def __len__(self):
            return 5

        def __getitem__(self, index):
            assert isinstance(index, np.ndarray) and index.max() < 5
            return np.asarray(10 * index, np.float32)[:, None]

    identity = lambda state, batch, key: batch["x"][:, 0]
    result = over_split(identity, lambda raw: raw, 3)(jnp.zeros(()), {"x": Column()}, KEY)
    np.testing.assert_array_equal(result, [0, 10, 20, 30, 40])


def test_mean_and_error_by_hand():
    mean, error = mean_and_error(np.array([1.0, 2.0, 3.0, 6.0], np.float32))
    # deviations -2, -1, 0, 3: variance 14 / 3
    assert mean == 3.0
    np.testing.assert_allclose(error, np.sqrt(14 / 3 / 4))


def test_mean_of_many_float32_does_not_drift():
    mean, error = mean_and_error(np.full(1_000_000, 100.1, np.float32))
    np.testing.assert_allclose(mean, np.float64(np.float32(100.1)), rtol=1e-12)
    np.testing.assert_allclose(error, 0.0, atol=1e-9)


def test_one_example_has_no_standard_error():
    mean, error = mean_and_error(np.array([2.0]))
    assert mean == 2.0 and np.isnan(error)
