"""Time series that need no download: waves of two frequencies, whose shape is the label.

    x_t = a_1 w(f_1 t + p_1) + a_2 w(f_2 t + p_2) + 0.02 e_t,    t = 0, 1/T, ..., (T - 1)/T,    e_t ~ N(0, 1)

with w one of `SHAPES`, of period 1 and between -1 and 1. The slow wave has f_1 in [1, 3) periods a sequence and
a_1 in [0.3, 0.7); the fast one f_2 in [3, 6) and a_2 in [0.1, 0.3); phases are uniform. So |x| < 1, but for the noise.
The series are drawn once, from a stream fixed by the set's name and split.

Reference: Geron 2019, "Hands-On Machine Learning" (2nd edition), chapter 15, `generate_time_series`: two sinusoids of
amplitudes 0.5 and 0.2, of 10 to 20 and 20 to 40 radians a sequence (1.6 to 3.2 and 3.2 to 6.4 periods), and noise. The
random amplitudes and the other shapes are ours.
"""

import zlib
from collections.abc import Callable

import numpy as np

from genlab.data.dataset import Dataset
from genlab.errors import InputError

NUM_TRAIN, NUM_TEST = 20_000, 4_000
LENGTH = 50  # T

# cycles f64[...] -> f64[...]: zero and rising at 0, as the sine
SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sine": lambda u: np.sin(2 * np.pi * u),
    "square": lambda u: np.where(u % 1 < 0.5, 1.0, -1.0),
    "sawtooth": lambda u: 2 * ((u + 0.5) % 1) - 1,
    "triangle": lambda u: 1 - 4 * np.abs((u + 0.25) % 1 - 0.5),
}
SETS = ("waves",)


def load(name: str, num_validation: int) -> Dataset:
    """One of `SETS`: 20,000 series f32[50, 1] to train on, `num_validation`, and 4,000 to test on.

    Label k is shape number k of `SHAPES`; each is equally likely. The log-density is not known.

    Raises:
        InputError: `num_validation` is negative.
    """
    if num_validation < 0:
        raise InputError(f"data.num_validation is {num_validation}; it must be at least 0")

    def draw(split: int, num_examples: int):
        rng = np.random.Generator(np.random.Philox(key=[zlib.crc32(name.encode()), split]))
        labels = rng.integers(len(SHAPES), size=num_examples)
        return {"x": waves(rng, labels).astype(np.float32), "label": labels.astype(np.int32)}

    train, validation, test = draw(0, NUM_TRAIN), draw(1, num_validation), draw(2, NUM_TEST)
    return Dataset(name, train, validation, test, len(SHAPES), log_density=None)


def waves(rng: np.random.Generator, labels: np.ndarray, noise: float = 0.02) -> np.ndarray:
    """f64[N, T, 1], one series of each shape asked for.

    Args:
        rng: of all draws.
        labels: i64[N], numbers of `SHAPES`.
        noise: its standard deviation; the rest of the draw does not depend on it.
    """
    slow, fast = [rng.uniform(*interval, size=(len(labels), 1)) for interval in ((1, 3), (3, 6))]
    strong, weak = [rng.uniform(*interval, size=(len(labels), 1)) for interval in ((0.3, 0.7), (0.1, 0.3))]
    phases = rng.random((2, len(labels), 1))
    times = np.arange(LENGTH) / LENGTH
    x = np.empty((len(labels), LENGTH))
    for label, shape in enumerate(SHAPES.values()):
        chosen = labels == label
        x[chosen] = (
            strong[chosen] * shape(slow[chosen] * times + phases[0, chosen])
            + weak[chosen] * shape(fast[chosen] * times + phases[1, chosen])
        )  # fmt: skip
    return (x + noise * rng.standard_normal(x.shape))[..., None]
