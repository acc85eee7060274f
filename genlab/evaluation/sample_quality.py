"""How near generated images are to real ones, in a feature space: fidelity, coverage, class balance, memorisation.

The functions take features f[N, D] and count in float64; what is as large as a matrix of all distances is made a few
rows at a time.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from genlab.errors import InputError
from genlab.evaluation.extractor import Extractor
from genlab.evaluation.generation import frechet_distance
from genlab.evaluation.held_out import mean_and_error

Number = dict[str, Any]

CHUNK_ELEMENTS = 1 << 23  # of a matrix of distances that are in memory together: 64 MB
IMAGES_PER_CHUNK = 2_000  # that are floats together
MAX_REAL = 10_000  # test images that samples are compared with
FIRST_PERCENTILE = 0.01
EXACT = 1e-4  # of the median distance of a test image: nearer than this is a copy, up to the rounding of features
NAMES = {"features": ("frechet_features", "kernel_features"), "FID": ("fid", "kid")}  # by an extractor's convention


def kernel_distance(a: np.ndarray, b: np.ndarray) -> Number:
    """Squared maximum mean discrepancy with the kernel (x.y / D + 1)^3; with Inception's features it is the KID.

    The U-statistic of all pairs, without bias, so that it falls below zero where the sets are alike. Reference code
    averages it over random subsets, which has the same expectation and a larger variance; subsets as large as the sets
    would moreover all be the same, and their spread no error.

    Args:
        a, b: f[N, D], f[M, D]; at least 3 of each.

    Returns:
        `value`, and its `standard_error` by the two-sample jackknife, which errs upwards where the sets are alike.

    Raises:
        InputError: fewer examples, or features of different sizes.

    Reference: Binkowski et al. 2018, "Demystifying MMD GANs", section 4; Arvesen 1969 for the jackknife.
    """
    a, b = check_features(a, b, at_least=3)
    (m, dim), n = a.shape, len(b)
    kernel = lambda products: np.power(products / dim + 1.0, 3)

    def sums(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the kernel over y, for every x; over x, for every y."""
        rows, columns = np.empty(len(x)), np.zeros(len(y))
        for part in row_chunks(len(x), len(y)):
            values = x[part] @ y.T / dim + 1.0
            values *= values * values  # ten times faster than a power
            rows[part] = values.sum(axis=1)
            columns += values.sum(axis=0)
        return rows, columns

    within_a, within_b = (sums(x, x)[0] - kernel(np.square(x).sum(axis=1)) for x in (a, b))  # of all others
    a_over_b, b_over_a = sums(a, b)
    mean_a, mean_b = within_a.sum() / (m * (m - 1)), within_b.sum() / (n * (n - 1))
    cross = a_over_b.sum()
    # the statistic without one of a, and without one of b
    without_a = (within_a.sum() - 2 * within_a) / ((m - 1) * (m - 2)) - 2 * (cross - a_over_b) / ((m - 1) * n)
    without_b = (within_b.sum() - 2 * within_b) / ((n - 1) * (n - 2)) - 2 * (cross - b_over_a) / ((n - 1) * m)
    variance = (m - 1) * without_a.var() + (n - 1) * without_b.var()
    return {
        "value": float(mean_a + mean_b - 2 * cross / (m * n)),
        "standard_error": float(np.sqrt(variance)),
        "estimator": "squared MMD, U-statistic, kernel (x.y / D + 1)^3; error by the jackknife",
    }


def precision_recall(real: np.ndarray, fake: np.ndarray, k: int = 3) -> tuple[float, float]:
    """The share of fakes in the manifold of the reals, and of reals in that of the fakes.

    A set's manifold is the union of balls about its examples that reach to their k-th neighbours; the boundary belongs
    to it (<=), as in the paper and its code. No example is its own neighbour.

    Args:
        real, fake: f[N, D], f[M, D], more than k of each; both depend on N and M.
        k: of neighbours, at least 1.

    Raises:
        InputError: k or fewer examples.

    Reference: Kynkaanniemi et al. 2019, "Improved precision and recall metric", equations 1 and 2.
    """
    real, fake = check_features(real, fake, at_least=k + 1)
    reach_real, reach_fake = squared_reach(real, k), squared_reach(fake, k)
    in_real, in_fake = np.zeros(len(fake), bool), np.zeros(len(real), bool)
    for part in row_chunks(len(fake), len(real)):
        squared = squared_distances(fake[part], real)
        in_real[part] = (squared <= reach_real).any(axis=1)
        in_fake |= (squared <= reach_fake[part, None]).any(axis=0)
    return float(in_real.mean()), float(in_fake.mean())


