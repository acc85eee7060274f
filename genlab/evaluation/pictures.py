"""The figures of a run, drawn from what the algorithm can do: nothing here knows a family."""

import math
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genlab.algorithm import Algorithm, Array, Batch, Key, State
from genlab.errors import InputError
from genlab.evaluation.compression import Compression, are_activations
from genlab.evaluation.first_layer import incoming_weights
from genlab.evaluation.held_out import over_split
from genlab.evaluation.kinds import kind_of
from genlab.evaluation.neighbours import tsne_plane
from genlab.plots import codes as plot_codes
from genlab.plots import compression as plot_compression
from genlab.plots import curves as plot_curves
from genlab.plots import files, filters, latent, points, samples, series

Split = Mapping[str, Any]
Prepare = Callable[[Any], Any]

COLUMNS = 10
MANIFOLD_SIDE = 20
SCATTER_EXAMPLES = 2_000
PLANE_SIDE, PLANE_BATCH = 200, 500
SERIES = 15
COMPLETIONS = 3
CODE_VIEWS = ("pca", "tsne")
FINAL = (
    "samples", "samples_by_class", "completions", "density", "nearest_training", "reconstructions", "denoising",
    "interpolations", "latent_manifold", "latent_scatter", "code_histograms", "activations", "filters",
    "error_by_code_size",
)  # fmt: skip


def draw_samples_over_time(
    directory: pathlib.Path, algorithm: Algorithm, state: State, like: Split, prepare: Prepare, key: jax.Array
) -> None:
    """Adds a row, the samples of this step under a key that is the same at every step, and draws all rows.

    Rows are kept in samples_over_time.npz; those of later steps, which a killed run left, are dropped.
    """
    if algorithm.generate is None or np.ndim(like["x"]) != 4:
        return
    batch = prepare({name: np.asarray(values[:COLUMNS]) for name, values in like.items()})
    row = np.asarray(jax.jit(algorithm.generate)(state, batch, key))
    path = directory / "samples_over_time.npz"
    step = int(state.step)
    steps, rows = [step], [row]
    if path.exists():
        with np.load(path) as history:
            kept = history["steps"] < step
            steps, rows = [*history["steps"][kept].tolist(), step], [*history["rows"][kept], row]
    directory.mkdir(parents=True, exist_ok=True)
    save_arrays(path, steps=np.asarray(steps), rows=np.stack(rows))
    files.save(samples.samples_over_time(rows, steps), directory / "samples_over_time.png")


def draw_curves(directory: pathlib.Path, records: list[dict[str, Any]]) -> None:
    """The curves of metrics.jsonl, without times and what never changed."""
    first: dict[str, Any] = {}
    moving: dict[str, None] = {}  # in the order of appearance
    for record in records:
        for name, value in record.items():
            if value != first.setdefault(name, value) and name not in ("step", "split", "seconds"):
                moving[name] = None
    if moving:
        files.save(plot_curves.curves(records, list(moving)), directory / "curves.png")


def draw_samples_by_member(workdir: pathlib.Path) -> None:
    """A row of images for every member of a population that left samples."""
    members = sorted((workdir / "members").glob("*/samples.npz"), key=lambda path: int(path.parent.name))
    rows = []
    for path in members:
        with np.load(path) as arrays:
            if "images" in arrays:
                rows.append(arrays["images"][:COLUMNS].astype(np.float32) / 255)
    if rows:
        files.save(samples.samples(np.concatenate(rows), COLUMNS), workdir / "figures" / "samples_by_member.png")


