"""Mode collapse side by side: rows are the cards' numbers, gains are paired by seed, nothing is trained twice."""

import json
import math
import types

import numpy as np
import pytest

from configs import gan as recipes
from experiments import mode_collapse as tool
from genlab.errors import InputError
from genlab.evaluation import pictures, report
from genlab.training.loop import DivergedError

SMALL = {"batch_size": 4, "model.hidden": (4,), "model.disc_hidden": (4,), "evaluation.num_samples": 40,
         "evaluation.batch_size": 40, "data.num_validation": 10}  # fmt: skip


def asked(monkeypatch, workdir, **options):
    """The flags of a command line."""
    given = {"data": "ring", "methods": ["gan", "packing2"], "num_seeds": 2, "num_steps": 2, "data_dir": ""} | options
    monkeypatch.setattr(tool.flags, "FLAGS", types.SimpleNamespace(**given))
    monkeypatch.setattr(tool, "WORKDIR", types.SimpleNamespace(value=str(workdir)))


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The workdir of a comparison on tiny networks, and how often a run was trained in it."""
    root = tmp_path_factory.mktemp("runs") / "ring"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", "as it is set for the tests")
        get_config = recipes.get_config

        def small(variant):
            config = get_config(variant)
            config.update_from_flattened_dict(SMALL)
            return config

        patch.setattr(tool.recipes, "get_config", small)
        patch.setattr(tool.jax, "clear_caches", lambda: None)  # those of other tests
        for module, name in ((pictures, "draw_curves"), (pictures, "draw_final"), (report, "write_report")):
            patch.setattr(module, name, lambda *args, **named: None)  # every run's, which have tests of their own
        for method in ("gan", "packing2"):
            (root / method).mkdir(parents=True)
            (root / method / "population_mode.json").write_text('{"mode": "loop"}')  # nothing is measured
        asked(patch, root)
        tool.main([])
        yield root


def card_of(directory):
    return json.loads((directory / "card.json").read_text())


def test_rows_are_the_numbers_of_the_cards_and_gains_are_paired_by_seed(compared):
    found = json.loads((compared / "mode_collapse.json").read_text())
    assert (found["data"], found["num_seeds"], found["num_steps"]) == ("ring", 2, 2)
    plain, packed = found["rows"]
    assert (plain["method"], packed["method"]) == ("gan", "packing2")
    assert packed["published"] == {"modes_covered": "7.9 ± 0.1", "high_quality_share": "95.6 ± 2.0",
                                   "reverse_kl": "0.07 ± 0.03"}  # fmt: skip
    values = {}
    for row in (plain, packed):
        for number in ("modes_covered", "high_quality_share", "wasserstein"):
            members = [card_of(compared / row["method"] / "members" / seed)["generation"] for seed in "01"]
            a, b = values[row["method"], number] = [member[number]["value"] for member in members]
            assert row[number]["values"] == [a, b] and row[number]["mean"] == pytest.approx((a + b) / 2)
            # of two, the standard deviation is |a - b| / sqrt(2)
            assert row[number]["standard_error"] == pytest.approx(abs(a - b) / 2)
    assert 7.9 < plain["modes_covered"]["perfect_sampler"] < 8
    assert "over_gan" not in plain["wasserstein"]
    gain = packed["wasserstein"]["over_gan"]
    first, second = np.subtract(values["packing2", "wasserstein"], values["gan", "wasserstein"])
    assert gain["values"] == [first, second] and gain["value"] == pytest.approx((first + second) / 2)
    # Student's t of one degree of freedom is Cauchy's: tan(0.95 pi / 2)
    half = math.tan(0.475 * math.pi) * abs(first - second) / 2
    assert (gain["low"], gain["high"]) == (pytest.approx(gain["value"] - half), pytest.approx(gain["value"] + half))
    assert first != second
    assert (compared / "mode_collapse.png").stat().st_size > 10_000


def test_a_pack_has_twice_the_examples(compared):
    configs = [json.loads((compared / method / "config.json").read_text()) for method in ("gan", "packing2")]
    assert [config["batch_size"] for config in configs] == [4, 8]
    assert [config["model"]["packing"] for config in configs] == [1, 2]
    assert all(config["num_steps"] == 2 and config["population"] == 2 for config in configs)


def test_the_same_command_trains_nothing_again_and_prints_the_table(compared, monkeypatch, capsys):
    log = (compared / "gan" / "metrics.jsonl").read_bytes()
    asked(monkeypatch, compared, methods=["gan", "gan"])
    tool.main([])
    said = capsys.readouterr().out
    assert said.count("finished at step 2 before") == 1
    assert (compared / "gan" / "metrics.jsonl").read_bytes() == log
    assert "gan: python -m experiments.gan --config=configs/gan.py:ring --config.population=2 " in said
    card = card_of(compared / "gan")["generation"]
    (row,) = (line for line in said.splitlines() if line.startswith("gan  "))
    assert f"{card['wasserstein']['value']:.2f} ± " in row and "[6.3 ± 0.5]" in row and "[98.2 ± 0.2]" in row
    assert len(json.loads((compared / "mode_collapse.json").read_text())["rows"]) == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"methods": ["gan", "packing5"]}, r"--methods has no 'packing5'; known: gan, packing2, packing3, packing4, "),
        ({"methods": []}, r"--methods is empty; known: gan, "),
    ],
)
def test_methods_that_are_not_there_are_refused_before_any_is_trained(monkeypatch, tmp_path, options, complaint):
    asked(monkeypatch, tmp_path / "run", **options)
    with pytest.raises(InputError, match=complaint):
        tool.main([])
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="unexpected argument 'fast'; options are written --name=value"):
        tool.main(["fast"])


def card(members, **numbers):
    return {
        "evaluated_members": members,
        "generation": {name: {"values": values, "perfect_sampler": 8.0} for name, values in numbers.items()},
    }


def test_seeds_that_a_method_lost_are_left_out_of_its_pairs():
    plain = card([0, 1, 3], modes_covered=[5.0, 6.0, 1.0])
    found = tool.row("ring", "replay", card([1, 2, 3], modes_covered=[8.0, 7.0, 4.0]), plain)
    assert found["modes_covered"]["over_gan"]["values"] == [2.0, 3.0]
    assert found["modes_covered"]["mean"] == pytest.approx(19 / 3) and found["published"] == {}
    assert "over_gan" not in tool.row("ring", "replay", card([2], modes_covered=[7.0]), plain)["modes_covered"]
    assert tool.row("ring", "replay", card([2], modes_covered=[7.0]), None)["modes_covered"]["standard_error"] is None


def test_published_numbers_stand_with_their_own_where_a_column_is_missing():
    found = tool.row(
        "stacked_mnist", "packing2", card([0, 1], modes_covered=[900.0, 902.0], reverse_kl=[0.5, 0.7]), None
    )
    text = tool.table("stacked_mnist", [found], 2, 100_000)
    _, _, head, row, perfect = text.splitlines()
    assert head.split() == ["method", "modes", "reverse", "KL", "modes", "over", "gan"]
    assert "901.00 ± 1.00 [1000 ± 0]" in row and "0.60 ± 0.10 [0.06]" in row
    assert perfect.split() == ["perfect", "8.000", "8.000"]


def test_a_method_that_loses_every_seed_is_a_row_and_the_others_are_measured(compared, monkeypatch, capsys):
    finished = tool.run

    def run(launch, build):
        if launch.workdir.name == "replay":
            raise DivergedError("step 3: disc_loss is not a finite number")
        finished(launch, build)

    monkeypatch.setattr(tool, "run", run)
    monkeypatch.setattr(tool.jax, "clear_caches", lambda: None)
    asked(monkeypatch, compared, methods=["replay", "gan"])
    tool.main([])
    lost, plain = json.loads((compared / "mode_collapse.json").read_text())["rows"]
    failure = "no seed is left: step 3: disc_loss is not a finite number"
    assert lost == {"method": "replay", "published": {}, "failure": failure}
    assert plain["modes_covered"]["values"]
    said = capsys.readouterr().out
    (row,) = (line for line in said.splitlines() if line.startswith("replay  "))
    assert row.split("no seed")[0].split() == ["replay", "-", "-", "-", "-"] and row.endswith(failure)
    asked(monkeypatch, compared, methods=["replay"])
    with pytest.raises(DivergedError, match=f"^replay: {failure}$"):
        tool.main([])


@pytest.mark.parametrize("name", tool.PUBLISHED_STEPS)
@pytest.mark.parametrize("method", tool.METHODS)
def test_every_method_is_a_recipe_of_every_data_set(name, method):
    config, command = tool.recipe(name, method, 3, 100, "")
    base = recipes.get_config(name.removesuffix("_5k"))
    assert config.population == 3 and config.num_steps == 100 and config.data.name == name
    examples = config.model.packing * config.model.disc_steps
    assert config.batch_size == base.batch_size * examples
    assert command.startswith(f"python -m experiments.gan --config=configs/gan.py:{name.removesuffix('_5k')} ")
    assert f"--config.batch_size={config.batch_size}" in command or examples == 1
