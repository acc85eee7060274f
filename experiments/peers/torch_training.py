"""Training in PyTorch as its documentation has it, whatever the networks: eager in every variant, the best compiled."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from experiments.peers.worker import Contestants, Program, Run, fastest

ADAM: dict[str, dict[str, bool]] = {"default": {}, "foreach": {"foreach": True}, "fused": {"fused": True}}


# (modules, parameters -> their Adam, functions -> the same compiled or as they are) -> images f32[B, 1, 28, 28] in
# [0, 1] -> whatever; one call of what it gives is a step
MakeStep = Callable[[Sequence[Any], Callable[[Any], Any], Callable[[Any], Any]], Callable[[Any], Any]]


def descend(optimizer: Any, objective: Callable[..., Any], *arguments: Any) -> Any:
    """One step of the optimizer; the loss before it. No parameters but its own get a gradient."""
    optimizer.zero_grad(set_to_none=True)
    loss = objective(*arguments)
    loss.backward(inputs=[parameter for group in optimizer.param_groups for parameter in group["params"]])
    optimizer.step()
    return loss


def descent(objective: Callable[..., Any], draw: Callable[[Any], tuple[Any, ...]]) -> MakeStep:
    """Of one optimizer for all modules.

    Args:
        objective: (*modules, *what `draw` gave) -> the loss.
        draw: images f32[B, 1, 28, 28] in [0, 1] -> what a step is taken on.
    """

    def make(
        modules: Sequence[Any], adam: Callable[[Any], Any], compiled: Callable[[Any], Any]
    ) -> Callable[[Any], Any]:
        optimizer = adam([parameter for module in modules for parameter in module.parameters()])
        loss = compiled(objective)
        return lambda images: descend(optimizer, loss, *modules, *draw(images))

    return make


def contestants(
    networks: Callable[[], Sequence[Any]],
    make_step: MakeStep,
    adam: dict[str, Any],
    images: np.ndarray,
    batch_size: int,
    precision: str,
    platform: str,
    threads: int,
    channels_last: bool = False,
) -> Contestants:
    """The fastest of PyTorch's eager variants, and the same with torch.compile.

    The variants: three of Adam, one thread or all, where there are convolutions two memory formats.

    Args:
        networks: makes new ones.
        make_step: of them; see MakeStep.
        adam: learning rate and decays.
        images: uint8[N, 28, 28, 1]; held as floats, which saves PyTorch the conversion.
        batch_size: B.
        precision: "float32", or "bfloat16" by autocast.
        platform: "cpu" | "gpu".
        threads: as many as there are cores.
        channels_last: whether that memory format is tried.
    """
    import torch

    library = f"PyTorch {torch.__version__}"
    if platform == "gpu" and not torch.cuda.is_available():
        return Contestants([], [f"{library} is left out: it finds no CUDA device here"])
    device = {"cpu": "cpu", "gpu": "cuda"}[platform]
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high" if device == "cuda" else "highest")  # as XLA's default on each
    torch.backends.cudnn.benchmark = True  # XLA, too, times its convolutions before it chooses
    data = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 255  # [N, 1, 28, 28]

    def variant(
        compiled: Callable[[Any], Any], adam_kind: str, memory_format: torch.memory_format, num_threads: int
    ) -> Run:
        modules = [network.to(device=device, memory_format=memory_format) for network in networks()]
        step = make_step(modules, functools.partial(torch.optim.Adam, **adam, **ADAM[adam_kind]), compiled)
        order, position = torch.randperm(len(data), device=device), 0

        def run(num_steps: int) -> float:
            nonlocal order, position
            torch.set_num_threads(num_threads)
            wait(device)
            began = time.perf_counter()
            with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
                for _ in range(num_steps):
                    if position + batch_size > len(data):
                        order, position = torch.randperm(len(data), device=device), 0
                    x = data[order[position : position + batch_size]].contiguous(memory_format=memory_format)
                    position += batch_size
                    step(x)
            wait(device)
            return time.perf_counter() - began

        return run

    formats = {"": torch.contiguous_format} | ({", channels last": torch.channels_last} if channels_last else {})
    # where others compute too, threads that wait for each other are slow
    choices = {
        f"{kind} Adam{name}" + (f", on {num} of {threads} cores" if device == "cpu" else ""): (kind, layout, num)
        for kind in ADAM
        for name, layout in formats.items()
        for num in sorted({1, threads} if device == "cpu" else {threads})
    }
    variants = {name: variant(lambda function: function, *choice) for name, choice in choices.items()}
    best = fastest(variants)
    run = variants[best]
    variants.clear()  # the memory of the others
    programs = [Program(f"{library} eager, {best}", run, None, *peak_memory(device, run), "PyTorch eager")]
    try:
        warm_up_compiler(device)
        run = variant(torch.compile, *choices[best])
        compile_seconds = run(1) - run(1)
    except Exception as error:  # of whatever part of the compiler, or of the compiler that it calls
        reason = str(error).strip().splitlines()[:1] or [""]
        return Contestants(programs, [f"torch.compile is left out: {type(error).__name__}: {reason[0]}"])
    name = f"{library} torch.compile, {best}"
    programs.append(Program(name, run, compile_seconds, *peak_memory(device, run), "torch.compile"))
    return Contestants(programs)


def warm_up_compiler(device: str) -> None:
    """Loads it, which is no more of a step's compile time than our imports are of ours, and forgets earlier steps."""
    import torch

    torch.compiler.reset()
    x = torch.ones(2, device=device, requires_grad=True)
    torch.compile(lambda x: (2 * x).sum())(x).backward()


def wait(device: str) -> None:
    """Until the device has done all it was told to."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def peak_memory(device: str, run: Run) -> tuple[int | None, str]:
    """Bytes at most in use while steps are taken, and who told; (None, "") where nobody does."""
    import torch

    if device != "cuda":
        return None, ""
    torch.cuda.reset_peak_memory_stats()
    run(2)
    return torch.cuda.max_memory_allocated(), "torch.cuda.max_memory_allocated"
