"""One stochastic layer with flows, with labels and with a mixture for a prior: the evidence, by importance sampling."""

import jax
import jax.numpy as jnp
import numpy as np
from linear_gaussian import (
    BATCH,
    EVIDENCE,
    MU,
    POINTS,
    STATS,
    VARIANCE,
    W,
    decoder,
    dense,
    encoder,
    f32,
    likelihood,
    params,
)
from scipy import special, stats

from genlab.losses.elbo import importance_bound
from genlab.models.priors import mixture, standard_normal
from genlab.models.vae import one_layer
from genlab.networks.conditional import ByClass, WithLabels
from genlab.networks.dense import MLP
from genlab.networks.planar import PlanarHead

KEY = jax.random.key(0)
RNG = np.random.default_rng(5)


def sampled_evidence(model, params, batch=BATCH, num=100_000):
    @jax.jit
    def bound(key):
        features, stats = model.infer(params, STATS, batch, False)
        codes, log_q = model.sample(params, features, key, num)
        log_likelihood, _ = model.log_likelihood(params, stats, batch, codes, False)
        return importance_bound(log_likelihood + model.log_prior(params, stats, batch, codes) - log_q)

    return np.asarray(bound(KEY))


def test_planar_flows_are_a_proposal_like_any_other():
    """Were log q of the bent samples wrong, importance sampling would be too."""
    model = one_layer(PlanarHead(MLP(()), 2, 3), decoder(), likelihood(), 2, standard_normal(), flows=True)
    bends = dense(0.05 * RNG.normal(size=(4, 15)), 0.5 * RNG.normal(size=15))
    all_params = params(0.0, 60.0) | {"encoder": params(0.0, 60.0)["encoder"] | f32({"Dense_1": bends})}
    assert jax.tree.map(jnp.shape, model.init(KEY, BATCH)[0]) == jax.tree.map(jnp.shape, all_params)
    np.testing.assert_allclose(sampled_evidence(model, all_params, num=1_000_000), EVIDENCE, atol=0.03)
    features, _ = model.infer(all_params, STATS, BATCH, False)
    straight = one_layer(encoder(), decoder(), likelihood(), 2, standard_normal())
    _, log_q = model.sample(all_params, features, KEY, 10)
    assert np.abs(log_q - straight.sample(all_params, features[:2], KEY, 10)[1]).max() > 0.1  # they do bend
    assert model.kl is None and model.moments is None and model.log_posterior is None


def test_labels_shift_and_turn_the_decoder():
    """p(x | y) = N(mu + b_y, W_y W_y' + s^2 I), with W_y and b_y read off the first layer."""
    module = ByClass(decoder(), 3)
    model = one_layer(WithLabels(encoder(), 3), module, likelihood(), 2, standard_normal(), labels=True)
    batch = {**BATCH, "label": jnp.asarray([2, 0, 1])}
    kernel = np.concatenate([RNG.normal(size=(2 * 3, 4)) * 0.7, RNG.normal(size=(3, 4))])
    wide = np.concatenate([params(0.0, 4.0)["encoder"]["Dense_0"]["kernel"], np.zeros((3, 4))])
    bias = np.asarray(params(0.0, 4.0)["encoder"]["Dense_0"]["bias"])
    all_params = f32({
        "encoder": {"network": {"Dense_0": dense(0.3 * wide, 0.3 * bias * [1, 1, 0, 0] + [0, 0, 1, 1])}},
        "decoder": {"network": {"Dense_0": dense(kernel, MU)}},
    })  # fmt: skip
    expected = [
        stats.multivariate_normal(
            MU + kernel[6 + y], (w := kernel[:6].reshape(2, 3, 4)[:, y]).T @ w + VARIANCE * np.eye(4)
        ).logpdf(x)
        for x, y in zip(POINTS, np.asarray(batch["label"]), strict=True)
    ]
    np.testing.assert_allclose(sampled_evidence(model, all_params, batch, 1_000_000), expected, atol=0.1)
    assert not model.decodes_alone


def test_a_mixture_prior_makes_a_mixture_of_gaussians():
    """p(x) = sum_c w_c N(x; W m_c + mu, W S_c W' + s^2 I)."""
    model = one_layer(encoder(), decoder(), likelihood(), 2, mixture(3, 2))
    means, log_vars, logits = RNG.normal(size=(3, 2)), RNG.normal(size=(3, 2)) * 0.5, RNG.normal(size=3)
    all_params = params(0.0, 4.0) | {"prior": f32({"means": means, "log_vars": log_vars, "logits": logits})}
    each = [
        stats.multivariate_normal(W @ m + MU, W @ np.diag(np.exp(v)) @ W.T + VARIANCE * np.eye(4)).logpdf(POINTS)
        for m, v in zip(means, log_vars, strict=True)
    ]
    expected = special.logsumexp(np.stack(each) + special.log_softmax(logits)[:, None], axis=0)
    np.testing.assert_allclose(sampled_evidence(model, all_params), expected, atol=0.03)
    assert model.kl is None and not model.standard_normal
