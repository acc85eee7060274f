"""The benchmark's own programs take the steps they say, and its command line says what is wrong with it."""

import json
import os
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest
from command_lines import ROOT
from jax.flatten_util import ravel_pytree

from experiments.peers import worker
from experiments.timing import matrix_product, measure, programs, rows, table
from experiments.timing.setting import Setting
from genlab import data
from genlab.training import loop


@pytest.fixture(scope="module")
def dataset():
    split = {"x": np.random.default_rng(0).integers(0, 256, (64, 28, 28, 1), np.uint8)}
    return data.Dataset("noise", split, split, split, 0, None)


@pytest.fixture(scope="module")
def row(dataset):
    row = rows.recipe_row("small", rows.dense_config("float32", 16, 8), rows.dense_layers(16, 8), dataset)
    return row._replace(steps_per_call=4)


@pytest.fixture
def seen(monkeypatch):
    """What the loop looked at after every call."""
    looks, look = [], loop.raise_if_diverged
    monkeypatch.setattr(loop, "raise_if_diverged", lambda now: looks.append(jax.device_get(now)) or look(now))
    return looks


def test_our_loop_takes_the_steps_it_is_asked_for(row, dataset, seen):
    program = programs.in_loop(row, dataset)
    before = int(seen[-1].state.step)  # memory is asked for while steps are taken
    assert program.run(10) > 0
    assert [int(now.state.step) - before for now in seen[-3:]] == [4, 8, 10]
    assert program.compile_seconds and program.memory_bytes
    images = dataset.train["x"].nbytes
    numbers = 4 * sum(inputs * outputs for _, inputs, outputs in row.layers)
    assert program.memory_bytes > images + 3 * numbers  # parameters and two moments


def test_devices_share_one_and_the_same_step(row, dataset, seen):
    for num in (1, 4):
        programs.in_loop(row, dataset, num).run(3)
    half = len(seen) // 2
    one, four = seen[half - 1], seen[-1]
    assert int(one.state.step) == int(four.state.step) >= 3
    np.testing.assert_allclose(four.mean["loss"], one.mean["loss"], rtol=1e-4)
    params = [ravel_pytree(now.state.players["vae"].params)[0] for now in (one, four)]
    np.testing.assert_allclose(params[1], params[0], atol=2e-4)


def test_members_of_a_population_take_their_own_steps_in_either_mode(row, dataset, seen):
    for mode in ("vmap", "loop"):
        programs.in_population(row, dataset, 3, mode).run(3)
    half = len(seen) // 2
    together, in_turn = seen[half - 1], seen[-1]
    assert in_turn.state.step.tolist() == together.state.step.tolist() == [together.state.step[0]] * 3
    losses = together.mean["loss"]
    assert losses.shape == (3,) and len(set(losses.tolist())) == 3
    np.testing.assert_allclose(in_turn.mean["loss"], losses, rtol=1e-4)


def test_one_step_a_call_is_a_step_a_call(row, dataset, monkeypatch):
    states, block = [], jax.block_until_ready
    monkeypatch.setattr(jax, "block_until_ready", lambda state: states.append(jax.device_get(state)) or block(state))
    program = programs.alone(row, dataset)
    before = int(states[-1].step)
    assert program.run(5) > 0
    assert int(states[-1].step) == before + 5


def benchmark(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "experiments.benchmark", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_sweep_leaves_numbers_and_a_plot(tmp_path):
    options = ["--rows=", "--platform=cpu", "--devices=1,2", "--batch_size=8", "--rounds=2", "--seconds=0.01"]
    done = benchmark(*options, f"--output={tmp_path}")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "benchmark.json").read_text())
    (sweep,) = record["growth"]
    assert [point["value"] for point in sweep["points"]] == [1, 2] and sweep["power"] == -1
    assert sweep["points"][0]["cost"] == [1.0, 1.0]
    for point in sweep["points"]:
        assert point["memory_source"].startswith("the compiler") and point["memory_bytes"] > 47e6  # 60,000 images
    assert "| devices | ms/step |" in done.stdout
    assert (tmp_path / "growth.png").stat().st_size > 1000 and not (tmp_path / "benchmark.png").exists()


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        (
            "--rows=dense,dens",
            "--rows has no 'dens'; known: dense, conv, dcgan, gradient_penalty, stylegan2, keras, autoencoders, gans, "
            "styles, flows, autoregressive",
        ),
        ("--rows=", "--rows is empty and no sweep is asked for"),
        ("--widths=64,0", "--widths has '0'; it takes whole numbers from 1"),
        ("--batch_sizes=1e3", "--batch_sizes has '1e3'; it takes whole numbers from 1"),
        ("--batch_sizes=60001", "a batch of 60001: there are 60000 examples"),
        ("--platform=gpu", "jax finds no gpu here, only cpu"),
        ("--devices=3", "--batch_size=128 does not divide among 3 devices"),
    ],
)
def test_a_mistake_is_one_line(argument, complaint):
    done = benchmark(argument)
    assert done.returncode == 2 and not done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and complaint in line


class Elsewhere:
    """Stands for the process of a peer: two programs of 10 and 20 ms a step."""

    def enter(self, make, **arguments):
        self.asked = make, arguments
        programs = [worker.Program(name, lambda n, s=s: n * s, short=name) for name, s in (("a", 0.01), ("b", 0.02))]
        return worker.Contestants(programs, ["c is left out"])


def test_a_row_is_measured_beside_its_peer_and_products(row, dataset, monkeypatch):
    monkeypatch.setattr(matrix_product, "square", lambda size, dtype: worker.Program("square", lambda n: n * 0.5))
    setting = Setting("float32", "cpu", 2, rounds=3, seconds=0.01)
    peer: Any = Elsewhere()
    rival = row._replace(package="torch", peer=len, bars={programs.LOOP: 0.5})
    record = measure.measure(rival, dataset, setting, peer, lambda text: None)
    assert peer.asked[0] is len and {"batch_size": 16, "platform": "cpu", "threads": 2}.items() <= peer.asked[1].items()
    assert [program["name"] for program in record["programs"]] == [programs.LOOP, "a", "b", programs.CALL]
    assert record["left_out"] == ["c is left out"]
    assert record["product_flops_per_second"]["square"] == pytest.approx([2 * 2048**3 / 0.5] * 3)
    ours = record["programs"][0]["seconds_per_step"]
    found = {(ratio["program"], ratio["beside"]): ratio for ratio in record["ratios"]}
    assert found[programs.LOOP, "a"]["values"] == pytest.approx([0.01 / s for s in ours])
    assert found[programs.LOOP, "b"]["values"] == pytest.approx([0.02 / s for s in ours])
    assert (found[programs.LOOP, "a"]["bar"], found[programs.LOOP, "b"]["bar"]) == (0.5, None)
    flops = 2 * (3 * 16 * (784 * 8 + 8 * 40 + 20 * 8 + 8 * 784) - 16 * 784 * 8)
    assert record["flops_per_step"] == flops
    assert found[programs.LOOP, "square"]["values"] == pytest.approx([flops / s / (4 * 2048**3) for s in ours])
    assert json.loads(json.dumps(record)) == record
    assert "| small, batch 16 | genlab, training loop | a |" in table.report([record], [])
