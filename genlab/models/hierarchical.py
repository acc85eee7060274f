"""Variational autoencoders with several stochastic layers.

    p(x, z_1, ..., z_L) = p(z_L) p(z_{L-1} | z_L) ... p(z_1 | z_2) p(x | z_1)

The posterior goes up, q(z_1 | x) q(z_2 | z_1) ..., each layer from a sample of the one below (Burda et al. 2016); or
down as the prior does, q(z_L | x) q(z_{L-1} | z_L, x) ..., where layer i is the product of the Gaussian that x suggests
and the one that the prior p(z_i | z_{i+1}) does (the ladder).

Codes are all layers side by side, z_1 first.

Reference: Burda et al. 2016, section 5; Sonderby et al. 2016, "Ladder variational autoencoders".
"""

import itertools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from genlab.algorithm import Array, Batch, Key, PyTree
from genlab.losses.elbo import reparameterize
from genlab.losses.likelihood import gaussian_log_prob
from genlab.models.latent import LatentModel
from genlab.models.likelihoods import Likelihood
from genlab.models.priors import Prior
from genlab.networks.variables import apply, init

Moments = tuple[Array, Array]  # mean, log sigma^2
# (layer, mean, log sigma^2 f32[K, B, D_i]) -> z_i f32[K, B, D_i]
Choose = Callable[[int, Array, Array], Array]


def bottom_up(
    encoders: Sequence[nn.Module],
    decoders: Sequence[nn.Module],
    decoder: nn.Module,
    likelihood: Likelihood,
    latent_dims: Sequence[int],
    prior: Prior,
) -> LatentModel:
    """L layers, inferred from the lowest to the highest.

    Args:
        encoders: L modules -> mean, log sigma^2 f32[B, D_i]; the first of x [B, ...], the others of z_{i-1} f32[B, D].
        decoders: L - 1 modules, z_{i+1} -> mean, log sigma^2 f32[B, D_i] of p(z_i | z_{i+1}), the lowest first.
        decoder: module, z_1 -> outputs of the likelihood [B, ...].
        likelihood: p(x | outputs).
        latent_dims: D_1, ..., D_L.
        prior: p(z_L), without an encoder of its own.
    """
    modules = named(encoders=encoders, decoders=decoders, decoder=[decoder])

    def init_networks(key: Key, batch: Batch) -> tuple[PyTree, PyTree]:
        inputs = [batch["x"], *(jnp.zeros((batch["x"].shape[0], dim)) for dim in latent_dims[:-1])]
        likes = dict(zip((f"encoders_{i}" for i in range(len(encoders))), inputs, strict=True))
        return init_modules(modules, key, batch, latent_dims, prior, likes)

    def infer(params: PyTree, stats: PyTree, batch: Batch, train: bool) -> tuple[PyTree, PyTree]:
        moments, updated = apply(encoders[0], params["encoders_0"], stats["encoders_0"], batch["x"], train=train)
        return moments, {**stats, "encoders_0": updated}

    def walk(params: PyTree, features: PyTree, choose: Choose) -> tuple[Array, Array]:
        mean, log_var = (each[None] for each in features)
        layers, log_prob = [], jnp.zeros(())
        for i in range(len(encoders)):
            if i:
                mean, log_var = call(modules, f"encoders_{i}", params, layers[-1])
            layers.append(choose(i, mean, log_var))
            log_prob = log_prob + layer_log_prob(layers[-1], mean, log_var)
        return jnp.concatenate(layers, axis=-1), log_prob

    return hierarchy(modules, init_networks, infer, walk, likelihood, latent_dims, prior, None)


