"""Curves: the lines of a figure against the records they were made from."""

from typing import Any

import numpy as np
import pytest

from genlab.plots import curves

RECORDS: list[dict[str, Any]] = [
    {"step": 0, "split": "train", "loss": 4.0, "kl": 1.0},
    {"step": 10, "split": "train", "loss": 3.0, "kl": 200.0},
    {"step": 10, "split": "validation", "loss": 3.5},
    {"step": 20, "split": "train", "loss": 2.0, "kl": 150.0},
]


def lines(axes):
    return {line.get_label(): line.get_xydata().tolist() for line in axes.lines}


def test_one_panel_a_metric_and_one_line_a_split():
    figure = curves.curves(RECORDS)
    loss, kl = figure.axes
    assert (loss.get_title(loc="left"), kl.get_title(loc="left")) == ("loss", "kl")
    assert lines(loss) == {"train": [[0, 4], [10, 3], [20, 2]], "validation": [[10, 3.5]]}
    assert lines(kl) == {"train": [[0, 1], [10, 200], [20, 150]]}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["train", "validation"]


def test_the_scale_is_logarithmic_for_positive_values_over_a_factor_of_100():
    loss, kl = curves.curves(RECORDS).axes
    assert (loss.get_yscale(), kl.get_yscale()) == ("linear", "log")
    negative = [{**record, "kl": -record["kl"]} for record in RECORDS if "kl" in record]
    assert curves.curves(negative, metrics=["kl"]).axes[0].get_yscale() == "linear"


def test_a_population_is_its_mean_and_a_band_of_one_standard_deviation():
    records = [{"step": step, "split": "train", "loss": [step + 1.0, step + 3.0]} for step in (0, 5)]
    axes = curves.curves(records).axes[0]
    assert lines(axes) == {"train": [[0, 2], [5, 7]]}
    band = np.asarray(axes.collections[0].get_paths()[0].vertices)
    # two members one above and one below the mean: variance 2 / (2 - 1)
    for step, mean in ((0, 2), (5, 7)):
        edge = band[band[:, 0] == step, 1]
        np.testing.assert_allclose([edge.min(), edge.max()], [mean - 2**0.5, mean + 2**0.5])


@pytest.mark.parametrize("bad", [None, float("nan"), float("inf"), [float("inf"), float("nan")]])
def test_what_is_not_finite_is_a_gap_and_is_named(bad):
    good = [1.0, 1.0] if isinstance(bad, list) else 1.0
    records = [
        {"step": step, "split": "train", "loss": bad if step in (1000, 2000) else good} for step in range(0, 4000, 1000)
    ]
    axes = curves.curves(records).axes[0]
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [1, np.nan, np.nan, 1])
    assert axes.get_title(loc="right") == "not finite at step 1,000"
    assert curves.curves(records[:1]).axes[0].get_title(loc="right") == ""


def test_a_resumed_run_counts_its_later_record():
    records = [*RECORDS, {"step": 10, "split": "train", "loss": 2.5}]
    assert lines(curves.curves(records, metrics=["loss"]).axes[0])["train"] == [[0, 4], [10, 2.5], [20, 2]]


def test_panels_share_their_steps():
    records = [*RECORDS, {"step": 5, "split": "test", "accuracy": 0.5}]
    assert len({axes.get_xlim() for axes in curves.curves(records).axes}) == 1


@pytest.mark.parametrize(
    ("records", "metrics", "message"),
    [
        ([], None, "empty"),
        (RECORDS, ["los"], "no record has the metric 'los'; known: loss, kl"),
        ([{"step": 1, "loss": 2.0}], None, "a step and a split; got the fields step, loss"),
    ],
)
def test_curves_refuse_what_they_cannot_draw(records, metrics, message):
    with pytest.raises(ValueError, match=message):
        curves.curves(records, metrics)


def test_a_member_that_failed_is_left_out_of_the_band_and_the_others_go_on():
    records = [
        {"step": 1, "split": "train", "loss": [1.0, 2.0, 6.0]},
        {"step": 2, "split": "train", "loss": [1.0, None, 5.0]},
        {"step": 3, "split": "train", "loss": [None, None, 4.0]},
        {"step": 4, "split": "train", "loss": [None, None, None]},
    ]
    (axes,) = curves.curves(records).axes
    steps, mean = axes.lines[0].get_data()
    np.testing.assert_allclose(steps, [1, 2, 3, 4])
    np.testing.assert_allclose(mean, [3.0, 3.0, 4.0, np.nan])
    edges = np.concatenate([path.vertices for path in axes.collections[0].get_paths()])
    for step, sd in ((1, 7**0.5), (2, 8**0.5), (3, 0.0)):
        at = edges[edges[:, 0] == step, 1]
        centre = mean[step - 1]
        np.testing.assert_allclose([at.min(), at.max()], [centre - sd, centre + sd], rtol=1e-6)
    assert "step 2" in axes.get_title(loc="right")
