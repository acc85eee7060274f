"""What a model's codes are good for: one block of its card, from every evaluation that a code can have."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import ml_collections

from experiments.assembly import Member, run_keys
from experiments.checks import choose
from genlab import data
from genlab.algorithm import State
from genlab.errors import InputError
from genlab.evaluation import card as cards
from genlab.evaluation import few_labels
from genlab.evaluation.compression import Compression, compress
from genlab.evaluation.denoising import denoising_block
from genlab.evaluation.linear import linear_block
from genlab.networks import corruption
from genlab.training import display

CORRUPTIONS = {"none": None, "gaussian": corruption.gaussian_noise, "masking": corruption.masking_noise}


def check_evaluation(config: ml_collections.ConfigDict, dataset: data.Dataset) -> None:
    """Raises InputError for what could only fail, or be left out, after training."""
    wanted = config.evaluation
    num_train, num_validation = (len(split["x"]) for split in (dataset.train, dataset.validation))
    if wanted.few_labels and "label" not in dataset.train:
        raise InputError(f"evaluation.few_labels is {wanted.few_labels}, but {dataset.name} has no labels")
    few_labels.check(wanted.few_labels, num_train, num_validation, dataset.num_classes)
    if wanted.corruption != "none" and len(dataset.train["x"].shape) != 4:
        raise InputError(
            f"evaluation.corruption is for images; for {dataset.name} add --config.evaluation.corruption=none"
        )
    if wanted.corruption != "none" and not wanted.corruption_level:
        raise InputError("evaluation.corruption_level is 0, so nothing would be corrupted")


def measure_codes(
    member: Member, state: State, dataset: data.Dataset, key: jax.Array
) -> tuple[dict[str, Any] | None, Compression | None]:
    """The block, and what its figures need; (None, None) for a model without codes.

    Args:
        member: with its algorithm and config.
        state: its, after training.
        dataset: as it is stored; the model sees it as it was trained to.
        key: of all draws; those of `few_labels` hang on the member's own seed, so that every member has other labels.
    """
    config, algorithm = member.config, member.algorithm
    if algorithm.encode is None:
        return None, None
    train, validation, test = (as_trained(config, split) for split in (dataset.train, dataset.validation, dataset.test))
    size, labels = config.evaluation.batch_size, config.evaluation.few_labels
    compression = compress(algorithm, state, train, test, data.prepare, key, size)
    blocks = [
        linear_block(algorithm, state, train, data.prepare, key),
        compression and compression.block,
        cards.representation_block(
            algorithm, state, cards.first(train, cards.MAX_PROBE_EXAMPLES), test, data.prepare, key, size
        ),
    ]
    if corrupt := corruption_of(config):
        said = f"{config.evaluation.corruption}, level {config.evaluation.corruption_level:g}"
        restored = denoising_block(
            algorithm, state, validation, test, corrupt, data.prepare, key, size, corruption=said
        )
        blocks.insert(0, restored)  # what was asked for stands first
    if labels:
        print(f"classifiers from {', '.join(map(str, labels))} labels, with and without pretraining", flush=True)
        key_init, _ = jax.random.split(run_keys(config.seed)[0])  # as the loop splits it
        raw = jax.tree.map(jax.numpy.asarray, cards.first(dataset.train, config.batch_size))
        untrained = jax.jit(algorithm.init)(key_init, data.prepare(raw))  # the run's first state
        classified = few_labels.few_labels_block(
            algorithm, state, untrained, train, validation, test, labels, data.prepare,
            jax.random.fold_in(key, config.seed), size, dataset.num_classes,
            display.progress_line(len(labels), unit="label count"),
        )  # fmt: skip
        blocks.insert(0, classified)
    return dict(itertools.chain.from_iterable(block.items() for block in blocks if block)), compression


def corruption_of(config: ml_collections.ConfigDict) -> Callable[[jax.Array, jax.Array], jax.Array] | None:
    """(key, x) -> x~, of the images that are to be restored; None where none are."""
    corrupt = choose("evaluation.corruption", config.evaluation.corruption, CORRUPTIONS)
    return corrupt and functools.partial(corrupt, level=config.evaluation.corruption_level)


def as_trained(config: ml_collections.ConfigDict, split: data.Split) -> data.Split:
    """A split as the model is trained to see it: where training binarizes, one fixed binary draw."""
    return data.fixed_binarization(split) if config.data.binarization == "dynamic" else split
