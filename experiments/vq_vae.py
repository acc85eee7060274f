"""Vector-quantized VAEs: python -m experiments.vq_vae --config=configs/vq_vae.py[:variant].

Beside what every run leaves there is codebook.json, how the codes are used by the test set, and figures/codebook.png;
of a population in the folder of every member.
"""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from experiments.checks import at_least, choose, field, known
from experiments.launch import Launch, launch
from experiments.observation import ACTIVATIONS, dtype_of, make_likelihood
from experiments.representation import as_trained
from experiments.results import write_json
from experiments.run import run
from experiments.trained import Trained, open_run
from genlab import data
from genlab.algorithm import Algorithm, Array, Batch, Key, State
from genlab.errors import InputError
from genlab.evaluation.held_out import over_split
from genlab.models.vq_vae import code_vectors, vq_vae
from genlab.networks import quantizer
from genlab.networks.grid import GridDecoder, GridEncoder, grid_shape
from genlab.networks.token_prior import TokenPrior, raster_lags
from genlab.training import processes
from genlab.training.optimizer import make_optimizer


def build(config: ml_collections.ConfigDict, dataset: data.Dataset) -> Algorithm:
    """The algorithm that a config describes, for images like the dataset's."""
    model, shape = field(config, "model"), dataset.train["x"].shape[1:]  # (H, W, C)
    check_model(config, dataset.name, shape)
    likelihood = make_likelihood(config, dataset)
    activation = choose("model.activation", model.activation, {k: v for k, v in ACTIVATIONS.items() if k != "glu"})
    dtype = dtype_of(config)
    channels, outputs = tuple(model.channels), shape[-1] * likelihood.num_outputs
    height, width = grid_shape(shape, len(channels))
    optimizer = dict(config.optimizer)
    return vq_vae(
        GridEncoder(channels, model.code_dim, model.num_residual, activation, dtype),
        GridDecoder(channels[::-1], outputs, model.num_residual, activation, dtype),
        likelihood,
        make_optimizer(num_steps=config.num_steps, **optimizer),
        TokenPrior(
            model.num_codes, height * width, model.prior_features, model.prior_embedding, raster_lags(width), dtype
        ),
        make_optimizer(num_steps=config.num_steps, **optimizer | {"learning_rate": model.prior_learning_rate}),
        grid=(height, width),
        code_dim=model.code_dim,
        codebook=model.codebook,
        beta=model.commitment,
        decay=model.decay,
        restart_below=model.restart_below,
        ema_decay=config.ema_decay,
    )


def check_model(config: ml_collections.ConfigDict, name: str, shape: tuple[int, ...]) -> None:
    """Raises InputError for what the networks and the codebook cannot be, or not on examples of this shape."""
    model = config.model
    counts = ("model.channels", "model.code_dim", "model.prior_features", "model.prior_embedding")
    at_least(config, dict.fromkeys(counts, 1) | {"model.num_codes": 2})
    weights = ("model.num_residual", "model.commitment", "model.decay", "model.restart_below")
    at_least(config, dict.fromkeys((*weights, "model.prior_learning_rate"), 0))
    choose("model.codebook", model.codebook, {"ema": None, "gradient": None})
    for share in ("decay", "restart_below"):
        if any(value >= 1.0 for value in known(model[share])):
            raise InputError(f"model.{share} is {model[share]}; it must be at least 0 and less than 1")
    if len(shape) != 3:
        raise InputError(f"a VQ-VAE is for images; {name} holds examples of shape {shape}")
    if not model.channels:
        raise InputError("model.channels is empty; a VQ-VAE needs at least one convolution")


def code_counts(trained: Trained) -> np.ndarray:
    """f64[K], how often the places of the test images choose each code."""
    config, encode = trained.config, trained.algorithm.encode
    assert encode is not None

    def indices(state: State, batch: Batch, key: Key) -> Array:
        codes = encode(state, batch, key).reshape(batch["x"].shape[0], -1, config.model.code_dim)  # [B, T, D]
        return quantizer.nearest_code(codes, code_vectors(state))

    test = as_trained(config, trained.dataset.test)
    found = over_split(indices, data.prepare, config.evaluation.batch_size)(trained.state, test, jax.random.key(0))
    return np.bincount(found.ravel(), minlength=config.model.num_codes).astype(np.float64)


def codebook_numbers(counts: np.ndarray, num_images: int) -> dict[str, Any]:
    """The numbers of codebook.json, each with its protocol."""
    protocol = {"split": "test", "n": num_images, "num_codes": len(counts), "places": int(counts.sum()) // num_images}
    entropy = float(np.log(quantizer.perplexity(jnp.asarray(counts, jnp.float32))))
    return {
        "codes_used": {"value": float(np.mean(counts > 0)), "unit": "share of the codes", **protocol},
        "perplexity": {"value": float(np.exp(entropy)), "unit": "codes", **protocol},
        "rate_of_independent_codes": {
            "value": entropy * protocol["places"], "unit": "nats", **protocol,
            "estimator": "entropy of the histogram, times the places: what the prior has to improve on",
        },
    }  # fmt: skip


def main(arguments: Launch) -> None:
    """Trains, evaluates and reports, and says how the codes are used."""
    run(arguments, build)
    if processes.count() > 1:
        if processes.is_main():
            print("codebook.json is left to one process: give the same command alone")
        return
    from genlab.evaluation.report import write_report
    from genlab.plots import files
    from genlab.plots.codes import code_usage

    solo = arguments.config.population is None
    for card in sorted(arguments.workdir.glob("card.json" if solo else "members/*/card.json")):
        trained = open_run(card.parent)
        counts = code_counts(trained)
        numbers = codebook_numbers(counts, len(trained.dataset.test["x"]))
        write_json(card.parent / "codebook.json", numbers)
        files.save(code_usage(counts), card.parent / "figures" / "codebook.png")
        for name, number in numbers.items():
            print(f"{'codebook':15} {name:24} {number['value']:.4g}")
    if solo:
        write_report(arguments.workdir, arguments.command)  # again, with the figure


if __name__ == "__main__":
    launch("experiments.vq_vae", main)
