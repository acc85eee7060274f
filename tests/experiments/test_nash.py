"""What the Nash diagnostic asks of a run: who moves, on what, and on what the value is measured."""

import types

import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from experiments.nash import nash_diagnostic
from genlab import data
from genlab.algorithm import Algorithm, Player, new_state

NUM_STEPS, SIZE = 4, 3
CONFIG = ml_collections.ConfigDict({
    "seed": 0, "batch_size": 6, "data": {"binarization": "none"},
    "optimizer": {"schedule": "linear", "warmup_steps": 5, "learning_rate": 0.1},
    "model": {"dynamics": "alternating", "disc_steps": 2, "gen_steps": 3, "unroll_steps": 1,
              "duality_gap_steps": NUM_STEPS},
})  # fmt: skip


def game(config, dataset):
    """The discriminator d moves up by the batch's mean, the generator g down by one; V = mean(x) d + g."""
    BUILT.append(config)

    def step(state, batch, key):
        assert batch["x"].shape == (SIZE, 1)
        gen, disc = state.players["gen"], state.players["disc"]
        players = {"gen": gen.replace(params=gen.params - 1.0),
                   "disc": disc.replace(params=disc.params + jnp.mean(batch["x"]))}  # fmt: skip
        return state.replace(players=players), {}

    def evaluate(state, batch, key):
        assert batch["x"].shape == (SIZE, 1)
        return {"disc_loss": -(batch["x"][:, 0] * state.players["disc"].params + state.players["gen"].params)}

    return Algorithm(None, step, evaluate, None, None, None, None, "implicit")


BUILT = []


def test_players_move_on_training_examples_and_are_measured_on_validation_ones():
    BUILT.clear()
    points = lambda value, num: {"x": np.full((num, 1), value, np.float32)}
    dataset = data.Dataset("fake", points(1.0, 20), points(2.0, 8), points(9.0, 20), 0, None)
    diagnose = nash_diagnostic(game, dataset)
    member = types.SimpleNamespace(config=CONFIG, hparams={})
    state = new_state({name: Player(jnp.float32(0.5), {}, ()) for name in ("gen", "disc")})
    found = diagnose(member, state)
    # d gains 4 steps of 1, each worth 2; g gains 4 steps of 1
    assert found == pytest.approx({"disc_gain": 8.0, "gen_gain": 4.0, "duality_gap": 12.0})
    diagnose(member, state)
    (config,) = BUILT  # once
    assert (config.model.dynamics, config.model.disc_steps, config.model.gen_steps) == ("simultaneous", 1, 1)
    assert (config.model.unroll_steps, config.optimizer.schedule, config.optimizer.warmup_steps) == (0, "constant", 0)
    assert CONFIG.model.dynamics == "alternating" and CONFIG.optimizer.schedule == "linear"  # as it was


def test_no_steps_no_number():
    config = CONFIG.copy_and_resolve_references()
    config.model.duality_gap_steps = 0
    assert nash_diagnostic(game, None)(types.SimpleNamespace(config=config, hparams={}), None) == {}
