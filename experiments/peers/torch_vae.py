"""The VAEs of configs/vae.py, mnist and conv, in plain eager PyTorch."""

import time
from typing import Any

import numpy as np

from experiments.peers.worker import Program, Run, fastest

ADAM: dict[str, dict[str, bool]] = {"default": {}, "foreach": {"foreach": True}, "fused": {"fused": True}}


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


def objective(encoder: Any, decoder: Any, x: Any, noise: Any) -> Any:
    """Minus the evidence lower bound, nats per example, at z = mean + sigma * noise; averaged over the batch."""
    import torch

    mean, log_var = encoder(x).float().chunk(2, dim=1)
    logits = decoder(mean + torch.exp(0.5 * log_var) * noise).float()
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    kl = -0.5 * torch.sum(1 + log_var - mean.square() - log_var.exp())
    return (cross_entropy + kl) / len(x)


def train_step(encoder: Any, decoder: Any, optimizer: Any, x: Any, noise: Any) -> Any:
    """One step of the optimizer; the loss before it."""
    optimizer.zero_grad(set_to_none=True)
    loss = objective(encoder, decoder, x, noise)
    loss.backward()
    optimizer.step()
    return loss


def contestant(kind: str, images: np.ndarray, batch_size: int, threads: int, precision: str) -> Program:
    """The fastest of PyTorch's own variants: three of Adam, one thread or all, for convolutions two memory formats.

    Args:
        kind: "dense" or "conv".
        images: uint8[N, 28, 28, 1]; held as floats, which saves PyTorch the conversion.
        batch_size: B.
        threads: as many as there are cores.
        precision: "float32", or "bfloat16" by autocast.
    """
    import torch

    torch.manual_seed(0)
    data = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255  # [N, 1, 28, 28]

    def variant(adam: str, memory_format: torch.memory_format, num_threads: int) -> Run:
        encoder, decoder = (network.to(memory_format=memory_format) for network in networks(kind))
        optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3, **ADAM[adam])
        order, position = torch.randperm(len(data)), 0

        def run(num_steps: int) -> float:
            nonlocal order, position
            torch.set_num_threads(num_threads)
            began = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                for _ in range(num_steps):
                    if position + batch_size > len(data):
                        order, position = torch.randperm(len(data)), 0
                    x = torch.bernoulli(data[order[position : position + batch_size]])
                    position += batch_size
                    x = x.contiguous(memory_format=memory_format)
                    train_step(encoder, decoder, optimizer, x, torch.randn(batch_size, 20))
            return time.perf_counter() - began

        return run

    formats = {"": torch.contiguous_format} | ({", channels last": torch.channels_last} if kind == "conv" else {})
    variants = {
        f"{adam} Adam{name}, on {num} of {threads} cores": variant(adam, memory_format, num)
        for adam in ADAM
        for name, memory_format in formats.items()
        for num in sorted({1, threads})  # where others compute too, threads that wait for each other are slow
    }
    best, run = fastest(variants)
    return Program(f"PyTorch {torch.__version__} eager, {best}", run)
