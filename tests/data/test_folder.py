import io
import os

import numpy as np
import pytest
from PIL import Image

from configs import base
from experiments.checks import check_padding
from genlab import data
from genlab.data import dataset as dataset_module
from genlab.data import folder, stacked
from genlab.errors import InputError


def pixels(i, shape):
    """uint8 image number i: no two alike."""
    return np.random.default_rng(i).integers(0, 256, shape, dtype=np.uint8)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(path, **options)


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    """Twenty grey images of 5 x 4 pixels, some of them deeper, and what is not to be read."""
    root = tmp_path_factory.mktemp("flat")
    for i in range(20):
        save(root / ("deep/er" if i % 3 == 0 else "") / f"{i:02}.{'PNG' if i % 2 else 'bmp'}", pixels(i, (5, 4, 1)))
    (root / "notes.txt").write_text("no image")
    (root / "._00.png").write_text("of another system")
    save(root / ".thumbnails" / "00.png", pixels(99, (5, 4, 1)))
    return root


def parts(dataset):
    return dataset.train, dataset.validation, dataset.test


def rows(split):
    return [image.tobytes() for image in np.asarray(split["x"])]


def whole(dataset):
    """All images, in the order of their names, and their labels."""
    images = np.concatenate([split["x"] for split in parts(dataset)])
    labels = np.concatenate([split["label"] for split in parts(dataset)]) if dataset.num_classes else None
    return images, labels


def read(tmp_path, *files, image_size=0):
    """Images by name, of a folder with these files, and those of the calls before, by their content."""
    root = tmp_path / "images"
    root.mkdir(exist_ok=True)
    for name, content in files:
        (root / name).write_bytes(content)
    paths = folder._list(root)
    return dict(zip([path.name for path in paths], folder._read(root, paths, image_size), strict=True))


def encoded(picture, form="png", **options):
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def test_the_splits_are_a_partition_of_the_pixels_in_the_files(flat):
    dataset = data.load(f"folder:{flat}", num_validation=4)
    assert dataset.name == f"folder:{flat}" and dataset.num_classes == 0 and dataset.log_density is None
    found = [rows(split) for split in parts(dataset)]
    assert [len(each) for each in found] == [14, 4, 2]
    assert sorted([*found[0], *found[1], *found[2]]) == sorted(pixels(i, (5, 4, 1)).tobytes() for i in range(20))
    for split in parts(dataset):
        assert set(split) == {"x"} and split["x"].dtype == np.uint8 and split["x"].shape[1:] == (5, 4, 1)


def test_the_split_hangs_on_the_number_of_images_alone(flat, tmp_path):
    first, again = (data.load(f"folder:{flat}", num_validation=num) for num in (4, 0))
    np.testing.assert_array_equal(first.test["x"], again.test["x"])
    np.testing.assert_array_equal(np.concatenate([first.train["x"], first.validation["x"]]), again.train["x"])
    assert again.validation["x"].shape == (0, 5, 4, 1)
    # elsewhere, made in another order, and while the global generator of a run stands elsewhere
    for i in reversed(range(20)):
        name = ("deep/er/" if i % 3 == 0 else "") + f"{i:02}.{'PNG' if i % 2 else 'bmp'}"
        save(tmp_path / name, pixels(i, (5, 4, 1)))
    np.random.seed(7)
    elsewhere = data.load(f"folder:{tmp_path}", num_validation=4)
    for split, other in zip(parts(first), parts(elsewhere), strict=True):
        np.testing.assert_array_equal(split["x"], other["x"])
    # and it is none of the order of names
    assert rows(again.test) != [pixels(i, (5, 4, 1)).tobytes() for i in (0, 3)]


def test_the_test_split_is_bounded(flat, monkeypatch):
    monkeypatch.setattr(folder, "MAX_TEST", 1)
    assert [len(split["x"]) for split in parts(data.load(f"folder:{flat}", num_validation=4))] == [15, 4, 1]


