"""Mosaics against pixels written by hand, and against the file that is drawn from them."""

import numpy as np
import pytest
from PIL import Image

from genlab.plots import files, images, samples, style


def numbered(count, height=2, width=3, channels=1):
    """Image i is filled with the byte i + 1."""
    values = np.arange(1, count + 1, dtype=np.uint8)
    return np.broadcast_to(values[:, None, None, None], (count, height, width, channels)).copy()


def shown(axes):
    """The grey mosaic an axes holds."""
    red, green, blue = np.moveaxis(np.asarray(axes.images[0].get_array()), -1, 0)
    assert (red == green).all() and (green == blue).all()
    return red


def ticks(axis):
    return {
        label.get_text(): position for label, position in zip(axis.get_ticklabels(), axis.get_ticklocs(), strict=True)
    }


def test_image_grid_is_the_mosaic_made_by_hand():
    small = np.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]], [[9, 10], [11, 12]]], np.uint8)[..., None]
    expected = [
        [1, 2, 255, 5, 6],
        [3, 4, 255, 7, 8],
        [255, 255, 255, 255, 255],
        [9, 10, 255, 255, 255],
        [11, 12, 255, 255, 255],
    ]
    grid = images.image_grid(small, columns=2)
    np.testing.assert_array_equal(grid[..., 0], expected)
    assert grid.dtype == np.uint8


def test_image_grid_without_gap_keeps_colour_channels():
    colour = numbered(4, 1, 1, 3) * np.array([1, 10, 20], np.uint8)
    grid = images.image_grid(colour, columns=2, gap=0)
    np.testing.assert_array_equal(grid, [[[1, 10, 20], [2, 20, 40]], [[3, 30, 60], [4, 40, 80]]])


def test_to_uint8_rounds_and_clips_at_the_ends():
    x = np.array([-0.2, 0.0, 0.4999 / 255, 0.5001 / 255, 0.5, 1.0, 1.3], np.float32).reshape(1, 7, 1)
    np.testing.assert_array_equal(images.to_uint8(x).ravel(), [0, 0, 0, 1, 128, 255, 255])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.full((1, 2, 2, 1), np.nan, np.float32), "4 values are not"),
        (np.zeros((0, 2, 2, 1), np.float32), "at least one"),
        (np.zeros((1, 2, 2, 2), np.float32), "C of 1 or 3"),
        (np.zeros((1, 2, 2, 1), np.int32), "int32"),
        (np.zeros((2, 2, 1), np.float32), r"\[N, H, W, C\]"),
    ],
)
def test_image_grid_refuses_what_is_no_image(bad, message):
    with pytest.raises(ValueError, match=message):
        images.image_grid(bad, columns=2)


def test_image_grid_refuses_zero_columns():
    with pytest.raises(ValueError, match="at least one column"):
        images.image_grid(numbered(2), columns=0)


@pytest.mark.parametrize("row_labels", [(), ("a long label", "b")])
def test_a_saved_grid_holds_every_pixel_as_a_whole_square(tmp_path, row_labels):
    digits = np.random.default_rng(0).integers(0, 255, (6, 28, 28, 1), np.uint8)
    path = files.save(samples.samples(digits, columns=3, row_labels=row_labels), tmp_path / "grid.png")
    drawn = np.asarray(Image.open(path).convert("RGB"))
    mosaic = images.image_grid(digits, columns=3)[..., 0]
    scale = 200 // 28
    expected = mosaic.repeat(scale, axis=0).repeat(scale, axis=1)[..., None]
    top, right = 4, drawn.shape[1] - 4  # no label above, none to the right
    found = drawn[top : top + expected.shape[0], right - expected.shape[1] : right]
    np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape))


def test_a_mosaic_too_large_for_a_page_shrinks():
    figure = samples.samples(np.zeros((40, 64, 64, 3), np.float32), columns=40)
    assert figure.get_size_inches()[0] <= style.WIDTH


