"""Speed, beside other libraries and bare matrix products, and how cost grows; in one run on one machine.

python -m experiments.benchmark [--rows=dense,conv] [--precision=bfloat16] [--platform=gpu]
python -m experiments.benchmark --rows=autoencoders
python -m experiments.benchmark --rows= --batch_sizes=128,256,512,1024,2048,4096,8192 --widths=... --populations=...

Programs that are compared take turns, round after round; a ratio is that of two programs in the same round, and its
median over rounds is what counts. experiments/timing/rows.py lists what is measured, experiments/peers has the others.
"""

import json
import os
import pathlib
import platform
import time

import jax
from absl import app, flags, logging

from experiments.launch import fail
from experiments.timing import growth, measure, table
from experiments.timing.output import draw, teller
from experiments.timing.rows import BY_DEFAULT, ROWS, digits
from experiments.timing.setting import Setting, choose_platform, count_cores
from genlab.errors import InputError

WHAT = flags.DEFINE_list(
    "rows",
    list(BY_DEFAULT),
    "What is measured, beside others where it has peers; autoencoders, gans, flows and autoregressive, every variant "
    "of them, are asked for by name. May be empty where a sweep is asked for.",
)
ROUNDS = flags.DEFINE_integer("rounds", 5, "How often each program has its turn.", lower_bound=1)
SECONDS = flags.DEFINE_float("seconds", 0.5, "Length of a turn.", lower_bound=0.001)
PRECISION = flags.DEFINE_enum("precision", "float32", ["float32", "bfloat16"], "Of the networks, ours and theirs.")
PLATFORM = flags.DEFINE_enum("platform", None, ["cpu", "gpu"], "Of the device; by default what jax picks.")
GROW = flags.DEFINE_enum("grow", "dense", list(growth.NETWORKS), "The VAE that is swept.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "Of sweeps over something else.", lower_bound=1)
SWEEPS = {
    "batch_sizes": flags.DEFINE_list("batch_sizes", [], "A sweep over these."),
    "widths": flags.DEFINE_list("widths", [], "A sweep over these, of the dense hidden layer."),
    "populations": flags.DEFINE_list("populations", [], "A sweep over these numbers of members in one program."),
    "devices": flags.DEFINE_list(
        "devices", [], "A sweep over these numbers of devices that share a batch; a CPU's share its cores."
    ),
}
OUTPUT = flags.DEFINE_string("output", "runs/benchmark", "Where benchmark.json, benchmark.png and growth.png go.")


def parse(argv: list[str]) -> list[str]:
    """As absl has it; a mistake is one line."""
    try:
        rest = flags.FLAGS(argv)
        known = ", ".join(ROWS)
        if unknown := [name for name in WHAT.value if name not in ROWS]:
            raise InputError(f"--rows has no {unknown[0]!r}; known: {known}")
        if not WHAT.value and not any(numbers().values()):
            raise InputError(f"--rows is empty and no sweep is asked for; known: {known}")
    except (InputError, flags.Error) as error:
        fail(str(error), 2)
    if len(rest) > 1:
        fail(f"unexpected argument {rest[1]!r}; options are written --name=value", 2)
    return rest


def numbers() -> dict[str, list[int]]:
    """The values of every sweep, without repetitions."""
    for name, flag in SWEEPS.items():
        if wrong := [value for value in flag.value if not value.strip().isdecimal() or int(value) < 1]:
            raise InputError(f"--{name} has {wrong[0]!r}; it takes whole numbers from 1, such as --{name}=1,2,4")
    return {name: list(dict.fromkeys(map(int, flag.value))) for name, flag in SWEEPS.items()}


def main(argv: list[str]) -> None:
    """Measures, prints the tables, and writes benchmark.json and the plots."""
    del argv
    directory, began, load = pathlib.Path(OUTPUT.value), time.monotonic(), os.getloadavg()[0]
    if directory.exists() and not directory.is_dir():
        fail(f"--output={directory} is a file; it must be a directory", 2)
    logging.set_verbosity(logging.WARNING)  # jax tells at INFO which platforms it does not find
    jax.config.update("jax_enable_compilation_cache", False)  # or it would be the compile time of a file's reading
    try:
        where = choose_platform(PLATFORM.value, max([1, *numbers()["devices"]]))
        setting = Setting(PRECISION.value, where, count_cores(), ROUNDS.value, SECONDS.value)
        dataset = digits()
        rows = [row for name in dict.fromkeys(WHAT.value) for row in ROWS[name](dataset, setting.precision)]
        sweeps = growth.sweeps(GROW.value, numbers(), BATCH_SIZE.value, dataset, setting)
    except InputError as error:
        fail(str(error), 2)
    if load > 0.3 * setting.cores:
        print(f"load average {load:.1f} on {setting.cores} cores: others are at work here, times are indicative")
    for line in measure.missing(rows, setting):
        print(line, flush=True)
    say = teller(began)
    results = measure.measure_all(rows, dataset, setting, say)
    grown = [growth.measure_growth(sweep, setting, lambda text, s=sweep: say(f"{s.axis}: {text}")) for sweep in sweeps]
    say("")
    device = f"{jax.devices()[0].device_kind}, {setting.cores} cores"
    print(f"jax {jax.__version__}, {device}, {setting.precision}, {setting.rounds} rounds; FLOPs by formula\n")
    print(table.report(results, grown))
    directory.mkdir(parents=True, exist_ok=True)
    record = {
        "machine": {"platform": platform.platform(), "processor": platform.processor(), "device": device},
        "load_average_before": load, "jax": jax.__version__, **setting._asdict(), "rows": results, "growth": grown,
    }  # fmt: skip
    (directory / "benchmark.json").write_text(json.dumps(record, indent=2) + "\n")
    draw(results, grown, directory)
    print(f"\nwritten to {directory}, in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
