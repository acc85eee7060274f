"""The topics: windows laid end to end are the text again, and what is held out is no copy of what is trained on."""

import re
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab import data
from genlab.data import text
from genlab.errors import InputError

NUM_VALIDATION = 200
DATASET = data.load("python_topics", num_validation=NUM_VALIDATION)
TRAIN, VALIDATION, TEST = (split["x"] for split in (DATASET.train, DATASET.validation, DATASET.test))


@pytest.fixture
def topics(monkeypatch):
    """A Python whose documentation is what the test says."""

    def give(**topics):
        monkeypatch.setitem(sys.modules, "pydoc_data.topics", types.SimpleNamespace(topics=topics))

    return give


def test_ascii_survives_the_round_trip():
    every = "".join(map(chr, range(128)))
    tokens = text.encode(every)
    assert tokens.dtype == np.int32
    np.testing.assert_array_equal(tokens, np.arange(128))
    assert text.decode(tokens) == every
    assert text.decode(jnp.asarray(tokens)) == every
    assert text.encode("").shape == (0,) and text.decode(text.encode("")) == ""
    assert text.decode(text.encode("\N{DEGREE SIGN}C")) == "?C"


def test_windows_have_the_shapes_and_values_of_tokens():
    assert DATASET.num_classes == 0 and DATASET.log_density is None and set(DATASET.train) == {"x"}
    for split in (TRAIN, VALIDATION, TEST):
        assert split.dtype == np.int32 and split.shape[1:] == (256,)
        assert split.min() >= 0 and split.max() < text.NUM_TOKENS
    assert len(VALIDATION) == NUM_VALIDATION
    characters = text.decode(np.concatenate([text.training_text(TRAIN), VALIDATION.ravel(), TEST.ravel()]))
    assert characters.count("?") < 0.001 * len(characters)  # of which next to all are question marks
    assert set(characters) <= {*map(chr, range(32, 127)), "\n"}
    assert 0.15 < characters.count(" ") / len(characters) < 0.25  # prose and indented code


def test_windows_are_cut_where_they_should_be(topics):
    """Of a text of 9,999 characters in which every line says where it stands."""
    whole = "\n".join(f"{line:09d}" for line in range(1000))
    topics(only=whole)
    dataset = data.load("python_topics", num_validation=10)
    train, validation, test = (
        [text.decode(window) for window in split["x"]] for split in (dataset.train, dataset.validation, dataset.test)
    )
    # the last 999 characters hold 3 windows; the 2,560 before them are for validation; 6,440 are left to train on
    assert test == [whole[9000 + 256 * i :][:256] for i in range(3)]
    assert validation == [whole[6440 + 256 * i :][:256] for i in range(10)]
    assert train == [whole[16 * i :][:256] for i in range((6440 - 256) // 16 + 1)]
    joined = text.training_text(dataset.train["x"])
    assert joined.dtype == np.int32 and text.decode(joined) == whole[: 16 * (len(train) - 1) + 256]


def test_as_much_as_can_be_is_held_out(topics):
    topics(only="abcd" * 640)  # 2,560 characters, of which 2,304 are not for the test: nine windows
    dataset = data.load("python_topics", num_validation=8)
    assert [len(split["x"]) for split in (dataset.train, dataset.validation, dataset.test)] == [1, 8, 1]
    assert text.training_text(dataset.train["x"]).shape == (256,)
    assert data.load("python_topics", num_validation=0).validation["x"].shape == (0, 256)
    for num_validation in (-1, 9):
        complaint = f"num_validation is {num_validation}; it must lie between 0 and 8, so that a window of 256"
        with pytest.raises(InputError, match=complaint):
            data.load("python_topics", num_validation=num_validation)


def test_paragraphs_that_occur_again_are_dropped(topics):
    topics(
        a="One.\n\nTwo words\nhere.\n",
        b="Two words\nhere.\n\n   Three\u2019s \u201cquoted\u201d \u2013 50\N{DEGREE SIGN}\u2026\n \n\nFour.",
        c="Two\nwords here.\n\nOne.",
        d="one.",
    )
    paragraphs = text._python_topics().split("\n\n")
    assert sorted(" ".join(paragraph.split()) for paragraph in paragraphs) == sorted(
        ["One.", "Two words here.", 'Three\'s "quoted" - 50\N{DEGREE SIGN}...', "Four.", "one."]
    )
    assert '   Three\'s "quoted" - 50\N{DEGREE SIGN}...' in paragraphs  # indented as it was


def test_little_of_what_is_held_out_is_trained_on():
    """Of every 50 characters in a row, tables' rules aside. Were no paragraph dropped, half of the validation text."""
    parts = (text.training_text(TRAIN), VALIDATION.ravel(), TEST.ravel())
    train, validation, test = (re.sub(r"[-+=|\s]+", " ", text.decode(part)) for part in parts)
    windows = lambda characters: [characters[i : i + 50] for i in range(len(characters) - 49)]
    known = set(windows(train))
    for part in (validation, test):
        assert np.mean([window in known for window in windows(part)]) < 0.05


def test_topics_are_made_alike_whatever_their_order_in_the_library(topics):
    from pydoc_data.topics import topics as own

    expected = text._python_topics()
    topics(**dict(reversed(own.items())))
    assert text._python_topics() == expected


def test_tokens_pass_through_as_they_are():
    feed = data.device_feed(DATASET.train, 8, seed=1)
    batch = feed.select(feed.arrays, feed.read(3, 1, 1), jnp.int32(0))
    prepared = jax.jit(data.prepare)(batch)
    assert prepared["x"].dtype == jnp.int32
    np.testing.assert_array_equal(prepared["x"], TRAIN[data.batch_indices(1, 3, 8, len(TRAIN))])
    with pytest.raises(InputError, match="needs images; this set holds int32"):
        data.prepare(batch, "dynamic", jax.random.key(0))


def test_impossible_requests_are_refused():
    with pytest.raises(InputError, match="'python_topics' holds text; data\\.image_size must be 0"):
        data.load("python_topics", image_size=28)
    with pytest.raises(InputError, match="unknown dataset 'python_topic', nearest is 'python_topics'"):
        data.load("python_topic")
