"""Encoders whose posterior is bent by planar flows."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genlab.networks.dense import MAX_LOG_VAR
from genlab.networks.variables import takes_train

Array = jax.Array


class PlanarHead(nn.Module):
    """A trunk, then a dense layer for a diagonal Gaussian and the parameters of planar flows, all functions of x.

    Attributes:
        trunk: [B, ...] -> [B, F].
        dim: D, the size of the code.
        num_flows: how many.
        dtype: of the arithmetic; the outputs are float32.

    Reference: Rezende & Mohamed 2015, section 4.3 and figure 2.
    """

    trunk: nn.Module
    dim: int
    num_flows: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> tuple[Array, Array, tuple[Array, Array, Array]]:
        """[B, ...] -> mean, log sigma^2 f32[B, D], and (u, w f32[B, num_flows, D], b f32[B, num_flows])."""
        features = self.trunk(x, train=train) if takes_train(self.trunk) else self.trunk(x)
        both = nn.Dense(2 * self.dim, dtype=self.dtype)(features).astype(jnp.float32)
        mean, log_var = jnp.split(both, 2, axis=-1)
        flows = nn.Dense(self.num_flows * (2 * self.dim + 1), dtype=self.dtype)(features).astype(jnp.float32)
        flows = flows.reshape(-1, self.num_flows, 2 * self.dim + 1)
        u, w, b = jnp.split(flows, [self.dim, 2 * self.dim], axis=-1)
        return mean, jnp.clip(log_var, -MAX_LOG_VAR, MAX_LOG_VAR), (u, w, b[..., 0])
