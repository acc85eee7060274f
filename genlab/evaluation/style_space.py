"""The space of styles: how far images move along it, and where in it a real image lies.

A painter is given w at every layer, f32[B, L, F], and noise maps, a list of f32[B or 1, h, w, 1]; its images are in
[0, 1].

Reference: Karras et al. 2019, sections 3 and 4, and 2020, appendix D; their code, where the papers are silent.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from genlab.algorithm import Array, Key

Number = dict[str, Any]
Paint = Callable[[Array, Sequence[Array]], Array]

EPSILON = 1e-4  # of a path, whose length is taken between t and t + EPSILON
LOWEST, HIGHEST = 1.0, 99.0  # percentiles outside which lengths are dropped
NUM_CODES = 10_000  # whose mean w a projection starts from


def path_length(
    endpoints: Callable[[Key, int], tuple[Array, Array]],
    between: Callable[[Array, Array, Array], Array],
    paint: Callable[[Array, Key], Array],
    features: Callable[[Array], Array],
    key: Key,
    num_paths: int = 2_000,
    batch_size: int = 50,
) -> Number:
    """Perceptual path length, E |f(G(p(t))) - f(G(p(t + epsilon)))|^2 / epsilon^2 along paths p, t ~ U[0, 1).

    Args:
        endpoints: (key, B) -> the ends of paths, f32[B, D] each.
        between: (ends, other ends, t f32[B]) -> points f32[B, D].
        paint: (points, key) -> images f32[B, H, W, C]; the two ends of a step have one key, so the same noise.
        features: images -> f32[B, K], in which distances are taken.
        key: of all draws.
        num_paths: paths; a multiple of batch_size.
        batch_size: at a time.

    Returns:
        A Number: the mean of what lies between the 1st and the 99th percentile, its standard error, the median.
    """

    @jax.jit
    def lengths(key: Key) -> Array:
        key_ends, key_place, key_noise = jax.random.split(key, 3)
        first, second = endpoints(key_ends, batch_size)
        place = jax.random.uniform(key_place, (batch_size,))
        # products of less than full precision would be of the order of the step
        with jax.default_matmul_precision("highest"):
            here, there = (features(paint(between(first, second, t), key_noise)) for t in (place, place + EPSILON))
        return jnp.sum(jnp.square(here - there), axis=1) / EPSILON**2

    found = np.concatenate([
        np.asarray(lengths(jax.random.fold_in(key, number)), np.float64) for number in range(num_paths // batch_size)
    ])  # fmt: skip
    low, high = np.percentile(found, (LOWEST, HIGHEST), method="nearest")
    kept = found[(found >= low) & (found <= high)]
    return {
        "value": float(kept.mean()),
        "standard_error": float(kept.std(ddof=1) / len(kept) ** 0.5),
        "median": float(np.median(found)),
        "estimator": f"mean between percentiles {LOWEST:g} and {HIGHEST:g} of squared distances / epsilon^2",
        "epsilon": EPSILON,
        "n": len(found),
    }


class Projection(NamedTuple):
    """Where images lie in W.

    Attributes:
        w: f32[B, F].
        noise: of every layer, f32[B, h, w, 1].
        images: f32[B, H, W, C], painted of both.
        distances: f32[S, B], in features, at every step.
    """

    w: Array
    noise: list[Array]
    images: Array
    distances: Array


def project(
    targets: Array,
    paint: Paint,
    distance: Callable[[Array, Array], Array],
    w_samples: Array,
    num_layers: int,
    noise: Sequence[Array],
    key: Key,
    num_steps: int = 500,
    learning_rate: float = 0.1,
    noise_weight: float = 1e5,
) -> Projection:
    """Finds the w, one for all layers, and the noise of which images are painted that are near to the targets.

    Args:
        targets: f32[B, H, W, C] in [0, 1].
        paint: (w of every layer, noise) -> images like the targets.
        distance: (images, targets) -> f32[B].
        w_samples: f32[N, F], of random codes: their mean is the start, their spread the scale of the search.
        num_layers: L.
        noise: of every layer, f32[B, h, w, 1], where it begins.
        key: of what is added to w.
        num_steps: of Adam.
        learning_rate: its peak.
        noise_weight: of the penalty on noise that is correlated with itself a pixel on, at every scale down to 8x8.

    Returns:
        Projection, of the last step.

    Reference: Karras et al. 2020, appendix D.
    """
    mean = jnp.mean(w_samples, axis=0)
    spread = jnp.sqrt(jnp.mean(jnp.sum(jnp.square(w_samples - mean), axis=1)))
    num = targets.shape[0]
    at_every_layer = lambda w: jnp.repeat(w[:, None], num_layers, axis=1)
    tx = optax.scale_by_adam()

    def loss_fn(free: tuple[Array, list[Array]], moved: Array) -> tuple[Array, Array]:
        w, noise = free
        distances = distance(paint(at_every_layer(w + moved), noise), targets)
        penalty = sum((correlation(each) for each in noise), start=jnp.zeros(num))
        return jnp.sum(distances + noise_weight * penalty), distances

    def step(carry: Any, number: Array) -> tuple[Any, Array]:
        free, moments = carry
        share = number.astype(jnp.float32) / num_steps
        ramp = jnp.minimum(1.0, (1.0 - share) / 0.25)
        rate = learning_rate * 0.5 * (1.0 - jnp.cos(jnp.pi * ramp)) * jnp.minimum(1.0, share / 0.05)
        width = spread * 0.05 * jnp.square(jnp.maximum(0.0, 1.0 - share / 0.75))
        moved = width * jax.random.normal(jax.random.fold_in(key, number), free[0].shape)
        gradient, distances = jax.grad(loss_fn, has_aux=True)(free, moved)
        with jax.numpy_dtype_promotion("standard"):  # optax takes float powers of an integer count
            updates, moments = tx.update(gradient, moments)
        w, noise = jax.tree.map(lambda leaf, update: leaf - rate * update, free, updates)
        return ((w, [standardised(each) for each in noise]), moments), distances

    free = (jnp.broadcast_to(mean, (num, mean.size)), list(noise))
    run = jax.jit(lambda free: jax.lax.scan(step, (free, tx.init(free)), jnp.arange(num_steps)))
    ((w, noise), _), distances = run(free)
    return Projection(w, noise, jax.jit(paint)(at_every_layer(w), noise), distances)


def correlation(noise: Array) -> Array:
    """f32[B], how much noise f32[B, h, w, 1] agrees with itself one pixel on, summed over scales down to 8x8."""
    total = jnp.zeros(noise.shape[0])
    while True:
        for axis in (1, 2):
            total = total + jnp.square(jnp.mean(noise * jnp.roll(noise, 1, axis), axis=(1, 2, 3)))
        if noise.shape[1] <= 8:
            return total
        num, height, width, _ = noise.shape
        noise = jnp.mean(noise.reshape(num, height // 2, 2, width // 2, 2, 1), axis=(2, 4))


def standardised(noise: Array) -> Array:
    """f32[B, h, w, 1] of mean 0 and variance 1."""
    noise = noise - jnp.mean(noise, axis=(1, 2, 3), keepdims=True)
    return noise * jax.lax.rsqrt(jnp.mean(jnp.square(noise), axis=(1, 2, 3), keepdims=True) + 1e-12)


def mixing_grid(paint: Paint, rows: Array, columns: Array, layers: Sequence[int], noise: Sequence[Array]) -> np.ndarray:
    """What becomes of each row's image when some of its layers have a column's style.

    Args:
        paint: (w of every layer, noise) -> images f32[B, H, W, C].
        rows, columns: w of every layer, f32[R, L, F] and f32[C, L, F].
        layers: that take the column's style.
        noise: one map a layer, f32[1, h, w, 1].

    Returns:
        f32[R + 1, C + 1, H, W, C]: the first column is of the rows, the first row of the columns; the corner is white.
    """
    taken = jnp.isin(jnp.arange(rows.shape[1]), jnp.asarray(layers))[:, None]
    pairs = jnp.where(taken, columns[None], rows[:, None])  # [R, C, L, F]
    painted = jax.jit(lambda styles: paint(styles, noise))
    inside = np.asarray(painted(pairs.reshape(-1, *rows.shape[1:])))
    inside = inside.reshape(len(rows), len(columns), *inside.shape[1:])
    left, top = np.asarray(painted(rows)), np.asarray(painted(columns))
    corner = np.ones_like(left[:1])
    body = np.concatenate([left[:, None], inside], axis=1)
    return np.concatenate([np.concatenate([corner, top])[None], body])
