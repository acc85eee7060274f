"""Densities of finished runs: two runs on the same test draw, or one by another estimator.

python -m experiments.evaluate --compare RUN_A RUN_B      the paired difference of their log-likelihoods
python -m experiments.evaluate --workdir=RUN              log p(x) by annealed importance sampling, beside the card's
                                                          estimator on the same examples

--num_examples=100 --num_temperatures=500 --num_chains=8 belong to the second. Of populations, --compare pairs the
members in their order.
"""

import pathlib
from typing import Any

import jax
import numpy as np
from absl import flags

from experiments.launch import WORKDIR, launch_tool
from experiments.representation import as_trained
from experiments.results import DENSITY_FILE, write_json
from experiments.trained import open_run, read_card
from genlab import data
from genlab.errors import InputError
from genlab.evaluation.annealed import annealed_importance
from genlab.evaluation.card import first
from genlab.evaluation.comparison import over_seeds, paired_difference
from genlab.evaluation.held_out import mean_and_error, over_split
from genlab.losses.elbo import importance_bound
from genlab.training import display

COMPARE = flags.DEFINE_bool("compare", False, "Compare the two runs that follow.")
NUM_EXAMPLES = flags.DEFINE_integer("num_examples", 100, "Test examples of the annealed estimate.", lower_bound=2)
NUM_TEMPERATURES = flags.DEFINE_integer("num_temperatures", 500, "Its intermediate distributions.", lower_bound=1)
NUM_CHAINS = flags.DEFINE_integer("num_chains", 8, "Its chains an example.", lower_bound=1)

NUM_LEAPFROG = 10  # steps of a Hamiltonian move
SAME = ("dataset", "split", "n", "dimensions", "given", "unit", "x")  # of two densities that can be compared


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


def compare(a: pathlib.Path, b: pathlib.Path) -> None:
    """Prints how many nats the first of two runs is better than the second."""
    of_a, of_b = members(a), members(b)
    for many, one in ((a, b), (b, a)):
        if max(len(of_a), len(of_b)) > 1 and "population" in read_card(many) and "population" not in read_card(one):
            raise InputError(f"{many} holds a population and {one} does not; name a member, such as {many}/members/0")
    if list(of_a.values()) != list(of_b.values()) and max(len(of_a), len(of_b)) > 1:
        raise InputError(
            f"{a} has members {list(of_a.values())}, {b} {list(of_b.values())}; they are compared in pairs"
        )
    found = []
    for one, other in zip(of_a, of_b, strict=True):
        (protocol, log_prob), (other_protocol, other_log_prob) = density(one), density(other)
        if differing := [name for name in SAME if protocol.get(name) != other_protocol.get(name)]:
            raise InputError(
                f"{one} and {other} are measured differently: "
                + "; ".join(f"{name} is {protocol.get(name)!r} and {other_protocol.get(name)!r}" for name in differing)
            )
        found.append(paired_difference(log_prob, other_log_prob))
        for where, each, values in ((one, protocol, log_prob), (other, other_protocol, other_log_prob)):
            value, error = mean_and_error(-values)
            print(f"{where}  negative log-likelihood {sign(each)}{value:.3f} ± {error:.3f} s.e. {estimator(each)}")
        number = found[-1]
        print(
            f"log p(x) of the first less that of the second {number['value']:+.3f} nats, {number['level']:.0%} "
            f"interval {number['low']:+.3f} to {number['high']:+.3f}, paired over {number['n']:,} test examples; "
            f"{verdict(number, one, other)}"
        )
        if protocol.get("bound") != other_protocol.get("bound"):
            print("one is a bound and the other exact: the bounded one may be better than it looks")
        elif protocol.get("k") != other_protocol.get("k"):
            print("the two bounds are estimated differently (see k); the one with fewer samples is the looser")
    if len(found) > 1:
        number = over_seeds([each["value"] for each in found])
        print(
            f"over {number['num_pairs']} pairs of members {number['value']:+.3f} ± {number['sd']:.3f} s.d., "
            f"{number['level']:.0%} interval of the mean {number['low']:+.3f} to {number['high']:+.3f}"
        )


def verdict(number: dict[str, Any], one: pathlib.Path, other: pathlib.Path) -> str:
    """What an interval says, of these two trained models: it knows nothing of other seeds."""
    if number["low"] <= 0.0 <= number["high"]:
        return "no difference beyond the choice of test examples"
    return f"{one if number['low'] > 0 else other} is better, of these two trained models"


def members(directory: pathlib.Path) -> dict[pathlib.Path, str]:
    """The folders of a run's models, its own or those of a population's evaluated members, and what each differs in."""
    card = read_card(directory)
    if "population" not in card:
        return {directory: ""}
    fields = card["population"]["members"]
    told = lambda number: ", ".join(f"{name}={value}" for name, value in fields[number].items() if name != "failure")
    return {directory / "members" / str(number): told(number) for number in card["evaluated_members"]}


def density(directory: pathlib.Path) -> tuple[dict[str, Any], np.ndarray]:
    """The protocol of a run's log-likelihood, and log p(x) f32[N] of every test example."""
    card, path = read_card(directory), directory / DENSITY_FILE
    if not card["density"]:
        raise InputError(f"{directory} has no density to compare")
    if not path.exists():
        raise InputError(f"{directory} has no {DENSITY_FILE}; give its command again, which evaluates it")
    with np.load(path) as arrays:
        return {"dataset": card["dataset"], **card["density"]["negative_log_likelihood"]}, arrays["log_prob"]


def sign(protocol: dict[str, Any]) -> str:
    """Of a bound."""
    return "≤ " if protocol.get("bound") == "upper" else ""


def estimator(protocol: dict[str, Any]) -> str:
    """In brackets, where there is one."""
    if "estimator" not in protocol:
        return ""
    return f"({protocol['estimator']}" + (f", k = {protocol['k']:,})" if "k" in protocol else ")")


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
        lambda state, batch, key: estimate(state, batch, key).T, data.prepare, min(50, num),
        display.progress_line(num, unit="test example"),
    )(run.state, split, key_anneal)  # fmt: skip
    annealed = np.asarray(importance_bound(weights.T))
    card = run.card["density"]["negative_log_likelihood"]
    how = {name: card[name] for name in ("estimator", "k") if name in card}
    sampled = over_split(run.algorithm.log_prob, data.prepare, min(50, num))(run.state, split, key_estimate)
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
