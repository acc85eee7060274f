"""How fast an autoregressive model is drawn from: python -m experiments.sampling --workdir=RUN [--num_images=64].

RUN is the workdir of a finished run of images; of a population's member RUN/members/0. Times one compiled call, which
keeps what it has computed, beside the plain way, a compiled pass over the whole images for every pixel, called from a
Python loop. Both draw by the same keys, so that their images can be compared. Leaves RUN/sampling.json.
"""

import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments.autoregressive import parts
from experiments.launch import WORKDIR, launch_tool
from experiments.results import write_json
from experiments.trained import Trained, open_run
from genlab.algorithm import Array, Key
from genlab.errors import InputError
from genlab.evaluation.kinds import kind_of
from genlab.training import display

NUM = flags.DEFINE_integer("num_images", 64, "Images.", lower_bound=1)

ROUNDS = 3


def main(arguments: list[str]) -> None:
    """Times both, in turns, and says how many times faster the one call is."""
    if arguments or not WORKDIR.value:
        raise InputError("give the run as --workdir=RUN" + (f", not {arguments[0]!r}" if arguments else ""))
    run = open_run(WORKDIR.value)
    if run.algorithm.complete is None or kind_of(run.dataset.test["x"]) != "images":
        raise InputError(f"{WORKDIR.value} holds no model that draws images pixel by pixel, as they stand")
    ways, seconds = {"one_call": one_call(run, NUM.value), "pass_a_pixel": pass_a_pixel(run, NUM.value)}, {}
    images = {name: draw(jax.random.key(0)) for name, draw in ways.items()}  # compiles
    differ = float(np.mean(images["one_call"] != images["pass_a_pixel"]))
    print(f"pixels that differ: {differ:.2%}")
    for round_ in range(ROUNDS):
        for name, draw in ways.items():
            began = time.perf_counter()
            draw(jax.random.key(1 + round_))
            seconds.setdefault(name, []).append(time.perf_counter() - began)
    median = {name: statistics.median(each) for name, each in seconds.items()}
    times = statistics.median(
        slow / fast for fast, slow in zip(seconds["one_call"], seconds["pass_a_pixel"], strict=True)
    )
    device = jax.devices()[0].device_kind
    found = {"num": NUM.value, "seconds": median, "times_faster": times, "pixels_that_differ": differ, "device": device}
    write_json(run.directory / "sampling.json", found)
    for name, each in median.items():
        print(f"{name:14} {each:.2f} s for {NUM.value} images")
    print(f"the one call is {times:.1f} times faster, median of {ROUNDS} rounds on {device}")


def like(run: Trained, num: int) -> dict[str, Array]:
    """What a sample is made like: blank, of the classes of the test examples in turn."""
    shape = run.dataset.test["x"].shape[1:]
    if not run.config.model.conditional:
        return {"x": jnp.zeros((num, *shape))}
    labels = np.asarray(run.dataset.test["label"])
    return {"x": jnp.zeros((num, *shape)), "label": jnp.asarray(labels[np.arange(num) % len(labels)])}


def one_call(run: Trained, num: int) -> Callable[[Key], np.ndarray]:
    """As the model draws."""
    generate = run.algorithm.generate
    assert generate is not None
    draw = jax.jit(generate)
    return lambda key: np.asarray(draw(run.state, like(run, num), key))


def pass_a_pixel(run: Trained, num: int) -> Callable[[Key], np.ndarray]:
    """A whole pass for every pixel."""
    network, conditional = parts(run.config, run.dataset)
    params = run.state.average.get("network", run.state.players["network"].params)
    batch = like(run, num)
    context = jax.nn.one_hot(batch["label"], run.dataset.num_classes) if run.config.model.conditional else None
    size = batch["x"][0].size

    @jax.jit
    def one(params: dict, flat: Array, place: Array, key: Key) -> Array:
        outputs = network.outputs(params, flat.reshape(batch["x"].shape), context, 0).reshape(num, size, -1)
        drawn = conditional.sample(jax.random.fold_in(key, place), outputs[:, place], run.config.model.temperature)
        return flat.at[:, place].set(drawn)

    def draw(key: Key) -> np.ndarray:
        flat, show = jnp.zeros((num, size)), display.progress_line(size, unit="pixel")
        for place in range(size):
            flat = one(params, flat, jnp.int32(place), key)
            show(place + 1)
        return np.asarray(flat).reshape(batch["x"].shape)

    return draw


if __name__ == "__main__":
    launch_tool("experiments.sampling", main, __doc__)
