"""Text that begins as you say: python -m experiments.prompt --workdir=RUN --prompt="The statement".

RUN is the workdir of a finished run of a language model; of a population's member RUN/members/0. Prints --num_texts
texts of --num_characters, drawn at --temperature: 1 draws from the model, 0.01 writes what is likeliest. Another --draw
gives others.
"""

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import autoregressive
from experiments.launch import WORKDIR, launch_tool
from experiments.members import with_fields
from experiments.trained import Trained, open_run
from genlab.algorithm import Key
from genlab.data import text
from genlab.errors import InputError
from genlab.evaluation.kinds import kind_of

PROMPT = flags.DEFINE_string("prompt", "", "How each text begins.")
NUM = flags.DEFINE_integer("num_texts", 3, "Texts.", lower_bound=1)
LENGTH = flags.DEFINE_integer("num_characters", 500, "Characters of each, the prompt's among them.", lower_bound=1)
TEMPERATURE = flags.DEFINE_float("temperature", 1.0, "Of what is drawn.", lower_bound=0.01)
DRAW = flags.DEFINE_integer("draw", 0, "Another number, other texts.", lower_bound=0)


def main(arguments: list[str]) -> None:
    """Prints the texts."""
    if arguments or not WORKDIR.value:
        raise InputError("give the run as --workdir=RUN" + (f", not {arguments[0]!r}" if arguments else ""))
    run = open_run(WORKDIR.value)
    key = jax.random.key(DRAW.value)
    written = continued(run, PROMPT.value, NUM.value, LENGTH.value, TEMPERATURE.value, key)
    for number, tokens in enumerate(written):
        print(f"--- {number}\n{text.decode(tokens)}")


def continued(run: Trained, prompt: str, num: int, length: int, temperature: float, key: Key) -> np.ndarray:
    """Texts i32[num, length] that begin with the prompt.

    What is longer than the model's window is written in turns, each of which looks back at the last half window.
    """
    if run.algorithm.complete is None or kind_of(run.dataset.test["x"]) != "text":
        raise InputError(f"{run.directory} holds no language model")
    config = with_fields(run.config, {"model.temperature": temperature})
    algorithm = autoregressive.build(config, run.dataset)
    window = run.dataset.test["x"].shape[1]

    complete = algorithm.complete
    assert complete is not None
    write = jax.jit(lambda state, known, num_known, key: complete(state, {"x": known}, num_known, key))
    if "?" in text.decode(text.encode(prompt.replace("?", ""))):
        raise InputError(f"the model knows ASCII characters only; the prompt is {prompt!r}")
    written = np.tile(text.encode(prompt), (num, 1))
    while written.shape[1] < length:
        key, own = jax.random.split(key)
        back = written if written.shape[1] < window else written[:, -(window // 2) :]
        known = np.zeros((num, window), np.int32)
        known[:, : back.shape[1]] = back
        new = np.asarray(write(run.state, jnp.asarray(known), jnp.int32(back.shape[1]), own))
        written = np.concatenate([written, new[:, back.shape[1] :]], axis=1)
    return written[:, :length]


if __name__ == "__main__":
    launch_tool("experiments.prompt", main, __doc__)
