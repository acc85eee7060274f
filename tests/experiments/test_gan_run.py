"""GANs by the command line: what runs leave, that they survive, that a member is its solo run, and what is refused."""

import json
import re
import signal

import forks
import numpy as np
import pytest
from command_lines import complaints
from compilation import QUICK
from test_resume import final_arrays, metrics, newest

from genlab.networks.inception import WHENCE

# as forks.DRIVER, of any entry point: the first argument is its module; a classifier learns for a few steps alone
DRIVER = """
import gc, json, os, runpy, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside the threads of a linear algebra library
import matplotlib.figure, orbax.checkpoint, scipy.optimize, scipy.stats
import experiments.extractor, experiments.gan, experiments.mode_collapse, genlab.evaluation.pictures
import genlab.evaluation.report
experiments.extractor.STEPS_OF_FEW = 20
gc.freeze()
for line in sys.stdin:
    verb, *given = json.loads(line)
    if verb == "start":
        (module, *arguments), out, err = given
        child = os.fork()
        if not child:
            for number, name in ((0, os.devnull), (1, out), (2, err)):
                os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), number)
            sys.argv = [module.replace(".", "/") + ".py", *arguments]
            del sys.modules[module]
            runpy.run_module(module, run_name="__main__")
            sys.exit(0)
        answer = child
    else:
        child, status = os.waitpid(given[0], os.WNOHANG)
        answer = os.waitstatus_to_exitcode(status) if child else None
    print(json.dumps(answer), flush=True)
"""
TINY = {
    "ring": {
        "num_steps": 200, "steps_per_call": 9, "log_every_steps": 70, "eval_every_steps": 100,
        "checkpoint_every_steps": 40, "figure_every_steps": 0, "batch_size": 8, "data.num_validation": 40,
        # where a gradient vanishes Adam divides its last bit by eps
        "optimizer.eps": 1e-4, "model.network": "dense", "model.hidden": 8, "model.disc_hidden": 8,
        "model.gen_batch_norm": False, "model.replay_capacity": 100, "seed": 1,
        "evaluation.num_samples": 60, "evaluation.batch_size": 40, "model.duality_gap_steps": 3,
    },
    "conditional": {
        "data.name": "digits", "data.num_validation": 20, "num_steps": 6, "steps_per_call": 3, "batch_size": 16,
        "log_every_steps": 3, "eval_every_steps": 0, "checkpoint_every_steps": 6, "figure_every_steps": 6,
        "model.channels": "(4,8)", "model.latent_dim": 4, "evaluation.num_samples": 40, "evaluation.batch_size": 40,
        "model.duality_gap_steps": 0,
    },
    "bilinear": {"num_steps": 60, "eval_every_steps": 30, "checkpoint_every_steps": 60, "data.num_validation": 2},
    "gaussian": {
        "num_steps": 40, "eval_every_steps": 0, "checkpoint_every_steps": 40, "batch_size": 16,
        "data.num_validation": 20, "evaluation.num_samples": 60, "model.duality_gap_steps": 0,
    },
}  # fmt: skip


def arguments(variant, workdir, **changes):
    """Of a tiny run; `changes` by name, a dot written as two underscores."""
    fields = TINY[variant] | {name.replace("__", "."): value for name, value in changes.items()}
    options = [f"--config.{name}={value}" for name, value in fields.items()]
    return ["experiments.gan", f"--config=configs/gan.py:{variant}", f"--workdir={workdir}", *options]


@pytest.fixture(scope="module")
def start(environment, tmp_path_factory):
    """(module, arguments) -> forks.Running."""
    environment = environment | {"XLA_FLAGS": QUICK}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forks, "DRIVER", DRIVER)
        with forks.starter(environment, tmp_path_factory.mktemp("output")) as start:
            yield start


def finished(start, variant, workdir, **changes):
    done = start(*arguments(variant, workdir, **changes)).finish()
    assert done.code == 0 and complaints(done.err) == [], done.err
    return done


def card_of(workdir):
    return json.loads((workdir / "card.json").read_text())


@pytest.fixture(scope="module")
def ring(start, tmp_path_factory):
    """The workdir of a GAN of points with replay, that was not interrupted."""
    workdir = tmp_path_factory.mktemp("runs") / "ring"
    finished(start, "ring", workdir)
    return workdir


