"""Speed against other libraries, in one run on one machine: python -m experiments.benchmark [--rows=dense,conv].

Everything runs on the CPU. Programs of one row take turns, round after round, so that what else the machine does
slows all of them; a speed is the peer's time divided by ours of the same round, a fraction the rate of ours divided by
that of bare matrix products of the same round, and either is reported as the median over rounds. FLOPs are counted by
formula: the products of forward and backward pass (a convolution as the product of its patches, padding
included), without the gradient of the first layer's input.
"""

import importlib.util
import json
import os
import pathlib
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from configs import vae as recipes
from experiments.launch import fail
from experiments.peers import genlab_dcgan, keras_vae, matrix_product, torch_dcgan, torch_vae
from experiments.peers.worker import Peer, Program
from experiments.vae import build
from genlab import data
from genlab.algorithm import Algorithm, State
from genlab.errors import InputError
from genlab.training import loop

ROWS = flags.DEFINE_list("rows", ["dense", "conv", "dcgan", "keras"], "What is measured.")
ROUNDS = flags.DEFINE_integer("rounds", 7, "How often each program has its turn.", lower_bound=1)
SECONDS = flags.DEFINE_float("seconds", 0.7, "Length of a turn.", lower_bound=0.001)
PRECISION = flags.DEFINE_enum("precision", "float32", ["float32", "bfloat16"], "Of the networks, ours and theirs.")
OUTPUT = flags.DEFINE_string("output", "runs/benchmark", "Where benchmark.json and benchmark.png go.")

SQUARE = 2_048  # side of the products that measure the machine
NUM_IMAGES = 60_000
INSTALL = {"torch": "torch --index-url https://download.pytorch.org/whl/cpu", "keras": "keras tensorflow-cpu"}
LOOP, CALL = "genlab, training loop", "genlab, one step a call"


class Row(NamedTuple):
    """One training step that somebody else can take too.

    Attributes:
        title: what it is.
        algorithm: ours.
        batch_size, steps_per_call, binarization: of ours, as in a config.
        layers: see matrix_product.of_layers.
        package: of the peer.
        peer: gives the peer's program, in a process of its own.
        arguments: of `peer`.
        bars: our program -> the speed, in multiples of the peer's, that it should have.
        product_bar: the fraction of the machine's rate of products that the loop should have.
    """

    title: str
    algorithm: Algorithm
    batch_size: int
    steps_per_call: int
    binarization: str
    layers: list[tuple[int, int, int]]
    package: str
    peer: Callable[..., Program]
    arguments: dict[str, Any]
    bars: dict[str, float]
    product_bar: float | None = None


def vae_row(variant: str, batch_size: int, dataset: data.Dataset, precision: str, **fields: Any) -> Row:
    """A row for a recipe of configs/vae.py."""
    config = recipes.get_config(variant)
    config.batch_size, config.precision = batch_size, precision
    title = f"{variant} VAE, batch {batch_size}"
    return Row(
        title, build(config, dataset), batch_size, config.steps_per_call, config.data.binarization, **fields
    )  # fmt: skip


def dense_row(dataset: data.Dataset, precision: str, threads: int) -> list[Row]:
    """784-400-20."""
    b = 128
    layers = [(b, 784, 400), (b, 400, 40), (b, 20, 400), (b, 400, 784)]
    arguments = {"kind": "dense", "threads": threads}
    return [
        vae_row("mnist", b, dataset, precision, layers=layers, package="torch", peer=torch_vae.contestant,
                arguments=arguments, bars={LOOP: 1.3}, product_bar=0.7)
    ]  # fmt: skip


def conv_row(dataset: data.Dataset, precision: str, threads: int) -> list[Row]:
    """28x28x1 - 14x14x32 - 7x7x64 - 256 - 20 and back, kernels 4x4."""
    b = 128
    layers = [
        (b * 14 * 14, 16 * 1, 32), (b * 7 * 7, 16 * 32, 64), (b, 7 * 7 * 64, 256), (b, 256, 40),
        (b, 20, 256), (b, 256, 7 * 7 * 64), (b * 7 * 7, 64, 16 * 32), (b * 14 * 14, 32, 16 * 1),
    ]  # fmt: skip
    arguments = {"kind": "conv", "threads": threads}
    return [
        vae_row("conv", b, dataset, precision, layers=layers, package="torch", peer=torch_vae.contestant,
                arguments=arguments, bars={LOOP: 1.0, CALL: 1.0})
    ]  # fmt: skip


