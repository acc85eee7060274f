"""A causal transformer: a distribution over sequences of tokens, by attention to those that come before.

    p(k_1 ... k_T) = prod_t p(k_t | k_1 ... k_{t-1})

Reference: Vaswani et al. 2017, "Attention is all you need"; layer normalisation before each part as in Radford et al.
2019 (GPT-2).
"""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genlab.networks.variables import apply

Array = jax.Array
PyTree = Any
Cache = tuple[Array, Array]  # keys and values of the tokens so far, f[B, T, heads, F / heads] each


class Block(nn.Module):
    """Attention to what comes before and to itself, then two dense layers, each added to what goes in.

    Attributes:
        features: F, divisible by num_heads.
        num_heads: of attention.
        dtype: of the arithmetic.
    """

    features: int
    num_heads: int
    dtype: Any = None

    def setup(self) -> None:
        """The layers, which both methods share."""
        dense = lambda width: nn.Dense(width, kernel_init=nn.initializers.normal(0.02), dtype=self.dtype)
        self.norms = [nn.LayerNorm(dtype=self.dtype) for _ in range(2)]
        self.queries_keys_values = dense(3 * self.features)
        self.mix = dense(self.features)
        self.widen, self.narrow = dense(4 * self.features), dense(self.features)

    def __call__(self, x: Array) -> Array:
        """[B, T, F] -> [B, T, F]; what comes out at t depends on what goes in up to t."""
        queries, keys, values = self._heads(x)
        length = x.shape[1]
        return self._rest(x, self._attend(queries, keys, values, jnp.tri(length, dtype=bool)))

    def advance(self, x: Array, cache: Cache, place: Array) -> tuple[Array, Cache]:
        """One place of the same.

        Args:
            x: [B, 1, F], what goes in at t.
            cache: of the places before; those at t and after are not looked at.
            place: i32[], t.

        Returns:
            [B, 1, F], what comes out at t, and the cache with t in it.
        """
        queries, key, value = self._heads(x)
        keys, values = (
            jax.lax.dynamic_update_slice_in_dim(kept, new, place, axis=1)
            for kept, new in zip(cache, (key, value), strict=True)
        )
        seen = jnp.arange(keys.shape[1])[None] <= place  # [1, T]
        return self._rest(x, self._attend(queries, keys, values, seen)), (keys, values)

    def _heads(self, x: Array) -> tuple[Array, Array, Array]:
        """Queries, keys and values [B, T, heads, F / heads]."""
        parts = jnp.split(self.queries_keys_values(self.norms[0](x)), 3, axis=-1)
        queries, keys, values = (part.reshape(*x.shape[:2], self.num_heads, -1) for part in parts)
        return queries, keys, values

    def _attend(self, queries: Array, keys: Array, values: Array, seen: Array) -> Array:
        """softmax(Q K' / sqrt(D)) V of every head, over the places that are seen bool[queries, keys]: [B, T, F]."""
        scores = jnp.einsum("bqhd,bkhd->bhqk", queries, keys) / math.sqrt(queries.shape[-1])
        scores = jnp.where(seen, scores.astype(jnp.float32), -jnp.inf)
        shares = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", shares, values)
        return mixed.reshape(*mixed.shape[:2], -1)

    def _rest(self, x: Array, attended: Array) -> Array:
        x = x + self.mix(attended)
        return x + self.narrow(nn.gelu(self.widen(self.norms[1](x))))


class CausalTransformer(nn.Module):
    """Logits of every token, given the tokens before it.

    Attributes:
        num_tokens: K.
        length: T.
        features: F.
        num_layers, num_heads: of the blocks.
        dtype: of the arithmetic; logits are float32.
    """

    num_tokens: int
    length: int
    features: int = 128
    num_layers: int = 4
    num_heads: int = 4
    dtype: Any = None

    def setup(self) -> None:
        """The layers, which both methods share."""
        embed = lambda num: nn.Embed(num, self.features, embedding_init=nn.initializers.normal(0.02), dtype=self.dtype)
        self.tokens = embed(self.num_tokens + 1)  # row K stands for what is before the first token
        self.places = embed(self.length)
        self.blocks = [Block(self.features, self.num_heads, self.dtype) for _ in range(self.num_layers)]
        self.norm = nn.LayerNorm(dtype=self.dtype)
        self.logits = nn.Dense(self.num_tokens, dtype=self.dtype)
        self.context = nn.Dense(self.features, use_bias=False, dtype=self.dtype)

    def __call__(self, tokens: Array, context: Array | None = None) -> Array:
        """i32[B, T], context f32[B, Y] or none -> logits f32[B, T, K]; those at t depend on the tokens before t."""
        before = jnp.pad(tokens, ((0, 0), (1, 0)), constant_values=self.num_tokens)[:, :-1]
        x = self._embedded(before, jnp.arange(tokens.shape[1]), context)
        for block in self.blocks:
            x = block(x)
        return self.logits(self.norm(x)).astype(jnp.float32)

    def advance(
        self, caches: list[Cache], before: Array, place: Array, context: Array | None = None
    ) -> tuple[list[Cache], Array]:
        """One token of the same.

        Args:
            caches: of every block, see `empty_caches`.
            before: i32[B], the token at t - 1; K at the start.
            place: i32[], t.
            context: f32[B, Y], or none.

        Returns:
            The caches, and the logits f32[B, K] of the token at t.
        """
        x = self._embedded(before[:, None], place[None], context)
        kept = []
        for block, cache in zip(self.blocks, caches, strict=True):
            x, cache = block.advance(x, cache, place)
            kept.append(cache)
        return kept, self.logits(self.norm(x)).astype(jnp.float32)[:, 0]

    def _embedded(self, before: Array, places: Array, context: Array | None) -> Array:
        x = self.tokens(before) + self.places(places)  # [B, T, F]
        return x if context is None else x + self.context(context)[:, None]

    def empty_caches(self, num: int) -> list[Cache]:
        """Of `num` sequences."""
        shape = (num, self.length, self.num_heads, self.features // self.num_heads)
        zeros = jnp.zeros(shape, self.dtype or jnp.float32)
        return [(zeros, zeros)] * self.num_layers


def sample_tokens(
    network: CausalTransformer,
    params: PyTree,
    draw: Callable[[Array, Array], Array],
    key: Array,
    known: Array,
    num_known: Array | int = 0,
    context: Array | None = None,
) -> Array:
    """Sequences, token by token; keys and values of what came before are kept.

    Args:
        network, params: of the distribution.
        draw: (key, logits f32[B, K]) -> tokens i32[B].
        key: the token at place t gets fold_in(key, t).
        known: i32[B, T], which gives B and the first tokens.
        num_known: how many tokens are taken from `known`: a prompt.
        context: f32[B, Y], or none.

    Returns:
        i32[B, T].
    """

    def one(carry: tuple[list[Cache], Array], turn: tuple[Array, Array]) -> Any:
        (caches, before), (place, own) = carry, turn
        (caches, logits), _ = apply(network, params, {}, caches, before, place, context, method="advance")
        token = jnp.where(place < num_known, own, draw(jax.random.fold_in(key, place), logits))
        return (caches, token), token

    num, length = known.shape
    start = network.empty_caches(num), jnp.full(num, network.num_tokens, known.dtype)
    _, tokens = jax.lax.scan(one, start, (jnp.arange(length), known.T))  # [T, B]
    return tokens.T
