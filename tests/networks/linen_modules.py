"""Linen modules of a test: their shapes, variables in which nothing is 0 or 1, and what they then give."""

import jax
import numpy as np

KEY = jax.random.key(0)


def normal(seed, shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def shapes(module, *args):
    """Of all variables: collection -> layer -> name -> shape."""
    return jax.tree.map(lambda leaf: leaf.shape, dict(jax.eval_shape(module.init, KEY, *args)))


def made(module, *args, size=0.5):
    """Variables where no bias is 0 and no scale or variance 1; the others are at most `size`."""
    rng = np.random.default_rng(2)

    def draw(path, leaf):
        values = size * rng.uniform(-1.0, 1.0, leaf.shape) + (path[-1].key in ("scale", "var"))
        return values.astype(leaf.dtype)

    return jax.tree.map_with_path(draw, dict(jax.eval_shape(module.init, KEY, *args)))


def outputs(module, variables, *args, **options):
    """Compiled, and the variables that training changes."""
    run = lambda variables, *args: module.apply(variables, *args, mutable=["batch_stats"], **options)
    return jax.jit(run)(variables, *args)