def density_coverage(real: np.ndarray, fake: np.ndarray, k: int = 5) -> tuple[float, float]:
    """How many of the reals' balls a fake is in on average, over k; and the share of those balls that hold a fake.

    Balls about reals alone, which an outlier among the fakes cannot enlarge. The boundary does not belong to them (<),
    as in the authors' code. Of two sets of N from one distribution the density is 1 on average and the coverage
    1 - (N - 1) ... (N - k) / ((2N - 1) ... (2N - k)), for k = 5 and many examples 0.969.

    Args:
        real, fake: f[N, D], f[M, D], more than k of the first; the coverage depends on N and M.
        k: of neighbours, at least 1.

    Returns:
        Density, >= 0 and possibly above 1, and coverage, in [0, 1].

    Raises:
        InputError: k or fewer examples.

    Reference: Naeem et al. 2020, "Reliable fidelity and diversity metrics for generative models", section 3.
    """
    real, fake = check_features(real, fake, at_least=k + 1)
    reach = squared_reach(real, k)
    num_balls, covered = 0, np.zeros(len(real), bool)
    for part in row_chunks(len(fake), len(real)):
        inside = squared_distances(fake[part], real) < reach
        num_balls += int(inside.sum())
        covered |= inside.any(axis=0)
    return num_balls / (k * len(fake)), float(covered.mean())


