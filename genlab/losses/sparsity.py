"""What makes a code sparse: few units active for an example, or each unit active for few examples."""

import jax
import jax.numpy as jnp

from genlab.losses.divergence import bernoulli_kl
from genlab.losses.event import flat, sum_event

Array = jax.Array

CLOSEST = 1e-6  # that a mean activation is taken to come to 0 or 1; float32 has sixteen numbers between 1 - 1e-6 and 1


def l1_penalty(codes: Array) -> Array:
    """The absolute values of a code, summed over its units.

    Args:
        codes: f32[B, ...], any real.

    Returns:
        f32[B]. The gradient is the sign of the code, and 0 at 0.
    """
    codes = flat(codes)
    # |c| = sign(c) c, but jnp.abs has gradient 1 at 0
    return sum_event(jnp.sign(codes) * codes)


def kl_sparsity(mean_activation: Array, target: Array | float) -> Array:
    """KL(target || mean activation) between Bernoulli distributions, summed over the units of a code.

    Where a unit is always off or always on the divergence is infinite; it is taken at 1e-6 from there instead, in value
    and in gradient, so that the gradient is finite and still leads back.

    Args:
        mean_activation: f32[D], of each unit over the batch, in [0, 1].
        target: the probability that a unit is on, in [0, 1]; one number, or f32[D].

    Returns:
        f32[], in nats. Zero if and only if every mean activation is the target.

    Reference: Lee, Ekanadham & Ng 2008 for the idea; Ng 2011, "Sparse autoencoder", section 3, for the divergence.
    """
    if jnp.ndim(mean_activation) != 1:
        raise ValueError(f"mean_activation is one number a unit, [D]; got shape {jnp.shape(mean_activation)}")
    inside = jnp.clip(mean_activation, CLOSEST, 1.0 - CLOSEST)
    inside = mean_activation + jax.lax.stop_gradient(inside - mean_activation)  # the clip's own gradient would be 0
    target = jnp.broadcast_to(jnp.asarray(target, inside.dtype), inside.shape)
    return jnp.sum(bernoulli_kl(target, inside))
