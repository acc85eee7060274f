"""The vector-quantized VAE: a grid of discrete codes, and an autoregressive prior over them, learned beside it.

    k(x) = the codes nearest to encoder(x),   p(x) = sum_k p(k) p(x | decoder(e_k)),    p(k) = prod p(k_t | k_<t)

It is a game of two players. "vq_vae" (encoder, decoder and, where it is learned by gradient, the codebook) minimizes

    -log p(x | e_k) + beta |z_e - sg(e_k)|^2 [+ |sg(z_e) - e_k|^2],

and "prior" minimizes -log p(k(x)) at the codes that the first has chosen in the same step. Every posterior q(k | x) is
one point, so its divergence from p(k) is the prior's code length, KL = -log p(k(x)), the rate of the code in nats.

Reference: van den Oord et al. 2017, "Neural discrete representation learning"; Razavi et al. 2019 (VQ-VAE-2).
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from genlab.algorithm import Algorithm, Array, Batch, Key, Metrics, PyTree, State, descend, new_player, new_state
from genlab.errors import InputError
from genlab.losses.likelihood import categorical_log_prob
from genlab.models.likelihoods import Likelihood
from genlab.networks import quantizer
from genlab.networks.token_prior import TokenPrior, sample_tokens
from genlab.networks.variables import apply, init

CODEBOOKS = ("ema", "gradient")


def vq_vae(
    encoder: nn.Module,
    decoder: nn.Module,
    likelihood: Likelihood,
    tx: optax.GradientTransformation,
    prior: TokenPrior,
    prior_tx: optax.GradientTransformation,
    *,
    grid: Sequence[int],
    code_dim: int,
    codebook: Literal["ema", "gradient"] = "ema",
    beta: float | Array = 0.25,
    decay: float | Array = 0.99,
    restart_below: float | Array = 0.1,
    ema_decay: float = 0.0,
) -> Algorithm:
    """A VQ-VAE with one codebook, and its prior.

    Args:
        encoder: module, x [B, ...] -> vectors f32[B, *grid, D].
        decoder: module, codes f32[B, *grid, D] -> outputs of the likelihood.
        likelihood: p(x | outputs).
        tx: optimizer of both, and of the codebook where that is learned by gradient.
        prior: of num_tokens = K codes in sequences of length T, the places of the grid in raster order.
        prior_tx: its optimizer.
        grid: of T = prod(grid) places, (h, w) for images.
        code_dim: D.
        codebook: "ema": moving averages of the vectors that chose a code, in State.memory; "gradient": a parameter,
            by the loss |sg(z_e) - e|^2.
        beta: weight of the commitment, per nat of the likelihood.
        decay: of the moving averages, of which "gradient" keeps the counts alone.
        restart_below: a code is put on a random vector of the batch when its count falls under this share of what it
            would be if all codes were used alike; 0: never.
        ema_decay: of the moving average of parameters that everything but `step` uses; 0 for none.

    Returns:
        Algorithm. `evaluate` gives in nats per example loss (of the player "vq_vae"), log_likelihood = log p(x | e_k),
        commitment (with its beta), prior_nll = -log p(k(x)), kl, which is the same, and
        elbo = log p(x | e_k(x)) + log p(k(x)), one term of p(x) = sum_k p(k) p(x | e_k) and therefore a lower bound
        on log p(x), without sampling; it is also `log_prob`. `generate` draws the codes from the prior and gives
        E[x | k]; `encode` gives the codes' vectors f32[B, T * D], with straight-through gradients; `decode` takes any
        vectors of that shape, the nearest codes to them first. Nothing but `step` and `generate` uses its key.

    Raises:
        InputError: fewer than 2 codes, an unknown codebook, or a prior of another length than the grid's.
    """
    num_codes, length = prior.num_tokens, math.prod(grid)
    if num_codes < 2:
        raise InputError(f"a codebook of {num_codes} codes says nothing; at least 2 are needed")
    if codebook not in CODEBOOKS:
        raise InputError(f"codebook is {codebook!r}; known: {', '.join(CODEBOOKS)}")
    if prior.length != length:
        raise InputError(f"the prior is over {prior.length} tokens, the grid {tuple(grid)} has {length}")
    by_average = codebook == "ema"

    def init_state(key: Key, batch: Batch) -> State:
        key_encoder, key_decoder, key_codes, key_prior = jax.random.split(key, 4)
        params: dict[str, PyTree] = {}
        stats: dict[str, PyTree] = {}
        params["encoder"], stats["encoder"] = init(encoder, key_encoder, batch["x"])
        params["decoder"], stats["decoder"] = init(decoder, key_decoder, jnp.zeros((1, *grid, code_dim)))
        # codes that no vector chooses restart once their counts have decayed from 1 to the threshold: at the first step
        # where a batch has many vectors a code
        counts, codes = jnp.ones(num_codes), jax.random.normal(key_codes, (num_codes, code_dim))
        memory = {"counts": counts}
        if by_average:
            memory |= {"sums": counts[:, None] * codes, "codebook": codes}
        else:
            params["codebook"] = codes
        prior_params, prior_stats = init(prior, key_prior, jnp.zeros((1, length), jnp.int32))
        players = {"vq_vae": new_player(params, tx, stats), "prior": new_player(prior_params, prior_tx, prior_stats)}
        average = {name: jax.tree.map(jnp.copy, player.params) for name, player in players.items()} if ema_decay else {}
        return new_state(players, average, memory)

    def quantized(params: PyTree, stats: PyTree, codes: Array, x: Array, train: bool = False) -> tuple[Any, PyTree]:
        vectors, updated = apply(encoder, params["encoder"], stats["encoder"], x, train=train)
        through, indices = quantizer.quantize(vectors, codes)
        return (vectors, through, indices), {**stats, "encoder": updated}

    def terms(params: PyTree, stats: PyTree, codes: Array, x: Array, train: bool) -> tuple[Metrics, Any, PyTree]:
        (vectors, through, indices), stats = quantized(params, stats, codes, x, train)
        outputs, updated = apply(decoder, params["decoder"], stats["decoder"], through, train=train)
        found = {
            "log_likelihood": likelihood.log_prob(outputs, x),
            "commitment": quantizer.commitment_loss(vectors, through, beta),
        }
        found["loss"] = found["commitment"] - found["log_likelihood"]
        if not by_average:
            found["loss"] += quantizer.codebook_loss(vectors, codes[indices])
        return found, (vectors, indices), {**stats, "decoder": updated}

    def log_prior(params: PyTree, stats: PyTree, indices: Array, train: bool) -> tuple[Array, PyTree]:
        tokens = indices.reshape(-1, length)  # [B, T]
        logits, stats = apply(prior, params, stats, tokens, train=train)
        return categorical_log_prob(logits, tokens), stats

    def step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        memory = state.memory

        def vq_vae_loss(params: PyTree, stats: PyTree) -> tuple[Array, tuple[PyTree, Any]]:
            codes = memory["codebook"] if by_average else params["codebook"]
            found, chosen, stats = terms(params, stats, codes, batch["x"], train=True)
            means = {name: jnp.mean(value) for name, value in found.items()}
            return means["loss"], (stats, (means, chosen))

        player, _, (means, (vectors, indices)) = descend(state.players["vq_vae"], tx, vq_vae_loss)

        def prior_loss(params: PyTree, stats: PyTree) -> tuple[Array, tuple[PyTree, None]]:
            found, stats = log_prior(params, stats, indices, train=True)
            return -jnp.mean(found), (stats, None)

        prior_player, prior_nll, _ = descend(state.players["prior"], prior_tx, prior_loss)
        player, memory, restarted = follow(player, memory, vectors, indices, key)
        players = {"vq_vae": player, "prior": prior_player}
        average = {
            name: optax.incremental_update(each.params, state.average[name], 1.0 - ema_decay)
            for name, each in players.items()
            if ema_decay
        }
        used = quantizer.histogram(indices, num_codes)
        metrics = means | {
            "prior_nll": prior_nll,
            "elbo": means["log_likelihood"] - prior_nll,
            "perplexity": quantizer.perplexity(used),
            "codes_used": jnp.mean(used > 0, dtype=jnp.float32),
            "codes_restarted": jnp.mean(restarted, dtype=jnp.float32),
        }
        return State(state.step + 1, players, average, memory), metrics

    def follow(player: Any, memory: PyTree, vectors: Array, indices: Array, key: Key) -> tuple[Any, PyTree, Array]:
        """The codes after a batch: moved to their vectors, and those that nothing chooses to others' vectors."""
        alike = indices.size / num_codes  # vectors of the batch that a code would have if all had as many
        if by_average:
            counts, sums, codes = quantizer.ema_update(memory["counts"], memory["sums"], vectors, indices, decay)
        else:
            used, codes = quantizer.histogram(indices, num_codes), player.params["codebook"]
            counts = decay * memory["counts"] + (1.0 - decay) * used
        dead, counts, codes = quantizer.restart_dead_codes(
            key, counts, codes, vectors, threshold=restart_below * alike, fresh=alike
        )
        if by_average:
            sums = jnp.where(dead[:, None], counts[:, None] * codes, sums)
            return player, {"counts": counts, "sums": sums, "codebook": codes}, dead
        return dataclasses.replace(player, params={**player.params, "codebook": codes}), {"counts": counts}, dead

    def evaluate(state: State, batch: Batch, key: Key) -> Metrics:
        params, stats = weights(state, "vq_vae")
        found, (_, indices), _ = terms(params, stats, code_vectors(state), batch["x"], train=False)
        rate = -log_prior(*weights(state, "prior"), indices, train=False)[0]
        return found | {"prior_nll": rate, "kl": rate, "elbo": found["log_likelihood"] - rate}

    def encode(state: State, batch: Batch, key: Key) -> Array:
        (_, through, _), _ = quantized(*weights(state, "vq_vae"), code_vectors(state), batch["x"])
        return through.reshape(-1, length * code_dim)  # [B, T * D]

    def decode(state: State, codes: Array, key: Key) -> Array:
        params, stats = weights(state, "vq_vae")
        nearest, _ = quantizer.quantize(codes.reshape(-1, *grid, code_dim), code_vectors(state))
        return likelihood.mean(apply(decoder, params["decoder"], stats["decoder"], nearest)[0])

    def generate(state: State, batch: Batch, key: Key) -> Array:
        params, stats = weights(state, "vq_vae")
        tokens = sample_tokens(prior, weights(state, "prior")[0], key, batch["x"].shape[0])  # [B, T]
        codes = code_vectors(state)[tokens].reshape(-1, *grid, code_dim)
        return likelihood.mean(apply(decoder, params["decoder"], stats["decoder"], codes)[0])

    def log_prob(state: State, batch: Batch, key: Key) -> Array:
        return evaluate(state, batch, key)["elbo"]

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


def weights(state: State, name: str) -> tuple[PyTree, PyTree]:
    """(params, stats) of a player as they are evaluated: averaged where the method keeps an average."""
    player = state.players[name]
    return state.average.get(name, player.params), player.stats


def code_vectors(state: State) -> Array:
    """The codebook f32[K, D] of a VQ-VAE's state, as it is evaluated."""
    return state.memory["codebook"] if "codebook" in state.memory else weights(state, "vq_vae")[0]["codebook"]
