"""What a metrics file holds after kills and resumes, and the optional writers."""

import importlib
import json
import sys
from typing import Any

import pytest

from genlab.errors import InputError
from genlab.training import writers


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_jsonl_writes_one_object_a_call_and_keeps_none_of_it_in_memory(tmp_path):
    path = tmp_path / "metrics.jsonl"
    writer = writers.jsonl_writer(path, 0)
    writer.write(10, "train", {"loss": 0.5, "kl": 2.0})
    assert path.read_text() == '{"step": 10, "split": "train", "loss": 0.5, "kl": 2.0}\n'  # before it is closed
    writer.write(10, "validation", {"loss": 0.25})
    writer.close()
    assert lines(path)[1] == {"step": 10, "split": "validation", "loss": 0.25}


def test_jsonl_drops_what_came_after_the_checkpoint_and_goes_on(tmp_path):
    path = tmp_path / "metrics.jsonl"
    first = writers.jsonl_writer(path, 0)
    for step, split in [(10, "train"), (20, "train"), (20, "validation"), (30, "train")]:
        first.write(step, split, {"loss": 1.0})
    first.close()
    second = writers.jsonl_writer(path, 20)
    assert [(row["step"], row["split"]) for row in lines(path)] == [(10, "train"), (20, "train"), (20, "validation")]
    second.write(30, "train", {"loss": 2.0})
    second.close()
    assert [row["step"] for row in lines(path)] == [10, 20, 20, 30]
    assert lines(path)[-1]["loss"] == 2.0


@pytest.mark.parametrize("cut", ['{"step": 20, "split": "tr', '{"step": 20, "split": "train", "loss": 0.', "\0\0\0\0"])
def test_jsonl_drops_a_last_line_that_was_cut(tmp_path, cut):
    path = tmp_path / "metrics.jsonl"
    whole = '{"step": 10, "split": "train", "loss": 1.5}\n'
    path.write_text(whole + cut)
    assert writers.read_jsonl(path) == [{"step": 10, "split": "train", "loss": 1.5}]
    writer = writers.jsonl_writer(path, 20)
    writer.write(20, "train", {"loss": 3.0})
    writer.close()
    assert path.read_text() == whole + '{"step": 20, "split": "train", "loss": 3.0}\n'


def test_nothing_after_a_line_that_is_not_whole_is_believed(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 10, "loss": 1.0}\n{"step": 20, "lo\n{"step": 30, "loss": 3.0}\n')
    assert writers.read_jsonl(path) == [{"step": 10, "loss": 1.0}]


def test_jsonl_numbers_survive_exactly(tmp_path):
    path = tmp_path / "metrics.jsonl"
    numbers = {"a": 0.1 + 0.2, "b": 1e-300, "c": -87.33654475055312}
    for resume_step in (0, 1):  # written, then read and written again
        writer = writers.jsonl_writer(path, resume_step)
        if not resume_step:
            writer.write(1, "train", numbers)
        writer.close()
    assert lines(path) == [{"step": 1, "split": "train", **numbers}]


def test_no_metrics_file_is_no_records(tmp_path):
    assert writers.read_jsonl(tmp_path / "metrics.jsonl") == []


def test_jsonl_is_always_among_the_writers_and_named_twice_is_one(tmp_path):
    for names in ((), ("jsonl",), ("jsonl", "jsonl")):
        opened = writers.open_writers(names, tmp_path, {}, 0)
        assert len(opened) == 1
        opened[0].write(1, "train", {"loss": 1.0})
        opened[0].close()
        assert lines(tmp_path / "metrics.jsonl") == [{"step": 1, "split": "train", "loss": 1.0}]


def test_an_unknown_writer_lists_the_known_ones_and_writes_nothing(tmp_path):
    with pytest.raises(InputError, match="unknown writer 'tensorbord'; known: jsonl, tensorboard, wandb"):
        writers.open_writers(("jsonl", "tensorbord"), tmp_path, {}, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "package"), [("wandb", "wandb"), ("tensorboard", "tensorboardX")])
def test_a_missing_package_is_one_line_that_says_how_to_get_it(tmp_path, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(
        InputError, match=rf"^writers has '{name}' but {package} is missing; pip install -e '\.\[{name}\]'$"
    ):
        writers.open_writers((name,), tmp_path, {}, 0)


def test_tensorboard_events_are_split_slash_metric_and_purged_from_the_resumed_step(tmp_path):
    pytest.importorskip("tensorboardX")
    opened = writers.open_writers(("tensorboard",), tmp_path, {}, 0)
    for step in (10, 20, 30):
        for writer in opened:
            writer.write(step, "train", {"loss": step / 8})
    for writer in opened:
        writer.close()
    resumed = writers.tensorboard_writer(tmp_path / "tensorboard", 20)
    resumed.write(30, "train", {"loss": 7.0})
    resumed.close()
    assert [row["step"] for row in lines(tmp_path / "metrics.jsonl")] == [10, 20, 30]
    assert scalars(tmp_path / "tensorboard") == [
        (1, "purge", None),  # what a run that was killed before its first checkpoint wrote
        (10, "train/loss", 1.25),
        (20, "train/loss", 2.5),
        (30, "train/loss", 3.75),
        (21, "purge", None),
        (30, "train/loss", 7.0),
    ]


def test_tensorboard_has_a_tag_a_member_of_a_population_and_nothing_of_what_is_not_finite(tmp_path):
    pytest.importorskip("tensorboardX")
    writer = writers.tensorboard_writer(tmp_path, 0)
    writer.write(10, "train", {"loss": [0.5, None, 0.25], "seconds": 2.0})
    writer.write(10, "validation", {"loss": None})
    writer.close()
    assert scalars(tmp_path)[1:] == [(10, "train/loss/0", 0.5), (10, "train/loss/2", 0.25), (10, "train/seconds", 2.0)]


def scalars(directory):
    """(step, tag, value) of every scalar event, files in order; a session that purges is (its step, "purge", None)."""
    event_pb2: Any = importlib.import_module("tensorboardX.proto.event_pb2")

    rows = []
    for file in sorted(directory.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        data = file.read_bytes()
        while data:  # TFRecord: length u64, its checksum u32, the event, its checksum u32
            length = int.from_bytes(data[:8], "little")
            event = event_pb2.Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            if event.session_log.status == event_pb2.SessionLog.START:
                rows.append((event.step, "purge", None))
            rows += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
    return rows
