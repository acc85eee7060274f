"""What turns images into the features that distances are taken in, with a name that stands beside every such number."""

import json
import os
import pathlib
import zipfile
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genlab.errors import InputError
from genlab.evaluation import features
from genlab.evaluation.features import Classifier, Layer
from genlab.evaluation.held_out import over_split

Number = dict[str, Any]
Images = np.ndarray  # f32[N, H, W, C] in [0, 1], any N

FORMAT = 1  # of a stored classifier; raise it with any change of features.py that changes what is trained


class Extractor(NamedTuple):
    """A feature space for images; its functions work in chunks of their own.

    Attributes:
        name: what it is and how good, said in the protocol of every number.
        convention: "FID" for the Inception network whose Frechet distance has that name; "features" for all else.
        features: images f32[N, H, W, C] in [0, 1] -> f32[N, D].
        probabilities: images -> f32[N, num_classes], in the order of the data's labels; None where it knows none.
        accuracy: of its class of largest probability, on the test split; None where it has no classes.
    """

    name: str
    convention: Literal["features", "FID"]
    features: Callable[[Images], np.ndarray]
    probabilities: Callable[[Images], np.ndarray] | None
    accuracy: Number | None


class Facts(NamedTuple):
    """How a classifier came about.

    Attributes:
        dataset: whose training split it learnt from.
        num_train: examples of it.
        num_steps: of the optimizer.
        seed: of its key.
        accuracy: on the data set's test split, a Number with value, standard_error and n.
    """

    dataset: str
    num_train: int
    num_steps: int
    seed: int
    accuracy: Number


def from_classifier(classifier: Classifier, facts: Facts, batch_size: int = 500) -> Extractor:
    """The last hidden layer of a classifier of ours as a feature space, and its softmax."""

    def run(classifier: Classifier, batch: Any, _: Any) -> tuple[jax.Array, jax.Array]:
        hidden, logits = features.apply(classifier, features.intensities(batch["x"]))
        return hidden, jax.nn.softmax(logits)

    over = over_split(run, lambda raw: raw, batch_size)
    both = lambda images: over(classifier, {"x": images}, jax.random.key(0))
    name = (
        f"{features.NUM_FEATURES} features of our classifier ({facts.dataset}, {facts.accuracy['value']:.2%} test "
        f"accuracy, {facts.num_steps:,} steps on {facts.num_train:,} training examples), not Inception's"
    )
    return Extractor(
        name=name,
        convention="features",
        features=lambda images: both(images)[0],
        probabilities=lambda images: both(images)[1],
        accuracy=facts.accuracy,
    )


def save(path: str | os.PathLike[str], classifier: Classifier, facts: Facts) -> None:
    """Writes an .npz with the layers and, as JSON, the facts; whole or not at all."""
    path = pathlib.Path(path)
    layers = {f"convolution_{number}": layer for number, layer in enumerate(classifier.convolutions)}
    layers |= {"hidden": classifier.hidden, "output": classifier.output}
    arrays: dict[str, Any] = {
        f"{name}_{part}": np.asarray(array) for name, layer in layers.items() for part, array in layer._asdict().items()
    }
    arrays["facts"] = np.array(json.dumps({"format": FORMAT, **facts._asdict()}))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, **arrays)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> tuple[Classifier, Facts]:
    """What `save` wrote.

    Raises:
        InputError: no such file, or one that is damaged, another's, or of another format.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"no classifier at {path}; `python -m experiments.extractor` trains one")
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        written = json.loads(str(arrays.pop("facts")))
        if written.pop("format") != FORMAT:
            raise ValueError("it is of another format")
        layer = lambda name: Layer(*(jnp.asarray(arrays[f"{name}_{part}"]) for part in Layer._fields))
        count = sum(name.startswith("convolution_") for name in arrays) // len(Layer._fields)
        convolutions = tuple(layer(f"convolution_{number}") for number in range(count))
        return Classifier(convolutions, layer("hidden"), layer("output")), Facts(**written)
    except (OSError, EOFError, KeyError, TypeError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} is no classifier of ours, or damaged ({type(error).__name__}: {error}); delete it and "
            "`python -m experiments.extractor` trains another"
        ) from None
