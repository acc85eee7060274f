"""How the cost of our training step grows with batch, width, members of a population, and devices.

A sweep changes one of them and leaves the others at the recipe's. All its programs take turns, and costs are in
multiples of the first value's, in the same round.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from experiments.peers.worker import Program
from experiments.timing import matrix_product, programs, rows
from experiments.timing.flops import flops_per_step
from experiments.timing.measure import describe
from experiments.timing.row import Row
from experiments.timing.setting import Setting
from experiments.timing.turns import ratios, take_turns
from genlab import data
from genlab.errors import InputError
from genlab.training import population

NETWORKS = {
    "dense": ("dense VAE", rows.dense_config, rows.dense_layers, 400),
    "conv": ("convolutional VAE", rows.conv_config, rows.conv_layers, 256),
}


class Point(NamedTuple):
    """One value of a sweep.

    Attributes:
        value: batch size, width, members or devices.
        row: what is trained; by each member, if there are several.
        program: () -> it.
        members: how many take a step each in one step of the program.
        processors: how many times the machine's rate of products there is to use.
    """

    value: int
    row: Row
    program: Callable[[], Program]
    members: int = 1
    processors: int = 1


class Sweep(NamedTuple):
    """Points along one axis; `power` of the values is what cost would be proportional to, 1 or -1."""

    axis: str
    title: str
    points: Sequence[Point]
    power: int = 1


def sweeps(
    network: str, asked: Mapping[str, Sequence[int]], batch_size: int, dataset: data.Dataset, setting: Setting
) -> list[Sweep]:
    """One for every list that has values; on a CPU two for populations, which can be computed in two ways.

    Args:
        network: see NETWORKS.
        asked: "batch_sizes", "widths", "populations", "devices" -> values, each at least 1.
        batch_size: where it is not what changes.
        dataset: whose examples are trained on.
        setting: how programs run.

    Raises:
        InputError: a batch larger than the data, or one that does not divide among the devices.
    """
    name, config, layers, width = NETWORKS[network]
    if (largest := max([batch_size, *asked["batch_sizes"]])) > len(dataset.train["x"]):
        raise InputError(f"a batch of {largest}: there are {len(dataset.train['x'])} examples")
    if uneven := [n for n in asked["devices"] if batch_size % n]:
        raise InputError(f"--batch_size={batch_size} does not divide among {uneven[0]} devices")

    def row(b: int = batch_size, hidden: int = width) -> Row:
        return rows.recipe_row(name, config(setting.precision, b, hidden), layers(b, hidden), dataset)

    def solo(value: int, row: Row, num_devices: int = 1) -> Point:
        # a CPU's devices share its cores
        processors = 1 if setting.platform == "cpu" else num_devices
        return Point(value, row, lambda: programs.in_loop(row, dataset, num_devices), processors=processors)

    def crowd(num: int, mode: population.Mode) -> Point:
        return Point(num, row(), lambda: programs.in_population(row(), dataset, num, mode), members=num)

    usual, wide = f"{name}, batch {batch_size:,}", f"width {width}"
    found = [
        Sweep("batch size", f"{name}, {wide}", [solo(b, row(b)) for b in asked["batch_sizes"]]),
        Sweep("width", usual, [solo(hidden, row(hidden=hidden)) for hidden in asked["widths"]]),
    ]
    for mode in population.MODES if setting.platform == "cpu" else ("vmap",):
        points = [crowd(num, mode) for num in asked["populations"]]
        found.append(Sweep(f"members, {mode}", f"{mode}: {usual} each, {wide}", points))
    shared = [solo(num, row(), num) for num in asked["devices"]]
    found.append(Sweep("devices", f"{usual} in all, {wide}", shared, power=-1))
    return [sweep for sweep in found if sweep.points]


def measure_growth(sweep: Sweep, setting: Setting, say: Callable[[str], None]) -> dict[str, Any]:
    """A sweep's record, as benchmark.json has it."""
    square = matrix_product.square(setting.square, jnp.dtype(setting.precision))
    made = []
    for position, point in enumerate(sweep.points):
        say(f"compiling {position + 1} of {len(sweep.points)}")
        made.append(point.program())
    measured, *turns = take_turns([square, *made], setting, say)
    rate = [2 * setting.square**3 / s for s in measured["seconds_per_step"]]
    points = []
    for point, program, each in zip(sweep.points, made, turns, strict=True):
        flops, examples = point.members * flops_per_step(point.row.layers), point.members * point.row.batch_size
        rates = {square.name: [point.processors * r for r in rate]}
        points.append({
            "value": point.value, "flops_per_step": flops, **describe(program, each, examples, flops, rates),
            "cost": ratios(each["seconds_per_step"], turns[0]["seconds_per_step"]),
            "proportional_cost": (point.value / sweep.points[0].value) ** sweep.power,
        })  # fmt: skip
    return {
        "axis": sweep.axis, "title": sweep.title, "product": square.name, "power": sweep.power,
        "product_flops_per_second": {square.name: rate}, "points": points,
    }  # fmt: skip
