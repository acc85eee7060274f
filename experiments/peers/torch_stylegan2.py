"""The StyleGAN2 of configs/stylegan.py:stylegan2_mnist, with lazy R1, in plain PyTorch: no kernels of its own."""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from experiments.peers import torch_training
from experiments.peers.worker import Contestants

LATENT_DIM, MAPPING_LAYERS, CHANNELS, SIDE = 128, 4, (128, 64, 32, 16), 32
R1_WEIGHT, R1_EVERY = 0.05, 16
ADAM = {"lr": 2e-3, "betas": (0.0, 0.99)}


@functools.cache
def modules() -> tuple[Callable[[], Any], Callable[[], Any]]:
    """(makes a generator, makes a discriminator): classes of PyTorch, which is imported here."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    def activation(x: Any) -> Any:
        return math.sqrt(2) * F.leaky_relu(x, 0.2)

    def smooth(x: Any, pad: int, mode: str, stride: int = 1, gain: float = 1.0) -> Any:
        """[1, 3, 3, 1] / 8 along both axes, as a convolution of every channel alone."""
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device=x.device, dtype=x.dtype) / 8
        kernel = (gain * taps[:, None] * taps).expand(x.shape[1], 1, 4, 4)
        return F.conv2d(F.pad(x, (pad,) * 4, mode), kernel, stride=stride, groups=x.shape[1])

    class Dense(nn.Module):
        """Equalised."""

        def __init__(self, inputs: int, outputs: int, bias: float = 0.0, rate: float = 1.0) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
            self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
            self.scale, self.rate = rate / math.sqrt(inputs), rate

        def forward(self, x: Any) -> Any:
            return F.linear(x, self.scale * self.weight, self.rate * self.bias)

    class Conv(nn.Module):
        """Equalised."""

        def __init__(self, inputs: int, outputs: int, size: int, bias: bool = True, stride: int = 1) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
            self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
            self.scale, self.stride = 1 / math.sqrt(inputs * size**2), stride

        def forward(self, x: Any) -> Any:
            padding = self.weight.shape[2] // 2 if self.stride == 1 else 0
            return F.conv2d(x, self.scale * self.weight, self.bias, self.stride, padding)

    class Modulated(nn.Module):
        """A modulated convolution; the style scales the image."""

        def __init__(self, inputs: int, outputs: int, size: int, demodulate: bool, enlarge: bool = False) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
            self.affine = Dense(LATENT_DIM, inputs, bias=1.0)
            self.scale, self.demodulate, self.enlarge = 1 / math.sqrt(inputs * size**2), demodulate, enlarge

        def forward(self, x: Any, w: Any) -> Any:
            weight, style = self.scale * self.weight, self.affine(w)
            x = x * style[:, :, None, None]
            if self.enlarge:
                x = smooth(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), 1, "constant", gain=4.0)
            else:
                x = F.conv2d(x, weight, padding=weight.shape[2] // 2)
            if self.demodulate:
                norms = weight.square().sum(dim=(2, 3))  # [F, C]
                x = x * torch.rsqrt(style.square() @ norms.T + 1e-8)[:, :, None, None]
            return x

    class Styled(nn.Module):
        """A modulated convolution, noise, a bias and an activation."""

        def __init__(self, inputs: int, outputs: int, enlarge: bool = False) -> None:
            super().__init__()
            self.conv = Modulated(inputs, outputs, 3, True, enlarge)
            self.strength = nn.Parameter(torch.zeros(()))
            self.bias = nn.Parameter(torch.zeros(outputs))

        def forward(self, x: Any, w: Any) -> Any:
            x = self.conv(x, w)
            noise = torch.randn(len(x), 1, *x.shape[2:], device=x.device)
            return activation(x + self.strength * noise + self.bias[:, None, None])

    class ToImage(nn.Module):
        """A modulated 1x1 convolution."""

        def __init__(self, inputs: int) -> None:
            super().__init__()
            self.conv = Modulated(inputs, 1, 1, False)
            self.bias = nn.Parameter(torch.zeros(1))

        def forward(self, x: Any, w: Any) -> Any:
            return self.conv(x, w) + self.bias[:, None, None]

    class Generator(nn.Module):
        """Codes f32[B, D] -> images f32[B, 1, 32, 32]."""

        def __init__(self) -> None:
            super().__init__()
            first = CHANNELS[0]
            self.mapping = nn.ModuleList([Dense(LATENT_DIM, LATENT_DIM, rate=0.01) for _ in range(MAPPING_LAYERS)])
            self.constant = nn.Parameter(torch.randn(1, first, 4, 4))
            self.conv, self.to_image = Styled(first, first), ToImage(first)
            self.blocks = nn.ModuleList([
                nn.ModuleList([Styled(inputs, width, True), Styled(width, width), ToImage(width)])
                for inputs, width in itertools.pairwise(CHANNELS)
            ])  # fmt: skip

        def forward(self, codes: Any) -> Any:
            w = codes * torch.rsqrt(codes.square().mean(dim=1, keepdim=True) + 1e-8)
            for layer in self.mapping:
                w = activation(layer(w))
            x = self.conv(self.constant.expand(len(w), -1, -1, -1), w)
            image = self.to_image(x, w)
            for grow, conv, to_image in self.blocks:
                x = conv(grow(x, w), w)
                larger = F.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False)
                image = larger + to_image(x, w)
            return image

    class Discriminator(nn.Module):
        """Images f32[B, 1, 32, 32] -> logits f32[B]."""

        def __init__(self) -> None:
            super().__init__()
            widths = CHANNELS[::-1]
            self.from_image = Conv(1, widths[0], 1)
            self.blocks = nn.ModuleList([
                nn.ModuleList([Conv(width, width, 3), Conv(width, narrower, 3, stride=2),
                               Conv(width, narrower, 1, bias=False)])
                for width, narrower in itertools.pairwise(widths)
            ])  # fmt: skip
            last = widths[-1]
            self.conv, self.dense, self.logit = Conv(last + 1, last, 3), Dense(16 * last, last), Dense(last, 1)

        def forward(self, x: Any) -> Any:
            x = activation(self.from_image(x))
            for conv, shrink, skip in self.blocks:
                y = activation(shrink(smooth(activation(conv(x)), 2, "replicate")))
                x = math.sqrt(0.5) * (y + skip(smooth(x, 1, "replicate", stride=2)))
            groups = x.reshape(4, -1, *x.shape[1:])
            deviation = torch.sqrt(groups.var(dim=0, unbiased=False) + 1e-8).mean(dim=(1, 2, 3))
            x = torch.cat([x, deviation.repeat(4)[:, None, None, None].expand(-1, 1, 4, 4)], dim=1)
            x = activation(self.dense(activation(self.conv(x)).flatten(1)))
            return self.logit(x)[:, 0]

    return Generator, Discriminator


def disc_objective(discriminator: Any, real: Any, fake: Any) -> Any:
    """-log D(real) - log(1 - D(fake)), averaged over the batch."""
    from torch.nn import functional

    return functional.softplus(-discriminator(real)).mean() + functional.softplus(discriminator(fake)).mean()


def gen_objective(discriminator: Any, fake: Any) -> Any:
    """-log D(fake), averaged over the batch."""
    from torch.nn import functional

    return functional.softplus(-discriminator(fake)).mean()


def r1_objective(discriminator: Any, real: Any) -> Any:
    """The squared slope at real images, as heavy as all the steps between two of it."""
    import torch

    real = real.detach().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return R1_WEIGHT * R1_EVERY * slope.flatten(1).square().sum(dim=1).mean()


def make_step(
    networks: Sequence[Any], adam: Callable[[Any], Any], compiled: Callable[[Any], Any]
) -> Callable[[Any], None]:
    """images f32[B, 1, 32, 32] in [0, 1] -> None; a step of either player and every 16th time one of R1."""
    import torch

    generator, discriminator = networks
    gen_optimizer, disc_optimizer = (adam(network.parameters()) for network in networks)
    generate, disc_loss, gen_loss = map(compiled, (generator, disc_objective, gen_objective))
    count = 0

    def step(images: Any) -> None:
        nonlocal count
        real = 2 * images - 1
        fake = generate(torch.randn(len(real), LATENT_DIM, device=real.device))
        torch_training.descend(disc_optimizer, disc_loss, discriminator, real, fake.detach())
        torch_training.descend(gen_optimizer, gen_loss, discriminator, fake)
        if count % R1_EVERY == 0:
            # not compiled: that knows no second derivatives
            torch_training.descend(disc_optimizer, r1_objective, discriminator, real)
        count += 1

    return step


def contestants(**arguments: Any) -> Contestants:
    """The arguments are those of torch_training.contestants."""
    return torch_training.contestants(
        lambda: [make() for make in modules()], make_step, ADAM, channels_last=True, **arguments
    )
