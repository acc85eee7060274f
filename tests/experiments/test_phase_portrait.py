"""Paths of several games in one figure, from what their runs logged."""

import json
import types

import numpy as np
import pytest

from experiments import phase_portrait as tool
from genlab.errors import InputError


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """The arguments of the last figure, which goes to portrait.png."""
    found = {}

    given = types.SimpleNamespace(reach=0.0, output=str(tmp_path / "portrait.png"))
    monkeypatch.setattr(tool, "flags", types.SimpleNamespace(FLAGS=given))
    kept = tool.portrait

    def portrait(*arguments):
        found["given"] = arguments
        return kept(*arguments)

    monkeypatch.setattr(tool, "portrait", portrait)
    return found


def run(directory, network="bilinear", data_name="gaussian", **columns):
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps({"model": {"network": network}, "data": {"name": data_name}}))
    records = [{"step": i, "split": "train", **dict(zip(columns, row, strict=True))}
               for i, row in enumerate(zip(*columns.values(), strict=True))]  # fmt: skip
    records.append({"step": 9, "split": "validation", **dict.fromkeys(columns, 7.0)})
    (directory / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(directory)


def test_every_run_and_its_average_has_a_path(tmp_path, drawn):
    one = run(tmp_path / "one", x=[1.0, 0.5], y=[0.0, 0.25])
    two = run(tmp_path / "two", x=[1.0, 2.0], y=[0.0, 3.0], average_x=[1.0, 0.9], average_y=[0.0, 0.1])
    tool.main([one, two])
    network, name, paths, reach = drawn["given"]
    assert (network, name, reach) == ("bilinear", "gaussian", 0.0)
    assert {label: path.tolist() for label, path in paths.items()} == {
        "one": [[1.0, 0.0], [0.5, 0.25]],
        "two": [[1.0, 0.0], [2.0, 3.0]],
        "two, their average": [[1.0, 0.0], [0.9, 0.1]],
    }
    assert (tmp_path / "portrait.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("network", "centre"), [("bilinear", 0.0), ("affine", 1.0)])
def test_axes_reach_as_far_as_was_asked_for_around_the_equilibrium(network, centre):
    figure = tool.portrait(network, "gaussian", {"path": np.array([[0.3, 0.1], [0.2, 0.0]])}, reach=1.5)
    (axes,) = figure.axes[:1]
    assert axes.get_xlim() == pytest.approx((centre - 1.5, centre + 1.5))
    assert axes.get_ylim() == pytest.approx((-1.5, 1.5))


def test_what_cannot_be_drawn_together_is_one_line(tmp_path, drawn):
    one = run(tmp_path / "one", x=[1.0], y=[0.0])
    line = run(tmp_path / "line", network="affine", gen_mean=[1.0], disc_slope=[0.0])
    images = run(tmp_path / "images", network="dcgan", accuracy=[1.0])
    for arguments, message in (
        ([], "give the runs to be drawn"),
        ([str(tmp_path / "none")], "no run at"),
        ([one, images], "images is no game whose players can be told by two numbers"),
        ([one, line], "the runs are of different games: affine on gaussian, bilinear on gaussian"),
    ):
        with pytest.raises(InputError, match=message):
            tool.main(arguments)
    assert "given" not in drawn
