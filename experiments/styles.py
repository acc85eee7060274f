"""Looks inside a trained ProGAN, StyleGAN or StyleGAN2: styles mixed, noise taken away, w truncated, images projected.

python -m experiments.styles --workdir=RUN [--num_projected=6] [--projection_steps=500] [--num_paths=2000]
                                           [--style_seed=0]

RUN is the workdir of a finished run of experiments.stylegan. Leaves RUN/styles/: mixing.png, noise.png, truncation.png,
projection.png (of test images), interpolation.gif (in W), growth.gif (the same codes through all stages) and
styles.json with perceptual path lengths in Z and W and distances of projections, in the features of the run's
extractor. A ProGAN has no styles: of it there are interpolation, growth, truncation and path lengths.
"""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import stylegan
from experiments.extractor import cached_classifier
from experiments.launch import WORKDIR, launch_tool
from experiments.results import write_json
from experiments.trained import Trained, open_run
from genlab.algorithm import Array, Key
from genlab.errors import InputError
from genlab.evaluation import features, interpolation, style_space
from genlab.models.painters import Painter, truncate

NUM_PROJECTED = flags.DEFINE_integer("num_projected", 6, "Test images that are projected into W.", lower_bound=0)
PROJECTION_STEPS = flags.DEFINE_integer("projection_steps", 500, "Of the optimizer.", lower_bound=1)
NUM_PATHS = flags.DEFINE_integer("num_paths", 2_000, "Whose perceptual length is taken; 0: none.", lower_bound=0)
STYLE_SEED = flags.DEFINE_integer("style_seed", 0, "Of all draws.", lower_bound=0)

ROWS, COLUMNS, FRAMES, DRAWS = 5, 8, 25, 50
PSIS = (1.0, 0.7, 0.5, 0.25, 0.0, -0.5)
PATHS_AT_ONCE = 50


class Studio(NamedTuple):
    """A trained painter with its weights.

    Attributes:
        painter: of which.
        map: codes f32[B, D] -> w f32[B, F].
        paint: (w of every layer f32[B, L, F], noise) -> images f32[B, R, R, C] in about [0, 1].
        mean: of w, f32[F].
        latent_dim: D.
    """

    painter: Painter
    map: Callable[[Array], Array]
    paint: style_space.Paint
    mean: Array
    latent_dim: int

    def codes(self, key: Key, num: int) -> Array:
        """z f32[num, D]."""
        return jax.random.normal(key, (num, self.latent_dim))

    def silence(self) -> list[Array]:
        """Noise maps of zeros."""
        return [jnp.zeros_like(each) for each in self.noise(jax.random.key(0), 1)]

    def noise(self, key: Key, num: int) -> list[Array]:
        """Noise maps of `num` images."""
        return self.painter.draw_noise(key, num, self.painter.resolution)


def open_studio(run: Trained) -> Studio:
    """The average weights of a run, where it kept an average."""
    made_by = run.card["experiment"]
    if made_by != "experiments.stylegan":
        raise InputError(f"{run.directory} was made by {made_by}; styles are those of experiments.stylegan")
    painter, gen = stylegan.networks(run.config, run.dataset).painter, run.state.players["gen"]
    params, stats = run.state.average.get("gen", gen.params), run.state.average.get("gen_stats", gen.stats)
    return Studio(
        painter,
        jax.jit(lambda codes: painter.map(params, codes)),
        lambda styles, noise: 0.5 * (painter.paint(params, styles, noise, painter.resolution, 1.0) + 1.0),
        stats["w_mean"],
        run.config.model.latent_dim,
    )