def dcgan_row(dataset: data.Dataset, precision: str, threads: int) -> list[Row]:
    """28x28x1 - 14x14x64 - 7x7x128 - 100 and back, kernels 5x5."""
    b = 64
    layers = [
        (b * 14 * 14, 25 * 1, 64), (b * 7 * 7, 25 * 64, 128), (b, 7 * 7 * 128, 100),
        (b, 100, 7 * 7 * 128), (b * 7 * 7, 128, 25 * 64), (b * 14 * 14, 64, 25 * 1),
    ]  # fmt: skip
    algorithm = genlab_dcgan.stack({"float32": None, "bfloat16": jnp.bfloat16}[precision])
    bars = {LOOP: 1.0, CALL: 1.0}
    return [
        Row(f"DCGAN stack, batch {b}", algorithm, b, 20, "none", layers, "torch", torch_dcgan.contestant,
            {"threads": threads}, bars)
    ]  # fmt: skip


def keras_rows(dataset: data.Dataset, precision: str, threads: int) -> list[Row]:
    """784-256-2, at two batch sizes; Keras has as many threads as it takes."""
    del threads
    rows = []
    for b, bar in ((32, 3.3), (128, 2.3)):
        layers = [(b, 784, 256), (b, 256, 4), (b, 2, 256), (b, 256, 784)]
        rows.append(
            vae_row("keras", b, dataset, precision, layers=layers, package="keras", peer=keras_vae.contestant,
                    arguments={}, bars={LOOP: bar})
        )  # fmt: skip
    return rows


KNOWN = {"dense": dense_row, "conv": conv_row, "dcgan": dcgan_row, "keras": keras_rows}


def flops_per_step(layers: list[tuple[int, int, int]]) -> int:
    """Of the three products of every layer, two of the first's; two FLOPs a multiplication and its addition."""
    multiplications = [rows * inputs * outputs for rows, inputs, outputs in layers]
    return 2 * (3 * sum(multiplications) - multiplications[0])


