"""What the two players of an adversarial game minimise, example by example.

The discriminator gives logits r of real and f of fake examples; where the loss is logistic, D = sigmoid(logit) is its
probability of "real". A loss takes logits, f32[B], of batches of equal size, and returns f32[B], for the player in its
name to minimise.

One-sided label smoothing s, where there is such an argument, makes 1 - s the target of real examples and leaves that of
fake ones at 0; s is a scalar in [0, 1). Reference: Salimans et al. 2016, "Improved techniques for training GANs".
"""

import jax
import jax.numpy as jnp

from genlab.losses.event import check_same_shape

Array = jax.Array


def discriminator_value(real_logits: Array, fake_logits: Array) -> Array:
    """The value of the game, log D(real) + log(1 - D(fake)), which the discriminator maximises.

    Args:
        real_logits, fake_logits: f32[B].

    Returns:
        f32[B], in nats, negative. At the optimal logit, log p_real - log p_fake, its mean is 2 JS - log 4.

    Reference: Goodfellow et al. 2014, "Generative adversarial nets", equation 1 and theorem 1.
    """
    check_same_shape(real_logits=real_logits, fake_logits=fake_logits)
    # log(1 - sigmoid(f)) = log_sigmoid(-f)
    return jax.nn.log_sigmoid(real_logits) + jax.nn.log_sigmoid(-fake_logits)


def minimax_discriminator_loss(
    real_logits: Array, fake_logits: Array, *, label_smoothing: float | Array = 0.0
) -> Array:
    """Cross-entropy of telling real from fake, -log D(real) - log(1 - D(fake)): the sum of both terms, not their mean.

    Args:
        real_logits, fake_logits: f32[B].
        label_smoothing: s. The first term becomes -(1 - s) log D(real) - s log(1 - D(real)).

    Returns:
        f32[B], in nats. Least at D = (1 - s) p_real / (p_real + p_fake).

    Reference: Goodfellow et al. 2014, equation 1; Salimans et al. 2016 for label smoothing.
    """
    check_same_shape(real_logits=real_logits, fake_logits=fake_logits)
    # (1 - s) softplus(-r) + s softplus(r) = softplus(-r) + s r
    return jax.nn.softplus(-real_logits) + label_smoothing * real_logits + jax.nn.softplus(fake_logits)


def minimax_generator_loss(fake_logits: Array) -> Array:
    """log(1 - D(fake)): the zero-sum game. Its gradient vanishes where the discriminator is sure of a fake.

    Args:
        fake_logits: f32[B].

    Returns:
        f32[B], in nats, negative.

    Reference: Goodfellow et al. 2014, equation 1.
    """
    return jax.nn.log_sigmoid(-fake_logits)


non_saturating_discriminator_loss = minimax_discriminator_loss  # the games differ for the generator alone


def non_saturating_generator_loss(fake_logits: Array) -> Array:
    """-log D(fake): the fixed point of the minimax game, with a gradient where the discriminator is sure of a fake.

    Args:
        fake_logits: f32[B].

    Returns:
        f32[B], in nats, positive.

    Reference: Goodfellow et al. 2014, section 3.
    """
    return jax.nn.softplus(-fake_logits)


def least_squares_discriminator_loss(
    real_logits: Array, fake_logits: Array, *, label_smoothing: float | Array = 0.0
) -> Array:
    """0.5 (r - 1)^2 + 0.5 f^2, of raw outputs: there is no sigmoid.

    Args:
        real_logits, fake_logits: f32[B].
        label_smoothing: s. The first term becomes 0.5 (r - (1 - s))^2.

    Returns:
        f32[B]. Least at (1 - s) p_real / (p_real + p_fake).

    Reference: Mao et al. 2017, "Least squares generative adversarial networks", equation 9.
    """
    check_same_shape(real_logits=real_logits, fake_logits=fake_logits)
    return 0.5 * jnp.square(real_logits - (1.0 - label_smoothing)) + 0.5 * jnp.square(fake_logits)


def least_squares_generator_loss(fake_logits: Array) -> Array:
    """0.5 (f - 1)^2, of raw outputs.

    Args:
        fake_logits: f32[B].

    Returns:
        f32[B].

    Reference: Mao et al. 2017, equation 9.
    """
    return 0.5 * jnp.square(fake_logits - 1.0)


