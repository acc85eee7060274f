"""Mode collapse: what is tried against it, side by side, on one protocol with seeds; beside what was published.

python -m experiments.mode_collapse --data=ring [--methods=gan,packing2,replay,minibatch] [--num_seeds=10]
    [--num_steps=400000] [--workdir=runs/mode_collapse-ring] [--data_dir=DIR]

--data is ring, grid, stacked_mnist or stacked_mnist_5k. Every method is configs/gan.py's recipe of that data with the
fields below changed, trained for all seeds in one program; it lives in workdir/METHOD as any run does. The same command
goes on where it was stopped. Samples are those of the last step, nothing is chosen. Leaves mode_collapse.json and
mode_collapse.png, the samples of every method's first seed.
"""

import math
import pathlib
import statistics
from typing import Any

import jax
import numpy as np
from absl import flags

from configs import gan as recipes
from experiments import gan
from experiments.launch import WORKDIR, Launch, launch_tool
from experiments.results import write_json
from experiments.run import run
from experiments.trained import read_card
from genlab import data
from genlab.errors import InputError
from genlab.evaluation.comparison import over_seeds
from genlab.training.loop import DivergedError

# method -> what it changes in the recipe of the data; a pack of M takes M times the examples
METHODS: dict[str, dict[str, Any]] = {
    "gan": {},
    "packing2": {"model.packing": 2, "batch_size": 2},
    "packing3": {"model.packing": 3, "batch_size": 3},
    "packing4": {"model.packing": 4, "batch_size": 4},
    "replay": {"model.replay_capacity": 50_000},
    "minibatch": {"model.minibatch_kernels": 50},
    "stddev": {"model.stddev_group": 4},
    "unrolled": {"model.unroll_steps": 5, "model.dynamics": "simultaneous"},
    "two_rates": {"model.disc_learning_rate": 4e-4},
    "critic5": {"model.disc_steps": 5, "batch_size": 5},
    "r1": {"model.penalty": "r1", "model.penalty_weight": 5.0},
    "average": {"ema_decay": 0.999},
}
# (data, method) -> modes, high quality in %, reverse KL, as printed with standard errors of ten trials; those with a
# question mark are recalled, not read
PUBLISHED = {
    ("ring", "gan"): ("6.3 ± 0.5", "98.2 ± 0.2", "0.45 ± 0.09"),
    ("ring", "packing2"): ("7.9 ± 0.1", "95.6 ± 2.0", "0.07 ± 0.03"),
    ("ring", "packing3"): ("7.8 ± 0.1", "97.7 ± 0.3", "0.10 ± 0.02"),
    ("ring", "packing4"): ("7.8 ± 0.1", "95.9 ± 1.4", "0.07 ± 0.02"),
    ("ring", "minibatch"): ("4.3 ± 0.8 ?", "36.6 ± 8.8 ?", "1.93 ± 0.11 ?"),
    ("grid", "gan"): ("17.3 ± 0.8", "94.8 ± 0.7", "0.70 ± 0.07"),
    ("grid", "packing2"): ("23.8 ± 0.7", "91.3 ± 0.8", "0.13 ± 0.04"),
    ("grid", "packing3"): ("24.6 ± 0.4", "94.2 ± 0.4", "0.06 ± 0.02"),
    ("grid", "packing4"): ("24.8 ± 0.2", "93.6 ± 0.6", "0.04 ± 0.01"),
    ("grid", "minibatch"): ("23.8 ± 0.5 ?", "79.9 ± 3.2 ?", "0.17 ± 0.03 ?"),
    ("stacked_mnist", "gan"): ("99", "", "3.40"),
    ("stacked_mnist", "packing2"): ("1000 ± 0", "", "0.06"),
    ("stacked_mnist", "packing3"): ("1000 ± 0", "", "0.06"),
    ("stacked_mnist", "packing4"): ("1000 ± 0", "", "0.07"),
    ("stacked_mnist", "minibatch"): ("24.5 ± 7.7 ?", "", "5.49 ± 0.42 ?"),
}
SOURCE = (
    "Lin et al. 2018 (PacGAN), 400,000 steps (stacked MNIST 100,000), ten seeds; stacked GAN: Srivastava et al. 2017; "
    "?: recalled, not read"
)
POINTS, IMAGES = ("ring", "grid"), 12  # of which a figure shows all samples; images of a row, of what is no points
PUBLISHED_STEPS = {"ring": 400_000, "grid": 400_000, "stacked_mnist": 100_000, "stacked_mnist_5k": 100_000}
NUMBERS = {"modes_covered": 1.0, "high_quality_share": 100.0, "reverse_kl": 1.0, "wasserstein": 1.0}  # -> factor


