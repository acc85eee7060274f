"""Learning from few labels, on Gaussian classes whose best accuracy is known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from genlab.algorithm import Algorithm, new_player, new_state
from genlab.data import prepare
from genlab.data.lazy import Rows
from genlab.errors import InputError
from genlab.evaluation import few_labels

KEY = jax.random.key(0)
SIGNAL = 1.5  # the classes' means are at plus and minus this many standard deviations


@pytest.fixture
def quick(monkeypatch):
    """Fewer things to choose from."""
    monkeypatch.setattr(few_labels, "LEARNING_RATES", (3e-3,))
    monkeypatch.setattr(few_labels, "PENALTIES", (0.1, 1.0))


def points(seed, num, signal=SIGNAL):
    """Two classes that differ in the second of two numbers; no classifier is better than Phi(signal)."""
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.arange(num, dtype=np.int32) % 2)
    x = rng.normal(size=(num, 2)) + np.outer(2 * label - 1, [0.0, signal])
    return {"x": x.astype(np.float32), "label": label}


TRAIN, VALIDATION, TEST = points(0, 3000), points(1, 1000), points(2, 4000)


def model(encode):
    return Algorithm(*[None] * 4, encode=encode, decode=None, log_prob=None, density="none")


def state_of(params, average=None):
    return new_state({"it": new_player(params, optax.identity())}, average and {"it": average})


def gate(state, batch, key):
    """The signal, through two gates: at zero neither has a gradient, so an encoder that is shut stays shut."""
    gates = state.players["it"].params
    return gates["a"] * gates["b"] * batch["x"][:, 1:]


def gates(value):
    return state_of({"a": jnp.asarray(value), "b": jnp.asarray(value)})


def block_of(algorithm, pretrained, untrained, num_labels=(100,), splits=(TRAIN, VALIDATION, TEST), key=KEY, **other):
    arguments = dict(prepare=prepare, key=key, batch_size=1000, num_classes=2) | other
    return few_labels.few_labels_block(algorithm, pretrained, untrained, *splits, num_labels, **arguments)


def test_the_accuracies_are_those_of_the_closed_form(quick):
    train = {name: Rows(values, np.arange(3000)) for name, values in TRAIN.items()}
    shown = []
    block = block_of(model(gate), gates(1.0), gates(0.0), (10, 200), (train, VALIDATION, TEST), show=shown.append)
    kinds = ("accuracy", "scratch_accuracy", "frozen_accuracy", "gain")
    assert set(block) == {f"{kind}_{num}_labels" for kind in kinds for num in (10, 200)} and shown == [1, 2]
    for num in (10, 200):
        ours, scratch, frozen, gain = (block[f"{kind}_{num}_labels"] for kind in kinds)
        assert scratch["value"] == 0.5  # of a code that is always 0
        for number in (ours, frozen):
            np.testing.assert_allclose(number["value"], norm.cdf(SIGNAL), atol=0.02)
            p = number["value"]
            np.testing.assert_allclose(number["standard_error"], np.sqrt(p * (1 - p) / 3999), rtol=1e-6)
        np.testing.assert_allclose(gain["value"], ours["value"] - 0.5, rtol=1e-12)
        # they differ on one half of the examples, whichever class is always said: E[d^2] = 1/2
        np.testing.assert_allclose(gain["standard_error"], np.sqrt((0.5 - gain["value"] ** 2) / 4000), rtol=0.05)
        for number in (ours, scratch, frozen, gain):
            fields = {name: number[name] for name in ("split", "n", "num_labels", "n_validation")}
            assert fields == {"split": "test", "n": 4000, "num_labels": num, "n_validation": 1000}
        assert frozen["C"] in few_labels.PENALTIES
        assert ours["start"] in ("zero", "logistic regression") and ours["steps"] <= few_labels.NUM_STEPS


NOISE, WORTHLESS = {"kernel": jnp.array([[0.1], [0.0]])}, {"kernel": jnp.full((2, 1), jnp.nan)}


def read_params(state, batch, key):
    return batch["x"] @ state.players["it"].params["kernel"]


def read_average(state, batch, key):
    return batch["x"] @ state.average["it"]["kernel"]


@pytest.mark.parametrize(
    ("encode", "state"),
    [
        (read_params, state_of(NOISE)),
        (read_average, state_of(WORTHLESS, NOISE)),  # fine-tuning starts at the average
        (read_params, state_of(WORTHLESS, NOISE)),
    ],
)
def test_fine_tuning_moves_the_encoder(quick, encode, state):
    """The code is the number in which the classes do not differ; only the encoder can turn to the other."""
    block = block_of(model(encode), state, state, (400,))
    np.testing.assert_allclose(block["frozen_accuracy_400_labels"]["value"], 0.5, atol=0.03)
    np.testing.assert_allclose(block["accuracy_400_labels"]["value"], norm.cdf(SIGNAL), atol=0.01)
    # the two arms see the same examples in the same order, from the same key
    assert block["scratch_accuracy_400_labels"]["value"] == block["accuracy_400_labels"]["value"]
    assert block["gain_400_labels"]["value"] == block["gain_400_labels"]["standard_error"] == 0


def test_what_is_not_trained_stays():
    state = few_labels.with_weights(gates(1.0), few_labels.weights_of(gates(3.0)))
    assert state.players["it"].params == {"a": 3.0, "b": 3.0} and state.average == {}
    before = new_state({"it": new_player({"w": 1.0}, optax.identity(), {"mean": 2.0})}, {"it": {"w": 5.0}}, {"pool": 7})
    after = few_labels.with_weights(before, {"it": {"w": 9.0}})
    assert few_labels.weights_of(before) == {"it": {"w": 5.0}}
    assert after.players["it"].params == after.average["it"] == {"w": 9.0}
    assert (after.players["it"].stats, after.memory) == ({"mean": 2.0}, {"pool": 7})


def test_the_test_split_takes_no_part_in_any_choice(quick):
    """So with its labels turned round, what was right is wrong, and nothing else has changed."""
    states = state_of({"kernel": jnp.eye(2)}), state_of({"kernel": jnp.full((2, 3), 0.1)})
    turned = {**TEST, "label": 1 - TEST["label"]}
    block, other = (block_of(model(read_params), *states, splits=(TRAIN, VALIDATION, test)) for test in (TEST, turned))
    for kind in ("accuracy", "scratch_accuracy", "frozen_accuracy"):
        name = f"{kind}_100_labels"
        np.testing.assert_allclose(other[name].pop("value"), 1 - block[name].pop("value"), rtol=1e-12)
        np.testing.assert_allclose(other[name].pop("standard_error"), block[name].pop("standard_error"), rtol=1e-12)
        assert block[name] == other[name]
    assert block["accuracy_100_labels"]["learning_rate"] > 0


def test_both_arms_learn_from_the_same_balanced_training_examples(quick, monkeypatch):
    seen = []
    compile_steps = few_labels.compile_steps

    def spied(*arguments):
        take_steps = compile_steps(*arguments)

        def take(state, labelled, *rest):
            seen.append((float(state.players["it"].params["a"]), labelled))
            return take_steps(state, labelled, *rest)

        return take

    monkeypatch.setattr(few_labels, "compile_steps", spied)
    for key in (KEY, KEY, jax.random.key(1)):
        block_of(model(gate), gates(1.0), gates(0.0), (20,), key=key)
    ours, theirs = ([labelled for a, labelled in seen if a == value] for value in (1.0, 0.0))
    assert ours and theirs
    known = {tuple(x): label for x, label in zip(TRAIN["x"], TRAIN["label"], strict=True)}
    drawn = []
    for labelled in (*ours, *theirs):
        assert labelled["label"].tolist() == [known[tuple(x)] for x in labelled["x"]]  # KeyError: not of train
        assert np.bincount(labelled["label"]).tolist() == [10, 10]
        drawn.append(labelled["x"].tobytes())
    assert len({*drawn[: len(ours)]}) == len({*drawn[len(ours) :]}) == len({*drawn}) == 2  # one a key


def test_a_balanced_order():
    labels = np.repeat(np.array([0, 1, 2], np.int32), [50, 3, 40])
    order = few_labels.balanced_order(labels, KEY)
    assert sorted(order) == list(range(93))
    for num in range(94):
        counts = np.bincount(labels[order[:num]], minlength=3)
        plenty = counts[[0, 2]] if counts[1] == 3 else counts
        assert max(plenty) - min(plenty) <= 1 or counts[2] == 40, num
    np.testing.assert_array_equal(order, few_labels.balanced_order(labels, KEY))
    assert set(order[:9]) != set(few_labels.balanced_order(labels, jax.random.key(1))[:9])


@pytest.mark.parametrize("present", [[0, 1, 2], [0, 2], [0, 1]])
def test_the_probe_is_scikit_learns_at_the_penalty_that_validation_prefers(present):
    rng = np.random.default_rng(0)
    labels = np.array(present, np.int32)[np.arange(60) % len(present)]
    codes = (rng.normal(size=(60, 4)) * [1, 2, 3, 4] + 5 + labels[:, None]).astype(np.float32)
    zero = few_labels.at_zero({}, codes, 3)
    wanted = 0.1
    strength = LogisticRegression(C=wanted, max_iter=1000).fit(
        codes_z := (codes - codes.mean(0)) / codes.std(0), labels
    )
    size = np.square(strength.coef_).sum()
    near = lambda fitted: -abs(int(1e4 * (np.square(fitted.kernel).sum() - size)))
    probe, choice = few_labels.fit_probe(zero, codes, labels, near)
    assert choice == {"C": wanted}
    state = new_state({})
    batch = {"x": jnp.asarray(codes)}
    scores = few_labels.logits(lambda state, batch, key: batch["x"], state, probe, batch, KEY)
    probabilities = np.asarray(jax.nn.softmax(scores))
    np.testing.assert_allclose(probabilities[:, present], strength.predict_proba(codes_z), atol=1e-3)
    assert probabilities[:, [c for c in range(3) if c not in present]].sum() < 1e-6


def test_dimensions_that_hardly_vary_are_not_blown_up():
    deviations = np.array([3.0, 1e-6, 0.0, 1.0])
    codes = np.array([[1.0], [-1.0]]) * deviations + 2.0
    zero = few_labels.at_zero({}, codes.astype(np.float32), 3)
    least = few_labels.LEAST_SCALE * np.sqrt(10 / 4)
    np.testing.assert_allclose(zero.scale, [3.0, least, least, 1.0], rtol=1e-5)
    np.testing.assert_allclose(zero.centre, 2.0, rtol=1e-6)
    np.testing.assert_array_equal(few_labels.at_zero({}, np.ones((4, 2), np.float32), 3).scale, 1.0)


def fine_tune(right):
    """What is chosen where `right` tells how many are right, from (start, learning rate, steps)."""
    taken = []

    def classifier(*at):  # whose centre says where it comes from
        return few_labels.Classifier({}, np.zeros((1, 2)), np.zeros(2), centre=at, scale=None)

    def take_steps(model, moments, learning_rate, key):
        name, _, steps = model.centre
        taken.append(at := (name, learning_rate, steps + few_labels.STEPS_PER_CHECK))
        return classifier(*at), moments

    starts = {name: classifier(name, None, 0) for name in ("zero", "probe")}
    best, choice = few_labels.fine_tune(take_steps, starts, lambda model: right(*model.centre), KEY)
    return best.centre, choice, taken


@pytest.mark.parametrize("peak", [("zero", 3e-3, 300), ("probe", 3e-4, 25), ("probe", 1e-3, 150)])
def test_the_best_classifier_is_found_and_said(peak):
    """Right for the longer and the nearer to the peak: no learning rate is given up before it."""
    worth = lambda name, rate, steps: 1000 * ((name, rate, steps) == peak) + steps
    best, choice, taken = fine_tune(worth)
    assert best == peak and choice == dict(zip(("start", "learning_rate", "steps"), peak, strict=True))
    assert len(taken) == len(set(taken))


def test_a_learning_rate_that_only_harms_is_given_up():
    best, choice, taken = fine_tune(lambda name, rate, steps: (10 if name == "probe" else 0) - steps)
    assert best == ("probe", None, 0) and choice["steps"] == 0  # as logistic regression left it
    assert max(steps for _, _, steps in taken) == few_labels.PATIENCE_STEPS
    assert len(taken) == 2 * len(few_labels.LEARNING_RATES) * few_labels.PATIENCE_STEPS / few_labels.STEPS_PER_CHECK


@pytest.mark.parametrize(
    ("num_labels", "num_validation", "say"),
    [(3001, 10, "3,001 labelled .* 3,000"), (1, 10, "1 labelled .* 2, one"), (10, 0, "validation split")],
)
def test_what_cannot_be_asked_for(num_labels, num_validation, say):
    validation = {name: values[:num_validation] for name, values in VALIDATION.items()}
    with pytest.raises(InputError, match=say) as raised:
        block_of(model(gate), gates(1.0), gates(0.0), (num_labels,), (TRAIN, validation, TEST))
    assert "\n" not in str(raised.value)


def test_without_codes_or_labels_there_is_nothing_to_say():
    assert block_of(model(None), gates(1.0), gates(0.0)) is None
    bare = {"x": TEST["x"]}
    assert block_of(model(gate), gates(1.0), gates(0.0), splits=(bare, bare, bare)) is None