def main(arguments: list[str]) -> None:
    """Draws what there is to draw, measures what can be measured, and says where it lies."""
    from genlab.evaluation.numbers import format_number

    if arguments or not WORKDIR.value:
        raise InputError("give the run as --workdir=RUN" + (f", not {arguments[0]!r}" if arguments else ""))
    run = open_run(WORKDIR.value)
    studio, directory = open_studio(run), run.directory / "styles"
    directory.mkdir(exist_ok=True)
    key_figures, key_paths, key_projection = jax.random.split(jax.random.key(STYLE_SEED.value), 3)
    draw(directory, run, studio, key_figures)
    found, extract = {}, extractor_of(run)
    if extract is not None and NUM_PATHS.value:
        print("measuring the length of paths", flush=True)
        found["path_length"] = path_lengths(studio, extract, key_paths)
    if extract is not None and NUM_PROJECTED.value and studio.painter.num_layers(studio.painter.resolution) > 1:
        print("projecting test images into W", flush=True)
        found["projection"] = projected(directory, run, studio, extract, key_projection)
    write_json(directory / "styles.json", {"seed": STYLE_SEED.value, **found})
    print(f"styles  {directory}: {', '.join(sorted(path.name for path in directory.iterdir()))}")
    for block, numbers in found.items():
        for name, number in numbers.items():
            print(f"{block:12} {name:20} {format_number(number)}")


def extractor_of(run: Trained) -> Callable[[Array], Array] | None:
    """Images f32[B, H, W, C] -> features at length one of our classifier of the run's data; None without labels."""
    if "label" not in run.dataset.train:
        print("no labels, so no classifier in whose features lengths and distances are taken")
        return None
    classifier = cached_classifier(run.dataset)[0]
    return lambda images: features.directions(classifier, images)


