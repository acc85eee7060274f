import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from genlab import data
from genlab.data import catalogue
from genlab.data import dataset as dataset_module
from genlab.errors import InputError


def image(split, i, shape):
    """uint8 image number i of a split: no two alike."""
    return np.random.default_rng([len(split), i]).integers(0, 256, shape, dtype=np.uint8)


def prepare(
    root, set_name, shape=(6, 5, 1), splits=(("train", 40), ("test", 12)), label=True, config=None, varying=False
):
    """Writes a TFDS directory as a catalogue builder would."""

    class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = set_name
        VERSION = tfds.core.Version("3.0.1")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config, description=config)] if config else []

        def _info(self):
            size = (None, None) if varying else shape[:2]
            features = {"image": tfds.features.Image(shape=(*size, shape[2]))}
            if label:
                features["label"] = tfds.features.ClassLabel(num_classes=4)
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split, num) for split, num in splits}

        def _generate_examples(self, split, num):
            for i in range(num):
                size = (shape[0] + i % 3, shape[1]) if varying else shape[:2]
                pixels = image(split, i, (*size, shape[2]))
                picture = Image.fromarray(pixels[..., 0] if shape[2] == 1 else pixels)
                yield i, {"image": picture} | ({"label": i % 4} if label else {})

    Tiny(data_dir=root).download_and_prepare(file_format="array_record")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    path = tmp_path_factory.mktemp("tfds")
    prepare(path, "tiny")
    prepare(path, "colours", shape=(8, 6, 3), splits=(("train", 20),), label=False)
    prepare(path, "varying", shape=(8, 6, 3), splits=(("train", 20),), varying=True)
    prepare(path, "several", config="one")
    return str(path)


def expected(split, num, shape=(6, 5, 1)):
    """Examples as bytes, to compare sets."""
    return {image(split, i, shape).tobytes() for i in range(num)}


def found(columns):
    return {np.asarray(picture).tobytes() for picture in np.asarray(columns["x"])}


@pytest.mark.parametrize("lazily", [False, True])
def test_a_prepared_set_is_read_and_split(root, monkeypatch, lazily):
    if lazily:
        monkeypatch.setattr(catalogue, "_DECODED_BYTES", 0)
    dataset = data.load("tiny", data_dir=root, num_validation=10)
    assert [len(split["x"]) for split in (dataset.train, dataset.validation, dataset.test)] == [30, 10, 12]
    assert dataset.num_classes == 4 and dataset.log_density is None
    assert dataset.train["x"].shape == (30, 6, 5, 1) and dataset.train["x"].dtype == np.uint8
    assert isinstance(dataset.train["x"], np.ndarray) is not lazily
    train, validation = found(dataset.train), found(dataset.validation)
    assert len(train) == 30 and len(validation) == 10 and train | validation == expected("train", 40)
    assert found(dataset.test) == expected("test", 12)
    # labels go with their images
    number = {image("train", i, (6, 5, 1)).tobytes(): i for i in range(40)}
    labels = [number[picture.tobytes()] % 4 for picture in np.asarray(dataset.train["x"])]
    np.testing.assert_array_equal(dataset.train["label"], labels)
    assert dataset.train["label"].dtype == np.int32


def test_a_lazy_set_is_indexed_and_streamed_like_an_array(root, monkeypatch):
    whole = data.load("tiny", data_dir=root, num_validation=0)
    monkeypatch.setattr(catalogue, "_DECODED_BYTES", 0)
    lazy = data.load("tiny", data_dir=root, num_validation=0)
    for rows in (3, slice(2, 20, 3), [5, 1, 1], np.array([[0, 39], [7, 7]]), np.arange(0)):
        np.testing.assert_array_equal(lazy.train["x"][rows], whole.train["x"][rows])
    np.testing.assert_array_equal(np.asarray(lazy.test["x"]), whole.test["x"])
    feeds = [data.stream_feed(split, 16, seed=0) for split in (whole.train, lazy.train)]
    left, right = (feed.read(0, 6, 6) for feed in feeds)  # straddles epochs: one batch may hold an image twice
    for column in ("x", "label"):
        np.testing.assert_array_equal(left[column], right[column])
    for feed in feeds:
        feed.close()


def test_the_validation_split_is_the_same_every_time_and_may_be_empty(root):
    first, second = (data.load("tiny", data_dir=root, num_validation=num) for num in (10, 0))
    np.testing.assert_array_equal(np.concatenate([first.train["x"], first.validation["x"]]), second.train["x"])
    assert second.validation["x"].shape == (0, 6, 5, 1)


def test_without_a_test_split_a_tenth_of_train_is_held_out(root):
    dataset = data.load("colours", data_dir=root, num_validation=5)
    splits = [found(split) for split in (dataset.train, dataset.validation, dataset.test)]
    assert [len(split) for split in splits] == [13, 5, 2]
    assert set.union(*splits) == expected("train", 20, (8, 6, 3))
    assert set(dataset.train) == {"x"} and dataset.num_classes == 0


