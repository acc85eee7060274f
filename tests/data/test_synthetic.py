import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from genlab import data
from genlab.data import synthetic
from genlab.errors import InputError

# name -> (half side of a square around it, its centre, spacing of about half the narrowest deviation)
WINDOWS = {
    "ring": (1.12, (0.0, 0.0), 0.005),
    "grid": (4.32, (0.0, 0.0), 0.03),
    "moons": (2.4, (0.5, 0.25), 0.05),
    "pinwheel": (5.12, (0.0, 0.0), 0.08),
    "spirals": (3.84, (0.0, 0.0), 0.06),
}


def cells(name):
    """Centres of square cells [n, n, 2] that cover all of a set, and the side of one."""
    half, centre, side = WINDOWS[name]
    num = 16 * round(2 * half / side / 16)
    side = 2 * half / num
    axis = -half + side * (np.arange(num) + 0.5)
    return np.stack(np.meshgrid(axis + centre[0], axis + centre[1], indexing="ij"), axis=-1), side


def masses(name, log_density):
    """Probability and log-density of every cell, [n, n] each."""
    centres, side = cells(name)
    log_p = np.asarray(log_density(jnp.asarray(centres.reshape(-1, 2), jnp.float32)), np.float64)
    log_p = log_p.reshape(centres.shape[:2])
    return np.exp(log_p) * side**2, log_p


