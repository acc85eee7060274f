"""Which fields of a VAE's config go together, said in one line where they do not."""

import ml_collections

from experiments.checks import at_least
from genlab import data
from genlab.errors import InputError

COUNTS = ("model.latent_dim", "model.hidden", "model.channels", "model.upper_dims", "model.upper_hidden",
          "model.num_samples", "model.num_components", "evaluation.num_importance_samples",
          "evaluation.importance_chunk")  # fmt: skip


def check_model(config: ml_collections.ConfigDict, dataset: data.Dataset) -> None:
    """Raises InputError for a model that cannot be, or is not what its fields say."""
    at_least(config, dict.fromkeys(COUNTS, 1) | {"model.num_flows": 0, "model.free_bits": 0})
    check_data(config, dataset)
    check_bound(config, dataset)


def check_data(config: ml_collections.ConfigDict, dataset: data.Dataset) -> None:
    """Networks and labels against the kind of examples."""
    model, images = config.model, dataset.train["x"].ndim == 4
    if not images and model.network == "conv":
        raise InputError(f"model.network 'conv' is for images; {dataset.name} holds points")
    if model.network == "conv" and not model.channels:
        raise InputError("model.channels is empty; model.network 'conv' needs at least one convolution")
    if model.network == "conv" and model.data_bias:
        raise InputError("model.data_bias is for model.network 'dense': a convolution has one bias for all pixels")
    if model.network == "conv" and (model.activation == "glu" or model.likelihood == "shared_gaussian"):
        raise InputError("model.activation 'glu' and model.likelihood 'shared_gaussian' are for model.network 'dense'")
    if (model.conditional or model.class_prior) and "label" not in dataset.train:
        raise InputError(f"{dataset.name} has no labels for model.conditional or model.class_prior")


def check_bound(config: ml_collections.ConfigDict, dataset: data.Dataset) -> None:
    """Objective, prior and posterior against each other."""
    model = config.model
    layers, mixture = 1 + len(model.upper_dims), model.prior != "standard"
    if layers > 1 and (model.conditional or model.class_prior or model.num_flows):
        raise InputError(
            "model.conditional, class_prior and num_flows are for one stochastic layer; "
            f"model.upper_dims is {model.upper_dims}"
        )
    if model.class_prior and model.prior != "mixture":
        raise InputError("model.class_prior weighs the components of model.prior 'mixture' by class; set that")
    if model.prior == "vamp":
        check_vamp(config, dataset)
    if model.objective == "dreg" and (model.num_flows or model.batch_norm):
        raise InputError(
            "model.objective 'dreg' needs the density of any code, which planar flows do not give, and samples that "
            "batch norm does not mix"
        )
    if model.objective in ("iwae", "dreg") and model.num_samples == 1:
        raise InputError(
            f"model.objective {model.objective!r} of one sample is the ELBO; add --config.model.num_samples=5"
        )
    if model.objective == "total_correlation" and (layers > 1 or mixture or model.num_flows):
        raise InputError("model.objective 'total_correlation' is for one Gaussian layer and a standard normal prior")
    if model.objective == "total_correlation" and (model.num_samples > 1 or config.batch_size < 2):
        raise InputError("model.objective 'total_correlation' takes one sample of z, and batches of two at least")
    closed = layers == 1 and not (mixture or model.num_flows or model.sampled_kl)  # the divergence, by dimension
    idle = {  # what a field applies to; elsewhere it would do nothing, or something else
        "tc_weight": (1.0, model.objective == "total_correlation", "model.objective 'total_correlation'"),
        "sampled_kl": (False, model.objective == "elbo", "model.objective 'elbo'"),
        "inference": ("bottom_up", layers > 1, "several stochastic layers (model.upper_dims)"),
        "num_components": (500, mixture, "model.prior 'mixture' and 'vamp'"),
        "free_bits": (0.0, model.objective == "elbo" and closed, "model.objective 'elbo' with a closed divergence"),
    }
    for name, (default, applies, where) in idle.items():
        if not applies and isinstance(model[name], type(default)) and model[name] != default:
            raise InputError(f"model.{name} is {model[name]!r}, but applies only to {where}")


def check_vamp(config: ml_collections.ConfigDict, dataset: data.Dataset) -> None:
    """A prior of posteriors against what it is made of."""
    model = config.model
    if dataset.train["x"].ndim != 4 or model.conditional:
        raise InputError("model.prior 'vamp' learns images as pseudo-inputs and cannot be given labels; take 'mixture'")
    if model.upper_dims and model.inference != "top_down":
        raise InputError("model.prior 'vamp' needs q(z_L | x): with upper_dims set model.inference to 'top_down'")
    if model.num_components > len(dataset.train["x"]):
        raise InputError(f"model.num_components is {model.num_components}; pseudo-inputs start from as many examples")
    if model.batch_norm:
        raise InputError(
            "model.prior 'vamp' cannot have model.batch_norm, which sees pseudo-inputs otherwise than images"
        )
