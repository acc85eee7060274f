"""What a generative classifier did with sets of images: its numbers, its figures and the table on the terminal."""

import pathlib
from collections.abc import Iterator
from typing import Any

import ml_collections
import numpy as np

from experiments.class_densities import Scored
from genlab.evaluation import bayes_classifier as bayes
from genlab.evaluation import rejection
from genlab.evaluation.novelty import calibrate
from genlab.evaluation.numbers import format_number

WIDTH = 38  # of the first column of the table


def confidences(scored: Scored) -> dict[str, np.ndarray]:
    """How sure a method is of its answers, f64[N] each: by the posterior, and by log p(x)."""
    return {"posterior": bayes.log_odds(scored.log_posterior), "density": scored.scores[:, 0]}


def method_block(
    config: ml_collections.ConfigDict, scored: dict[str, Scored], labels: dict[str, np.ndarray]
) -> dict[str, Any]:
    """The numbers of one method, from what it says of every set and the labels of validation and test."""
    wanted, validation, test = config.classifier, scored["validation"], scored["test"]
    heat = bayes.temperature(validation.log_posterior, labels["validation"])
    tempered = bayes.classifier_block(bayes.temper(test.log_posterior, heat), labels["test"], split="test")
    del tempered["accuracy"]  # a temperature changes no answer
    correct = test.log_posterior.argmax(axis=1) == labels["test"]
    held_out, sure = confidences(validation), confidences(test)
    tables = {name: each.scores for name, each in scored.items() if name != "validation"}
    return {
        "classification": bayes.classifier_block(test.log_posterior, labels["test"], split="test"),
        "tempered": {"temperature": {"value": heat, "split": "validation", "n": len(labels["validation"])}, **tempered},
        "abstention": {by: rejection.abstention_block(held_out[by], sure[by], correct, wanted.coverage) for by in sure},
        "rejection": {
            name: rejection.rejection_block(rule, validation.scores, tables, wanted.reject_rate)
            for name, rule in rejection.RULES.items()
        },
    }


def draw(
    directory: pathlib.Path,
    config: ml_collections.ConfigDict,
    images: np.ndarray,
    labels: dict[str, np.ndarray],
    found: dict[str, dict[str, Scored]],
) -> None:
    """The figures classifier_*.png: curves of all methods, and of each what it finds likely."""
    from genlab.plots import classifier as plots
    from genlab.plots import files

    truth, curves, bins = labels["test"], {}, {}
    for name, scored in found.items():
        validation, test = scored["validation"], scored["test"]
        answer = test.log_posterior.argmax(axis=1)
        for by, sure in confidences(test).items():
            curves[f"{name}, by {by}"] = rejection.accuracy_coverage(sure, answer == truth)
        heat = bayes.temperature(validation.log_posterior, labels["validation"])
        bins[name] = tuple(bayes.reliability(test.log_posterior, truth))
        bins[f"{name}, T = {heat:.3g}"] = tuple(bayes.reliability(bayes.temper(test.log_posterior, heat), truth))
        rate, known = config.classifier.reject_rate, validation.scores[:, 0]
        figure = plots.density_histograms(
            test.scores[:, 0],
            {part: each.scores[:, 0] for part, each in scored.items() if part not in ("validation", "test")},
            -calibrate(-known, rate),
            rejection.typical_interval(known, rate),
        )
        files.save(figure, directory / f"classifier_density_{name}.png")
        rule = rejection.RULES[config.classifier.reject]
        foreignness = rule(validation.scores, test.scores)
        threshold = calibrate(rule(validation.scores, validation.scores), rate)
        unlikely, unsure = np.argsort(test.scores[:, 0]), np.argsort(confidences(test)["posterior"])
        rejected = (foreignness > threshold)[np.argsort(-foreignness)]
        rows = {
            "least likely": unlikely,
            "least sure": unsure,
            "rejected": np.argsort(-foreignness)[rejected],
            "wrong, surest": unsure[::-1][(answer != truth)[unsure[::-1]]],
        }
        figure = plots.answers(images, truth, test.log_posterior, rows)
        files.save(figure, directory / f"classifier_answers_{name}.png")
    files.save(plots.accuracy_coverage(curves, config.classifier.coverage), directory / "classifier_coverage.png")
    files.save(plots.reliability_diagram(bins), directory / "classifier_reliability.png")


def table(config: ml_collections.ConfigDict, blocks: dict[str, Any]) -> str:
    """The numbers of all methods side by side, the rules of rejection under them."""
    return "\n".join(line.rstrip() for line in lines(config, blocks))


def lines(config: ml_collections.ConfigDict, blocks: dict[str, Any]) -> Iterator[str]:
    """Line by line."""
    wanted, methods = config.classifier, list(blocks.values())
    cells = lambda texts: "".join(f"{text:>24}" for text in texts)
    yield f"{'':{WIDTH}}" + cells(blocks)
    rows = {name.replace("_", " "): ("classification", name) for name in methods[0]["classification"]}
    rows |= {f"{name.replace('_', ' ')}, tempered": ("tempered", name) for name in methods[0]["tempered"]}
    rows["temperature"] = rows.pop("temperature, tempered")
    for title, (block, name) in rows.items():
        yield f"{title:{WIDTH}}" + cells(short(method[block][name]) for method in methods)
    for by in methods[0]["abstention"]:
        mark = " *" if by == wanted.confidence else ""
        title = f"accuracy at {wanted.coverage:.0%} by {by}{mark}"
        yield f"{title:{WIDTH}}" + cells(short(method["abstention"][by]["accuracy_at_coverage"]) for method in methods)
    for method, block in blocks.items():
        yield f"{f'rejected by {method}, %':{WIDTH}}" + cells(
            rule + (" *" if rule == wanted.reject else "") for rule in block["rejection"]
        )
        for name in block["rejection"][wanted.reject]:
            yield f"{name.replace('_', ' '):{WIDTH}}" + cells(
                f"{100 * rule[name]['value']:.1f}" for rule in block["rejection"].values()
            )


def short(number: dict[str, Any]) -> str:
    """A number and its standard error."""
    return format_number({"value": number["value"], "standard_error": number.get("standard_error")}).replace(
        " s.e.", ""
    )
