"""Networks that are told the class of their example."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genlab.networks.variables import takes_train

Array = jax.Array


class ByClass(nn.Module):
    """A network of codes whose first layer has weights of its own for every class.

    It is given the outer product of code and one-hot label, and the label: a dense layer of that is W_y z + b_y.

    Attributes:
        network: f32[B, D Y + Y] -> any.
        num_classes: Y; labels are 0, ..., Y - 1.
    """

    network: nn.Module
    num_classes: int

    @nn.compact
    def __call__(self, codes: Array, label: Array, train: bool = False) -> Any:
        """codes f32[B, D], labels i32[B] -> what the network gives."""
        one_hot = jax.nn.one_hot(label, self.num_classes, dtype=codes.dtype)
        products = codes[:, :, None] * one_hot[:, None, :]  # [B, D, Y]
        x = jnp.concatenate([products.reshape(codes.shape[0], -1), one_hot], axis=-1)
        return self.network(x, train=train) if takes_train(self.network) else self.network(x)


class WithLabels(nn.Module):
    """A network whose input has the label beside it, one-hot: at the end of a vector, as constant planes of an image.

    Attributes:
        network: [B, ...] -> any.
        num_classes: labels are 0, ..., num_classes - 1.
        flatten: whether images become vectors first, for networks that flatten them anyway: num_classes numbers more
            instead of num_classes planes.
    """

    network: nn.Module
    num_classes: int
    flatten: bool = True

    @nn.compact
    def __call__(self, x: Array, label: Array, train: bool = False) -> Any:
        """x [B, ...], labels i32[B] -> what the network gives."""
        one_hot = jax.nn.one_hot(label, self.num_classes, dtype=x.dtype)
        if self.flatten:
            x = x.reshape(x.shape[0], -1)  # [B, D]
        one_hot = one_hot.reshape(x.shape[0], *(1,) * (x.ndim - 2), self.num_classes)
        x = jnp.concatenate([x, jnp.broadcast_to(one_hot, (*x.shape[:-1], self.num_classes))], axis=-1)
        return self.network(x, train=train) if takes_train(self.network) else self.network(x)