def digits() -> data.Dataset:
    """60,000 images: the 4,000 training digits that come with us, 15 times."""
    dataset = data.load("mnist_5k", num_validation=0)
    repeated = {name: np.concatenate([column] * (NUM_IMAGES // len(column))) for name, column in dataset.train.items()}
    return dataset._replace(train=repeated)


def our_programs(row: Row, dataset: data.Dataset) -> list[Program]:
    """The step in the training loop as `genlab.training.loop.fit` drives it, and compiled alone."""
    feed = data.device_feed(dataset.train, row.batch_size, seed=0)
    prepare = lambda raw, key: data.prepare(raw, row.binarization, key)
    batches = loop.Batches(feed.arrays, feed.read, feed.select, prepare)
    key_init, key_train = jax.random.split(jax.random.key(0))

    def steps(now: loop.Progress, arrays: Any, reads: Any, num: Any) -> loop.Progress:
        return loop.compile_steps(row.algorithm, batches._replace(arrays=arrays), key_train)(now, reads, num)

    def one(state: State, arrays: Any, reads: Any) -> State:
        key_data, key_algorithm = loop.step_keys(key_train, state.step)
        batch = prepare(feed.select(arrays, reads, jnp.int32(0)), key_data)
        return row.algorithm.step(state, batch, key_algorithm)[0]

    capacity = row.steps_per_call
    now = loop.start(row.algorithm, batches, key_init)
    state = jax.tree.map(jnp.copy, now.state)  # each program donates its own
    loop_call, loop_program = compiled(LOOP, steps, now, feed.arrays, feed.read(0, 1, capacity), np.int32(1))
    one_call, one_program = compiled(CALL, one, state, feed.arrays, feed.read(0, 1, 1))
    step = 0

    def run_loop(num_steps: int) -> float:
        nonlocal now, step
        began, last = time.perf_counter(), step + num_steps
        while step < last:
            num = min(capacity, last - step)
            now = loop_call(now, feed.arrays, feed.read(step, num, capacity), np.int32(num))
            step += num
            loop.raise_if_diverged(now)
        return time.perf_counter() - began

    def run_one(num_steps: int) -> float:
        nonlocal state
        began = time.perf_counter()
        for i in range(num_steps):
            state = one_call(state, feed.arrays, feed.read(i, 1, 1))
        jax.block_until_ready(state)
        return time.perf_counter() - began

    return [loop_program._replace(run=run_loop), one_program._replace(run=run_one)]


def compiled(name: str, function: Callable[..., Any], *arguments: Any) -> tuple[Callable[..., Any], Program]:
    """The function compiled for arguments like these, the first donated; and its record, without `run`."""
    began = time.perf_counter()
    call = jax.jit(function, donate_argnums=0).lower(*arguments).compile()
    seconds, memory = time.perf_counter() - began, call.memory_analysis()
    in_use = memory and (
        memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )  # fmt: skip
    return call, Program(name, lambda num_steps: 0.0, seconds, in_use or None)


def take_turns(
    programs: list[Program], rounds: int, seconds: float, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Per program the seconds a step takes, one number a round, and how many steps that was measured on."""
    num_steps = []
    for program in programs:
        program.run(2)  # warm-up
        first = program.run(3) / 3
        again = max(1, round(0.2 * seconds / first))
        num_steps.append(max(1, round(seconds * again / program.run(again))))
    times: list[list[float]] = [[] for _ in programs]
    for i in range(rounds):
        say(f"round {i + 1} of {rounds}, {len(programs)} programs of {seconds:g} s each")
        for program, num, measured in zip(programs, num_steps, times, strict=True):
            measured.append(program.run(num) / num)
    return [{"steps": num, "seconds_per_step": measured} for num, measured in zip(num_steps, times, strict=True)]


def measure(
    row: Row, dataset: data.Dataset, rounds: int, seconds: float, precision: str, say: Callable[[str], None]
) -> dict[str, Any]:
    """All numbers of a row; see `main` for how they are read."""
    say("compiling")
    dtype = jnp.dtype(precision)
    rates = [matrix_product.square(SQUARE, dtype), matrix_product.of_layers(row.layers, dtype)]
    programs, peer = our_programs(row, dataset), None
    if importlib.util.find_spec(row.package):
        say(f"starting {row.package} and finding its fastest variant")
        images = dataset.train["x"]
        peer = Peer(row.peer, images=images, batch_size=row.batch_size, precision=precision, **row.arguments)
        programs.insert(1, peer.program)
    try:
        # what is compared most stands side by side: products, our loop, the peer
        measured = take_turns([*rates, *programs], rounds, seconds, say)
    finally:
        if peer:
            peer.close()
    flops = flops_per_step(row.layers)
    product_rates = {
        program.name: [num / s for s in turns["seconds_per_step"]]
        for program, num, turns in zip(rates, (2 * SQUARE**3, flops), measured[:2], strict=True)
    }
    result: dict[str, Any] = {
        "title": row.title, "batch_size": row.batch_size, "flops_per_step": flops,
        "product_flops_per_second": product_rates, "product_bar": row.product_bar, "programs": [],
    }  # fmt: skip
    for program, turns in zip(programs, measured[2:], strict=True):
        times = turns["seconds_per_step"]
        ours = program.name in (LOOP, CALL)
        theirs = measured[3]["seconds_per_step"] if ours and peer else None
        result["programs"].append({
            "name": program.name, "ours": ours, "compile_seconds": program.compile_seconds,
            "memory_bytes": program.memory_bytes, **turns,
            "examples_per_second": row.batch_size / statistics.median(times),
            "flops_per_second": flops / statistics.median(times),
            "product_fractions": {
                name: [flops / s / rate for s, rate in zip(times, values, strict=True)]
                for name, values in product_rates.items()
            },
            "speeds": theirs and [other / s for other, s in zip(theirs, times, strict=True)],
            "bar": row.bars.get(program.name),
        })  # fmt: skip
    return result


def table(results: list[Mapping[str, Any]]) -> str:
    """One markdown table, a line a program."""
    heads = [
        "step", "program", "ms/step", "least to most", "examples/s", f"s per {NUM_IMAGES:,}", "compile s", "MiB",
        "GFLOP/step", "GFLOP/s", f"of {SQUARE}x{SQUARE} products", "of its own products", "speed", "least to most",
        "bar",
    ]  # fmt: skip
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * 2 + " ---: |" * (len(heads) - 2)]
    for result in results:
        for program in result["programs"]:
            times = program["seconds_per_step"]
            fractions = [statistics.median(values) for values in program["product_fractions"].values()]
            speeds, memory, compile_seconds = program["speeds"], program["memory_bytes"], program["compile_seconds"]
            cells = [
                result["title"],
                program["name"],
                f"{1e3 * statistics.median(times):.2f}",
                f"{1e3 * min(times):.2f}-{1e3 * max(times):.2f}",
                f"{program['examples_per_second']:,.0f}",
                f"{NUM_IMAGES / program['examples_per_second']:.2f}",
                "" if compile_seconds is None else f"{compile_seconds:.1f}",
                "" if memory is None else f"{memory / 2**20:.0f}",
                f"{result['flops_per_step'] / 1e9:.3f}",
                f"{program['flops_per_second'] / 1e9:.0f}",
                *(f"{100 * fraction:.0f} %" for fraction in fractions),
                f"{statistics.median(speeds):.2f}" if speeds else "",
                f"{min(speeds):.2f}-{max(speeds):.2f}" if speeds else "",
                f"{program['bar']:.1f}" if program["bar"] and speeds else "",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def verdicts(results: list[Mapping[str, Any]]) -> list[str]:
    """A line for every bar, and for the machine's own rates."""
    lines = []
    for result in results:
        rates = [
            f"{name} {statistics.median(values) / 1e9:.0f} GFLOP/s"
            for name, values in result["product_flops_per_second"].items()
        ]
        lines.append(f"{result['title']}: {', '.join(rates)}")
        for program in result["programs"]:
            if program["bar"] and program["speeds"]:
                speed = statistics.median(program["speeds"])
                word = "met" if speed >= program["bar"] else "MISSED"
                lines.append(f"  {program['name']}: {speed:.2f} times the peer's speed; bar {program['bar']}: {word}")
        if result["product_bar"]:
            for name, fractions in result["programs"][0]["product_fractions"].items():
                fraction = statistics.median(fractions)
                word = "met" if fraction >= result["product_bar"] else "MISSED"
                lines.append(f"  {LOOP}: {fraction:.0%} of {name}; bar {result['product_bar']:.0%}: {word}")
    return lines


def teller() -> Callable[[str], None]:
    """Says what is going on: one line rewritten on a terminal, plain lines elsewhere."""
    ends = ("\r\033[K", "") if sys.stderr.isatty() else ("", "\n")

    def say(text: str) -> None:
        print(f"{ends[0]}{text}", end=ends[1], file=sys.stderr, flush=True)

    return say


def _parse(argv: list[str]) -> list[str]:
    try:
        rest = flags.FLAGS(argv)
        if unknown := [name for name in ROWS.value if name not in KNOWN]:
            raise InputError(f"--rows has no {unknown[0]!r}; known: {', '.join(KNOWN)}")
        if not ROWS.value:
            raise InputError(f"--rows is empty; known: {', '.join(KNOWN)}")
    except (InputError, flags.Error) as error:
        fail(str(error), 2)
    if len(rest) > 1:
        fail(f"unexpected argument {rest[1]!r}; options are written --name=value", 2)
    return rest


def main(argv: list[str]) -> None:
    """Measures the rows, prints the table and the verdicts, and writes benchmark.json and benchmark.png."""
    del argv
    from genlab.plots.benchmark import speeds
    from genlab.plots.files import save

    directory = pathlib.Path(OUTPUT.value)
    if directory.exists() and not directory.is_dir():
        fail(f"--output={directory} is a file; it must be a directory", 2)
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)  # or it would be the compile time of a file's reading
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    say, load = teller(), os.getloadavg()[0]
    if load > 0.3 * cores:
        print(f"load average {load:.1f} on {cores} cores: others are at work here, times are indicative", flush=True)
    began, dataset, results = time.monotonic(), digits(), []
    rows = [row for name in dict.fromkeys(ROWS.value) for row in KNOWN[name](dataset, PRECISION.value, cores)]
    for package in dict.fromkeys(row.package for row in rows):
        if not importlib.util.find_spec(package):
            print(f"{package} is not installed and left out; pip install {INSTALL[package]}", flush=True)
    for row in rows:
        tell = lambda text, title=row.title: say(f"{time.monotonic() - began:4.0f} s  {title}: {text}")
        results.append(measure(row, dataset, ROUNDS.value, SECONDS.value, PRECISION.value, tell))
    say("")
    record = {
        "machine": {"platform": platform.platform(), "processor": platform.processor(), "cores": cores},
        "load_average_before": load, "jax": jax.__version__, "precision": PRECISION.value, "rounds": ROUNDS.value,
        "seconds_per_turn": SECONDS.value, "rows": results,
    }  # fmt: skip
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "benchmark.json").write_text(json.dumps(record, indent=2) + "\n")
    print(f"jax {jax.__version__}, {cores} cores, {PRECISION.value}, {ROUNDS.value} rounds; FLOPs by formula\n")
    print(table(results), "", *verdicts(results), sep="\n")
    compared = [
        (f"{r['title']}\n{p['name']}", p["speeds"], p["bar"]) for r in results for p in r["programs"] if p["speeds"]
    ]
    if compared:
        save(speeds(*zip(*compared, strict=True)), directory / "benchmark.png")
    print(f"\nwritten to {directory}, in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    app.run(main, flags_parser=_parse)