def recipe(name: str, method: str, num_seeds: int, num_steps: int, data_dir: str) -> tuple[Any, str]:
    """(config, the command line that runs it alone)."""
    config = recipes.get_config(name.removesuffix("_5k"))
    changes: dict[str, Any] = {**METHODS[method], "population": num_seeds, "num_steps": num_steps}
    if "batch_size" in changes:
        changes["batch_size"] *= config.batch_size
    if name.endswith("_5k"):
        changes["data.name"] = name
    if data_dir:
        changes["data.data_dir"] = data_dir
    changes["eval_every_steps"] = changes["checkpoint_every_steps"] = max(1, min(10_000, num_steps // 5))
    changes["figure_every_steps"] = changes["model.duality_gap_steps"] = 0
    if "model.minibatch_kernels" in changes:
        changes["evaluation.batch_size"] = config.batch_size  # it sums over the batch
    with config.unlocked():
        config.update_from_flattened_dict(changes)
    words = [f"--config=configs/gan.py:{name.removesuffix('_5k')}", *(f"--config.{k}={v}" for k, v in changes.items())]
    return config, " ".join(["python -m experiments.gan", *words])


def main(arguments: list[str]) -> None:
    """Trains what is missing, gathers, prints and draws."""
    given = flags.FLAGS
    if arguments:
        raise InputError(f"unexpected argument {arguments[0]!r}; options are written --name=value")
    name, methods = given.data, list(dict.fromkeys(given.methods))
    if not methods:
        raise InputError(f"--methods is empty; known: {', '.join(METHODS)}")
    if unknown := [method for method in methods if method not in METHODS]:
        raise InputError(f"--methods has no {unknown[0]!r}; known: {', '.join(METHODS)}")
    num_steps = given.num_steps or PUBLISHED_STEPS[name]
    root = pathlib.Path(WORKDIR.value or f"runs/mode_collapse-{name}")
    failures: dict[str, str] = {}
    for method in methods:
        config, command = recipe(name, method, given.num_seeds, num_steps, given.data_dir)
        command += f" --workdir={root / method}"
        print(f"{method}: {command}", flush=True)
        try:
            run(Launch(config, f"gan-{name}-{method}", root / method, command, "experiments.gan"), gan.build)
        except DivergedError as error:  # a result, too, and no reason to leave the others unmeasured
            failures[method] = f"no seed is left: {error}"
            print(f"{method}: {failures[method]}", flush=True)
        jax.clear_caches()
    finished = [method for method in methods if method not in failures]
    if not finished:
        raise DivergedError("; ".join(f"{method}: {failure}" for method, failure in failures.items()))
    cards = {method: read_card(root / method) for method in finished}
    rows = [
        row(name, method, cards[method], cards.get("gan"))
        if method in cards
        else {"method": method, "published": published(name, method), "failure": failures[method]}
        for method in methods
    ]
    report = {"data": name, "num_seeds": given.num_seeds, "num_steps": num_steps, "published": SOURCE}
    write_json(root / "mode_collapse.json", {**report, "rows": rows})
    print("\n" + table(name, rows, given.num_seeds, num_steps))
    draw(root, name, finished)
    print(f"\nwritten to {root}")


def row(name: str, method: str, card: dict[str, Any], plain: dict[str, Any] | None) -> dict[str, Any]:
    """Mean and standard error over seeds of every number, what a perfect sampler gets, and the gain over the GAN.

    Args:
        name: of the data.
        method: one of METHODS.
        card: of its population.
        plain: of the GAN's; None where it was not asked for. Seeds are paired that neither lost.
    """
    found: dict[str, Any] = {"method": method, "published": published(name, method)}
    block = card["generation"]
    for number in NUMBERS:
        if number not in block:
            continue
        values = block[number]["values"]
        error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
        found[number] = {"mean": statistics.fmean(values), "standard_error": error, "values": values}
        if "perfect_sampler" in block[number]:
            found[number]["perfect_sampler"] = block[number]["perfect_sampler"]
        elif f"{number}_floor" in block:
            found[number]["perfect_sampler"] = block[f"{number}_floor"]["value"]
        if method != "gan" and plain and number in plain["generation"]:
            ours, theirs = of_members(card, number), of_members(plain, number)
            if len(both := sorted(ours.keys() & theirs.keys())) > 1:
                found[number]["over_gan"] = over_seeds([ours[member] - theirs[member] for member in both])
    return found


def published(name: str, method: str) -> dict[str, str]:
    """What the paper prints of a method on this data, by number; empty where it prints nothing."""
    return dict(zip(NUMBERS, PUBLISHED.get((name, method), ()), strict=False))


def of_members(card: dict[str, Any], number: str) -> dict[int, float]:
    """A number of each member that could be evaluated."""
    return dict(zip(card["evaluated_members"], card["generation"][number]["values"], strict=True))


def table(name: str, rows: list[dict[str, Any]], num_seeds: int, num_steps: int) -> str:
    """The rows as text, the published ones in brackets."""
    said = f"{name}, {num_steps:,} steps, {num_seeds} seeds, last step; mean ± standard error"
    lines = [f"{said}; gains with 95 % intervals, seeds paired; in brackets: {SOURCE}", ""]
    heads = {"modes_covered": "modes", "high_quality_share": "high quality %", "reverse_kl": "reverse KL",
             "wasserstein": "W2"}  # fmt: skip
    heads = {number: head for number, head in heads.items() if any(number in each for each in rows)}
    lines.append(f"{'method':12}" + "".join(f"{head:>32}" for head in heads.values()) + f"{'modes over gan':>26}")
    for each in rows:
        cells = []
        for number in heads:
            ours = "-"
            if number in each:
                factor, error = NUMBERS[number], each[number]["standard_error"]
                ours = f"{each[number]['mean'] * factor:.2f}" + ("" if error is None else f" ± {error * factor:.2f}")
            theirs = each["published"].get(number)
            cells.append(f"{ours + (f' [{theirs}]' if theirs else ''):>32}")
        gain = each.get("modes_covered", {}).get("over_gan")
        told = f"{gain['value']:+.2f} ({gain['low']:+.2f}, {gain['high']:+.2f})" if gain else ""
        lines.append(f"{each['method']:12}" + "".join(cells) + f"{each.get('failure', told):>26}")
    measured = next(each for each in rows if "failure" not in each)
    perfect = [f"{measured[number].get('perfect_sampler', float('nan')) * NUMBERS[number]:.3f}" if number in measured
               and "perfect_sampler" in measured[number] else "" for number in heads]  # fmt: skip
    lines.append(f"{'perfect':12}" + "".join(f"{cell:>32}" for cell in perfect))
    return "\n".join(lines)


def draw(root: pathlib.Path, name: str, methods: list[str]) -> None:
    """The samples of every method's first seed."""
    from genlab.plots import files, phase, samples

    found, by_number = {}, lambda path: int(path.parent.name)
    for method in methods:
        with np.load(min((root / method / "members").glob("*/samples.npz"), key=by_number)) as arrays:
            found[method] = arrays["points"] if "points" in arrays else arrays["images"][:IMAGES]
    if name not in POINTS:
        files.save(samples.image_rows(found, IMAGES), root / "mode_collapse.png")
        return
    modes = data.load(name, "", 0).modes
    assert modes is not None
    reach = 1.4 * float(np.abs(modes.means).max())
    files.save(phase.mode_collapse(found, modes.means, modes.sigma, (-reach, reach, -reach, reach)),
               root / "mode_collapse.png")  # fmt: skip


if __name__ == "__main__":
    flags.DEFINE_enum("data", "ring", list(PUBLISHED_STEPS), "What is trained on.")
    flags.DEFINE_list("methods", ["gan", "packing2", "packing3", "packing4", "replay", "minibatch"], "What is tried.")
    flags.DEFINE_integer("num_seeds", 10, "Of every method, trained in one program.", lower_bound=2)
    flags.DEFINE_integer("num_steps", 0, "Of every seed; 0: the published number.", lower_bound=0)
    flags.DEFINE_string("data_dir", "", "Where a prepared TFDS mnist lies, for stacked_mnist.")
    launch_tool("experiments.mode_collapse", main, __doc__)
