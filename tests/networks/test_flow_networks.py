"""Flows: inverses, log-determinants against autodiff's in double precision, and masks by what depends on what."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from genlab.networks import flow
from genlab.networks.autoregressive_flow import MaskedAutoregressive
from genlab.networks.coupling import ConvConditioner, Coupling, DenseConditioner, kept_part, num_parameters
from genlab.networks.masked import MADE, places

KEY = jax.random.key(0)
BATCH, DIM, BINS = 2, 4, 3


def drawn(*shape, scale=1.0, seed=0):
    return scale * np.random.default_rng(seed).normal(size=shape)


def dense(transform, parity=0, part="alternating"):
    conditioner = DenseConditioner((5,), num_parameters(transform, BINS), log_scale_bound=2.0, activation=jnp.tanh)
    return Coupling(conditioner, part, parity, transform, BINS)


def masked(transform, order="natural"):
    made = MADE(DIM, num_parameters(transform, BINS), (6,), order, activation=jnp.tanh)
    return MaskedAutoregressive(made, transform)


def convolved(part, parity=0):
    return Coupling(ConvConditioner(3, 1, 2, activation=jnp.tanh), part, parity, "affine")


def multi_scale(priors):
    level = lambda: flow.Chain([flow.ActNorm(), flow.InvertibleLinear(), convolved("channels")])
    return flow.MultiScale(
        [level(), level()], (4, 4, 1), [ConvConditioner(2, 0, 2, activation=jnp.tanh)] if priors else None
    )


def boards():
    return flow.MultiScale(
        [flow.Chain([convolved("channels")]), flow.Chain([])], (4, 4, 1),
        before=[flow.Chain([convolved("checkerboard", parity)]) for parity in (0, 1)],
    )  # fmt: skip


VECTORS = {f"coupling, {transform}": dense(transform) for transform in ("additive", "affine", "spline")}
VECTORS |= {f"autoregressive, {transform}": masked(transform, "reversed") for transform in ("affine", "spline")}
VECTORS |= {
    "halves": dense("affine", 1, "half"), "actnorm": flow.ActNorm(), "reversal": flow.Permutation(),
    "permutation": flow.Permutation("random", 3), "linear": flow.InvertibleLinear(1),
    "chain": flow.Chain([dense("affine"), flow.Permutation(), masked("affine")]),
}  # fmt: skip
IMAGES = {
    "checkerboard": convolved("checkerboard"), "channels": convolved("channels", 1), "actnorm": flow.ActNorm(),
    "levels": multi_scale(False), "levels with priors": multi_scale(True),
    "levels with checkerboards": boards(),
}  # fmt: skip
CASES = [(name, layer, (DIM,)) for name, layer in VECTORS.items()]
CASES += [(f"{name} of images", layer, (4, 4, 1) if "levels" in name else (2, 2, 2)) for name, layer in IMAGES.items()]


def randomized(layer, x, context=None):
    """Variables of random numbers, since layers begin as the identity."""
    shapes = jax.eval_shape(layer.init, KEY, x, context)
    leaves, tree = jax.tree.flatten(shapes)
    return tree.unflatten([jnp.asarray(drawn(*leaf.shape, scale=0.4, seed=i)) for i, leaf in enumerate(leaves)])


@pytest.mark.parametrize(("name", "layer", "shape"), CASES, ids=[case[0] for case in CASES])
def test_log_determinants_are_those_of_the_jacobian_and_the_inverse_goes_back(name, layer, shape):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):  # parameters are made in single precision
        x = jnp.asarray(drawn(BATCH, *shape))
        variables = randomized(layer, x)

        @jax.jit
        def there_and_back(x):
            z, log_det = layer.apply(variables, x)
            return z, log_det, layer.apply(variables, z, method="inverse")

        z, log_det, (back, log_det_back) = there_and_back(x)
        one = lambda x: layer.apply(variables, x[None])[0].ravel()
        jacobians = np.asarray(jax.jit(jax.vmap(jax.jacrev(one)))(x)).reshape(BATCH, z[0].size, x[0].size)
        expected = np.linalg.slogdet(jacobians)[1]
        np.testing.assert_allclose(log_det, expected, atol=1e-8)
        np.testing.assert_allclose(log_det_back, -expected, atol=1e-8)
        np.testing.assert_allclose(back, x, atol=1e-8)
        assert name in ("reversal", "permutation") or np.max(np.abs(np.sort(z.ravel()) - np.sort(x.ravel()))) > 1e-2


@pytest.mark.parametrize(
    ("kind", "shape"), [("alternating", (5,)), ("half", (5,)), ("channels", (2, 2, 3)), ("checkerboard", (3, 2, 2))]
)
def test_the_two_parities_keep_everything_between_them(kind, shape):
    first, second = (kept_part(kind, parity, shape) for parity in (0, 1))
    np.testing.assert_array_equal(first, ~second)
    assert 0 < first.sum() < first.size
    if kind == "checkerboard":
        assert first[0, 0].all() == first[1, 1].all() != first[0, 1].all()


@pytest.mark.parametrize("layer", [dense("affine"), dense("additive", 1), dense("spline")])
def test_a_coupling_keeps_its_part_and_is_shown_no_other(layer):
    x = jnp.asarray(drawn(BATCH, DIM), jnp.float32)
    variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), randomized(layer, x))
    kept = kept_part(layer.part, layer.parity, (DIM,))
    z, _ = layer.apply(variables, x)
    np.testing.assert_array_equal(z[:, kept], x[:, kept])
    jacobian = jax.jacobian(lambda x: layer.apply(variables, x[None])[0][0])(x[0])
    rest = jacobian[~kept][:, ~kept]
    np.testing.assert_array_equal(rest - np.diag(np.diag(rest)), 0.0)
    assert np.all(np.abs(np.asarray(jacobian)[~kept][:, kept]) > 0)


def test_a_flow_begins_as_the_identity_and_a_context_changes_it():
    layer, x = dense("affine"), jnp.asarray(drawn(BATCH, DIM), jnp.float32)
    context = jnp.eye(2, dtype=jnp.float32)
    variables = layer.init(KEY, x, context)
    z, log_det = layer.apply(variables, x, context)
    np.testing.assert_allclose(z, x, atol=1e-6)
    np.testing.assert_allclose(log_det, 0.0, atol=1e-6)
    variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), randomized(layer, x, context))
    one, other = (layer.apply(variables, x, jnp.tile(context[i], (2, 1)))[0] for i in (0, 1))
    assert np.max(np.abs(one - other)) > 1e-2
    back, _ = layer.apply(variables, one, jnp.tile(context[0], (2, 1)), method="inverse")
    np.testing.assert_allclose(back, x, atol=1e-5)


def test_actnorm_begins_by_whitening_every_channel():
    x = jnp.asarray(3.0 + 2.0 * drawn(16, 3, 3, 2), jnp.float32)
    layer = flow.ActNorm()
    z, log_det = layer.apply(layer.init(KEY, x), x)
    np.testing.assert_allclose(jnp.mean(z, axis=(0, 1, 2)), 0.0, atol=1e-5)
    np.testing.assert_allclose(jnp.std(z, axis=(0, 1, 2)), 1.0, atol=1e-4)
    np.testing.assert_allclose(log_det, -9 * np.sum(np.log(np.std(x, axis=(0, 1, 2)))), rtol=1e-4)


def test_an_invertible_convolution_begins_as_a_rotation():
    x = jnp.asarray(drawn(BATCH, DIM), jnp.float32)
    layer = flow.InvertibleLinear(7)
    z, log_det = layer.apply(layer.init(KEY, x), x)
    np.testing.assert_allclose(jnp.linalg.norm(z, axis=1), jnp.linalg.norm(x, axis=1), rtol=1e-5)
    np.testing.assert_allclose(log_det, 0.0, atol=1e-5)


def test_levels_keep_every_number_in_its_place():
    """Without layers a multi-scale flow only sorts pixels, of which half are done at every level but the last."""
    shape = (8, 8, 1)
    layer = flow.MultiScale([flow.Chain([]) for _ in range(3)], shape)
    x = jnp.arange(2 * 64, dtype=jnp.float32).reshape(2, *shape)
    z, log_det = layer.apply({}, x)
    assert z.shape == (2, 64)
    np.testing.assert_array_equal(np.sort(z, axis=1), np.asarray(x).reshape(2, 64))
    np.testing.assert_array_equal(log_det, 0.0)
    np.testing.assert_array_equal(layer.apply({}, z, method="inverse")[0], x)
    # the lower two pixels of every block are done first
    np.testing.assert_array_equal(
        np.sort(z[0, :32]), np.concatenate([np.arange(8 * row, 8 * row + 8) for row in (1, 3, 5, 7)])
    )


@pytest.mark.parametrize(
    ("order", "features", "which"),
    list(itertools.product(("natural", "reversed", "random"), [(), (9,), (9, 7)], [0, 2])),
)
def test_outputs_depend_on_exactly_the_inputs_before_them(order, features, which):
    made = MADE(5, 2, features, order, num_orders=3, seed=1, activation=jnp.tanh)
    x = jnp.asarray(drawn(5), jnp.float32)
    variables = made.init(KEY, x[None])
    jacobian = jax.jacobian(lambda x: made.apply(variables, x[None], None, which)[0])(x)  # [D, P, D]
    degrees = made.degrees()[0][which]
    before = degrees[:, None] > degrees  # [output, input]
    depends = np.any(np.abs(jacobian) > 0, axis=1)
    assert not depends[~before].any()
    assert len(features) or (depends == before).all()  # hidden units may leave out what the order allows
    np.testing.assert_array_equal(degrees[places(degrees)], np.arange(1, 6))
    if order != "random":
        assert degrees.tolist() == ([1, 2, 3, 4, 5] if order == "natural" else [5, 4, 3, 2, 1])


def test_wide_masks_leave_nothing_out_and_every_set_has_its_own():
    made = MADE(4, 1, (200,), "random", num_orders=4)
    orders, hidden = made.degrees()
    assert len({tuple(order) for order in orders}) > 1 and (hidden[0] != hidden[1]).any()
    x = jnp.asarray(drawn(4), jnp.float32)
    variables = MADE(4, 1, (200,), "random", num_orders=4, activation=nn.tanh).init(KEY, x[None])
    for which, degrees in enumerate(orders):
        one = lambda x, which=which: made.clone(activation=nn.tanh).apply(variables, x[None], None, jnp.int32(which))
        jacobian = np.asarray(jax.jacobian(one)(x))[0, :, 0]
        np.testing.assert_array_equal(np.abs(jacobian) > 0, degrees[:, None] > degrees)


def test_all_outputs_of_a_made_may_depend_on_its_context():
    for features in ((), (6,)):
        made = MADE(3, 1, features, activation=jnp.tanh)
        x, context = jnp.zeros((1, 3)), jnp.ones((1, 2))
        variables = made.init(KEY, x, context)
        jacobian = jax.jacobian(lambda c, v=variables, m=made: m.apply(v, x, c)[0, :, 0])(context)
        depends = np.abs(np.asarray(jacobian)).sum(axis=(1, 2)) > 0
        assert depends.all()
