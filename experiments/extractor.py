"""The classifier whose features distances between images are taken in: trained once for a data set, then kept on disk.

python -m experiments.extractor --dataset=mnist --data_dir=DIR [--steps=5000] [--output=FILE]

It goes to the cache ($GENLAB_CACHE, else ~/.cache/genlab), where every evaluation of that data set finds it; --output
writes a copy. Options that make another data set make another classifier: --num_validation=500, --image_size=0 and
--padding=0, as config.data has them. Steps are 5,000 by default, of 20,000 training examples or fewer 2,000. --seed=0
is of its key.
"""

import hashlib
import json
import pathlib
import sys

import jax
import numpy as np
from absl import flags

from experiments.launch import launch_tool
from genlab import data
from genlab.errors import InputError
from genlab.evaluation import card as cards
from genlab.evaluation import extractor, features
from genlab.training import display

MANY_EXAMPLES = 20_000
STEPS_OF_MANY, STEPS_OF_FEW = 5_000, 2_000
MAX_TRAIN_EXAMPLES = 60_000  # that are learnt from
NUM_CHECKED = 16  # images that tell one data set from another of the same name and labels


def cached_extractor(dataset: data.Dataset, num_steps: int = 0, seed: int = 0) -> extractor.Extractor:
    """The feature space of a data set's own classifier, trained now if it never was.

    Args:
        dataset: images with labels, grey as they are stored; its first 60,000 training examples are learnt from.
        num_steps: of the optimizer; 0: 5,000, of 20,000 training examples or fewer 2,000.
        seed: of the classifier's key; not the run's, so that all runs are measured in one space.

    Raises:
        InputError: a data set without images or labels.
    """
    return extractor.from_classifier(*cached_classifier(dataset, num_steps, seed)[:2])


def cached_classifier(
    dataset: data.Dataset, num_steps: int = 0, seed: int = 0
) -> tuple[features.Classifier, extractor.Facts, pathlib.Path]:
    """The classifier of `cached_extractor`, how it came about, and where it is kept.

    A file that cannot be read is said and made again; one that cannot be written is said and done without.
    """
    if np.ndim(dataset.train["x"]) != 4 or "label" not in dataset.train or "label" not in dataset.test:
        raise InputError(f"our classifier learns from images with labels; {dataset.name} has none")
    num_train = min(len(dataset.train["x"]), MAX_TRAIN_EXAMPLES)
    num_steps = num_steps or (STEPS_OF_MANY if num_train > MANY_EXAMPLES else STEPS_OF_FEW)
    path = cache_path(dataset, num_train, num_steps, seed)
    if path.exists():
        try:
            return *extractor.load(path), path
        except InputError as error:
            print(f"{error}; training it again", file=sys.stderr, flush=True)
    print(f"training the classifier of {dataset.name} whose features samples are compared in; later runs read it from "
          f"{path}", file=sys.stderr, flush=True)  # fmt: skip
    train = cards.first(dataset.train, num_train)
    classifier = features.train_classifier(
        train["x"], train["label"], dataset.num_classes, jax.random.key(seed), num_steps=num_steps,
        show=display.progress_line(num_steps),
    )  # fmt: skip
    accuracy = features.accuracy(classifier, dataset.test["x"], dataset.test["label"])
    facts = extractor.Facts(dataset.name, num_train, num_steps, seed, {"split": "test", **accuracy})
    try:
        extractor.save(path, classifier, facts)
    except OSError as error:
        print(f"the classifier is not kept, {error.filename}: {error.strerror}", file=sys.stderr, flush=True)
    return classifier, facts, path


def cache_path(dataset: data.Dataset, num_train: int, num_steps: int, seed: int) -> pathlib.Path:
    """Where the classifier of this data set, trained like this, is kept: a name that changes with all of it."""
    some = cards.first(dataset.train, NUM_CHECKED)["x"]
    labels = np.asarray(dataset.train["label"][np.arange(num_train)], np.int32)
    identity = [
        extractor.FORMAT, dataset.name, dataset.train["x"].shape[1:], dataset.num_classes, num_train, num_steps, seed,
        hashlib.sha256(labels.tobytes()).hexdigest(),
        hashlib.sha256(np.ascontiguousarray(some).tobytes()).hexdigest(),
    ]  # fmt: skip
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    name = dataset.name.replace("/", "-").replace(":", "-")[:100]  # that of a folder can be any length
    return data.cache_directory() / "classifiers" / f"{name}-{key}.npz"


def main(arguments: list[str]) -> None:
    """Trains or finds the classifier of --dataset, and says how good it is and where it lies."""
    from genlab.evaluation.numbers import format_number

    given = flags.FLAGS
    if arguments or not given.dataset:
        raise InputError("give the data as --dataset=NAME" + (f", not {arguments[0]!r}" if arguments else ""))
    dataset = data.load(given.dataset, given.data_dir, given.num_validation, given.image_size, given.padding)
    classifier, facts, path = cached_classifier(dataset, given.steps, given.seed)
    if given.output:
        path = pathlib.Path(given.output)
        extractor.save(path, classifier, facts)
    print(f"classifier     {path}\ntest accuracy  {format_number(facts.accuracy)}, n = {facts.accuracy['n']:,}")
    print(f"trained        {facts.num_steps:,} steps on {facts.num_train:,} examples of {facts.dataset}")


if __name__ == "__main__":  # other entry points import this module, and have flags of their own
    flags.DEFINE_string("dataset", None, "Its name.")
    flags.DEFINE_string("data_dir", "", "Where a prepared TFDS set lies.")
    flags.DEFINE_integer("num_validation", 500, "Examples held out of the training split.", lower_bound=0)
    flags.DEFINE_integer("image_size", 0, "Side to which images are resized; 0: as stored.", lower_bound=0)
    flags.DEFINE_integer("padding", 0, "Black pixels that are then added on every side.", lower_bound=0)
    flags.DEFINE_integer("steps", 0, "Of the optimizer; 0: by the number of examples.", lower_bound=0)
    flags.DEFINE_integer("seed", 0, "Of the classifier's key.", lower_bound=0)
    flags.DEFINE_string("output", None, "Where a copy goes.")
    launch_tool("experiments.extractor", main, __doc__)
