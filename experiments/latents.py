"""What a trained model's latent space holds: walks, planes and class arithmetic to look at, and numbers in nats.

python -m experiments.latents --workdir=RUN [--num_pairs=500] [--classifier_steps=5000] [--seed=0]

RUN is the workdir of a finished run of a model with encode and decode; of a population's member RUN/members/0. Leaves
RUN/latents/: interpolations_linear.png, interpolations_spherical.png, traversals.png, attributes.png, manifold.png,
interpolation.gif and latents.json. Of what is no image there are the numbers alone; without labels no attributes and no
distances of midpoints, for which a classifier is trained (--classifier_steps) whose features they are taken in.
"""

import pathlib

import jax
import numpy as np
from absl import flags

from experiments.launch import WORKDIR, launch_tool
from experiments.representation import as_trained
from experiments.results import write_json
from experiments.trained import Trained, open_run
from genlab import data
from genlab.errors import InputError
from genlab.evaluation import card as cards
from genlab.evaluation import features, interpolation, latent_space
from genlab.evaluation.held_out import over_split
from genlab.training import display

NUM_PAIRS = flags.DEFINE_integer("num_pairs", 500, "Pairs of test images whose midpoints are measured.", lower_bound=1)
CLASSIFIER_STEPS = flags.DEFINE_integer("classifier_steps", 5_000, "Of the classifier's optimizer.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "Of the choice of examples and of all draws.", lower_bound=0)

ROWS, STEPS, FRAMES, SIDE, MAX_CLASSES = 6, 11, 25, 20, 10
MAX_TRAIN_EXAMPLES = 60_000  # that the classifier learns from, and among which the nearest is looked for
LOW, HIGH = 0.01, 0.99  # quantiles between which a dimension is walked


def main(arguments: list[str]) -> None:
    """Draws what there is to draw, measures what can be measured, and says where it lies."""
    from genlab.evaluation.numbers import format_number

    if arguments or not WORKDIR.value:
        raise InputError("give the run as --workdir=RUN" + (f", not {arguments[0]!r}" if arguments else ""))
    run = open_run(WORKDIR.value)
    for ability in ("encode", "decode"):
        if getattr(run.algorithm, ability) is None:
            needs_label = ability == "decode" and run.algorithm.latents is not None
            reason = ": its codes decode only with a label" if needs_label else ""
            raise InputError(
                f"{WORKDIR.value} holds a model without {ability}{reason}; there is no latent space to walk through"
            )
    key_figures, key_diagnostics, key_midpoints = jax.random.split(jax.random.key(SEED.value), 3)
    directory = run.directory / "latents"
    directory.mkdir(exist_ok=True)
    images, labelled = np.ndim(run.dataset.test["x"]) == 4, "label" in run.dataset.test
    if images:
        draw(directory, run, key_figures)
    seen, size = as_trained(run.config, run.dataset.test), run.config.evaluation.batch_size
    print("measuring how posteriors use the space", flush=True)
    found = {"diagnostics": latent_space.diagnostics_block(
        run.algorithm, run.state, seen, data.prepare, key_diagnostics, size
    )}  # fmt: skip
    if images and labelled:
        found |= midpoints(run, seen, key_midpoints)
    write_json(directory / "latents.json", {"seed": SEED.value, **found})
    print(f"latents  {directory}: {', '.join(sorted(path.name for path in directory.iterdir()))}")
    for block, numbers in found.items():
        for name, number in numbers.items():
            print(f"{block:20} {name:28} {format_number(number)}")


def midpoints(run: Trained, seen: data.Split, key: jax.Array) -> dict[str, dict[str, cards.Number]]:
    """Distances of midpoints in the features of a classifier that is trained here on grey training images.

    `midpoints` are between directions of features, `euclidean_midpoints` between the features themselves, which favour
    faint images.
    """
    key_classifier, key_pairs = jax.random.split(key)
    train, test = cards.first(run.dataset.train, MAX_TRAIN_EXAMPLES), cards.first(run.dataset.test, len(seen["x"]))
    steps = CLASSIFIER_STEPS.value
    print("training the classifier whose features distances are taken in", flush=True)
    classifier = features.train_classifier(
        train["x"], train["label"], run.dataset.num_classes, key_classifier, num_steps=steps,
        show=display.progress_line(steps),
    )  # fmt: skip
    print("looking for the training images nearest to midpoints", flush=True)
    spaces = {
        "midpoints": (features.directions, "at length 1"),
        "euclidean_midpoints": (lambda classifier, images: features.apply(classifier, images)[0], "as they are"),
    }
    blocks: dict[str, dict[str, cards.Number]] = {}
    for name, (extract, said) in spaces.items():
        blocks[name] = interpolation.midpoint_distances(
            run.algorithm, run.state, train, test, seen, data.prepare,
            lambda images, extract=extract: extract(classifier, images), key_pairs, run.config.evaluation.batch_size,
            num_pairs=NUM_PAIRS.value,
            extractor=f"{features.NUM_FEATURES} features {said}, of our classifier after {steps:,} steps",
        ) or {}  # fmt: skip
    right = features.accuracy(classifier, test["x"], test["label"])
    return {"classifier": {"classifier_accuracy": {"split": "test", **right}}, **blocks}


def draw(directory: pathlib.Path, run: Trained, key: jax.Array) -> None:
    """All figures and the animation."""
    from genlab.evaluation.pictures import has_normal_prior
    from genlab.plots import animation, files, latent, walks

    key_encode, key_decode, key_pairs = jax.random.split(key, 3)
    algorithm, state = run.algorithm, run.state
    assert algorithm.encode is not None
    encode = over_split(algorithm.encode, data.prepare, run.config.evaluation.batch_size)
    decode = lambda codes: latent_space.decoded(algorithm, state, codes, key_decode)
    grey = cards.first(run.dataset.test, cards.MAX_PROBE_EXAMPLES)
    train = cards.first(run.dataset.train, cards.MAX_PROBE_EXAMPLES)
    codes = encode(state, as_trained(run.config, train), key_encode)
    test_codes = encode(state, as_trained(run.config, grey), key_encode)
    shown = np.asarray(data.prepare({"x": jax.numpy.asarray(grey["x"])})["x"])

    labels = grey.get("label", np.arange(len(shown)))  # without labels every example is a class of its own
    first, second = interpolation.different_pairs(labels, 2 * ROWS, key_pairs)
    weights, fine = (np.linspace(0, 1, num, dtype=np.float32) for num in (STEPS, FRAMES))
    blend = np.asarray([(1 - t) * shown[first] + t * shown[second] for t in weights]).swapaxes(0, 1)  # [pairs, S, ...]
    for name, path in interpolation.PATHS.items():
        between = decode(np.asarray(path(test_codes[first], test_codes[second], weights))[:ROWS])
        files.save(walks.blends(between, blend[:ROWS], name), directory / f"interpolations_{name}.png")
    between = decode(np.asarray(interpolation.spherical(test_codes[first], test_codes[second], fine)))
    animation.save_gif(between.swapaxes(0, 1), directory / "interpolation.gif", columns=ROWS)

    dims = latent_space.most_used(codes, 2 * ROWS)
    values = np.quantile(codes[:, dims], np.linspace(LOW, HIGH, STEPS), axis=0).T
    walked = latent_space.traversals(algorithm, state, test_codes[first[0]], dims, values, key_decode)
    files.save(walks.traversals(walked, dims.tolist(), (f"{LOW:.0%}", f"{HIGH:.0%}")), directory / "traversals.png")

    if "label" in train:
        names, positions = np.unique(train["label"], return_inverse=True)
        vectors = latent_space.attribute_vectors(codes, positions, len(names))
        rows = [k for k in range(min(len(names), MAX_CLASSES)) if (labels == names[k]).any()]
        examples = np.array([np.argmax(labels == names[k]) for k in rows])
        targets = np.arange(min(len(names), MAX_CLASSES))
        exchanged = decode(latent_space.exchange(test_codes[examples], vectors, np.array(rows), targets))
        texts = [str(name) for name in names]
        figure = walks.attributes(shown[examples], exchanged, [texts[k] for k in rows], [texts[k] for k in targets])
        files.save(figure, directory / "attributes.png")

    if codes.shape[1] == 2 and has_normal_prior(algorithm):
        grid = decode(latent.manifold_codes(SIDE)[None])[0]
        files.save(latent.latent_manifold(grid, latent.normal_quantiles(SIDE)), directory / "manifold.png")
    elif codes.shape[1] >= 2:
        plane = decode(latent_space.principal_grid(codes, SIDE))
        files.save(walks.principal_manifold(plane, latent_space.PLANE_REACH), directory / "manifold.png")


if __name__ == "__main__":
    launch_tool("experiments.latents", main, __doc__)
