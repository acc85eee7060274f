"""Checkpoints by what they must survive: damage of every file, a kill, a full disk."""

import dataclasses
import errno
import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from spread import assert_spread, spread
from together import run

from genlab.algorithm import new_player, new_state
from genlab.training import checkpoint
from genlab.training.checkpoint import CheckpointError, Checkpoints
from genlab.training.loop import Progress

ROOT = pathlib.Path(__file__).parents[2]


def run_at(step):
    """A run after `step` steps, with every type of leaf and of container that a State can have."""
    rng = np.random.default_rng(step)
    params = {
        "w": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32),
        "b": jnp.asarray(rng.normal(size=4), jnp.bfloat16),
    }
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.linear_schedule(0.1, 0.0, 10)))
    stats = {"mean": jnp.asarray(rng.normal(size=4), jnp.float16), "seen": jnp.asarray(rng.random(4) < 0.5)}
    memory = (
        jnp.asarray(rng.integers(0, 256, size=(5, 2)), jnp.uint8),
        {"empty": {}, "none": None},
        jax.random.key(step),
    )
    state = new_state({"gen": new_player(params, tx, stats), "disc": new_player({}, optax.sgd(0.1))}, {}, memory)
    state = dataclasses.replace(state, step=jnp.int32(step))
    mean = {"loss": jnp.float32(rng.normal()), "odd": jnp.float32(np.nan)}
    return Progress(state, mean, jnp.int32(3), {"loss": jnp.int32(-1), "odd": jnp.int32(2)})


