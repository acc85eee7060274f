"""How far an image moves when its style does."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Array = jax.Array
Key = jax.Array


def path_lengths(paint: Callable[[Array], Array], styles: Array, key: Key) -> Array:
    """|J' y| of every example, J the Jacobian of the image in its styles and y a random image.

    The mean over layers of the squared length, y ~ N(0, 1 / (H W)) so that images of every size have lengths alike. The
    penalty on it is the squared distance from its moving average.

    Args:
        paint: styles f32[B, L, F] -> images f32[B, H, W, C]; no image may depend on another's styles.
        styles: w of every layer.
        key: of y.

    Returns:
        f32[B]; differentiable in what `paint` closes over.

    Reference: Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", equation 4; their code for
    the means.
    """
    images, pull_back = jax.vjp(paint, styles)
    height, width = images.shape[1:3]
    y = jax.random.normal(key, images.shape) / (height * width) ** 0.5
    (gradient,) = pull_back(y)  # [B, L, F]
    squared = jnp.mean(jnp.sum(jnp.square(gradient), axis=2), axis=1)
    # sqrt has an infinite derivative at 0, where a generator begins that does not look at its styles
    is_positive = squared > 0.0
    return jnp.where(is_positive, jnp.sqrt(jnp.where(is_positive, squared, 1.0)), 0.0)
