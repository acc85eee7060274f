"""One run held by two processes, by the command line: that it is the run of one, and how it stops and goes on."""

import json
import os
import re
import signal
import socket

import forks
import jax
import numpy as np
import pytest
from command_lines import complaints, tiny
from compilation import QUICK
from test_resume import metrics, newest

from genlab.training import workdir as workdirs

# where a gradient vanishes Adam divides its last bit by eps, and at a kink the last bit decides
SHARED = {"optimizer__eps": 1e-4, "model__activation": "tanh", "num_steps": 60, "steps_per_call": 8,
          "log_every_steps": 10, "eval_every_steps": 35, "checkpoint_every_steps": 10,
          "figure_every_steps": 0}  # fmt: skip
AGAIN = "start all of them again to go on from the newest checkpoint"


@pytest.fixture(scope="module")
def start(environment, tmp_path_factory):
    # process 1 never finds its programs in the cache, which process 0 alone writes; fully optimized, those that draw
    # parameters take seconds to compile
    environment = environment | {"XLA_FLAGS": QUICK}
    with forks.starter(environment, tmp_path_factory.mktemp("output")) as start:
        yield start


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """The workdir of a run of one process that was not interrupted."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    trained([start(*tiny(workdir, **SHARED))], workdir)
    return workdir


@pytest.fixture(scope="module")
def pair(start, tmp_path_factory):
    """The workdir of a run of two processes that was not interrupted."""
    workdir = tmp_path_factory.mktemp("runs") / "pair"
    trained(two(start, workdir), workdir)
    return workdir


def two(start, workdir, **changes):
    """Both processes of a run, started; on any port, which may be another every time."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    arguments = tiny(workdir, **SHARED | {"devices": 0} | changes)
    address = [f"--coordinator=127.0.0.1:{port}", "--num_processes=2"]
    return [start(*arguments, *address, f"--process_id={k}") for k in (0, 1)]


def trained(processes, workdir):
    """What process 0 said, once they have trained to the end; they are not left to evaluate."""
    forks.wait(lambda: "evaluating" in processes[0].said() or processes[0].poll() is not None)
    for process in processes:
        process.send(signal.SIGKILL)
    first, *_ = [process.finish() for process in processes]
    assert newest(workdir) == 60, first
    return first.out


def wait_for_checkpoint(processes, workdir, after=0):
    forks.wait(lambda: newest(workdir) > after or any(process.poll() is not None for process in processes))


def final_arrays(workdir):
    """Every array of the last checkpoint, whole, whoever wrote its parts."""
    import orbax.checkpoint as ocp

    path = (workdir / "checkpoints" / "60" / "default").absolute()
    with ocp.StandardCheckpointer() as checkpointer:
        there = checkpointer.metadata(path).item_metadata.tree
        on_one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        tree = checkpointer.restore(
            path, jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=on_one), there)
        )
    return {jax.tree_util.keystr(name): np.asarray(leaf) for name, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def assert_same_run(workdir, reference, exact=False, member=None):
    """The log and the last checkpoint: to the bit, or to 1e-5 of a record's numbers and of an array's largest.

    Of a population's workdir, those of one member.
    """
    assert newest(workdir) == newest(reference) == 60
    there, here = metrics(reference), metrics(workdir)
    left, right = final_arrays(workdir), final_arrays(reference)
    if member is not None:
        here = [{k: v[member] if isinstance(v, list) else v for k, v in row.items()} for row in here]
        left = {name: array[member] for name, array in left.items()}
    assert [(row["step"], row["split"]) for row in here] == [(row["step"], row["split"]) for row in there]
    assert [row["step"] for row in here if row["split"] == "train"] == [10, 20, 30, 40, 50, 60]
    assert left.keys() == right.keys() and any("params" in name for name in left)
    if exact:
        assert here == there
        assert all(array.tobytes() == right[name].tobytes() for name, array in left.items())
        return
    for ours, theirs in zip(here, there, strict=True):
        for name in theirs.keys() - {"split"}:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5, err_msg=name)
    for name, array in left.items():
        np.testing.assert_allclose(array, right[name], rtol=0, atol=1e-5 * np.abs(right[name]).max(), err_msg=name)


def assert_all_is_there(workdir):
    names = {
        "config.json",
        "metrics.jsonl",
        "checkpoints",
        "figures",
        "samples.npz",
        "card.json",
        "density.npz",
        "report.html",
        "lock",
    }
    assert {path.name for path in workdir.iterdir()} == names
    assert {path.name for path in (workdir / "checkpoints").iterdir()} == {"50", "60"}
    assert json.loads((workdir / "card.json").read_text())["steps"] == 60


def test_two_processes_make_the_run_of_one(pair, whole):
    assert_same_run(pair, whole)


def kill_one(start, workdir, lost):
    """Kills process `lost` after the next checkpoint; what process 0 said, once both have ended as they should."""
    before = newest(workdir)
    processes = two(start, workdir)
    wait_for_checkpoint(processes, workdir, before)
    processes[lost].send(signal.SIGKILL)
    done = [process.finish(60) for process in processes]
    assert done[lost].code == -signal.SIGKILL and done[1 - lost].code not in (0, -signal.SIGKILL)
    # the last words may come after the end
    forks.wait(lambda: processes[1 - lost].complained().endswith(f"{AGAIN}\n"), 10)
    line = processes[1 - lost].complained().splitlines()[-1]
    assert line.startswith(f"error: process {1 - lost} of 2 "), line
    assert before < newest(workdir) < 60
    return done[0].out


