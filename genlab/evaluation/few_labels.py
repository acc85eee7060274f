"""What unsupervised training is worth where labels are few: the same network, with it and without it.

For every number of labels n, three classifiers, a softmax-linear layer on the codes, learn from the same n examples:

    frozen        logistic regression on the codes of the trained encoder
    pretrained    the trained encoder and the layer, fine-tuned together
    scratch       the encoder as it was before training, and the layer, trained in the same way

Whatever there is to choose is chosen on the validation split, for each of the three: the penalty of logistic
regression; of the others the learning rate, the number of steps, and whether the layer starts at zero or at logistic
regression. From zero, the first gradients spoil what an encoder has learnt; one that has learnt nothing often fares
better so. The test split is seen once by each, at the end.

Reference: Erhan et al. 2010, "Why does unsupervised pre-training help deep learning?"; Kumar et al. 2022, "Fine-tuning
can distort pretrained features and underperform out-of-distribution" (the two starts).
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from genlab.algorithm import Algorithm, Array, Batch, Key, PyTree, State
from genlab.errors import InputError
from genlab.evaluation.held_out import mean_and_error, over_split

Number = dict[str, Any]
Split = Mapping[str, Any]
Encode = Callable[[State, Batch, Key], Array]

MAX_VALIDATION_EXAMPLES = 2_000
LEARNING_RATES = (3e-4, 1e-3, 3e-3)  # of Adam
NUM_STEPS = 300
STEPS_PER_CHECK = 25  # between looks at the validation split
PATIENCE_STEPS = 100  # without a better look, after which a learning rate is given up
MAX_MINIBATCH = 100  # labelled examples in a step
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # C of logistic regression
LEAST_SCALE = 0.1  # of a dimension, of the dimensions' root mean square: what never varied here may vary elsewhere
UNSEEN = -30.0  # logit of a class that has no labelled example


class Classifier(NamedTuple):
    """Weights of an encoder, and a softmax-linear layer on its standardised codes; a pytree.

    Attributes:
        weights: of the encoder, by player; see `weights_of`.
        kernel, bias: f32[D, C], f32[C].
        centre, scale: f32[D], moments of the codes before anything was fine-tuned.
    """

    weights: dict[str, PyTree]
    kernel: Any
    bias: Any
    centre: Any
    scale: Any


def few_labels_block(
    algorithm: Algorithm,
    pretrained: State,
    untrained: State,
    train: Split,
    validation: Split,
    test: Split,
    num_labels: Sequence[int],
    prepare: Callable[[Any], Any],
    key: Key,
    batch_size: int,
    num_classes: int,
    show: Callable[[int], None] = lambda done: None,
) -> dict[str, Number] | None:
    """Test accuracy with n labels, of an encoder with and without its unsupervised training.

    Args:
        algorithm: with `encode`, which is differentiated in the parameters of all players; statistics and memory stay,
            so that batch norm of the untrained has those of its first state.
        pretrained, untrained: states of it. Of a player with a moving average, the average is where fine-tuning starts.
        train, validation, test: raw examples as the model was trained to see them, with labels. Of validation the
            first MAX_VALIDATION_EXAMPLES are used.
        num_labels: every n.
        prepare: raw batch -> batch.
        key: of the choice of labelled examples, of minibatches and of the encoder's draws, the same for all
            classifiers. Of two n, the larger's examples contain the smaller's.
        batch_size: examples in a chunk of the evaluation.
        num_classes: labels are 0, ..., num_classes - 1.
        show: told how many n are done.

    Returns:
        For every n `accuracy_{n}_labels`, `scratch_accuracy_{n}_labels` and `frozen_accuracy_{n}_labels`, in [0, 1],
        and `gain_{n}_labels`, the first less the second, with the standard error of paired differences. None without
        codes or labels.

    Raises:
        InputError: fewer training examples than labels asked for, fewer labels than classes, no validation examples.
    """
    encode = algorithm.encode
    if encode is None or not {"label"} <= set(train) & set(validation) & set(test):
        return None
    check(num_labels, len(train["x"]), len(validation["x"]), num_classes)
    key_examples, key_codes, key_batches = jax.random.split(key, 3)
    order = balanced_order(labels_of(train), key_examples)
    held_out = rows(validation, np.arange(min(len(validation["x"]), MAX_VALIDATION_EXAMPLES)))
    encode_split = over_split(encode, prepare, batch_size)
    take_steps = compile_steps(encode, prepare, key_codes)
    predict = over_split(
        lambda known, batch, key: jnp.argmax(logits(encode, *known, batch, key), axis=1), prepare, batch_size
    )

    def right(state: State, model: Classifier, split: Split) -> np.ndarray:
        return predict((state, model), split, key_codes) == labels_of(split)

    def learn(state: State, labelled: Split) -> tuple[tuple[np.ndarray, Number], tuple[np.ndarray, Number]]:
        """Of the probe and of the fine-tuned: which test examples are right, and what was chosen."""
        state = jax.device_put(with_weights(state, weights_of(state)))
        num_right = lambda model: int(right(state, model, held_out).sum())
        codes = encode_split(state, labelled, key_codes)
        zero = at_zero(weights_of(state), codes, num_classes)
        probe, penalty = fit_probe(zero, codes, labels_of(labelled), num_right)
        tuned, choice = fine_tune(
            lambda *args: take_steps(state, labelled, *args),
            {"zero": zero, "logistic regression": probe},
            num_right,
            key_batches,
        )
        return (right(state, probe, test), penalty), (right(state, tuned, test), choice)

    block: dict[str, Number] = {}
    for done, num in enumerate(num_labels):
        labelled = rows(train, order[:num])
        protocol = {"split": "test", "n": len(test["x"]), "num_labels": num, "n_validation": len(held_out["x"])}
        (frozen, penalty), (ours, our_choice) = learn(pretrained, labelled)
        _, (theirs, their_choice) = learn(untrained, labelled)
        for name, values, estimator, choice in (
            ("accuracy", ours, "pretrained encoder, fine-tuned", our_choice),
            ("scratch_accuracy", theirs, "untrained encoder, trained in the same way", their_choice),
            ("frozen_accuracy", frozen, "logistic regression on frozen codes", penalty),
            ("gain", ours.astype(np.float64) - theirs, "accuracy with pretraining less that without", {}),
        ):
            value, error = mean_and_error(values)
            number = {"value": value, "standard_error": error, **protocol, "estimator": estimator, **choice}
            block[f"{name}_{num}_labels"] = number
        show(done + 1)
    return block


def check(num_labels: Sequence[int], num_train: int, num_validation: int, num_classes: int) -> None:
    """Raises InputError unless so many examples can be labelled and there are some to choose by."""
    for num in num_labels:
        if not num_classes <= num <= num_train:
            raise InputError(
                f"{num:,} labelled examples asked for; it must be {num_classes}, one of every class, "
                f"to {num_train:,}, all of the training split"
            )
    if num_labels and not num_validation:
        raise InputError("learning from few labels is tuned on the validation split, which is empty: hold some out")


def balanced_order(labels: np.ndarray, key: Key) -> np.ndarray:
    """i64[N], an order of the examples i32[N] in which the first n, for any n, are spread evenly over the classes.

    Every round takes an example of each class that has any left; the key says which, and who comes first.
    """
    order = np.asarray(jax.random.permutation(key, len(labels)))
    rounds = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        mine = np.flatnonzero(labels[order] == label)
        rounds[mine] = np.arange(len(mine))
    return order[np.argsort(rounds, kind="stable")]


def rows(split: Split, index: np.ndarray) -> dict[str, np.ndarray]:
    """These examples of a split, in memory."""
    return {name: np.asarray(values[index]) for name, values in split.items()}


def labels_of(split: Split) -> np.ndarray:
    """i32[N], in memory."""
    return np.asarray(split["label"][np.arange(len(split["label"]))])


def weights_of(state: State) -> dict[str, PyTree]:
    """By player, the parameters that a model is judged by: their moving average where there is one."""
    return {name: player.params for name, player in state.players.items()} | state.average


def with_weights(state: State, weights: Mapping[str, PyTree]) -> State:
    """The state with these for parameters and for their moving averages: `encode` may read either."""
    players = {name: dataclasses.replace(player, params=weights[name]) for name, player in state.players.items()}
    return dataclasses.replace(state, players=players, average={name: weights[name] for name in state.average})


def at_zero(weights: dict[str, PyTree], codes: np.ndarray, num_classes: int) -> Classifier:
    """The classifier that knows nothing, for codes like these f32[N, D]."""
    deviation = codes.std(axis=0, dtype=np.float64)
    scale = np.maximum(deviation, LEAST_SCALE * np.sqrt(np.mean(np.square(deviation))))
    scale = np.where(scale > 0, scale, 1.0).astype(np.float32)
    kernel = np.zeros((codes.shape[1], num_classes), np.float32)
    return Classifier(weights, kernel, kernel[0], codes.mean(axis=0).astype(np.float32), scale)


def logits(encode: Encode, state: State, model: Classifier, batch: Batch, key: Key) -> Array:
    """f32[B, C]; of the state only what is not trained counts."""
    codes = encode(with_weights(state, model.weights), batch, key).astype(jnp.float32)
    return (codes - model.centre) / model.scale @ model.kernel + model.bias


def fit_probe(
    zero: Classifier, codes: np.ndarray, labels: np.ndarray, num_right: Callable[[Classifier], int]
) -> tuple[Classifier, Number]:
    """The best logistic regression on codes f32[N, D] and labels i32[N], over the penalties, and which it was.

    Args:
        zero: whose layer is fitted.
        codes, labels: of the labelled examples.
        num_right: of a classifier, on the validation split; the first of equals wins.
    """
    from sklearn.linear_model import LogisticRegression

    fits = {}
    for penalty in PENALTIES:
        fit = LogisticRegression(C=penalty, max_iter=1000).fit((codes - zero.centre) / zero.scale, labels)
        kernel, bias = zero.kernel.copy(), np.full_like(zero.bias, UNSEEN)
        # of two classes there is one row of coefficients, of the second's logit over the first's
        pad = len(fit.classes_) - len(fit.intercept_)
        kernel[:, fit.classes_] = np.pad(fit.coef_, ((pad, 0), (0, 0))).T
        bias[fit.classes_] = np.pad(fit.intercept_, (pad, 0))
        fits[penalty] = zero._replace(kernel=kernel, bias=bias)
    best = max(fits, key=lambda penalty: num_right(fits[penalty]))
    return fits[best], {"C": best}


def compile_steps(encode: Encode, prepare: Callable[[Any], Any], key_codes: Key) -> Callable[..., Any]:
    """Compiles (state, raw labelled examples, model, Adam's moments, learning rate, key) -> (model, moments).

    It takes STEPS_PER_CHECK steps on the cross-entropy, in the encoder's weights and the layer.
    """

    @jax.jit
    def take_steps(
        state: State, labelled: Split, model: Classifier, moments: PyTree, learning_rate: Any, key: Key
    ) -> tuple[Classifier, PyTree]:
        examples, num = prepare(labelled), len(labelled["label"])

        def loss_fn(trained: PyTree, chosen: Array) -> Array:
            weights, kernel, bias = trained
            batch = jax.tree.map(lambda values: values[chosen], examples)
            now = model._replace(weights=weights, kernel=kernel, bias=bias)
            labels = jnp.asarray(labelled["label"])[chosen]
            scores = logits(encode, state, now, batch, key_codes)
            return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(scores, labels))

        def step(carry: tuple[PyTree, PyTree], key: Key) -> tuple[tuple[PyTree, PyTree], None]:
            trained, moments = carry
            chosen = jax.random.permutation(key, num)[:MAX_MINIBATCH] if num > MAX_MINIBATCH else jnp.arange(num)
            gradients = jax.grad(loss_fn)(trained, chosen)
            with jax.numpy_dtype_promotion("standard"):  # optax takes float powers of an integer count
                updates, moments = optax.scale_by_adam().update(gradients, moments)
            trained = jax.tree.map(lambda leaf, update: leaf - learning_rate * update, trained, updates)
            return (trained, moments), None

        keys = jax.random.split(key, STEPS_PER_CHECK)
        start = (model.weights, model.kernel, model.bias)
        ((weights, kernel, bias), moments), _ = jax.lax.scan(step, (start, moments), keys)
        return model._replace(weights=weights, kernel=kernel, bias=bias), moments

    return take_steps


def fine_tune(
    take_steps: Callable[..., Any],
    starts: Mapping[str, Classifier],
    num_right: Callable[[Classifier], int],
    key: Key,
) -> tuple[Classifier, Number]:
    """The best classifier over all starts, learning rates and numbers of steps, and which it was.

    Args:
        take_steps: (model, Adam's moments, learning rate, key) -> (model, moments).
        starts: by name.
        num_right: of a classifier, on the validation split; the first of equals wins.
        key: of the minibatches.
    """
    best, choice, most = None, {}, -1
    for (start, model), learning_rate in itertools.product(starts.items(), LEARNING_RATES):
        moments = optax.scale_by_adam().init((model.weights, model.kernel, model.bias))
        most_here, when = -1, 0
        for steps in range(0, NUM_STEPS + 1, STEPS_PER_CHECK):
            if steps:
                model, moments = take_steps(model, moments, learning_rate, jax.random.fold_in(key, steps))
            now = num_right(model)
            if now > most:
                best, most = model, now
                choice = {"start": start, "learning_rate": learning_rate, "steps": steps}
            if now > most_here:
                most_here, when = now, steps
            elif steps - when >= PATIENCE_STEPS:
                break
    assert best is not None
    return best, choice