def hinge_discriminator_loss(real_logits: Array, fake_logits: Array) -> Array:
    """max(0, 1 - r) + max(0, 1 + f): outputs beyond the margin have no gradient, nor have those on it.

    Args:
        real_logits, fake_logits: f32[B].

    Returns:
        f32[B]. Least at the sign of p_real - p_fake.

    Reference: Lim & Ye 2017, "Geometric GAN"; Miyato et al. 2018, equation 16.
    """
    check_same_shape(real_logits=real_logits, fake_logits=fake_logits)
    return jax.nn.relu(1.0 - real_logits) + jax.nn.relu(1.0 + fake_logits)


def hinge_generator_loss(fake_logits: Array) -> Array:
    """-f: there is no margin for the generator.

    Args:
        fake_logits: f32[B].

    Returns:
        f32[B].

    Reference: Miyato et al. 2018, equation 17.
    """
    return -fake_logits


def wasserstein_discriminator_loss(real_logits: Array, fake_logits: Array) -> Array:
    """f - r, minus the critic's estimate of the Wasserstein-1 distance if it is 1-Lipschitz; that is not enforced here.

    Args:
        real_logits, fake_logits: f32[B], the critic's outputs.

    Returns:
        f32[B], in units of the distance between examples.

    Reference: Arjovsky et al. 2017, "Wasserstein GAN", equation 2.
    """
    check_same_shape(real_logits=real_logits, fake_logits=fake_logits)
    return fake_logits - real_logits


def wasserstein_generator_loss(fake_logits: Array) -> Array:
    """-f.

    Args:
        fake_logits: f32[B], the critic's outputs.

    Returns:
        f32[B].

    Reference: Arjovsky et al. 2017, theorem 3.
    """
    return -fake_logits


def relativistic_discriminator_loss(real_logits: Array, fake_logits: Array) -> Array:
    """-log sigmoid(r - f): the real example of a pair should be the more realistic one.

    Args:
        real_logits, fake_logits: f32[B], paired by their places in the batch.

    Returns:
        f32[B], in nats.

    Reference: Jolicoeur-Martineau 2018, "The relativistic discriminator", RSGAN.
    """
    check_same_shape(real_logits=real_logits, fake_logits=fake_logits)
    return jax.nn.softplus(fake_logits - real_logits)


def relativistic_generator_loss(fake_logits: Array, real_logits: Array) -> Array:
    """-log sigmoid(f - r): `relativistic_discriminator_loss` with the roles exchanged.

    Args:
        fake_logits, real_logits: f32[B], paired by their places in the batch.

    Returns:
        f32[B], in nats.

    Reference: Jolicoeur-Martineau 2018, RSGAN.
    """
    return relativistic_discriminator_loss(fake_logits, real_logits)


def relativistic_average_discriminator_loss(real_logits: Array, fake_logits: Array) -> Array:
    """-log sigmoid(r - mean f) - log(1 - sigmoid(f - mean r)): each against the other kind's batch mean.

    The sum of both terms, not their mean. An entry depends on the whole batch, so only the mean of all is a loss.

    Args:
        real_logits, fake_logits: f32[B].

    Returns:
        f32[B], in nats.

    Reference: Jolicoeur-Martineau 2018, RaSGAN.
    """
    check_same_shape(real_logits=real_logits, fake_logits=fake_logits)
    real_over_fake = real_logits - jnp.mean(fake_logits, axis=0)
    fake_over_real = fake_logits - jnp.mean(real_logits, axis=0)
    return jax.nn.softplus(-real_over_fake) + jax.nn.softplus(fake_over_real)


def relativistic_average_generator_loss(fake_logits: Array, real_logits: Array) -> Array:
    """-log sigmoid(f - mean r) - log(1 - sigmoid(r - mean f)): the discriminator's loss with the roles exchanged.

    Args:
        fake_logits, real_logits: f32[B].

    Returns:
        f32[B], in nats; as in `relativistic_average_discriminator_loss`, only the mean of all is a loss.

    Reference: Jolicoeur-Martineau 2018, RaSGAN.
    """
    return relativistic_average_discriminator_loss(fake_logits, real_logits)
