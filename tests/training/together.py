"""Several real processes that hold one run, on loopback."""

import os
import pathlib
import socket
import subprocess
import sys
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[2]

# before a script: `join()` makes it number `number` of `num`, and gives a mesh of all devices
PRELUDE = """
import functools, json, os, pathlib, signal, sys, time

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from genlab.errors import InputError
from genlab.training import processes

address, num, number, *arguments = sys.argv[1:]
num, number = int(num), int(number)
processes.FAREWELL_SECONDS = 2


def join():
    processes.join(address, num, number)
    return jax.make_mesh((jax.device_count(),), ("all",), axis_types=(AxisType.Auto,))
"""


class Done(NamedTuple):
    code: int
    out: list[str]
    err: list[str]


def free_port():
    with socket.socket() as listener:
        listener.bind(("", 0))
        return listener.getsockname()[1]


def start(script, num, *arguments, numbers=None, devices=1, address=None):
    """Starts processes `numbers` (all by default) of `num`, each with this many fake devices."""
    address = address or f"127.0.0.1:{free_port()}"
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_NUMPY_DTYPE_PROMOTION": "strict",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "tests" / "training"), os.environ.get("PYTHONPATH", "")]),
    }
    return [
        subprocess.Popen(
            [sys.executable, "-uc", PRELUDE + script, address, str(num), str(number), *map(str, arguments)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in numbers or range(num)
    ]


def finish(started, seconds=120):
    """What each process printed, and its exit code. None is left behind."""
    try:
        outputs = [process.communicate(timeout=seconds) for process in started]
    finally:
        for process in started:
            process.kill()
    return [
        # of a sum over processes, the library says on stdout that they have found each other
        Done(process.returncode, [line for line in out.splitlines() if "[Gloo]" not in line], err.splitlines())
        for process, (out, err) in zip(started, outputs, strict=True)
    ]


def run(script, num, *arguments, **options):
    return finish(start(script, num, *arguments, **options))
