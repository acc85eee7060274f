"""The variational autoencoder with one stochastic layer: a latent-variable model and an encoder for its posterior.

    p(x, z) = p(z) p(x | decoder(z)),    q(z | x) = N(z; mean(x), sigma^2(x)), or planar flows of it,
    log p(x) >= E_q[log p(x | z)] - KL(q(z | x) || p(z)).

Any prior, and labels if they are given: p(x | y) = int p(x | z, y) p(z | y) dz. It is trained by any bound, see
`genlab.models.latent.variational`.

Reference: Kingma & Welling 2014, "Auto-Encoding Variational Bayes"; Rezende et al. 2014; Sohn et al. 2015 for labels.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from genlab.algorithm import Array, Batch, Key, PyTree
from genlab.bijections.planar import planar
from genlab.losses.divergence import gaussian_kl
from genlab.losses.elbo import reparameterize
from genlab.losses.likelihood import gaussian_log_prob
from genlab.models.latent import LatentModel
from genlab.models.likelihoods import Likelihood
from genlab.models.priors import Prior
from genlab.networks.variables import apply, init


def one_layer(
    encoder: nn.Module,
    decoder: nn.Module,
    likelihood: Likelihood,
    latent_dim: int,
    prior: Prior,
    *,
    flows: bool = False,
    labels: bool = False,
) -> LatentModel:
    """p(z) p(x | z) with the posterior that an encoder gives.

    Args:
        encoder: module, x [B, ...] -> mean f32[B, D], log sigma^2 f32[B, D] of q(z | x).
        decoder: module, codes f32[B, D] -> outputs of the likelihood, f32[B, ...].
        likelihood: p(x | outputs).
        latent_dim: D.
        prior: p(z).
        flows: whether the encoder also gives the parameters of planar flows, (u, w f32[B, F, D], b f32[B, F]); q(z | x)
            is then the Gaussian's image under all F, and only the density of its own samples is known.
        labels: whether encoder and decoder take labels i32[B] as a second argument. The prior sees them in any case.
    """
    modules = {"encoder": encoder, "decoder": decoder}

    def init_networks(key: Key, batch: Batch) -> tuple[PyTree, PyTree]:
        key_encoder, key_decoder = jax.random.split(key)
        codes = jnp.zeros((batch["x"].shape[0], latent_dim))
        extra = (batch["label"],) if labels else ()
        params, stats = {}, {}
        params["encoder"], stats["encoder"] = init(encoder, key_encoder, batch["x"], *extra)
        params["decoder"], stats["decoder"] = init(decoder, key_decoder, codes, *extra)
        if learned := prior.init(jax.random.fold_in(key, 1), batch):
            params["prior"] = learned
        return params, stats

    def run(name: str, params: PyTree, stats: PyTree, x: Array, label: Array | None, train: bool = False):
        extra = (label,) if labels else ()
        outputs, updated = apply(modules[name], params[name], stats[name], x, *extra, train=train)
        return outputs, {**stats, name: updated}

    def infer(params: PyTree, stats: PyTree, batch: Batch, train: bool) -> tuple[PyTree, PyTree]:
        return run("encoder", params, stats, batch["x"], batch.get("label"), train)

    def sample(params: PyTree, features: PyTree, key: Key, num_samples: int) -> tuple[Array, Array]:
        mean, log_var, *bends = features
        mean, log_var = repeated(mean, num_samples), repeated(log_var, num_samples)
        codes = reparameterize(key, mean, log_var)  # [K, B, D]
        log_prob = jax.vmap(gaussian_log_prob)(codes, mean, log_var)
        codes, log_det = flow(codes, bends)
        return codes, log_prob - log_det

    def log_posterior(params: PyTree, features: PyTree, codes: Array) -> Array:
        mean, log_var = features
        return jax.vmap(gaussian_log_prob, in_axes=(0, None, None))(codes, mean, log_var)

    def centre(params: PyTree, features: PyTree) -> Array:
        mean, _, *bends = features
        return flow(mean, bends)[0]

    def kl(features: PyTree) -> Array:
        mean, log_var = features
        return gaussian_kl(mean[..., None], log_var[..., None])  # by dimension

    def encode_pseudo_inputs(params: PyTree, stats: PyTree) -> Callable[[Array], tuple[Array, Array]]:
        return lambda inputs: run("encoder", params, stats, inputs, None)[0][:2]

    def log_prior(params: PyTree, stats: PyTree, batch: Batch, codes: Array) -> Array:
        num_samples, num_examples, _ = codes.shape
        label = batch.get("label")
        label = None if label is None else jnp.tile(label, num_samples)  # [K B]
        encode = encode_pseudo_inputs(params, stats)
        by_code = prior.log_prob(params.get("prior", {}), encode, merged(codes), label)
        return by_code.reshape(num_samples, num_examples)  # [K B] -> [K, B]

    def sample_prior(params: PyTree, stats: PyTree, batch: Batch, key: Key) -> Array:
        like = jnp.zeros((batch["x"].shape[0], latent_dim))
        encode = encode_pseudo_inputs(params, stats)
        return prior.sample(params.get("prior", {}), encode, key, like, batch.get("label"))

    def decode(params: PyTree, stats: PyTree, batch: Batch | None, codes: Array, train: bool) -> tuple[Array, PyTree]:
        label = jnp.tile(batch["label"], codes.shape[0]) if labels and batch is not None else None
        outputs, stats = run("decoder", params, stats, merged(codes), label, train)
        return outputs.reshape(*codes.shape[:2], *outputs.shape[1:]), stats  # [K B, ...] -> [K, B, ...]

    return LatentModel(
        init=init_networks,
        infer=infer,
        sample=sample,
        log_posterior=None if flows else log_posterior,
        moments=None if flows else lambda features: features,
        kl=kl if prior.components is None and not flows else None,
        log_prior=log_prior,
        sample_prior=sample_prior,
        decode=decode,
        centre=centre,
        likelihood=likelihood,
        standard_normal=prior.components is None,
        decodes_alone=not labels,
        conditional=labels or prior.by_class,
    )


def repeated(x: Array, num_samples: int) -> Array:
    """[B, D] -> [K, B, D]."""
    return jnp.broadcast_to(x, (num_samples, *x.shape))


def merged(codes: Array) -> Array:
    """[K, B, D] -> [K B, D], sample by sample."""
    return codes.reshape(-1, codes.shape[-1])


def flow(codes: Array, parameters: list[tuple[Array, Array, Array]]) -> tuple[Array, Array]:
    """Codes [..., B, D] after all planar flows, and the sum of their log-determinants [..., B]."""
    log_det = jnp.zeros(codes.shape[:-1])
    for u, w, b in parameters:  # one triple, of all flows, or none
        for i in range(u.shape[1]):
            codes, term = planar(codes, u[:, i], w[:, i], b[:, i])
            log_det = log_det + term
    return codes, log_det
