"""Novelty detection, a class at a time: python -m experiments.novelty --config=configs/novelty.py[:variant]."""

import json
import pathlib
import time
from typing import Any

import jax
import ml_collections
import numpy as np

from experiments.checks import at_least, check, check_padding, choose, field
from experiments.detectors import MODELS, PROTOCOL, detect
from experiments.launch import Launch, launch
from experiments.results import write_json
from experiments.run import FREE, as_json, enable_compilation_cache
from genlab import data
from genlab.errors import InputError
from genlab.evaluation import card as cards
from genlab.evaluation.novelty import SCORES, calibrate, novelty_block
from genlab.evaluation.novelty_page import write_page
from genlab.evaluation.numbers import format_value
from genlab.training import workdir

Found = dict[str, Any]  # of one class: scores of every method, "<method>/held_out" and "<method>/test", and "facts"


def main(arguments: Launch) -> None:
    """Trains and tests every class that has not been, then writes card, figures and report."""
    config, directory = arguments.config, arguments.workdir
    check_novelty(config)
    enable_compilation_cache()
    dataset = data.load(
        config.data.name, config.data.data_dir, config.data.num_validation, config.data.image_size, config.data.padding
    )
    check_classes(config, dataset)
    with workdir.locked(directory):
        workdir.claim(directory, as_json(config), free=FREE)
        found = {label: class_scores(config, dataset, label, directory) for label in config.novelty.classes}
        blocks = {label: class_blocks(config, dataset, label, each) for label, each in found.items()}
        methods = list(next(iter(blocks.values())))
        together = {name: cards.over_members([blocks[label][name] for label in blocks]) for name in methods}
        card = {
            "recipe": arguments.recipe,
            "dataset": config.data.name,
            "split_sizes": {name: len(getattr(dataset, name)["x"]) for name in ("train", "validation", "test")},
            "seed": config.seed,
            "train_seconds": round(sum(each["facts"]["seconds"] for each in found.values()), 2),
            "device": jax.devices()[0].device_kind,
            "protocol": PROTOCOL,
            "novelty": together,
            "classes": {str(label): {**blocks[label], "facts": found[label]["facts"]} for label in blocks},
        }
        write_json(directory / "card.json", card)
        draw(directory / "figures", dataset, config.novelty.model, blocks, found)
        page = write_page(directory, card, arguments.command)
    print(f"workdir  {directory}\nreport   {page}")
    for name, block in (together or {}).items():
        print(
            f"{name:14}" + "".join(f"  {key} {format_value(number['value'])}" for key, number in (block or {}).items())
        )


def check_novelty(config: ml_collections.ConfigDict) -> None:
    """Raises InputError for a config that this experiment cannot run."""
    check(config)
    field(config, "novelty")
    check_padding(config, "none" if config.novelty.model == "autoencoder" else "exact")
    at_least(config, {"novelty.classes": 0, "novelty.pca_code_dims": 1, "data.num_validation": 1})
    choose("novelty.score", config.novelty.score, dict.fromkeys(SCORES))
    choose("novelty.model", config.novelty.model, MODELS)
    if config.novelty.model != "autoencoder" and (config.novelty.contrast or config.novelty.score != "density"):
        raise InputError(
            f"novelty.model {config.novelty.model!r} is a density of levels: set novelty.contrast to False and "
            "novelty.score to density"
        )
    if config.model.get("conditional"):
        raise InputError("novelty trains on one class at a time; model.conditional must be False")
    if not config.novelty.classes or not config.novelty.pca_code_dims:
        raise InputError("novelty.classes and novelty.pca_code_dims need at least one number each")
    if config.population is not None:
        raise InputError("novelty trains a model for each class; give each seed a run of its own, not a population")
    if config.data.binarization != "none":
        raise InputError("novelty is measured on grey images; data.binarization must be 'none'")


def check_classes(config: ml_collections.ConfigDict, dataset: data.Dataset) -> None:
    """Raises InputError where a class is not in the data, or has too few held-out images for its threshold."""
    if np.ndim(dataset.test["x"]) != 4 or "label" not in dataset.test:
        raise InputError(f"novelty is detected among labelled images; {dataset.name} has none")
    for label in config.novelty.classes:
        if label >= dataset.num_classes:
            raise InputError(
                f"novelty.classes has {label}; the labels of {dataset.name} are below {dataset.num_classes}"
            )
        num = int(np.sum(np.asarray(dataset.validation["label"]) == label))
        calibrate(np.zeros(max(num, 1)), config.novelty.false_positive_rate)


def class_scores(
    config: ml_collections.ConfigDict, dataset: data.Dataset, label: int, directory: pathlib.Path
) -> Found:
    """What the detectors of a class give, from the workdir where they have been run before."""
    path = directory / "classes" / f"{label}.npz"
    if not path.exists():
        from genlab.evaluation.pictures import save_arrays

        path.parent.mkdir(exist_ok=True)
        began = time.monotonic()
        print(f"class {label}", flush=True)
        methods = detect(config, dataset, label, directory)
        facts = {name: each.facts for name, each in methods.items()} | {"seconds": time.monotonic() - began}
        arrays = {f"{name}/held_out": each.held_out for name, each in methods.items()}
        arrays |= {f"{name}/test": each.test for name, each in methods.items()}
        save_arrays(path, facts=np.array(json.dumps(facts)), **arrays)
    with np.load(path) as arrays:
        return {name: json.loads(str(arrays[name])) if name == "facts" else arrays[name] for name in arrays.files}


def class_blocks(
    config: ml_collections.ConfigDict, dataset: data.Dataset, label: int, found: Found
) -> dict[str, dict[str, cards.Number]]:
    """The numbers of every method for one class."""
    is_normal = np.asarray(dataset.test["label"]) == label
    num_train = int(np.sum(np.asarray(dataset.train["label"]) == label))
    blocks = {}
    for name in (key.removesuffix("/test") for key in found if key.endswith("/test")):
        test = found[f"{name}/test"]
        chosen = {key: value for key, value in found["facts"][name].items() if key in ("k", "step")}
        score = config.novelty.score if name == config.novelty.model else "reconstruction"
        blocks[name] = novelty_block(
            found[f"{name}/held_out"], test[is_normal], test[~is_normal], config.novelty.false_positive_rate,
            normal_class=label, n_train=num_train, score=score,
            **chosen,
        )  # fmt: skip
    return blocks


def draw(
    directory: pathlib.Path, dataset: data.Dataset, method: str, blocks: dict[int, Any], found: dict[int, Found]
) -> None:
    """Histograms of a method's scores of all classes, and its extremes and errors of each."""
    from genlab.plots import files
    from genlab.plots.novelty import Scores, novelty_examples, score_histograms

    images, labels = np.asarray(dataset.test["x"]), np.asarray(dataset.test["label"])
    panels = {}
    for label, each in found.items():
        scores, threshold = each[f"{method}/test"], blocks[label][method]["detection_rate"]["threshold"]
        panels[f"{label} is normal"] = Scores(scores[labels == label], scores[labels != label], threshold)
        figure = novelty_examples(images, scores, labels != label, threshold)
        files.save(figure, directory / f"novelty_examples_{label}.png")
    files.save(score_histograms(panels), directory / "novelty_scores.png")


if __name__ == "__main__":
    launch("experiments.novelty", main)
