"""The networks of a DCGAN for 28x28 images end to end, in plain PyTorch; see timing/dcgan_stack.py for ours."""

from typing import Any

from experiments.peers import torch_training
from experiments.peers.worker import Contestants


def network() -> Any:
    """Images f32[B, 1, 28, 28] in [-1, 1] through the discriminator's layers, a code [B, 100], and the generator's."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, 64, 5, stride=2, padding=2),
        nn.LeakyReLU(0.2),
        nn.Conv2d(64, 128, 5, stride=2, padding=2),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(128 * 7 * 7, 100),
        nn.Linear(100, 128 * 7 * 7),
        nn.ReLU(),
        nn.Unflatten(1, (128, 7, 7)),
        nn.ConvTranspose2d(128, 64, 5, stride=2, padding=2, output_padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(64, 1, 5, stride=2, padding=2, output_padding=1),
        nn.Tanh(),
    )


def draw(images: Any) -> tuple[Any]:
    """[0, 1] -> [-1, 1], as ours does at every step, too."""
    return (2 * images - 1,)


def objective(net: Any, x: Any) -> Any:
    """The squared error, summed over pixels and averaged over the batch."""
    return (net(x).float() - x).square().sum() / len(x)


def contestants(**arguments: Any) -> Contestants:
    """Arguments as in torch_training.contestants."""
    adam = {"lr": 2e-4, "betas": (0.5, 0.999)}
    return torch_training.contestants(lambda: [network()], objective, draw, adam, channels_last=True, **arguments)
