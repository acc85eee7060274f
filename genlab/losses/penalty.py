"""Penalties on the derivatives of a network in its input."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from genlab.losses.event import check_same_shape, flat, sum_event

Array = jax.Array
Key = jax.Array  # a typed PRNG key

ROWS_AT_ONCE = 32  # of the Jacobian, for all examples together; bounds memory


def contractive_penalty(encode: Callable[[Array], Array], x: Array) -> Array:
    """The squared Frobenius norm of the encoder's Jacobian, sum_ij (d code_j / d x_i)^2, exactly.

    One backward pass a unit of the code, so it costs about D times what a plain gradient does; in reverse mode, since
    the convolutions here have no other.

    Args:
        encode: f32[B, ...] -> f32[B, D]; codes of one example may not depend on another (no batch statistics).
        x: f32[B, ...].

    Returns:
        f32[B], in squared units of the code over squared units of x.

    Reference: Rifai et al. 2011, "Contractive auto-encoders", equation 1.
    """
    codes, pull_back = jax.vjp(encode, x)
    if codes.ndim != 2 or codes.shape[0] != x.shape[0]:
        raise ValueError(f"encode must give codes [B, D] of {x.shape[0]} examples; got shape {codes.shape}")

    @jax.checkpoint  # the rows are many times x: a gradient of the penalty makes them again
    def squared_row(unit: Array) -> Array:  # [D] -> [B]
        (row,) = pull_back(jnp.broadcast_to(unit, codes.shape))  # d code_j / d x of every example at once
        return sum_event(jnp.square(row))

    units = jnp.eye(codes.shape[1], dtype=codes.dtype)
    return jnp.sum(jax.lax.map(squared_row, units, batch_size=ROWS_AT_ONCE), axis=0)


def sigmoid_layer_contractive_penalty(codes: Array, kernel: Array) -> Array:
    """`contractive_penalty` of one dense layer h = sigmoid(x W + b), in closed form: sum_j (h_j (1 - h_j))^2 |W_j|^2.

    Args:
        codes: f32[B, D], in (0, 1): h.
        kernel: f32[I, D], whose column j is W_j.

    Returns:
        f32[B], as `contractive_penalty`, at the cost of a product [B, D] by [D].

    Reference: Rifai et al. 2011, section 5.3.
    """
    squared_norms = jnp.sum(jnp.square(kernel), axis=0)
    check_same_shape(one_code=codes[0], kernels=squared_norms)
    return jnp.square(codes * (1.0 - codes)) @ squared_norms


def gradient_penalty(
    critic: Callable[[Array], Array], real: Array, fake: Array, key: Key, target: float | Array = 1.0
) -> Array:
    """(|grad critic(x_hat)|_2 - target)^2, at a random point x_hat between every real example and a fake one.

    x_hat = epsilon real + (1 - epsilon) fake, with one uniform epsilon for every example, whatever its shape. The
    penalty is two-sided, and unweighted: the paper multiplies it by 10. Where the gradient is exactly zero its norm has
    no derivative; there it is taken to be zero, and the penalty is target^2.

    Differentiable in what the critic closes over, in reverse mode.

    Args:
        critic: f32[B, ...] -> f32[B]; the value of one example may not depend on another (no batch statistics).
        real, fake: f32[B, ...], of equal shape.
        key: of the epsilons.
        target: norm of the gradient; 0 gives `r1_penalty` at x_hat.

    Returns:
        f32[B]. The norm is that of the gradient over the whole event.

    Reference: Gulrajani et al. 2017, "Improved training of Wasserstein GANs", equation 3 and algorithm 1.
    """
    check_same_shape(real=real, fake=fake)
    epsilon = jax.random.uniform(key, (real.shape[0], 1), real.dtype)
    x_hat = (epsilon * flat(real) + (1.0 - epsilon) * flat(fake)).reshape(real.shape)
    squared_norm = sum_event(jnp.square(_input_gradient(critic, x_hat)))
    # sqrt has an infinite derivative at 0, and infinity times 0 is NaN: there it is given something else to work on
    is_positive = squared_norm > 0.0
    norm = jnp.where(is_positive, jnp.sqrt(jnp.where(is_positive, squared_norm, 1.0)), 0.0)
    return jnp.square(norm - target)


def r1_penalty(critic: Callable[[Array], Array], real: Array) -> Array:
    """The critic's squared slope at real examples, |grad critic(real)|_2^2.

    Unweighted, and without the 1/2: the paper puts gamma / 2 before its mean.
    Differentiable in what the critic closes over, in reverse mode.

    Args:
        critic: f32[B, ...] -> f32[B], logits; the value of one example may not depend on another.
        real: f32[B, ...].

    Returns:
        f32[B], summed over the event.

    Reference: Mescheder et al. 2018, "Which training methods for GANs do actually converge?", equation 9.
    """
    return sum_event(jnp.square(_input_gradient(critic, real)))


def _input_gradient(critic: Callable[[Array], Array], x: Array) -> Array:
    """The gradient of each value in its own example, [B, ...], as that of their sum."""
    values, pull_back = jax.vjp(critic, x)
    if values.shape != x.shape[:1]:
        raise ValueError(f"critic must give one value for each of {x.shape[0]} examples; got shape {values.shape}")
    (gradient,) = pull_back(jnp.ones_like(values))
    return gradient