def top_down(
    trunks: Sequence[nn.Module],
    heads: Sequence[nn.Module],
    decoders: Sequence[nn.Module],
    decoder: nn.Module,
    likelihood: Likelihood,
    latent_dims: Sequence[int],
    prior: Prior,
) -> LatentModel:
    """L layers, inferred from the highest to the lowest: a ladder.

    Args:
        trunks: L modules without randomness, d_1 = trunk_1(x [B, ...]), d_{i+1} = trunk_{i+1}(d_i), f32[B, F].
        heads: L modules, d_i -> mean, log sigma^2 f32[B, D_i] that x suggests for z_i.
        decoders, decoder, likelihood, latent_dims: as in `bottom_up`.
        prior: p(z_L); the encoder it may call is q(z_L | x).

    Reference: Sonderby et al. 2016, equations 9 to 13 for the product of Gaussians.
    """
    modules = named(trunks=trunks, heads=heads, decoders=decoders, decoder=[decoder])

    def init_networks(key: Key, batch: Batch) -> tuple[PyTree, PyTree]:
        key_suggest, key_rest = jax.random.split(key)
        params, stats = init_modules(modules, key_rest, batch, latent_dims, prior, {})
        features = batch["x"]
        for i, (trunk, head) in enumerate(zip(trunks, heads, strict=True)):
            key_trunk, key_head = jax.random.split(jax.random.fold_in(key_suggest, i))
            params[f"trunks_{i}"], stats[f"trunks_{i}"] = init(trunk, key_trunk, features)
            features, _ = apply(trunk, params[f"trunks_{i}"], stats[f"trunks_{i}"], features)
            params[f"heads_{i}"], stats[f"heads_{i}"] = init(head, key_head, features)
        return params, stats

    def suggestions(params: PyTree, stats: PyTree, x: Array, train: bool) -> tuple[list[Moments], PyTree]:
        found, features = [], x
        for i in range(len(trunks)):
            trunk, head = f"trunks_{i}", f"heads_{i}"
            features, updated = apply(modules[trunk], params[trunk], stats[trunk], features, train=train)
            moments, head_updated = apply(modules[head], params[head], stats[head], features, train=train)
            stats = {**stats, trunk: updated, head: head_updated}
            found.append(moments)
        return found, stats

    def infer(params: PyTree, stats: PyTree, batch: Batch, train: bool) -> tuple[PyTree, PyTree]:
        return suggestions(params, stats, batch["x"], train)

    def walk(params: PyTree, features: PyTree, choose: Choose) -> tuple[Array, Array]:
        layers: list[Array] = []  # the highest first
        log_prob = jnp.zeros(())
        for i in reversed(range(len(heads))):
            mean, log_var = (each[None] for each in features[i])
            if layers:
                mean, log_var = product(mean, log_var, *call(modules, f"decoders_{i}", params, layers[-1]))
            layers.append(choose(i, mean, log_var))
            log_prob = log_prob + layer_log_prob(layers[-1], mean, log_var)
        return jnp.concatenate(layers[::-1], axis=-1), log_prob

    def encode(params: PyTree, stats: PyTree) -> Callable[[Array], Moments]:
        return lambda inputs: suggestions(params, stats, inputs, False)[0][-1]

    return hierarchy(modules, init_networks, infer, walk, likelihood, latent_dims, prior, encode)


def hierarchy(
    modules: dict[str, nn.Module],
    init_networks: Callable[[Key, Batch], tuple[PyTree, PyTree]],
    infer: Callable[[PyTree, PyTree, Batch, bool], tuple[PyTree, PyTree]],
    walk: Callable[[PyTree, PyTree, Choose], tuple[Array, Array]],
    likelihood: Likelihood,
    latent_dims: Sequence[int],
    prior: Prior,
    encode: Callable[[PyTree, PyTree], Callable[[Array], Moments]] | None,
) -> LatentModel:
    """What both directions share.

    Args:
        modules: by name; "decoders_i" and "decoder_0" among them.
        init_networks, infer: of the model.
        walk: (params, features, choose) -> codes f32[K, B, D] and their log q f32[K, B], through all layers in the
            order of inference, taking of each the z_i that `choose` takes.
        likelihood, latent_dims, prior: of the model.
        encode: (params, stats) -> the encoder that the prior may call.
    """
    ends = list(itertools.accumulate(latent_dims))[:-1]
    layers_of = lambda codes: jnp.split(codes, ends, axis=-1)
    encoder_of = encode or (lambda params, stats: no_encoder)

    def sample(params: PyTree, features: PyTree, key: Key, num_samples: int) -> tuple[Array, Array]:
        keys = jax.random.split(key, len(latent_dims))

        def choose(i: int, mean: Array, log_var: Array) -> Array:
            shape = (num_samples, *mean.shape[1:])  # the first layer's moments are of x alone, [1, B, D]
            return reparameterize(keys[i], jnp.broadcast_to(mean, shape), jnp.broadcast_to(log_var, shape))

        return walk(params, features, choose)

    def log_posterior(params: PyTree, features: PyTree, codes: Array) -> Array:
        layers = layers_of(codes)
        return walk(params, features, lambda i, mean, log_var: layers[i])[1]

    def log_prior(params: PyTree, stats: PyTree, batch: Batch, codes: Array) -> Array:
        layers = layers_of(codes)
        top = layers[-1].reshape(-1, latent_dims[-1])  # [K B, D_L]
        log_prob = prior.log_prob(params.get("prior", {}), encoder_of(params, stats), top, None)
        log_prob = log_prob.reshape(codes.shape[:2])
        for i in range(len(latent_dims) - 1):
            log_prob = log_prob + layer_log_prob(layers[i], *call(modules, f"decoders_{i}", params, layers[i + 1]))
        return log_prob

    def sample_prior(params: PyTree, stats: PyTree, batch: Batch, key: Key) -> Array:
        keys = jax.random.split(key, len(latent_dims))
        like = jnp.zeros((batch["x"].shape[0], latent_dims[-1]))
        layers = [prior.sample(params.get("prior", {}), encoder_of(params, stats), keys[-1], like, None)]
        for i in reversed(range(len(latent_dims) - 1)):
            mean, log_var = call(modules, f"decoders_{i}", params, layers[-1][None])
            layers.append(reparameterize(keys[i], mean[0], log_var[0]))
        return jnp.concatenate(layers[::-1], axis=-1)

    def decode(params: PyTree, stats: PyTree, batch: Batch | None, codes: Array, train: bool) -> tuple[Array, PyTree]:
        lowest = codes[..., : latent_dims[0]].reshape(-1, latent_dims[0])  # [K B, D_1]
        outputs, updated = apply(modules["decoder_0"], params["decoder_0"], stats["decoder_0"], lowest, train=train)
        return outputs.reshape(*codes.shape[:2], *outputs.shape[1:]), {**stats, "decoder_0": updated}

    def centre(params: PyTree, features: PyTree) -> Array:
        return walk(params, features, lambda i, mean, log_var: mean)[0][0, :, : latent_dims[0]]

    return LatentModel(
        init=init_networks,
        infer=infer,
        sample=sample,
        log_posterior=log_posterior,
        moments=None,
        kl=None,
        log_prior=log_prior,
        sample_prior=sample_prior,
        decode=decode,
        centre=centre,
        likelihood=likelihood,
    )