def assert_same(left, right):
    """Bit for bit, types of containers and leaves included."""
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def restore(directory):
    """(what was restored, what was reported), by a process of its own as far as the checkpoints can tell."""
    checkpoints, reports = Checkpoints(directory), []
    restored = checkpoints.restore(run_at(0), reports.append)
    checkpoints.close()
    return restored, reports


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Checkpoints 10 and 20. Not to be changed."""
    directory = tmp_path_factory.mktemp("checkpoints")
    checkpoints = Checkpoints(directory)
    for step in (10, 20):
        checkpoints.save(step, run_at(step))
    checkpoints.close()
    return directory


@pytest.fixture
def copied(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "checkpoints")


def test_what_is_restored_is_what_was_saved(saved):
    (step, tree), reports = restore(saved)
    assert step == 20 and reports == []
    assert_same(tree, run_at(20))


def test_there_is_nothing_in_a_new_directory(tmp_path):
    assert restore(tmp_path / "new") == (None, [])


def test_shapes_suffice_to_restore(saved):
    checkpoints = Checkpoints(saved)
    restored = checkpoints.restore(jax.eval_shape(lambda: run_at(0)), pytest.fail)
    checkpoints.close()
    assert restored is not None
    assert_same(restored[1], run_at(20))


def test_arrays_come_back_on_the_devices_of_this_run(tmp_path):
    """As after a move to another machine, whose devices are not those that the checkpoint names."""
    there, here = jax.devices()[3], jax.devices()[5]
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, jax.device_put({"w": jnp.arange(4.0)}, there))
    restored = checkpoints.restore(jax.device_put({"w": jnp.zeros(4)}, here), pytest.fail)
    checkpoints.close()
    assert restored is not None and restored[1]["w"].devices() == {here}
    np.testing.assert_array_equal(restored[1]["w"], [0, 1, 2, 3])


def test_the_last_ones_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 5, 9):
        checkpoints.save(step, {"w": jnp.full(3, step)})
    checkpoints.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["5", "9"]


def test_a_step_that_is_there_is_not_saved_again(copied):
    checkpoints = Checkpoints(copied)
    checkpoints.save(20, run_at(7))
    checkpoints.close()
    assert_same(restore(copied)[0][1], run_at(20))


DAMAGES = {
    "half": lambda data: data[: len(data) // 2],
    "one byte less": lambda data: data[:-1],
    "one bit flipped": lambda data: bytes(byte ^ (16 * (i == len(data) // 2)) for i, byte in enumerate(data)),
    "empty": lambda data: b"",
    "gone": lambda data: None,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_of_any_file_of_the_newest_leads_to_the_one_before(saved, tmp_path, damage):
    files = sorted(path.relative_to(saved) for path in (saved / "20").rglob("*") if path.is_file())
    assert len(files) > 8
    for number, file in enumerate(files):
        directory = shutil.copytree(saved, tmp_path / str(number))
        data = (directory / file).read_bytes()
        (directory / file).unlink()
        if (damaged := DAMAGES[damage](data)) is not None:
            (directory / file).write_bytes(damaged)
        (step, tree), reports = restore(directory)
        assert step == 10, file
        assert_same(tree, run_at(10))
        assert len(reports) == 1
        assert reports[0].startswith("checkpoint 20 cannot be read and was set aside (")
        rejected = directory / "rejected" / file
        assert rejected.parent.exists() and not (directory / "20").exists()
        if damaged is not None:  # for whoever wants to look at it
            assert rejected.read_bytes() == damaged


def test_the_report_names_what_is_damaged(copied):
    (copied / "20" / "default" / "_METADATA").write_text("{}")
    _, reports = restore(copied)
    assert reports == ["checkpoint 20 cannot be read and was set aside (default/_METADATA is damaged)"]


def test_what_a_kill_leaves_while_saving_is_not_a_checkpoint(copied):
    (copied / "30").mkdir()  # nothing in it
    half = shutil.copytree(copied / "20", copied / "40")  # all but the last file, as `save` writes them
    (half / "genlab.json").unlink()
    shutil.copytree(copied / "20", copied / "50.orbax-checkpoint-tmp")
    (step, tree), reports = restore(copied)
    assert step == 20
    assert_same(tree, run_at(20))
    assert [line.split(" cannot")[0] for line in reports] == ["checkpoint 40", "checkpoint 30"]
    assert not list(copied.glob("*tmp*"))


def test_a_kill_during_the_first_save_leaves_a_run_that_starts_again(copied):
    for step in ("10", "20"):
        (copied / step / "genlab.json").unlink()
    checkpoints, reports = Checkpoints(copied), []
    assert checkpoints.restore(run_at(0), reports.append) is None and len(reports) == 2
    checkpoints.close()


def test_a_kill_while_the_last_file_is_written_leaves_no_part_of_it(copied, monkeypatch):
    replace = os.replace

    def killed(source, target):
        if pathlib.Path(target).name == "genlab.json":
            raise SystemExit
        replace(source, target)

    monkeypatch.setattr("os.replace", killed)
    checkpoints = Checkpoints(copied)
    with pytest.raises(SystemExit):
        checkpoints.save(30, run_at(30))
    checkpoints.close()
    assert not (copied / "30" / "genlab.json").exists()
    restored, reports = restore(copied)
    assert restored is not None and restored[0] == 20
    assert reports == ["checkpoint 30 cannot be read and was set aside (it was not written to its end)"]


def test_a_step_that_was_set_aside_can_be_saved_again_and_set_aside_again(copied):
    for _ in range(2):
        (copied / "20" / "default" / "manifest.ocdbt").write_bytes(b"")
        checkpoints, reports = Checkpoints(copied), []
        first = checkpoints.restore(run_at(0), reports.append)
        assert first is not None and first[0] == 10 and len(reports) == 1
        checkpoints.save(20, run_at(20))
        second = checkpoints.restore(run_at(0), pytest.fail)
        checkpoints.close()
        assert second is not None and second[0] == 20
        assert_same(second[1], run_at(20))
    assert sorted(path.name for path in (copied / "rejected").iterdir()) == ["20", "20.1"]


def test_when_all_are_damaged_the_error_says_how_to_start_again(copied):
    for step in (10, 20):
        (copied / str(step) / "genlab.json").write_text("{}")
    checkpoints, reports = Checkpoints(copied), []
    for _ in range(2):  # and again, now that there is none beside those set aside
        with pytest.raises(CheckpointError) as caught:
            checkpoints.restore(run_at(0), reports.append)
        assert str(caught.value) == f"every checkpoint is damaged; to start from step 0, move {copied} away"
    checkpoints.close()
    assert [line.split(" cannot")[0] for line in reports] == ["checkpoint 20", "checkpoint 10"]
    copied.rename(copied.with_name("away"))
    assert restore(copied) == (None, [])


def test_a_disk_that_does_not_answer_is_an_error_and_nothing_is_set_aside(copied, monkeypatch):
    def unreadable(directory):
        raise OSError(errno.EIO, "Input/output error", str(directory))

    monkeypatch.setattr(checkpoint, "digests", unreadable)
    checkpoints = Checkpoints(copied)
    with pytest.raises(CheckpointError, match=r"^checkpoint 20 cannot be read now \(.*Input/output error"):
        checkpoints.restore(run_at(0), pytest.fail)
    checkpoints.close()
    monkeypatch.undo()
    assert not (copied / "rejected").exists()
    (step, tree), reports = restore(copied)
    assert step == 20 and reports == []
    assert_same(tree, run_at(20))


def test_a_tree_of_another_shape_is_refused_and_the_checkpoint_stays(copied):
    checkpoints = Checkpoints(copied)
    run = run_at(0)
    for other, difference in [
        (
            dataclasses.replace(run, mean={"loss": jnp.zeros(2), "odd": jnp.zeros(())}),
            ".mean['loss'] is float32[] there, float32[2] here",
        ),
        (dataclasses.replace(run, mean={"loss": jnp.zeros(())}), ".mean['odd'] is float32[] there, absent here"),
        (dataclasses.replace(run, count=jnp.float32(0)), ".count is int32[] there, float32[] here"),
    ]:
        with pytest.raises(CheckpointError) as caught:
            checkpoints.restore(other, pytest.fail)
        assert str(caught.value) == f"checkpoint 20 does not fit this program: {difference}"
    checkpoints.close()
    assert restore(copied)[0][0] == 20


FULL_DISK = """
import pathlib, resource, sys
import jax.numpy as jnp
from genlab.training import checkpoint
from genlab.training.checkpoint import CheckpointError, Checkpoints

