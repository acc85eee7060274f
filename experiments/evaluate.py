"""Densities of finished runs: two runs on the same test draw, or one by another estimator.

python -m experiments.evaluate --compare RUN_A RUN_B      the paired difference of their log-likelihoods
python -m experiments.evaluate --workdir=RUN              log p(x) by annealed importance sampling, beside the card's
                                                          estimator on the same examples

--num_examples=100 --num_temperatures=500 --num_chains=8 belong to the second. Of populations, --compare pairs the
members in their order.
"""

import pathlib

import jax
import numpy as np
from absl import flags

from experiments.compared import compare
from experiments.launch import WORKDIR, launch_tool
from experiments.representation import as_trained
from experiments.results import write_json
from experiments.trained import open_run
from genlab import data
from genlab.errors import InputError
from genlab.evaluation.annealed import annealed_importance
from genlab.evaluation.card import first
from genlab.evaluation.comparison import paired_difference
from genlab.evaluation.held_out import mean_and_error, over_split
from genlab.losses.elbo import importance_bound
from genlab.training import display

COMPARE = flags.DEFINE_bool("compare", False, "Compare the two runs that follow.")
NUM_EXAMPLES = flags.DEFINE_integer("num_examples", 100, "Test examples of the annealed estimate.", lower_bound=2)
NUM_TEMPERATURES = flags.DEFINE_integer("num_temperatures", 500, "Its intermediate distributions.", lower_bound=1)
NUM_CHAINS = flags.DEFINE_integer("num_chains", 8, "Its chains an example.", lower_bound=1)

NUM_LEAPFROG = 10  # steps of a Hamiltonian move
EXAMPLES_PER_CHUNK = 10  # that are annealed together, between two signs of progress


def main(arguments: list[str]) -> None:
    """One or the other."""
    if COMPARE.value:
        if len(arguments) != 2:
            raise InputError(f"--compare takes two runs; got {len(arguments)}")
        compare(*map(pathlib.Path, arguments))
    elif WORKDIR.value is None or arguments:
        raise InputError("give --workdir=RUN, or --compare RUN_A RUN_B")
    else:
        anneal(WORKDIR.value)


def anneal(directory: str) -> None:
    """Prints and writes both estimates of log p(x) on the same examples."""
    run = open_run(directory)
    if run.algorithm.latents is None or run.algorithm.log_prob is None:
        raise InputError(f"{directory} has no latent variables with a density; annealing needs log p(x, z)")
    split = first(as_trained(run.config, run.dataset.test), NUM_EXAMPLES.value)
    num = len(split["x"])
    key_anneal, key_estimate = jax.random.split(jax.random.key(0))
    estimate = annealed_importance(
        run.algorithm.latents,
        num_temperatures=NUM_TEMPERATURES.value,
        num_chains=NUM_CHAINS.value,
        num_leapfrog=NUM_LEAPFROG,
    )
    print(f"annealing {num} examples", flush=True)
    weights = over_split(
        lambda state, batch, key: estimate(state, batch, key).T, data.prepare, min(EXAMPLES_PER_CHUNK, num),
        display.progress_line(num, unit="test example"),
    )(run.state, split, key_anneal)  # fmt: skip
    annealed = np.asarray(importance_bound(weights.T))
    card = run.card["density"]["negative_log_likelihood"]
    how = {name: card[name] for name in ("estimator", "k") if name in card}
    sampled = over_split(run.algorithm.log_prob, data.prepare, min(EXAMPLES_PER_CHUNK, num))(
        run.state, split, key_estimate
    )
    difference = paired_difference(annealed, sampled)
    protocol = {"split": "test", "n": num, "unit": "nats", "x": card.get("x")}
    numbers = {
        "annealed_importance_sampling": {
            **number_of(-annealed), "bound": "upper", "num_temperatures": NUM_TEMPERATURES.value,
            "num_chains": NUM_CHAINS.value, "num_leapfrog": NUM_LEAPFROG, "seed": 0, **protocol,
        },
        "card_estimator": {**number_of(-sampled), **protocol, **how},
        "annealed_less_card": difference,
    }  # fmt: skip
    write_json(run.directory / "annealed.json", numbers)
    print(f"negative log-likelihood of the first {num} test examples")
    for name in ("annealed_importance_sampling", "card_estimator"):
        print(f"{name:30} ≤ {numbers[name]['value']:.3f} ± {numbers[name]['standard_error']:.3f} s.e. nats")
    print(
        f"log p(x) by annealing less log p(x) by the card's estimator: {difference['value']:+.3f}, "
        f"{difference['level']:.0%} interval {difference['low']:+.3f} to {difference['high']:+.3f} nats"
    )
    if difference["high"] < 0:
        print("both are bounds, and annealing is the looser: give it more --num_temperatures or --num_chains")
    if difference["low"] > 0:
        print("both are bounds, and the card's is the looser: log p(x) is higher than it says")
    print(f"written to {run.directory / 'annealed.json'}")


def number_of(values: np.ndarray) -> dict[str, float]:
    """Mean and standard error."""
    value, error = mean_and_error(values)
    return {"value": value, "standard_error": error}


if __name__ == "__main__":
    launch_tool("experiments.evaluate", main, str(__doc__))
