"""Image sets of the TensorFlow Datasets catalogue, read without TensorFlow from a directory prepared once."""

import io
import json
import os
import pathlib
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from genlab.data import cache, pixels
from genlab.data.dataset import Dataset, fixed_permutation, hold_out, select
from genlab.errors import InputError

_DECODED_BYTES = 4 << 30  # a set that decodes to more is decoded as it is read
_CHUNK = 1000  # records read at a time
_NAME = re.compile(r"(?P<set>\w+)(/(?P<config>[\w.+-]+))?(:(?P<version>\d+\.\d+\.\d+))?")


def load(name: str, directory: pathlib.Path, num_validation: int, image_size: int) -> Dataset:
    """A prepared set: its own test split, or else a tenth of train held out; the rest of train permuted and split.

    Args:
        name: as in the catalogue, "set[/config][:version]".
        directory: the version that `find` found.
        num_validation: how many examples of train to hold out.
        image_size: side to which images are cropped and resized; 0: as stored.

    Raises:
        InputError: it is damaged, or not a set of 8-bit images with a training split, or they vary in size and no size
            was asked for.
    """
    import tensorflow_datasets as tfds

    try:
        builder: Any = tfds.builder_from_directory(directory)
        features = dict(builder.info.features)
    except Exception as error:
        raise _unreadable(directory, error) from error
    if "image" not in features:
        raise InputError(
            f"dataset '{name}' is not a set of images: its features are {sorted(features)}, without 'image'"
        )
    shape, dtype = features["image"].shape, np.dtype(features["image"].np_dtype)
    if dtype != np.uint8 or len(shape) != 3:
        raise InputError(f"dataset '{name}' has images {dtype}{list(shape)}; they must be uint8[H, W, C]")
    if None in shape[:2] and not image_size:
        raise InputError(f"the images of '{name}' vary in size: set data.image_size, to which they are resized")
    labels = features.get("label")
    labelled = isinstance(labels, tfds.features.ClassLabel)
    encoded = isinstance(features["image"], tfds.features.Image)
    channels = shape[2] or 3

    def decode(record: Any) -> np.ndarray:
        image = _decode_image(record, channels) if encoded else record
        return pixels.square(image, image_size) if image_size else image

    # pictures are decoded by us: TFDS's own decoder warns without OpenCV
    skipped = {
        key: tfds.decode.SkipDecoding() for key, kind in features.items() if isinstance(kind, tfds.features.Image)
    }
    sources = {
        split: builder.as_data_source(split=split, decoders=skipped)
        for split in ("train", "test")
        if split in builder.info.splits
    }
    if "train" not in sources:
        raise InputError(f"dataset '{name}' has the splits {sorted(builder.info.splits)}; it needs 'train'")

    side = (image_size, image_size) if image_size else shape[:2]
    columns = {split: Images(source, decode, (*side, channels)) for split, source in sources.items()}
    whole = sum(images.nbytes for images in columns.values()) <= _DECODED_BYTES

    def build():
        arrays = {}
        for split, source in sources.items():
            try:
                read = _read(f"{name} {split}", source, columns[split] if whole else None, labelled)
            except (OSError, RuntimeError, ValueError) as error:
                raise _unreadable(directory, error) from error
            arrays |= {f"{split}_{column}": values for column, values in read.items()}
        return arrays

    files = [path for path in pathlib.Path(directory).iterdir() if path.is_file()]
    key = f"{name}-{image_size or 'stored'}-{'whole' if whole else 'labels'}"
    arrays = cache.cached(key, files, build) if whole or labelled else {}

    def split_of(split: str) -> dict[str, Any]:
        images = {"x": arrays[f"{split}_x"] if whole else columns[split]}
        return images | ({"label": arrays[f"{split}_label"]} if labelled else {})

    order = fixed_permutation(len(sources["train"]))
    if "test" in sources:
        test = split_of("test")
        test = test if whole else select(test, np.arange(len(sources["test"])))
    else:
        num_test = round(len(order) / 10)
        test, order = select(split_of("train"), order[:num_test]), order[num_test:]
    train, validation = hold_out(split_of("train"), order, num_validation)
    return Dataset(name, train, validation, test, labels.num_classes if labelled else 0, log_density=None)


