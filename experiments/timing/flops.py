"""Floating-point operations of a training step, by formula.

They are the products of forward and backward pass (a convolution as the product of its patches, padding included),
without the gradient of the first layer's input.
"""

from collections.abc import Sequence

# (rows, inputs, outputs) of each; a dense layer has as many rows as the batch, a convolution one for every position of
# its kernel
Layers = Sequence[tuple[int, int, int]]


def flops_forward(layers: Layers) -> int:
    """Of one product a layer, which is also what the gradient of every layer's input takes."""
    return 2 * sum(rows * inputs * outputs for rows, inputs, outputs in layers)


def flops_per_step(layers: Layers) -> int:
    """Of the three products of every layer, two of the first's; two FLOPs a multiplication and its addition."""
    return 3 * flops_forward(layers) - flops_forward(layers[:1])