@pytest.mark.parametrize("name", WINDOWS)
def test_density_integrates_to_one_and_is_that_of_the_points(name):
    dataset = data.load(name)
    assert dataset.log_density is not None
    mass, log_p = masses(name, dataset.log_density)
    assert mass.sum() == pytest.approx(1, abs=0.002)

    # the mean log-density of the points is minus the entropy, by quadrature
    scores = np.asarray(dataset.log_density(jnp.asarray(dataset.test["x"])))
    assert scores.mean() == pytest.approx((mass * log_p).sum(), abs=5 * float(scores.std()) / 100 + 0.002)

    # and as many points fall in each of 16 x 16 blocks as the density says: chi-square
    num = mass.shape[0]
    expected = 10_000 * mass.reshape(16, num // 16, 16, num // 16).sum((1, 3)).ravel()
    centres, side = cells(name)
    index = np.floor((dataset.test["x"] - (centres[0, 0] - side / 2)) / (side * num / 16)).astype(int)
    counted = np.bincount(16 * index[:, 0] + index[:, 1], minlength=256)
    # blocks where few points are expected count as one
    common = expected > 10
    counted = np.append(counted[common], counted[~common].sum())
    expected = np.append(expected[common], expected[~common].sum() + 1e-9)
    statistic = np.sum(np.square(counted - expected) / np.maximum(expected, 1))
    assert scipy.stats.chi2.sf(statistic, len(expected) - 1) > 1e-3


@pytest.mark.parametrize(("name", "sigma"), [("ring", 0.01), ("grid", 0.05)])
def test_mixtures_agree_with_scipy(name, sigma):
    dataset = data.load(name)
    means = {
        "ring": np.array([[np.cos(k * np.pi / 4), np.sin(k * np.pi / 4)] for k in range(8)]),
        "grid": np.array([[i, j] for i in (-4, -2, 0, 2, 4) for j in (-4, -2, 0, 2, 4)]),
    }[name]
    assert dataset.num_classes == len(means) and dataset.log_density is not None and dataset.modes is not None
    np.testing.assert_allclose(dataset.modes.means, means, atol=1e-12)
    assert dataset.modes.sigma == sigma
    x = dataset.test["x"][:200].astype(np.float64)
    densities = [scipy.stats.multivariate_normal(mean, sigma**2 * np.eye(2)).pdf(x) for mean in means]
    np.testing.assert_allclose(
        dataset.log_density(jnp.asarray(x, jnp.float32)), np.log(np.mean(densities, 0)), atol=1e-3
    )
    # labels name the mode, each visited as often, and 98.89 % of the points lie within three deviations
    distance = np.linalg.norm(dataset.train["x"] - means[dataset.train["label"]], axis=1)
    assert np.mean(distance < 3 * sigma) == pytest.approx(0.98889, abs=5 * 0.00033)
    frequency = np.bincount(dataset.train["label"]) / 100_000
    np.testing.assert_allclose(frequency, 1 / len(means), atol=5 * np.sqrt(1 / len(means) / 100_000))


def test_the_gaussian_of_the_line_agrees_with_scipy():
    dataset = data.load("gaussian")
    assert dataset.log_density is not None and dataset.modes is not None
    x = np.linspace(-3, 5, 50, dtype=np.float32)[:, None]
    expected = scipy.stats.norm(1, 0.5).logpdf(x[:, 0])
    np.testing.assert_allclose(dataset.log_density(jnp.asarray(x)), expected, rtol=1e-6, atol=1e-5)
    assert scipy.stats.kstest(dataset.train["x"][:, 0], scipy.stats.norm(1, 0.5).cdf).pvalue > 1e-3
    assert dataset.modes.means.tolist() == [[1.0]] and dataset.modes.sigma == 0.5


@pytest.mark.parametrize("name", ["moons", "spirals"])
def test_curves_agree_with_adaptive_quadrature(name):
    def moons(u):
        return [(np.cos(np.pi * u), np.sin(np.pi * u)), (1 - np.cos(np.pi * u), 0.5 - np.sin(np.pi * u))]

    def spirals(u):
        t = 3 * np.pi * np.sqrt(u)
        return [(-t / 3 * np.cos(t), t / 3 * np.sin(t)), (t / 3 * np.cos(t), -t / 3 * np.sin(t))]

    curve = {"moons": moons, "spirals": spirals}[name]

    def density(x, y):
        def integrand(u):
            squares = np.array([(x - a) ** 2 + (y - b) ** 2 for a, b in curve(u)])
            return np.mean(np.exp(-squares / 0.02)) / (0.02 * np.pi)

        return scipy.integrate.quad(integrand, 0, 1, points=np.linspace(0, 1, 100)[1:-1], limit=500, epsabs=1e-14)[0]

    dataset = data.load(name)
    # points of the set, ends of the arms, and points between them
    x = np.concatenate([dataset.test["x"][:8], [[1, 0], [0, 0.5], [0, 0], [0.5, 0.25], [np.pi, 0], [0.3, -0.7]]])
    assert dataset.log_density is not None
    expected = np.log([density(*point) for point in x.astype(np.float64)])
    np.testing.assert_allclose(dataset.log_density(jnp.asarray(x, jnp.float32)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", synthetic.SETS)
def test_splits_are_fixed_and_differ(name):
    dataset, again = data.load(name, num_validation=100), data.load(name, num_validation=0)
    dim = 1 if name == "gaussian" else 2
    assert dataset.train["x"].shape == (100_000, dim) and dataset.train["x"].dtype == np.float32
    assert dataset.validation["x"].shape == (100, dim) and again.validation["x"].shape == (0, dim)
    np.testing.assert_array_equal(dataset.test["x"], again.test["x"])
    every = np.concatenate([split["x"] for split in (dataset.train, dataset.validation, dataset.test)])
    # float32 points may collide by rounding, on the line more often, but a shared stream would repeat all of a split
    assert len(np.unique(every, axis=0)) > len(every) - (200 if dim == 2 else 4_000)
    if name == "gaussian":  # a single mode
        assert dataset.num_classes == 0 and "label" not in dataset.test
        return
    assert dataset.test["label"].shape == (10_000,) and dataset.test["label"].dtype == np.int32
    assert set(np.unique(dataset.test["label"])) == set(range(dataset.num_classes))


def test_only_mixtures_of_gaussians_have_modes():
    known = {name for name in synthetic.SETS if data.load(name, num_validation=0).modes is not None}
    assert known == {"gaussian", "ring", "grid"}


def test_impossible_requests_are_refused():
    with pytest.raises(InputError, match="num_validation is -1"):
        data.load("ring", num_validation=-1)
    with pytest.raises(InputError, match="image_size must be 0"):
        data.load("ring", image_size=28)
