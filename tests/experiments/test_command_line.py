"""What a mistake on the command line costs: one line on stderr, a non-zero exit, and nothing else."""

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from command_lines import ROOT, TINY, Done, complaints, tiny

CONFIG = "--config=configs/vae.py"


def contents(directory):
    """Every file below a directory -> its bytes, digested; the lock, which names the last process, apart."""
    files = (path for path in directory.rglob("*") if path.is_file() and path.name != "lock")
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def complaint(done, code=2):
    """The one line on stderr of a command that failed as it should."""
    assert done.code == code, done
    lines = complaints(done.err)
    assert len(lines) == 1 and lines[0].startswith("error: "), done.err
    assert "Traceback" not in done.out + done.err
    return lines[0].removeprefix("error: ")


@pytest.fixture(scope="module")
def finished(command, tmp_path_factory):
    """The workdir of a finished tiny run."""
    workdir = tmp_path_factory.mktemp("runs") / "finished"
    done = command(*tiny(workdir, checkpoint_every_steps=10, log_every_steps=10))
    assert done.code == 0, done.err
    return workdir


def test_a_run_leaves_what_the_house_promises(finished):
    names = {path.name for path in finished.iterdir()}
    assert {
        "config.json",
        "metrics.jsonl",
        "checkpoints",
        "figures",
        "samples.npz",
        "card.json",
        "report.html",
    } <= names
    assert json.loads((finished / "config.json").read_text())["model"]["hidden"] == [64]
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["split"] == "train"] == [10, 20, 30]
    command = json.loads(json.dumps((finished / "report.html").read_text()))
    assert "python -m experiments.vae" in command


def test_the_card_has_every_field_and_every_number_its_protocol(finished):
    card = json.loads((finished / "card.json").read_text())
    assert {
        "recipe", "dataset", "split_sizes", "seed", "num_params", "steps", "train_seconds", "device",
        "generation", "representation", "density",
    } <= set(card)  # fmt: skip
    assert (card["recipe"], card["dataset"], card["seed"], card["steps"]) == ("vae", "digits", 0, 30)
    # 1,797 digits, of which 360 are for tests and 20, as asked for, for validation
    assert card["split_sizes"] == {"train": 1417, "validation": 20, "test": 360}
    # 64 pixels, 64 hidden units, means and variances of 2 codes; and back: weights and biases
    assert card["num_params"] == (64 * 64 + 64) + (64 * 4 + 4) + (2 * 64 + 64) + (64 * 64 + 64)
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert card["train_seconds"] == pytest.approx(rows[-2]["seconds"], abs=0.01) and rows[-2]["split"] == "train"
    assert card["device"] == "cpu x 1"
    blocks = {name: card[name] for name in ("generation", "representation", "density")}
    assert {name: set(block) for name, block in blocks.items()} == {
        "generation": {"frechet_pca", "frechet_pca_floor"},
        "representation": {
            "linear_probe_accuracy", "knn_accuracy", "reconstruction_mse", "pca_mse", "compression_ratio",
        },
        "density": {"negative_log_likelihood", "bits_per_dim", "negative_elbo"},
    }  # fmt: skip
    assert blocks["representation"].pop("compression_ratio")["value"] == 64 / 2
    for block, numbers in blocks.items():
        for name, number in numbers.items():
            assert isinstance(number["value"], float) and np.isfinite(number["value"]), name
            assert number["split"] == "test", name
            assert number["n"] == (TINY["evaluation.num_samples"] if block == "generation" else 360), name
            assert number.get("estimator") or number.get("extractor"), name
    density = blocks["density"]
    assert density["negative_log_likelihood"]["k"] == TINY["evaluation.num_importance_samples"]
    nats, bits = density["negative_log_likelihood"]["value"], density["bits_per_dim"]["value"]
    assert bits == pytest.approx(nats / (64 * np.log(2)))
    # the bound of 2 samples is the tighter one, to within the noise of its one sample
    assert nats < density["negative_elbo"]["value"] + 3 * density["negative_elbo"]["standard_error"]


