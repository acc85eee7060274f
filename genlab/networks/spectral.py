"""Spectral normalisation of a tree of parameters: every kernel is divided by its largest singular value.

With one power iteration a training step the estimate follows the parameters as they move:

    v = W u / |W u|,    u = W' v / |W' v|,    sigma = v' W u.

u and v are held fixed under differentiation, sigma is not, so that d sigma / d W = v u' and the gradient is that of
W / sigma(W) (the paper's equation 12). The functions see parameters alone, whatever network they belong to: keep the
vectors in a player's `stats`, and give the network the normalized parameters.

A kernel counts as the matrix W of shape [product of all axes but the last, last axis]. A convolution's is [kH kW C, D];
its largest singular value is not that of the convolution as a linear map, which may be sqrt(kH kW) times as large.

Reference: Miyato et al. 2018, "Spectral normalization for generative adversarial networks", algorithm 1.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from genlab.errors import InputError

Array = jax.Array
Key = jax.Array
PyTree = Any

NORMALIZED = ("kernel", "embedding")  # last names of the leaves that are; biases and scales are not


def init_vectors(params: PyTree, key: Key) -> dict[str, Array]:
    """A random unit vector for every leaf that `normalize` divides.

    Args:
        params: tree of parameters. The leaves that count are named "kernel" or "embedding" and have two axes or more.
        key: of the vectors.

    Returns:
        The leaf's path, such as "trunk/Dense_0/kernel" -> u, f32[size of the leaf's last axis].
    """
    leaves = {_name(path): leaf for path, leaf in jax.tree.leaves_with_path(params) if _is_normalized(path, leaf)}
    vectors = {}
    for name, key_leaf in zip(leaves, jax.random.split(key, len(leaves)), strict=True):
        u = jax.random.normal(key_leaf, leaves[name].shape[-1:], leaves[name].dtype)
        vectors[name] = _unit(u, u)
    return vectors


def normalize(params: PyTree, vectors: dict[str, Array], num_iterations: int = 1) -> tuple[PyTree, dict[str, Array]]:
    """Divides every kernel and embedding by the estimate of its largest singular value.

    Differentiable in the parameters, through sigma as well. A kernel of zeros stays as it is, and so does its vector.

    Args:
        params: tree of parameters.
        vectors: of `init_vectors`, or of the call before.
        num_iterations: power iterations from `vectors`, static. 0 leaves them as they are, for evaluation.

    Returns:
        The tree with those leaves divided by sigma and the others as they were, and the vectors after the iterations.

    Raises:
        InputError: if num_iterations is negative.
        ValueError: if the vectors are of other parameters.
    """
    if num_iterations < 0:
        raise InputError(f"num_iterations must be 0 or more, got {num_iterations}")
    leaves, structure = jax.tree.flatten_with_path(params)
    shapes = {_name(path): leaf.shape[-1:] for path, leaf in leaves if _is_normalized(path, leaf)}
    given = {name: u.shape for name, u in vectors.items()}
    if wrong := sorted({name for name, _ in given.items() ^ shapes.items()}):
        raise ValueError(f"the vectors are of other parameters: they differ at {', '.join(wrong)}")

    divided, moved = [], {}
    for path, leaf in leaves:
        if (name := _name(path)) in vectors:
            matrix = leaf.reshape(math.prod(leaf.shape[:-1]), leaf.shape[-1])
            sigma, moved[name] = _largest_singular_value(matrix, vectors[name], num_iterations)
            leaf = leaf / jnp.where(sigma == 0.0, 1.0, sigma)
        divided.append(leaf)
    return jax.tree.unflatten(structure, divided), moved


def _largest_singular_value(matrix: Array, u: Array, num_iterations: int) -> tuple[Array, Array]:
    """sigma of W [I, O], from the vector u [O], and u after the iterations."""
    # Products with a vector are bound by memory: full precision costs accelerators nothing.
    product = lambda a, b: jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
    fixed, u = jax.lax.stop_gradient((matrix, u))
    v_of = lambda u: _unit(product(fixed, u), jnp.zeros_like(fixed[:, 0]))
    u_of = lambda v, u: _unit(product(v, fixed), u)
    v = v_of(u)
    if num_iterations:

        def iterate(_, vectors: tuple[Array, Array]) -> tuple[Array, Array]:
            u, v = vectors
            u = u_of(v, u)
            return u, v_of(u)

        # an iteration ends with u, whose half is left to the last one
        u, v = jax.lax.fori_loop(0, num_iterations - 1, iterate, (u, v))
        u = u_of(v, u)
    return product(v, product(matrix, u)), u


def _unit(vector: Array, otherwise: Array) -> Array:
    """The vector at length 1, or what to take where it has none."""
    norm = jnp.linalg.norm(vector)
    return jnp.where(norm > 0.0, vector / jnp.where(norm > 0.0, norm, 1.0), otherwise)


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _is_normalized(path: tuple[Any, ...], leaf: Array) -> bool:
    return _name(path).split("/")[-1] in NORMALIZED and leaf.ndim >= 2
