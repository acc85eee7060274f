"""Each classifier recipe is a density's, with the label in it; a step runs, and what cannot classify is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import autoregressive, flow, vae
from configs import classifier as recipes
from experiments.classifier import build, check_classifier
from genlab import data
from genlab.errors import InputError

KEY = jax.random.key(0)


def dataset(shape=(8, 8, 1), num=40, **columns):
    """Random pixels; labels in turn unless given."""
    x = np.random.default_rng(0).integers(0, 256, (num, *shape), dtype=np.uint8)
    split = {"x": x, "label": np.arange(num, dtype=np.int32) % 4} | columns
    return data.Dataset("fake", split, split, split, 4, None)


TINY = {
    "small": {"evaluation.num_importance_samples": 2, "model.hidden": (8,)},
    "mnist": {"evaluation.num_importance_samples": 2, "model.hidden": (8,)},
    "flow:classifier": {"model.channels": 4, "model.num_layers": 1},
    "autoregressive:classifier": {"model.features": 4, "model.num_layers": 1, "model.head": 4},
}


@pytest.mark.parametrize("variant", TINY)
def test_a_recipe_has_the_fields_of_its_family_and_builds_a_density_of_the_label(variant):
    file, _, own = variant.rpartition(":")
    module, family = {"flow": (flow, flow), "autoregressive": (autoregressive,) * 2}.get(file, (recipes, vae))
    config, family = module.get_config(own), family.get_config()
    check_classifier(config)
    assert set(config.model) == set(family.model)
    assert set(config.evaluation) == set(family.evaluation)
    config.update_from_flattened_dict(TINY[variant])
    everything = dataset()
    algorithm = build(config, everything)
    batch = {name: jnp.asarray(column[:8]) for name, column in everything.train.items()}
    batch = data.prepare(batch, config.data.binarization, KEY)
    state = jax.jit(algorithm.init)(KEY, batch)
    for _ in range(2):  # the last layer of a flow is zero at first
        state, metrics = jax.jit(algorithm.step)(state, batch, KEY)
    assert np.isfinite(metrics["loss"])
    log_prob = jax.jit(algorithm.log_prob)
    other = {**batch, "label": (batch["label"] + 1) % 4}
    assert np.abs(log_prob(state, batch, KEY) - log_prob(state, other, KEY)).min() > 0.0


def test_an_unknown_variant_lists_the_known_ones():
    with pytest.raises(ValueError, match="no variant 'huge'; known: small, mnist"):
        recipes.get_config("huge")


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("classifier.reject", "size", "classifier.reject is 'size'; known: density, typicality, combined"),
        ("classifier.family", "gan", "classifier.family is 'gan'; known: vae, flow, autoregressive"),
        ("classifier.confidence", "size", "classifier.confidence is 'size'; known: posterior, density"),
        ("classifier.reject_rate", 0.0, "classifier.reject_rate is 0.0; it must lie between 0 and 1"),
        ("classifier.coverage", 1.0, "classifier.coverage is 1.0; it must lie between 0 and 1"),
        ("classifier.ppca_code_dims", (8, 0), r"classifier.ppca_code_dims is \(8, 0\); it must be at least 1"),
        ("classifier.num_importance_samples", 0, "classifier.num_importance_samples is 0"),
        ("model.conditional", False, "needs p.x . y.; add --config.model.conditional"),
        ("population", 2, "not a population"),
    ],
)
def test_a_config_that_makes_no_classifier_is_refused(field, value, complaint):
    config = recipes.get_config()
    with config.ignore_type():
        config.update_from_flattened_dict({field: value})
    with pytest.raises(InputError, match=complaint):
        check_classifier(config)


def test_a_config_of_another_family_is_refused():
    with pytest.raises(InputError, match="needs a config with classifier"):
        check_classifier(vae.get_config())


@pytest.mark.parametrize(
    ("found", "changes", "complaint"),
    [
        (dataset()._replace(test={"x": np.zeros((4, 2))}), {}, "a classifier wants labelled images; fake has none"),
        (dataset()._replace(test={"x": dataset().test["x"]}), {}, "a classifier wants labelled images"),
        (dataset(label=np.zeros(40, np.int32)), {}, "class 1 has no training example"),
        (dataset(num=12), {}, "wants at least 19 held-out"),
        (dataset(), {"data.binarization": "none"}, "no density; add --config.data.binarization=dynamic"),
    ],
)
def test_data_that_make_no_classifier_are_refused(found, changes, complaint):
    config = recipes.get_config()
    config.update_from_flattened_dict(changes)
    with pytest.raises(InputError, match=complaint):
        build(config, found)
