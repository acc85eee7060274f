"""What lies in a latent space: its directions and planes decoded, and how q(z | x) fills it, in nats.

The aggregate posterior q(z) is the mean of q(z | x) over examples. With it the divergence of a bound splits in two,

    E[KL(q(z | x) || p(z))] = I_q(x; z) + KL(q(z) || p(z)),

what codes tell of examples, and how far all of them together lie from the prior.

Reference: Hoffman & Johnson 2016, "ELBO surgery: yet another way to carve up the variational evidence lower bound".
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genlab.algorithm import Algorithm, Array, Batch, State
from genlab.errors import InputError
from genlab.evaluation.held_out import mean_and_error, over_split

Number = dict[str, Any]
Split = Mapping[str, Any]

ACTIVE_VARIANCE = 0.01  # of the posterior means over examples, above which a latent dimension is active
NUM_POSTERIORS = 2_000  # that q(z) is the mean of
CODES_PER_CHUNK = 50  # whose densities under all posteriors are in memory together
PLANE_REACH = 2.0  # standard deviations that a principal plane shows on either side


def most_used(codes: np.ndarray, num: int) -> np.ndarray:
    """The dimensions i64[min(num, D)] along which codes f[N, D] vary most, the largest variance first."""
    return np.argsort(-codes.var(axis=0), kind="stable")[:num]


def traversals(
    algorithm: Algorithm, state: State, code: np.ndarray, dims: np.ndarray, values: np.ndarray, key: jax.Array
) -> np.ndarray:
    """What the decoder makes of a code in which one dimension at a time takes other values.

    Args:
        algorithm, state: the model.
        code: f32[D], the others stay as they are in it.
        dims: i[R], the dimension of each row.
        values: f32[R, S], what it becomes, for instance `np.quantile(codes[:, dims], levels, axis=0).T`.
        key: of the decoder's draws.

    Returns:
        f32[R, S, ...].

    Raises:
        InputError: the model does not decode, or values are not [R, S].
    """
    dims, values = np.asarray(dims), np.asarray(values, np.float32)
    if values.ndim != 2 or dims.shape != values.shape[:1]:
        raise InputError(f"traversals of {dims.shape} dimensions take as many rows of values; got {values.shape}")
    codes = np.tile(np.asarray(code, np.float32), (*values.shape, 1))  # [R, S, D]
    codes[np.arange(len(dims)), :, dims] = values
    return decoded(algorithm, state, codes, key)


def decoded(algorithm: Algorithm, state: State, codes: np.ndarray, key: jax.Array) -> np.ndarray:
    """Codes f32[R, S, D] as examples f32[R, S, ...]; InputError where the model does not decode."""
    if algorithm.decode is None:
        raise InputError("this model has no decoder, so its latent space cannot be seen")
    flat = jnp.asarray(codes.reshape(-1, codes.shape[-1]), jnp.float32)  # [R S, D]
    examples = np.asarray(jax.jit(algorithm.decode)(state, flat, key))
    return examples.reshape(*codes.shape[:2], *examples.shape[1:])


def attribute_vectors(codes: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """What sets each class apart: its mean code less the mean of all codes, f32[C, D].

    Args:
        codes: f[N, D].
        labels: i[N] in 0, ..., C - 1.
        num_classes: C.

    Raises:
        InputError: a class without an example.

    Reference: Larsen et al. 2016, "Autoencoding beyond pixels using a learned similarity metric", section 4.2.
    """
    counts = np.bincount(labels, minlength=num_classes)
    if len(counts) > num_classes or not counts.all():
        raise InputError(f"attribute vectors need examples of all {num_classes} classes; counts are {counts.tolist()}")
    means = [codes[labels == label].mean(axis=0, dtype=np.float64) for label in range(num_classes)]
    return (np.stack(means) - codes.mean(axis=0, dtype=np.float64)).astype(np.float32)


def exchange(codes: np.ndarray, vectors: np.ndarray, sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Codes with their class's vector taken off and another's put on.

    Args:
        codes: f32[N, D].
        vectors: f32[C, D], see `attribute_vectors`.
        sources: i[N], the class of each.
        targets: i[T], the classes each shall have.

    Returns:
        f32[N, T, D].
    """
    return codes[:, None] - vectors[sources][:, None] + vectors[targets]


def principal_grid(codes: np.ndarray, side: int) -> np.ndarray:
    """A square grid of codes in the plane of the first two principal components, through the mean.

    Args:
        codes: f[N, D], N and D at least 2.
        side: codes along an edge, from -2 to 2 standard deviations of either component.

    Returns:
        f32[side, side, D], in reading order: the first component grows to the right, the second upwards. The sign of
        a component is such that its largest entry is positive.

    Raises:
        InputError: codes of one number, or one code: there is no plane.
    """
    if codes.ndim != 2 or min(codes.shape) < 2:
        raise InputError(f"a principal plane takes codes [N, D], both at least 2; got shape {codes.shape}")
    mean = codes.mean(axis=0, dtype=np.float64)
    _, singular, directions = np.linalg.svd(codes - mean, full_matrices=False)
    directions = directions[:2]
    directions = directions * np.sign(directions[[0, 1], np.argmax(np.abs(directions), axis=1)])[:, None]
    first, second = directions * singular[:2, None] / math.sqrt(len(codes) - 1)  # a standard deviation each
    ticks = np.linspace(-PLANE_REACH, PLANE_REACH, side)
    return (mean + ticks[None, :, None] * first + ticks[::-1, None, None] * second).astype(np.float32)