def test_a_gan_of_points_leaves_its_modes_its_log_and_its_distance_from_equilibrium(ring):
    card = card_of(ring)
    assert card["representation"] is None and card["density"] is None and card["experiment"] == "experiments.gan"
    block = card["generation"]
    assert {"modes_covered", "high_quality_share", "wasserstein", "wasserstein_floor", "frechet_pca"} <= set(block)
    with np.load(ring / "samples.npz") as arrays:
        points = arrays["points"]
    assert points.shape == (60, 2)
    angles = np.arange(8) * np.pi / 4
    distances = np.linalg.norm(points[:, None] - np.stack([np.cos(angles), np.sin(angles)], axis=-1), axis=-1)
    near = distances.min(axis=1) < 0.03
    assert block["modes_covered"]["value"] == len(set(distances.argmin(axis=1)[near]))
    assert block["high_quality_share"]["value"] == near.mean()
    assert block["modes_covered"]["of"] == 8 and 7.9 < block["modes_covered"]["perfect_sampler"] < 8
    assert block["high_quality_share"]["perfect_sampler"] == pytest.approx(1 - np.exp(-4.5))  # |z| < 3 in the plane
    assert block["wasserstein"]["value"] > block["wasserstein_floor"]["value"] > 0
    rows = metrics(ring)
    assert [row["step"] for row in rows if row["split"] == "train"] == [70, 140, 200]
    validated = [row for row in rows if row["split"] == "validation"]
    assert [row["step"] for row in validated] == [100, 200]
    for row in rows:
        assert {"disc_loss", "gen_loss", "real_logit", "fake_logit"} <= set(row) and 0 <= row["accuracy"] <= 1
    for row in validated:
        assert row["duality_gap"] == pytest.approx(row["disc_gain"] + row["gen_gain"], abs=1e-6)
        assert row["disc_gain"] > 0  # three steps on what it is measured on, or nearly
    assert {path.name for path in (ring / "figures").glob("*.png")} == {"curves.png", "samples.png"}


def test_a_killed_run_ends_as_if_it_had_not_been_replay_buffer_included(start, ring, tmp_path):
    process = start(*arguments("ring", tmp_path))
    forks.wait(lambda: newest(tmp_path) or process.poll() is not None)
    process.send(signal.SIGKILL)
    assert process.finish().code == -signal.SIGKILL and 0 < newest(tmp_path) < 200
    done = finished(start, "ring", tmp_path)
    assert "resuming at step " in done.out
    assert metrics(tmp_path) == metrics(ring)
    left, right = final_arrays(tmp_path), final_arrays(ring)
    assert left.keys() == right.keys()
    for name, array in left.items():
        assert array.dtype == right[name].dtype and array.tobytes() == right[name].tobytes(), name
    (stored,) = (array for name, array in left.items() if "memory" in name and "'x'" in name)
    (count,) = (array for name, array in left.items() if "memory" in name and "count" in name)
    assert stored.shape == (100, 2) and np.abs(stored).min() > 0 and count == 200 * 8
    assert card_of(tmp_path)["generation"] == card_of(ring)["generation"]


def test_a_member_of_a_population_is_its_solo_run(start, ring, tmp_path):
    tmp_path.joinpath("population_mode.json").write_text('{"mode": "loop"}')  # nothing is measured
    finished(start, "ring", tmp_path, population=2, seed=0)
    member, solo = card_of(tmp_path / "members" / "1"), card_of(ring)
    assert member["seed"] == solo["seed"] == 1 and set(member["generation"]) == set(solo["generation"])
    for name, number in solo["generation"].items():
        assert member["generation"][name]["value"] == pytest.approx(number["value"], rel=1e-5), name
    for there, here in zip(metrics(tmp_path / "members" / "1"), metrics(ring), strict=True):
        assert there == {
            key: here[key] if isinstance(here[key], str) else pytest.approx(here[key], rel=1e-5, abs=1e-6)
            for key in here
        }
    assert card_of(tmp_path)["generation"]["wasserstein"]["num_members"] == 2
    last = metrics(tmp_path)[-1]
    assert last["split"] == "validation" and len(set(last["duality_gap"])) == 2


