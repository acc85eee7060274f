"""The DCGAN of configs/gan.py:mnist, and its critic with a gradient penalty (wgan_gp), in plain PyTorch."""

from collections.abc import Callable, Sequence
from typing import Any

from experiments.peers import torch_training
from experiments.peers.worker import Contestants

LATENT_DIM = 100
ADAM = {"dcgan": {"lr": 2e-4, "betas": (0.5, 0.999)}, "gradient_penalty": {"lr": 1e-4, "betas": (0.0, 0.9)}}


def networks(kind: str) -> tuple[Any, Any]:
    """Generator, codes f32[B, 100] -> images [B, 1, 28, 28] in [-1, 1]; discriminator, images -> logits [B, 1].

    Of kind "dcgan" or "gradient_penalty", whose critic has no batch normalisation.
    """
    from torch import nn

    generator = nn.Sequential(
        nn.Linear(LATENT_DIM, 128 * 7 * 7, bias=False),
        nn.Unflatten(1, (128, 7, 7)),
        nn.BatchNorm2d(128),
        nn.ReLU(),
        nn.ConvTranspose2d(128, 64, 5, stride=2, padding=2, output_padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.ConvTranspose2d(64, 1, 5, stride=2, padding=2, output_padding=1),
        nn.Tanh(),
    )
    norm = [nn.BatchNorm2d(128)] if kind == "dcgan" else []
    discriminator = nn.Sequential(
        nn.Conv2d(1, 64, 5, stride=2, padding=2),
        nn.LeakyReLU(0.2),
        nn.Conv2d(64, 128, 5, stride=2, padding=2, bias=not norm),
        *norm,
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(128 * 7 * 7, 1),
    )
    return generator, discriminator


def disc_objective(discriminator: Any, real: Any, fake: Any) -> Any:
    """-log D(real) - log(1 - D(fake)), averaged over the batch; each of the two has its own batch statistics."""
    from torch.nn import functional

    on_real, on_fake = discriminator(real).float(), discriminator(fake).float()
    return functional.softplus(-on_real).mean() + functional.softplus(on_fake).mean()


def gen_objective(discriminator: Any, fake: Any) -> Any:
    """-log D(fake), averaged over the batch."""
    from torch.nn import functional

    return functional.softplus(-discriminator(fake).float()).mean()


def critic_objective(critic: Any, real: Any, fake: Any, epsilon: Any) -> Any:
    """C(fake) - C(real) + 10 (|slope of C| - 1)^2 at epsilon real + (1 - epsilon) fake, averaged over the batch."""
    import torch

    between = (epsilon * real + (1 - epsilon) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    return critic(fake).float().mean() - critic(real).float().mean() + 10 * penalty


def critic_gen_objective(critic: Any, fake: Any) -> Any:
    """-C(fake), averaged over the batch."""
    return -critic(fake).float().mean()


def draw(kind: str, images: Any) -> tuple[Any, ...]:
    """Images [0, 1] -> [-1, 1], as ours are at every step, too; codes; of a penalty the epsilons f32[B, 1, 1, 1]."""
    import torch

    num, device = len(images), images.device
    epsilon = () if kind == "dcgan" else (torch.rand(num, 1, 1, 1, device=device),)
    return 2 * images - 1, torch.randn(num, LATENT_DIM, device=device), *epsilon


def play(kind: str) -> Callable[..., Callable[..., Any]]:
    """(modules, adam, compiled) -> (real, codes, *epsilon) -> the two losses; a call is a step of either player.

    One forward pass of the generator serves both: the discriminator sees its images detached, then the generator
    follows its own loss through the new discriminator, of which no gradient is taken.
    """
    losses = {"dcgan": (disc_objective, gen_objective), "gradient_penalty": (critic_objective, critic_gen_objective)}

    def make(modules: Sequence[Any], adam: Callable[[Any], Any], compiled: Callable[[Any], Any]) -> Callable[..., Any]:
        generator, discriminator = modules
        gen_optimizer, disc_optimizer = (adam(module.parameters()) for module in modules)
        generate, (disc_loss, gen_loss) = compiled(generator), map(compiled, losses[kind])

        def step(real: Any, codes: Any, *epsilon: Any) -> tuple[Any, Any]:
            fake = generate(codes)
            of_disc = torch_training.descend(disc_optimizer, disc_loss, discriminator, real, fake.detach(), *epsilon)
            return of_disc, torch_training.descend(gen_optimizer, gen_loss, discriminator, fake)

        return step

    return make


def contestants(kind: str, **arguments: Any) -> Contestants:
    """Of kind "dcgan" or "gradient_penalty"; the other arguments as in torch_training.contestants."""

    def make_step(*given: Any) -> Callable[[Any], Any]:
        step = play(kind)(*given)
        return lambda images: step(*draw(kind, images))

    return torch_training.contestants(lambda: networks(kind), make_step, ADAM[kind], channels_last=True, **arguments)