def test_images_of_varying_size_need_a_size(root):
    with pytest.raises(InputError, match="vary in size"):
        data.load("varying", data_dir=root, num_validation=0)
    dataset = data.load("varying", data_dir=root, num_validation=0, image_size=6)
    assert dataset.train["x"].shape == (18, 6, 6, 3)
    # widths are 6 already, so that only the crop acts, and it takes the middle rows
    middles = {image("train", i, (8 + i % 3, 6, 3))[(2 + i % 3) // 2 :][:6].tobytes() for i in range(20)}
    assert found(dataset.train) | found(dataset.test) == middles


def test_the_second_load_decodes_nothing(root, monkeypatch):
    first = data.load("tiny", data_dir=root, num_validation=10)

    def refuse(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr(catalogue, "_decode_image", refuse)
    monkeypatch.setattr(catalogue, "_read", refuse)
    second = data.load("tiny", data_dir=root, num_validation=10)
    np.testing.assert_array_equal(first.train["x"], second.train["x"])


def test_reading_needs_no_tensorflow(root, tmp_path):
    program = f"""
import sys
from genlab import data
assert "tensorflow_datasets" not in sys.modules and "grain" not in sys.modules and "sklearn" not in sys.modules
print(len(data.load("tiny", data_dir={root!r}, num_validation=10).train["x"]))
assert "tensorflow" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={"GENLAB_CACHE": str(tmp_path), "HOME": "/"},
    )
    assert done.stdout == "30\n", done.stderr


def test_versions_and_configs(root):
    assert len(data.load("tiny:3.0.1", data_dir=root, num_validation=0).train["x"]) == 40
    # the only config prepared is taken, and can be named
    assert catalogue.find("several", root) == catalogue.find("several/one:3.0.1", root)
    assert catalogue.find("tiny:1.0.0", root) is None
    assert catalogue.find("../tiny", root) is None


def test_the_newest_version_is_found_and_several_configs_are_refused(tmp_path):
    for directory in ("a/9.0.0", "a/10.0.0", "b/one/1.0.0", "b/two/1.0.0"):
        (tmp_path / directory).mkdir(parents=True)
        (tmp_path / directory / "dataset_info.json").write_text(json.dumps({"fileFormat": "array_record"}))
    assert catalogue.find("a", str(tmp_path)) == tmp_path / "a" / "10.0.0"
    with pytest.raises(InputError, match="as one, two: name one, as 'b/one'"):
        catalogue.find("b", str(tmp_path))


def test_a_set_prepared_for_tensorflow_is_refused(tmp_path):
    (tmp_path / "a" / "1.0.0").mkdir(parents=True)
    (tmp_path / "a" / "1.0.0" / "dataset_info.json").write_text(json.dumps({"fileFormat": "tfrecord"}))
    with pytest.raises(InputError, match=r"only TensorFlow reads.*file_format='array_record'"):
        data.load("a", data_dir=str(tmp_path))


@pytest.mark.parametrize("name", ["mnist", "emnist/balanced"])
def test_an_unprepared_set_says_where_it_looked_and_how_to_prepare_it(tmp_path, monkeypatch, name):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(InputError) as caught:
        data.load(name)
    message = str(caught.value)
    assert "\n" not in message
    assert f"nor prepared in {tmp_path};" in message
    assert f"tfds.builder('{name}', data_dir='{tmp_path}').download_and_prepare(file_format='array_record')" in message


def test_an_unknown_set_lists_the_known_ones_and_the_nearest(tmp_path):
    with pytest.raises(
        InputError, match=r"nearest is 'mnist_5k'.*mnist_5k, digits, ring, grid, moons, pinwheel, spirals"
    ):
        data.load("mnist5k", data_dir=str(tmp_path))


@pytest.mark.parametrize("damaged", ["dataset_info.json", "features.json", "tiny-train.array_record-00000-of-00001"])
@pytest.mark.parametrize("how", ["cut", "gone"])
def test_a_damaged_set_is_refused_in_one_line(tmp_path, damaged, how):
    prepare(tmp_path, "tiny")
    path = tmp_path / "tiny" / "3.0.1" / damaged
    if how == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.unlink()
    # without its dataset_info.json a directory is not a prepared set at all
    problem = "nor prepared in" if (damaged, how) == ("dataset_info.json", "gone") else "cannot be read"
    with pytest.raises(InputError, match=problem) as caught:
        data.load("tiny", data_dir=str(tmp_path), num_validation=5)
    assert "\n" not in str(caught.value)


def test_a_set_without_images_is_refused(tmp_path):
    prepare(tmp_path, "tiny")
    path = tmp_path / "tiny" / "3.0.1" / "features.json"
    path.write_text(path.read_text().replace('"image": {', '"picture": {', 1))
    with pytest.raises(InputError, match=r"features are .'label', 'picture'., without 'image'"):
        data.load("tiny", data_dir=str(tmp_path), num_validation=5)


def test_a_large_cached_set_is_read_in_order_without_a_copy(root, monkeypatch):
    small = data.load("tiny", data_dir=root, num_validation=10)
    monkeypatch.setattr(dataset_module, "_IN_MEMORY_BYTES", 0)
    large = data.load("tiny", data_dir=root, num_validation=10)
    assert not isinstance(large.train["x"], np.ndarray)
    for column in ("x", "label"):
        np.testing.assert_array_equal(large.train[column][4:9], small.train[column][4:9])
        np.testing.assert_array_equal(np.asarray(large.validation[column]), small.validation[column])
