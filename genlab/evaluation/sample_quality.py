"""How good generated images are, in a feature space: fidelity, coverage, class balance, memorisation; for a card."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from genlab.errors import InputError
from genlab.evaluation.extractor import Extractor
from genlab.evaluation.feature_distances import density_coverage, kernel_distance, precision_recall
from genlab.evaluation.generation import frechet_distance
from genlab.evaluation.held_out import mean_and_error
from genlab.evaluation.memorisation import memorisation

Number = dict[str, Any]

IMAGES_PER_CHUNK = 2_000  # that are floats together
MAX_REAL = 10_000  # test images that samples are compared with
NAMES = {"features": ("frechet_features", "kernel_features"), "FID": ("fid", "kid")}  # by an extractor's convention


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


class Quality(NamedTuple):
    """What samples are worth beside real images.

    Attributes:
        block: Numbers for a card.
        nearest: i64[N], the training image that is nearest to each sample in the features.
        distances: f64[N], how far it is.
    """

    block: dict[str, Number]
    nearest: np.ndarray
    distances: np.ndarray


def measure_quality(
    samples: np.ndarray, labels: np.ndarray | None, train: np.ndarray, test: np.ndarray, extractor: Extractor
) -> Quality:
    """All of it for a card: the samples beside the test images, and beside as many training images in their place.

    Args:
        samples: f32[N, H, W, C] in [0, 1], generated.
        labels: i[N], which class each sample was asked to be; None where the model was asked for none.
        train, test: real images as the model's data holds them, grey and not binarized: uint8, or float in [0, 1].
            At most 10,000 test images are used, drawn at random.
        extractor: whose features and classes these are.

    Returns:
        Quality. In its block, the two distances are `frechet_features` and `kernel_features`, or `fid` and `kid`
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
    remembered = memorisation(fake, known, real)
    block |= {name: {**number, **about} for name, number in remembered.numbers.items()}
    block |= class_numbers(samples, labels, test, extractor, about)
    return Quality(block, remembered.nearest, remembered.distances)


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


def subset(x: np.ndarray, num: int) -> np.ndarray:
    """So many rows at random, always the same; all in their order where there are no more."""
    return x if len(x) <= num else x[np.random.default_rng(0).choice(len(x), num, replace=False)]


def in_chunks(function: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """Of uint8[N, H, W, C], or float in [0, 1], what a function gives of them as f32 in [0, 1]."""
    scale = np.float32(255 if images.dtype == np.uint8 else 1)
    parts = [images[first : first + IMAGES_PER_CHUNK] for first in range(0, len(images), IMAGES_PER_CHUNK)]
    return np.concatenate([np.asarray(function(part.astype(np.float32) / scale)) for part in parts])