def nearest_training(samples: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest of train f[M, D] to each of samples f[N, D]: indices i64[N] and Euclidean distances f64[N].

    Of several as near, the first, up to rounding.
    """
    samples, train = check_features(samples, train, at_least=1)
    squared_norms, doubled = np.square(train).sum(axis=1), 2.0 * train.T
    indices = np.empty(len(samples), np.int64)
    for part in row_chunks(len(samples), len(train)):
        # |s - t|^2 - |s|^2 is enough to find it; the distance itself would cancel
        score = samples[part] @ doubled
        indices[part] = np.argmin(np.subtract(squared_norms, score, out=score), axis=1)
    return indices, np.linalg.norm(samples - train[indices], axis=1)


def memorisation(samples: np.ndarray, train: np.ndarray, test: np.ndarray) -> dict[str, Number]:
    """Whether samples are nearer to the training set than new examples of the same distribution are.

    `nearer_than_test` is the probability that a sample is nearer to its nearest training example than a test example
    to its own (the Mann-Whitney statistic): 1/2 for fresh draws, 1 for copies. Samples that resemble no data at all
    pull it below 1/2, and so hide copies among them; the other two numbers see those. `near_training_share` is the
    share of samples that are nearer than 99 % of the test examples, 0.01 for fresh draws; `exact_copies` counts those
    at distance zero.

    Args:
        samples, train, test: features f[N, D], f[M, D], f[K, D], N and K at least 2.

    Returns:
        The three as Numbers; the standard error of the first is DeLong's, given the training set.

    Raises:
        InputError: too few examples.

    Reference: the statistic of Meehan et al. 2020, "A non-parametric test to detect data-copying in generative models",
    in one cell; DeLong et al. 1988.
    """
    check_features(samples, test, at_least=2)
    of_samples, of_test = (nearest_training(each, train)[1] for each in (samples, test))
    farther = 1.0 - ranks(of_samples, of_test)  # of each sample, the share of test examples that are farther
    nearer = ranks(of_test, of_samples)
    error = np.sqrt(farther.var(ddof=1) / len(farther) + nearer.var(ddof=1) / len(nearer))
    share, share_error = mean_and_error(of_samples < np.quantile(of_test, FIRST_PERCENTILE))
    protocol = {"n": len(of_samples), "n_test": len(of_test), "n_train": len(train)}
    return {
        "nearer_than_test": {
            "value": float(farther.mean()), "standard_error": float(error),
            "estimator": "probability that a sample is nearer to the training set than a test image is; 0.5 is new",
            **protocol,
        },
        "near_training_share": {
            "value": share, "standard_error": share_error, "expected": FIRST_PERCENTILE,
            "estimator": "samples nearer to the training set than 99 % of test images",
            **protocol,
        },
        "exact_copies": {
            "value": int(np.sum(of_samples <= EXACT * np.median(of_test))), "estimator": "samples at distance zero",
            **protocol,
        },
    }  # fmt: skip


def ranks(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """The share of `among` f[M] below each of f[N], ties counting half."""
    among = np.sort(among)
    return (np.searchsorted(among, values, "left") + np.searchsorted(among, values, "right")) / (2 * len(among))


class ClassBalance(NamedTuple):
    """What a classifier makes of images.

    Attributes:
        confident: bool[N], whether the largest probability is above the confidence asked for.
        shares: f64[C], of images in each class by their largest probability.
        effective_classes: exp(entropy of shares), in 1, ..., C; C exactly where all are as frequent.
    """

    confident: np.ndarray
    shares: np.ndarray
    effective_classes: float


def class_balance(probabilities: np.ndarray, confidence: float = 0.9) -> ClassBalance:
    """How sure a classifier is of images, and how it spreads them over the classes; from probabilities f[N, C]."""
    probabilities = np.asarray(probabilities, np.float64)
    if probabilities.ndim != 2 or not len(probabilities):
        raise InputError(f"class probabilities are [N, C], N >= 1; got shape {probabilities.shape}")
    num_classes = probabilities.shape[1]
    shares = np.bincount(probabilities.argmax(axis=1), minlength=num_classes) / len(probabilities)
    present = shares[shares > 0]
    return ClassBalance(
        probabilities.max(axis=1) > confidence, shares, float(np.exp(-np.sum(present * np.log(present))))
    )


def quality_block(
    samples: np.ndarray, labels: np.ndarray | None, train: np.ndarray, test: np.ndarray, extractor: Extractor
) -> dict[str, Number]:
    """All of it for a card: the samples beside the test images, and beside as many training images in their place.

    Args:
        samples: f32[N, H, W, C] in [0, 1], generated.
        labels: i[N], which class each sample was asked to be; None where the model was asked for none.
        train, test: real images as the model's data holds them, grey and not binarized: uint8, or float in [0, 1].
            At most 10,000 test images are used, drawn at random.
        extractor: whose features and classes these are.

    Returns:
        Numbers with their protocol. The two distances are `frechet_features` and `kernel_features`, or `fid` and `kid`
        where the extractor's convention is "FID", each with a `_floor`, of as many training images in place of the
        samples. What those reach in precision, recall, density and coverage is a field `real_images`; in numbers about
        classes it is what test images reach. A classifier of ours has learnt from these very training images, so that
        they are a little unlike others to it. Numbers about classes are left out where the extractor knows none.

    Raises:
        InputError: fewer than 6 images of a kind, images of different shapes, or samples that are not finite.
    """
    samples, train, test = np.asarray(samples), np.asarray(train), subset(np.asarray(test), MAX_REAL)
    if not samples.shape[1:] == train.shape[1:] == test.shape[1:] or samples.ndim != 4:
        raise InputError(
            f"images to compare are [N, H, W, C] and alike; got samples {samples.shape}, train {train.shape} and "
            f"test {test.shape}"
        )
    if not np.isfinite(samples).all():
        raise InputError("samples hold values that are not finite; the model that made them has diverged")
    fake, known, real = (in_chunks(extractor.features, images) for images in (samples, train, test))
    stand_in = subset(known, len(fake))  # real images in place of the samples
    about = {"split": "test", "extractor": extractor.name}
    block: dict[str, Number] = {}

    frechet, kernel = NAMES[extractor.convention]
    gaussians = {"estimator": "Gaussians fitted to both, covariance with ddof 1"}
    for suffix, each in (("", fake), ("_floor", stand_in)):
        sizes = {"n": len(each), "n_real": len(real), **({"of": "training images"} if suffix else {})}
        block[frechet + suffix] = {"value": frechet_distance(each, real), **gaussians, **sizes, **about}
        block[kernel + suffix] = {**kernel_distance(each, real), **sizes, **about}

    # these depend on how many there are: as many of each
    num = min(len(stand_in), len(real))
    reference, replaced = subset(real, num), subset(stand_in, num)
    for names, k, measure in (
        (("precision", "recall"), 3, precision_recall),
        (("density", "coverage"), 5, density_coverage),
    ):
        found, usual = measure(reference, subset(fake, num), k), measure(reference, replaced, k)
        for name, value, of_real in zip(names, found, usual, strict=True):
            block[name] = {"value": value, "real_images": of_real, "k": k, "n": num, "n_real": num, **about}
    block |= {name: {**number, **about} for name, number in memorisation(fake, known, real).items()}
    return block | class_numbers(samples, labels, test, extractor, about)


def class_numbers(
    samples: np.ndarray, labels: np.ndarray | None, test: np.ndarray, extractor: Extractor, about: Number
) -> dict[str, Number]:
    """`confident_share`, `least_class_share`, `greatest_class_share`, `effective_classes`; `label_accuracy` of labels.

    Of the test images too, as the field `real_images`.
    """
    if extractor.probabilities is None:
        return {}
    probabilities = in_chunks(extractor.probabilities, samples)
    found, usual = class_balance(probabilities), class_balance(in_chunks(extractor.probabilities, test))
    about = {"n": len(samples), "n_real": len(test), **about}
    share, error = mean_and_error(found.confident)
    sure = "images with a class of probability above 0.9"
    block: dict[str, Number] = {
        "confident_share": {"value": share, "standard_error": error, "real_images": float(usual.confident.mean()),
                            "estimator": sure, **about},
        "least_class_share": {"value": float(found.shares.min()), "real_images": float(usual.shares.min()), **about},
        "greatest_class_share": {"value": float(found.shares.max()), "real_images": float(usual.shares.max()),
                                 **about},
        "effective_classes": {"value": found.effective_classes, "real_images": usual.effective_classes,
                              "of": len(found.shares), "estimator": "exp of the entropy of class shares", **about},
    }  # fmt: skip
    if labels is not None:
        labels = np.asarray(labels)
        if labels.shape != (len(samples),):
            raise InputError(f"{len(samples):,} samples were asked for as many labels; got shape {labels.shape}")
        share, error = mean_and_error(probabilities.argmax(axis=1) == labels)
        accuracy = None if extractor.accuracy is None else extractor.accuracy["value"]
        block["label_accuracy"] = {
            "value": share, "standard_error": error, "real_images": accuracy,
            "estimator": "samples that are classified as what was asked for", **about,
        }  # fmt: skip
    return block


def check_features(a: np.ndarray, b: np.ndarray, at_least: int) -> tuple[np.ndarray, np.ndarray]:
    """Both in float64; InputError where they are no features of one size, or too few."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise InputError(f"sets of features are [N, D] and [M, D]; got {a.shape} and {b.shape}")
    if min(len(a), len(b)) < at_least:
        raise InputError(f"this comparison needs at least {at_least} examples of each; got {len(a)} and {len(b)}")
    return a, b


def row_chunks(num_rows: int, num_columns: int) -> Iterator[slice]:
    """Slices of the rows of a matrix that hold CHUNK_ELEMENTS each, or one row."""
    size = max(1, CHUNK_ELEMENTS // num_columns)
    return (slice(first, min(first + size, num_rows)) for first in range(0, num_rows, size))


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """f64[N, M] between f64[N, D] and f64[M, D]."""
    squared = -2.0 * a @ b.T
    squared += np.square(a).sum(axis=1)[:, None]
    squared += np.square(b).sum(axis=1)
    return np.maximum(squared, 0.0, out=squared)


def squared_reach(x: np.ndarray, k: int) -> np.ndarray:
    """f64[N], the squared distance of each to the k-th nearest of the others."""
    reach = np.empty(len(x))
    for part in row_chunks(len(x), len(x)):
        squared = squared_distances(x[part], x)
        squared[np.arange(len(squared)), np.arange(part.start, part.stop)] = np.inf  # itself
        reach[part] = np.partition(squared, k - 1, axis=1)[:, k - 1]
    return reach


def subset(x: np.ndarray, num: int) -> np.ndarray:
    """So many rows at random, always the same; all in their order where there are no more."""
    return x if len(x) <= num else x[np.random.default_rng(0).choice(len(x), num, replace=False)]


def in_chunks(function: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """Of uint8[N, H, W, C], or float in [0, 1], what a function gives of them as f32 in [0, 1]."""
    scale = np.float32(255 if images.dtype == np.uint8 else 1)
    parts = [images[first : first + IMAGES_PER_CHUNK] for first in range(0, len(images), IMAGES_PER_CHUNK)]
    return np.concatenate([np.asarray(function(part.astype(np.float32) / scale)) for part in parts])
