"""A generative classifier with a reject option: python -m experiments.classifier --config=configs/classifier.py."""

import jax
import ml_collections
import numpy as np

from experiments import autoregressive, flow, vae
from experiments.checks import at_least, check, choose, field
from experiments.class_densities import ClassDensities, of_model, of_ppca, score_sets
from experiments.classified import draw, method_block, table
from experiments.launch import Launch, launch
from experiments.members import with_fields
from experiments.results import write_json
from experiments.run import run
from experiments.trained import Trained, open_run
from genlab import data
from genlab.algorithm import Algorithm
from genlab.errors import InputError
from genlab.evaluation import bayes_classifier as bayes
from genlab.evaluation import rejection
from genlab.evaluation.foreign import foreign_sets
from genlab.evaluation.novelty import calibrate
from genlab.training import workdir

FAMILIES = {"vae": vae.build, "flow": flow.build, "autoregressive": autoregressive.build}
CONFIDENCES = ("posterior", "density")
OWN = ("validation", "test")  # sets that are not foreign
PROTOCOL = (
    "Bayes' rule over class-conditional densities; priors are the training frequencies. Validation images choose k of "
    "PPCA and the temperature, and set every threshold; no foreign image is seen before it is counted. Confidence is "
    "the log-odds of the most probable class, or log p(x)."
)


def main(arguments: Launch) -> None:
    """Trains the model of the config, or resumes it, then classifies with it."""
    check_classifier(arguments.config)
    run(arguments, build)
    trained = open_run(arguments.workdir)
    with workdir.locked(arguments.workdir):
        leave(arguments, trained)


def build(config: ml_collections.ConfigDict, dataset: data.Dataset) -> Algorithm:
    """The model, once it is clear that a classifier can be made of it and of this dataset."""
    if np.ndim(dataset.test["x"]) != 4 or "label" not in dataset.test or dataset.num_classes < 2:
        raise InputError(f"a classifier wants labelled images; {dataset.name} has none")
    bayes.class_prior(np.asarray(dataset.train["label"]), dataset.num_classes)
    num_validation = np.zeros(max(len(dataset.validation["x"]), 1))
    for rate in (config.classifier.reject_rate, 1.0 - config.classifier.coverage):
        calibrate(num_validation, rate)
    algorithm = FAMILIES[config.classifier.family](config, dataset)
    if algorithm.log_prob is None:  # of a VAE
        raise InputError(
            f"model.likelihood {config.model.likelihood!r} of these images is no density; add "
            "--config.data.binarization=dynamic or take --config.model.likelihood=discretized_logistic"
        )
    return algorithm


def check_classifier(config: ml_collections.ConfigDict) -> None:
    """Raises InputError for a config that this experiment cannot run."""
    check(config)
    field(config, "classifier")
    choose("classifier.family", config.classifier.family, FAMILIES)
    positive = ("classifier.ppca_code_dims", "classifier.num_importance_samples", "classifier.num_foreign")
    at_least(config, {**dict.fromkeys(positive, 1), "data.num_validation": 1})
    choose("classifier.reject", config.classifier.reject, rejection.RULES)
    choose("classifier.confidence", config.classifier.confidence, dict.fromkeys(CONFIDENCES))
    for name in ("reject_rate", "coverage"):
        if not 0.0 < config.classifier[name] < 1.0:
            raise InputError(f"classifier.{name} is {config.classifier[name]}; it must lie between 0 and 1")
    if not (field(config, "model.conditional") or config.model.get("class_prior")):
        raise InputError("a classifier needs p(x | y); add --config.model.conditional")
    if config.population is not None:
        raise InputError("a classifier is made of one model; give each seed a run of its own, not a population")
    if jax.process_count() > 1:
        raise InputError("a classifier is trained and tested by one process")


def leave(arguments: Launch, trained: Trained) -> None:
    """classifier.json, classifier.npz and figures/classifier_*.png of a finished run, and the table on the terminal."""
    from genlab.evaluation.pictures import save_arrays
    from genlab.evaluation.report import write_report

    config, dataset, directory = arguments.config, trained.dataset, arguments.workdir
    prior = bayes.class_prior(np.asarray(dataset.train["label"]), dataset.num_classes)
    foreign = foreign_sets(np.asarray(dataset.test["x"]), config.classifier.num_foreign)
    if dataset.name == "digits":
        del foreign["sklearn_digits"]  # the very same
    sets = {name: getattr(dataset, name) for name in OWN} | {name: {"x": x} for name, x in foreign.items()}
    labels = {name: np.asarray(sets[name]["label"]) for name in OWN}
    blocks, found = {}, {}
    for name, densities in methods(config, trained, np.log(prior)).items():
        print(f"classifying by {name}", flush=True)
        found[name], columns = score_sets(densities, sets, np.log(prior))
        blocks[name] = method_block(config, found[name], labels) | {"scores": columns, "facts": densities.facts}
    card = {
        "recipe": arguments.recipe,
        "dataset": config.data.name,
        "seed": config.seed,
        "protocol": PROTOCOL,
        "class_prior": prior.tolist(),
        "settings": config.classifier.to_dict(),
        "methods": blocks,
    }
    write_json(directory / "classifier.json", card)
    arrays = {
        f"{name}/{part}/{key}": value
        for name, scored in found.items()
        for part, each in scored.items()
        for key, value in each._asdict().items()
    }
    save_arrays(directory / "classifier.npz", **arrays)
    draw(directory / "figures", config, np.asarray(dataset.test["x"]), labels, found)
    write_report(directory, arguments.command)
    print(table(config, blocks))


def methods(config: ml_collections.ConfigDict, trained: Trained, log_prior: np.ndarray) -> dict[str, ClassDensities]:
    """The model, a VAE with as many samples as a classification takes, and PPCA where there is a k to try."""
    family, sampled = config.classifier.family, {}
    if family == "vae":
        sampled = {"num_importance_samples": config.classifier.num_importance_samples}
        config = with_fields(config, {f"evaluation.{name}": value for name, value in sampled.items()})
    algorithm = FAMILIES[family](config, trained.dataset)
    num_classes, dims = trained.dataset.num_classes, config.classifier.ppca_code_dims
    found = {family: of_model(config, algorithm, trained.state, num_classes, **sampled)}
    if dims:
        found["ppca"] = of_ppca(trained.dataset, dims, config.evaluation.batch_size, log_prior)
    return found


if __name__ == "__main__":
    launch("experiments.classifier", main)
