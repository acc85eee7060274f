"""The way that two players take together, drawn from a run's log."""

import numpy as np

from experiments.launch import Launch
from genlab import data
from genlab.training import writers

# what is drawn of each player, by what it is, and of which names in the log
PORTRAITS = {
    "bilinear": {"the players": ("x", "y"), "their average": ("average_x", "average_y")},
    "affine": {"the players": ("gen_mean", "disc_slope")},
}


def draw_phase_portrait(arguments: Launch) -> None:
    """figures/phase_portrait.png, and the report again, of a game in which each player can be told by a number."""
    from genlab.evaluation.report import write_report
    from genlab.plots import files, phase

    config, directory = arguments.config, arguments.workdir
    pairs = PORTRAITS.get(config.model.network, {})
    records = [record for record in writers.read_jsonl(directory / "metrics.jsonl") if record["split"] == "train"]
    paths = {
        name: np.array([[record[number] for number in pair] for record in records])
        for name, pair in pairs.items() if records and all(number in records[0] for number in pair)
    }  # fmt: skip
    if paths:
        at_rest = 0.0
        if config.model.network != "bilinear" and (modes := data.load(config.data.name, num_validation=0).modes):
            at_rest = float(modes.means[0, 0])
        figure = phase.phase_portrait(paths, next(iter(pairs.values())), (at_rest, 0.0))
        files.save(figure, directory / "figures" / "phase_portrait.png")
        write_report(directory, arguments.command)