if sys.argv[2] == "unforeseen":
    checkpoint.check_room = lambda directory, num_bytes: None
checkpoints = Checkpoints(pathlib.Path(sys.argv[1]))
noise = lambda step: {"w": jnp.sin(step * jnp.arange(300_000.0))}  # does not compress
checkpoints.save(1, noise(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))  # of one file; Python ignores SIGXFSZ
try:
    checkpoints.save(2, noise(2))
except CheckpointError as error:
    print(f"{error}")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
step, tree = checkpoints.restore(noise(0), print)
assert step == 1 and (tree["w"] == noise(1)["w"]).all()
checkpoints.save(2, noise(2))
step, tree = checkpoints.restore(noise(0), print)
assert step == 2 and (tree["w"] == noise(2)["w"]).all()
print("both there")
"""


@pytest.mark.parametrize("way", ["foreseen", "unforeseen"])
def test_a_full_disk_is_an_error_of_one_line_and_earlier_checkpoints_stay(tmp_path, way):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), way], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    error, last = done.stdout.splitlines()
    assert error.startswith("cannot save checkpoint 2 (") and "\n" not in error
    assert last == "both there"
    assert way == "unforeseen" or done.stderr == ""


def test_every_file_is_listed(saved):
    listed = json.loads((saved / "20" / "genlab.json").read_text())["files"]
    files = {str(path.relative_to(saved / "20")) for path in (saved / "20").rglob("*") if path.is_file()}
    assert set(listed) == files - {"genlab.json"}


def restore_spread(directory, devices, **size):
    """(step, number of reports), of a run on these devices, once what it restores is found to be right."""
    checkpoints, reports = Checkpoints(directory), []
    restored = checkpoints.restore(spread(0, devices, **size), reports.append)
    checkpoints.close()
    assert restored is not None
    assert_spread(restored[1], restored[0], devices, **size)
    return restored[0], len(reports)


def test_a_run_moves_between_numbers_of_devices(tmp_path):
    for step, num in [(1, 8), (2, 1), (3, 2), (4, 8)]:
        checkpoints = Checkpoints(tmp_path)
        checkpoints.save(step, spread(step, jax.devices()[:num]))
        checkpoints.close()
        for devices in (jax.devices(), jax.devices()[5:6], jax.devices()[2:6]):
            assert restore_spread(tmp_path, devices) == (step, 0)


TWO = """
from spread import assert_spread, spread

from genlab.training.checkpoint import CheckpointError, Checkpoints

join()
shared, other = map(pathlib.Path, arguments)


def error_of(function):
    try:
        function()
    except (InputError, CheckpointError) as error:
        return error


print(error_of(lambda: Checkpoints(other / str(number))))
checkpoints, reports = Checkpoints(shared), []
step, tree = checkpoints.restore(spread(0, jax.devices()), reports.append)
assert_spread(tree, step, jax.devices())
print(step, reports)
print(error_of(lambda: checkpoints.restore({"all": tree["all"]}, print)))
for step in (20, 30):
    checkpoints.save(step, spread(step, jax.devices()))
