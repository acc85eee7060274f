"""Features of our own: a small convolutional classifier, trained on the labels of the split that a model learnt from.

Distances between images, and between sets of them, are taken in the space of its last hidden layer. What it was
trained on and how well it classifies belong beside every number that it is used for.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from genlab.algorithm import Array, Key
from genlab.errors import InputError
from genlab.evaluation.held_out import mean_and_error, over_split

Number = dict[str, Any]

NUM_FEATURES = 128
KERNEL, STRIDE = 3, 2
FIRST_CHANNELS = 32  # of the first convolution; every further one has twice as many
COARSEST = 8  # side of the last feature map, at most
LEARNING_RATE = 2e-3  # of Adam at the start, from where it falls to zero as a cosine
STEPS_PER_CALL = 50  # between words of progress
SIDES_PER_SHIFT = 14  # images are shifted by up to a fourteenth of the side: two pixels of MNIST


class Layer(NamedTuple):
    """An affine map f32[K, M], f32[M]; of a convolution K is 3 x 3 x channels."""

    kernel: Array
    bias: Array


class Classifier(NamedTuple):
    """Convolutions of stride 2, a hidden layer whose activations are the features, and a softmax; a pytree."""

    convolutions: tuple[Layer, ...]
    hidden: Layer
    output: Layer


def train_classifier(
    images: np.ndarray,
    labels: np.ndarray | None,
    num_classes: int,
    key: Key,
    *,
    num_steps: int = 1_500,
    batch_size: int = 128,
    show: Callable[[int], None] = lambda done: None,
) -> Classifier:
    """Trains a classifier by Adam on the cross-entropy, with random shifts of up to a fourteenth of the side.

    Args:
        images: uint8[N, H, W, C], or float in [0, 1].
        labels: i32[N] in 0, ..., num_classes - 1.
        num_classes: at least 2.
        key: of parameters, minibatches and shifts; the same key gives the same classifier.
        num_steps: of the optimizer.
        batch_size: examples a step, drawn with replacement.
        show: told how many steps are done.

    Returns:
        The classifier after the last step.

    Raises:
        InputError: no labels, labels that do not fit, or what is no image.
    """
    images, labels = check(images, labels, num_classes)
    key_init, key_steps = jax.random.split(key)
    classifier = init(key_init, images.shape[1:], num_classes)
    moments = optax.scale_by_adam().init(classifier)
    arrays = jnp.asarray(images), jnp.asarray(labels)
    for first in range(0, num_steps, STEPS_PER_CALL):
        last = min(first + STEPS_PER_CALL, num_steps)
        classifier, moments = take_steps(classifier, moments, arrays, key_steps, first, last, num_steps, batch_size)
        jax.block_until_ready(classifier)
        show(last)
    return classifier


@functools.partial(jax.jit, static_argnames="batch_size")
def take_steps(
    classifier: Classifier,
    moments: Any,
    arrays: tuple[Array, Array],
    key: Key,
    first: int | Array,
    last: int | Array,
    num_steps: int | Array,
    batch_size: int,
) -> tuple[Classifier, Any]:
    """The classifier and Adam's moments after the steps first, ..., last - 1 of num_steps.

    A loop with bounds that are not known to the compiler, so that there is one program whatever they are.
    """
    images, labels = arrays
    reach = max(images.shape[1:3]) // SIDES_PER_SHIFT

    def step(number: Array, carry: tuple[Classifier, Any]) -> tuple[Classifier, Any]:
        classifier, moments = carry
        key_index, key_shift = jax.random.split(jax.random.fold_in(key, number))
        index = jax.random.randint(key_index, (batch_size,), 0, len(images))
        batch, targets = shift(key_shift, intensities(images[index]), reach), labels[index]

        def loss_fn(classifier: Classifier) -> Array:
            _, logits = apply(classifier, batch)
            return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, targets))

        gradients = jax.grad(loss_fn)(classifier)
        with jax.numpy_dtype_promotion("standard"):  # optax takes float powers of an integer count
            updates, moments = optax.scale_by_adam().update(gradients, moments)
        done = number.astype(jnp.float32) / jnp.asarray(num_steps, jnp.float32)
        rate = LEARNING_RATE * 0.5 * (1.0 + jnp.cos(jnp.pi * done))
        return jax.tree.map(lambda leaf, update: leaf - rate * update, classifier, updates), moments

    return jax.lax.fori_loop(first, last, step, (classifier, moments))


def apply(classifier: Classifier, images: Array) -> tuple[Array, Array]:
    """Features f32[B, 128] and logits f32[B, num_classes] of images f32[B, H, W, C]."""
    x = images
    for kernel, bias in classifier.convolutions:
        x = jax.nn.relu(patches(x) @ kernel + bias)
    # relu here leaves a sixth of the features at zero for every image, and with them a singular covariance
    features = jax.nn.gelu(x.reshape(len(x), -1) @ classifier.hidden.kernel + classifier.hidden.bias)
    return features, features @ classifier.output.kernel + classifier.output.bias


def directions(classifier: Classifier, images: Array) -> Array:
    """Features f32[B, 128] at length one, of images f32[B, H, W, C].

    The length of features grows with the contrast of the image: a faint blend of two images is near the origin, and so
    nearer to everything, without being more like anything.
    """
    features, _ = apply(classifier, images)
    return features / jnp.maximum(jnp.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def accuracy(classifier: Classifier, images: np.ndarray, labels: np.ndarray, batch_size: int = 500) -> Number:
    """The fraction of images uint8 or float [N, H, W, C] whose largest logit is their label's, with its n and error."""
    predict = over_split(
        lambda classifier, batch, _: jnp.argmax(apply(classifier, intensities(batch["x"]))[1], axis=1),
        lambda raw: raw,
        batch_size,
    )
    right = predict(classifier, {"x": np.asarray(images)}, jax.random.key(0)) == np.asarray(labels)
    value, error = mean_and_error(right)
    return {"value": value, "standard_error": error, "n": len(right)}


