"""The bounds on log p(x) that variational autoencoders are trained by.

Each factory gives an `Objective` (see `genlab.models.latent`): per example the value that is maximised, and its terms,
log_likelihood and kl among them, so that log_likelihood - kl is an unbiased estimate of the evidence lower bound
whatever is maximised. Per example, in nats.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from genlab.algorithm import Array, Batch, Key, PyTree
from genlab.losses.divergence import decompose_kl
from genlab.losses.elbo import elbo, free_bits, importance_bound
from genlab.models.latent import LatentModel, Objective

Terms = dict[str, Array]


def evidence(num_samples: int = 1, *, sampled_kl: bool = False, bits: float | Array | None = None) -> Objective:
    """E_q[log p(x | z)] - beta KL(q(z | x) || p(z)), with free bits if asked.

    Args:
        num_samples: K, over which both terms are averaged.
        sampled_kl: whether the divergence is log q(z | x) - log p(z) of the samples even where there is a closed form.
        bits: nats of divergence that cost nothing in training: of each dimension where the divergence is known by
            dimension, else of all together; None for none. Kingma et al. 2016, appendix C.8.

    Reference: Kingma & Welling 2014, equation 3 (closed form) and 2 (sampled); Higgins et al. 2017 for beta.
    """

    def terms(
        model: LatentModel, params: PyTree, stats: PyTree, batch: Batch, key: Key, beta: Array, train: bool
    ) -> tuple[Array, Terms, PyTree]:
        features, stats = model.infer(params, stats, batch, train)
        codes, log_posterior = model.sample(params, features, key, num_samples)
        by_sample, stats = model.log_likelihood(params, stats, batch, codes, train)
        log_likelihood = jnp.mean(by_sample, axis=0)
        if model.kl is not None and not sampled_kl:
            by_dimension = model.kl(features)
        else:
            log_prior = model.log_prior(params, stats, batch, codes)
            by_dimension = jnp.mean(log_posterior - log_prior, axis=0)[:, None]
        kl = jnp.sum(by_dimension, axis=1)
        # which dimensions are below is a matter of the minibatch, and an example is evaluated without one
        cost = kl if bits is None or not train else free_bits(by_dimension, bits)
        return elbo(log_likelihood, cost, beta), {"log_likelihood": log_likelihood, "kl": kl}, stats

    return Objective(terms, num_samples)


def importance_weighted(num_samples: int, *, doubly_reparameterized: bool = False) -> Objective:
    """log (1/K) sum_k w_k, w_k = p(x | z_k) (p(z_k) / q(z_k | x))^beta, z_k ~ q(z | x).

    Args:
        num_samples: K.
        doubly_reparameterized: whether the gradient in q's parameters has its score-function term replaced by a second
            reparameterization, which leaves its mean and takes the variance that grows with K.

    Reference: Burda et al. 2016, equation 8; Tucker et al. 2019, equation 8, for the gradient at beta = 1.
    """

    def terms(
        model: LatentModel, params: PyTree, stats: PyTree, batch: Batch, key: Key, beta: Array, train: bool
    ) -> tuple[Array, Terms, PyTree]:
        features, stats = model.infer(params, stats, batch, train)
        codes, log_posterior = model.sample(params, features, key, num_samples)

        def log_joint(params: PyTree, codes: Array) -> tuple[Array, tuple[Array, Array, PyTree]]:
            log_likelihood, now = model.log_likelihood(params, stats, batch, codes, train)
            log_prior = model.log_prior(params, stats, batch, codes)
            return log_likelihood + beta * log_prior, (log_likelihood, log_prior, now)

        if doubly_reparameterized and train:
            log_posterior_of, fixed = model.log_posterior, jax.lax.stop_gradient((params, features))
            assert log_posterior_of is not None

            def log_weights(params: PyTree, codes: Array) -> tuple[Array, tuple[Array, Array, PyTree]]:
                value, found = log_joint(params, codes)
                return value - beta * log_posterior_of(*fixed, codes), found

            value, found = doubly_reparameterized_bound(log_weights, params, codes, beta)
        else:
            log_weight, found = log_joint(params, codes)
            value = importance_bound(log_weight - beta * log_posterior)
        log_likelihood, log_prior, stats = found
        means = {
            "log_likelihood": jnp.mean(log_likelihood, axis=0),
            "kl": jnp.mean(log_posterior - log_prior, axis=0),
        }
        return value, means, stats

    return Objective(terms, num_samples)


def doubly_reparameterized_bound(
    log_weights: Callable[[PyTree, Array], tuple[Array, PyTree]],
    params: PyTree,
    codes: Array,
    beta: Array | float = 1.0,
) -> tuple[Array, PyTree]:
    """The importance-weighted bound of `codes`, with the doubly reparameterized gradient in whatever made the codes.

    With v_k = w_k / sum_j w_j, the gradient in `params` is sum_k v_k d log w_k, as of the bound itself; that in the
    codes is sum_k v_k^2 d log w_k. Where the weights hold q to the power of beta, the score function that is replaced
    does too, and beta v_k^2 + (1 - beta) v_k takes the place of v_k^2. Taking it needs one backward pass: sample k
    enters log w_k alone, so that the gradient in its code can be scaled afterwards.

    Args:
        log_weights: (params, codes f32[K, B, D]) -> log w f32[K, B], aux; q's parameters held fixed in it.
        params: of log_weights.
        codes: f32[K, B, D], differentiable in q's parameters.
        beta: the power of p(z) / q(z | x) in the weights.

    Returns:
        f32[B] in nats, of which only the mean over B has the right gradient, and aux.

    Reference: Tucker et al. 2019, "Doubly reparameterized gradient estimators for Monte Carlo objectives", equation 8,
        for beta = 1.
    """
    fixed = jax.lax.stop_gradient((params, codes))
    log_w, pullback, aux = jax.vjp(log_weights, *fixed, has_aux=True)
    normalized = jax.nn.softmax(log_w, axis=0)
    of_params, of_codes = jax.lax.stop_gradient(pullback(normalized))
    share = 1.0 - beta + beta * normalized
    # linear in params and codes, with these gradients; its value is taken away again
    products = jax.tree.map(jnp.vdot, (of_params, share[..., None] * of_codes), (params, codes))
    linear = sum(jax.tree.leaves(products), jnp.zeros(())) / log_w.shape[1]
    return jax.lax.stop_gradient(importance_bound(log_w)) + (linear - jax.lax.stop_gradient(linear)), aux


def total_correlation(dataset_size: int, weight: float) -> Objective:
    """E_q[log p(x | z)] - beta (I(x; z) + weight TC(z) + sum_d KL(q(z_d) || p(z_d))): beta-TCVAE.

    The divergence of the evidence lower bound, taken apart within the minibatch; in training the terms that it falls
    into are logged. At weight 1 and beta 1 it is the bound itself, with a sampled divergence. Evaluated, when there is
    no minibatch, it is the bound.

    Args:
        dataset_size: N, examples that the aggregate posterior q(z) averages over.
        weight: of the total correlation, the paper's beta.

    Reference: Chen et al. 2018, "Isolating sources of disentanglement in VAEs", equations 2 and 4.
    """

    def terms(
        model: LatentModel, params: PyTree, stats: PyTree, batch: Batch, key: Key, beta: Array, train: bool
    ) -> tuple[Array, Terms, PyTree]:
        assert model.moments is not None and model.kl is not None
        features, stats = model.infer(params, stats, batch, train)
        codes, _ = model.sample(params, features, key, 1)
        by_sample, stats = model.log_likelihood(params, stats, batch, codes, train)
        z, log_likelihood = codes[0], by_sample[0]
        if not train:
            kl = jnp.sum(model.kl(features), axis=1)
            return elbo(log_likelihood, kl, beta), {"log_likelihood": log_likelihood, "kl": kl}, stats
        parts = decompose_kl(z, *model.moments(features), dataset_size)
        kl = parts["mutual_information"] + parts["total_correlation"] + parts["dimension_kl"]
        cost = kl + (weight - 1.0) * parts["total_correlation"]
        return elbo(log_likelihood, cost, beta), {"log_likelihood": log_likelihood, "kl": kl, **parts}, stats

    return Objective(terms)
