"""Two finished runs on the same test draw: their log-likelihoods, example by example."""

import pathlib
from typing import Any

import numpy as np

from experiments.results import DENSITY_FILE
from experiments.trained import read_card
from genlab.errors import InputError
from genlab.evaluation.comparison import over_seeds, paired_difference
from genlab.evaluation.held_out import mean_and_error

LIKELIHOOD = "negative_log_likelihood"
SAME = ("dataset", "split", "n", "dimensions", "given", "unit", "x")  # of two densities that can be compared


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
        return {"dataset": card["dataset"], **likelihood_of(card)}, arrays["log_prob"]


def likelihood_of(card: dict[str, Any]) -> dict[str, Any]:
    """Of levels, or of dequantised images; `x` of the protocol says which."""
    return next(number for name, number in card["density"].items() if name.endswith(LIKELIHOOD) and "logit" not in name)


def sign(protocol: dict[str, Any]) -> str:
    """Of a bound."""
    return "≤ " if protocol.get("bound") == "upper" else ""


def estimator(protocol: dict[str, Any]) -> str:
    """In brackets, where there is one."""
    if "estimator" not in protocol:
        return ""
    return f"({protocol['estimator']}" + (f", k = {protocol['k']:,})" if "k" in protocol else ")")
