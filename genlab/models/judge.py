"""What a discriminator is shown, and what it says of it: packs, labels, augmentation and spectral normalisation.

B is the number of examples, M of those in a pack.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from genlab.algorithm import Array, Batch, Key, PyTree
from genlab.networks import spectral
from genlab.networks.augment import differentiable_augment
from genlab.networks.variables import apply, init

BLACK = -1.0  # of images in [-1, 1]: what comes in from outside, and what is cut out


class Judge(NamedTuple):
    """A discriminator as pure functions; batches hold what networks see, images in [-1, 1].

    Attributes:
        init: (key, batch) -> params, stats.
        look: (batch, key) -> packs [B / M, ..., M C], augmented by the key, and their labels i32[B / M, M] or None.
        logits: (params, stats, packs, labels) -> f32[B / M], stats. By the batch's own statistics, as in training.
    """

    init: Callable[[Key, Batch], tuple[PyTree, PyTree]]
    look: Callable[[Batch, Key], tuple[Array, Array | None]]
    logits: Callable[[PyTree, PyTree, Array, Array | None], tuple[Array, PyTree]]


def make_judge(
    discriminator: nn.Module,
    *,
    conditional: bool = False,
    packing: int = 1,
    augment: tuple[str, ...] = (),
    spectral_norm: bool = False,
) -> Judge:
    """A Judge.

    Args:
        discriminator: (packs f32[B / M, ...], labels i32[B / M, M] if conditional, train) -> logits f32[B / M].
        conditional: whether it is told labels.
        packing: M (Lin et al. 2018); B is a multiple of it.
        augment: kinds of `differentiable_augment` (Zhao et al. 2020).
        spectral_norm: of every kernel (Miyato et al. 2018); one power iteration whenever it says something.
    """

    def look(batch: Batch, key: Key) -> tuple[Array, Array | None]:
        x = differentiable_augment(key, batch["x"], augment, fill=BLACK) if augment else batch["x"]
        return pack(x, packing), batch["label"].reshape(-1, packing) if conditional else None

    def init_networks(key: Key, batch: Batch) -> tuple[PyTree, PyTree]:
        key_look, key_params, key_vectors = jax.random.split(key, 3)
        x, labels = look(batch, key_look)
        params, stats = init(discriminator, key_params, x, *told(labels))
        return params, {**stats, "spectral": spectral.init_vectors(params, key_vectors)} if spectral_norm else stats

    def logits(params: PyTree, stats: PyTree, x: Array, labels: Array | None) -> tuple[Array, PyTree]:
        if not spectral_norm:
            return apply(discriminator, params, stats, x, *told(labels), train=True)
        stats = dict(stats)
        params, vectors = spectral.normalize(params, stats.pop("spectral"))
        said, stats = apply(discriminator, params, stats, x, *told(labels), train=True)
        return said, {**stats, "spectral": vectors}

    told = lambda labels: () if labels is None else (labels,)
    return Judge(init_networks, look, logits)


def pack(x: Array, num: int) -> Array:
    """Examples [B, ..., C], num at a time side by side in their channels: [B / num, ..., num C]."""
    if num == 1:
        return x
    x = x.reshape(-1, num, *x.shape[1:])  # [B / num, num, ..., C]
    x = jnp.moveaxis(x, 1, -2)  # [B / num, ..., num, C]
    return x.reshape(*x.shape[:-2], -1)
