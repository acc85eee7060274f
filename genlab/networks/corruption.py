"""Corruptions of what an encoder sees: pure functions of a key, for denoising autoencoders.

Reference: Vincent et al. 2010, "Stacked denoising autoencoders", section 3.3.
"""

import jax
import jax.numpy as jnp

from genlab import draws

Array = jax.Array


def gaussian_noise(key: Array, x: Array, level: float | Array) -> Array:
    """x plus independent Gaussian noise; not clipped, so that values leave the range of the data.

    Args:
        key: typed PRNG key.
        x: f[...].
        level: the noise's standard deviation, >= 0, on the scale of x; may be traced.

    Returns:
        f[...], of x's shape and type.
    """
    return x + jnp.asarray(level, x.dtype) * draws.normal(key, x.shape).astype(x.dtype)


def masking_noise(key: Array, x: Array, level: float | Array) -> Array:
    """x with each number set to zero with probability `level`.

    What remains is not rescaled: this is masking noise, and not inverted dropout, which divides by 1 - level. Every
    number is masked by itself, also the channels of one pixel.

    Args:
        key: typed PRNG key.
        x: f[...].
        level: in [0, 1]; may be traced. 0 keeps all of x, 1 nothing.

    Returns:
        f[...], of x's shape and type.
    """
    # the upper 24 bits are a float in [0, 1), exactly
    uniform = (draws.bits(key, x.shape) >> jnp.uint32(8)).astype(jnp.float32) * jnp.float32(2**-24)
    return jnp.where(uniform < jnp.asarray(level, jnp.float32), jnp.zeros((), x.dtype), x)
