"""Points on the line and in the plane whose density is known exactly, so that a model's can be compared with it.

Every set is a mixture of equally likely modes or arms, whose number is the label; one mode alone has none. The points
are drawn once, from a stream fixed by the set's name and split.
"""

import zlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genlab.data.dataset import Dataset, Modes
from genlab.errors import InputError

Array = jax.Array

NUM_TRAIN, NUM_TEST = 100_000, 10_000


class Density(NamedTuple):
    """A density on R^D.

    Attributes:
        num_parts: how many modes or arms it mixes.
        sample: (rng, labels i64[N]) -> f64[N, D], one point of each part asked for.
        log_density: f32[N, D] -> f32[N], nats.
        modes: where the parts are equal isotropic Gaussians.
    """

    num_parts: int
    sample: Callable[[np.random.Generator, np.ndarray], np.ndarray]
    log_density: Callable[[Array], Array]
    modes: Modes | None = None


def load(name: str, num_validation: int) -> Dataset:
    """One of `SETS`: 100,000 points to train on, `num_validation`, and 10,000 to test on.

    Raises:
        InputError: `num_validation` is negative.
    """
    if num_validation < 0:
        raise InputError(f"data.num_validation is {num_validation}; it must be at least 0")
    density = SETS[name]()
    num_classes = density.num_parts if density.num_parts > 1 else 0

    def draw(split: int, num_examples: int):
        rng = np.random.Generator(np.random.Philox(key=[zlib.crc32(name.encode()), split]))
        labels = rng.integers(density.num_parts, size=num_examples)
        points = {"x": density.sample(rng, labels).astype(np.float32)}
        return points | ({"label": labels.astype(np.int32)} if num_classes else {})

    train, validation, test = draw(0, NUM_TRAIN), draw(1, num_validation), draw(2, NUM_TEST)
    return Dataset(name, train, validation, test, num_classes, density.log_density, density.modes)


def _gaussians(means: np.ndarray, sigma: float) -> Density:
    """Equal isotropic Gaussians at means f64[K, D]."""

    def sample(rng, labels):
        return means[labels] + sigma * rng.standard_normal((len(labels), means.shape[1]))

    log_weights = np.full(len(means), -np.log(len(means)))
    return Density(len(means), sample, _convolved(means, log_weights, sigma), Modes(means, sigma))


def _curves(curve: Callable[[np.ndarray], np.ndarray], num_arms: int, sigma: float, num_panels: int) -> Density:
    """A uniform position on one of several curves, plus isotropic Gaussian noise.

    The density is the integral over the position u, by Gauss-Legendre quadrature on fixed panels of 16 nodes. The
    nodes lie closer together than sigma, and the error is that of float32's rounding.

    Args:
        curve: s f64[N] in [0, 1] -> f64[K, N, 2], the arms; u = s^2 is the uniform position.
        num_arms: K.
        sigma: of the noise.
        num_panels: of the quadrature on each arm.
    """

    def sample(rng, labels):
        on_curve = curve(np.sqrt(rng.random(len(labels))))[labels, np.arange(len(labels))]
        return on_curve + sigma * rng.standard_normal((len(labels), 2))

    nodes, weights = np.polynomial.legendre.leggauss(16)
    s = ((np.arange(num_panels)[:, None] + (nodes + 1) / 2) / num_panels).ravel()
    # du = 2s ds and ds = d(node) / (2 num_panels)
    log_weights = np.tile(np.log(np.tile(weights, num_panels) * s / num_panels / num_arms), num_arms)
    return Density(num_arms, sample, _convolved(curve(s).reshape(-1, 2), log_weights, sigma))


def _convolved(centres: np.ndarray, log_weights: np.ndarray, sigma: float) -> Callable[[Array], Array]:
    """log sum_k exp(log_weights_k) N(x; centres_k, sigma^2 I), a thousand points at a time to bound memory."""

    def one(point):
        squares = jnp.sum(jnp.square(point - jnp.asarray(centres, jnp.float32)), axis=-1)  # [K]
        exponents = jnp.asarray(log_weights, jnp.float32) - squares / (2 * sigma**2)
        return jax.nn.logsumexp(exponents) - float(centres.shape[1] / 2 * np.log(2 * np.pi * sigma**2))

    return lambda x: jax.lax.map(one, x, batch_size=1024)


