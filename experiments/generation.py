"""What a model's samples are worth: one block of its card, from every evaluation that samples can have."""

import pathlib
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from experiments import language
from experiments.extractor import cached_extractor
from genlab import data
from genlab.errors import InputError
from genlab.evaluation import card as cards
from genlab.evaluation import modes
from genlab.evaluation.extractor import Extractor
from genlab.evaluation.features import intensities
from genlab.evaluation.held_out import over_split
from genlab.evaluation.kinds import kind_of
from genlab.evaluation.sample_quality import measure_quality
from genlab.networks.inception import WHENCE, inception_features, load_weights

STACKED = {"stacked_mnist": "mnist", "stacked_mnist_5k": "mnist_5k"}  # -> whose classifier reads the digits
FEWEST = 6  # samples: density and coverage are of five neighbours


def check_extractor(config: ml_collections.ConfigDict, dataset: data.Dataset) -> None:
    """Raises InputError for features that cannot be had of these examples."""
    wanted = config.evaluation.extractor
    if wanted == "none":
        return
    if np.ndim(dataset.train["x"]) != 4:
        raise InputError(
            f"evaluation.extractor {wanted!r} is for images; for {dataset.name} add --config.evaluation.extractor=none"
        )
    if wanted == "classifier" and ("label" not in dataset.train or dataset.name in STACKED):
        raise InputError(
            f"{dataset.name} has no labels for a classifier of ours: add --config.evaluation.extractor=none"
        )
    if wanted != "classifier":
        path = pathlib.Path(wanted).expanduser()
        if not path.is_file():
            raise InputError(
                f"evaluation.extractor is {wanted!r}, and there is no such file; it must be none, classifier, or a "
                f"file of Inception weights: {WHENCE}"
            )
        load_weights(path)
    if (num := config.evaluation.num_samples) < FEWEST:
        raise InputError(f"evaluation.num_samples is {num}; evaluation.extractor {wanted!r} needs at least {FEWEST}")


class Neighbours(NamedTuple):
    """The training images that samples are nearest to, by the features.

    Attributes:
        images: [N, H, W, C] as the data set holds them, the nearest to each sample.
        distances: f64[N], how far it is.
    """

    images: np.ndarray
    distances: np.ndarray


def measure_samples(
    config: ml_collections.ConfigDict, samples: np.ndarray | None, dataset: data.Dataset
) -> tuple[dict[str, Any] | None, Neighbours | None]:
    """The block, None for a model that does not generate, and the samples' neighbours, None without an extractor.

    Args:
        config: of the run.
        samples: [N, ...], generated; where the model is told a class, that of the test examples in turn.
        dataset: as it is stored, grey and not binarized.
    """
    if samples is None:
        return None, None
    if kind_of(samples) == "text":
        return language.samples_block(samples, dataset), None
    block: dict[str, Any] = {}
    neighbours = None
    if dataset.name in STACKED:
        digits = data.load(
            STACKED[dataset.name], config.data.data_dir, config.data.num_validation, config.data.image_size,
            config.data.padding,
        )  # fmt: skip
        read = cached_extractor(digits).probabilities
        assert read is not None
        block |= modes.stacked_block(samples, dataset.test, read)
    if dataset.modes is not None:
        block |= modes.modes_block(samples, *dataset.modes, np.asarray(dataset.test["x"]))
    if (extractor := open_extractor(config, dataset)) is not None:
        print("comparing samples with real images", flush=True)
        asked = None
        if is_conditional(config):
            asked = np.asarray(dataset.test["label"])[np.arange(len(samples)) % len(dataset.test["label"])]
        train, test = (cards.first(split, 60_000)["x"] for split in (dataset.train, dataset.test))
        quality = measure_quality(samples, asked, train, test, extractor)
        block |= quality.block
        neighbours = Neighbours(train[quality.nearest], quality.distances)
    block |= cards.generation_block(samples, dataset.train, dataset.test, data.prepare) or {}
    return block, neighbours


def open_extractor(config: ml_collections.ConfigDict, dataset: data.Dataset) -> Extractor | None:
    """The feature space that evaluation.extractor names; None where it names none."""
    wanted = config.evaluation.extractor
    if wanted == "none":
        return None
    if wanted == "classifier":
        return cached_extractor(dataset)
    weights = load_weights(pathlib.Path(wanted).expanduser())
    read = lambda weights, batch, key: inception_features(weights, intensities(batch["x"]))
    features = over_split(read, lambda raw: raw, 16)
    return Extractor(
        name=f"2,048 features of the Inception network in {wanted}",
        convention="FID",
        features=lambda images: features(weights, {"x": images}, jax.random.key(0)),
        probabilities=None,
        accuracy=None,
    )


def is_conditional(config: ml_collections.ConfigDict) -> bool:
    """Whether samples were asked to be of a class."""
    model = config.get("model", {})
    return bool(model.get("conditional", False)) or model.get("conditioning", "none") != "none"