PARSED = {
    "a misspelt field": (
        [CONFIG, "--config.modl.beta=2"],
        r"unknown config field config.modl.beta; did you mean config.model.beta\?",
    ),
    "a misspelt block": ([CONFIG, "--config.sede=1"], r"unknown config field config.sede; did you mean config.seed\?"),
    "a field like no other": (
        [CONFIG, "--config.qqqqqqqq=1"],
        "unknown config field config.qqqqqqqq; known: .*batch_size.*",
    ),
    "a word for a number": ([CONFIG, "--config.num_steps=many"], "config.num_steps=many: .*int.*"),
    "a fraction for a whole number": ([CONFIG, "--config.num_steps=1.5"], "config.num_steps=1.5: .*int.*"),
    "a word for a truth": ([CONFIG, "--config.model.batch_norm=maybe"], "config.model.batch_norm=maybe: .*bool.*"),
    "a word in a tuple": (
        [CONFIG, "--config.model.hidden=(10,'a')"],
        r"config.model.hidden is \(10, 'a'\); its elements must be int",
    ),
    "a fraction in a tuple": (
        [CONFIG, "--config.model.hidden=1.5"],
        r"config.model.hidden is \(1.5,\); its elements must be int",
    ),
    "a value for a block": ([CONFIG, "--config.model=3"], "config.model.*"),
    "an unknown variant": (
        ["--config=configs/vae.py:densse"],
        "configs/vae.py has no variant 'densse'; known: dense, conv, .*",
    ),
    "a missing file": (["--config=configs/nowhere.py"], "no config file 'configs/nowhere.py'"),
    "a file without a recipe": (["--config=experiments/__init__.py"], r"experiments/__init__.py has no get_config\(\)"),
    "a file of another kind": (["--config=README.md"], "README.md cannot be read: SyntaxError: .*"),
    "no config": ([], "no --config given; for example --config=configs/vae.py"),
    "an empty config": (["--config="], "no config file ''"),
    "a field before the config": (["--config.seed=1", CONFIG], "--config=FILE must come before --config.seed=1"),
    "an unknown flag": ([CONFIG, "--wrkdir=x"], r"Unknown command line flag 'wrkdir'. Did you mean: workdir \?"),
    "a stray word": ([CONFIG, "fast"], "unexpected argument 'fast'; options are written --name=value"),
}


@pytest.mark.parametrize("mistake", PARSED)
def test_a_mistake_that_parsing_sees(forked, mistake):
    arguments, expected = PARSED[mistake]
    message = complaint(forked(*arguments))
    assert re.fullmatch(expected, message), message


@pytest.mark.parametrize("mistake", ["a misspelt field", "no config", "a missing file"])
def test_the_module_run_by_python_says_the_same(command, mistake):
    arguments, expected = PARSED[mistake]
    assert re.fullmatch(expected, complaint(command(*arguments)))


