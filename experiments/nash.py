"""How far from an equilibrium the players of a run are, told at every validation."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from experiments.assembly import Build, Member, run_keys
from experiments.representation import as_trained
from experiments.run import Diagnose
from genlab import data
from genlab.algorithm import State
from genlab.evaluation.duality import make_duality_gap

MAX_VALUED = 2_000  # validation examples that the value of the game is measured on


def nash_diagnostic(build: Build, dataset: data.Dataset) -> Diagnose:
    """(member, state) -> an estimate of the duality gap, on validation examples; nothing where it is not asked for."""
    compiled: dict[str, Any] = {}

    def read(config: ml_collections.ConfigDict, split: data.Split, rows: np.ndarray) -> dict[str, jax.Array]:
        few = as_trained(config, {name: np.asarray(column[rows]) for name, column in split.items()})
        return data.prepare(jax.tree.map(jnp.asarray, few))

    def diagnose(member: Member, state: State) -> dict[str, float]:
        config, num_steps = member.config, member.config.model.duality_gap_steps
        size = config.batch_size // config.model.disc_steps
        if not num_steps:
            return {}
        key = str(sorted(member.hparams.items()))  # members that differ in their seeds share a program
        if key not in compiled:
            alone = config.copy_and_resolve_references()
            alone.model.update(dynamics="simultaneous", disc_steps=1, gen_steps=1, unroll_steps=0)
            # at the end of a schedule neither could move, and there would be no gap wherever they stand
            alone.optimizer.update(schedule="constant", warmup_steps=0)
            compiled[key] = jax.jit(make_duality_gap(build(alone, dataset), num_steps))
        rows = np.concatenate([data.batch_indices(0, i, size, len(dataset.train["x"])) for i in range(num_steps)])
        batches = read(config, dataset.train, rows)
        batches = {name: x.reshape(num_steps, size, *x.shape[1:]) for name, x in batches.items()}  # [K, B, ...]
        num = min(len(dataset.validation["x"]), MAX_VALUED) // size * size
        valued = read(config, dataset.validation, np.arange(num))
        valued = {name: x.reshape(num // size, size, *x.shape[1:]) for name, x in valued.items()}  # [N, B, ...]
        gap = compiled[key](state, batches, valued, run_keys(config.seed)[2])
        return {name: float(value) for name, value in gap.items()}

    return diagnose
