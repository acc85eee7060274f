"""Masked autoregressive flows: every number is changed by a bijection whose parameters are made of those before it."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from genlab.bijections.affine import affine, affine_inverse
from genlab.bijections.spline import rational_quadratic, rational_quadratic_inverse
from genlab.networks.coupling import bounded, transformed
from genlab.networks.masked import MADE

Array = jax.Array


class MaskedAutoregressive(nn.Module):
    """z_d = g(x_d; parameters(x before d)): the density is one pass of the network, a sample takes D.

    Attributes:
        made: x f32[B, D] -> f32[B, D, P].
        transform: "additive" | "affine" (MAF) | "spline".
        log_scale_bound: within which an affine log-scale is held by tanh; 0: it is not.
        bound: of a spline.

    Reference: Papamakarios et al. 2017, "Masked autoregressive flow", equations 3 to 5; here z = x exp(s) + t where
    there u = (x - mu) exp(-alpha), which is the same family.
    """

    made: MADE
    transform: str = "affine"
    log_scale_bound: float = 0.0
    bound: float = 3.0

    def __call__(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        """f32[B, D] -> the same, and log |det| f32[B]."""
        parameters = self._held(self.made(x, context))
        return transformed(x, parameters, self.transform, self.bound, affine, rational_quadratic)

    def inverse(self, z: Array, context: Array | None = None) -> tuple[Array, Array]:
        """Back, in D passes, the n-th of which finds number n of the order."""
        made, variables = self.made.unbind()
        degrees = jnp.asarray(made.degrees()[0][0])  # i32[D], from 1

        def find(number: Array, found: tuple[Array, Array]) -> tuple[Array, Array]:
            parameters = self._held(jnp.asarray(made.apply(variables, found[0], context)))
            x, log_det = transformed(
                z, parameters, self.transform, self.bound, affine_inverse, rational_quadratic_inverse
            )
            # what is not found yet may overflow, and infinity times a masked weight is no zero
            return jnp.where(degrees <= number + 1, x, 0), log_det

        return jax.lax.fori_loop(0, z.shape[1], find, (jnp.zeros_like(z), jnp.zeros(z.shape[0], z.dtype)))

    def _held(self, parameters: Array) -> Array:
        return bounded(parameters, self.log_scale_bound if self.transform == "affine" else 0.0)