def path_lengths(studio: Studio, extract: Callable[[Array], Array], key: Key) -> dict[str, style_space.Number]:
    """In Z, along great circles, and in W, along straight lines."""

    def ends(key: Key, num: int) -> tuple[Array, Array]:
        first, second = jax.random.split(key)
        return studio.codes(first, num), studio.codes(second, num)

    def mapped_ends(key: Key, num: int) -> tuple[Array, Array]:
        first, second = ends(key, num)
        return studio.map(first), studio.map(second)

    paint = lambda w, key: studio.paint(studio.painter.broadcast(w), studio.noise(key, len(w)))

    def circle(first: Array, second: Array, t: Array) -> Array:
        return jax.vmap(lambda a, b, t: interpolation.spherical(a[None], b[None], t[None])[0, 0])(first, second, t)

    line = lambda first, second, t: first + t[:, None] * (second - first)
    spaces = {
        "z": (ends, circle, lambda z, key: paint(studio.map(z), key)),
        "w": (mapped_ends, line, paint),
    }
    num = max(NUM_PATHS.value // PATHS_AT_ONCE, 1) * PATHS_AT_ONCE
    return {
        name: {
            "space": name, "extractor": f"{features.NUM_FEATURES} features of our classifier, at length 1",
            **style_space.path_length(*space, extract, key, num, PATHS_AT_ONCE),
        }
        for name, space in spaces.items()
    }  # fmt: skip


def projected(
    directory: pathlib.Path, run: Trained, studio: Studio, extract: Callable[[Array], Array], key: Key
) -> dict[str, style_space.Number]:
    """Draws test images above what was found for them, and says how near that is, beside the mean image."""
    from genlab.plots import files, samples

    key_codes, key_noise, key_steps = jax.random.split(key, 3)
    num = min(NUM_PROJECTED.value, len(run.dataset.test["x"]))
    targets = features.intensities(jnp.asarray(run.dataset.test["x"][np.arange(num)]))

    def distance(images: Array, targets: Array) -> Array:
        """Of features, and a tenth of that of pixels: our features see little of a stroke's place."""
        pixels = jnp.mean(jnp.square(images - targets), axis=(1, 2, 3))
        return jnp.sum(jnp.square(extract(images) - extract(targets)), axis=1) + pixels

    found = style_space.project(
        targets, studio.paint, distance, studio.map(studio.codes(key_codes, style_space.NUM_CODES)),
        studio.painter.num_layers(studio.painter.resolution), studio.noise(key_noise, num), key_steps,
        PROJECTION_STEPS.value,
    )  # fmt: skip
    rows = {"test images": np.asarray(targets), "projected": np.asarray(found.images)}
    files.save(samples.image_rows(rows, columns=num), directory / "projection.png")
    pixels = np.asarray(jnp.mean(jnp.square(found.images - targets), axis=(1, 2, 3)))
    return {
        "squared_error": {"value": float(pixels.mean()), "unit": "per pixel", "split": "test", "n": num,
                          "steps": PROJECTION_STEPS.value},
        "distance_at_first": {"value": float(found.distances[0].mean()), "n": num},
        "distance_at_last": {"value": float(found.distances[-1].mean()), "n": num},
    }  # fmt: skip


def draw(directory: pathlib.Path, run: Trained, studio: Studio, key: Key) -> None:
    """All figures and films."""
    from genlab.plots import animation, files, styles

    key_rows, key_columns, key_noise, key_film = jax.random.split(key, 4)
    silence, broadcast = studio.silence(), studio.painter.broadcast
    w = studio.map(studio.codes(key_rows, ROWS))
    others = studio.map(studio.codes(key_columns, COLUMNS))
    paint = jax.jit(studio.paint)
    truncated = np.asarray([paint(broadcast(truncate(w, studio.mean, psi)), silence) for psi in PSIS])
    names = [f"psi = {psi:g}" for psi in PSIS]
    files.save(styles.named_columns(truncated.swapaxes(0, 1), names), directory / "truncation.png")

    ends = studio.map(studio.codes(key_film, 2 * ROWS))
    film = np.asarray([paint(broadcast((1 - t) * ends[:ROWS] + t * ends[ROWS:]), silence)
                       for t in np.linspace(0, 1, FRAMES, dtype=np.float32)])  # fmt: skip
    animation.save_gif(film, directory / "interpolation.gif", columns=ROWS)
    over_time = run.directory / "figures" / "samples_over_time.npz"
    if over_time.exists() and run.algorithm.stages:
        with np.load(over_time) as history:
            frames = np.clip(history["rows"], 0.0, 1.0)
        animation.save_gif(frames, directory / "growth.gif", frames_per_second=4.0, there_and_back=False)
    if not silence:
        return
    grids = {
        name: style_space.mixing_grid(studio.paint, broadcast(w), broadcast(others), layers, silence)
        for name, layers in layer_groups(studio).items()
    }
    files.save(styles.mixing(grids), directory / "mixing.png")

    kinds = {"all noise": lambda n: True, "coarse": lambda n: n < len(silence) // 2,
             "fine": lambda n: n >= len(silence) // 2, "none": lambda n: False}  # fmt: skip
    drawn = studio.noise(key_noise, 1)
    shown = [paint(broadcast(w), [d if keep(n) else s for n, (d, s) in enumerate(zip(drawn, silence, strict=True))])
             for keep in kinds.values()]  # fmt: skip
    many = np.asarray([
        paint(broadcast(w), studio.noise(jax.random.fold_in(key_noise, draw), ROWS)) for draw in range(DRAWS)
    ])  # fmt: skip
    spread = many.mean(axis=-1).std(axis=0)[..., None].repeat(many.shape[-1], axis=-1)
    spread = spread / max(spread.max(), 1e-12)
    images = np.asarray([*shown, spread]).swapaxes(0, 1)
    files.save(styles.named_columns(images, [*kinds, "deviation"]), directory / "noise.png")


def layer_groups(studio: Studio) -> dict[str, range]:
    """Coarse, middle and fine layers: a quarter, a quarter and the rest, as 0-3, 4-7 and 8-17 of 1024x1024."""
    num = studio.painter.num_layers(studio.painter.resolution)
    ends = (0, max(num // 4, 1), max(num // 2, 2), num)
    return {f"{name}: layers {a} to {b - 1}": range(a, b)
            for name, a, b in zip(("coarse", "middle", "fine"), ends, ends[1:], strict=False)}  # fmt: skip


if __name__ == "__main__":
    launch_tool("experiments.styles", main, __doc__)
