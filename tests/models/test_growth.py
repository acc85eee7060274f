"""The phases of growing, and how far a fade has come at every step, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from genlab.errors import InputError
from genlab.models.growth import Phase, grow


def test_phases_follow_each_other_and_the_last_takes_the_rest():
    found = grow([4, 8, 16], [10, 20], 70, [32, 16, 8])
    assert found == [Phase(4, 0, 0, 10, 32), Phase(8, 10, 10, 30, 16), Phase(16, 30, 20, 70, 8)]
    assert grow([32], [], 5, [4]) == [Phase(32, 0, 0, 5, 4)]


def test_a_fade_begins_with_its_first_step_and_ends_before_its_phase():
    phase = Phase(8, 10, 4, 20, 1)
    found = [float(phase.alpha(jnp.int32(step))) for step in (9, 10, 11, 12, 13, 14, 19)]
    np.testing.assert_array_equal(found, [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0])
    assert float(Phase(4, 0, 0, 10, 1).alpha(jnp.int32(0))) == 1.0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (([4, 8], [10, 20], 70, [1, 1]), "2 resolutions, 4, 8, have 2 batch sizes and 1 numbers of steps"),
        (([4, 8], [10], 70, [1]), "got 1 and 1"),
        (([4, 8], [70], 70, [1, 1]), "leaves 0 of num_steps, 70, for 8x8"),
        (([4, 8, 16], [0, 5], 70, [1] * 3), "every stage needs one at least"),
    ],
)
def test_what_does_not_fit_together_is_one_line(arguments, complaint):
    with pytest.raises(InputError, match=complaint):
        grow(*arguments)