VALUES = {
    "an unknown data set": ({"data.name": "mnits_5k"}, "unknown dataset 'mnits_5k', nearest is 'mnist_5k': .*digits.*"),
    "an unprepared set": (
        {"data.name": "mnist"},
        r"unknown dataset 'mnist': .*, nor prepared in .*download_and_prepare\(.*",
    ),
    "a batch larger than the set": (
        {"batch_size": 1418},
        "batch_size is 1418; it must lie between 1 and the 1417 examples.*",
    ),
    "no batch": ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
    "no steps": ({"num_steps": 0}, "num_steps is 0; it must be at least 1"),
    "all examples held out": ({"data.num_validation": 1437}, ".*num_validation.*"),
    "an unknown likelihood": (
        {"model.likelihood": "poisson"},
        "model.likelihood is 'poisson'; known: bernoulli, gaussian, .*",
    ),
    "an unknown network": ({"model.network": "resnet"}, "model.network is 'resnet'; known: dense, conv"),
    "an unknown activation": ({"model.activation": "sine"}, "model.activation is 'sine'; known: relu, .*"),
    "an unknown optimizer": ({"optimizer.name": "lion"}, "unknown optimizer.name 'lion'; known: adam, .*"),
    "an unknown schedule": ({"optimizer.schedule": "step"}, "unknown optimizer.schedule 'step'; known: burda, .*"),
    "too long a warm-up": ({"optimizer.warmup_steps": 31}, "optimizer.warmup_steps=31 is more than num_steps=30"),
    "a negative warm-up": ({"optimizer.warmup_steps": -1}, "optimizer.warmup_steps is -1; it must be at least 0"),
    "a negative rate": (
        {"optimizer.learning_rate": -0.001},
        "optimizer.learning_rate is -0.001; it must be at least 0",
    ),
    "a negative norm": ({"optimizer.clip_norm": -1.0}, "optimizer.clip_norm is -1.0; it must be at least 0"),
    "greys for binary images": (
        {"model.likelihood": "gaussian"},
        "model.likelihood 'gaussian' is for grey images; add --config.data.binarization=none",
    ),
    "no convolution": (
        {"model.network": "conv", "model.channels": "()"},
        "model.channels is empty; model.network 'conv' needs at least one convolution",
    ),
    "an unknown placement": ({"data.placement": "disk"}, "data.placement is 'disk'; it must be one of device, stream"),
    "an unknown precision": ({"precision": "float16"}, "precision is 'float16'; it must be one of float32, bfloat16"),
    "images for points": (
        {"data.name": "ring"},
        "model.likelihood 'bernoulli' is for images; ring holds points: add "
        "--config.model.likelihood=learned_gaussian --config.data.binarization=none",
    ),
    "a shape that no convolution makes": (
        {"model.network": "conv", "model.channels": "(4,4,4,4)"},
        "4 transposed convolutions of stride 2 cannot make 8x8 images; height and width must be divisible by 16",
    ),
    "an unknown writer": (
        {"writers": "('jsonl','tensorbord')"},
        "unknown writer 'tensorbord'; known: jsonl, tensorboard, wandb",
    ),
}


def arguments_of(workdir, fields):
    return tiny(workdir, **{name.replace(".", "__"): value for name, value in fields.items()})


def test_a_config_of_another_family_is_one_line(forked, tmp_path):
    message = complaint(forked("--config=configs/base.py", f"--workdir={tmp_path / 'run'}"))
    assert message == "this experiment needs a config with model.latent_dim; the one given is of another family"
    assert not (tmp_path / "run").exists()


def test_help_after_a_config_lists_its_fields(forked):
    done = forked("--config=configs/vae.py:conv", "--help")
    assert done.code == 0 and "  --config.model.network='conv'" in done.out.splitlines()


@pytest.mark.parametrize("mistake", VALUES)
def test_a_value_that_no_run_can_have_leaves_no_claim_on_the_workdir(forked, tmp_path, mistake):
    fields, expected = VALUES[mistake]
    message = complaint(forked(*arguments_of(tmp_path / "run", fields)))
    assert re.fullmatch(expected, message), message
    assert not (tmp_path / "run" / "config.json").exists()  # so that the corrected command can have it


@pytest.mark.parametrize("mistake", ["an unknown data set", "a shape that no convolution makes"])
def test_a_bad_value_leaves_a_finished_run_as_it_was(command, finished, mistake):
    fields, expected = VALUES[mistake]
    before = contents(finished)
    message = complaint(command(*arguments_of(finished, fields)))
    assert re.fullmatch(expected, message) or "holds a run of another config" in message
    assert contents(finished) == before


def test_the_workdir_of_another_config_is_refused_by_the_fields_that_differ(forked, finished):
    before = contents(finished)
    message = complaint(
        forked(*tiny(finished, seed=1, model__latent_dim=3, checkpoint_every_steps=10, log_every_steps=10))
    )
    assert message == (
        f"workdir {finished} holds a run of another config; it differs in model.latent_dim: 2 there, 3 here; "
        "seed: 0 there, 1 here; give another --workdir or the same config"
    )
    assert contents(finished) == before