def _ring() -> Density:
    """Eight Gaussians of sigma 0.01 on the unit circle. Reference: Lin et al. 2018 (PacGAN), section 4.1."""
    angles = 2 * np.pi * np.arange(8) / 8
    return _gaussians(np.stack([np.cos(angles), np.sin(angles)], axis=1), sigma=0.01)


def _grid() -> Density:
    """Twenty-five Gaussians of sigma 0.05 at {-4, -2, 0, 2, 4}^2. Reference: PacGAN, section 4.1."""
    side = np.arange(-4.0, 5.0, 2.0)
    return _gaussians(np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2), sigma=0.05)


def _moons() -> Density:
    """Two interleaved half circles with noise of sigma 0.1, placed as scikit-learn's `make_moons`."""

    def curve(s):
        angle = np.pi * np.square(s)
        upper = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        return np.stack([upper, np.array([1.0, 0.5]) - upper])

    return _curves(curve, num_arms=2, sigma=0.1, num_panels=16)


def _spirals() -> Density:
    """Two interleaved arms of one and a half turns and radius up to pi, with noise of sigma 0.1.

    The angle is 3 pi sqrt(u), which spaces points about evenly along the arm. As FFJORD's "2spirals" (Grathwohl et
    al. 2019) without its uniform jitter, so that the noise is Gaussian alone.
    """

    def curve(s):
        angle = 3 * np.pi * s
        arm = (angle / 3)[:, None] * np.stack([-np.cos(angle), np.sin(angle)], axis=-1)
        return np.stack([arm, -arm])

    return _curves(curve, num_arms=2, sigma=0.1, num_panels=40)


def _pinwheel() -> Density:
    """Five arms: a radial Gaussian, turned by an angle that grows with the radius, scaled by 2.

    As Johnson et al. 2016 (SVAE) with radial deviation 0.3, tangential 0.1, rate 0.25, but the angle is
    theta(r) = 2 pi k / 5 + rate exp(r) with r the radius itself, not the radial coordinate. Turning every circle
    by its own angle preserves area, so with R(a) the rotation by a and f ~ N((1, 0), diag(0.3, 0.1)^2),

        x = 2 R(theta(|f|)) f,    p(x) = (1 / 4) (1 / 5) sum_k N(R(-theta_k(|x| / 2)) x / 2; (1, 0), diag(0.3, 0.1)^2).
    """
    num_arms, deviations, rate, scale = 5, np.array([0.3, 0.1]), 0.25, 2.0
    arms = 2 * np.pi * np.arange(num_arms) / num_arms

    def sample(rng, labels):
        f = np.array([1.0, 0.0]) + deviations * rng.standard_normal((len(labels), 2))
        angle = arms[labels] + rate * np.exp(np.linalg.norm(f, axis=1))
        cos, sin = np.cos(angle), np.sin(angle)
        return scale * np.stack([cos * f[:, 0] - sin * f[:, 1], sin * f[:, 0] + cos * f[:, 1]], axis=1)

    def log_density(x):
        f = x / scale
        radius = jnp.linalg.norm(f, axis=1, keepdims=True)
        angle = jnp.asarray(arms, jnp.float32) + rate * jnp.exp(radius)  # [N, K]
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        radial = (cos * f[:, :1] + sin * f[:, 1:] - 1) / float(deviations[0])
        tangential = (cos * f[:, 1:] - sin * f[:, :1]) / float(deviations[1])
        log_normaliser = float(np.log(2 * np.pi * np.prod(deviations) * num_arms * scale**2))
        return jax.nn.logsumexp(-0.5 * (jnp.square(radial) + jnp.square(tangential)), axis=1) - log_normaliser

    return Density(num_arms, sample, log_density)


def _gaussian() -> Density:
    """One Gaussian on the line, of mean 1 and sigma 0.5: neither where a generator starts nor as wide as N(0, 1)."""
    return _gaussians(np.array([[1.0]]), sigma=0.5)


SETS: dict[str, Callable[[], Density]] = {
    "ring": _ring,
    "grid": _grid,
    "moons": _moons,
    "pinwheel": _pinwheel,
    "spirals": _spirals,
    "gaussian": _gaussian,
}
