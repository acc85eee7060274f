"""Networks that encode and decode: `encode(x) -> codes`, `decode(codes) -> outputs`, and both in one call.

Outputs are before the squashing that `genlab.models.autoencoder.Output` gives them.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from genlab.networks.variables import takes_train

Array = jax.Array


class EncoderDecoder(nn.Module):
    """Any encoder and any decoder, with a dense code between them.

    Attributes:
        encoder: [B, ...] -> features [B, F].
        decoder: codes [B, D] -> outputs [B, ...].
        code_dim: D.
        code: elementwise, makes the code of the dense layer behind the encoder.
        dtype: of the code's layer; codes are float32.
    """

    encoder: nn.Module
    decoder: nn.Module
    code_dim: int
    code: Callable[[Array], Array] = lambda x: x
    dtype: Any = None

    def setup(self) -> None:
        """The layer between the two."""
        self.bottleneck = nn.Dense(self.code_dim, dtype=self.dtype)

    def encode(self, x: Array, train: bool = False) -> Array:
        """[B, ...] -> f32[B, D]."""
        features = self.encoder(x, train=train) if takes_train(self.encoder) else self.encoder(x)
        return self.code(self.bottleneck(features).astype(jnp.float32))

    def decode(self, codes: Array, train: bool = False) -> Array:
        """f32[B, D] -> f32[B, ...]."""
        return self.decoder(codes, train=train) if takes_train(self.decoder) else self.decoder(codes)

    def __call__(self, x: Array, train: bool = False) -> tuple[Array, Array]:
        """[B, ...] -> codes f32[B, D], outputs f32[B, ...]."""
        codes = self.encode(x, train)
        return codes, self.decode(codes, train)


class TiedAutoencoder(nn.Module):
    """A dense autoencoder whose decoder uses the encoder's kernels, transposed: W_{N-L+1} = W_L^T.

    Half the kernels of an untied one; biases are its own.

    Attributes:
        widths: of the layers, the code's last.
        output_shape: of one example.
        activation: elementwise, after every layer but the code and the output.
        code: elementwise, on the code.
        kernel_init: of the shared kernels.
        dtype: of the arithmetic; codes and outputs are float32.

    Reference: Vincent et al. 2010, section 2.2.
    """

    widths: Sequence[int]
    output_shape: Sequence[int]
    activation: Callable[[Array], Array] = nn.relu
    code: Callable[[Array], Array] = lambda x: x
    kernel_init: Callable[..., Array] = nn.initializers.lecun_normal()
    dtype: Any = None

    def setup(self) -> None:
        """The parameters, of which both directions are made."""
        sizes = [math.prod(self.output_shape), *self.widths]
        pairs = list(itertools.pairwise(sizes))
        self.kernels = [
            self.param(f"kernel_{i}", self.kernel_init, (inputs, outputs)) for i, (inputs, outputs) in enumerate(pairs)
        ]
        zeros = nn.initializers.zeros
        self.encoder_biases = [
            self.param(f"encoder_bias_{i}", zeros, (outputs,)) for i, (_, outputs) in enumerate(pairs)
        ]
        self.decoder_biases = [self.param(f"decoder_bias_{i}", zeros, (inputs,)) for i, (inputs, _) in enumerate(pairs)]

    def encode(self, x: Array, train: bool = False) -> Array:
        """[B, *output_shape] -> f32[B, widths[-1]]."""
        del train
        x = x.reshape(x.shape[0], -1)  # [B, inputs]
        for i, (kernel, bias) in enumerate(zip(self.kernels, self.encoder_biases, strict=True)):
            x = self._layer(x, kernel, bias)
            x = self.activation(x) if i + 1 < len(self.kernels) else x
        return self.code(x.astype(jnp.float32))

    def decode(self, codes: Array, train: bool = False) -> Array:
        """f32[B, widths[-1]] -> f32[B, *output_shape]."""
        del train
        x = codes
        for i in reversed(range(len(self.kernels))):
            x = self._layer(x, self.kernels[i].T, self.decoder_biases[i])
            x = self.activation(x) if i else x
        return x.astype(jnp.float32).reshape(codes.shape[0], *self.output_shape)

    def _layer(self, x: Array, kernel: Array, bias: Array) -> Array:
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        return x @ kernel + bias

    def __call__(self, x: Array, train: bool = False) -> tuple[Array, Array]:
        """[B, *output_shape] -> codes f32[B, widths[-1]], outputs f32[B, *output_shape]."""
        codes = self.encode(x, train)
        return codes, self.decode(codes, train)


def binary_code(logits: Array) -> Array:
    """Codes in {0, 1} with the gradient of the sigmoid: rounded on the way forward, smooth on the way back.

    Reference: Bengio et al. 2013, "Estimating or propagating gradients through stochastic neurons", straight-through.
    """
    probability = jax.nn.sigmoid(logits)
    return probability + jax.lax.stop_gradient(jnp.round(probability) - probability)
