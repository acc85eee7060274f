"""The way that two players take together, drawn from the logs of runs.

python -m experiments.phase_portrait RUN_A RUN_B ... [--reach=1.5] [--output=phase_portrait.png]

RUNs are workdirs of games whose players can be told by two numbers, configs/gan.py's bilinear and gaussian ones and
their variants; of one kind. Each run has a colour, and its moving average another. --reach is how far from the
equilibrium the axes go; by default as far as the paths.
"""

import json
import pathlib
from typing import Any

import numpy as np
from absl import flags

from experiments.launch import Launch, launch_tool
from genlab import data
from genlab.errors import InputError
from genlab.training import writers

# what is drawn of each player, by what it is, and of which names in the log
PORTRAITS = {
    "bilinear": {"the players": ("x", "y"), "their average": ("average_x", "average_y")},
    "affine": {"the players": ("gen_mean", "disc_slope")},
}


def paths_of(network: str, directory: pathlib.Path) -> dict[str, np.ndarray]:
    """f[T, 2] of each thing that PORTRAITS has of a network and a run's log has too."""
    records = [record for record in writers.read_jsonl(directory / "metrics.jsonl") if record["split"] == "train"]
    return {
        name: np.array([[record[number] for number in pair] for record in records])
        for name, pair in PORTRAITS.get(network, {}).items() if records and all(number in records[0] for number in pair)
    }  # fmt: skip


def portrait(network: str, data_name: str, paths: dict[str, np.ndarray], reach: float = 0.0) -> Any:
    """The figure of paths by name, around the equilibrium of the game."""
    from genlab.plots import phase

    at_rest = 0.0
    if network != "bilinear" and (modes := data.load(data_name, num_validation=0).modes):
        at_rest = float(modes.means[0, 0])
    limits = (at_rest - reach, at_rest + reach, -reach, reach) if reach else None
    return phase.phase_portrait(paths, PORTRAITS[network]["the players"], (at_rest, 0.0), limits)


def draw_phase_portrait(arguments: Launch) -> None:
    """figures/phase_portrait.png, and the report again, of a game in which each player can be told by a number."""
    from genlab.evaluation.report import write_report
    from genlab.plots import files

    config, directory = arguments.config, arguments.workdir
    if paths := paths_of(config.model.network, directory):
        figure = portrait(config.model.network, config.data.name, paths)
        files.save(figure, directory / "figures" / "phase_portrait.png")
        for name, path in paths.items():
            print(f"{name} end at ({path[-1][0]:.4g}, {path[-1][1]:.4g})")
        write_report(directory, arguments.command)


def main(arguments: list[str]) -> None:
    """Draws the paths of several runs together."""
    from genlab.plots import files

    if not arguments:
        raise InputError("give the runs to be drawn, as RUN_A RUN_B")
    paths: dict[str, np.ndarray] = {}
    games = set()
    for directory in map(pathlib.Path, arguments):
        if not (directory / "config.json").is_file():
            raise InputError(f"no run at {directory}")
        config = json.loads((directory / "config.json").read_text())
        found = paths_of(config["model"].get("network", ""), directory)
        if not found:
            raise InputError(f"{directory} is no game whose players can be told by two numbers")
        games.add((config["model"]["network"], config["data"]["name"]))
        paths |= {directory.name + ("" if name == "the players" else f", {name}"): path for name, path in found.items()}
    if len(games) > 1:
        raise InputError(f"the runs are of different games: {', '.join(sorted(map(' on '.join, games)))}")
    figure = portrait(*games.pop(), paths, flags.FLAGS.reach)
    output = pathlib.Path(flags.FLAGS.output)
    files.save(figure, output)
    print(f"written to {output}")


if __name__ == "__main__":  # experiments.gan imports this module
    flags.DEFINE_float(
        "reach", 0.0, "How far from the equilibrium the axes go; 0: as far as the paths.", lower_bound=0.0
    )
    flags.DEFINE_string("output", "phase_portrait.png", "Where the figure goes.")
    launch_tool("experiments.phase_portrait", main, __doc__)