def check(images: Any, labels: Any, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Both in memory; InputError where they are no labelled images."""
    if labels is None:
        raise InputError("features are those of a classifier, which needs labels; this data set has none")
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim != 4 or len(images) == 0:
        raise InputError(f"a classifier of images takes [N, H, W, C], N >= 1; got shape {images.shape}")
    if labels.shape != (len(images),):
        raise InputError(f"{len(images):,} images need as many labels; got shape {labels.shape}")
    if num_classes < 2 or labels.min() < 0 or labels.max() >= num_classes:
        raise InputError(
            f"labels run from 0 to num_classes - 1, with 2 classes or more; got labels {labels.min()} to "
            f"{labels.max()} and num_classes = {num_classes}"
        )
    return images, labels.astype(np.int32)


def init(key: Key, shape: tuple[int, ...], num_classes: int) -> Classifier:
    """Random kernels of variance 2 / inputs (He et al. 2015), zero biases, for images [H, W, C].

    As many convolutions as bring the larger side to 8 or less, at least one.
    """
    height, width, channels = shape
    keys = iter(jax.random.split(key, 32))

    def layer(inputs: int, outputs: int) -> Layer:
        deviation = math.sqrt(2.0 / inputs)
        return Layer(deviation * jax.random.normal(next(keys), (inputs, outputs)), jnp.zeros(outputs))

    convolutions, outputs = [], FIRST_CHANNELS
    while not convolutions or max(height, width) > COARSEST:
        convolutions.append(layer(KERNEL * KERNEL * channels, outputs))
        height, width, channels, outputs = -(-height // STRIDE), -(-width // STRIDE), outputs, 2 * outputs
    return Classifier(
        tuple(convolutions), layer(height * width * channels, NUM_FEATURES), layer(NUM_FEATURES, num_classes)
    )


def patches(x: Array) -> Array:
    """The 3 x 3 neighbourhoods at every second pixel, f32[B, H, W, C] -> f32[B, ceil(H / 2), ceil(W / 2), 9 C].

    With a matrix product they are a convolution whose gradients are fast on a CPU inside a scan, where those of
    `lax.conv` are not.
    """
    height, width = (-(-side // STRIDE) for side in x.shape[1:3])
    x = jnp.pad(x, ((0, 0), (1, 2), (1, 2), (0, 0)))
    windows = [
        x[:, i : i + STRIDE * height : STRIDE, j : j + STRIDE * width : STRIDE]
        for i in range(KERNEL)
        for j in range(KERNEL)
    ]
    return jnp.concatenate(windows, axis=-1)


def shift(key: Key, images: Array, reach: int) -> Array:
    """Each image f32[B, H, W, C] moved by its own whole numbers of pixels, -reach to reach; zeros come in."""
    if not reach:
        return images
    padded = jnp.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    corners = jax.random.randint(key, (len(images), 2), 0, 2 * reach + 1)
    zero = jnp.zeros((), corners.dtype)
    crop = lambda image, corner: jax.lax.dynamic_slice(image, (corner[0], corner[1], zero), images.shape[1:])
    return jax.vmap(crop)(padded, corners)


def intensities(images: Array) -> Array:
    """Bytes as floats in [0, 1]; floats as they are."""
    return images.astype(jnp.float32) / 255 if images.dtype == jnp.uint8 else images