class Images:
    """The images of a prepared split, decoded when they are indexed.

    Attributes:
        source: a TFDS data source with "image" still encoded.
        decode: what it holds of an image -> uint8[H, W, C].
        shape: (N, H, W, C).
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, source: Any, decode: Callable[[Any], np.ndarray], image_shape: tuple[int, ...]):
        self.source, self.decode, self.shape = source, decode, (len(source), *image_shape)
        self.nbytes = int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for i, record in enumerate(self.source.__getitems__([int(row) for row in rows])):
            images[i] = self.decode(record["image"])
        return images


def _decode_image(encoded: bytes, channels: int) -> np.ndarray:
    """PNG or JPEG bytes -> uint8[H, W, channels]."""
    from PIL import Image

    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    with Image.open(io.BytesIO(encoded)) as picture:
        image = np.asarray(picture if picture.mode == mode else picture.convert(mode))
    return image.reshape(*image.shape[:2], channels)


def _read(what: str, source: Any, images: Images | None, labelled: bool) -> dict[str, np.ndarray]:
    """All labels of a split, and all of `images` if given, saying how far it is when that takes over two seconds."""
    x = np.empty(0 if images is None else images.shape, np.uint8)
    labels = np.empty(len(source), np.int32)
    started = time.monotonic()
    spoke = started - 3  # speaks two seconds in, then every five
    for first in range(0, len(source), _CHUNK):
        records = source.__getitems__(list(range(first, min(first + _CHUNK, len(source)))))
        for i, record in enumerate(records, start=first):
            if images is not None:
                x[i] = images.decode(record["image"])
            if labelled:
                labels[i] = record["label"]
        now, done = time.monotonic(), first + len(records)
        if now - spoke > 5 and done < len(source):
            left = (now - started) * (len(source) - done) / done
            print(f"decoding {what}: {done:,} of {len(source):,}, {left:.0f} s left", file=sys.stderr, flush=True)
            spoke = now
    return ({"x": x} if images is not None else {}) | ({"label": labels} if labelled else {})


def root_directory(data_dir: str) -> pathlib.Path:
    """Where prepared sets lie: `data_dir`, else $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return pathlib.Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def find(name: str, data_dir: str) -> pathlib.Path | None:
    """The newest prepared version of a set, root/set[/config]/version, or None.

    TFDS itself is not asked, because it would try to download for minutes.

    Raises:
        InputError: several configs are prepared and none was named, or it is not an array_record set.
    """
    root = root_directory(data_dir)
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    base = root / match["set"] / (match["config"] or "")
    pattern = match["version"] or "*.*.*"
    versions = [info.parent for info in base.glob(f"{pattern}/dataset_info.json")]
    if not versions and not match["config"]:
        versions = [info.parent for info in base.glob(f"*/{pattern}/dataset_info.json")]
        configs = sorted({version.parent.name for version in versions})
        if len(configs) > 1:
            raise InputError(
                f"'{name}' is prepared in {base} as {', '.join(configs)}: name one, as '{name}/{configs[0]}'"
            )
    if not versions:
        return None
    newest = max(versions, key=lambda version: [int(n) if n.isdigit() else -1 for n in version.name.split(".")])
    try:
        file_format = json.loads((newest / "dataset_info.json").read_text()).get("fileFormat", "tfrecord")
    except (OSError, ValueError) as error:
        raise _unreadable(newest, error) from error
    if file_format != "array_record":
        raise InputError(
            f"{newest} is prepared as {file_format}, which only TensorFlow reads: "
            f"remove it and {how_to_prepare(name, root)}"
        )
    return newest


def _unreadable(directory: pathlib.Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:200]
    return InputError(f"the dataset in {directory} cannot be read ({reason}): remove it and prepare it again")


def how_to_prepare(name: str, root: pathlib.Path) -> str:
    """The command: TFDS needs TensorFlow to prepare a set, though not to read it afterwards."""
    call = f"tfds.builder('{name}', data_dir='{root}').download_and_prepare(file_format='array_record')"
    return (
        "prepare it once, in an environment of its own, by: python -m venv .tfds && .tfds/bin/pip install "
        "tensorflow-datasets tensorflow-cpu importlib_resources && "
        f'.tfds/bin/python -c "import tensorflow_datasets as tfds; {call}"'
    )
