"""The README's example is code: it trains."""

import pathlib
import re

import jax
import pytest

from genlab import data
from genlab.training import loop

README = pathlib.Path(__file__).parent.parent / "README.md"


@pytest.fixture(scope="module")
def example():
    (source,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    namespace = {"__name__": "readme"}
    exec(compile(source, "README.md", "exec"), namespace)
    return source, namespace


def test_the_new_model_fits_in_forty_lines_and_a_launcher(example):
    source, _ = example
    lines = source.split("def autoencoder")[1].split("if __name__")[0].splitlines()
    assert len(lines) <= 40


def test_the_new_model_learns_to_reconstruct(example):
    from configs import base

    _, namespace = example
    dataset = data.load("digits", num_validation=100)
    algorithm = namespace["build"](base.get_config(), dataset)
    feed = data.device_feed(dataset.train, 64, seed=0)
    batches = loop.Batches(feed.arrays, feed.read, feed.select, lambda raw, key: data.prepare(raw))
    losses = {}
    loop.fit(
        loop.compile_steps(algorithm, batches, jax.random.key(1)),
        batches.read,
        loop.start(algorithm, batches, jax.random.key(0)),
        num_steps=300,
        steps_per_call=50,
        log_every_steps=50,
        log=lambda step, means: losses.update({step: means["loss"]}),
    )
    variance = float((data.prepare(dataset.train)["x"].var(axis=0)).sum())  # the error of the best constant
    assert losses[50] > losses[300]
    assert losses[300] < 0.5 * variance
