"""The machine itself: how fast the compiler's own matrix products run, alone."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.peers.worker import Program
from experiments.timing.flops import Layers

Array = jax.Array


def square(size: int, dtype: Any = jnp.float32) -> Program:
    """Products of two square matrices, 2 size^3 FLOPs each; one is a step."""
    a, b = (jnp.asarray(matrix, dtype) for matrix in np.random.default_rng(0).normal(size=(2, size, size)))
    product = jax.jit(jnp.matmul).lower(a, b).compile()

    def run(num_steps: int) -> float:
        began = time.perf_counter()
        for _ in range(num_steps):
            product(a, b).block_until_ready()
        return time.perf_counter() - began

    run(1)
    return Program(f"products of {size}x{size}", run)


def of_layers(layers: Layers, dtype: Any = jnp.float32) -> Program:
    """The products of one training step and nothing else, in a compiled loop.

    Args:
        layers: (rows, inputs, outputs) of each; a dense layer has as many rows as the batch, a convolution one for
            every position of its kernel. A layer has three products: its output, the gradient of its weights,
            and that of its input, which the first layer does not need.
        dtype: of the operands.
    """
    rng = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)
    weights = [normal(inputs, outputs) / inputs**0.5 for _, inputs, outputs in layers]
    carry = []
    for rows, inputs, outputs in layers:
        x, g = normal(rows, inputs), normal(rows, outputs)
        carry.append((x, g, jnp.zeros_like(g), jnp.zeros((inputs, outputs), dtype), jnp.zeros_like(x)))

    def products(i, carry, weights):
        after = []
        for position, ((x, g, y, dw, dx), w) in enumerate(zip(carry, weights, strict=True)):
            # operands that depend on the last results, by one number, cannot be moved out of the loop
            x, g = x.at[0, 0].set(jnp.sin(y[0, 0])), g.at[0, 0].set(jnp.sin(dw[0, 0]))
            after.append((x, g, x @ w, x.T @ g, g @ w.T if position else dx))
        return after

    steps = jax.jit(
        lambda carry, weights, num: jax.lax.fori_loop(0, num, lambda i, c: products(i, c, weights), carry),
        donate_argnums=0,
    ).lower(carry, weights, jnp.int32(1))  # fmt: skip
    steps = steps.compile()

    def run(num_steps: int) -> float:
        nonlocal carry
        began = time.perf_counter()
        carry = jax.block_until_ready(steps(carry, weights, jnp.int32(num_steps)))
        return time.perf_counter() - began

    run(1)
    return Program("the step's own products in a loop", run)
