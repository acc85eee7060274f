"""Annealed importance sampling: log p(x) of a latent-variable model without its encoder.

Chains walk from the prior to the posterior through p_t(z) ~ p(z) p(x | z)^beta_t, 0 = beta_0 < ... < beta_T = 1, by
Hamiltonian Monte Carlo. The product of the ratios p_t(z) / p_{t-1}(z) on the way is an unbiased estimate of p(x); its
logarithm is below log p(x) in the mean, and closer the finer the schedule. That it owes nothing to q(z | x) makes it
the check on estimates that do.

Reference: Neal 2001, "Annealed importance sampling"; Wu et al. 2017, "On the quantitative analysis of decoder-based
generative models".
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from genlab.algorithm import Array, Batch, Key, Latents, State

ACCEPTED = 0.65  # share of moves that step sizes are tuned to, as in Wu et al. 2017


class Chain(NamedTuple):
    """Where chains stand.

    Attributes:
        codes: f32[N, D].
        log_weights: f32[N], in nats.
        step_size: f32[N], of the leapfrog.
    """

    codes: Array
    log_weights: Array
    step_size: Array


def annealed_importance(
    latents: Latents, *, num_temperatures: int = 500, num_chains: int = 8, num_leapfrog: int = 10
) -> Callable[[State, Batch, Key], Array]:
    """An estimator of log p(x).

    Step sizes are tuned in a pilot run of one chain an example, temperature by temperature, and stand fixed in the run
    that counts: chains that tune themselves would bias the weights.

    Args:
        latents: of the model.
        num_temperatures: T; beta_t is a sigmoid in t, so that steps are small at both ends.
        num_chains: C, independent, each with a weight of its own.
        num_leapfrog: steps in one move.

    Returns:
        (state, batch, key) -> log weights f32[C, B] in nats; `importance_bound` of them estimates log p(x).
    """
    position = jnp.linspace(-4.0, 4.0, num_temperatures + 1)
    sigmoid = jax.nn.sigmoid(position)
    betas = (sigmoid - sigmoid[0]) / (sigmoid[-1] - sigmoid[0])  # Wu et al. 2017, section 5

    def run(state: State, batch: Batch, key: Key, step_sizes: Array | None) -> tuple[Array, Array]:
        """Log weights f32[N] and step sizes f32[T, N]: tuned on the way, or as given."""
        key_start, key_moves = jax.random.split(key)
        codes = latents.sample_prior(state, batch, key_start)

        def log_likelihood(codes: Array) -> Array:
            return latents.log_joint(state, batch, codes) - latents.log_prior(state, batch, codes)

        def anneal(chain: Chain, inputs: tuple[Array, Array, Key, Array]) -> tuple[Chain, Array]:
            before, beta, key, given = inputs
            log_weights = chain.log_weights + (beta - before) * log_likelihood(chain.codes)

            def energy(codes: Array) -> Array:
                log_prior = latents.log_prior(state, batch, codes)
                return -(log_prior + beta * (latents.log_joint(state, batch, codes) - log_prior))

            used = chain.step_size if step_sizes is None else given
            codes, accepted = hamiltonian(energy, chain.codes, key, used, num_leapfrog)
            tuned = used * jnp.exp(0.05 * (accepted - ACCEPTED))
            return Chain(codes, log_weights, tuned), used

        num = codes.shape[0]
        given = jnp.zeros((num_temperatures, num)) if step_sizes is None else step_sizes
        inputs = (betas[:-1], betas[1:], jax.random.split(key_moves, num_temperatures), given)
        chain, used = jax.lax.scan(anneal, Chain(codes, jnp.zeros(num), jnp.full(num, 0.1)), inputs)
        return chain.log_weights, used

    def estimate(state: State, batch: Batch, key: Key) -> Array:
        key_pilot, key_run = jax.random.split(key)
        _, step_sizes = run(state, batch, key_pilot, None)
        repeated = jax.tree.map(
            lambda leaf: jnp.tile(leaf, (num_chains, *(1,) * (leaf.ndim - 1))), dict(batch)
        )  # [C B, ...]
        log_weights, _ = run(state, repeated, key_run, jnp.tile(step_sizes, (1, num_chains)))
        return log_weights.reshape(num_chains, -1)

    return estimate


def hamiltonian(
    energy: Callable[[Array], Array], codes: Array, key: Key, step_size: Array, num_leapfrog: int
) -> tuple[Array, Array]:
    """One move of Hamiltonian Monte Carlo for each of N independent chains, which leaves exp(-energy) as it is.

    Args:
        energy: codes f32[N, D] -> f32[N], each of its own code.
        codes: f32[N, D].
        key: of momenta and acceptance.
        step_size: f32[N].
        num_leapfrog: steps.

    Returns:
        Codes f32[N, D], and the probability of acceptance f32[N].

    Reference: Neal 2011, "MCMC using Hamiltonian dynamics", section 5.3.2.
    """
    key_momentum, key_accept = jax.random.split(key)
    slope = jax.grad(lambda z: jnp.sum(energy(z)))
    size = step_size[:, None]

    def leapfrog(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        z, momentum = carry
        z = z + size * momentum
        return (z, momentum - size * slope(z)), None

    start = jax.random.normal(key_momentum, codes.shape)
    (z, momentum), _ = jax.lax.scan(leapfrog, (codes, start - 0.5 * size * slope(codes)), None, num_leapfrog)
    momentum = momentum + 0.5 * size * slope(z)  # the last step in momentum is a half, too
    change = energy(z) - energy(codes) + 0.5 * jnp.sum(jnp.square(momentum) - jnp.square(start), axis=1)
    accepted = jnp.exp(jnp.minimum(0.0, -jnp.where(jnp.isfinite(change), change, jnp.inf)))
    moves = jax.random.uniform(key_accept, accepted.shape) < accepted
    return jnp.where(moves[:, None], z, codes), accepted