def test_samples_name_their_rows_at_their_middles():
    axes = samples.samples(numbered(5), columns=2, row_labels=["zero", "one", "two"]).axes[0]
    assert ticks(axes.yaxis) == {"zero": 0.5, "one": 3.5, "two": 6.5}
    with pytest.raises(ValueError, match="3 rows"):
        samples.samples(numbered(5), columns=2, row_labels=["zero"])


def test_samples_over_time_put_steps_in_rows_and_enlarge_the_coarse():
    coarse, fine = numbered(2, 1, 1), numbered(2, 2, 2) + 10
    axes = samples.samples_over_time([coarse, fine], [0, 12_000]).axes[0]
    np.testing.assert_array_equal(
        shown(axes),
        [[1, 1, 255, 2, 2], [1, 1, 255, 2, 2], [255] * 5, [11, 11, 255, 12, 12], [11, 11, 255, 12, 12]],
    )
    assert ticks(axes.yaxis) == {"step 0": 0.5, "step 12,000": 3.5}


@pytest.mark.parametrize(
    ("rows", "steps", "message"),
    [
        ([numbered(2)], [0, 1], "1 rows, 2 steps"),
        ([], [], "0 rows"),
        ([numbered(2), numbered(3)], [0, 1], "one shape"),
        ([numbered(2, 2, 2), numbered(2, 3, 3)], [0, 1], "whole pixels"),
    ],
)
def test_samples_over_time_refuse_rows_that_do_not_agree(rows, steps, message):
    with pytest.raises(ValueError, match=message):
        samples.samples_over_time(rows, steps)


def test_reconstructions_lie_under_their_originals():
    axes = samples.reconstructions(numbered(3, 1, 1), numbered(3, 1, 1) + 100, columns=2).axes[0]
    wide, white = [255] * 3, [255] * 3
    np.testing.assert_array_equal(
        shown(axes),
        [[1, 255, 2], white, [101, 255, 102], wide, wide, wide, [3, 255, 255], white, [103, 255, 255]],
    )
    assert [label.get_text() for label in axes.get_yticklabels()] == ["original", "reconstruction"] * 2
    np.testing.assert_array_equal(axes.get_yticks(), [0, 2, 6, 8])


def test_image_rows_refuse_sets_of_different_size():
    with pytest.raises(ValueError, match="one shape"):
        samples.image_rows({"source": numbered(2), "translation": numbered(3)})
    with pytest.raises(ValueError, match="none"):
        samples.image_rows({})


def test_interpolations_run_from_left_to_right():
    rows = numbered(6, 1, 1).reshape(2, 3, 1, 1, 1)
    axes = samples.interpolations(rows, ends=("a 3", "an 8")).axes[0]
    np.testing.assert_array_equal(shown(axes), [[1, 255, 2, 255, 3], [255] * 5, [4, 255, 5, 255, 6]])
    assert ticks(axes.xaxis) == {"a 3": 0, "an 8": 4}
    with pytest.raises(ValueError, match=r"\[rows, steps, H, W, C\]"):
        samples.interpolations(numbered(6))


def test_save_replaces_the_file_and_leaves_nothing_else(tmp_path):
    figure = samples.samples(numbered(4), columns=2)
    path = tmp_path / "figures" / "samples.png"
    files.save(figure, path)
    first = path.read_bytes()
    files.save(figure, path)
    assert path.read_bytes() == first
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        files.save(figure, path)
        assert reader.read() == b"old"  # who had the old file open still has it whole
    assert path.read_bytes() == first
    assert [p.name for p in path.parent.iterdir()] == ["samples.png"]


def test_save_keeps_the_old_file_when_drawing_fails(tmp_path, monkeypatch):
    path = tmp_path / "samples.png"
    path.write_bytes(b"old")
    figure = samples.samples(numbered(4), columns=2)

    def fail(partial, **_):
        partial.write_bytes(b"half of a")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        files.save(figure, path)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_save_refuses_another_ending(tmp_path):
    with pytest.raises(ValueError, match=r"\.png"):
        files.save(samples.samples(numbered(1)), tmp_path / "samples.jpg")


def test_figures_leave_the_settings_of_the_process_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    samples.samples(numbered(1))
    assert dict(matplotlib.rcParams) == before
