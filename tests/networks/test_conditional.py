"""Networks with labels: what they hand on, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from genlab.networks.conditional import ByClass, WithLabels
from genlab.networks.dense import MLP

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
LABELS = jnp.asarray([2, 0, 1, 2])


class Same(nn.Module):
    """Its input."""

    @nn.compact
    def __call__(self, x):
        return x


def test_a_vector_has_the_label_at_its_end():
    x = jnp.asarray(RNG.normal(size=(4, 2, 3, 1)), jnp.float32)
    given = WithLabels(Same(), 3).apply({}, x, LABELS)
    np.testing.assert_array_equal(given, np.concatenate([x.reshape(4, 6), np.eye(3)[LABELS]], axis=1))


def test_an_image_has_it_in_planes():
    x = jnp.asarray(RNG.normal(size=(4, 2, 3, 1)), jnp.float32)
    given = np.asarray(WithLabels(Same(), 3, flatten=False).apply({}, x, LABELS))
    assert given.shape == (4, 2, 3, 4)
    np.testing.assert_array_equal(given[..., :1], x)
    for example, label in enumerate(LABELS):
        for plane in range(3):
            assert np.all(given[example, ..., 1 + plane] == float(plane == label))


def test_by_class_is_a_first_layer_of_each_classs_own():
    codes = jnp.asarray(RNG.normal(size=(4, 2)), jnp.float32)
    module = ByClass(MLP((5,), lambda x: x), 3)
    params = module.init(KEY, codes, LABELS)
    layer = params["params"]["network"]["Dense_0"]
    kernel = np.asarray(layer["kernel"], np.float64)
    assert kernel.shape == (2 * 3 + 3, 5)
    given = module.apply(params, codes, LABELS)
    for example, label in enumerate(np.asarray(LABELS)):
        weights = kernel[:6].reshape(2, 3, 5)[:, label]
        by_hand = np.asarray(codes[example], np.float64) @ weights + kernel[6 + label] + layer["bias"]
        np.testing.assert_allclose(given[example], by_hand, rtol=1e-5, atol=1e-6)
