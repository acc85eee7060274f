"""The networks of a DCGAN for 28x28 images end to end, in plain eager PyTorch; see genlab_dcgan for ours."""

import time
from typing import Any

import numpy as np

from experiments.peers.torch_vae import ADAM
from experiments.peers.worker import Program, Run, fastest


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


def train_step(net: Any, optimizer: Any, x: Any) -> Any:
    """One step of the optimizer; the squared error before it, summed over pixels and averaged over the batch."""
    optimizer.zero_grad(set_to_none=True)
    loss = (net(x).float() - x).square().sum() / len(x)
    loss.backward()
    optimizer.step()
    return loss


def contestant(images: np.ndarray, batch_size: int, threads: int, precision: str) -> Program:
    """The fastest of PyTorch's own variants; arguments as in torch_vae.contestant."""
    import torch

    torch.manual_seed(0)
    data = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1  # [N, 1, 28, 28]

    def variant(adam: str, memory_format: torch.memory_format, num_threads: int) -> Run:
        net = network().to(memory_format=memory_format)
        optimizer = torch.optim.Adam(net.parameters(), lr=2e-4, betas=(0.5, 0.999), **ADAM[adam])
        order, position = torch.randperm(len(data)), 0

        def run(num_steps: int) -> float:
            nonlocal order, position
            torch.set_num_threads(num_threads)
            began = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                for _ in range(num_steps):
                    if position + batch_size > len(data):
                        order, position = torch.randperm(len(data)), 0
                    x = data[order[position : position + batch_size]].contiguous(memory_format=memory_format)
                    position += batch_size
                    train_step(net, optimizer, x)
            return time.perf_counter() - began

        return run

    formats = {"": torch.contiguous_format, ", channels last": torch.channels_last}
    variants = {
        f"{adam} Adam{name}, on {num} of {threads} cores": variant(adam, memory_format, num)
        for adam in ADAM
        for name, memory_format in formats.items()
        for num in sorted({1, threads})  # where others compute too, threads that wait for each other are slow
    }
    best, run = fastest(variants)
    return Program(f"PyTorch {torch.__version__} eager, {best}", run)