def test_subfolders_are_classes_in_the_order_of_their_names(tmp_path):
    for i in range(12):
        save(tmp_path / ("cat", "Zebra", "10", "9")[i % 4] / f"{i}.png", np.full((2, 2, 1), i, np.uint8))
    dataset = data.load(f"folder:{tmp_path}", num_validation=3)
    assert dataset.num_classes == 4
    images, labels = whole(dataset)
    assert labels.dtype == np.int32 and dataset.validation["label"].shape == (3,)
    # of characters, 1 < 9 < Z < c
    np.testing.assert_array_equal(labels, np.array([3, 2, 0, 1])[images[:, 0, 0, 0] % 4])
    # an empty folder is no class, one image beside the folders leaves none, and so does a folder in them
    (tmp_path / "empty").mkdir()
    assert data.load(f"folder:{tmp_path}", num_validation=3).num_classes == 4
    save(tmp_path / "beside.png", pixels(0, (2, 2, 1)))
    assert data.load(f"folder:{tmp_path}", num_validation=3).num_classes == 0
    (tmp_path / "beside.png").rename(tmp_path / "empty" / "beside.png")
    assert data.load(f"folder:{tmp_path}", num_validation=3).num_classes == 5
    (tmp_path / "cat" / "kitten").mkdir()
    (tmp_path / "cat" / "0.png").rename(tmp_path / "cat" / "kitten" / "0.png")
    assert data.load(f"folder:{tmp_path}", num_validation=3).num_classes == 0


def test_one_subfolder_is_no_class_though_its_own_folder_reads_as_classes(tmp_path):
    """Both names have the same files, and may share what is decoded, but not what is asked of their folders."""
    for i in range(6):
        save(tmp_path / "a" / "a" / "xy"[i % 2] / f"{i}.png", pixels(i, (2, 2, 1)))
    inner, outer = (data.load(f"folder:{path}", num_validation=1) for path in (tmp_path / "a" / "a", tmp_path / "a"))
    assert inner.num_classes == 2 and outer.num_classes == 0 and "label" not in outer.train
    np.testing.assert_array_equal(inner.train["x"], outer.train["x"])


def test_one_image_in_colour_makes_all_of_three_channels(tmp_path):
    grey, colour = pixels(0, (3, 2, 1)), pixels(1, (3, 2, 3))
    files = [("a.png", encoded(Image.fromarray(grey[..., 0])))]
    assert read(tmp_path, *files)["a.png"].shape == (3, 2, 1)
    found = read(tmp_path, *files, ("b.png", encoded(Image.fromarray(colour))), ("c.png", files[0][1]))
    np.testing.assert_array_equal(found["b.png"], colour)
    for name in ("a.png", "c.png"):  # before and after it
        np.testing.assert_array_equal(found[name], np.repeat(grey, 3, axis=2))


def test_every_way_to_store_an_image_gives_its_pixels(tmp_path):
    colour = pixels(2, (3, 2, 3))
    palette = Image.new("P", (2, 3))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 2), 1)
    frames = [Image.new("RGB", (2, 3), shade) for shade in ((255, 0, 0), (0, 0, 255))]
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by 90 degrees, clockwise
    found = read(
        tmp_path,
        ("lossless.webp", encoded(Image.fromarray(colour), "webp", lossless=True)),
        ("smooth.JPEG", encoded(Image.new("RGB", (2, 3), (200, 100, 50)), "jpeg", quality=95)),
        ("frames.gif", encoded(frames[0], "gif", save_all=True, append_images=frames[1:])),
        ("palette.png", encoded(palette)),
        ("turned.png", encoded(Image.fromarray(np.rot90(colour)), exif=turned)),
        ("bits.png", encoded(Image.fromarray(colour[..., 0] > 127))),
    )
    np.testing.assert_array_equal(found["lossless.webp"], colour)
    np.testing.assert_allclose(found["smooth.JPEG"].astype(int), np.full((3, 2, 3), (200, 100, 50)), atol=3)
    np.testing.assert_array_equal(found["frames.gif"], np.full((3, 2, 3), (255, 0, 0)))
    expected = np.full((3, 2, 3), (10, 20, 30))
    expected[2, 1] = 40, 50, 60
    np.testing.assert_array_equal(found["palette.png"], expected)
    np.testing.assert_array_equal(found["turned.png"], colour)
    np.testing.assert_array_equal(found["bits.png"], 255 * np.repeat(colour[..., :1] > 127, 3, axis=2))


def test_sixteen_bits_become_eight_and_what_is_transparent_black(tmp_path):
    deep = np.array([[0, 255, 256], [32768, 65279, 65535]], np.uint16)
    veil = np.array([[255, 0, 51]] * 2, np.uint8)
    veiled = Image.merge("LA", [Image.new("L", (3, 2), 200), Image.fromarray(veil)])
    found = read(tmp_path, ("deep.png", encoded(Image.fromarray(deep))), ("veiled.png", encoded(veiled)))
    np.testing.assert_array_equal(found["deep.png"][..., 0], [[0, 0, 1], [128, 254, 255]])
    np.testing.assert_array_equal(found["veiled.png"][..., 0], [[200, 0, 40]] * 2)  # 51 / 255 is a fifth
    glass = np.dstack([np.full((2, 3, 3), (250, 100, 0), np.uint8), veil])
    found = read(tmp_path, ("glass.png", encoded(Image.fromarray(glass))))
    np.testing.assert_array_equal(found["glass.png"], [[[250, 100, 0], [0, 0, 0], [50, 20, 0]]] * 2)


