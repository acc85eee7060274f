"""Whose a workdir is: the lock between processes, and the config that claims it."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from genlab.errors import InputError
from genlab.training import workdir

ROOT = pathlib.Path(__file__).parents[2]
HOLD = """
import pathlib, sys
from genlab.training import workdir
with workdir.locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
CONFIG = {"seed": 0, "model": {"hidden": (400, 20), "beta": 1.0}, "writers": ("jsonl",)}


@pytest.fixture
def holder(tmp_path):
    """Another process that holds tmp_path / "run"."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_workdir_is_made_and_can_be_used_again_and_again(tmp_path):
    run = tmp_path / "deep" / "run"
    for _ in range(3):
        with workdir.locked(run):
            assert (run / "lock").read_text() == f"process {os.getpid()}"


def test_a_workdir_in_use_names_its_user(tmp_path, holder):
    run = tmp_path / "run"
    before = (run / "lock").read_text()
    with pytest.raises(InputError) as caught, workdir.locked(run):
        pytest.fail("two hold it")
    assert str(caught.value) == (
        f"workdir {run} is in use by process {holder.pid}; wait for it or give another --workdir"
    )
    assert (run / "lock").read_text() == before


def test_a_process_that_is_killed_lets_go(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait(60)
    with workdir.locked(tmp_path / "run"):
        assert (tmp_path / "run" / "lock").read_text() == f"process {os.getpid()}"


def test_a_process_that_ends_lets_go(tmp_path, holder):
    holder.communicate("")
    with workdir.locked(tmp_path / "run"):
        pass


def test_the_lock_goes_with_an_exception(tmp_path):
    with pytest.raises(ZeroDivisionError), workdir.locked(tmp_path):
        raise ZeroDivisionError
    with workdir.locked(tmp_path):
        pass


def test_a_workdir_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match=rf"^cannot use workdir {place}: "), workdir.locked(place):
            pass


def test_a_claim_writes_the_config_and_accepts_it_again(tmp_path):
    workdir.check_claim(tmp_path, CONFIG)
    assert list(tmp_path.iterdir()) == []  # checking is not claiming
    workdir.claim(tmp_path, CONFIG)
    text = (tmp_path / "config.json").read_text()
    assert json.loads(text) == {"seed": 0, "model": {"hidden": [400, 20], "beta": 1.0}, "writers": ["jsonl"]}
    workdir.claim(tmp_path, CONFIG)  # a tuple is the list that JSON makes of it
    workdir.claim(tmp_path, json.loads(text))
    assert (tmp_path / "config.json").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_free_fields_may_change_and_the_file_says_what_they_are_now(tmp_path):
    workdir.claim(tmp_path, CONFIG)
    workdir.claim(tmp_path, {**CONFIG, "writers": ("jsonl", "tensorboard")}, free=("writers",))
    assert json.loads((tmp_path / "config.json").read_text())["writers"] == ["jsonl", "tensorboard"]
    with pytest.raises(InputError, match=r"it differs in seed: 0 there, 1 here; give"):
        workdir.claim(tmp_path, {**CONFIG, "seed": 1, "writers": ()}, free=("writers",))


def test_another_config_is_refused_with_the_fields_that_differ(tmp_path):
    workdir.claim(tmp_path, CONFIG)
    text = (tmp_path / "config.json").read_text()
    other = {"seed": 1, "model": {"hidden": (400, 10), "beta": 1.0, "depth": 2}}
    for refuse in (workdir.claim, workdir.check_claim):
        with pytest.raises(InputError) as caught:
            refuse(tmp_path, other)
        assert str(caught.value) == (
            f"workdir {tmp_path} holds a run of another config; it differs in model.depth: 'absent' there, 2 here; "
            "model.hidden: [400, 20] there, [400, 10] here; seed: 0 there, 1 here; writers: ['jsonl'] there, "
            "'absent' here; give another --workdir or the same config"
        )
    assert (tmp_path / "config.json").read_text() == text


@pytest.mark.parametrize("text", ["", '{"seed": 0', "[1, 2]", "3"])
def test_a_config_file_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"config\.json is not a config; give another --workdir"):
        workdir.claim(tmp_path, CONFIG)
    assert (tmp_path / "config.json").read_text() == text


def test_a_block_against_a_value_is_a_difference():
    assert workdir.differences({"a": {"b": 1}}, {"a": 1}) == ["a: {'b': 1} there, 1 here"]
    assert workdir.differences({"a": 1, "b": {"c": [1, 2]}}, {"a": 1, "b": {"c": [1, 2]}}) == []


def test_a_text_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    workdir.write_text(path, "before")

    def full(self, text):
        with self.open("w") as file:
            file.write(text[:2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        workdir.write_text(path, "after")
    assert path.read_text() == "before"
