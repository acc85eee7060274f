"""Log-likelihoods of data under the distributions that decoders output.

The event is everything but the first axis: each function returns one number per example, in nats, summed
over the event and never averaged over pixels.
"""

import jax
import jax.numpy as jnp

from genlab.losses.event import check_same_shape, flat, sum_event

Array = jax.Array

LOG_2PI = 1.8378770664093453


def bernoulli_log_prob(logits: Array, x: Array) -> Array:
    """log Bernoulli(x; sigmoid(logits)).

    Args:
        logits: f32[B, ...], any real; finite in value and gradient for any finite logit.
        x: f32[B, ...], binary. Values between 0 and 1 are accepted and give the negative cross-entropy, which
            is not the logarithm of a probability.

    Returns:
        f32[B], nats per example.

    Reference: Kingma & Welling 2014, appendix C.1.
    """
    check_same_shape(logits=logits, x=x)
    return sum_event(_bernoulli_log_mass(flat(logits), flat(x)))


@jax.custom_jvp
def _bernoulli_log_mass(logits: Array, x: Array) -> Array:
    # log s(l) = min(l, 0) - log(1 + e^-|l|): accurate for either x, where x l - softplus(l) cancels at l >> 0;
    # and one exponential, where a log_sigmoid for each x takes two
    return x * jnp.minimum(logits, 0.0) + (1.0 - x) * jnp.minimum(-logits, 0.0) - _log1p(jnp.exp(-jnp.abs(logits)))


def _log1p(e: Array) -> Array:
    """log(1 + e) for e in [0, 1], to float32's accuracy; `jnp.log1p` takes three times as long on a CPU."""
    # log(1 + e) = 2 artanh(t), t = e / (2 + e) <= 1/3, = 2 (t + t^3 / 3 + t^5 / 5 + ...)
    t = e / (2.0 + e)
    series = jnp.zeros_like(t)
    for power in range(15, 0, -2):  # the first term left out is below 1e-9
        series = series * jnp.square(t) + 2.0 / power
    return t * series


# min and |.| have no derivative at 0, their sum has: d log s(l) / dl = s(-l)
_bernoulli_log_mass.defjvps(
    lambda tangent, _, logits, x: tangent * (x * jax.nn.sigmoid(-logits) - (1.0 - x) * jax.nn.sigmoid(logits)),
    lambda tangent, _, logits, x: tangent * logits,
)


def gaussian_log_prob(x: Array, mean: Array, log_var: Array | float) -> Array:
    """log N(x; mean, exp(log_var)), diagonal.

    Args:
        x, mean: f32[B, ...].
        log_var: log sigma^2, broadcastable to mean.

    Returns:
        f32[B], nats per example; a density, so it can be positive.

    Reference: Kingma & Welling 2014, appendix C.2.
    """
    check_same_shape(x=x, mean=mean)
    log_var = jnp.broadcast_to(jnp.asarray(log_var, mean.dtype), mean.shape)
    x, mean, log_var = flat(x), flat(mean), flat(log_var)
    return -0.5 * sum_event(LOG_2PI + log_var + jnp.square(x - mean) * jnp.exp(-log_var))


def gaussian_mixture_log_prob(x: Array, means: Array, log_vars: Array, log_weights: Array) -> Array:
    """log sum_c w_c N(x; means_c, exp(log_vars_c)), diagonal.

    Args:
        x: f32[B, D].
        means, log_vars: f32[C, D].
        log_weights: log w_c, f32[C], or f32[B, C] for weights of each example's own; normalised by the caller.

    Returns:
        f32[B], nats per example.

    Reference: Tomczak & Welling 2018, equation 8 (as a prior).
    """
    check_same_shape(means=means, log_vars=log_vars)
    # sum_d (x - m)^2 / s^2 as matrix products, about the components' centre: [B, C] instead of [B, C, D]. What cancels
    # costs 1e-3 nats at log_var = -4 and 0.06 at -8 (D = 40, means of a standard normal)
    centre = jax.lax.stop_gradient(jnp.mean(means, axis=0))
    x, means, precision = x - centre, means - centre, jnp.exp(-log_vars)
    product = lambda a, b: jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)
    distance = product(jnp.square(x), precision) - 2.0 * product(x, means * precision)
    constant = jnp.sum(jnp.square(means) * precision + log_vars + LOG_2PI, axis=1)
    return jax.nn.logsumexp(log_weights - 0.5 * (distance + constant), axis=1)


