"""All numbers of a row: our programs, the peer's, and bare matrix products, in turns."""

import contextlib
import importlib.util
import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from experiments.peers.worker import Peer, Program
from experiments.timing import matrix_product, programs
from experiments.timing.flops import flops_per_step
from experiments.timing.row import Row
from experiments.timing.setting import Setting
from experiments.timing.turns import ratios, take_turns
from genlab import data

PEER_PLATFORMS = ("cpu", "gpu")
INSTALL = {"torch": "torch --index-url https://download.pytorch.org/whl/cpu", "keras": "keras tensorflow-cpu"}


def missing(rows: Sequence[Row], setting: Setting) -> list[str]:
    """A line for every package of a peer that cannot be asked here."""
    if setting.platform not in PEER_PLATFORMS and rows:
        return [f"peers are left out: they run on {' or '.join(PEER_PLATFORMS)}, this is a {setting.platform}"]
    packages = dict.fromkeys(row.package for row in rows if row.package and not importlib.util.find_spec(row.package))
    return [f"{package} is not installed and left out; pip install {INSTALL[package]}" for package in packages]


def measure_all(
    rows: Sequence[Row], dataset: data.Dataset, setting: Setting, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """The records of rows; those that follow each other and have peers of one package share its process."""
    results = []
    for package, group in itertools.groupby(rows, key=lambda row: row.package):
        usable = package and importlib.util.find_spec(package) and setting.platform in PEER_PLATFORMS
        with Peer() if usable else contextlib.nullcontext() as peer:
            for row in group:
                results.append(measure(row, dataset, setting, peer, lambda text, row=row: say(f"{row.title}: {text}")))
    return results


def measure(
    row: Row, dataset: data.Dataset, setting: Setting, peer: Peer | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """A row's record, as benchmark.json has it; `peer` is the process of its package, if that can be used."""
    say("compiling")
    dtype, dataset = jnp.dtype(setting.precision), row.dataset or dataset
    rates = [matrix_product.square(setting.square, dtype), matrix_product.of_layers(row.layers, dtype)]
    looped, single = programs.in_loop(row, dataset), programs.alone(row, dataset)
    theirs, left_out = [], []
    if peer and row.peer:
        say(f"finding the fastest variant of {row.package}, compiling")
        theirs, left_out = peer.enter(
            row.peer, images=dataset.train["x"], batch_size=row.batch_size, precision=setting.precision,
            platform=setting.platform, threads=setting.cores,
        )  # fmt: skip
    # what is compared most stands side by side: products, our loop, the peer
    contestants = [looped, *theirs, single]
    turns = take_turns([*rates, *contestants], setting, say)
    flops, times = row.flops_per_step, [each["seconds_per_step"] for each in turns]
    product_rates = {
        program.name: [num / s for s in seconds]
        for program, num, seconds in zip(
            rates, (2 * setting.square**3, flops_per_step(row.layers)), times, strict=False
        )
    }
    timed = list(zip(contestants, turns[2:], strict=True))
    return {
        "title": row.title, "batch_size": row.batch_size, "flops_per_step": flops,
        "product_flops_per_second": product_rates, "left_out": list(left_out),
        "programs": [describe(program, each, row.batch_size, flops, product_rates) for program, each in timed],
        "ratios": compare(
            {program.short: each["seconds_per_step"] for program, each in timed}, [p.short for p in theirs],
            flops, product_rates, row.bars, row.product_bar,
        ),
    }  # fmt: skip


def describe(
    program: Program, turns: Mapping[str, Any], batch_size: int, flops: int, rates: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """What is known of a program, by the medians of its turns.

    Args:
        program: that was measured.
        turns: see take_turns.
        batch_size: examples of a step.
        flops: of a step.
        rates: of matrix products -> FLOP/s, a number a round.
    """
    seconds = turns["seconds_per_step"]
    achieved = [flops / s for s in seconds]
    return {
        "name": program.name, "short": program.short, "compile_seconds": program.compile_seconds,
        "memory_bytes": program.memory_bytes, "memory_source": program.memory_source, **turns,
        "examples_per_second": batch_size / statistics.median(seconds),
        "flops_per_second": flops / statistics.median(seconds),
        "product_fractions": {name: ratios(achieved, values) for name, values in rates.items()},
    }  # fmt: skip


def compare(
    times: Mapping[str, Sequence[float]],
    peers: Sequence[str],
    flops: int,
    rates: Mapping[str, Sequence[float]],
    bars: Mapping[str, float],
    product_bar: float | None,
) -> list[dict[str, Any]]:
    """Our programs beside everything else: speeds in multiples of the peers', rates in fractions of the products'.

    Args:
        times: program -> seconds a step, a number a round.
        peers: those of `times` that are not ours; the bars are for the first.
        flops: of a step.
        rates: of matrix products -> FLOP/s, a number a round.
        bars: our program -> the speed that it should have.
        product_bar: the fraction that our training loop should have of either rate.
    """
    found = []
    for ours in times:
        if ours in peers:
            continue
        for position, peer in enumerate(peers):
            values, bar = ratios(times[peer], times[ours]), None if position else bars.get(ours)
            found.append({"program": ours, "beside": peer, "of": "speed", "values": values, "bar": bar})
    for name, values in rates.items():
        fractions = ratios([flops / s for s in times[programs.LOOP]], values)
        found.append({"program": programs.LOOP, "beside": name, "of": "rate", "values": fractions, "bar": product_bar})
    return found
