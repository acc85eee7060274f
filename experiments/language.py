"""What numbers and samples of a language model are put beside: n-grams of the same text, and its words."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from genlab.algorithm import Algorithm, State
from genlab.data import text
from genlab.data.dataset import Dataset, Split
from genlab.evaluation.card import Number
from genlab.evaluation.ngram import bits_per_token, witten_bell
from genlab.evaluation.words import words_block
from genlab.training import workdir

ORDERS = range(6)  # of n-grams: tokens that are looked back
COMPARED = 3
SHOWN = 5  # samples, and completions


def samples_block(samples: np.ndarray, dataset: Dataset) -> dict[str, Number]:
    """Of samples i32[N, T]: how many of their words are known, and how much is copied."""
    train = text.decode(text.training_text(np.asarray(dataset.train["x"])))
    return words_block(list(map(text.decode, samples)), train, list(map(text.decode, np.asarray(dataset.test["x"]))))


def ngram_block(dataset: Dataset) -> dict[str, Number]:
    """Bits per character that n-grams of the training text need for the test text, each looking back in its window.

    By how many characters they look back stands `by_order`, and `of_validation` for the validation text, if there is
    any.
    """
    train = text.training_text(np.asarray(dataset.train["x"]))
    models = {str(order): witten_bell(train, order, text.NUM_TOKENS) for order in ORDERS}
    splits = {"by_order": np.asarray(dataset.test["x"]), "of_validation": np.asarray(dataset.validation["x"])}
    bits = {
        name: {order: bits_per_token(model, windows) for order, model in models.items()}
        for name, windows in splits.items()
        if len(windows)
    }
    protocol = {"order": COMPARED, "smoothing": "Witten-Bell", "split": "test", "n": len(splits["by_order"])}
    value = bits["by_order"][str(COMPARED)]
    return {"ngram_bits_per_character": {"value": value, "unit": "bits", **protocol, **bits}}


def write_samples(
    directory: pathlib.Path, algorithm: Algorithm, state: State, test: Split, samples: np.ndarray, key: jax.Array
) -> None:
    """samples.txt: the first samples i32[N, T], and test examples whose second half the model has written anew."""
    parts = [f"--- sample {i}, not selected\n{text.decode(each)}" for i, each in enumerate(samples[:SHOWN])]
    if algorithm.complete is not None:
        prompts = jnp.asarray(test["x"][:SHOWN])
        half = prompts.shape[1] // 2
        completed = np.asarray(jax.jit(algorithm.complete)(state, {"x": prompts}, jnp.int32(half), key))
        for i, each in enumerate(completed):
            prompt, rest = text.decode(each[:half]), text.decode(each[half:])
            parts.append(f"--- test example {i}, its second half by the model\n{prompt}[...]{rest}")
    workdir.write_text(directory / "samples.txt", "\n\n".join(parts) + "\n")