def test_when_one_is_killed_the_other_ends_and_both_go_on_together_to_the_end(start, pair, tmp_path):
    kill_one(start, tmp_path, lost=1)
    assert "resuming at step " in kill_one(start, tmp_path, lost=0)
    saved = newest(tmp_path)
    first, second = [process.finish() for process in two(start, tmp_path)]
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert complaints(first.err) == complaints(second.err) == []
    assert f"resuming at step {saved}\n" in first.out and "resuming" not in second.out
    assert f"report   {tmp_path / 'report.html'}" in first.out and "report" not in second.out
    assert_all_is_there(tmp_path)
    assert json.loads((tmp_path / "card.json").read_text())["device"] == "cpu x 2"
    assert_same_run(tmp_path, pair, exact=True)


def test_a_signal_to_one_stops_and_saves_both_and_one_alone_ends_their_run(start, whole, tmp_path):
    processes = two(start, tmp_path)
    wait_for_checkpoint(processes, tmp_path)
    processes[1].send(signal.SIGTERM)
    done = [process.finish(60) for process in processes]
    assert [each.code for each in done] == [128 + signal.SIGTERM] * 2, done
    line = f"error: stopped by SIGTERM and saved at step {newest(tmp_path)}; the same command resumes it"
    assert complaints(done[0].err) == complaints(done[1].err) == [line]
    saved = newest(tmp_path)
    assert 0 < saved < 60
    assert f"resuming at step {saved}\n" in trained([start(*tiny(tmp_path, **SHARED))], tmp_path)
    assert_same_run(tmp_path, whole)


def test_two_end_the_run_that_one_began(start, whole, tmp_path):
    process = start(*tiny(tmp_path, **SHARED))
    wait_for_checkpoint([process], tmp_path)
    process.send(signal.SIGKILL)
    assert process.finish().code == -signal.SIGKILL
    saved = newest(tmp_path)
    assert 0 < saved < 60
    assert f"resuming at step {saved}\n" in trained(two(start, tmp_path), tmp_path)
    assert_same_run(tmp_path, whole)


def test_two_processes_share_a_population(start, whole, tmp_path):
    # the last member, which process 1 holds, is the run of one
    crowd = {"population": "optimizer.learning_rate=3e-3,1e-3 seed=1,0", "population_mode": "loop"}
    processes = two(start, tmp_path, **crowd)
    forks.wait(lambda: "member 1 of 4" in processes[0].said() or processes[0].poll() is not None)
    for process in processes:  # the other members' evaluation is like the first one's
        process.send(signal.SIGKILL)
    assert [process.finish().code for process in processes] == [-signal.SIGKILL] * 2, processes[0].complained()
    assert_same_run(tmp_path, whole, member=3)
    assert len(set(metrics(tmp_path)[-1]["loss"])) == 4
    first = tmp_path / "members" / "0"
    assert json.loads((first / "card.json").read_text())["steps"] == 60
    shown = re.search(r"python -m experiments\.vae [^<]*", (first / "report.html").read_text())
    assert shown and "--config.optimizer.learning_rate=0.003 --config.seed=1" in shown[0]
    assert not re.search("coordinator|num_processes|process_id|population|workdir", shown[0])


def test_a_workdir_in_use_ends_both_and_process_0_says_whose(start, tmp_path):
    with workdirs.locked(tmp_path):
        done = [process.finish(60) for process in two(start, tmp_path)]
    assert [each.code for each in done] == [2, 1]
    owner = f"workdir {tmp_path} is in use by process {os.getpid()}; wait for it or give another --workdir"
    assert complaints(done[0].err) == [f"error: {owner}"]
    assert complaints(done[1].err) == ["error: process 0 could not, and says why"]
    assert {path.name for path in tmp_path.iterdir()} == {"lock"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"devices": 1}, "devices is 1; 2 processes share all of their 2: set it to 0"),
        ({"batch_size": 15}, "batch_size 15 does not divide among 2 devices"),
        ({"population": 3}, "population of 3 does not divide among 2 devices"),
    ],
)
def test_a_config_that_two_cannot_have_is_one_line_of_each(start, tmp_path, changes, message):
    done = [process.finish(60) for process in two(start, tmp_path / "run", **changes)]
    assert [each.code for each in done] == [2, 2]
    assert [complaints(each.err) for each in done] == [[f"error: {message}"]] * 2
    assert not (tmp_path / "run" / "config.json").exists()


def test_two_that_were_given_different_configs_do_not_start(start, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = [f"--coordinator=127.0.0.1:{listener.getsockname()[1]}", "--num_processes=2"]
    seeds = ({"seed": 0}, {"seed": 1})
    arguments = [tiny(tmp_path / "run", **SHARED | {"devices": 0} | seed) for seed in seeds]
    processes = [start(*arguments[k], *address, f"--process_id={k}") for k in (0, 1)]
    done = [process.finish(60) for process in processes]
    assert [each.code for each in done] == [2, 2]
    message = "the config is not the same for all processes; give all of them the same command line"
    assert [complaints(each.err) for each in done] == [[f"error: {message}"]] * 2
