"""Growing end to end: what a run leaves, that it goes on in mid-fade bit for bit, and what is seen inside it."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

from configs import stylegan as recipes
from experiments import stylegan, styles
from experiments.assembly import assemble
from experiments.launch import Launch
from experiments.trained import open_run
from genlab import data

TINY = {
    "data.name": "digits", "data.padding": 0, "data.num_validation": 20, "num_steps": 14, "steps_per_call": 3,
    "batch_size": 8, "log_every_steps": 5, "eval_every_steps": 7, "checkpoint_every_steps": 8, "figure_every_steps": 7,
    "evaluation.extractor": "none", "evaluation.num_samples": 20, "evaluation.batch_size": 20,
    "model.channels": (4, 3), "model.latent_dim": 4, "model.mapping_layers": 1, "optimizer.eps": 1e-4,
}  # fmt: skip


def recipe(variant="stylegan", **changes):
    config = recipes.get_config(variant)
    growing = {"model.first_resolution": 4, "model.stage_steps": (4,), "model.stage_batch_sizes": (8, 4)}
    config.update_from_flattened_dict(TINY | growing | changes)
    return config


def trained(directory, config):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(jax.config.values["jax_compilation_cache_dir"]))
        stylegan.main(Launch(config, "stylegan", directory, "", module="experiments.stylegan"))
        return open_run(directory)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Four steps at 4x4, ten at 8x8 of which five are a fade; the step-8 checkpoint lies in it."""
    return trained(tmp_path_factory.mktemp("runs") / "grown", recipe())


def lines(run):
    rows = [json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_a_run_that_stopped_in_mid_fade_ends_as_if_it_had_not(finished, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(finished.directory, again)
    shutil.rmtree(again / "checkpoints" / "14")
    assert (again / "checkpoints" / "8").is_dir()
    resumed = trained(again, recipe())
    jax.tree.map(np.testing.assert_array_equal, resumed.state, finished.state)
    assert lines(resumed) == lines(finished)
    with np.load(again / "samples.npz") as left, np.load(finished.directory / "samples.npz") as right:
        np.testing.assert_array_equal(left["images"], right["images"])


def test_a_run_leaves_its_growth(finished):
    train = [row for row in lines(finished) if row["split"] == "train"]
    # a stage ends a line of the log; a line is the mean of its steps
    assert [row["step"] for row in train] == [4, 5, 10, 14] and [row["resolution"] for row in train] == [4, 8, 8, 8]
    assert [row["alpha"] for row in train] == pytest.approx([1.0, 0.2, (0.4 + 0.6 + 0.8 + 1 + 1) / 5, 1.0])
    with np.load(finished.directory / "figures" / "samples_over_time.npz") as history:
        first = history["rows"][0]
    np.testing.assert_allclose(first[:, ::2, ::2], first[:, 1::2, 1::2], atol=1e-6)  # 4x4, enlarged
    assert len(finished.algorithm.stages) == 2


def test_eight_devices_and_a_population_take_the_steps_of_one(finished):
    """Over both stages, with batches of 8 and of 8."""
    fields = {"num_steps": 4, "model.stage_batch_sizes": (8, 8), "model.stage_steps": (2,), "optimizer.name": "sgd",
              "model.channels": (2, 2), "model.penalty": "none", "ema_decay": 0.0}  # fmt: skip

    def final(**changes):
        assembly = assemble(recipe("small", **fields, **changes), finished.dataset, stylegan.build)
        now, done = assembly.start(), 0
        for leg in assembly.legs:
            num = leg.last_step - done
            now = leg.compile_steps(pathlib.Path("nowhere"), now)(now, leg.batches.read(done, num, num), num)
            done = leg.last_step
        states = assembly.states(now)
        assembly.close()
        return jax.device_get(states)

    (alone,) = final()
    (split,) = final(devices=8)
    members = final(population="seed=0,1", population_mode="vmap")
    for other in (split, members[0]):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), other, alone)
    kernels = [state.players["gen"].params["conv_4"]["kernel"] for state in (members[1], alone)]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.1


def test_styles_are_mixed_projected_and_measured(finished, monkeypatch, tmp_path):
    monkeypatch.setenv("GENLAB_CACHE", str(tmp_path))
    monkeypatch.setattr("experiments.extractor.STEPS_OF_FEW", 5)
    for name, value in {"FRAMES": 3, "DRAWS": 2, "COLUMNS": 2, "ROWS": 2}.items():
        monkeypatch.setattr(styles, name, value)
    studio = styles.open_studio(finished)
    np.testing.assert_array_equal(studio.mean, finished.state.average["gen_stats"]["w_mean"])
    styles.draw(tmp_path, finished, studio, jax.random.key(0))
    left = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert left == {"truncation.png", "interpolation.gif", "growth.gif", "mixing.png", "noise.png"}


def test_data_that_does_not_fit_is_one_line():
    digits = data.load("digits", num_validation=20)
    from genlab.errors import InputError

    for changes, complaint in (
        (
            {"model.channels": (4, 3, 3)},
            "has 3 widths, from 4x4 to 16x16, and digits holds images of 8 x 8 x 1",
        ),
        ({"model.stage_steps": (4, 4)}, "2 resolutions, 4, 8, have 2 batch sizes and 1 numbers of steps"),
        ({"model.stage_steps": (14,)}, "leaves 0 of num_steps"),
        ({"model.network": "stylegan2"}, "'stylegan2' does not grow"),
        ({"optimizer.schedule": "cosine"}, "optimizers begin anew as networks grow"),
        ({"model.stddev_group": 3}, "model.stddev_group is 3; it must divide every batch, and does not divide 8"),
        ({"model.mixing": 1.5}, "model.mixing is 1.5; it must be at most 1"),
        ({"model.network": "biggan"}, "model.network is 'biggan'; known: progan, stylegan, stylegan2"),
        ({"model.penalty": "gradient", "model.penalty_every": 2}, "model.penalty_every is of r1"),
        ({"model.penalty": "r2"}, "model.penalty is 'r2'; known: none, r1, gradient"),
    ):
        with pytest.raises(InputError, match=complaint):
            stylegan.build(recipe(**changes), digits)


@pytest.mark.parametrize("variant", ["small", "stylegan", "stylegan2"])
def test_every_recipe_is_a_game_and_a_member_of_a_population(variant):
    """As shapes, at rates of their own."""
    from experiments.checks import check
    from experiments.members import with_fields

    config = recipes.get_config(variant)
    check(config)
    padded = data.Dataset("fake", *({"x": np.zeros((40, 32, 32, 1), np.uint8)} for _ in range(3)), 0, None)
    algorithm = stylegan.build(config, padded)
    batch = {"x": jax.ShapeDtypeStruct((8, 32, 32, 1), np.float32)}

    def member(rate, batch):
        algorithm = stylegan.build(with_fields(config, {"optimizer.learning_rate": rate}), padded)
        state = algorithm.init(jax.random.key(0), batch)
        return state, algorithm.step(state, batch, jax.random.key(1))[0]

    state, after = jax.eval_shape(jax.vmap(member, in_axes=(0, None)), jax.ShapeDtypeStruct((2,), np.float32), batch)
    assert jax.tree.map(lambda leaf: leaf.shape, after) == jax.tree.map(lambda leaf: leaf.shape, state)
    ends = [stage.last_step for stage in algorithm.stages]
    assert (ends == []) == (config.model.network == "stylegan2") and ends[-1:] in ([], [config.num_steps])