def categorical_log_prob(logits: Array, labels: Array) -> Array:
    """log Categorical(labels; softmax(logits)).

    Args:
        logits: f32[B, ..., K], unnormalised.
        labels: i32[B, ...], in 0..K-1.

    Returns:
        f32[B], nats per example, summed over the axes between the first and the last.
    """
    check_same_shape(labels=labels, logits_without_classes=logits[..., 0])
    log_probs = jax.nn.log_softmax(logits, axis=-1)
    return sum_event(jnp.take_along_axis(log_probs, labels[..., None], axis=-1)[..., 0])


def discretized_logistic_log_prob(x: Array, mean: Array, log_scale: Array | float, num_levels: int = 256) -> Array:
    """log of the mass that a logistic distribution puts on the bin of each quantised value.

    Bins are centred on the levels i / (num_levels - 1) and as wide as their distance; the first and the last
    reach to minus and plus infinity, so the masses of all levels sum to one.

    Args:
        x: f32[B, ...], in [0, 1], one of the levels.
        mean: f32[B, ...], on the scale of x.
        log_scale: log of the logistic's scale, broadcastable to mean.
        num_levels: how many values x can take.

    Returns:
        f32[B], nats per example.

    Reference: Salimans et al. 2017 (PixelCNN++), section 2.1; there x lies in [-1, 1].
    """
    check_same_shape(x=x, mean=mean)
    half_bin = 0.5 / (num_levels - 1)
    log_scale = jnp.broadcast_to(jnp.asarray(log_scale, mean.dtype), mean.shape)
    x, mean, log_scale = flat(x), flat(mean), flat(log_scale)
    inv_scale = jnp.exp(-log_scale)
    upper = (x - mean + half_bin) * inv_scale
    lower = (x - mean - half_bin) * inv_scale
    # s(u) - s(l) = (1 - exp(l - u)) s(u) s(-l), and u - l = 2 half_bin / scale: no difference of near-equal numbers
    width = 2.0 * half_bin * inv_scale
    log_mass = log1mexp(width) + jax.nn.log_sigmoid(upper) + jax.nn.log_sigmoid(-lower)
    log_mass = jnp.where(x <= half_bin, jax.nn.log_sigmoid(upper), log_mass)
    log_mass = jnp.where(x >= 1.0 - half_bin, jax.nn.log_sigmoid(-lower), log_mass)
    return sum_event(log_mass)


def log1mexp(a: Array) -> Array:
    """log(1 - exp(-a)) for a > 0, accurate at both ends.

    Reference: Maechler 2012, "Accurately computing log(1 - exp(-|a|))", equation 7.
    """
    small = a < 0.6931471805599453  # log 2
    # each branch sees only arguments it is accurate for, so that its gradient is finite too
    near = jnp.log(-jnp.expm1(-jnp.where(small, a, 0.5)))
    far = jnp.log1p(-jnp.exp(-jnp.where(small, 1.0, a)))
    return jnp.where(small, near, far)


def discretized_logistic_mixture_log_prob(
    x: Array, log_weights: Array, means: Array, log_scales: Array, num_levels: int = 256
) -> Array:
    """log of the mass that a mixture of logistics puts on the bin of each quantised value; see the single one.

    Args:
        x: f32[B, ...], in [0, 1], one of the levels.
        log_weights: f32[B, ..., K], unnormalised.
        means, log_scales: f32[B, ..., K].
        num_levels: how many values x can take.

    Returns:
        f32[B], nats per example.

    Reference: Salimans et al. 2017 (PixelCNN++), equation 2.
    """
    check_same_shape(x=x, means_without_components=means[..., 0])
    num_components = means.shape[-1]
    one_each = lambda array: jnp.moveaxis(array, -1, 0).reshape(-1)  # [B, ..., K] -> [K B ...]
    repeated = jnp.broadcast_to(x, (num_components, *x.shape)).reshape(-1)
    log_masses = discretized_logistic_log_prob(repeated, one_each(means), one_each(log_scales), num_levels)
    log_masses = log_masses.reshape(num_components, *x.shape) + jnp.moveaxis(jax.nn.log_softmax(log_weights), -1, 0)
    return sum_event(jax.nn.logsumexp(log_masses, axis=0))
