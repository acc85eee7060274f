"""What holds for all that one call of the benchmark measures."""

import os
from typing import NamedTuple

import jax

from genlab.errors import InputError


class Setting(NamedTuple):
    """Where and how programs run.

    Attributes:
        precision: "float32" | "bfloat16", of the networks, ours and theirs; parameters and losses stay float32.
        platform: "cpu" | "gpu" | "tpu", of the device.
        cores: that this process may use.
        rounds: how often each program has its turn.
        seconds: length of a turn.
    """

    precision: str
    platform: str
    cores: int
    rounds: int
    seconds: float

    @property
    def square(self) -> int:
        """Side of the products that measure the machine: large enough to keep all of it at work."""
        return 2_048 if self.platform == "cpu" else 8_192


def choose_platform(platform: str | None, num_devices: int) -> str:
    """The platform of jax's devices, after it is told what is wanted; before anything runs on one.

    Args:
        platform: "cpu" | "gpu"; None for what jax picks.
        num_devices: that are needed; processors have as many as that, which share their cores.

    Raises:
        InputError: there is no such platform here, or not so many devices.
    """
    if platform == "cpu":
        jax.config.update("jax_platforms", "cpu")
    if num_devices > 1 and "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", num_devices)
    found = jax.default_backend()
    if platform and found != platform:
        raise InputError(f"--platform={platform}: jax finds no {platform} here, only {found}")
    if num_devices > len(jax.local_devices()):
        raise InputError(f"--devices asks for {num_devices}; {found} has {len(jax.local_devices())}")
    return found


def count_cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