def test_a_workdir_in_use_is_refused(forked, finished):
    hold = (
        "import pathlib, sys; from genlab.training import workdir\n"
        "with workdir.locked(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    before = contents(finished)
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(finished)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        message = complaint(forked(*tiny(finished, checkpoint_every_steps=10, log_every_steps=10)))
        holder.kill()
    assert message == (f"workdir {finished} is in use by process {holder.pid}; wait for it or give another --workdir")
    assert contents(finished) == before


def test_a_workdir_that_is_a_file_is_refused(forked, tmp_path):
    (tmp_path / "file").write_text("precious")
    assert complaint(forked(*tiny(tmp_path / "file"))).startswith(f"cannot use workdir {tmp_path / 'file'}: ")
    assert (tmp_path / "file").read_text() == "precious"


def test_divergence_names_the_step_and_the_metric_and_saves_nothing_bad(forked, tmp_path):
    options = {"optimizer__name": "sgd", "optimizer__schedule": "linear", "optimizer__warmup_steps": 30}
    workdir = tmp_path / "run"
    # the rate grows by 3e3 a step: some steps pass before the numbers do not
    arguments = tiny(workdir, **options, optimizer__learning_rate=1e5, checkpoint_every_steps=1, log_every_steps=1)
    message = complaint(forked(*arguments), code=1)
    match = re.fullmatch(
        rf"step (\d+): (.*loss.* is not a finite number|(params|opt_state) of player 'vae' is not finite); "
        rf"earlier checkpoints in {workdir}/checkpoints are intact",
        message,
    )
    assert match, message
    bad_step = int(match[1])
    assert bad_step > 1
    kept = sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())
    assert kept and kept[-1] < bad_step
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert all(abs(row["loss"]) < float("inf") for row in rows)
    # the same command meets the same end, from the checkpoint that it says is intact
    again = forked(*arguments)
    assert f"resuming at step {kept[-1]}" in again.out
    assert complaint(again, code=1) == message


STOPPED_AT_THE_END = """
import os, runpy, signal, sys
from genlab.training import display

def show_and_stop(num_steps, unit="step"):
    return lambda step: os.kill(os.getpid(), signal.SIGTERM) if unit == "step" and step == num_steps else None

display.progress_line = show_and_stop
sys.argv = ["experiments/vae.py", *sys.argv[1:]]
runpy.run_module("experiments.vae", run_name="__main__")
"""


def test_a_signal_during_the_last_call_saves_the_run_and_leaves_the_report_to_the_same_command(
    environment, forked, finished, tmp_path
):
    arguments = tiny(tmp_path, checkpoint_every_steps=10, log_every_steps=10)
    done = subprocess.run(
        [sys.executable, "-c", STOPPED_AT_THE_END, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    message = complaint(Done(done.returncode, done.stdout, done.stderr), code=128 + signal.SIGTERM)
    assert message == "stopped by SIGTERM and saved at step 30; the same command resumes it"
    assert (tmp_path / "checkpoints" / "30" / "genlab.json").exists() and not (tmp_path / "card.json").exists()
    again = forked(*arguments)
    assert again.code == 0 and "finished at step 30" in again.out
    assert (tmp_path / "card.json").exists()
    assert (tmp_path / "samples.npz").read_bytes() == (finished / "samples.npz").read_bytes()


FULL_DISK = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))  # Python ignores SIGXFSZ
sys.argv = ["experiments/vae.py", *sys.argv[2:]]
runpy.run_module("experiments.vae", run_name="__main__")
"""


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        # enough for the log and the figures, but not for a checkpoint; and not for a figure
        (40_000, r"cannot save checkpoint 30 \(.*\); earlier checkpoints in {workdir}/checkpoints are intact"),
        (3_000, r"no space left for {workdir}; its checkpoints are intact, the same command resumes"),
    ],
)
def test_a_full_disk_is_one_line_and_the_same_command_resumes(environment, forked, finished, tmp_path, room, expected):
    workdir = shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(workdir / "checkpoints" / "30")  # as if killed on the way there
    arguments = tiny(workdir, checkpoint_every_steps=10, log_every_steps=10)
    before = contents(workdir / "checkpoints" / "20")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(room), *arguments],
        cwd=ROOT,
        env=environment | {"JAX_ENABLE_COMPILATION_CACHE": "false"},  # which would be left with half an entry
        capture_output=True,
        text=True,
        timeout=600,
    )
    message = complaint(Done(done.returncode, done.stdout, done.stderr), code=1)
    assert re.fullmatch(expected.format(workdir=workdir), message), message
    assert contents(workdir / "checkpoints" / "20") == before
    if "same command" in expected:
        return
    again = forked(*arguments)
    assert again.code == 0 and "resuming at step 20" in again.out
    assert (workdir / "samples.npz").read_bytes() == (finished / "samples.npz").read_bytes()
