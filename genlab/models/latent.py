"""What every variational autoencoder is: p(x, z) and q(z | x) as pure functions, and the Algorithm that trains them.

A `LatentModel` says how codes are inferred, drawn and scored; an objective (`genlab.models.objectives`) says which
bound on log p(x) is maximised; `variational` puts the two together. One stochastic layer is `genlab.models.vae`,
several are `genlab.models.hierarchical`.

K is the number of samples of z an example, B of examples, D of dimensions of a code: all layers side by side.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from genlab.algorithm import (
    Algorithm,
    Array,
    Batch,
    Key,
    Latents,
    Metrics,
    PyTree,
    State,
    descend,
    new_player,
    new_state,
)
from genlab.losses.elbo import elbo, importance_bound
from genlab.models.likelihoods import Likelihood


class LatentModel(NamedTuple):
    """p(x, z) and q(z | x); params and stats are dicts by network.

    Attributes:
        init: (key, batch) -> params, stats.
        infer: (params, stats, batch, train) -> features, stats; the features are all that q(z | x) knows of x.
        sample: (params, features, key, K) -> codes f32[K, B, D] ~ q(z | x), reparameterized, and log q(z | x)
            f32[K, B].
        log_posterior: (params, features, codes f32[K, B, D]) -> log q(z | x) f32[K, B]; None where only the density of
            its own samples is known.
        moments: features -> mean f32[B, D], log sigma^2 f32[B, D] of q(z | x) where it is a diagonal Gaussian; or None.
        kl: features -> KL(q(z | x) || p(z)) in closed form, f32[B, D] by dimension; None where there is none.
        log_prior: (params, stats, batch, codes f32[K, B, D]) -> f32[K, B].
        sample_prior: (params, stats, batch, key) -> codes f32[B, D].
        decode: (params, stats, batch, codes f32[K, B, D], train) -> outputs of the likelihood [K, B, ...], stats. The
            batch is looked at for labels only; None where there are none. Of codes of several layers it reads the
            lowest, and takes codes of that layer alone.
        centre: (params, features) -> f32[B, D'], the code of an example: the mean of q(z | x) where that is Gaussian,
            the flows' image of the mean, or, of several layers, the mean of the lowest, D' = D_1.
        likelihood: p(x | outputs).
        standard_normal: whether p(z) is N(0, I).
        decodes_alone: whether a code can be decoded without a label.
        conditional: whether the label has a part in any density.
    """

    init: Callable[[Key, Batch], tuple[PyTree, PyTree]]
    infer: Callable[[PyTree, PyTree, Batch, bool], tuple[PyTree, PyTree]]
    sample: Callable[[PyTree, PyTree, Key, int], tuple[Array, Array]]
    log_posterior: Callable[[PyTree, PyTree, Array], Array] | None
    moments: Callable[[PyTree], tuple[Array, Array]] | None
    kl: Callable[[PyTree], Array] | None
    log_prior: Callable[[PyTree, PyTree, Batch, Array], Array]
    sample_prior: Callable[[PyTree, PyTree, Batch, Key], Array]
    decode: Callable[[PyTree, PyTree, Batch | None, Array, bool], tuple[Array, PyTree]]
    centre: Callable[[PyTree, PyTree], Array]
    likelihood: Likelihood
    standard_normal: bool = False
    decodes_alone: bool = True
    conditional: bool = False

    def log_likelihood(
        self, params: PyTree, stats: PyTree, batch: Batch, codes: Array, train: bool
    ) -> tuple[Array, PyTree]:
        """log p(x | z) f32[K, B] of codes f32[K, B, D], and stats."""
        outputs, stats = self.decode(params, stats, batch, codes, train)
        return jax.vmap(self.likelihood.log_prob, in_axes=(0, None))(outputs, batch["x"]), stats


class Objective(NamedTuple):
    """A bound on log p(x) that is maximised in the mean over the batch.

    Attributes:
        terms: (model, params, stats, batch, key, beta, train) -> the bound f32[B], its terms f32[B] by name,
            log_likelihood and kl among them, and stats.
        num_samples: K, of z for each example.
    """

    terms: Callable[[LatentModel, PyTree, PyTree, Batch, Key, Array, bool], tuple[Array, dict[str, Array], PyTree]]
    num_samples: int = 1


def variational(
    model: LatentModel,
    objective: Objective,
    tx: optax.GradientTransformation,
    *,
    beta: Callable[[Array], Array] = lambda step: jnp.ones(()),
    ema_decay: float = 0.0,
    num_importance_samples: int = 500,
    importance_chunk: int = 50,
    generate_means: bool = True,
) -> Algorithm:
    """Trains p(x, z) and q(z | x) together by a bound on log p(x); one player, "vae".

    Args:
        model: of the two distributions.
        objective: to be maximised.
        tx: optimizer of all parameters.
        beta: step -> weight that the objective gives to the divergence; see `kl_warmup`.
        ema_decay: of the moving average of parameters that everything but `step` uses; 0 for none.
        num_importance_samples: K of `log_prob`.
        importance_chunk: how many of them are decoded at a time; bounds memory, does not change the estimator.
        generate_means: whether `generate` and `decode` return E[x | z], as is customary for images, or draw x.

    Returns:
        Algorithm. `evaluate` gives loss, the objective's terms and elbo = log_likelihood - kl (whatever beta is), in
        nats per example; `encode` and `decode` have codes as `LatentModel.centre` does; `log_prob` is the
        importance-weighted bound with K samples.
    """

    def init_state(key: Key, batch: Batch) -> State:
        params, stats = model.init(key, batch)
        average = {"vae": jax.tree.map(jnp.copy, params)} if ema_decay else {}
        return new_state({"vae": new_player(params, tx, stats)}, average)

    def step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        weight = beta(state.step)

        def loss_fn(params: PyTree, stats: PyTree) -> tuple[Array, tuple[PyTree, Metrics]]:
            value, terms, stats = objective.terms(model, params, stats, batch, key, weight, True)
            return -jnp.mean(value), (stats, {name: jnp.mean(term) for name, term in terms.items()})

        player, loss, terms = descend(state.players["vae"], tx, loss_fn)
        average = optax.incremental_update({"vae": player.params}, state.average, 1.0 - ema_decay) if ema_decay else {}
        metrics = {"loss": loss, "elbo": elbo(terms["log_likelihood"], terms["kl"]), **terms, "beta": weight}
        return dataclasses.replace(state, step=state.step + 1, players={"vae": player}, average=average), metrics

    def weights(state: State) -> tuple[PyTree, PyTree]:
        player = state.players["vae"]
        return state.average.get("vae", player.params), player.stats

    def evaluate(state: State, batch: Batch, key: Key) -> Metrics:
        value, terms, _ = objective.terms(model, *weights(state), batch, key, beta(state.step), False)
        return {"loss": -value, "elbo": elbo(terms["log_likelihood"], terms["kl"]), **terms}

    def encode(state: State, batch: Batch, key: Key) -> Array:
        params, stats = weights(state)
        return model.centre(params, model.infer(params, stats, batch, False)[0])

    def show(state: State, batch: Batch | None, codes: Array, key: Key) -> Array:
        outputs, _ = model.decode(*weights(state), batch, codes[None], False)
        return model.likelihood.mean(outputs[0]) if generate_means else model.likelihood.sample(key, outputs[0])

    def generate(state: State, batch: Batch, key: Key) -> Array:
        key_code, key_example = jax.random.split(key)
        return show(state, batch, model.sample_prior(*weights(state), batch, key_code), key_example)

    def log_prob(state: State, batch: Batch, key: Key) -> Array:
        params, stats = weights(state)
        features, _ = model.infer(params, stats, batch, False)

        def log_weight(key: Key) -> Array:  # one sample of log p(x, z) / q(z | x), f32[B]
            codes, log_posterior = model.sample(params, features, key, 1)
            log_likelihood, _ = model.log_likelihood(params, stats, batch, codes, False)
            return (log_likelihood + model.log_prior(params, stats, batch, codes) - log_posterior)[0]

        keys = jax.random.split(key, num_importance_samples)
        # map holds `importance_chunk` samples at a time, and the table of log-weights is only [K, B]
        return importance_bound(jax.lax.map(log_weight, keys, batch_size=importance_chunk))

    def log_prior(state: State, batch: Batch, codes: Array) -> Array:
        return model.log_prior(*weights(state), batch, codes[None])[0]

    def log_joint(state: State, batch: Batch, codes: Array) -> Array:
        log_likelihood, _ = model.log_likelihood(*weights(state), batch, codes[None], False)
        return log_likelihood[0] + log_prior(state, batch, codes)

    def moments(state: State, batch: Batch) -> tuple[Array, Array]:
        assert model.moments is not None
        return model.moments(model.infer(*weights(state), batch, False)[0])

    latents = Latents(
        log_prior=log_prior,
        log_joint=log_joint,
        sample_prior=lambda state, batch, key: model.sample_prior(*weights(state), batch, key),
        moments=None if model.moments is None else moments,
        standard_normal=model.standard_normal,
        num_samples=objective.num_samples,
    )
    return Algorithm(
        init=init_state,
        step=step,
        evaluate=evaluate,
        generate=generate,
        encode=encode,
        decode=(lambda state, codes, key: show(state, None, codes, key)) if model.decodes_alone else None,
        log_prob=log_prob if model.likelihood.normalized else None,
        density="bound" if model.likelihood.normalized else "none",
        latents=latents,
        conditional=model.conditional,
    )


def kl_warmup(beta: float, num_steps: int) -> Callable[[Array], Array]:
    """beta that grows linearly from 0 to its value over the first `num_steps` steps (Sonderby et al. 2016)."""

    def weight(step: Array) -> Array:
        fraction = (step.astype(jnp.float32) + 1.0) / jnp.maximum(jnp.asarray(num_steps, jnp.float32), 1.0)
        return beta * jnp.minimum(1.0, fraction)

    return weight
