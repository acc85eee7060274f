"""Reconstruction error against the size of the code, of an autoencoder beside principal components.

python -m experiments.code_sizes --config=configs/autoencoder.py --code_dims=2,4,8,16,32,64 [--workdir=DIR]

Trains, or resumes, a run of the config for each size in DIR/code_<size>; leaves DIR/error_by_code_size.png and .json.
"""

import json

import ml_collections
import numpy as np
from absl import flags

from experiments.autoencoder import build
from experiments.checks import field
from experiments.launch import Launch, launch
from experiments.results import write_json
from experiments.run import run
from genlab.errors import InputError

CODE_DIMS = flags.DEFINE_list("code_dims", ["2", "4", "8", "16", "32", "64"], "Sizes of the code.")


def main(arguments: Launch) -> None:
    """One run a size, then the figure."""
    from genlab.plots import compression, files

    field(arguments.config, "model.code_dim")
    found = {}
    print(f"a run each for codes of {', '.join(map(str, sizes(CODE_DIMS.value)))} numbers", flush=True)
    for size in sizes(CODE_DIMS.value):
        config = ml_collections.ConfigDict(arguments.config.to_dict())
        config.model.code_dim = size
        directory = arguments.workdir / f"code_{size}"
        print(f"code of {size} numbers", flush=True)
        run(arguments._replace(config=config.lock(), workdir=directory), build)
        block = json.loads((directory / "card.json").read_text())["representation"]
        numbers = {name: block[name] for name in ("reconstruction_mse", "pca_mse")}
        found[numbers["reconstruction_mse"]["code_size"]] = numbers  # with what else the network's codes hold
    ours, pca = ([found[size][name]["value"] for size in found] for name in ("reconstruction_mse", "pca_mse"))
    write_json(arguments.workdir / "error_by_code_size.json", {str(size): each for size, each in found.items()})
    figure = compression.error_by_code_size(
        np.array(list(found)), np.array(pca), {arguments.recipe: (list(found), ours)}
    )
    files.save(figure, arguments.workdir / "error_by_code_size.png")
    for size, ours_now, pca_now in zip(found, ours, pca, strict=True):
        print(f"code of {size:5} numbers: mean squared error {ours_now:.5f}, PCA {pca_now:.5f}")


def sizes(words: list[str]) -> list[int]:
    """The sizes asked for, in rising order."""
    if wrong := [word for word in words if not word.strip().isdecimal() or int(word) < 1]:
        raise InputError(f"--code_dims has {wrong[0]!r}; it takes whole numbers from 1, such as --code_dims=2,8,32")
    if not words:
        raise InputError("--code_dims is empty; it takes whole numbers from 1, such as --code_dims=2,8,32")
    return sorted({int(word) for word in words})


if __name__ == "__main__":
    launch("experiments.code_sizes", main)
