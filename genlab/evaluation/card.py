"""The evaluation card: every number of a run, each with its protocol."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from genlab.algorithm import Algorithm, State
from genlab.evaluation import generation, representation
from genlab.evaluation.held_out import mean_and_error, over_split

Number = dict[str, Any]
Split = Mapping[str, np.ndarray]

MAX_PROBE_EXAMPLES = 10_000


def density_block(
    algorithm: Algorithm,
    state: State,
    test: Split,
    prepare: Any,
    key: jax.Array,
    batch_size: int,
    num_importance_samples: int | None,
    binarization: str,
) -> dict[str, Number] | None:
    """Negative log-likelihoods of the test split: the evidence lower bound, log_prob, and bits per dimension.

    Args:
        num_importance_samples: K of the algorithm's log_prob, or None where it is exact.
        binarization: how the pixels became binary, "none" if they did not.

    Returns:
        None where the algorithm has no density.
    """
    if algorithm.log_prob is None:
        return None
    num_dims = int(np.prod(np.shape(test["x"])[1:]))
    protocol: Number = {"split": "test", "n": len(test["x"]), "unit": "nats"}
    if binarization != "none":
        protocol["binarization"] = f"{binarization} in training; one fixed draw of the test set"
    key_terms, key_density = jax.random.split(key)
    value, error = mean_and_error(-over_split(algorithm.log_prob, prepare, batch_size)(state, test, key_density))
    likelihood: Number = {"value": value, "standard_error": error, **protocol}
    if algorithm.density == "bound":
        likelihood |= {"bound": "upper", "estimator": "importance sampling", "k": num_importance_samples}
    block = {"negative_log_likelihood": likelihood}
    if np.asarray(test["x"][:1]).dtype == np.uint8:
        to_bits = 1.0 / (num_dims * math.log(2))
        unit = f"bits per dimension, {num_dims} dimensions"
        block["bits_per_dim"] = {
            **likelihood,
            "value": value * to_bits,
            "standard_error": error * to_bits,
            "unit": unit,
        }
    terms = over_split(algorithm.evaluate, prepare, batch_size)(state, test, key_terms)
    if "elbo" in terms:
        value, error = mean_and_error(-terms["elbo"])
        bound = {"value": value, "standard_error": error, "bound": "upper", "estimator": "one sample of z"}
        block["negative_elbo"] = {**bound, **protocol}
    return block


def representation_block(
    algorithm: Algorithm, state: State, train: Split, test: Split, prepare: Any, key: jax.Array, batch_size: int
) -> dict[str, Number] | None:
    """Linear probe and nearest neighbours on frozen codes; None without codes or labels."""
    if algorithm.encode is None or "label" not in test:
        return None
    encode = over_split(algorithm.encode, prepare, batch_size)
    index = np.arange(min(len(train["x"]), MAX_PROBE_EXAMPLES))
    train = {name: values[index] for name, values in train.items()}
    codes = encode(state, train, key)
    block = representation.probe(codes, train["label"], encode(state, test, key), test["label"])
    return {name: {**number, "code_size": codes.shape[1]} for name, number in block.items()}


def generate_samples(
    algorithm: Algorithm, state: State, like: Split, num: int, key: jax.Array, prepare: Any, batch_size: int
) -> np.ndarray | None:
    """`num` generated examples [num, ...], conditioned on examples of `like` in turn where the method asks for it."""
    if algorithm.generate is None:
        return None
    index = np.arange(num) % len(like["x"])
    return over_split(algorithm.generate, prepare, batch_size)(
        state, {name: values[index] for name, values in like.items()}, key
    )


def generation_block(samples: np.ndarray | None, train: Split, test: Split, prepare: Any) -> dict[str, Number] | None:
    """Distances of samples to the test set; None without samples."""
    if samples is None:
        return None
    index = np.arange(min(len(train["x"]), MAX_PROBE_EXAMPLES))
    real_train, real_test = (np.asarray(prepare({"x": x})["x"]) for x in (train["x"][index], np.asarray(test["x"])))
    return generation.principal_frechet(samples, real_train, real_test)


def count_parameters(state: State) -> int:
    """Trained numbers of all players."""
    return sum(leaf.size for player in state.players.values() for leaf in jax.tree.leaves(player.params))