checkpoints.save(30, spread(7, jax.devices()))  # it is there
step, tree = checkpoints.restore(spread(0, jax.devices()), reports.append)
assert_spread(tree, step, jax.devices())
print(step, len(reports))
checkpoints.close()
processes.leave(0)
"""


def test_a_run_moves_from_one_process_to_two_and_back(tmp_path):
    """Of two devices each; on the way the newest is found damaged, and what cannot be is refused by both alike."""
    directory, other = tmp_path / "checkpoints", tmp_path / "other"
    checkpoints = Checkpoints(directory)
    for step in (10, 20):
        checkpoints.save(step, spread(step, jax.devices()))
    checkpoints.close()
    (directory / "20" / "default" / "_METADATA").write_text("{}")
    first, second = run(TWO, 2, directory, other, devices=2)
    assert (first.code, first.err, second.code, second.err) == (0, [], 0, [])
    for number, out in enumerate((first.out, second.out)):
        lost = f"not all processes find {other / str(number)} on one disk; give a --workdir on a disk that they share"
        assert out[0] == lost
        assert out[3] == f"30 {1 - number}"
    assert first.out[1] == "10 ['checkpoint 20 cannot be read and was set aside (default/_METADATA is damaged)']"
    assert second.out[1] == "10 []"
    assert first.out[2].startswith("checkpoint 10 does not fit this program: ['counts'] is uint8[8] there, absent here")
    assert second.out[2] == "no checkpoint to go on from (process 0 could not, and says why)"
    assert sorted(path.name for path in directory.iterdir()) == ["20", "30", "rejected"]
    for devices in (jax.devices(), jax.devices()[3:4]):
        assert restore_spread(directory, devices) == (30, 0)


ENDED = """
import resource

from spread import spread

from genlab.training import checkpoint
from genlab.training.checkpoint import CheckpointError, Checkpoints

join()
directory, how, who = pathlib.Path(arguments[0]), arguments[1], int(arguments[2])
checkpoints = Checkpoints(directory)
save = lambda step: checkpoints.save(step, spread(step, jax.devices(), size=200_000))
die = lambda *arguments, **options: os.kill(os.getpid(), signal.SIGKILL)


def fill_the_disk(full):  # Python ignores SIGXFSZ
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000 if full else resource.RLIM_INFINITY, resource.RLIM_INFINITY))


try:
    save(1)
    if how == "full":
        fill_the_disk(number == 0)
        try:
            save(2)
        except CheckpointError as error:
            print(error)
        fill_the_disk(number == who)
        checkpoint.check_room = lambda directory, num_bytes: None  # not foreseen
    if how == "killed" and number == who:
        checkpoint.digests = die  # of process 0, with all but the manifest written
        checkpoints._manager.save = checkpoints._manager.save if number == 0 else die
    save(2)
    processes.leave(0)
except CheckpointError as error:
    print(f"error: {error}", file=sys.stderr)
    processes.leave(1)
except Exception as error:
    if processes.peer_is_gone(error):
        processes.abandon(error)
    raise
"""


@pytest.mark.parametrize("failing", [0, 1])
def test_a_disk_that_is_full_to_one_process_ends_both_and_earlier_checkpoints_stay(tmp_path, failing):
    done = run(ENDED, 2, tmp_path, "full", failing)
    kept = f"; earlier checkpoints in {tmp_path} are intact"
    assert done[0].out == [f"cannot save checkpoint 2 ([Errno 27] File too large){kept}"]
    assert done[1].out == [f"cannot save checkpoint 2 (process 0 could not, and says why){kept}"]
    assert done[failing].code == 1
    said = [line for line in done[failing].err if line.startswith("error: ")]  # the storage layer's threads may add
    assert len(said) == 1 and said[0].startswith("error: cannot save checkpoint 2 (") and said[0].endswith(kept)
    assert done[1 - failing].code != 0
    assert done[1 - failing].err[-1].startswith(f"error: process {1 - failing} of 2 ")
    assert restore_spread(tmp_path, jax.devices()[:1], size=200_000) == (1, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1"]


@pytest.mark.parametrize(("killed", "set_aside"), [(0, 1), (1, 0)])
def test_a_kill_of_one_process_that_saves_ends_both_and_the_run_goes_on(tmp_path, killed, set_aside):
    done = run(ENDED, 2, tmp_path, "killed", killed)
    assert done[killed].code == -9 and done[1 - killed].code not in (0, -9)
    assert done[1 - killed].err[-1].startswith(f"error: process {1 - killed} of 2 ")
    assert restore_spread(tmp_path, jax.devices()[:1], size=200_000) == (1, set_aside)