def product(mean: Array, log_var: Array, other_mean: Array, other_log_var: Array) -> Moments:
    """The Gaussian proportional to the product of two: precisions add, means are weighted by them."""
    # sigma^-2 = exp(-a) + exp(-b), in logarithms
    log_precision = jnp.logaddexp(-log_var, -other_log_var)
    weight = jnp.exp(-log_var - log_precision)
    return weight * mean + (1.0 - weight) * other_mean, -log_precision


def layer_log_prob(z: Array, mean: Array, log_var: Array) -> Array:
    """log N(z; mean, exp(log_var)) f32[K, B] of z f32[K, B, D]; moments f32[K or 1, B, D]."""
    mean, log_var = (jnp.broadcast_to(each, z.shape) for each in (mean, log_var))
    return jax.vmap(gaussian_log_prob)(z, mean, log_var)


def call(modules: dict[str, nn.Module], name: str, params: PyTree, z: Array) -> Moments:
    """Mean and log sigma^2 f32[K, B, D'] that a module without statistics gives for z f32[K, B, D]."""
    (mean, log_var), _ = apply(modules[name], params[name], {}, z.reshape(-1, z.shape[-1]))
    return mean.reshape(*z.shape[:2], -1), log_var.reshape(*z.shape[:2], -1)


def named(**sequences: Sequence[nn.Module]) -> dict[str, nn.Module]:
    """{"name_i": module}."""
    return {f"{name}_{i}": module for name, modules in sequences.items() for i, module in enumerate(modules)}


def init_modules(
    modules: dict[str, nn.Module],
    key: Key,
    batch: Batch,
    latent_dims: Sequence[int],
    prior: Prior,
    likes: dict[str, Array],
) -> tuple[PyTree, PyTree]:
    """(params, stats) of the decoders, of the prior, and of the modules that `likes` has an input for."""
    likes = dict(likes)
    for i, dim in enumerate(latent_dims):  # decoders_{i - 1} of z_i, the decoder of x of z_1
        likes[f"decoders_{i - 1}" if i else "decoder_0"] = jnp.zeros((batch["x"].shape[0], dim))
    params, stats = {}, {}
    for number, (name, like) in enumerate(likes.items()):
        params[name], stats[name] = init(modules[name], jax.random.fold_in(key, number), like)
    if learned := prior.init(jax.random.fold_in(key, len(likes)), batch):
        params["prior"] = learned
    return params, stats


def no_encoder(inputs: Array) -> Moments:
    """Raises: z_L of an example is not a function of it where layers are inferred upwards."""
    raise ValueError("a prior made of posteriors needs q(z_L | x): infer from the top down")
