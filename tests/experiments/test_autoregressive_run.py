"""A language model end to end, what continues a prompt, and drawing by one call beside a pass for every pixel."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import autoregressive as recipes
from experiments import autoregressive, language, sampling
from experiments.launch import Launch
from experiments.prompt import continued
from experiments.trained import Trained, open_run
from genlab import data
from genlab.data import text
from genlab.errors import InputError

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A tiny language model, in its workdir."""
    config = recipes.get_config("language")
    config.update_from_flattened_dict({
        "num_steps": 4, "steps_per_call": 2, "batch_size": 4, "optimizer.warmup_steps": 1, "model.features": 8,
        "model.num_layers": 1, "model.num_heads": 2, "evaluation.num_samples": 6, "figure_every_steps": 4,
        "log_every_steps": 2, "eval_every_steps": 4, "checkpoint_every_steps": 4,
    })  # fmt: skip
    directory = tmp_path_factory.mktemp("runs") / "language"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(jax.config.values["jax_compilation_cache_dir"]))
        autoregressive.main(Launch(config, "language", directory, "", module="experiments.autoregressive"))
        run = open_run(directory)
    return run


def test_a_language_model_leaves_text_and_numbers_beside_n_grams(finished):
    card = json.loads((finished.directory / "card.json").read_text())
    bits = card["density"]["bits_per_character"]
    with np.load(finished.directory / "density.npz") as arrays:
        log_prob = arrays["log_prob"]
    assert len(log_prob) == len(finished.dataset.test["x"])
    assert bits["value"] == pytest.approx(-log_prob.mean() / (256 * np.log(2)), rel=1e-5) and bits["unit"] == "bits"
    ngram = card["density"]["ngram_bits_per_character"]
    assert ngram["order"] == 3 and 2 < ngram["value"] == ngram["by_order"]["3"] < ngram["by_order"]["0"] < 5
    assert set(card["generation"]) == {"known_words", "copied"}
    assert 0.5 < card["generation"]["known_words"]["test_text"] <= 1 and card["generation"]["copied"]["value"] == 0
    with np.load(finished.directory / "samples.npz") as arrays:
        tokens = arrays["text"]
    assert tokens.shape == (6, 256) and tokens.dtype == np.int32
    written = (finished.directory / "samples.txt").read_bytes().decode()  # with carriage returns as they are
    assert text.decode(tokens[0]) in written
    assert text.decode(np.asarray(finished.dataset.test["x"][1][:128])) + "[...]" in written
    assert "Text</h2>" in (finished.directory / "report.html").read_text()
    assert not (finished.directory / "figures" / "samples.png").exists()


def test_a_prompt_is_continued_beyond_the_window_by_what_the_last_half_window_says(finished):
    written = continued(finished, "The statement", 2, 300, 1e-6, KEY)
    assert written.shape == (2, 300) and text.decode(written[0]).startswith("The statement")
    complete = finished.algorithm.complete
    # at a temperature near 0 it is what is likeliest, whatever the key
    algorithm = autoregressive.build(with_temperature(finished.config, 1e-6), finished.dataset)
    known = np.zeros((2, 256), np.int32)
    known[:, :128] = written[:, 128:256]
    likeliest = algorithm.complete(finished.state, {"x": jnp.asarray(known)}, jnp.int32(128), KEY)
    np.testing.assert_array_equal(written[:, 256:], likeliest[:, 128:172])
    assert complete is not None and continued(finished, "", 1, 5, 1.0, KEY).shape == (1, 5)
    assert text.decode(continued(finished, "x" * 9, 1, 5, 1.0, KEY)[0]) == "x" * 5
    with pytest.raises(InputError, match="holds no language model"):
        continued(finished._replace(algorithm=finished.algorithm._replace(complete=None)), "", 1, 5, 1.0, KEY)


def with_temperature(config, temperature):
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.model.temperature = temperature
    return config


def test_n_grams_look_back_in_the_training_text_alone():
    dataset = data.load("python_topics", num_validation=200)
    found = language.ngram_block(dataset)["ngram_bits_per_character"]
    assert found["of_validation"].keys() == found["by_order"].keys()
    without = language.ngram_block(dataset._replace(validation={"x": dataset.validation["x"][:0]}))
    assert without["ngram_bits_per_character"] == {k: v for k, v in found.items() if k != "of_validation"}
    swapped = language.ngram_block(dataset._replace(validation=dataset.test, test=dataset.validation))
    assert swapped["ngram_bits_per_character"]["by_order"] == found["of_validation"]


@pytest.mark.parametrize("variant", ["conditional", "attention"])
def test_one_call_and_a_pass_for_every_pixel_draw_the_same_images(variant, tmp_path):
    config = recipes.get_config(variant)
    config.update_from_flattened_dict({"model.features": 4, "model.num_layers": 1, "model.head": 4})
    config.model.attention_every = min(config.model.attention_every, 1)
    x = np.zeros((8, 5, 4, 1), np.uint8)
    split = {"x": x, "label": np.arange(8, dtype=np.int32) % 3}
    dataset = data.Dataset("fake", split, split, split, 3, None)
    algorithm = autoregressive.build(config, dataset)
    batch = {"x": jnp.asarray(x, jnp.float32), "label": jnp.asarray(split["label"])}
    run = Trained(tmp_path, config, dataset, algorithm, jax.jit(algorithm.init)(KEY, batch), {})
    fast, slow = sampling.one_call(run, 6)(KEY), sampling.pass_a_pixel(run, 6)(KEY)
    assert fast.shape == (6, 5, 4, 1) and 0.1 < fast.mean() < 0.9
    np.testing.assert_array_equal(fast, slow)
