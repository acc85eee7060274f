"""The evaluation card: every number of a run, each with its protocol."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from genlab.algorithm import Algorithm, State
from genlab.evaluation import generation, representation
from genlab.evaluation.held_out import mean_and_error, over_split
from genlab.evaluation.kinds import kind_of

Number = dict[str, Any]
Split = Mapping[str, np.ndarray]
Prepare = Callable[[Any], Any]  # raw batch -> batch

MAX_PROBE_EXAMPLES = 10_000


def density_block(
    algorithm: Algorithm,
    state: State,
    test: Split,
    prepare: Prepare,
    key: jax.Array,
    batch_size: int,
    num_importance_samples: int | None,
    binarization: str,
    show: Callable[[int], None] = lambda done: None,
    keep: Callable[[dict[str, np.ndarray]], None] = lambda values: None,
    log_density: Callable[[Any], Any] | None = None,
) -> dict[str, Number] | None:
    """Negative log-likelihoods of the test split, in nats: log_prob and the evidence lower bound.

    Args:
        algorithm, state: the model.
        test: raw examples, binarized already where training binarizes.
        prepare: raw batch -> batch.
        key: of every draw.
        batch_size: examples in a chunk.
        num_importance_samples: K of the algorithm's log_prob, or None where it takes none.
        binarization: how the pixels became binary, "none" if they did not.
        show: told how many examples are done.
        keep: given log_prob and, where there is one, elbo of every example, f32[N].
        log_density: f32[N, D] -> f32[N], the logarithm of the density that the data were drawn from, where it is known.

    Returns:
        Numbers with their protocol, of text in bits per character too, of images that are binary, discrete or
        dequantised in bits per dimension; None where the algorithm has no density.
    """
    if algorithm.log_prob is None:
        return None
    num_dims, kind = int(np.prod(np.shape(test["x"])[1:])), kind_of(test["x"])
    protocol: Number = {"split": "test", "n": len(test["x"]), "dimensions": num_dims, "unit": "nats"}
    if algorithm.conditional:
        protocol["given"] = "the label"
    if binarization != "none":
        protocol["x"] = f"binary: {binarization} draws in training, one fixed draw of the test set"
    elif kind == "text":
        protocol["x"] = "characters; each window begins without what came before it"
    elif kind == "images":
        protocol["x"] = {
            "continuous": "intensities i / 255 as stored, not dequantized",
            "dequantized": "u = (level + U[0, 1)) / 256, a density on [0, 1]^D under one draw of the noise",
            "discrete": "levels 0 to 255, their probability",
        }[algorithm.space]
    key_terms, key_density = jax.random.split(key)
    log_prob = over_split(algorithm.log_prob, prepare, batch_size, show)(state, test, key_density)
    value, error = mean_and_error(-log_prob)
    likelihood: Number = {"value": value, "standard_error": error, **protocol}
    if algorithm.density == "bound":
        sampled = {"estimator": "importance sampling", "k": num_importance_samples}
        likelihood |= {"bound": "upper", **(sampled if num_importance_samples else {"estimator": "one code"})}
    dequantized = kind == "images" and algorithm.space == "dequantized"
    of_u = "dequantized_" if dequantized else ""  # a density of u and a probability of levels never share a name
    block = {f"{of_u}negative_log_likelihood": likelihood}
    if binarization != "none" or (kind in ("images", "text") and algorithm.space != "continuous"):
        name, more = f"{of_u}bits_per_dim", 8.0 if dequantized else 0.0  # of 256 levels
        to_bits = 1.0 / (num_dims * math.log(2))
        unit = f"bits per dimension, {num_dims} dimensions"
        if kind == "text":
            name, unit = "bits_per_character", "bits"
        block[name] = {
            **likelihood, "value": value * to_bits + more, "standard_error": error * to_bits, "unit": unit
        }  # fmt: skip
    if log_density is not None and not algorithm.conditional:  # p(x | y) is not to be compared with p(x)
        value, error = mean_and_error(np.asarray(log_density(test["x"])) - log_prob)
        excess = "E [log p(x) - log q(x)] over test examples of the known p"
        above = {"bound": "upper"} if algorithm.density == "bound" else {}
        block["kl_from_truth"] = {"value": value, "standard_error": error, "estimator": excess, **above, **protocol}
    terms = over_split(algorithm.evaluate, prepare, batch_size)(state, test, key_terms)
    if "elbo" in terms:
        value, error = mean_and_error(-terms["elbo"])
        estimator = "samples of z" if algorithm.latents is not None else "one code"
        bound = {"value": value, "standard_error": error, "bound": "upper", "estimator": estimator}
        if algorithm.latents is not None:
            bound["k"] = algorithm.latents.num_samples
        block["negative_elbo"] = {**bound, **protocol}
    if "logit_log_prob" in terms:
        value, error = mean_and_error(-terms["logit_log_prob"])
        block["logit_negative_log_likelihood"] = {
            "value": value, "standard_error": error, **protocol, "x": "logit(alpha + (1 - 2 alpha) u), one draw of u"
        }  # fmt: skip
    keep({"log_prob": log_prob} | {name: values for name, values in terms.items() if name == "elbo"})
    return block


def representation_block(
    algorithm: Algorithm, state: State, train: Split, test: Split, prepare: Prepare, key: jax.Array, batch_size: int
) -> dict[str, Number] | None:
    """Accuracy of a linear probe and of nearest neighbours on frozen codes.

    Args:
        algorithm, state: the model.
        train, test: raw examples as the model was trained to see them, with labels; the first MAX_PROBE_EXAMPLES of
            train are used.
        prepare: raw batch -> batch.
        key: of the encoder's draws.
        batch_size: examples in a chunk.

    Returns:
        Numbers with their protocol; None without codes or labels.
    """
    if algorithm.encode is None or "label" not in test:
        return None
    encode = over_split(algorithm.encode, prepare, batch_size)
    codes = encode(state, train := first(train, MAX_PROBE_EXAMPLES), key)
    block = representation.probe(codes, train["label"], encode(state, test, key), test["label"])
    more = {"code_size": codes.shape[1]} | ({"given": "the label"} if algorithm.conditional else {})
    return {name: {**number, **more} for name, number in block.items()}


def generate_samples(
    algorithm: Algorithm, state: State, like: Split, num: int, key: jax.Array, prepare: Prepare, batch_size: int
) -> np.ndarray | None:
    """Generated examples f32[num, ...], conditioned on raw examples of `like` in turn where the method asks for it.

    Returns:
        None where the algorithm does not generate.
    """
    if algorithm.generate is None:
        return None
    index = np.arange(num) % len(like["x"])
    conditions = {name: values[index] for name, values in like.items()}
    return over_split(algorithm.generate, prepare, batch_size)(state, conditions, key)


def generation_block(
    samples: np.ndarray | None, train: Split, test: Split, prepare: Prepare
) -> dict[str, Number] | None:
    """Distances of samples f32[N, ...] to the raw test split as it is stored, grey and not binarized.

    Returns:
        Numbers with their protocol; None without samples.
    """
    if samples is None:
        return None
    real_train, real_test = (
        np.asarray(prepare({"x": x})["x"]) for x in (first(train, MAX_PROBE_EXAMPLES)["x"], np.asarray(test["x"]))
    )
    return generation.principal_frechet(samples, real_train, real_test)


def over_members(blocks: Sequence[Mapping[str, Number] | None]) -> dict[str, Number] | None:
    """A block for a population, from its members' blocks: of every number the mean and the standard deviation.

    Args:
        blocks: of one kind, at least one member's.

    Returns:
        Numbers with the members' common protocol, `value` (the mean), `sd` (ddof 1, null for one member), `num_members`
        and the members' `values`; None where the members have no such block. A number that some members lack is left
        out.
    """
    if not blocks or blocks[0] is None:
        return None
    together: dict[str, Number] = {}
    for name, number in blocks[0].items():
        if not all(block and name in block for block in blocks):
            continue
        numbers = [block[name] for block in blocks if block]
        values = [each["value"] for each in numbers]
        alike = {field for field in number if all(each.get(field) == number[field] for each in numbers)}
        common = {field: number[field] for field in number if field in alike - {"value", "standard_error"}}
        together[name] = {
            "value": statistics.fmean(values),
            "sd": statistics.stdev(values) if len(values) > 1 else None,
            "num_members": len(values),
            "values": values,
            **common,
        }
    return together


def first(split: Split, num: int) -> dict[str, np.ndarray]:
    """The first `num` examples of a split, in memory."""
    index = np.arange(min(len(split["x"]), num))
    return {name: np.asarray(values[index]) for name, values in split.items()}


def count_parameters(state: State) -> int:
    """Trained numbers of all players."""
    return sum(leaf.size for player in state.players.values() for leaf in jax.tree.leaves(player.params))
