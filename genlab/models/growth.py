"""Growing: which resolution is trained at which step, and how far its newest layers are faded in.

Everything is a function of the step alone, so a run that is killed in the middle of a fade goes on in the middle of it.

Reference: Karras et al. 2018, "Progressive growing of GANs", section 2 and appendix A: a resolution is faded in for as
long as it is then trained.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from genlab.algorithm import Array
from genlab.errors import InputError


class Phase(NamedTuple):
    """The training of one resolution.

    Attributes:
        resolution: r.
        first_step: that is taken at it.
        fade_steps: over which its layers are faded in; 0: they are there at once.
        last_step: steps taken when it ends.
        batch_size: examples of a step.
    """

    resolution: int
    first_step: int
    fade_steps: int
    last_step: int
    batch_size: int

    def alpha(self, step: Array) -> Array:
        """f32[], the share of the newest layers in the step that follows `step` others; 1 from the end of the fade."""
        if not self.fade_steps:
            return jnp.ones(())
        # integers first: the quotient is the same wherever a run was resumed
        return jnp.clip(step - self.first_step + 1, 0, self.fade_steps).astype(jnp.float32) / self.fade_steps


def grow(
    resolutions: Sequence[int],
    stage_steps: Sequence[int],
    num_steps: int,
    batch_sizes: Sequence[int],
    fade_share: float = 0.5,
) -> list[Phase]:
    """The phases of a run.

    Args:
        resolutions: R of them, each twice the one before.
        stage_steps: steps of all but the last, which has those that remain.
        num_steps: of the whole run.
        batch_sizes: one for each resolution.
        fade_share: of its steps, over which a resolution is faded in; the first is not.

    Raises:
        InputError: numbers that do not fit together, or a last phase without steps.
    """
    if len(stage_steps) != len(resolutions) - 1 or len(batch_sizes) != len(resolutions):
        raise InputError(
            f"{len(resolutions)} resolutions, {', '.join(map(str, resolutions))}, have {len(resolutions)} batch sizes "
            f"and {len(resolutions) - 1} numbers of steps, the last taking the rest; got {len(batch_sizes)} and "
            f"{len(stage_steps)}"
        )
    ends = [0]
    for steps in stage_steps:
        ends.append(ends[-1] + steps)
    if min([*stage_steps, num_steps - ends[-1]]) < 1:
        raise InputError(
            f"the stages take {', '.join(map(str, stage_steps))} steps, which leaves {num_steps - ends[-1]} of "
            f"num_steps, {num_steps}, for {resolutions[-1]}x{resolutions[-1]}; every stage needs one at least"
        )
    phases = []
    for number, (resolution, batch_size) in enumerate(zip(resolutions, batch_sizes, strict=True)):
        first, last = ends[number], [*ends, num_steps][number + 1]
        phases.append(Phase(resolution, first, round(fade_share * (last - first)) if number else 0, last, batch_size))
    return phases
