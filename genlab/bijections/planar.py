"""Planar flows: z' = z + u h(w . z + b), a bend of the space along one direction."""

import jax
import jax.numpy as jnp

Array = jax.Array


def planar(z: Array, u: Array, w: Array, b: Array) -> tuple[Array, Array]:
    """z' = z + u^ tanh(w . z + b), and the logarithm of the volume it makes of a volume.

    The map is invertible if and only if w . u >= -1, which u^ = u + (softplus(w . u) - 1 - w . u) w / |w|^2 ensures.

    Args:
        z: f32[..., D].
        u, w: f32[..., D], broadcastable to z.
        b: f32[...].

    Returns:
        z' f32[..., D] and log |det dz' / dz| = log (1 + (1 - tanh^2(w . z + b)) w . u^) f32[...].

    Reference: Rezende & Mohamed 2015, "Variational inference with normalizing flows", equations 10
    to 12 and appendix A.1.
    """
    product = jnp.sum(w * u, axis=-1)
    norm = jnp.maximum(jnp.sum(jnp.square(w), axis=-1), 1e-12)
    u = u + ((jax.nn.softplus(product) - 1.0 - product) / norm)[..., None] * w
    inner = jnp.sum(w * u, axis=-1)  # softplus(w . u) - 1 > -1, or 0 where w vanishes
    bend = jnp.tanh(jnp.sum(w * z, axis=-1) + b)
    slope = 1.0 - jnp.square(bend)
    return z + u * bend[..., None], jnp.log1p(slope * inner)
