"""Populations by the command line: what they leave, that a member is its solo run, and that they survive."""

import html
import json
import re
import shlex
import signal

import forks
import numpy as np
import pytest
from command_lines import complaints, tiny
from compilation import QUICK
from test_resume import final_arrays, metrics, newest

# where a gradient vanishes Adam divides its last bit by eps, and at a kink the last bit decides
SMOOTH = {"optimizer__eps": 1e-4, "model__activation": "tanh"}
CROWD = SMOOTH | {"seed": 5, "population": 2, "num_steps": 400, "steps_per_call": 9, "log_every_steps": 70,
                  "eval_every_steps": 150, "checkpoint_every_steps": 40, "figure_every_steps": 0}  # fmt: skip
MODE = {"mode": "loop", "seconds_per_step": {"vmap": 2.0, "loop": 1.0}}  # as no measurement would have it
BLOCKS = ("generation", "representation", "density")


@pytest.fixture(scope="module")
def start(environment, tmp_path_factory):
    # fully optimized, the programs that draw parameters take longer to compile than all runs to train
    environment = environment | {"XLA_FLAGS": QUICK}
    with forks.starter(environment, tmp_path_factory.mktemp("output")) as start:
        yield start


def prepared(directory):
    """A workdir in which the population's mode was found before."""
    directory.mkdir()
    (directory / "population_mode.json").write_text(json.dumps(MODE))
    return directory


@pytest.fixture(scope="module")
def crowd(start, tmp_path_factory):
    """The workdir of a population that was not interrupted."""
    workdir = prepared(tmp_path_factory.mktemp("runs") / "crowd")
    arguments = tiny(workdir, **CROWD)
    where = arguments.index(f"--workdir={workdir}")
    done = start(*arguments[:where], "--workdir", str(workdir), *arguments[where + 1 :]).finish()  # written either way
    assert done.code == 0 and complaints(done.err) == [], done.err
    assert "member 1 of 2: seed=6" in done.out
    return workdir


def card_of(workdir):
    return json.loads((workdir / "card.json").read_text())


def numbers(card):
    """ "block/name" -> the number, of every block."""
    return {f"{block}/{name}": number for block in BLOCKS for name, number in card[block].items()}


def test_a_population_leaves_a_folder_a_member_and_the_card_and_curves_of_all(crowd):
    assert {path.name for path in (crowd / "members").iterdir()} == {"0", "1"}
    for number in range(2):
        own = crowd / "members" / str(number)
        assert {"card.json", "config.json", "metrics.jsonl", "report.html", "samples.npz"} <= {
            path.name for path in own.iterdir()
        }
        assert {"curves.png", "samples.png", "reconstructions.png"} <= {path.name for path in own.glob("figures/*.png")}
        config = json.loads((own / "config.json").read_text())
        assert config["seed"] == card_of(own)["seed"] == 5 + number and config["population"] is None
        rows = metrics(crowd)
        assert metrics(own) == [
            {name: value[number] if isinstance(value, list) else value for name, value in row.items()} for row in rows
        ]
    images = [np.load(crowd / "members" / str(number) / "samples.npz")["images"] for number in range(2)]
    assert images[0].shape == (16, 8, 8, 1) and (images[0] != images[1]).any()
    assert (crowd / "figures" / "curves.png").stat().st_size > 1000 and (crowd / "report.html").exists()
    rows = metrics(crowd)
    assert [row["step"] for row in rows if row["split"] == "train"] == [70, 140, 210, 280, 350, 400]
    assert [row["step"] for row in rows if row["split"] == "validation"] == [150, 300, 400]
    for row in rows:
        terms = [value for name, value in row.items() if name not in ("step", "split")]
        assert terms and all(isinstance(value, list) and len(value) == 2 for value in terms)
        assert len(set(row["loss"])) == 2


def test_the_card_has_mean_and_deviation_of_its_members_cards(crowd):
    card, members = card_of(crowd), [card_of(crowd / "members" / str(number)) for number in range(2)]
    assert card["population"]["size"] == 2 and card["num_params"] == members[0]["num_params"]
    assert card["population"]["members"] == [{"seed": seed, "failure": None} for seed in (5, 6)]
    together = numbers(card)
    assert set(together) == set(numbers(members[0])) and len(together) == 10
    for name, number in together.items():
        values = np.array([numbers(member)[name]["value"] for member in members])
        assert number["values"] == values.tolist() and number["num_members"] == 2
        assert number["value"] == pytest.approx(values.mean(), rel=1e-12)
        assert number["sd"] == pytest.approx(values.std(ddof=1), rel=1e-9, abs=1e-15)
        alike = numbers(members[0])[name]  # and the members' protocol, less each one's own error
        assert {**alike, **number} == {**number, **{key: alike[key] for key in alike if key == "standard_error"}}
        assert "standard_error" not in number
    assert together["density/negative_log_likelihood"]["sd"] > 0


def test_the_mode_found_before_is_kept(crowd):
    assert json.loads((crowd / "population_mode.json").read_text()) == MODE
    assert {name: card_of(crowd)["population"][name] for name in MODE} == MODE