def draw_final(
    directory: pathlib.Path,
    algorithm: Algorithm,
    state: State,
    test: Split,
    prepare: Prepare,
    key: jax.Array,
    generated: np.ndarray | None,
    log_density: Callable[[Any], Any] | None = None,
    *,
    corrupt: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
    compression: Compression | None = None,
    code_view: str = "pca",
    activation_target: float | None = None,
    by_class: bool = False,
) -> None:
    """Whatever the algorithm can be looked at by: samples, reconstructions, codes, filters, manifold, interpolations.

    Args:
        directory: of the figures.
        algorithm, state: the trained model.
        test: raw examples the model was not trained on.
        prepare: raw batch -> batch.
        key: fixed, so that the figures of two runs show the same noise.
        generated: samples [N, ...], or None.
        log_density: of the data where it is known; points only.
        corrupt: (key, x) -> x~, of prepared images, where the model is to restore them.
        compression: what was measured of the codes.
        code_view: how codes of more than two numbers are laid out in the plane: "pca" | "tsne".
        activation_target: the mean activation that was asked of each unit of the code, where one was.
        by_class: whether the model is told a class, so that samples of each can be shown.

    Raises:
        InputError: another code_view.
    """
    if code_view not in CODE_VIEWS:
        raise InputError(f"code_view is {code_view!r}; it must be one of {', '.join(map(repr, CODE_VIEWS))}")
    for name in FINAL:  # of an evaluation that asked for other things
        (directory / f"{name}.png").unlink(missing_ok=True)
    kind = kind_of(test["x"])
    if kind == "text":  # is read, not looked at
        return
    images = kind == "images"
    shown = prepare({name: np.asarray(values[:SCATTER_EXAMPLES]) for name, values in test.items()})
    if generated is not None and images:
        files.save(samples.samples(generated[: COLUMNS * COLUMNS], COLUMNS), directory / "samples.png")
    if generated is not None and images and by_class:
        draw_samples_by_class(directory, algorithm, state, test, prepare, key)
    if generated is not None and kind == "points":
        data, drawn = np.asarray(shown["x"]), generated[:SCATTER_EXAMPLES]
        limits = plane_limits(data) if data.shape[1] > 1 else None
        if limits is None:
            pad = 0.15 * float(np.ptp(data))
            reach = float(data.min()) - pad, float(data.max()) + pad
            figure = points.line_densities({"data": data, "samples": drawn}, log_density, reach)
        elif log_density is None:
            figure = points.point_clouds({"data": data, "samples": drawn}, limits)
        else:
            truth = np.exp(np.asarray(log_density(points.plane(limits, PLANE_SIDE))))
            figure = points.points_and_density(drawn, truth.reshape(PLANE_SIDE, PLANE_SIDE), limits)
        files.save(figure, directory / "samples.png")
    if algorithm.log_prob is not None and algorithm.density in ("exact", "bound") and np.shape(test["x"])[1:] == (2,):
        draw_density(directory, algorithm, state, test, np.asarray(shown["x"]), key, generated, log_density)
    if generated is not None and kind == "series":
        files.save(series.series_rows({"sample": generated[:SERIES]}), directory / "samples.png")
    if algorithm.complete is not None and images:
        draw_completions(directory, algorithm, state, shown, key)
    if algorithm.encode is None:
        return
    encode = jax.jit(algorithm.encode)
    codes = np.asarray(encode(state, shown, key))
    draw_codes(directory, codes, np.asarray(shown["label"]) if "label" in shown else None, code_view,
               prior=has_normal_prior(algorithm), target=activation_target)  # fmt: skip
    if images and (kernel := incoming_weights(encode, state, shown, key)) is not None:
        files.save(filters.filters(kernel, shown["x"].shape[1:]), directory / "filters.png")
    if kind != "points" and compression is not None and compression.block["reconstruction_mse"]["value"] > 0:
        draw_compression(directory, compression)
    if algorithm.decode is not None and kind == "series":
        draw_series(
            directory, np.asarray(shown["x"]), np.asarray(jax.jit(algorithm.decode)(state, codes[:SERIES], key))
        )
    if algorithm.decode is None or not images:
        return
    decode = jax.jit(algorithm.decode)
    originals = np.asarray(shown["x"][: 3 * COLUMNS])
    decoded = np.asarray(decode(state, jnp.asarray(codes[: 3 * COLUMNS]), key))
    files.save(samples.reconstructions(originals, decoded, COLUMNS), directory / "reconstructions.png")
    if corrupt is not None:
        corrupted = jax.jit(corrupt)(jax.random.fold_in(key, 1), jnp.asarray(originals))
        few = {name: values[: len(originals)] for name, values in shown.items()}
        restored = decode(state, encode(state, {**few, "x": corrupted}, key), key)
        rows = {"original": originals, "corrupted": np.asarray(corrupted), "restored": np.asarray(restored)}
        files.save(samples.image_rows(rows, COLUMNS), directory / "denoising.png")
    weights = np.linspace(0, 1, COLUMNS, dtype=np.float32)[None, :, None]
    rows = min(6, len(codes) // 2)
    starts, ends = codes[:rows, None], codes[rows : 2 * rows, None]
    between = ((1 - weights) * starts + weights * ends).reshape(-1, codes.shape[1])  # [rows, columns, D] -> [.., D]
    walked = np.asarray(decode(state, jnp.asarray(between), key))
    walked = walked.reshape(len(starts), COLUMNS, *walked.shape[1:])
    files.save(samples.interpolations(walked), directory / "interpolations.png")
    if codes.shape[1] == 2 and has_normal_prior(algorithm):
        grid = np.asarray(decode(state, jnp.asarray(latent.manifold_codes(MANIFOLD_SIDE)), key))
        figure = latent.latent_manifold(grid, latent.normal_quantiles(MANIFOLD_SIDE))
        files.save(figure, directory / "latent_manifold.png")


def draw_samples_by_class(
    directory: pathlib.Path, algorithm: Algorithm, state: State, like: Split, prepare: Prepare, key: jax.Array
) -> None:
    """Images of each of the first ten classes, a row with its number; down a column the noise is the same."""
    assert algorithm.generate is not None
    classes, rows = np.unique(np.asarray(like["label"]))[:COLUMNS], np.arange(COLUMNS) % len(like["x"])
    batch = prepare({name: np.asarray(values[rows]) for name, values in like.items()})
    generate = jax.jit(algorithm.generate)
    of_class = [generate(state, {**batch, "label": jnp.full(COLUMNS, one, jnp.int32)}, key) for one in classes]
    figure = samples.samples(np.concatenate(of_class), COLUMNS, [str(one) for one in classes])
    files.save(figure, directory / "samples_by_class.png")


def draw_density(
    directory: pathlib.Path,
    algorithm: Algorithm,
    state: State,
    test: Split,
    data: np.ndarray,
    key: jax.Array,
    generated: np.ndarray | None,
    log_density: Callable[[Any], Any] | None,
) -> None:
    """The density of a model of points in the plane, or its estimate from below, beside the true one where it is known.

    Of a model that is told the class it is the mixture sum_y q(y) p(x | y) by the shares q of the test split's classes.

    Args:
        directory: of the figures.
        algorithm, state: a model with log_prob.
        test: whose classes are counted.
        data: f[N, 2], what the map is drawn around.
        key: of the draws of an estimate.
        generated: samples [N, 2], or None.
        log_density: f32[N, 2] -> f32[N], nats, or None.
    """
    assert algorithm.log_prob is not None
    log_prob = algorithm.log_prob
    if algorithm.conditional:
        classes, counts = np.unique(np.asarray(test["label"]), return_counts=True)
        log_prob = mixture(log_prob, classes, counts / counts.sum())
    limits = plane_limits(data)
    # an estimate by many draws, as a bound can be, is dear at every point
    side = PLANE_SIDE if algorithm.density == "exact" else PLANE_SIDE // 2
    plane = points.plane(limits, side)
    log_model = over_split(log_prob, lambda batch: batch, PLANE_BATCH)(state, {"x": plane}, key)
    truth = None if log_density is None else np.exp(np.asarray(log_density(plane))).reshape(side, side)
    with np.errstate(over="ignore"):  # the figure says where it is not finite
        model = np.exp(log_model.astype(np.float64)).reshape(side, side)
    drawn = None if generated is None else generated[:SCATTER_EXAMPLES]
    files.save(points.density_maps(model, limits, truth, drawn), directory / "density.png")


def mixture(
    log_prob: Callable[[State, Batch, Key], Array], classes: np.ndarray, weights: np.ndarray
) -> Callable[[State, Batch, Key], Array]:
    """log sum_y q(y) p(x | y) f32[B], in nats, from the log p(x | y) of an algorithm that is told the class.

    Args:
        log_prob: an Algorithm's.
        classes: i[K].
        weights: f[K] > 0, their q.
    """

    def log_mixture(state: State, batch: Batch, key: Key) -> Array:
        def of_class(label: Array) -> Array:
            return log_prob(state, {**batch, "label": jnp.full(len(batch["x"]), label)}, key)

        by_class = jax.lax.map(of_class, jnp.asarray(classes, jnp.int32))  # [K, B]
        return jax.nn.logsumexp(by_class + jnp.log(jnp.asarray(weights, jnp.float32))[:, None], axis=0)

    return log_mixture


def draw_completions(
    directory: pathlib.Path, algorithm: Algorithm, state: State, shown: Mapping[str, Any], key: jax.Array
) -> None:
    """The first images of a batch, what the model is told of them, their upper half, and what it makes of that."""
    assert algorithm.complete is not None
    few = {name: jnp.asarray(values[:COLUMNS]) for name, values in shown.items()}
    height, *rest = few["x"].shape[1:]
    known = height // 2 * math.prod(rest)
    complete = jax.jit(algorithm.complete)
    rows = {"original": few["x"], "upper half": few["x"].at[:, height // 2 :].set(0.0)}
    for number in range(COMPLETIONS):
        rows[f"completion {number + 1}"] = complete(state, few, jnp.int32(known), jax.random.fold_in(key, number))
    files.save(samples.image_rows({name: np.asarray(row) for name, row in rows.items()}, COLUMNS),
               directory / "completions.png")  # fmt: skip


def draw_nearest_training(
    directory: pathlib.Path, generated: np.ndarray, nearest: np.ndarray, distances: np.ndarray
) -> None:
    """Samples above the training images they are nearest to: the first ones, and the nearest of all, likely copies.

    Args:
        directory: of the figures.
        generated: f32[N, H, W, C] in [0, 1].
        nearest: [N, H, W, C], to each its training image.
        distances: f[N], how far that is.
    """
    closest = np.argsort(distances, kind="stable")[:COLUMNS]
    first = np.arange(len(closest))
    rows = {}
    for kind, chosen in (("sample", first), ("most alike", closest)):
        rows |= {kind: generated[chosen], f"{kind}: nearest": nearest[chosen]}
    files.save(samples.image_rows(rows, COLUMNS), directory / "nearest_training.png")


def has_normal_prior(algorithm: Algorithm) -> bool:
    """Whether codes are modelled by N(0, I), as those of a game are and those of a VAE may be."""
    return algorithm.density == "implicit" or (algorithm.latents is not None and algorithm.latents.standard_normal)


def draw_codes(
    directory: pathlib.Path,
    codes: np.ndarray,
    labels: np.ndarray | None,
    code_view: str,
    prior: bool,
    target: float | None,
) -> None:
    """The distribution of codes f[N, D], number by number and in the plane; of activations, how much they are used."""
    files.save(plot_codes.code_histograms(codes, prior=prior), directory / "code_histograms.png")
    if are_activations(codes):
        files.save(plot_codes.activation_histograms(codes, target), directory / "activations.png")
    plane, axis_names = codes, ("$z_1$", "$z_2$")
    if codes.shape[1] > 2:
        if code_view == "tsne" and len(codes) > 3:
            plane, axis_names = tsne_plane(codes), ("first coordinate of t-SNE", "second coordinate of t-SNE")
            labels = None if labels is None else labels[: len(plane)]
        else:
            plane, axis_names = principal_plane(codes), ("first principal component", "second principal component")
    if codes.shape[1] >= 2:
        files.save(latent.latent_scatter(plane, labels, axis_names=axis_names), directory / "latent_scatter.png")


def draw_series(directory: pathlib.Path, originals: np.ndarray, decoded: np.ndarray) -> None:
    """The first of the time series f[N, T, C], each beneath what became of it."""
    rows = {"original": originals[: len(decoded)], "reconstruction": decoded}
    files.save(series.series_rows(rows), directory / "reconstructions.png")


def draw_compression(directory: pathlib.Path, compression: Compression) -> None:
    """The model's error among PCA's: at the size of its code and, if it is sparse, at the units an example uses."""
    pca, mse = compression.pca_mse[1:], compression.block["reconstruction_mse"]
    found = {"this model": (mse["code_size"], mse["value"])}
    if (active := compression.block.get("active_units", {"value": 0})["value"]) > 0:
        found["this model, by its active units"] = (active, mse["value"])
    figure = plot_compression.error_by_code_size(np.arange(1, len(pca) + 1), pca, found)
    files.save(figure, directory / "error_by_code_size.png")


def save_arrays(path: pathlib.Path, **arrays: Any) -> None:
    """Writes an npz whole or not at all, since a killed run reads it again."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(temporary, path)


def principal_plane(codes: np.ndarray) -> np.ndarray:
    """f[N, D] -> f[N, 2], the projection on the first two principal components."""
    centred = codes - codes.mean(axis=0)
    return centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T


def plane_limits(data: np.ndarray, margin: float = 0.15) -> tuple[float, float, float, float]:
    """(left, right, bottom, top) around points f[N, 2]."""
    (left, bottom), (right, top) = data.min(axis=0), data.max(axis=0)
    pad = margin * max(right - left, top - bottom)
    return float(left - pad), float(right + pad), float(bottom - pad), float(top + pad)
