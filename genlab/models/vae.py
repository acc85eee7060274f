"""The variational autoencoder: a latent-variable model trained by a bound on its log-likelihood.

    p(x, z) = N(z; 0, I) p(x | decoder(z)),    q(z | x) = N(z; mean(x), sigma^2(x)),
    log p(x) >= E_q[log p(x | z)] - KL(q(z | x) || p(z)).

Reference: Kingma & Welling 2014, "Auto-Encoding Variational Bayes"; Rezende et al. 2014.
"""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from genlab.algorithm import Algorithm, Array, Batch, Key, Metrics, PyTree, State, descend, new_player, new_state
from genlab.losses.divergence import gaussian_kl
from genlab.losses.elbo import elbo, importance_bound, reparameterize
from genlab.losses.likelihood import gaussian_log_prob
from genlab.models.likelihoods import Likelihood
from genlab.networks.variables import apply, init


def vae(
    encoder: nn.Module,
    decoder: nn.Module,
    likelihood: Likelihood,
    tx: optax.GradientTransformation,
    *,
    latent_dim: int,
    beta: Callable[[Array], Array] = lambda step: jnp.ones(()),
    ema_decay: float = 0.0,
    num_importance_samples: int = 500,
    importance_chunk: int = 50,
    generate_means: bool = True,
) -> Algorithm:
    """A VAE with one Gaussian stochastic layer, one sample of z per example and the divergence in closed form.

    Args:
        encoder: module, x [B, ...] -> mean f32[B, D], log sigma^2 f32[B, D].
        decoder: module, codes f32[B, D] -> outputs of the likelihood, f32[B, ...].
        likelihood: p(x | outputs).
        tx: optimizer of both networks.
        latent_dim: D.
        beta: step -> weight of the divergence in the training loss; see `kl_warmup`.
        ema_decay: of the moving average of parameters that everything but `step` uses; 0 for none.
        num_importance_samples: K of `log_prob`.
        importance_chunk: how many of them are decoded at a time; bounds memory, does not change the estimator.
        generate_means: whether `generate` and `decode` return E[x | z], as is customary for images, or draw x.

    Returns:
        Algorithm. `evaluate` gives loss, elbo (beta = 1), log_likelihood and kl in nats per example; `encode`
        the posterior mean; `log_prob` the importance-weighted bound with K samples.
    """
    modules = {"encoder": encoder, "decoder": decoder}

    def init_state(key: Key, batch: Batch) -> State:
        key_encoder, key_decoder = jax.random.split(key)
        codes = jnp.zeros((batch["x"].shape[0], latent_dim))
        params, stats = {}, {}
        params["encoder"], stats["encoder"] = init(encoder, key_encoder, batch["x"])
        params["decoder"], stats["decoder"] = init(decoder, key_decoder, codes)
        average = {"vae": jax.tree.map(jnp.copy, params)} if ema_decay else {}
        return new_state({"vae": new_player(params, tx, stats)}, average)

    def run(name: str, params: PyTree, stats: PyTree, x: Array, train: bool = False) -> tuple[PyTree, PyTree]:
        outputs, updated = apply(modules[name], params[name], stats[name], x, train=train)
        return outputs, {**stats, name: updated}

    def bound_terms(params: PyTree, stats: PyTree, x: Array, key: Key, train: bool) -> tuple[Metrics, PyTree]:
        (mean, log_var), stats = run("encoder", params, stats, x, train)
        codes = reparameterize(key, mean, log_var)
        outputs, stats = run("decoder", params, stats, codes, train)
        return {"log_likelihood": likelihood.log_prob(outputs, x), "kl": gaussian_kl(mean, log_var)}, stats

    def step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        weight = beta(state.step)

        def loss_fn(params: PyTree, stats: PyTree) -> tuple[Array, tuple[PyTree, Metrics]]:
            terms, stats = bound_terms(params, stats, batch["x"], key, train=True)
            loss = -jnp.mean(elbo(terms["log_likelihood"], terms["kl"], weight))
            return loss, (stats, {name: jnp.mean(value) for name, value in terms.items()})

        player, loss, terms = descend(state.players["vae"], tx, loss_fn)
        average = optax.incremental_update({"vae": player.params}, state.average, 1.0 - ema_decay) if ema_decay else {}
        metrics = {"loss": loss, "elbo": elbo(terms["log_likelihood"], terms["kl"]), **terms, "beta": weight}
        return dataclasses.replace(state, step=state.step + 1, players={"vae": player}, average=average), metrics

    def weights(state: State) -> tuple[PyTree, PyTree]:
        player = state.players["vae"]
        return state.average.get("vae", player.params), player.stats

    def evaluate(state: State, batch: Batch, key: Key) -> Metrics:
        terms, _ = bound_terms(*weights(state), batch["x"], key, train=False)
        objective = elbo(terms["log_likelihood"], terms["kl"], beta(state.step))
        return {"loss": -objective, "elbo": elbo(terms["log_likelihood"], terms["kl"]), **terms}

    def encode(state: State, batch: Batch, key: Key) -> Array:
        (mean, _), _ = run("encoder", *weights(state), batch["x"])
        return mean

    def decode(state: State, codes: Array, key: Key) -> Array:
        outputs, _ = run("decoder", *weights(state), codes)
        return likelihood.mean(outputs) if generate_means else likelihood.sample(key, outputs)

    def generate(state: State, batch: Batch, key: Key) -> Array:
        key_code, key_example = jax.random.split(key)
        return decode(state, jax.random.normal(key_code, (batch["x"].shape[0], latent_dim)), key_example)

    def log_prob(state: State, batch: Batch, key: Key) -> Array:
        params, stats = weights(state)
        x = batch["x"]
        (mean, log_var), _ = run("encoder", params, stats, x)

        def log_weight(key: Key) -> Array:  # one sample of log p(x, z) / q(z | x), f32[B]
            codes = reparameterize(key, mean, log_var)
            outputs, _ = run("decoder", params, stats, codes)
            log_prior = gaussian_log_prob(codes, jnp.zeros_like(codes), 0.0)
            return likelihood.log_prob(outputs, x) + log_prior - gaussian_log_prob(codes, mean, log_var)

        keys = jax.random.split(key, num_importance_samples)
        # map holds `importance_chunk` samples at a time, and the table of log-weights is only [K, B]
        return importance_bound(jax.lax.map(log_weight, keys, batch_size=importance_chunk))

    return Algorithm(
        init=init_state,
        step=step,
        evaluate=evaluate,
        generate=generate,
        encode=encode,
        decode=decode,
        log_prob=log_prob if likelihood.normalized else None,
        density="bound" if likelihood.normalized else "none",
    )


def kl_warmup(beta: float, num_steps: int) -> Callable[[Array], Array]:
    """beta that grows linearly from 0 to its value over the first `num_steps` steps (Sonderby et al. 2016)."""

    def weight(step: Array) -> Array:
        fraction = (step.astype(jnp.float32) + 1.0) / jnp.maximum(jnp.asarray(num_steps, jnp.float32), 1.0)
        return beta * jnp.minimum(1.0, fraction)

    return weight
