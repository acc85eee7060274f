"""Sequences into vectors, and vectors into sequences, by long short-term memory.

A batch of sequences is [B, T, C]; an image is the sequence of its rows. Between the two stands a dense code:
`EncoderDecoder(SequenceEncoder(...), SequenceDecoder(...), code_dim)`, which `recurrent_autoencoder` puts together.

Reference: Hochreiter & Schmidhuber 1997; Gers et al. 2000, for the forget gate;
Srivastava et al. 2015, "Unsupervised learning of video representations using LSTMs", section 2.2, for the reversed
order of the output.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genlab.errors import InputError
from genlab.networks.autoencoder import EncoderDecoder
from genlab.networks.dense import MLP

Array = jax.Array


class SequenceEncoder(nn.Module):
    """An LSTM reads the sequence; dense layers follow its last output.

    Attributes:
        features: of the LSTM's state.
        hidden: widths of the dense layers behind it.
        activation: elementwise, after every dense layer.
        dtype: of the arithmetic.
    """

    features: int
    hidden: Sequence[int] = ()
    activation: Callable[[Array], Array] = nn.relu
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Sequences f32[B, T, C], or images f32[B, H, W, C] as H rows of W * C numbers -> [B, F]."""
        if x.ndim < 3:
            raise InputError(f"a sequence must be [B, T, C] or an image [B, H, W, C], got {x.shape}")
        x = x.reshape(*x.shape[:2], -1)  # [B, T, C]
        outputs = jnp.asarray(_lstm(self.features, self.dtype)(x))  # [B, T, features]
        return MLP(self.hidden, self.activation, self.dtype)(outputs[:, -1])


class SequenceDecoder(nn.Module):
    """Dense layers, an LSTM that starts from their output and sees it at every step, and a dense layer to each element.

    The last element is written first, for it is the one that the encoder has read last.

    Attributes:
        features: of the LSTM's state.
        hidden: widths of the dense layers before it.
        output_shape: (T, C), or (H, W, C) for an image of H rows.
        activation, dtype: as in `SequenceEncoder`; the output is float32.
    """

    features: int
    hidden: Sequence[int]
    output_shape: Sequence[int]
    activation: Callable[[Array], Array] = nn.relu
    dtype: Any = None

    @nn.compact
    def __call__(self, codes: Array) -> Array:
        """f32[B, D] -> f32[B, *output_shape]."""
        if len(self.output_shape) < 2:
            raise InputError(f"a sequence's shape must be (T, C) or (H, W, C), got {tuple(self.output_shape)}")
        length, *element = self.output_shape
        x = MLP(self.hidden, self.activation, self.dtype)(codes)
        memory, state = (nn.Dense(self.features, dtype=self.dtype, name=name)(x) for name in ("memory", "state"))
        # float32, as Linen's own: in bfloat16 the memory would be rounded at every step
        start = (memory.astype(jnp.float32), jnp.tanh(state).astype(jnp.float32))
        x = jnp.broadcast_to(x[:, None], (x.shape[0], length, x.shape[1]))  # [B, T, D]
        x = _lstm(self.features, self.dtype, reverse=True)(x, initial_carry=start)
        x = nn.Dense(math.prod(element), dtype=self.dtype, name="element")(x)
        return x.astype(jnp.float32).reshape(codes.shape[0], *self.output_shape)


def _lstm(features: int, dtype: Any, reverse: bool = False) -> nn.RNN:
    """[B, T, C] -> [B, T, features]; if reversed it runs from the last element to the first."""
    # Gates that start three quarters open carry a gradient through the sequence; Linen's half-open ones lose it.
    cell = nn.OptimizedLSTMCell(features, gate_fn=lambda x: nn.sigmoid(x + 1), dtype=dtype)
    return nn.RNN(cell, reverse=reverse, keep_order=True)


def recurrent_autoencoder(
    features: int,
    code_dim: int,
    output_shape: Sequence[int],
    hidden: Sequence[int] = (),
    activation: Callable[[Array], Array] = nn.relu,
    code: Callable[[Array], Array] = lambda x: x,
    dtype: Any = None,
) -> EncoderDecoder:
    """Sequence to vector, and vector to sequence.

    Args:
        features: of both LSTMs' states.
        code_dim: D.
        output_shape: of one example, (T, C) or (H, W, C).
        hidden: widths of the dense layers between LSTM and code; the decoder mirrors them.
        activation: elementwise, after each of them.
        code: elementwise, on the code.
        dtype: of the arithmetic; codes and outputs are float32.
    """
    encoder = SequenceEncoder(features, hidden, activation, dtype)
    decoder = SequenceDecoder(features, hidden[::-1], output_shape, activation, dtype)
    return EncoderDecoder(encoder, decoder, code_dim, code, dtype)
