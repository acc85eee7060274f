"""Attention by several heads: of all places at once, row by row, and of one place to keys and values that were kept.

Reference: Vaswani et al. 2017, "Attention is all you need", section 3.2.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array
Cache = tuple[Array, Array]  # keys and values of the places so far, f[B, T, heads, F / heads] each


def split_heads(x: Array, num_heads: int) -> Array:
    """[B, T, F] -> [B, T, heads, F / heads]."""
    return x.reshape(*x.shape[:2], num_heads, -1)


def attend(queries: Array, keys: Array, values: Array, seen: Array) -> Array:
    """softmax(Q K' / sqrt(D)) V of every head.

    Args:
        queries: f[B, Q, heads, D].
        keys, values: f[B, T, heads, D].
        seen: bool[Q, T], which places each query looks at: one at least.

    Returns:
        f[B, Q, heads D], of values' type; the softmax is taken in float32 or better.
    """
    scores = jnp.einsum("bqhd,bkhd->bhqk", queries, keys) / math.sqrt(queries.shape[-1])
    wide = jnp.float64 if scores.dtype == jnp.float64 else jnp.float32
    scores = jnp.where(seen, scores.astype(wide), -jnp.inf)
    shares = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", shares, values)
    return mixed.reshape(*mixed.shape[:2], -1)


def attend_by_rows(queries: Array, keys: Array, values: Array, num_rows: int) -> Array:
    """Causal attention, one row of the T places after the other.

    Scores are held of a row at a time, [B, heads, T / rows, T], and computed again for the gradient: those of all
    places of a batch of images would be gigabytes.

    Args:
        queries, keys, values: f[B, T, heads, D].
        num_rows: a divisor of T.

    Returns:
        f[B, T, heads D], at each place over the places up to it.
    """
    num, length, *rest = queries.shape
    rows = jnp.moveaxis(queries.reshape(num, num_rows, -1, *rest), 1, 0)  # [rows, B, T / rows, heads, D]
    seen = jnp.tri(length, dtype=bool).reshape(num_rows, -1, length)
    # in a loop nothing needs to keep the compiler from merging the two computations
    one = jax.checkpoint(lambda row: attend(row[0], keys, values, row[1]), prevent_cse=False)
    return jnp.moveaxis(jax.lax.map(one, (rows, seen)), 0, 1).reshape(num, length, -1)


def attend_at(place: Array, query: Array, key: Array, value: Array, cache: Cache) -> tuple[Array, Cache]:
    """One place of causal attention.

    Args:
        place: i32[], t.
        query, key, value: f[B, 1, heads, D], at t.
        cache: of the places before; those at t and after are not looked at.

    Returns:
        f[B, 1, heads D], over the places up to t, and the cache with t in it.
    """
    keys, values = (
        jax.lax.dynamic_update_slice_in_dim(kept, new, place, axis=1)
        for kept, new in zip(cache, (key, value), strict=True)
    )
    seen = jnp.arange(keys.shape[1])[None] <= place  # [1, T]
    return attend(query, keys, values, seen), (keys, values)


def empty_cache(num: int, length: int, num_heads: int, features: int, dtype: Any) -> Cache:
    """Of `num` sequences of `length` places, F `features` in all heads."""
    zeros = jnp.zeros((num, length, num_heads, features // num_heads), dtype)
    return zeros, zeros
