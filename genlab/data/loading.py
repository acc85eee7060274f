"""From a name to a data set."""

import difflib

from genlab.data import catalogue, embedded, folder, series, stacked, synthetic, text
from genlab.data.dataset import Dataset
from genlab.data.padding import pad
from genlab.errors import InputError


def load(name: str, data_dir: str = "", num_validation: int = 500, image_size: int = 0, padding: int = 0) -> Dataset:
    """A data set by name, split by a fixed permutation that does not depend on the run's seed.

    Args:
        name: "mnist_5k" or "digits" (real images that need no download), "gaussian" (points on the line of known
            density), "ring", "grid", "moons", "pinwheel" or "spirals" (in the plane), "waves" (time series),
            "python_topics" (text), "stacked_mnist_5k" (three digits of mnist_5k as one colour image) or, of the
            catalogue's mnist, "stacked_mnist"; "folder:PATH" (the images below a folder); or an image set of the
            TensorFlow Datasets catalogue, as "mnist", "emnist/balanced" or "cifar10:3.0.2", prepared in `data_dir`
            beforehand.
        data_dir: for catalogue sets; "" is $TFDS_DATA_DIR or ~/tensorflow_datasets.
        num_validation: how many examples to hold out of train; of a synthetic set, how many more to draw; of a stacked
            set, how many digits to hold out, of which as many triples are drawn.
        image_size: side in pixels to which images are cropped and resized; 0: as stored.
        padding: pixels of 0 that are added on every side of every image after that.

    Returns:
        The Dataset: images uint8[N, H, W, C], points f32[N, D], series f32[N, T, C] or text i32[N, T]; labels i32[N].
        A set that decodes to more than 4 GiB, or is stacked, has columns that are read when indexed.

    Raises:
        InputError: an unknown or unprepared set, or sizes that it cannot have.
    """
    if image_size < 0:
        raise InputError(f"data.image_size is {image_size}; it must be positive, or 0 for images as stored")
    if padding < 0:
        raise InputError(f"data.padding is {padding}; it must be at least 0")
    dataset = _unpadded(name, data_dir, num_validation, image_size)
    return pad(dataset, padding) if padding else dataset


def _unpadded(name: str, data_dir: str, num_validation: int, image_size: int) -> Dataset:
    """`load` but for the padding."""
    if name.startswith(folder.PREFIX):
        return folder.load(name, num_validation, image_size)
    if name in embedded.SETS:
        return embedded.load(name, num_validation, image_size)
    if name in synthetic.SETS:
        if image_size:
            raise InputError(f"'{name}' holds points; data.image_size must be 0")
        return synthetic.load(name, num_validation)
    if name in series.SETS:
        if image_size:
            raise InputError(f"'{name}' holds time series; data.image_size must be 0")
        return series.load(name, num_validation)
    if name in text.SETS:
        if image_size:
            raise InputError(f"'{name}' holds text; data.image_size must be 0")
        return text.load(name, num_validation)
    if name in stacked.SETS:
        digits, num_train = stacked.SETS[name]
        try:
            return stacked.stack(name, _unpadded(digits, data_dir, num_validation, image_size), num_train)
        except InputError as error:
            raise InputError(f"'{name}' is made of '{digits}': {error}") from error
    directory = catalogue.find(name, data_dir)
    if directory is None:
        own = [*embedded.SETS, *synthetic.SETS, *series.SETS, *text.SETS, *stacked.SETS, f"{folder.PREFIX}PATH"]
        nearest = difflib.get_close_matches(name, own, n=1, cutoff=0.8)
        root = catalogue.root_directory(data_dir)
        raise InputError(
            f"unknown dataset '{name}'{f', nearest is {nearest[0]!r}' if nearest else ''}: neither one of "
            f"{', '.join(own)}, nor prepared in {root}; if it is an image set of the TensorFlow Datasets catalogue "
            f"(set[/config][:version]), {catalogue.how_to_prepare(name, root)}"
        )
    return catalogue.load(name, directory, num_validation, image_size)
