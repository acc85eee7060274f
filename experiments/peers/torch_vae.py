"""The VAEs of configs/vae.py, mnist and conv, in plain PyTorch."""

from typing import Any

from experiments.peers import torch_training
from experiments.peers.worker import Contestants


def networks(kind: str) -> tuple[Any, Any]:
    """Encoder, images f32[B, 1, 28, 28] -> [B, 40], mean beside log-variance; decoder, codes [B, 20] -> logits."""
    from torch import nn

    if kind == "dense":
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 40))
        decoder = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784), nn.Unflatten(1, (1, 28, 28)))
        return encoder, decoder
    encoder = nn.Sequential(
        nn.Conv2d(1, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * 7 * 7, 256),
        nn.ReLU(),
        nn.Linear(256, 40),
    )
    decoder = nn.Sequential(
        nn.Linear(20, 256),
        nn.ReLU(),
        nn.Linear(256, 64 * 7 * 7),
        nn.ReLU(),
        nn.Unflatten(1, (64, 7, 7)),
        nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 1, 4, stride=2, padding=1),
    )
    return encoder, decoder


def draw(images: Any) -> tuple[Any, Any]:
    """Binary pixels, and the noise of the codes."""
    import torch

    return torch.bernoulli(images), torch.randn(len(images), 20, device=images.device)


def objective(encoder: Any, decoder: Any, x: Any, noise: Any) -> Any:
    """Minus the evidence lower bound, nats per example, at z = mean + sigma * noise; averaged over the batch."""
    import torch

    mean, log_var = encoder(x).float().chunk(2, dim=1)
    logits = decoder(mean + torch.exp(0.5 * log_var) * noise).float()
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    kl = -0.5 * torch.sum(1 + log_var - mean.square() - log_var.exp())
    return (cross_entropy + kl) / len(x)


def contestants(kind: str, **arguments: Any) -> Contestants:
    """Of kind "dense" or "conv"; the other arguments as in torch_training.contestants."""
    make, step = lambda: networks(kind), torch_training.descent(objective, draw)
    return torch_training.contestants(make, step, {"lr": 1e-3}, channels_last=kind == "conv", **arguments)