def test_a_member_is_the_solo_run_that_its_report_names(start, crowd, tmp_path):
    own = crowd / "members" / "1"
    shown = re.search(r"python -m experiments\.vae [^<]*", (own / "report.html").read_text())
    assert shown
    words = shlex.split(html.unescape(shown[0]))
    assert not any("population" in word or "workdir" in word for word in words)
    done = start(*words[3:], f"--workdir={tmp_path / 'solo'}").finish()
    assert done.code == 0, done.err
    solo, member = card_of(tmp_path / "solo"), card_of(own)
    assert {name: solo[name] for name in ("seed", "steps", "num_params")} == {"seed": 6, "steps": 400} | {
        "num_params": member["num_params"]
    }
    assert set(numbers(solo)) == set(numbers(member))
    for name, number in numbers(solo).items():
        assert numbers(member)[name]["value"] == pytest.approx(number["value"], rel=1e-5), name
    for there, here in zip(metrics(own), metrics(tmp_path / "solo"), strict=True):
        assert there == {key: here[key] if isinstance(here[key], str) else pytest.approx(here[key], rel=1e-5)
                         for key in here}  # fmt: skip


def test_a_population_that_is_killed_ends_as_if_it_had_not_been(start, crowd, tmp_path):
    workdir = prepared(tmp_path / "run")
    process = start(*tiny(workdir, **CROWD))
    forks.wait(lambda: newest(workdir) or process.poll() is not None)
    process.send(signal.SIGKILL)
    assert process.finish().code == -signal.SIGKILL and 0 < newest(workdir) < 400
    process = start(*tiny(workdir, **CROWD))
    forks.wait(lambda: "evaluating" in process.said() or process.poll() is not None)  # what comes now has its tests
    process.send(signal.SIGKILL)
    done = process.finish()
    assert "resuming at step " in done.out and "Traceback" not in done.err, done.err
    assert metrics(workdir) == metrics(crowd)
    left, right = final_arrays(workdir), final_arrays(crowd)
    assert left.keys() == right.keys() and newest(workdir) == newest(crowd) == 400
    for name, array in left.items():
        assert array.shape[0] == 2 and array.dtype == right[name].dtype, name
        assert array.tobytes() == right[name].tobytes(), name


def test_the_others_are_evaluated_when_a_member_diverges(start, tmp_path):
    rates = "optimizer.learning_rate=1e30,1e-3"
    arguments = tiny(tmp_path, **SMOOTH, population=rates, log_every_steps=10, figure_every_steps=15)
    done = start(*arguments).finish()
    assert done.code == 0, done.err
    (warning,) = complaints(done.err)
    assert re.search(r"no longer finite by step \d+: member 0; the others go on", warning)
    card = card_of(tmp_path)
    bad, good = card["population"]["members"]
    assert good == {"optimizer.learning_rate": 1e-3, "failure": None}
    assert bad["optimizer.learning_rate"] == 1e30
    assert re.fullmatch(r"step \d+: .*(loss.* is not a finite number|is not finite)", bad["failure"])
    assert [path.name for path in (tmp_path / "members").iterdir()] == ["1"]
    for name, number in numbers(card_of(tmp_path / "members" / "1")).items():
        together = numbers(card)[name]
        assert (together["value"], together["sd"], together["num_members"]) == (number["value"], None, 1)
    last = metrics(tmp_path)[-2:]
    assert [(row["split"], row["step"]) for row in last] == [("train", 30), ("validation", 30)]
    for row in last:
        assert row["loss"][0] is None and 0 < row["loss"][1] < 100
    # without the sentinel above: the faster mode as it was measured, or nearly
    found = json.loads((tmp_path / "population_mode.json").read_text())
    seconds = found["seconds_per_step"]
    assert set(seconds) == {"vmap", "loop"} and 0 < 0.94 * seconds[found["mode"]] < min(seconds.values())


def test_when_all_members_diverge_the_run_fails(start, tmp_path):
    done = start(*tiny(tmp_path, **SMOOTH, population="optimizer.learning_rate=1e30,1e31", log_every_steps=10)).finish()
    assert done.code == 1
    assert re.fullmatch(
        rf"error: step \d+: .* is not (a finite number|finite); earlier checkpoints in {tmp_path}/.* are intact",
        complaints(done.err)[-1],
    )
    assert not (tmp_path / "card.json").exists() and not (tmp_path / "members").exists()


NO_POPULATION = {
    "0": "population is 0; it must be at least 1",
    "-1": "population is -1; it must be at least 1",
    "2.5": r"population is 2.5; give a number of seeds, or lists of values such as '.*'",
    "many": "population: no field 'many'",
    "model.beta": "population: '' is no value of model.beta, of type float",
    "model.beta=1,x": "population: 'x' is no value of model.beta, of type float",
    "model.bta=1,2": r"population: no field 'model.bta'; did you mean model.beta\?",
    "beta=1,2": r"population: no field 'beta'; did you mean model.beta\?",
    "seed=0.5,1": "population: 0.5 is no value of seed, of type int",
    "seed=0,1 seed=2,3": "population: seed is listed twice",
    "num_steps=10,20": "population: num_steps is the same for all members; what may differ: seed, .*",
    "model.likelihood=1,2": "population: model.likelihood is 'bernoulli', not a number; give each value a run .*",
    "model.latent_dim=2,3": "model.latent_dim shapes the program, so it cannot differ between members .*",
    "optimizer.learning_rate=1e-3,nan": "population: nan is no value of optimizer.learning_rate, of type float",
    "optimizer.learning_rate=1e-3,-1": "optimizer.learning_rate is -1.0; it must be at least 0",
}


@pytest.mark.parametrize("value", NO_POPULATION)
def test_a_population_that_cannot_be_is_one_line_and_claims_nothing(start, tmp_path, value):
    done = start(*tiny(tmp_path / "run", population=value)).finish()
    assert done.code == 2
    (line,) = complaints(done.err)
    assert re.fullmatch("error: " + NO_POPULATION[value], line), line
    assert not (tmp_path / "run" / "config.json").exists()
