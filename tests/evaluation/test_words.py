"""Words and copies in text, counted by hand."""

import pytest

from genlab.evaluation.words import words_block

TRAIN = "the cat sat on the mat, and the dog sat on the cat; nobody knew what the mat had done"


def test_words_that_occur_are_told_from_those_that_do_not():
    block = words_block(["xx the cat zzz yy", "an Cat e mat be"], TRAIN, ["on the dog that"])
    assert block["known_words"]["value"] == pytest.approx((2 / 3 + 1 / 2) / 2)  # without the first and the last
    assert block["known_words"]["standard_error"] == pytest.approx(1 / 12)
    assert block["known_words"]["test_text"] == 1.0 and block["known_words"]["n"] == 2
    assert block["copied"]["value"] == block["copied"]["test_text"] == 0.0  # shorter than a piece


def test_copies_are_pieces_of_fifty_characters():
    copy = TRAIN[5:60]  # 55 characters: six pieces
    block = words_block([copy, copy[:54] + "#", "?" * 60], TRAIN, [TRAIN])
    assert block["copied"]["value"] == pytest.approx((1 + 5 / 6 + 0) / 3)
    assert block["copied"]["test_text"] == 1.0


def test_text_without_words_has_none_that_is_known():
    assert words_block(["1 2 3", ""], TRAIN, ["..."])["known_words"]["value"] == 0.0
