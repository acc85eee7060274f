"""The sum over the event, and the check that stops a silent broadcast."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.losses.event import check_same_shape, sum_event


@pytest.mark.parametrize("event", [(), (1,), (5,), (4, 3), (2, 3, 4, 1)])
def test_sum_event_keeps_the_batch_and_sums_the_rest(event):
    values = np.arange(3 * int(np.prod(event)), dtype=np.float32).reshape(3, *event) - 7
    actual = sum_event(jnp.asarray(values))
    assert actual.shape == (3,) and actual.dtype == jnp.float32
    np.testing.assert_array_equal(actual, [values[b].sum() for b in range(3)])


def test_sum_event_gradient_is_one_everywhere():
    gradient = jax.grad(lambda v: sum_event(v) @ jnp.array([1.0, -2.0]))(jnp.zeros((2, 3, 1)))
    np.testing.assert_array_equal(gradient, np.broadcast_to([[[1.0]], [[-2.0]]], (2, 3, 1)))


def test_sum_event_keeps_bfloat16():
    assert sum_event(jnp.ones((2, 3), jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize("shape", [(), (0,), (4,), (4, 28, 28, 1)])
def test_equal_shapes_pass_whatever_the_kind_of_array(shape):
    check_same_shape(x=jnp.zeros(shape), y=jnp.zeros(shape, jnp.int32), z=jnp.zeros(shape, jnp.bfloat16))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ((4,), (4, 1), "expected equal shapes, got x (4,), y (4, 1)"),
        ((4, 1), (4, 3), "expected equal shapes, got x (4, 1), y (4, 3)"),
        ((4, 28, 28, 1), (4, 784), "expected equal shapes, got x (4, 28, 28, 1), y (4, 784)"),
        ((), (1,), "expected equal shapes, got x (), y (1,)"),
    ],
)
def test_unequal_shapes_are_named(x, y, message):
    with pytest.raises(ValueError) as error:
        check_same_shape(x=jnp.zeros(x), y=jnp.zeros(y))
    assert str(error.value) == message


def test_unequal_shapes_are_found_among_several_and_under_jit():
    with pytest.raises(ValueError, match=r"a \(2,\), b \(2,\), c \(3,\)"):
        jax.jit(lambda a, b, c: check_same_shape(a=a, b=b, c=c))(jnp.zeros(2), jnp.zeros(2), jnp.zeros(3))
