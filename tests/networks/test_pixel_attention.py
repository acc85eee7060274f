"""Attention in a gated PixelCNN: its value and gradient, what depends on what, probabilities, and kept keys."""

import itertools

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from genlab.errors import InputError
from genlab.networks.pixelcnn import GatedPixelCNN, RasterAttention, sample_pixels

KEY = jax.random.key(0)
SMALL = {"features": 8, "num_layers": 2, "first_reach": 1, "head": 16, "num_heads": 2}


def network(num_outputs=1, **changes):
    return GatedPixelCNN(num_outputs, **(SMALL | {"attention_every": 1} | changes))


def uniform(*shape):
    return jnp.asarray(np.random.default_rng(0).uniform(size=shape), jnp.float32)


def drawn(module, *inputs, scale=0.7):
    """Parameters of random numbers, biases too."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(module.init, KEY, *inputs)["params"]
    return jax.tree.map(lambda leaf: jnp.asarray(scale * rng.normal(size=leaf.shape), jnp.float32), shapes)


def bernoulli(key, logits):
    return jax.random.bernoulli(key, jax.nn.sigmoid(logits)).astype(jnp.float32)


def test_a_pixel_takes_by_a_gate_the_mean_of_values_by_softmax_over_itself_and_those_before():
    module, x = RasterAttention(6, 2), np.random.default_rng(0).normal(size=(2, 3, 4, 6))
    params = drawn(module, jnp.asarray(x, jnp.float32))
    found = jax.jit(module.apply)({"params": params}, jnp.asarray(x, jnp.float32))
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    expected = np.zeros_like(x)
    for image, row, column in itertools.product(range(2), range(3), range(4)):
        place, attended = 4 * row + column, []
        before = [(r, c) for r in range(3) for c in range(4) if 4 * r + c <= place]
        # 3 x 6 columns: queries, keys and values, of each first what is the first head's
        each = {
            (r, c): np.append(x[image, r, c], [r / 3 - 0.5, c / 4 - 0.5]) @ p["queries_keys_values"]["kernel"]
            + p["queries_keys_values"]["bias"]
            for r, c in before
        }
        for head in range(2):
            query = each[row, column][3 * head : 3 * head + 3]
            weights = np.array([np.exp(query @ each[at][6 + 3 * head : 9 + 3 * head] / 3**0.5) for at in before])
            values = np.array([each[at][12 + 3 * head : 15 + 3 * head] for at in before])
            attended.append((weights[:, None] * values).sum(axis=0) / weights.sum())
        own = x[image, row, column]
        hidden = own @ p["own"]["kernel"] + p["own"]["bias"] + np.concatenate(attended) @ p["found"]["kernel"]
        gated = np.tanh(hidden[:6]) / (1 + np.exp(-hidden[6:]))
        expected[image, row, column] = own + gated @ p["mix"]["kernel"] + p["mix"]["bias"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_its_gradient_is_the_slope_of_its_value():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):  # parameters are made in single precision
        module, x = RasterAttention(4, 2), uniform(2, 2, 3, 4).astype(jnp.float64)
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), drawn(module, x))
        value = jax.jit(lambda params, x: module.apply({"params": params}, x))
        jax.test_util.check_grads(value, (params, x), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


def test_a_pixel_depends_on_those_before_it_alone_and_on_such_as_no_convolution_reaches():
    x = uniform(1, 4, 5, 1)

    def depends(module, params):
        outputs = lambda x: module.apply({"params": params}, x)[0].reshape(20)
        return np.asarray(jax.jit(jax.jacrev(outputs))(x)).reshape(20, 20) != 0

    module = network(num_layers=1)  # attention last of all
    params = drawn(module, x)
    near, found = depends(network(attention_every=0, num_layers=1), params), depends(module, params)
    assert not found[~np.tri(20, k=-1, dtype=bool)].any()
    assert not near[19, :5].any() and found[19, :4].all()  # of the first row, three rows above
    assert not near[4, 0] and found[4, 0]  # four to the left
    for place in range(20):
        # what a convolution showed to any of the pixels up to here, and no more
        np.testing.assert_array_equal(found[place], near[: place + 1].any(axis=0))


@pytest.mark.parametrize("shape", [(2, 2), (2, 3)])
def test_probabilities_of_all_images_add_up_to_one(shape):
    images = np.array(list(itertools.product([0.0, 1.0], repeat=shape[0] * shape[1])), np.float32)
    images = images.reshape(-1, *shape, 1)
    module = network()
    params = drawn(module, images[:1])
    logits = jax.jit(module.apply)({"params": params}, jnp.asarray(images))
    log_probs = jax.nn.log_sigmoid(jnp.where(images == 1, logits, -logits)).sum(axis=(1, 2, 3))
    assert jnp.exp(log_probs).sum() == pytest.approx(1.0, abs=1e-5)
    assert log_probs.std() > 0.1


def by_whole_passes(module, params, draw, known, num_known, context):
    num, height, width, _ = known.shape
    flat = known.reshape(num, -1, 1)

    @jax.jit
    def one(x, place):
        outputs = module.apply({"params": params}, x.reshape(known.shape), context).reshape(num, height * width, -1)
        pixel = draw(jax.random.fold_in(KEY, place), outputs[:, place][:, None, None])[:, 0, 0]
        return x.at[:, place].set(jnp.where(place < num_known, flat[:, place], pixel))

    x = jnp.zeros_like(flat)
    for place in range(height * width):
        x = one(x, place)
    return x.reshape(known.shape)


@pytest.mark.parametrize(("num_known", "with_context"), [(0, False), (7, True)])
def test_sampling_with_kept_keys_is_sampling_by_whole_passes(num_known, with_context):
    module = network(attention_every=2, num_layers=3)
    known = jnp.round(uniform(5, 4, 5, 1))
    context = jnp.eye(5, 3) if with_context else None
    params = drawn(module, known, context, scale=0.4)
    fast = jax.jit(lambda known, num: sample_pixels(module, params, bernoulli, KEY, known, num, context))
    found = fast(known, num_known)
    np.testing.assert_array_equal(found, by_whole_passes(module, params, bernoulli, known, num_known, context))
    assert 0.1 < found.mean() < 0.9 and len(np.unique(found, axis=0)) > 1
    np.testing.assert_array_equal(found.reshape(5, -1)[:, :num_known], known.reshape(5, -1)[:, :num_known])
    # what was given is attended to: of two images that differ in it, the last pixels do too
    if num_known:
        assert (fast(1 - known, num_known)[:, 2:] != found[:, 2:]).any()


@pytest.mark.parametrize(("dtype", "tolerance"), [(None, 1e-6), (jnp.bfloat16, 0.03)])
def test_every_output_of_sampling_is_that_of_one_pass_over_the_sample(dtype, tolerance):
    """Pixels that are numbers, for in binary ones a small difference does not show."""
    module, known = network(dtype=dtype), uniform(3, 4, 5, 1)
    params = drawn(module, known, scale=0.4)
    mean = lambda key, outputs: jax.nn.sigmoid(outputs)
    sample = jax.jit(lambda: sample_pixels(module, params, mean, KEY, known, 2))()
    outputs = jax.jit(module.apply)({"params": params}, sample)
    assert sample.dtype == outputs.dtype == jnp.float32
    same = jax.nn.sigmoid(outputs).reshape(3, -1)[:, 2:]
    np.testing.assert_allclose(sample.reshape(3, -1)[:, 2:], same, atol=tolerance)
    assert same.std() > 0.02
    if dtype:
        full = jax.jit(network().apply)({"params": params}, sample)
        assert 0 < np.abs(outputs - full).max() < 0.1 * np.abs(full).max()


def test_without_attention_nothing_is_changed_and_silent_attention_changes_nothing():
    x = uniform(2, 4, 5, 1)
    plain, module = network(attention_every=0, num_heads=3), network(attention_every=2)
    params, more = (jax.jit(each.init)(KEY, x)["params"] for each in (plain, module))
    added = set(more) - set(params)
    assert added == {"attentions_1"} and set(params) == {"first", "layers_0", "layers_1", "widen", "outputs"}
    rest = {name: leaf for name, leaf in more.items() if name not in added}
    jax.tree.map(np.testing.assert_array_equal, rest, params)
    outputs, attended = jax.jit(plain.apply)({"params": params}, x), jax.jit(module.apply)
    assert np.abs(attended({"params": more}, x) - outputs).max() > 1e-3
    more["attentions_1"]["mix"] = jax.tree.map(jnp.zeros_like, more["attentions_1"]["mix"])
    np.testing.assert_array_equal(attended({"params": more}, x), outputs)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"attention_every": 3}, "attention_every is 3; 1 to 2 layers, or 0"),
        ({"attention_every": -1}, "attention_every is -1"),
        ({"num_heads": 3}, "num_heads is 3, which does not divide 8 features"),
        ({"num_heads": 0}, "num_heads is 0"),
    ],
)
def test_attention_that_cannot_be_is_refused(changes, complaint):
    with pytest.raises(InputError, match=complaint):
        jax.eval_shape(network(**changes).init, KEY, jnp.zeros((1, 4, 5, 1)))
