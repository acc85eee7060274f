"""A causal transformer: a distribution over sequences of tokens, by attention to those that come before.

    p(k_1 ... k_T) = prod_t p(k_t | k_1 ... k_{t-1})

Reference: Vaswani et al. 2017, "Attention is all you need"; layer normalisation before each part as in Radford et al.
2019 (GPT-2).
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genlab.networks.attention import Cache, attend, attend_at, attend_by_rows, empty_cache, split_heads
from genlab.networks.variables import apply

Array = jax.Array
PyTree = Any


class Block(nn.Module):
    """Attention to what comes before and to itself, then two dense layers, each added to what goes in.

    Attributes:
        features: F, divisible by num_heads.
        num_heads: of attention.
        dtype: of the arithmetic.
        num_rows: of T, by which attention goes, see `attend_by_rows`; 1: all places at once.
    """

    features: int
    num_heads: int
    dtype: Any = None
    num_rows: int = 1

    def setup(self) -> None:
        """The layers, which both methods share."""
        dense = lambda width: nn.Dense(width, kernel_init=nn.initializers.normal(0.02), dtype=self.dtype)
        self.norms = [nn.LayerNorm(dtype=self.dtype) for _ in range(2)]
        self.queries_keys_values = dense(3 * self.features)
        self.mix = dense(self.features)
        self.widen, self.narrow = dense(4 * self.features), dense(self.features)

    def __call__(self, x: Array) -> Array:
        """[B, T, F] -> [B, T, F]; what comes out at t depends on what goes in up to t."""
        if self.num_rows > 1:
            return self._rest(x, attend_by_rows(*self._heads(x), self.num_rows))
        return self._rest(x, attend(*self._heads(x), jnp.tri(x.shape[1], dtype=bool)))

    def advance(self, x: Array, cache: Cache, place: Array) -> tuple[Array, Cache]:
        """One place of the same.

        Args:
            x: [B, 1, F], what goes in at t.
            cache: of the places before; those at t and after are not looked at.
            place: i32[], t.

        Returns:
            [B, 1, F], what comes out at t, and the cache with t in it.
        """
        attended, cache = attend_at(place, *self._heads(x), cache)
        return self._rest(x, attended), cache

    def _heads(self, x: Array) -> tuple[Array, Array, Array]:
        """Queries, keys and values [B, T, heads, F / heads]."""
        parts = jnp.split(self.queries_keys_values(self.norms[0](x)), 3, axis=-1)
        queries, keys, values = (split_heads(part, self.num_heads) for part in parts)
        return queries, keys, values

    def _rest(self, x: Array, attended: Array) -> Array:
        x = x + self.mix(attended)
        return x + self.narrow(nn.gelu(self.widen(self.norms[1](x))))


class CausalTransformer(nn.Module):
    """P numbers about every token, such as logits, given the tokens before it.

    Attributes:
        num_tokens: K.
        length: T.
        features: F.
        num_layers, num_heads: of the blocks.
        dtype: of the arithmetic; outputs are float32.
        num_outputs: P; None: a logit of each token, K.
        num_rows: of the blocks.
    """

    num_tokens: int
    length: int
    features: int = 128
    num_layers: int = 4
    num_heads: int = 4
    dtype: Any = None
    num_outputs: int | None = None
    num_rows: int = 1

    def setup(self) -> None:
        """The layers, which both methods share."""
        embed = lambda num: nn.Embed(num, self.features, embedding_init=nn.initializers.normal(0.02), dtype=self.dtype)
        self.tokens = embed(self.num_tokens + 1)  # row K stands for what is before the first token
        self.places = embed(self.length)
        self.blocks = [Block(self.features, self.num_heads, self.dtype, self.num_rows) for _ in range(self.num_layers)]
        self.norm = nn.LayerNorm(dtype=self.dtype)
        self.outputs = nn.Dense(self.num_outputs or self.num_tokens, dtype=self.dtype)
        self.context = nn.Dense(self.features, use_bias=False, dtype=self.dtype)

    def __call__(self, tokens: Array, context: Array | None = None) -> Array:
        """i32[B, T], context f32[B, Y] or none -> f32[B, T, P]; what is at t depends on the tokens before t."""
        before = jnp.pad(tokens, ((0, 0), (1, 0)), constant_values=self.num_tokens)[:, :-1]
        x = self._embedded(before, jnp.arange(tokens.shape[1]), context)
        for block in self.blocks:
            x = block(x)
        return self.outputs(self.norm(x)).astype(jnp.float32)

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
            The caches, and what is known of the token at t, f32[B, P].
        """
        x = self._embedded(before[:, None], place[None], context)
        kept = []
        for block, cache in zip(self.blocks, caches, strict=True):
            x, cache = block.advance(x, cache, place)
            kept.append(cache)
        return kept, self.outputs(self.norm(x)).astype(jnp.float32)[:, 0]

    def _embedded(self, before: Array, places: Array, context: Array | None) -> Array:
        x = self.tokens(before) + self.places(places)  # [B, T, F]
        return x if context is None else x + self.context(context)[:, None]

    def empty_caches(self, num: int) -> list[Cache]:
        """Of `num` sequences."""
        empty = empty_cache(num, self.length, self.num_heads, self.features, self.dtype or jnp.float32)
        return [empty] * self.num_layers


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
        draw: (key, outputs f32[B, P]) -> tokens i32[B].
        key: the token at place t gets fold_in(key, t).
        known: i32[B, T], which gives B and the first tokens.
        num_known: how many tokens are taken from `known`: a prompt.
        context: f32[B, Y], or none.

    Returns:
        i32[B, T].
    """

    def one(carry: tuple[list[Cache], Array], turn: tuple[Array, Array]) -> Any:
        (caches, before), (place, own) = carry, turn
        (caches, outputs), _ = apply(network, params, {}, caches, before, place, context, method="advance")
        token = jnp.where(place < num_known, own, draw(jax.random.fold_in(key, place), outputs))
        return (caches, token), token

    num, length = known.shape
    start = network.empty_caches(num), jnp.full(num, network.num_tokens, known.dtype)
    _, tokens = jax.lax.scan(one, start, (jnp.arange(length), known.T))  # [T, B]
    return tokens.T
