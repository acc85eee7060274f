"""What the tests of real command lines share."""

import pathlib
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[2]

# so small that a run takes a second or two, most of it imports
TINY = {
    "data.name": "digits",
    "data.num_validation": 20,
    "batch_size": 16,
    "num_steps": 30,
    "steps_per_call": 10,
    "model.hidden": 64,
    "model.latent_dim": 2,
    "evaluation.num_samples": 16,
    "evaluation.batch_size": 200,
    "evaluation.num_importance_samples": 2,
    "evaluation.importance_chunk": 2,
}


def tiny(workdir, **changes):
    """Arguments of a tiny run; `changes` by name, a dot written as two underscores."""
    fields = TINY | {name.replace("__", "."): value for name, value in changes.items()}
    options = [f"--config.{name}={value}" for name, value in fields.items()]
    return ["--config=configs/vae.py", f"--workdir={workdir}", *options]


def complaints(err):
    """The lines of stderr that are not of progress."""
    of_progress = ("step ", "test example ", "decoding ", "waiting for the other processes")
    return [line for line in err.splitlines() if not line.startswith(of_progress)]


class Done(NamedTuple):
    code: int
    out: str
    err: str


# Imports once what takes seconds, then forks for every command line; the child goes through `launch`, as the module
# run by python -m does, and exits as that does. JAX has started nothing yet that a fork would break.
DRIVER = """
import json, os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside the threads of a linear algebra library
import experiments.vae as family
for line in sys.stdin:
    arguments, out, err = json.loads(line)
    child = os.fork()
    if not child:
        for number, name in ((1, out), (2, err)):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
        sys.argv = ["experiments/vae.py", *arguments]
        family.launch("experiments.vae", family.main)
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
