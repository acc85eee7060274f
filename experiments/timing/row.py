"""One thing that is measured."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from experiments.peers.worker import Contestants
from experiments.timing.flops import Layers, flops_per_step
from genlab import data
from genlab.algorithm import Algorithm


class Row(NamedTuple):
    """A training step, and who else can take it.

    Attributes:
        title: what it is.
        algorithm: ours.
        batch_size: B.
        layers: of the networks, on B examples.
        steps_per_call: of ours, as in a config.
        binarization: of ours, as in a config.
        package: of the peer, "" where there is none.
        peer: importable; (images, batch_size, precision, platform, threads) -> its programs, in a process of its own.
        bars: our program -> the speed, in multiples of the peer's first program, that it should have.
        product_bar: the fraction of the machine's rate of products that our training loop should have.
        flops: of a step that does not pass once through all layers, forward and back; 0 for one that does.
        dataset: whose examples are trained on, where they are not the digits of the other rows.
    """

    title: str
    algorithm: Algorithm
    batch_size: int
    layers: Layers
    steps_per_call: int = 20
    binarization: str = "none"
    package: str = ""
    peer: Callable[..., Contestants] | None = None
    bars: Mapping[str, float] = {}
    product_bar: float | None = None
    flops: int = 0
    dataset: data.Dataset | None = None

    @property
    def flops_per_step(self) -> int:
        """By formula."""
        return self.flops or flops_per_step(self.layers)