def test_images_are_cropped_to_the_centre_and_resized(tmp_path):
    ramp = np.tile(np.arange(0, 160, 10, dtype=np.uint8), (12, 1))  # 12 x 16: columns 2 to 13 are kept
    found = read(
        tmp_path,
        ("constant.png", encoded(Image.new("L", (7, 9), 77))),
        ("exact.png", encoded(Image.fromarray(pixels(3, (8, 6))))),
        ("ramp.png", encoded(Image.fromarray(ramp))),
        image_size=6,
    )
    assert {image.shape for image in found.values()} == {(6, 6, 1)}
    np.testing.assert_array_equal(found["constant.png"], np.full((6, 6, 1), 77))
    np.testing.assert_array_equal(found["exact.png"][..., 0], pixels(3, (8, 6))[1:7])
    # away from its ends a symmetric filter of a straight line gives the mean of each block of two
    np.testing.assert_array_equal(found["ramp.png"][:, 1:5, 0], np.tile([45, 65, 85, 105], (6, 1)))
    # neighbours that alternate are averaged, not skipped
    board = np.uint8(255) * np.uint8(np.indices((12, 12)).sum(axis=0) % 2)
    found = read(tmp_path, ("board.png", encoded(Image.fromarray(board))), image_size=6)
    np.testing.assert_allclose(found["board.png"][1:5, 1:5].astype(int), 127.5, atol=6)