def diagnostics_block(
    algorithm: Algorithm,
    state: State,
    test: Split,
    prepare: Callable[[Any], Any],
    key: jax.Array,
    batch_size: int,
    num_posteriors: int = NUM_POSTERIORS,
) -> dict[str, Number]:
    """How the posteriors of test examples use the latent space.

    Args:
        algorithm, state: the model.
        test: raw examples as the model was trained to see them.
        prepare: raw batch -> batch.
        key: of every draw.
        batch_size: examples in a chunk.
        num_posteriors: N, that q(z) is the mean of: those of the first N examples.

    Returns:
        Whichever of these the model can tell:
        `active_units`, latent dimensions whose mean varies over examples by more than 0.01 (with `encode`);
        `rate` and `distortion`, the divergence and minus the log-likelihood in nats (with "kl" and "log_likelihood" in
        `evaluate`);
        `mutual_information` and `aggregate_divergence`, I_q(x; z) and KL(q(z) || p(z)) in nats (with
        `latents.moments`). Each code's own posterior is in the mean, so that the first is at most log N. Over all
        examples that there could be, it is a lower bound, tight only well below log N, and the second an upper one.

    Reference: Burda et al. 2016, section 5 (active units); Alemi et al. 2018 (rate and distortion); Hoffman & Johnson
        2016; Poole et al. 2019, equation 12 (the bound).
    """
    key_encode, key_terms, key_posteriors = jax.random.split(key, 3)
    block: dict[str, Number] = {}
    protocol: Number = {"split": "test", "n": len(test["x"])}
    if algorithm.encode is not None:
        codes = posterior_means(algorithm, state, test, prepare, key_encode, batch_size)
        active = int(np.count_nonzero(codes.var(axis=0, dtype=np.float64) > ACTIVE_VARIANCE))
        estimator = f"variance of the code over examples above {ACTIVE_VARIANCE:g}"
        block["active_units"] = {"value": active, "of": codes.shape[1], "estimator": estimator, **protocol}
    terms = over_split(algorithm.evaluate, prepare, batch_size)(state, test, key_terms)
    for name, term, sign in (("rate", "kl", 1.0), ("distortion", "log_likelihood", -1.0)):
        if term in terms:
            block[name] = {**nats(sign * terms[term]), **protocol}
    if algorithm.latents is not None and algorithm.latents.moments is not None:
        index = np.arange(min(num_posteriors, len(test["x"])))
        some = {name: np.asarray(values[index]) for name, values in test.items()}
        told, away = aggregate_terms(algorithm, state, some, prepare, key_posteriors, batch_size)
        estimator = f"one code of each; q(z) the mean of {len(index):,} posteriors, its own among them"
        protocol = {"split": "test", "n": len(index), "estimator": estimator}
        block["mutual_information"] = {**nats(told), "bound": "lower", "at_most": math.log(len(index)), **protocol}
        block["aggregate_divergence"] = {**nats(away), "bound": "upper", **protocol}
    return block


def posterior_means(
    algorithm: Algorithm, state: State, split: Split, prepare: Callable[[Any], Any], key: jax.Array, batch_size: int
) -> np.ndarray:
    """E[z | x] f32[N, D] of every example, or what `encode` gives where posteriors have no moments."""
    encode, latents = algorithm.encode, algorithm.latents
    assert encode is not None
    if latents is not None and (moments := latents.moments) is not None:
        encode = lambda state, batch, key: moments(state, batch)[0]
    return over_split(encode, prepare, batch_size)(state, split, key)


def aggregate_terms(
    algorithm: Algorithm, state: State, split: Split, prepare: Callable[[Any], Any], key: jax.Array, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """log q(z | x) - log q(z) and log q(z) - log p(z) f32[N], nats, of one z ~ q(z | x) for every example."""
    latents = algorithm.latents
    assert latents is not None and latents.moments is not None
    moments, log_prior = latents.moments, latents.log_prior

    def draw(state: State, batch: Batch, key: jax.Array) -> tuple[Array, ...]:
        mean, log_var = moments(state, batch)
        codes = mean + jnp.exp(0.5 * log_var) * jax.random.normal(key, mean.shape)
        return mean, log_var, codes, log_prior(state, batch, codes)

    mean, log_var, codes, prior = over_split(draw, prepare, batch_size)(state, split, key)
    own, every = jax.jit(log_densities)(mean, log_var, codes)
    return np.asarray(own - every), np.asarray(every) - prior


def log_densities(mean: Array, log_var: Array, codes: Array) -> tuple[Array, Array]:
    """log q(z_i | x_i) and log mean_j q(z_i | x_j), f32[N] each, of diagonal Gaussians and codes, all f32[N, D]."""

    def both(each: tuple[Array, Array]) -> tuple[Array, Array]:
        number, code = each
        # differences, not a matrix product: a narrow posterior would amplify what that cancels
        squares = jnp.square(code - mean) * jnp.exp(-log_var)
        log_q = -0.5 * jnp.sum(squares + log_var + math.log(2 * math.pi), axis=-1)  # [N]
        return log_q[number], jax.nn.logsumexp(log_q) - math.log(len(mean))

    return jax.lax.map(both, (jnp.arange(len(mean)), codes), batch_size=CODES_PER_CHUNK)


def nats(values: np.ndarray) -> Number:
    """The mean of f[N] and its error, as a number of the card in nats."""
    value, error = mean_and_error(values)
    return {"value": value, "standard_error": error if math.isfinite(error) else None, "unit": "nats"}
