"""The novelty detectors of one class: PCA, PCA of equal contrast, and the model of the config."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from experiments import autoencoder, autoregressive, flow
from experiments.assembly import assemble_solo
from genlab import data
from genlab.algorithm import Algorithm, Batch, State
from genlab.evaluation.card import count_parameters
from genlab.evaluation.held_out import over_split
from genlab.evaluation.novelty import auroc, score
from genlab.models.pca import pca
from genlab.training import display, loop

KEY = jax.random.key(0)
MODELS = {"autoencoder": autoencoder.build, "flow": flow.build, "autoregressive": autoregressive.build}
PROTOCOL = (
    "One class is normal. Its training images, but some held out, train the model; those held out choose k of PCA and "
    "the step of the model, and set the threshold. The test is the whole test split, the other classes being "
    "anomalies. k is the one whose score best tells the held-out images from the same turned by 90 degrees, the step "
    "is the one of least held-out loss; no anomaly is seen before the test."
)
LEAST_CONTRAST = 1e-3  # the standard deviation below which an image of [0, 1] is left almost blank


class Detected(NamedTuple):
    """What one detector gives.

    Attributes:
        held_out: f64[n], scores of the normal images that were held out of training.
        test: f64[N], of the whole test split.
        facts: for the record: k, the step, the number of parameters.
    """

    held_out: np.ndarray
    test: np.ndarray
    facts: dict[str, Any]


def detect(
    config: ml_collections.ConfigDict, dataset: data.Dataset, label: int, directory: pathlib.Path
) -> dict[str, Detected]:
    """Every detector of one class, by name; `directory` is the run's."""
    normal = of_class(dataset, label)
    code_dims = config.novelty.pca_code_dims
    found = {"pca": detect_by_pca(normal, code_dims, config.evaluation.batch_size, lambda algorithm: algorithm)}
    if config.novelty.contrast:
        found["pca_contrast"] = detect_by_pca(normal, code_dims, config.evaluation.batch_size, of_equal_contrast)
    found[config.novelty.model] = detect_by_model(config, normal, directory)
    return found


def of_class(dataset: data.Dataset, label: int) -> data.Dataset:
    """The data set with the training and validation images of one class only; the test split is whole."""

    def only(split: data.Split) -> dict[str, np.ndarray]:
        index = np.flatnonzero(np.asarray(split["label"]) == label)
        return {name: np.asarray(column[index]) for name, column in split.items()}

    return dataset._replace(train=only(dataset.train), validation=only(dataset.validation))


def of_equal_contrast(algorithm: Algorithm) -> Algorithm:
    """The same algorithm on images that have each been brought to mean 0 and standard deviation 1.

    A score is then not lower for an image with less ink. `decode` gives normalized images.

    Reference: Goodfellow, Bengio & Courville 2016, section 12.2.1.1, "global contrast normalization".
    """

    def seen(batch: Batch) -> Batch:
        axes = tuple(range(1, batch["x"].ndim))
        centred = batch["x"] - jnp.mean(batch["x"], axis=axes, keepdims=True)
        contrast = jnp.sqrt(jnp.mean(jnp.square(centred), axis=axes, keepdims=True))
        return {**batch, "x": centred / jnp.maximum(contrast, LEAST_CONTRAST)}

    def of_state(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda state, batch, key: function(state, seen(batch), key)

    return algorithm._replace(
        init=lambda key, batch: algorithm.init(key, seen(batch)),
        step=of_state(algorithm.step),
        evaluate=of_state(algorithm.evaluate),
        encode=algorithm.encode and of_state(algorithm.encode),
        log_prob=algorithm.log_prob and of_state(algorithm.log_prob),
    )


def detect_by_pca(
    normal: data.Dataset, code_dims: tuple[int, ...], batch_size: int, wrap: Callable[[Algorithm], Algorithm]
) -> Detected:
    """The residual of PCA with the k that best tells held-out images from the same turned by 90 degrees.

    (The k of highest held-out likelihood, or of least held-out error, is the largest: more components always describe
    normal images better, and anomalies too.)
    """
    most = min(max(code_dims), len(normal.train["x"]), normal.train["x"][0].size)
    algorithm = wrap(pca(most))
    batch = data.prepare({"x": jnp.asarray(normal.train["x"])})
    state, _ = jax.jit(algorithm.step)(jax.jit(algorithm.init)(KEY, batch), batch, KEY)
    encode = algorithm.encode
    assert encode is not None
    measured = over_split(
        lambda state, batch, key: (encode(state, batch, key), algorithm.evaluate(state, batch, key)["squared_error"]),
        data.prepare,
        batch_size,
    )

    def residuals(images: np.ndarray) -> dict[int, np.ndarray]:
        codes, beyond = (each.astype(np.float64) for each in measured(state, {"x": images}, KEY))
        # components are orthonormal: what k of them leave is what all leave and the codes of the others
        return {k: beyond + np.square(codes[:, k:]).sum(axis=1) for k in sorted({min(k, most) for k in code_dims})}

    held_out = np.asarray(normal.validation["x"])
    normals, turned = residuals(held_out), residuals(np.rot90(held_out, axes=(1, 2)))
    telling = {k: auroc(normals[k], turned[k]) for k in normals}
    best = max(telling, key=lambda k: (telling[k], -k))
    test = residuals(np.asarray(normal.test["x"]))[best]
    return Detected(normals[best], test, {"k": best, "choice_auroc": {str(k): value for k, value in telling.items()}})


def detect_by_model(config: ml_collections.ConfigDict, normal: data.Dataset, directory: pathlib.Path) -> Detected:
    """The score of the config's model at the step of least held-out loss."""
    build = MODELS[config.novelty.model]
    wrap = of_equal_contrast if config.novelty.contrast else lambda algorithm: algorithm
    assembly = assemble_solo(config, normal, lambda config, dataset: wrap(build(config, dataset)))
    (member,) = assembly.members
    size = config.evaluation.batch_size
    evaluate = over_split(member.algorithm.evaluate, data.prepare, size)
    best: tuple[float, int, State] | None = None

    def keep_best(step: int, now: loop.Progress) -> None:
        nonlocal best
        state = jax.device_get(now.state)
        loss = float(np.mean(evaluate(state, normal.validation, KEY)["loss"]))
        if best is None or loss < best[0]:
            best = loss, step, state

    now = assembly.start()
    loop.fit(
        assembly.compile_steps(directory, now),
        assembly.batches.read,
        now,
        num_steps=config.num_steps,
        steps_per_call=config.steps_per_call,
        log_every_steps=0,
        log=lambda step, means: None,
        actions=[loop.Action(config.eval_every_steps, keep_best)],
        show=display.progress_line(config.num_steps),
    )
    assembly.close()
    assert best is not None
    _, step, state = best
    by = config.novelty.score
    held_out, test = (
        score(member.algorithm, state, split, data.prepare, KEY, size, by) for split in (normal.validation, normal.test)
    )
    return Detected(held_out, test, {"step": step, "num_params": count_parameters(state)})
