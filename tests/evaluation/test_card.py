"""The card's blocks on models whose numbers are known: each number has its value and its protocol."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genlab.algorithm import Algorithm, new_player, new_state
from genlab.data import prepare
from genlab.evaluation import card

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
LABELS = np.arange(60, dtype=np.int32) % 2
# dark and bright digits
IMAGES = (RNG.integers(0, 100, (60, 28, 28, 1)) + 150 * LABELS[:, None, None, None]).astype(np.uint8)
TRAIN, TEST = ({"x": IMAGES[rows], "label": LABELS[rows]} for rows in (slice(0, 40), slice(40, 60)))
STATE = new_state({})


def brightness(batch):
    return jnp.mean(batch["x"].reshape(len(batch["x"]), -1), axis=1)


def nothing(state, batch, key):
    return state, {}


# a model that is of no use; what it can do beside is given by `_replace`
PLAIN = Algorithm(
    init=lambda key, batch: STATE,
    step=nothing,
    evaluate=lambda state, batch, key: {"loss": brightness(batch)},
    generate=None,
    encode=None,
    decode=None,
    log_prob=None,
    density="none",
)


def log_prob(state, batch, key):
    return -100.0 * brightness(batch)


def density(model, test=TEST, k=None, binarization="none"):
    return card.density_block(model, STATE, test, prepare, KEY, 16, k, binarization)


def representation(model, train=TRAIN, test=TEST):
    return card.representation_block(model, STATE, train, test, prepare, KEY, 16)


def assert_numbers_have_protocols(block):
    for name, number in block.items():
        assert isinstance(number["value"], float) and np.isfinite(number["value"]), name
        assert number["split"] == "test" and number["n"] > 0, name


# float64 means and standard errors of what the model says
NLL = 100 * IMAGES[40:].astype(np.float64).mean(axis=(1, 2, 3)) / 255
ERROR = NLL.std(ddof=1) / np.sqrt(20)


def test_exact_density():
    block = density(PLAIN._replace(log_prob=log_prob, density="exact"), binarization="dynamic")
    assert block is not None and set(block) == {"negative_log_likelihood", "bits_per_dim"}
    assert_numbers_have_protocols(block)
    nats, bits = block["negative_log_likelihood"], block["bits_per_dim"]
    np.testing.assert_allclose([nats["value"], nats["standard_error"]], [NLL.mean(), ERROR], rtol=1e-6)
    scale = 784 * np.log(2)
    np.testing.assert_allclose([bits["value"], bits["standard_error"]], [NLL.mean() / scale, ERROR / scale], rtol=1e-6)
    assert nats["n"] == bits["n"] == 20 and nats["unit"] == "nats" and "784 dimensions" in bits["unit"]
    assert not {"bound", "k", "estimator"} & (set(nats) | set(bits))


def test_density_of_grey_images_has_no_bits_per_dimension():
    """A density on [0, 1]^D of pixels that were not dequantized: its bits would be no code length."""
    block = density(PLAIN._replace(log_prob=log_prob, density="exact"), binarization="none")
    assert block is not None and set(block) == {"negative_log_likelihood"}
    np.testing.assert_allclose(block["negative_log_likelihood"]["value"], NLL.mean(), rtol=1e-6)
    assert block["negative_log_likelihood"]["x"] == "intensities i / 255 as stored, not dequantized"


def test_density_shows_how_far_it_is():
    shown = []
    model = PLAIN._replace(log_prob=log_prob, density="exact")
    card.density_block(model, STATE, TEST, prepare, KEY, 8, None, "none", shown.append)
    assert shown == [8, 16, 20]


@pytest.mark.parametrize(
    ("space", "name", "more"), [("dequantized", "dequantized_bits_per_dim", 8.0), ("discrete", "bits_per_dim", 0.0)]
)
def test_densities_of_dequantized_images_and_probabilities_of_levels_have_bits_of_other_names(space, name, more):
    terms = lambda state, batch, key: {"logit_log_prob": log_prob(state, batch, key) - 3.0}
    model = PLAIN._replace(log_prob=log_prob, density="exact", space=space, conditional=True, evaluate=terms)
    block, likelihood = density(model), name.replace("bits_per_dim", "negative_log_likelihood")
    assert block is not None
    assert set(block) == {likelihood, name, "logit_negative_log_likelihood"}
    num_dims = IMAGES[0].size
    np.testing.assert_allclose(block[name]["value"], NLL.mean() / (num_dims * np.log(2)) + more, rtol=1e-6)
    np.testing.assert_allclose(block[name]["standard_error"], ERROR / (num_dims * np.log(2)), rtol=1e-5)
    np.testing.assert_allclose(block["logit_negative_log_likelihood"]["value"], NLL.mean() + 3.0, rtol=1e-6)
    words = {"dequantized": "u = (level", "discrete": "levels 0 to 255"}
    for each in (likelihood, name):
        assert block[each]["x"].startswith(words[space]) and block[each]["given"] == "the label"


@pytest.mark.parametrize("kind", ["exact", "bound"])
def test_where_the_true_density_is_known_its_divergence_from_the_models_is_told(kind):
    points = {"x": np.array([[0.0], [1.0], [3.0]], np.float32)}
    model = PLAIN._replace(log_prob=lambda state, batch, key: -2.0 * batch["x"][:, 0], density=kind)
    block = card.density_block(
        model, STATE, points, lambda raw: raw, KEY, 16, None, "none", log_density=lambda x: -x[:, 0]
    )
    assert block is not None
    found = block["kl_from_truth"]  # E [2 x - x]
    assert found["value"] == pytest.approx(4 / 3) and found["standard_error"] == pytest.approx(
        np.std([0, 1, 3], ddof=1) / 3**0.5
    )
    assert found.get("bound") == ("upper" if kind == "bound" else None)
    told = model._replace(conditional=True)  # p(x | y) is not to be compared with p(x)
    block = card.density_block(
        told, STATE, points, lambda raw: raw, KEY, 16, None, "none", log_density=lambda x: -x[:, 0]
    )
    assert block is not None and "kl_from_truth" not in block


def test_bounded_density_says_so():
    evaluate = lambda state, batch, key: {"elbo": log_prob(state, batch, key) - 7.0}
    block = density(PLAIN._replace(log_prob=log_prob, evaluate=evaluate, density="bound"), k=50, binarization="dynamic")
    assert block is not None and set(block) == {"negative_elbo", "negative_log_likelihood", "bits_per_dim"}
    assert_numbers_have_protocols(block)
    np.testing.assert_allclose(block["negative_elbo"]["value"], NLL.mean() + 7.0, rtol=1e-6)
    np.testing.assert_allclose(block["negative_elbo"]["standard_error"], ERROR, rtol=1e-5)
    for number in block.values():
        assert number["bound"] == "upper" and number["estimator"] and number["x"].startswith("binary: dynamic")
    assert block["negative_log_likelihood"]["k"] == block["bits_per_dim"]["k"] == 50
    assert "k" not in block["negative_elbo"]


def test_density_of_points_has_no_bits_per_dimension():
    points = {"x": RNG.normal(size=(30, 2)).astype(np.float32)}
    gaussian = lambda state, batch, key: -0.5 * jnp.sum(batch["x"] ** 2, axis=1) - np.log(2 * np.pi)
    block = density(PLAIN._replace(log_prob=gaussian, density="exact"), points)
    assert block is not None and set(block) == {"negative_log_likelihood"}
    assert "x" not in block["negative_log_likelihood"]
    expected = 0.5 * np.square(points["x"]).sum(axis=1).mean() + np.log(2 * np.pi)
    np.testing.assert_allclose(block["negative_log_likelihood"]["value"], expected, rtol=1e-5)


def test_blocks_are_null_for_what_a_model_or_a_data_set_lacks():
    encoder = PLAIN._replace(encode=lambda state, batch, key: brightness(batch)[:, None])
    unlabelled = {"x": TEST["x"]}
    assert density(PLAIN) is None
    assert representation(PLAIN) is None
    assert representation(encoder, unlabelled, unlabelled) is None
    assert card.generate_samples(PLAIN, STATE, TEST, 10, KEY, prepare, 16) is None
    assert card.generation_block(None, TRAIN, TEST, prepare) is None


def test_representation_of_a_code_that_holds_the_label():
    encoder = PLAIN._replace(
        encode=lambda state, batch, key: jnp.stack([brightness(batch), 0 * brightness(batch)], axis=1)
    )
    block = representation(encoder)
    assert block is not None
    assert_numbers_have_protocols(block)
    for number in block.values():
        assert number["value"] == 1.0
        assert (number["n"], number["n_train"], number["code_size"]) == (20, 40, 2)


def test_representation_is_probed_on_the_first_training_examples_only(monkeypatch):
    monkeypatch.setattr(card, "MAX_PROBE_EXAMPLES", 12)
    encoder = PLAIN._replace(encode=lambda state, batch, key: brightness(batch)[:, None])
    block = representation(encoder)
    assert block is not None
    assert {number["n_train"] for number in block.values()} == {12}


@pytest.mark.parametrize("num", [7, 20, 50])
def test_samples_take_their_conditions_from_the_examples_in_turn(num):
    copy = lambda state, batch, key: batch["x"]
    samples = card.generate_samples(PLAIN._replace(generate=copy), STATE, TEST, num, KEY, prepare, 16)
    assert samples is not None and samples.shape == (num, 28, 28, 1)
    expected = np.concatenate([TEST["x"]] * 3)[:num].astype(np.float32) / 255
    np.testing.assert_allclose(samples, expected, rtol=1e-6)


def test_generation_compares_samples_to_the_test_set_on_the_scale_of_the_model():
    train, test = (split["x"].astype(np.float32) / 255 for split in (TRAIN, TEST))
    block = card.generation_block(test, TRAIN, TEST, prepare)
    shifted = card.generation_block(test + (train - train.mean(axis=0))[0], TRAIN, TEST, prepare)
    assert block is not None and shifted is not None
    assert_numbers_have_protocols(block)
    np.testing.assert_allclose(block["frechet_pca"]["value"], 0.0, atol=1e-5)
    assert block["frechet_pca"]["n"] == block["frechet_pca"]["n_real"] == 20
    # the shift lies in the span of 40 training images, which 40 components hold whole
    expected = np.sum((train[0] - train.mean(axis=0)) ** 2)
    np.testing.assert_allclose(shifted["frechet_pca"]["value"], expected, rtol=1e-3)


def test_count_parameters_is_of_all_players_and_of_parameters_alone():
    tx = optax.adam(1e-3)
    weights = {"kernel": jnp.zeros((3, 4)), "bias": jnp.zeros(4)}
    players = {"a": new_player(weights, tx, {"mean": jnp.zeros(9)}), "b": new_player({"w": jnp.zeros(())}, tx)}
    assert card.count_parameters(new_state(players, {"a": weights})) == 12 + 4 + 1


def test_a_population_has_the_mean_and_the_sample_deviation_of_its_members():
    protocol = {"split": "test", "n": 10, "unit": "nats"}
    blocks = [{"nll": {"value": value, "standard_error": value / 10, "k": k, **protocol}} for value, k in
              ((1.0, 5), (2.0, 5), (6.0, 6))]  # fmt: skip
    assert card.over_members(blocks) == {
        "nll": {"value": 3.0, "sd": pytest.approx(7**0.5), "num_members": 3, "values": [1.0, 2.0, 6.0], **protocol}
    }
    assert card.over_members(blocks[:1])["nll"]["sd"] is None
    assert card.over_members([None, None]) is None and card.over_members([]) is None
