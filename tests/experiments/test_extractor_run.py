"""The classifier of a data set is trained once, for each data set and way of training, and the command line says so."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from command_lines import ROOT

from experiments import extractor as tool
from genlab import data
from genlab.errors import InputError
from genlab.evaluation import features

STEPS = 3


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENLAB_CACHE", str(tmp_path_factory.mktemp("decoded")))
        return data.load("digits")


@pytest.fixture
def trainings(monkeypatch, tmp_path):
    """How often a classifier was trained, in a cache of its own."""
    monkeypatch.setenv("GENLAB_CACHE", str(tmp_path / "cache"))
    calls, train = [], features.train_classifier
    monkeypatch.setattr(
        features, "train_classifier", lambda *args, **kwargs: calls.append(kwargs) or train(*args, **kwargs)
    )
    return calls


def test_it_is_trained_once_and_comes_back_exactly(digits, trainings, capsys):
    first = tool.cached_extractor(digits, STEPS)
    assert capsys.readouterr().err.startswith("training the classifier of digits")
    again = tool.cached_extractor(digits, STEPS)
    assert len(trainings) == 1 and capsys.readouterr().err == ""
    images = np.asarray(digits.test["x"][:10], np.float32) / 255
    np.testing.assert_array_equal(first.features(images), again.features(images))
    assert first.name == again.name and first.accuracy == again.accuracy
    classifier, facts, _ = tool.cached_classifier(digits, STEPS)
    right = features.accuracy(classifier, digits.test["x"], digits.test["label"])
    assert facts.accuracy == {"split": "test", **right}


def test_another_data_set_or_another_training_is_another_classifier(digits):
    train = digits.train
    other_labels = {**train, "label": np.roll(train["label"], 1)}
    other_images = {**train, "x": 255 - np.asarray(train["x"])}
    where = lambda dataset, steps=STEPS, seed=0: tool.cache_path(dataset, len(dataset.train["x"]), steps, seed)
    fewer = {name: values[:-1] for name, values in train.items()}
    paths = [where(digits), where(digits, steps=4), where(digits, seed=1), where(digits._replace(name="others"))]
    paths += [where(digits._replace(train=each)) for each in (other_labels, other_images, fewer)]
    assert len(set(paths)) == len(paths) == 7
    assert where(digits) == paths[0]


def test_a_damaged_file_is_said_and_made_again(digits, trainings, capsys):
    _, _, path = tool.cached_classifier(digits, STEPS)
    path.write_bytes(path.read_bytes()[:-100])
    capsys.readouterr()
    tool.cached_classifier(digits, STEPS)
    assert "damaged" in capsys.readouterr().err and len(trainings) == 2
    tool.cached_classifier(digits, STEPS)
    assert len(trainings) == 2


def test_a_cache_that_cannot_be_written_costs_only_time(digits, trainings, tmp_path, capsys):
    (tmp_path / "cache").write_text("a file where the folder should be")
    classifier, facts, path = tool.cached_classifier(digits, STEPS)
    assert not path.exists() and facts.num_steps == STEPS
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(classifier))
    assert "not kept" in capsys.readouterr().err


@pytest.mark.parametrize(("num_train", "steps"), [(20_000, 2_000), (20_001, 5_000)])
def test_the_number_of_steps_follows_the_number_of_examples(monkeypatch, trainings, num_train, steps):
    train = {"x": np.zeros((num_train, 2, 2, 1), np.uint8), "label": np.zeros(num_train, np.int32)}
    monkeypatch.setattr(features, "train_classifier", lambda *_, num_steps, **__: trainings.append(num_steps) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tool.cached_classifier(data.Dataset("flat", train, train, train, 2, None))
    assert trainings == [steps]


def test_points_and_images_without_labels_have_no_classifier(digits):
    unlabelled = {"x": digits.train["x"]}
    for dataset in (data.load("moons"), digits._replace(train=unlabelled, test=unlabelled)):
        with pytest.raises(InputError, match="images with labels"):
            tool.cached_extractor(dataset)


def test_the_command_line_trains_it_and_says_where_it_lies(environment, tmp_path):
    copy = tmp_path / "copy.npz"
    done = subprocess.run(
        [sys.executable, "-m", "experiments.extractor", "--dataset=digits", f"--steps={STEPS}", f"--output={copy}"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    classifier, facts = tool.extractor.load(copy)
    assert facts.dataset == "digits" and facts.num_steps == STEPS and classifier.output.bias.shape == (10,)
    assert str(copy) in done.stdout and f"test accuracy  {facts.accuracy['value']:.4f}"[:-2] in done.stdout
