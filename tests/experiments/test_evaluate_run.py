"""Two runs on the same test draw, and one by annealing: what is said, and what is refused."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from command_lines import tiny

from experiments import evaluate, trained
from genlab.errors import InputError
from genlab.evaluation.comparison import paired_difference


@pytest.fixture(scope="module")
def runs(forked, tmp_path_factory):
    """Two trained models and a population of two."""
    root = tmp_path_factory.mktemp("runs")
    both = {"population": 2, "population_mode": "loop"}
    for name, changes in {"a": {"num_steps": 60}, "b": {"seed": 1}, "both": both}.items():
        done = forked(*tiny(root / name, model__hidden=16, **changes))
        assert done.code == 0, done.err
    return root


def flag(value):
    return type("Flag", (), {"value": value})


def test_a_run_is_opened_as_it_ended(runs):
    run = trained.open_run(runs / "a")
    assert int(run.state.step) == 60 and run.config.model.hidden == (16,) and run.config.data.name == "digits"
    assert run.card["experiment"] == "experiments.vae"
    member = trained.open_run(runs / "both" / "members" / "1")
    assert member.config.seed == 1 and member.config.population is None
    # member 1 is the run with seed 1: the same network after the same steps
    solo = trained.open_run(runs / "b")
    weights = lambda run: run.state.players["vae"].params["decoder"]["Dense_0"]["kernel"]
    np.testing.assert_allclose(weights(member), weights(solo), rtol=1e-3, atol=1e-4)


def test_two_runs_are_compared_example_by_example(runs, capsys):
    evaluate.compare(runs / "a", runs / "b")
    said = capsys.readouterr().out
    with np.load(runs / "a" / "density.npz") as a, np.load(runs / "b" / "density.npz") as b:
        expected = paired_difference(a["log_prob"], b["log_prob"])
        assert set(a) == {"log_prob", "elbo"} and np.all(a["log_prob"] < 0)
    assert expected["low"] > 0  # twice the steps
    assert f"that of the second {expected['value']:+.3f} nats" in said and f"{runs / 'a'} is better" in said
    card = json.loads((runs / "a" / "card.json").read_text())["density"]["negative_log_likelihood"]
    assert f"≤ {card['value']:.3f} ± {card['standard_error']:.3f} s.e. (importance sampling, k = 2)" in said


def test_populations_are_compared_member_by_member(runs, capsys):
    evaluate.compare(runs / "both", runs / "both")
    said = capsys.readouterr().out
    assert said.count("of the second +0.000") == 2 and said.count("no difference beyond") == 2
    assert "over 2 pairs of members +0.000 ± 0.000 s.d." in said


def test_what_cannot_be_compared_is_one_line(runs, tmp_path):
    grey = tmp_path / "grey"
    shutil.copytree(runs / "a", grey)
    card = json.loads((grey / "card.json").read_text())
    card["density"]["negative_log_likelihood"]["x"] = "intensities"
    (grey / "card.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match=r"are measured differently: x is 'binary: .*' and 'intensities'"):
        evaluate.compare(runs / "a", grey)
    with pytest.raises(InputError, match=r"both holds a population and .*a does not; name a member"):
        evaluate.compare(runs / "a", runs / "both")
    with pytest.raises(InputError, match=r"no run at .*nowhere"):
        evaluate.compare(runs / "a", pathlib.Path("nowhere"))
    (grey / "density.npz").unlink()
    with pytest.raises(InputError, match=r"has no density\.npz; give its command again"):
        evaluate.compare(grey, runs / "a")
    with pytest.raises(InputError, match=r"holds a population; name one of its members"):
        trained.open_run(runs / "both")
    with pytest.raises(InputError, match=r"holds no finished run"):
        trained.open_run(tmp_path)


def test_annealing_agrees_with_importance_sampling_of_a_tiny_model(runs, capsys, monkeypatch):
    for name, value in {"NUM_EXAMPLES": 10, "NUM_TEMPERATURES": 100, "NUM_CHAINS": 4}.items():
        monkeypatch.setattr(evaluate, name, flag(value))
    evaluate.anneal(str(runs / "a"))
    assert "negative log-likelihood of the first 10 test examples" in capsys.readouterr().out
    numbers = json.loads((runs / "a" / "annealed.json").read_text())
    annealed = numbers["annealed_importance_sampling"]["value"]
    sampled = numbers["card_estimator"]["value"]
    assert numbers["card_estimator"]["k"] == 2 and numbers["annealed_importance_sampling"]["num_chains"] == 4
    assert 10 < annealed < sampled + 0.5 < annealed + 5  # two importance samples are the looser bound
