"""A step of every kind of flow and autoregressive model on eight devices is that of one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import autoregressive as autoregressive_recipes
from configs import flow as flow_recipes
from experiments import autoregressive, flow
from genlab import data
from genlab.training import devices

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
TINY = {
    flow: {"model.hidden": (3,), "model.channels": 2, "model.num_layers": 2},
    autoregressive: {"model.hidden": (3,), "model.features": 4, "model.num_layers": 1, "model.head": 3},
}
# the others differ in nothing that devices share
KINDS = [
    *((flow, flow_recipes, variant) for variant in ("conditional", "realnvp", "spline")),
    *((autoregressive, autoregressive_recipes, variant) for variant in ("conditional", "made", "language")),
]


def examples(name, binarization):
    """Sixteen, as of the data set."""
    if name == "python_topics":
        return {"x": jnp.asarray(RNG.integers(0, 128, (16, 6)), jnp.int32)}
    if name == "ring":
        return {"x": jnp.asarray(RNG.normal(size=(16, 2)), jnp.float32)}
    raw = {"x": RNG.integers(0, 256, (16, 4, 4, 1), dtype=np.uint8), "label": np.arange(16, dtype=np.int32) % 3}
    return data.prepare({name: jnp.asarray(column) for name, column in raw.items()}, binarization, KEY)


@pytest.mark.parametrize(
    ("family", "recipes", "variant"), KINDS, ids=[f"{family.__name__}:{variant}" for family, _, variant in KINDS]
)
def test_eight_devices_take_the_step_of_one(family, recipes, variant):
    config = recipes.get_config(variant)
    config.update_from_flattened_dict(TINY[family])
    config.optimizer.name, config.optimizer.warmup_steps = "sgd", 0  # a step as large as its gradient
    batch = examples(config.data.name, config.data.binarization)
    split = {name: np.asarray(column) for name, column in batch.items()}
    algorithm = family.build(config, data.Dataset("fake", split, split, split, 3, None))
    state = jax.jit(algorithm.init)(KEY, batch)
    step, mesh = jax.jit(algorithm.step), devices.make_mesh(8, "data")
    alone, together = (
        jax.device_get(step(*placed, KEY))
        for placed in (
            (state, batch),
            (devices.put(state, devices.on_all(mesh)), devices.put(batch, devices.split(mesh))),
        )
    )
    for one, eight in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
        np.testing.assert_allclose(eight, one, rtol=1e-4, atol=1e-5)
    moved = jax.tree.map(lambda before, after: np.abs(before - after).max(), state.players, alone[0].players)
    assert max(jax.tree.leaves(moved)) > 1e-4
