"""Animations, read back by Pillow."""

import numpy as np
import pytest
from PIL import Image, ImageSequence

from genlab.plots.animation import LEAST_HEIGHT, save_gif


def read(path):
    """Frames uint8[T, H, W, 3] and the duration of each in milliseconds."""
    with Image.open(path) as picture:
        frames, durations = [], []
        for frame in ImageSequence.Iterator(picture):
            frames.append(np.asarray(frame.convert("RGB")))
            durations.append(frame.info["duration"])
        assert picture.info["loop"] == 0  # for ever
    return np.stack(frames), durations


def greys(*shape):
    """Images [..., 8, 4, 1] of one grey each, in equal steps from 0 to 1."""
    grey = np.linspace(0, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    return np.broadcast_to(grey[..., None, None, None], (*shape, 8, 4, 1))


def test_frames_go_there_and_back_and_every_pixel_is_a_square(tmp_path):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (4, 8, 6, 1), dtype=np.uint8)
    path = save_gif(frames, tmp_path / "new" / "walk.gif", frames_per_second=20)
    found, durations = read(path)
    factor = LEAST_HEIGHT // 8
    assert found.shape == (6, 8 * factor, 6 * factor, 3) and durations == [50] * 6
    np.testing.assert_array_equal(found[:, ::factor, ::factor, 0], frames[[0, 1, 2, 3, 2, 1], ..., 0])
    np.testing.assert_array_equal(found, found[:, ::factor, ::factor].repeat(factor, 1).repeat(factor, 2))
    assert [file.name for file in path.parent.iterdir()] == ["walk.gif"]


def test_frames_may_go_there_alone_and_intensities_become_bytes(tmp_path):
    found, durations = read(save_gif(greys(5), tmp_path / "walk.gif", frames_per_second=12, there_and_back=False))
    np.testing.assert_array_equal(found[:, 0, 0, 0], [0, 64, 128, 191, 255])
    assert durations == [80] * 5


def test_several_images_a_frame_are_a_grid(tmp_path):
    found, _ = read(save_gif(greys(2, 3), tmp_path / "walk.gif", there_and_back=False, columns=2))
    factor = LEAST_HEIGHT // 8
    assert found.shape == (2, 17 * factor, 9 * factor, 3)
    corners = found[:, [0, 0, 9 * factor, 9 * factor], [0, 5 * factor, 0, 5 * factor], 0]
    np.testing.assert_array_equal(corners, [[0, 51, 102, 255], [153, 204, 255, 255]])  # and a blank cell


def test_colours_stay_in_their_channels(tmp_path):
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    frames[0, ..., 0], frames[1, ..., 2] = 255, 255
    found, _ = read(save_gif(frames, tmp_path / "walk.gif"))
    np.testing.assert_array_equal(found[:, 0, 0], [(255, 0, 0), (0, 0, 255)])


def test_one_frame_is_a_picture(tmp_path):
    with Image.open(save_gif(greys(1), tmp_path / "still.gif")) as picture:
        assert len(list(ImageSequence.Iterator(picture))) == 1


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = save_gif(greys(2), tmp_path / "walk.gif")
    before = path.read_bytes()

    def fail(self, file, **options):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        save_gif(greys(3), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("frames", "name", "rate", "complaint"),
    [
        (greys(2), "walk.png", 10, "ends in .gif"),
        (greys(2)[0], "walk.gif", 10, r"frames are \[T, H, W, C\]"),
        (greys(2), "walk.gif", 0, "frames a second; got 0"),
        (greys(2), "walk.gif", 51, "frames a second; got 51"),
        (np.full((2, 8, 8, 1), np.nan), "walk.gif", 10, "finite"),
    ],
)
def test_what_no_gif_can_show_is_refused(tmp_path, frames, name, rate, complaint):
    with pytest.raises(ValueError, match=complaint):
        save_gif(frames, tmp_path / name, rate)
    assert not list(tmp_path.iterdir())
