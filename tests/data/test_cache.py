import numpy as np
import pytest

from genlab.data import cache


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("GENLAB_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "source"
    path.write_text("one")
    return path


class Build:
    """Counts how often it is called."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"x": np.arange(6, dtype=np.uint8).reshape(2, 3), "none": np.empty((0, 4), np.int32)}


def check(arrays):
    np.testing.assert_array_equal(arrays["x"], [[0, 1, 2], [3, 4, 5]])
    assert arrays["none"].shape == (0, 4) and arrays["none"].dtype == np.int32


def test_builds_once_and_then_maps(source):
    build = Build()
    for _ in range(3):
        check(arrays := cache.cached("set/config:1.0.0", [source], build))
    assert build.calls == 1
    assert isinstance(arrays["x"], np.memmap)
    assert [path.name[:17] for path in cache.directory().iterdir()] == ["set-config-1.0.0-"]  # and no scratch is left


def test_another_source_or_name_is_another_entry(source):
    build = Build()
    cache.cached("set", [source], build)
    cache.cached("other", [source], build)
    source.write_text("another")
    cache.cached("set", [source], build)
    assert build.calls == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: (entry / "x.npy").write_bytes((entry / "x.npy").read_bytes()[:-1]),
        lambda entry: (entry / "x.npy").write_bytes(b"garbage"),
        lambda entry: (entry / "x.npy").write_bytes(b""),
        lambda entry: (entry / "x.npy").unlink(),
        lambda entry: np.save(entry / "x.npy", np.zeros((2, 3))),
        lambda entry: (entry / "manifest.json").write_text("[1"),
        lambda entry: (entry / "manifest.json").write_text("[1]"),
    ],
)
def test_a_damaged_entry_is_built_again(source, damage):
    build = Build()
    cache.cached("set", [source], build)
    (entry,) = cache.directory().iterdir()
    damage(entry)
    check(cache.cached("set", [source], build))
    check(cache.cached("set", [source], build))
    assert build.calls == 2


def test_an_unwritable_cache_is_done_without(source, monkeypatch):
    monkeypatch.setenv("GENLAB_CACHE", str(source / "below-a-file"))
    build = Build()
    check(cache.cached("set", [source], build))
    check(cache.cached("set", [source], build))
    assert build.calls == 2


def test_directory_follows_the_environment(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("GENLAB_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert str(cache.directory()) == "/home/someone/.cache/genlab"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert str(cache.directory()) == "/xdg/genlab"
    monkeypatch.setenv("GENLAB_CACHE", "~/here")
    assert str(cache.directory()) == "/home/someone/here"