def test_images_of_several_sizes_need_a_size(tmp_path):
    for i in range(4):
        save(tmp_path / f"{i}.png", pixels(i, (3, 2 + i // 2, 1)))
    message = r"0\.png is 2 x 3 pixels and 2\.png 3 x 3: set data\.image_size"
    with pytest.raises(InputError, match=message) as caught:
        data.load(f"folder:{tmp_path}", num_validation=1)
    assert "\n" not in str(caught.value)
    assert data.load(f"folder:{tmp_path}", num_validation=1, image_size=2).train["x"].shape == (2, 2, 2, 1)


def test_files_that_cannot_be_read_are_named_and_counted(tmp_path):
    for i in range(5):
        save(tmp_path / f"{i}.png", pixels(i, (20, 20, 1)))
    cut = tmp_path / "1.png"
    cut.write_bytes(cut.read_bytes()[:150])
    with pytest.raises(InputError, match=rf"1\.png in {tmp_path} cannot be read \(.*\): repair or remove it") as caught:
        data.load(f"folder:{tmp_path}", num_validation=1)
    assert "\n" not in str(caught.value)
    (tmp_path / "2.png").write_bytes(b"")
    (tmp_path / "4.png").write_text("no image at all")
    with pytest.raises(InputError, match=r"1\.png in .*, and neither can 2 more: repair"):
        data.load(f"folder:{tmp_path}", num_validation=1)
    cut.unlink()
    with pytest.raises(InputError, match=r"2\.png in .* cannot be read \(not an image\), and neither can 1 more"):
        data.load(f"folder:{tmp_path}", num_validation=1)
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match=r"nowhere\.png in .* cannot be read \(no such file\)"):
        data.load(f"folder:{tmp_path}", num_validation=1)


def test_what_is_no_folder_of_images_is_refused(tmp_path, flat):
    with pytest.raises(InputError, match=f"there is no folder {tmp_path}/gone"):
        data.load(f"folder:{tmp_path}/gone")
    with pytest.raises(InputError, match=r"notes\.txt is not a folder"):
        data.load(f"folder:{flat}/notes.txt")
    with pytest.raises(InputError, match=r"no images in .*; their names end in \.png, \.jpg"):
        data.load(f"folder:{tmp_path}")
    with pytest.raises(InputError, match="names no folder; write folder:PATH"):
        data.load("folder:")
    with pytest.raises(InputError, match=r"too few images, 20: 2 for testing and data\.num_validation=18 leave none"):
        data.load(f"folder:{flat}", num_validation=18)
    assert len(data.load(f"folder:{flat}", num_validation=17).train["x"]) == 1
    with pytest.raises(InputError, match="num_validation is -1"):
        data.load(f"folder:{flat}", num_validation=-1)
    save(tmp_path / "single.png", pixels(0, (2, 2, 1)))
    with pytest.raises(InputError, match="too few images, 1: "):
        data.load(f"folder:{tmp_path}", num_validation=0)


def test_home_is_understood(flat, monkeypatch):
    monkeypatch.setenv("HOME", str(flat.parent))
    assert len(data.load(f"folder:~/{flat.name}", num_validation=4).train["x"]) == 14


def test_the_second_load_decodes_nothing_until_a_file_changes(flat, monkeypatch):
    first = data.load(f"folder:{flat}", num_validation=4)
    calls = []
    decode = folder._decode
    monkeypatch.setattr(folder, "_decode", lambda *given: calls.append(given) or decode(*given))
    np.testing.assert_array_equal(data.load(f"folder:{flat}", num_validation=4).train["x"], first.train["x"])
    assert not calls
    assert data.load(f"folder:{flat}", num_validation=4, image_size=3).train["x"].shape == (14, 3, 3, 1)
    assert len(calls) == 20
    os.utime(flat / "01.PNG", ns=(1, 1))
    data.load(f"folder:{flat}", num_validation=4)
    assert len(calls) == 40


def test_chunks_change_nothing(flat, monkeypatch):
    paths = folder._list(flat)
    expected = folder._read(flat, paths, 0)
    monkeypatch.setattr(folder, "_CHUNK", 3)
    np.testing.assert_array_equal(folder._read(flat, paths, 0), expected)


@pytest.mark.parametrize("name", ["digits", "folder"])
def test_padding_is_black_around_what_was_there(flat, name):
    name = f"folder:{flat}" if name == "folder" else name
    bare, padded = (data.load(name, num_validation=4, image_size=3, padding=padding) for padding in (0, 2))
    for split, other in zip(parts(bare), parts(padded), strict=True):
        assert other["x"].shape == (len(split["x"]), 7, 7, 1) and other["x"].dtype == np.uint8
        expected = np.zeros((len(split["x"]), 7, 7, 1), np.uint8)
        expected[:, 2:5, 2:5] = split["x"]
        np.testing.assert_array_equal(other["x"], expected)
        assert set(split) == set(other)
    assert padded.name == bare.name and padded.num_classes == bare.num_classes


def test_columns_that_are_read_when_indexed_are_padded_then(flat, monkeypatch):
    column = data.load(f"folder:{flat}", num_validation=4).train["x"]
    monkeypatch.setattr(dataset_module, "_IN_MEMORY_BYTES", 0)
    lazy = data.load(f"folder:{flat}", num_validation=4, padding=1).train["x"]
    assert not isinstance(lazy, np.ndarray) and lazy.dtype == np.uint8
    assert lazy.shape == (14, 7, 6, 1) and np.ndim(lazy) == 4 and lazy.nbytes == 14 * 7 * 6 and len(lazy) == 14
    for index in (3, slice(2, 12, 3), [5, 1, 1], np.array([[0, 13], [7, 7]]), np.arange(0)):
        found = lazy[index]
        np.testing.assert_array_equal(found[..., 1:6, 1:5, :], column[index])
        assert found.sum() == column[index].sum() and found.shape[-3:] == (7, 6, 1)
    np.testing.assert_array_equal(np.asarray(lazy)[:, 1:6, 1:5], column)


def test_stacked_images_are_padded_once(monkeypatch):
    monkeypatch.setitem(stacked.SETS, "stacked_digits", ("digits", 50))
    bare, padded = (data.load("stacked_digits", num_validation=4, image_size=3, padding=padding) for padding in (0, 2))
    assert padded.train["x"].shape == (50, 7, 7, 3)
    np.testing.assert_array_equal(np.asarray(padded.train["x"])[:, 2:5, 2:5], np.asarray(bare.train["x"]))
    np.testing.assert_array_equal(padded.test["label"], bare.test["label"])


@pytest.mark.parametrize("name", ["ring", "waves", "python_topics"])
def test_only_images_are_padded(name):
    with pytest.raises(InputError, match=f"'{name}' holds no images; data.padding must be 0"):
        data.load(name, padding=1)


def test_a_negative_padding_is_refused():
    with pytest.raises(InputError, match=r"data\.padding is -1; it must be at least 0"):
        data.load("digits", padding=-1)


@pytest.mark.parametrize("density", ["exact", "bound", "implicit", "none"])
def test_a_density_is_of_no_padded_images(density):
    config = base.get_config()
    check_padding(config, density)
    config.data.padding = 2
    if density in ("implicit", "none"):
        return check_padding(config, density)
    with pytest.raises(InputError, match=r"data\.padding is 2; it must be 0 for a density"):
        check_padding(config, density)
