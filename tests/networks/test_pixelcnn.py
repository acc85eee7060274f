"""Gated PixelCNN: what depends on what, probabilities of all images, and sampling that computes each pixel once."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.networks.pixelcnn import GatedPixelCNN, sample_pixels

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
SMALL = {"features": 3, "num_layers": 2, "first_reach": 2, "head": 16}


def network(num_outputs=1, **changes):
    return GatedPixelCNN(num_outputs, **(SMALL | changes))


def drawn(module, x, context=None):
    """Parameters of random numbers, biases too."""
    shapes = jax.eval_shape(module.init, KEY, x, context)["params"]
    leaves, tree = jax.tree.flatten(shapes)
    return tree.unflatten([jnp.asarray(0.7 * RNG.normal(size=leaf.shape), jnp.float32) for leaf in leaves])


def bernoulli(key, logits):
    return jax.random.bernoulli(key, jax.nn.sigmoid(logits)).astype(jnp.float32)


@pytest.mark.parametrize("reaches", [(1, 1), (2, 1), (3, 2)])
def test_a_pixel_depends_on_all_that_comes_before_it_within_reach_and_on_nothing_else(reaches):
    first, reach = reaches
    module = network(first_reach=first, reach=reach, num_layers=3)
    x = jnp.asarray(RNG.uniform(size=(1, 5, 6, 1)), jnp.float32)
    params = drawn(module, x)
    jacobian = jax.jacobian(lambda x: module.apply({"params": params}, x)[0, :, :, 0])(x)[:, :, 0, :, :, 0]
    depends = np.abs(np.asarray(jacobian)).reshape(30, 30) > 0
    before = np.tri(30, k=-1, dtype=bool)
    assert not depends[~before].any()
    # of a pixel amid the image, all that is before it within the first layer's reach, and no blind spot to the right
    row, column = 4, 2
    for other_row, other in itertools.product(range(5), range(6)):
        if (other_row, other) < (row, column) and row - other_row <= first and abs(other - column) <= first:
            assert depends[6 * row + column, 6 * other_row + other], (other_row, other)
    assert depends[6 * 4 + 0, 6 * 3 + 2]  # above to the right


def test_probabilities_of_all_images_add_up_to_one():
    images = np.array(list(itertools.product([0.0, 1.0], repeat=9)), np.float32).reshape(-1, 3, 3, 1)
    module = network()
    params = drawn(module, images[:1])
    logits = module.apply({"params": params}, jnp.asarray(images))
    log_probs = jax.nn.log_sigmoid(jnp.where(images == 1, logits, -logits)).sum(axis=(1, 2, 3))
    assert jnp.exp(log_probs).sum() == pytest.approx(1.0, abs=1e-5)
    assert log_probs.std() > 0.1


@pytest.mark.parametrize("with_context", [False, True])
def test_sampling_with_kept_activations_is_sampling_by_whole_passes(with_context):
    module, like = network(reach=2, shape=None if with_context else (4, 6)), jnp.zeros((5, 4, 6, 1))
    context = jnp.eye(5, 3) if with_context else None
    params = drawn(module, like, context)
    fast = jax.jit(lambda: sample_pixels(module, params, bernoulli, KEY, like, 0, context))()
    slow = like
    whole = jax.jit(lambda x: module.apply({"params": params}, x, context))
    for place in range(24):
        row, column = divmod(place, 6)
        logits = whole(slow)[:, row, column][:, None, None]
        slow = slow.at[:, row, column].set(bernoulli(jax.random.fold_in(KEY, place), logits)[:, 0, 0])
    np.testing.assert_array_equal(fast, slow)
    assert 0.02 < fast.mean() < 0.98 and len(np.unique(fast, axis=0)) > 1


def test_pixels_that_are_known_stay_and_the_others_follow_from_them():
    module = network()
    known = jnp.asarray(RNG.integers(0, 2, (4, 5, 3, 1)), jnp.float32)
    params = drawn(module, known)
    filled = jax.jit(lambda num: sample_pixels(module, params, bernoulli, KEY, known, num))
    half = filled(7)
    np.testing.assert_array_equal(half.reshape(4, -1)[:, :7], known.reshape(4, -1)[:, :7])
    assert (half != known).any() and (half != filled(0)).any()
    np.testing.assert_array_equal(filled(15), known)
    # the distribution of the rest, given the first two of three pixels: by counting and by the network's own logits
    one = jnp.tile(jnp.array([1.0, 0.0, 0.0]).reshape(1, 1, 3, 1), (4_000, 1, 1, 1))
    last = sample_pixels(module, params, bernoulli, KEY, one, 2)[:, 0, 2, 0]
    expected = jax.nn.sigmoid(module.apply({"params": params}, one[:1])[0, 0, 2, 0])
    assert last.mean() == pytest.approx(float(expected), abs=4 * 0.5 / 4_000**0.5)


def test_places_differ_by_their_biases_alone():
    module, plain, x = network(shape=(7, 9)), network(), jnp.ones((1, 7, 9, 1))
    params = drawn(module, x)
    biases = {name: params.pop(name) for name in ("down_bias", "told_bias")}
    assert biases["down_bias"].shape == (7, 9, module.features)
    assert biases["told_bias"].shape == (7, 9, 2 * module.features)
    out = lambda biases: module.apply({"params": params | biases}, x)
    silent = jax.tree.map(jnp.zeros_like, biases)
    np.testing.assert_array_equal(out(silent), plain.apply({"params": params}, x))
    # a bias of one place is heard there and below, and in no row above
    one = jax.tree.map(lambda bias: jnp.zeros_like(bias).at[3, 4].set(bias[3, 4]), biases)
    heard = np.abs(out(one) - out(silent))[0, :, :, 0] > 0
    assert heard[3, 4] and heard[4, 4] and not heard[:3].any() and not heard.all()


def test_every_pixel_hears_of_the_context_and_colours_are_refused():
    module, x = network(), jnp.zeros((1, 3, 3, 1))
    params = drawn(module, x, jnp.zeros((1, 2)))
    slopes = jax.jacobian(lambda c: module.apply({"params": params}, x, c)[0, :, :, 0])(jnp.ones((1, 2)))
    assert np.all(np.abs(slopes) > 0)
    with pytest.raises(ValueError, match="one channel here"):
        module.apply({"params": params}, jnp.zeros((1, 3, 3, 3)))
