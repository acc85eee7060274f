"""Class-conditional densities p(x | y) of a trained model and of PPCA, and what they say of sets of images."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from experiments.representation import as_trained
from genlab import data
from genlab.algorithm import Algorithm, PyTree, State, new_player, new_state
from genlab.evaluation.bayes_classifier import class_log_probs, labelled, posterior
from genlab.evaluation.held_out import over_split
from genlab.evaluation.rejection import within_class
from genlab.models.pca import fit, pca
from genlab.training import display

KEY_DENSITY, KEY_TERMS = jax.random.split(jax.random.key(0))
TERMS = ("log_likelihood", "kl")  # of `evaluate`, where a model has them


class ClassDensities(NamedTuple):
    """p(x | y) of one method.

    Attributes:
        seen: raw split -> split as the method sees it.
        log_probs: such a split -> log p(x | y), f32[N, C] in nats.
        terms: such a split, classes i[N] -> {name: f32[N]}, what else can be measured of x under a class.
        facts: for the record.
    """

    seen: Callable[[data.Split], data.Split]
    log_probs: Callable[[data.Split], np.ndarray]
    terms: Callable[[data.Split, np.ndarray], dict[str, np.ndarray]]
    facts: dict[str, Any]


class Scored(NamedTuple):
    """What a method says of one set of N images.

    Attributes:
        log_posterior: f64[N, C], log p(y | x).
        scores: f64[N, S], a table as of `rejection`; its first column is log p(x) in nats.
    """

    log_posterior: np.ndarray
    scores: np.ndarray


def of_model(
    config: ml_collections.ConfigDict, algorithm: Algorithm, state: State, num_classes: int, **facts: Any
) -> ClassDensities:
    """Those of a model whose log_prob heeds labels."""
    size = config.evaluation.batch_size

    def log_probs(split: data.Split) -> np.ndarray:
        show = display.progress_line(num_classes * len(split["x"]), unit="likelihood")
        return class_log_probs(algorithm, state, split, data.prepare, KEY_DENSITY, size, num_classes, show)

    def terms(split: data.Split, classes: np.ndarray) -> dict[str, np.ndarray]:
        found = over_split(algorithm.evaluate, data.prepare, size)(state, labelled(split, classes), KEY_TERMS)
        return {name: found[name] for name in TERMS if name in found}

    return ClassDensities(functools.partial(as_trained, config), log_probs, terms, facts)


def of_ppca(
    dataset: data.Dataset, code_dims: tuple[int, ...], batch_size: int, log_prior: np.ndarray
) -> ClassDensities:
    """Those of PPCA, fitted to each class's grey images; one k for all, that of the best validation accuracy."""
    train, labels = np.asarray(dataset.train["x"]), np.asarray(dataset.train["label"])
    dims = sorted({min(k, train[0].size) for k in code_dims})
    fit_most = jax.jit(functools.partial(fit, code_dim=dims[-1]))
    fits = [fit_most(data.prepare({"x": jnp.asarray(train[labels == label])})["x"]) for label in range(len(log_prior))]

    def measured(k: int, split: data.Split) -> list[dict[str, np.ndarray]]:
        """What `evaluate` gives under every class."""
        measure = over_split(pca(k).evaluate, data.prepare, batch_size)
        states = [new_state({"pca": new_player(truncated(params, k), optax.identity())}) for params in fits]
        return [measure(state, {"x": split["x"]}, KEY_TERMS) for state in states]

    def log_probs(k: int, split: data.Split) -> np.ndarray:
        return np.stack([-each["loss"] for each in measured(k, split)], axis=1)

    def terms(split: data.Split, classes: np.ndarray) -> dict[str, np.ndarray]:
        errors = np.stack([each["squared_error"] for each in measured(best, split)], axis=1)
        return {"squared_error": np.take_along_axis(errors, classes[:, None], axis=1)[:, 0]}

    truth = np.asarray(dataset.validation["label"])
    found = {k: posterior(log_probs(k, dataset.validation), log_prior)[0].argmax(axis=1) == truth for k in dims}
    accuracy = {k: float(np.mean(each)) for k, each in found.items()}
    best = max(dims, key=lambda k: (accuracy[k], -k))
    facts = {"k": best, "validation_accuracy_by_k": {str(k): each for k, each in accuracy.items()}}
    return ClassDensities(lambda split: split, functools.partial(log_probs, best), terms, facts)


def truncated(params: PyTree, k: int) -> PyTree:
    """The fit of PPCA with the first k of its components: what the others explained is noise."""
    size, most = params["components"].shape
    variances, noise = params["variances"], params["noise_variance"]
    if k < most:
        noise = (noise * (size - most) + jnp.sum(variances[k:])) / (size - k)
    return {
        **params,
        "components": params["components"][:, :k],
        "variances": variances[:k],
        "noise_variance": noise,
    }


def score_sets(
    densities: ClassDensities, sets: Mapping[str, data.Split], log_prior: np.ndarray
) -> tuple[dict[str, Scored], list[str]]:
    """What a method says of every set, and what the columns of its scores are.

    Args:
        densities: the method's.
        sets: name -> raw split; "validation" is what a class's likelihoods are compared to.
        log_prior: f64[C].
    """
    seen = {name: np.asarray(densities.seen({"x": split["x"]})["x"]) for name, split in sets.items()}
    whole = {"x": np.concatenate(list(seen.values()))}  # one pass: small sets need no chunks of their own
    starts = np.cumsum([0, *map(len, seen.values())])
    rows = {name: slice(*starts[i : i + 2]) for i, name in enumerate(seen)}
    log_posterior, log_evidence = posterior(densities.log_probs(whole), log_prior)
    predicted, known = log_posterior.argmax(axis=1), np.zeros(len(whole["x"]), bool)
    known[rows["validation"]] = True
    columns = {
        "log_density": log_evidence,
        "log_density_within_class": within_class(log_evidence, predicted, known),
        **densities.terms(whole, predicted),
    }
    scores = np.stack(list(columns.values()), axis=1)
    return {name: Scored(log_posterior[part], scores[part]) for name, part in rows.items()}, list(columns)
