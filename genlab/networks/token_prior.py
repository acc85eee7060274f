"""An autoregressive distribution over sequences of tokens, by long short-term memory.

    p(k_1 ... k_T) = prod_t p(k_t | k_1 ... k_{t-1})

Reference: Hochreiter & Schmidhuber 1997; van den Oord et al. 2017, section 3.3, for a prior over codes (theirs is a
PixelCNN).
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Array = jax.Array
PyTree = Any
Carry = tuple[Array, Array]  # of the LSTM: memory and state, f32[B, features] each


class TokenPrior(nn.Module):
    """An LSTM reads the place it is at and some tokens before it; a dense layer gives the logits of the token there.

    Attributes:
        num_tokens: K.
        length: T.
        features: of the LSTM's state.
        embedding: numbers that a token, or a place, becomes.
        lags: how far back the tokens lie that the LSTM is shown at every place; what is further back it has to
            remember. On a grid in raster order, see `raster_lags`.
        dtype: of the arithmetic; logits are float32.
    """

    num_tokens: int
    length: int
    features: int = 128
    embedding: int = 64
    lags: Sequence[int] = (1,)
    dtype: Any = None

    def setup(self) -> None:
        """The layers, which both methods share."""
        # row K stands for what is before the first token
        self.tokens = [nn.Embed(self.num_tokens + 1, self.embedding, dtype=self.dtype) for _ in self.lags]
        self.place = nn.Embed(self.length, self.embedding, dtype=self.dtype)
        # gates that start three quarters open, as in networks/recurrent.py
        cell = nn.OptimizedLSTMCell(self.features, gate_fn=lambda x: nn.sigmoid(x + 1), dtype=self.dtype)
        self.lstm = nn.RNN(cell)
        self.logits = nn.Dense(self.num_tokens, dtype=self.dtype)

    def __call__(self, tokens: Array) -> Array:
        """i32[B, T] -> logits f32[B, T, K]; those at t depend on the tokens before t alone."""
        inputs = self.place(jnp.arange(self.length))  # [T, E]
        for embed, lag in zip(self.tokens, self.lags, strict=True):
            shifted = jnp.pad(tokens, ((0, 0), (lag, 0)), constant_values=self.num_tokens)[:, : self.length]
            inputs = inputs + embed(shifted)  # [B, T, E]
        outputs = jnp.asarray(self.lstm(inputs))  # [B, T, features]
        return self.logits(outputs).astype(jnp.float32)

    def advance(self, carry: Carry, before: Array, place: Array) -> tuple[Carry, Array]:
        """One step of the same.

        Args:
            carry: of the step before; zeros at the first place.
            before: i32[B, max(lags)], the tokens just before, the nearest last; K where there are none.
            place: i32[], t.

        Returns:
            The carry, and the logits f32[B, K] of the token at t.
        """
        inputs = self.place(place)
        for embed, lag in zip(self.tokens, self.lags, strict=True):
            inputs = inputs + embed(before[:, -lag])  # [B, E]
        carry, outputs = self.lstm.cell(carry, inputs)
        return carry, self.logits(outputs).astype(jnp.float32)


def raster_lags(width: int) -> tuple[int, ...]:
    """Lags of the four neighbours that precede a place in raster order: left, and above to the right, straight, left.

    At a border they lie elsewhere in the rows before, which the place tells.
    """
    return tuple(dict.fromkeys(lag for lag in (1, width - 1, width, width + 1) if lag > 0))


def sample_tokens(prior: TokenPrior, params: PyTree, key: Array, num: int) -> Array:
    """Independent sequences i32[num, T] of a prior, drawn token by token: one step of the LSTM each."""

    def draw(state: tuple[Carry, Array], inputs: tuple[Array, Array]) -> tuple[tuple[Carry, Array], Array]:
        (carry, before), (key, place) = state, inputs
        carry, logits = prior.apply({"params": params}, carry, before, place, method="advance")
        token = jax.random.categorical(key, jnp.asarray(logits)).astype(jnp.int32)
        return (carry, jnp.concatenate([before[:, 1:], token[:, None]], axis=1)), token

    zeros = jnp.zeros((num, prior.features))
    start = (zeros, zeros), jnp.full((num, max(prior.lags)), prior.num_tokens, jnp.int32)
    keys, places = jax.random.split(key, prior.length), jnp.arange(prior.length)
    _, tokens = jax.lax.scan(draw, start, (keys, places))  # [T, num]
    return tokens.T
