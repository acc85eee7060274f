"""Generators of style-based games behind one interface: a code z, of it a w, of that and of noise an image."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from genlab.algorithm import Array, Key, PyTree
from genlab.networks.modulated import SkipGenerator
from genlab.networks.progressive import ProgressiveGenerator
from genlab.networks.style import Mapping, StyleGenerator, draw_noise, num_layers
from genlab.networks.variables import apply, init


class Painter(NamedTuple):
    """A generator as pure functions.

    Attributes:
        resolution: R, of the largest images.
        init: (key, codes f32[B, D]) -> params.
        map: (params, codes f32[B, D]) -> w f32[B, F].
        paint: (params, w of every layer f32[B, L, F], noise, resolution, alpha) -> images f32[B, r, r, C] in about
            [-1, 1].
        num_layers: resolution -> L.
        draw_noise: (key, B, resolution) -> noise of every layer, f32[B, h, w, 1].
    """

    resolution: int
    init: Callable[[Key, Array], PyTree]
    map: Callable[[PyTree, Array], Array]
    paint: Callable[[PyTree, Array, Sequence[Array], int, Array | float], Array]
    num_layers: Callable[[int], int]
    draw_noise: Callable[[Key, int, int], list[Array]]

    def broadcast(self, w: Array, resolution: int | None = None) -> Array:
        """w f32[B, F] at every layer, f32[B, L, F]."""
        return jnp.repeat(w[:, None], self.num_layers(resolution or self.resolution), axis=1)


def progressive(generator: ProgressiveGenerator) -> Painter:
    """Of ProGAN: w is z, one layer takes it, and there is no noise."""
    return Painter(
        resolution=4 << len(generator.channels) - 1,
        init=lambda key, codes: init(generator, key, codes)[0],
        map=lambda params, codes: codes,
        paint=lambda params, styles, noise, resolution, alpha: apply(
            generator, params, {}, styles[:, 0], resolution, alpha
        )[0],
        num_layers=lambda resolution: 1,
        draw_noise=lambda key, num, resolution: [],
    )


def style_based(mapping: Mapping, generator: StyleGenerator | SkipGenerator) -> Painter:
    """Of StyleGAN, which may grow, or of StyleGAN2, which does not; params are of "mapping" and "synthesis"."""
    largest = 4 << len(generator.channels) - 1
    grows = isinstance(generator, StyleGenerator)

    def noise_of(key: Key, num: int, resolution: int) -> list[Array]:
        return draw_noise(key, num, generator.noise_sides(resolution))

    def init_both(key: Key, codes: Array) -> PyTree:
        key_mapping, key_synthesis, key_noise = jax.random.split(key, 3)
        params, _ = init(mapping, key_mapping, codes)
        styles = jnp.zeros((len(codes), num_layers(largest), mapping.features))
        synthesis, _ = init(generator, key_synthesis, styles, noise_of(key_noise, len(codes), largest))
        return {"mapping": params, "synthesis": synthesis}

    def paint(params: PyTree, styles: Array, noise: Sequence[Array], resolution: int, alpha: Array | float) -> Array:
        stage = (resolution, alpha) if grows else ()
        return apply(generator, params["synthesis"], {}, styles, noise, *stage)[0]

    mapped = lambda params, codes: apply(mapping, params["mapping"], {}, codes)[0]
    return Painter(largest, init_both, mapped, paint, num_layers, noise_of)


def truncate(w: Array, mean: Array, psi: Array | float) -> Array:
    """w f32[..., F] drawn towards its mean f32[F]; 1: as it is, 0: the mean (Karras et al. 2019, appendix B)."""
    return mean + psi * (w - mean)


def mix(first: Array, second: Array, crossover: Array | int) -> Array:
    """Of w at every layer f32[B, L, F]: the first's before layer `crossover`, the second's from there on."""
    return jnp.where((jnp.arange(first.shape[1]) < crossover)[:, None], first, second)
