"""What samples of a language model are worth: how many of their words, and longer pieces, are those of other text."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from genlab.evaluation.held_out import mean_and_error

Number = dict[str, Any]

WORD = re.compile("[A-Za-z]{2,}")
COPIED = 50  # characters in a row


def words_block(samples: Sequence[str], train: str, held_out: Sequence[str]) -> dict[str, Number]:
    """Whether samples are made of words, and whether they are copied.

    Args:
        samples: that were generated.
        train: the text that the model was trained on.
        held_out: text that it was not, cut as the samples are.

    Returns:
        Numbers, mean over samples: "known_words", the share of a sample's words, runs of two letters or more, that
        occur in the training text, and "copied", the share of its pieces of 50 characters that do; beside each what
        held-out text has, as `test_text`. The first and last word of a sample, which may be cut, do not count.
    """
    known = set(WORD.findall(train))
    pieces = {train[i : i + COPIED] for i in range(len(train) - COPIED + 1)}

    def known_words(text: str) -> float:
        words = WORD.findall(text)[1:-1]
        return sum(word in known for word in words) / max(len(words), 1)

    def copied(text: str) -> float:
        starts = range(max(len(text) - COPIED + 1, 0))
        return sum(text[i : i + COPIED] in pieces for i in starts) / max(len(starts), 1)

    block = {}
    for measure in (known_words, copied):
        value, error = mean_and_error(np.array([measure(text) for text in samples]))
        of_real, _ = mean_and_error(np.array([measure(text) for text in held_out]))
        block[measure.__name__] = {
            "value": value, "standard_error": error, "test_text": of_real, "n": len(samples),
        }  # fmt: skip
    return block
