"""A folder of images as a data set, "folder:PATH"."""

import os
import pathlib
import sys
import time
from concurrent import futures

import numpy as np

from genlab.data import cache, pixels
from genlab.data.dataset import Dataset, fixed_permutation, hold_out, select
from genlab.errors import InputError

PREFIX = "folder:"
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")  # in lower or upper case
MAX_TEST = 10_000
_CHUNK = 256  # images decoded between two looks at the clock


def load(name: str, num_validation: int, image_size: int) -> Dataset:
    """All images below a folder: a tenth for testing, 10,000 at most, the rest permuted and split.

    The order in which they are split hangs on their number alone. Hidden files and folders are left out, and links to
    folders are not followed. Of an animation the first frame is taken. Pictures are turned as their EXIF orientation
    says, what is transparent is laid on black, and of 16 bits the upper eight are kept. They have one channel if all
    are stored as greys, else three, greys being repeated.

    Where every image lies in an immediate subfolder, and there are two such folders or more, labels are the numbers of
    the subfolders, sorted as strings; otherwise there are none.

    The first load decodes the whole set into memory, N H W C bytes; later ones map the cached result, as of any set.

    Args:
        name: "folder:PATH"; ~ is the home directory.
        num_validation: how many examples of those that are not for testing to hold out.
        image_size: side to which images are cropped and resized, see `pixels.square`; 0: as stored, all of one size.

    Raises:
        InputError: no such folder, none or too few images in it, some that cannot be read, or of several sizes and no
            size was asked for.
    """
    if name == PREFIX:
        raise InputError(f"data.name '{PREFIX}' names no folder; write {PREFIX}PATH")
    root = pathlib.Path(os.path.expanduser(name.removeprefix(PREFIX)))
    paths = _list(root)
    num_test = min(max(round(len(paths) / 10), 1), MAX_TEST)
    if num_test + max(num_validation, 0) >= len(paths):
        raise InputError(
            f"{root} has too few images, {len(paths)}: {num_test} for testing and data.num_validation={num_validation} "
            "leave none to train on"
        )
    columns = {}
    # the files alone are the key, so that what depends on which of their folders was asked for is not kept
    key = f"folder-{root.resolve().name[:40]}-{image_size or 'stored'}"
    columns["x"] = cache.cached(key, paths, lambda: {"x": _read(root, paths, image_size)})["x"]
    parents = [path.relative_to(root).parts[:-1] for path in paths]
    classes = sorted(set(parents))
    labelled = len(classes) > 1 and all(len(parent) == 1 for parent in classes)
    if labelled:
        number = {parent: i for i, parent in enumerate(classes)}
        columns["label"] = np.array([number[parent] for parent in parents], np.int32)
    order = fixed_permutation(len(paths))
    train, validation = hold_out(columns, order[num_test:], num_validation)
    test = select(columns, order[:num_test])
    return Dataset(name, train, validation, test, len(classes) if labelled else 0, log_density=None)


def _list(root: pathlib.Path) -> list[pathlib.Path]:
    """The images below a folder, sorted by the parts of their paths."""
    if not root.exists():
        raise InputError(f"there is no folder {root}, of which data.name '{PREFIX}PATH' is to read the images")
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; data.name '{PREFIX}PATH' reads the images of one")

    def refuse(error: OSError) -> None:
        raise InputError(f"the folder {error.filename} cannot be listed: {error.strerror}") from error

    paths = []
    for folder, subfolders, files in os.walk(root, onerror=refuse):
        subfolders[:] = [each for each in subfolders if not each.startswith(".")]
        images = (each for each in files if each.lower().endswith(SUFFIXES) and not each.startswith("."))
        paths += [pathlib.Path(folder, each) for each in images]
    if not paths:
        raise InputError(f"there are no images in {root}; their names end in {', '.join(SUFFIXES)}")
    if broken := [path for path in paths if not path.is_file()]:  # a link to nowhere
        raise _unreadable(root, [(path, "no such file") for path in sorted(broken)])
    return sorted(paths, key=lambda path: path.parts)


def _read(root: pathlib.Path, paths: list[pathlib.Path], image_size: int) -> np.ndarray:
    """uint8[N, H, W, C], saying how far it is when that takes over two seconds."""
    from PIL import UnidentifiedImageError

    def attempt(path: pathlib.Path) -> np.ndarray | str:
        try:
            return _decode(path, image_size)
        except UnidentifiedImageError:
            return "not an image"
        except Exception as error:  # decoders raise whatever they stumble over
            return " ".join(str(error).split())[:200] or type(error).__name__

    images, unreadable = None, []
    started = time.monotonic()
    spoke = started - 3  # speaks two seconds in, then every five
    with futures.ThreadPoolExecutor() as pool:
        for first in range(0, len(paths), _CHUNK):
            chunk = paths[first : first + _CHUNK]
            for i, (path, image) in enumerate(zip(chunk, pool.map(attempt, chunk), strict=True), start=first):
                if isinstance(image, str):
                    unreadable.append((path, image))
                    continue
                if images is None:
                    images, example = np.empty((len(paths), *image.shape), np.uint8), path
                if image.shape[:2] != images.shape[1:3]:
                    (one_height, one_width), (height, width) = images.shape[1:3], image.shape[:2]
                    raise InputError(
                        f"the images in {root} differ in size, {example.relative_to(root)} is {one_width} x "
                        f"{one_height} pixels and {path.relative_to(root)} {width} x {height}: set data.image_size, "
                        "to which they are cropped and resized"
                    )
                if image.shape[2] > images.shape[3]:  # the first in colour: those before it were grey
                    images = np.repeat(images, 3, axis=3)
                images[i] = image
            now, done = time.monotonic(), first + len(chunk)
            if now - spoke > 5 and done < len(paths):
                left = (now - started) * (len(paths) - done) / done
                print(f"decoding {root}: {done:,} of {len(paths):,}, {left:.0f} s left", file=sys.stderr, flush=True)
                spoke = now
    if unreadable or images is None:
        raise _unreadable(root, unreadable)
    return images


def _decode(path: pathlib.Path, image_size: int) -> np.ndarray:
    """uint8[H, W, 1] of a picture stored as greys, else uint8[H, W, 3]."""
    from PIL import Image, ImageOps

    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened)
    if picture.mode.startswith("I"):  # greys of 16 bits, which Pillow would clip at 255
        image = (np.asarray(picture) >> 8).astype(np.uint8)[..., None]
    else:
        grey = picture.mode in ("1", "L", "LA")
        if "A" in picture.getbands() or "transparency" in picture.info:
            black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
            picture = Image.alpha_composite(black, picture.convert("RGBA"))
        image = np.asarray(picture.convert("L" if grey else "RGB")).reshape(picture.height, picture.width, -1)
    return pixels.square(image, image_size) if image_size else image


def _unreadable(root: pathlib.Path, files: list[tuple[pathlib.Path, str]]) -> InputError:
    (path, reason), more = files[0], len(files) - 1
    others = f", and neither can {more:,} more" if more else ""
    return InputError(f"{path.relative_to(root)} in {root} cannot be read ({reason}){others}: repair or remove it")
