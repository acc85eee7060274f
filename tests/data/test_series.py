"""The waves against their spectra, their bounds and SciPy's waveforms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from genlab import data
from genlab.data import series
from genlab.errors import InputError

CYCLES = np.linspace(-1.3, 2.7, 4001) + 1e-4  # off the edges
DATASET = data.load("waves")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("sine", lambda phase: np.sin(phase)),
        ("square", lambda phase: scipy.signal.square(phase)),
        # SciPy's ramps start at -1 where ours pass through zero
        ("sawtooth", lambda phase: scipy.signal.sawtooth(phase + np.pi)),
        ("triangle", lambda phase: scipy.signal.sawtooth(phase + np.pi / 2, width=0.5)),
    ],
)
def test_shapes_are_those_of_scipy(shape, expected):
    np.testing.assert_allclose(series.SHAPES[shape](CYCLES), expected(2 * np.pi * CYCLES), atol=1e-9)


def test_a_sine_wave_has_one_slow_and_one_fast_line_in_its_spectrum():
    """The power between the two bands and above them is leakage and noise; each band has the power of its amplitude."""
    x = series.waves(np.random.default_rng(0), np.zeros(4000, np.int64), noise=0)[..., 0]
    window = scipy.signal.windows.hann(series.LENGTH, sym=False)
    power = np.abs(np.fft.rfft(x * window, 16 * series.LENGTH)) ** 2  # at multiples of 1/16 period a sequence
    power = power.mean(axis=0)
    power[1:-1] *= 2  # both signs of the frequency
    power /= 16 * series.LENGTH * np.sum(window**2)  # Parseval: its sum is the mean square
    periods = np.arange(len(power)) / 16
    # the window spreads a line by two periods to either side
    assert power[periods > 8].sum() < 1e-4 * power.sum()
    # E a^2 / 2 of uniform amplitudes; of [0.1, 0.3) only what lies two periods above the slow band is fast alone
    mean_square = lambda low, high: (low**2 + low * high + high**2) / 6
    slow, fast = mean_square(0.3, 0.7), mean_square(0.1, 0.3)
    assert power.sum() == pytest.approx(slow + fast, rel=0.03)
    # frequencies are uniform in their bands, so half of each band's power is on either side of its middle
    assert power[periods < 2].sum() == pytest.approx(slow / 2, rel=0.05)
    assert power[periods >= 4.5].sum() == pytest.approx(fast / 2, rel=0.06)


def test_every_line_of_a_spectrum_is_in_its_band():
    """The two strongest lines of long noiseless sines, found by least squares on a grid of frequencies."""
    x = series.waves(np.random.default_rng(1), np.zeros(200, np.int64), noise=0)[..., 0]
    times = np.arange(series.LENGTH) / series.LENGTH
    slow, fast = np.meshgrid(np.arange(0.5, 3.5, 0.1), np.arange(2.5, 6.5, 0.1), indexing="ij")
    best = np.full(len(x), np.inf)
    found = np.zeros((len(x), 2))
    for f_1, f_2 in zip(slow.ravel(), fast.ravel(), strict=True):
        if f_2 - f_1 < 0.5:
            continue
        angles = 2 * np.pi * times[:, None] * np.array([f_1, f_2])
        basis = np.linalg.qr(np.concatenate([np.sin(angles), np.cos(angles)], axis=1))[0]
        left = np.square(x - (x @ basis) @ basis.T).sum(axis=1)
        found[left < best] = f_1, f_2
        best = np.minimum(best, left)
    apart = best < 0.05  # neighbours about 3 are one line to any method
    assert apart.mean() > 0.9
    assert found[apart, 0].min() > 0.75 and found[apart, 0].max() < 3.25
    assert found[apart, 1].min() > 2.75 and found[apart, 1].max() < 6.25
    for column, low, high in ((0, 1, 3), (1, 3, 6)):
        assert found[apart, column].mean() == pytest.approx((low + high) / 2, abs=0.2)


def test_values_are_bounded_and_noise_is_all_that_differs():
    labels = np.arange(4000) % 4
    clean, noisy = (series.waves(np.random.default_rng(2), labels, noise) for noise in (0, 0.02))
    assert clean.shape == (4000, series.LENGTH, 1)
    assert np.abs(clean).max() < 1  # 0.7 + 0.3
    assert np.abs(clean[labels == 1]).min() > 0  # 0.3 - 0.3: a square wave is never at rest
    noise = noisy - clean
    assert noise.std() == pytest.approx(0.02, rel=0.01) and abs(noise.mean()) < 3e-4


def test_labels_name_the_shape():
    """A square wave's steps are flat or steep, a sine's neither; a sawtooth only falls where it jumps."""
    x, label = DATASET.test["x"][..., 0], DATASET.test["label"]
    step = np.diff(x, axis=1)
    flat = np.mean(np.abs(step) < 0.08, axis=1)  # within four deviations of the noise
    assert flat[label == 1].mean() > 0.7 > 0.55 > flat[label != 1].mean()
    skew = np.mean(step**3, axis=1) / np.mean(step**2, axis=1) ** 1.5
    assert skew[label == 2].mean() < -2
    for other in (0, 1, 3):
        assert abs(skew[label == other].mean()) < 0.2
    for split in (DATASET.train, DATASET.test):
        # equally likely: five deviations of the binomial
        frequency = np.bincount(split["label"], minlength=4) / len(split["label"])
        np.testing.assert_allclose(frequency, 0.25, atol=5 * np.sqrt(0.1875 / len(split["label"])))


def test_splits_are_fixed_and_differ():
    again, more = data.load("waves", num_validation=0), data.load("waves", num_validation=100)
    assert DATASET.num_classes == 4 and DATASET.log_density is None
    assert DATASET.train["x"].shape == (20_000, 50, 1) and DATASET.train["x"].dtype == np.float32
    assert DATASET.validation["x"].shape == (500, 50, 1) and again.validation["x"].shape == (0, 50, 1)
    assert DATASET.test["label"].shape == (4_000,) and DATASET.test["label"].dtype == np.int32
    for split in ("train", "test"):
        np.testing.assert_array_equal(getattr(DATASET, split)["x"], getattr(more, split)["x"])
        np.testing.assert_array_equal(getattr(DATASET, split)["label"], getattr(again, split)["label"])
    every = np.concatenate([split["x"][..., 0] for split in (DATASET.train, DATASET.validation, DATASET.test)])
    assert len(np.unique(every, axis=0)) == len(every)


def test_both_placements_give_the_same_series():
    device, stream = (make(DATASET.train, 32, seed=1) for make in (data.device_feed, data.stream_feed))
    reads = [feed.read(7, 2, 3) for feed in (device, stream)]
    pair = [feed.select(feed.arrays, read, jnp.int32(1)) for feed, read in zip((device, stream), reads, strict=True)]
    rows = data.batch_indices(1, 8, 32, 20_000)
    for batch in pair:
        np.testing.assert_array_equal(batch["x"], DATASET.train["x"][rows])
        np.testing.assert_array_equal(batch["label"], DATASET.train["label"][rows])
    stream.close()


def test_series_pass_through_as_they_are():
    batch = {name: values[:3] for name, values in DATASET.test.items()}
    prepared = jax.jit(data.prepare)(batch)
    np.testing.assert_array_equal(prepared["x"], batch["x"])
    with pytest.raises(InputError, match="needs images; this set holds float32"):
        data.prepare(batch, "dynamic", jax.random.key(0))
    with pytest.raises(InputError, match="needs images; this set holds float32"):
        data.fixed_binarization(batch)


def test_impossible_requests_are_refused():
    with pytest.raises(InputError, match="num_validation is -1"):
        data.load("waves", num_validation=-1)
    with pytest.raises(InputError, match="'waves' holds time series"):
        data.load("waves", image_size=28)
    with pytest.raises(InputError, match=r"unknown dataset 'wave', nearest is 'waves'.*gaussian, waves"):
        data.load("wave")
