"""Text that needs no download, a character a token: the documentation of the Python language.

The standard library ships it for `help()`, as the dict of topics in `pydoc_data.topics` (licence: PSF version 2). It
is about 400,000 characters of English prose, grammar and code, and differs a little from one version of Python to the
next: only numbers of the same version can be compared. Topics repeat one another's sections, so a paragraph is kept
where it first stands and left out after that, before anything is split: what is held out is not a copy of what is
trained on. What repeats within paragraphs (definitions, examples, the rules of tables) stays: of the windows of 50
characters in 200 windows of validation text, 1 to 2 % occur in the training text, where it was half of them.
"""

import re

import numpy as np

from genlab.data.dataset import Dataset, fixed_permutation
from genlab.errors import InputError

LENGTH = 256  # T
STRIDE = 16  # from one training window to the next
NUM_TOKENS = 128  # K: the codes of ASCII
SETS = ("python_topics",)

_TYPOGRAPHY = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "..."})


def load(name: str, num_validation: int) -> Dataset:
    """One of `SETS`: windows i32[N, 256] of ASCII codes; no labels, and the log-density is not known.

    The last tenth of the text is for testing, the `num_validation` windows before it for validation; these windows
    follow one another without overlap. Training windows start every 16 characters of what comes before, so that a
    model meets the text at any phase.

    Raises:
        InputError: `num_validation` is negative or leaves no window to train on.
    """
    tokens = encode(_python_topics())
    rest, test = np.split(tokens, [len(tokens) - len(tokens) // 10])
    most = len(rest) // LENGTH - 1
    if not 0 <= num_validation <= most:
        raise InputError(
            f"data.num_validation is {num_validation}; it must lie between 0 and {most}, so that a window of "
            f"{LENGTH} characters is left to train on"
        )
    text, validation = np.split(rest, [len(rest) - num_validation * LENGTH])
    train, validation, test = (
        {"x": _windows(part, stride)} for part, stride in ((text, STRIDE), (validation, LENGTH), (test, LENGTH))
    )
    return Dataset(name, train, validation, test, num_classes=0, log_density=None)


def encode(text: str) -> np.ndarray:
    """i32[T], the ASCII code of each character; "?" for what is not ASCII."""
    return np.frombuffer(text.encode("ascii", "replace"), np.uint8).astype(np.int32)


def decode(tokens: np.ndarray) -> str:
    """The text of tokens i32[T] in [0, 128): the inverse of `encode` for ASCII."""
    return bytes(np.asarray(tokens).tolist()).decode("ascii")


def training_text(windows: np.ndarray) -> np.ndarray:
    """i32[256 + 16 (N - 1)], the text of which training windows i32[N, 256] were cut."""
    return np.concatenate([windows[0], windows[1:, -STRIDE:].ravel()])


def _windows(tokens: np.ndarray, stride: int) -> np.ndarray:
    """i32[N, 256], as many as there are, without what is left over at the end."""
    if len(tokens) < LENGTH:
        return np.empty((0, LENGTH), tokens.dtype)
    return np.lib.stride_tricks.sliding_window_view(tokens, LENGTH)[::stride].copy()


def _python_topics() -> str:
    """The topics in a fixed order, without paragraphs that have occurred already; ASCII in all but a few places."""
    from pydoc_data.topics import topics

    names, seen, paragraphs = sorted(topics), set(), []
    for i in fixed_permutation(len(names)):
        for paragraph in re.split(r"\n(?:[ \t]*\n)+", topics[names[i]].strip("\n")):
            content = tuple(paragraph.split())  # the same words may be broken into other lines
            if content and content not in seen:
                seen.add(content)
                paragraphs.append(paragraph)
    return "\n\n".join(paragraphs).translate(_TYPOGRAPHY)
