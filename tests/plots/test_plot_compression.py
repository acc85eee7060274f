"""Error over code size, against the artists drawn."""

import numpy as np
import pytest

from genlab.plots import compression, files


def lines(figure):
    (axes,) = figure.axes
    return {line.get_label(): np.asarray(line.get_xydata()) for line in axes.lines}


def test_the_curve_and_the_points_stand_where_they_were_measured(tmp_path):
    sizes, mse = np.arange(1, 6), np.array([0.5, 0.3, 0.2, 0.15, 0.1])
    figure = compression.error_by_code_size(sizes, mse, {"one": (3, 0.05), "sweep": ([8, 2, 4], [0.01, 0.4, 0.02])})
    drawn = lines(figure)
    np.testing.assert_array_equal(drawn["PCA"], np.stack([sizes, mse], axis=1))
    np.testing.assert_array_equal(drawn["one"], [[3, 0.05]])
    np.testing.assert_array_equal(drawn["sweep"], [[2, 0.4], [4, 0.02], [8, 0.01]])
    (axes,) = figure.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["PCA", "one", "sweep"]
    assert len({line.get_color() for line in axes.lines}) == 3
    assert files.save(figure, tmp_path / "error.png").stat().st_size > 1000


def test_pca_is_drawn_as_far_as_a_logarithm_says_something():
    """With all components nothing is left but rounding, or nothing at all."""
    figure = compression.error_by_code_size(np.arange(1, 5), np.array([0.5, 0.1, 1e-17, 0.0]), {"ours": (2, 0.02)})
    np.testing.assert_array_equal(lines(figure)["PCA"], [[1, 0.5], [2, 0.1]])


def test_pca_can_stand_alone():
    assert set(lines(compression.error_by_code_size(np.arange(1, 4), np.array([3.0, 2.0, 1.0]), {}))) == {"PCA"}


@pytest.mark.parametrize(
    ("sizes", "mse", "points", "message"),
    [
        ([1, 2], [0.1], {}, "one error >= 0 for each size"),
        ([0, 1], [0.2, 0.1], {}, "size >= 1"),
        ([1, 2], [0.1, np.nan], {}, "one error >= 0"),
        ([], [], {}, "one error"),
        ([1, 2], [0.2, 0.1], {"ours": (2, 0.0)}, "'ours' has sizes and errors, positive"),
        ([1, 2], [0.2, 0.1], {"ours": (2, np.inf)}, "finite"),
        ([1, 2], [0.2, 0.1], {"ours": ([], [])}, "positive"),
    ],
)
def test_what_cannot_be_placed_is_refused(sizes, mse, points, message):
    with pytest.raises(ValueError, match=message):
        compression.error_by_code_size(np.array(sizes), np.array(mse), points)