def test_a_conditional_gan_of_images_is_asked_for_digits_and_read_by_a_classifier(start, tmp_path):
    done = start(*arguments("conditional", tmp_path)).finish()
    assert done.code == 0 and "training the classifier of digits" in done.err, done.err
    block = card_of(tmp_path)["generation"]
    numbers = {"label_accuracy", "frechet_features", "precision", "recall", "effective_classes", "nearer_than_test"}
    assert numbers <= set(block)
    assert 0 <= block["label_accuracy"]["value"] <= 1 and block["label_accuracy"]["n"] == 40
    assert block["frechet_features"]["value"] > block["frechet_features_floor"]["value"] > 0
    figures = {path.name for path in (tmp_path / "figures").glob("*.png")}
    expected = {"curves", "samples", "samples_by_class", "samples_over_time", "nearest_training"}
    assert figures == {f"{name}.png" for name in expected}
    assert "one class a row" in (tmp_path / "report.html").read_text()
    assert card_of(tmp_path)["weights"] == "moving average"


def test_a_bilinear_game_leaves_the_way_that_its_players_took_and_is_drawn_again(start, tmp_path):
    finished(start, "bilinear", tmp_path)
    assert card_of(tmp_path)["generation"] is None and not (tmp_path / "samples.npz").exists()
    assert (tmp_path / "figures" / "phase_portrait.png").stat().st_size > 5_000
    trained = [row for row in metrics(tmp_path) if row["split"] == "train"]
    assert len(trained) == 60
    # every step turns and stretches by sqrt(1 + 0.1^2)
    np.testing.assert_allclose([row["distance"] for row in trained], 1.01 ** (np.arange(1, 61) / 2), rtol=1e-5)
    angle = np.arctan(0.1)
    assert trained[0]["x"] == pytest.approx(np.sqrt(1.01) * np.cos(angle))
    assert trained[0]["y"] == pytest.approx(np.sqrt(1.01) * np.sin(angle))
    assert "phase portrait" in (tmp_path / "report.html").read_text().lower()

    log = (tmp_path / "metrics.jsonl").read_bytes()
    for name in ("card.json", "report.html", "figures/phase_portrait.png"):
        (tmp_path / name).unlink()
    again = finished(start, "bilinear", tmp_path)
    assert "finished at step 60 before" in again.out and (tmp_path / "metrics.jsonl").read_bytes() == log
    assert card_of(tmp_path)["steps"] == 60 and (tmp_path / "figures" / "phase_portrait.png").exists()
    assert "phase portrait" in (tmp_path / "report.html").read_text().lower()


def test_a_game_on_the_line_leaves_its_samples_and_its_way(start, tmp_path):
    finished(start, "gaussian", tmp_path)
    with np.load(tmp_path / "samples.npz") as arrays:
        assert arrays["points"].shape == (60, 1)
    figures = {path.name for path in (tmp_path / "figures").glob("*.png")}
    assert figures == {"curves.png", "samples.png", "phase_portrait.png"}
    assert card_of(tmp_path)["generation"]["modes_covered"]["of"] == 1


REFUSED = {
    "a classifier of points": ("ring", {"evaluation__extractor": "classifier"},
        "evaluation.extractor 'classifier' is for images; for ring add --config.evaluation.extractor=none"),
    "no file of weights": ("conditional", {"evaluation__extractor": "nowhere.npz"},
        "evaluation.extractor is 'nowhere.npz', and there is no such file; it must be none, classifier, or a file of "
        f"Inception weights: {WHENCE}"),
    "a network of images": ("ring", {"model__network": "dcgan"},
        "model.network 'dcgan' is for images; ring holds points: add --config.model.network=dense"),
    "an unknown augmentation": ("conditional", {"model__augment": "('flip',)"},
        "model.augment is 'flip'; known: color, translation, cutout"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", REFUSED)
def test_a_game_that_cannot_be_is_one_line_and_claims_nothing(start, tmp_path, mistake):
    variant, changes, expected = REFUSED[mistake]
    done = start(*arguments(variant, tmp_path / "run", **changes)).finish()
    assert done.code == 2
    (line,) = complaints(done.err)
    assert re.fullmatch(f"error: {re.escape(expected)}", line), line
    assert not (tmp_path / "run" / "config.json").exists()
