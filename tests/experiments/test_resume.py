"""A run that was killed, stopped or damaged ends as the run that never was: bit for bit, in everything it leaves."""

import json
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from command_lines import ROOT, complaints, tiny

# the periods divide neither each other nor the calls
SPACED = {"num_steps": 2000, "steps_per_call": 9, "log_every_steps": 70, "eval_every_steps": 150,
          "checkpoint_every_steps": 100, "figure_every_steps": 800, "ema_decay": 0.99}  # fmt: skip


def launched(environment, workdir, **changes):
    """python -m experiments.vae, running."""
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.vae", *tiny(workdir, **SPACED | changes)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def newest(workdir):
    """The newest step of which there is a checkpoint, 0 if none."""
    found = (workdir / "checkpoints").glob("*/genlab.json")
    return max((int(path.parent.name) for path in found if path.parent.name.isdigit()), default=0)


def wait_for_checkpoint(process, workdir, after):
    """Until there is a checkpoint later than `after`, or the process has ended."""
    deadline = time.monotonic() + 300
    while process.poll() is None and newest(workdir) <= after:
        assert time.monotonic() < deadline, "no checkpoint in five minutes"
        time.sleep(0.002)


def finish(environment, workdir, **changes):
    with launched(environment, workdir, **changes) as process:
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out, err


def metrics(workdir):
    """The records, without the seconds."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def final_arrays(workdir):
    """Every array of the last checkpoint, by name."""
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        tree = checkpointer.restore((workdir / "checkpoints" / str(newest(workdir)) / "default").absolute())
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def assert_equal_runs(workdir, reference):
    assert metrics(workdir) == metrics(reference)
    left, right = final_arrays(workdir), final_arrays(reference)
    assert left.keys() == right.keys() and any("params" in name for name in left)
    for name, array in left.items():
        assert array.dtype == right[name].dtype and array.tobytes() == right[name].tobytes(), name
    images = [np.load(directory / "samples.npz")["images"] for directory in (workdir, reference)]
    np.testing.assert_array_equal(*images)
    assert images[0].shape == (16, 8, 8, 1) and images[0].std() > 0
    for block in ("generation", "representation", "density"):
        cards = [json.loads((directory / "card.json").read_text())[block] for directory in (workdir, reference)]
        assert cards[0] == cards[1]


@pytest.fixture(scope="module")
def uninterrupted(environment, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "uninterrupted"
    out, _ = finish(environment, workdir)
    assert "resuming" not in out
    rows = metrics(workdir)
    assert [row["step"] for row in rows if row["split"] == "train"] == [*range(70, 2000, 70), 2000]
    assert [row["step"] for row in rows if row["split"] == "validation"] == [*range(150, 2000, 150), 2000]
    return workdir


def test_a_run_that_is_killed_and_killed_and_stopped_ends_as_if_it_had_not_been(environment, uninterrupted, tmp_path):
    workdir, moments, killed_at = tmp_path / "run", random.Random(0), []
    for _ in range(2):
        before = newest(workdir)
        with launched(environment, workdir) as process:
            wait_for_checkpoint(process, workdir, before)
            time.sleep(moments.uniform(0.0, 0.1))  # in the middle of whatever it does next
            process.kill()
            process.communicate()
        if process.returncode == -signal.SIGKILL:
            killed_at.append(newest(workdir))
    assert killed_at and killed_at[0] < 2000  # at least one kill came in time

    before = newest(workdir)
    with launched(environment, workdir) as process:
        wait_for_checkpoint(process, workdir, before)
        process.terminate()
        out, err = process.communicate(timeout=300)
    assert f"resuming at step {before:,}" in out or "set aside" in err
    assert process.returncode == 128 + signal.SIGTERM, err
    lines = [line for line in err.splitlines() if line.startswith("error")]
    match = re.fullmatch(r"error: stopped by SIGTERM and saved at step (\d+); the same command resumes it", lines[0])
    assert match and int(match[1]) == newest(workdir)

    out, err = finish(environment, workdir)
    assert f"resuming at step {int(match[1]):,}" in out
    assert "Traceback" not in err
    assert_equal_runs(workdir, uninterrupted)


def test_a_run_that_streams_and_is_killed_ends_as_if_it_had_not_been(environment, tmp_path):
    streaming = {"data__placement": "stream", "num_steps": 300, "checkpoint_every_steps": 40}
    whole, workdir = tmp_path / "whole", tmp_path / "run"
    finish(environment, whole, **streaming)
    with launched(environment, workdir, **streaming) as process:
        wait_for_checkpoint(process, workdir, 0)
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL and not (workdir / "card.json").exists()
    out, err = finish(environment, workdir, **streaming)
    assert "resuming at step " in out and "Traceback" not in err
    assert newest(workdir) == newest(whole) == 300
    assert_equal_runs(workdir, whole)


def test_a_damaged_checkpoint_is_named_and_skipped_and_the_end_is_the_same(environment, uninterrupted, tmp_path):
    workdir = pathlib.Path(shutil.copytree(uninterrupted, tmp_path / "run"))
    assert newest(workdir) == 2000
    largest = max((workdir / "checkpoints" / "2000").rglob("*"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    for name in ("samples.npz", "card.json", "report.html"):
        (workdir / name).unlink()
    out, err = finish(environment, workdir)
    (complaint,) = complaints(err)
    assert "checkpoint 2000 cannot be read and was set aside" in complaint
    assert "resuming at step 1,900" in out
    assert (
        workdir / "checkpoints" / "rejected" / "2000" / largest.relative_to(workdir / "checkpoints" / "2000")
    ).exists()
    assert_equal_runs(workdir, uninterrupted)


def test_a_finished_run_is_only_evaluated_again(environment, uninterrupted, tmp_path):
    workdir = pathlib.Path(shutil.copytree(uninterrupted, tmp_path / "run"))
    log = (workdir / "metrics.jsonl").read_bytes()
    for name in ("samples.npz", "card.json", "report.html"):
        (workdir / name).unlink()
    _, err = finish(environment, workdir)
    assert "step " not in err  # nothing was trained
    assert (workdir / "metrics.jsonl").read_bytes() == log
    assert (workdir / "report.html").exists()
    assert_equal_runs(workdir, uninterrupted)
