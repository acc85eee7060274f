"""Witten-Bell smoothing against hand numbers, the recursion as it is written, and Markov chains of known entropy."""

import collections
import itertools
from fractions import Fraction

import numpy as np
import pytest

from genlab.errors import InputError
from genlab.evaluation.ngram import bits_per_token, probabilities, witten_bell


def of_next(model, context):
    """f64[K], the probability of every token after a context."""
    windows = np.array([(*context, k) for k in range(model.num_tokens)])
    return probabilities(model, windows)[:, -1]


def recursion(text, context, k, num_tokens):
    """The definition, in fractions, by reading the whole text at every level."""
    shorter = recursion(text, context[1:], k, num_tokens) if context else Fraction(1, num_tokens)
    m = len(context)
    following = [text[i + m] for i in range(len(text) - m) if tuple(text[i : i + m]) == tuple(context)]
    types = len(set(following))
    return (following.count(k) + types * shorter) / (len(following) + types) if following else shorter


def test_a_text_of_five_tokens_by_hand():
    """0 1 0 1 1 over three tokens. Of one token: n = 5, t = 2. After 0 stands 1 twice; after 1, 0 and 1 once each."""
    text = np.array([0, 1, 0, 1, 1])
    first = np.array([8, 11, 2]) / 21  # (2 + 2/3, 3 + 2/3, 2/3) / 7
    np.testing.assert_allclose(of_next(witten_bell(text, 0, 3), ()), first)
    model = witten_bell(text, 1, 3)
    np.testing.assert_allclose(of_next(model, ()), first)
    np.testing.assert_allclose(of_next(model, (0,)), (np.array([0, 2, 0]) + first) / 3)
    np.testing.assert_allclose(of_next(model, (1,)), (np.array([1, 1, 0]) + 2 * first) / 4)
    np.testing.assert_allclose(of_next(model, (2,)), first)  # 2 has not been seen
    # 1 at the start of a window, 2 after it; 2 at the start, 0 after it
    expected = -np.log2([11 / 21, 1 / 21, 2 / 21, 8 / 21]).mean()
    assert bits_per_token(model, np.array([[1, 2], [2, 0]])) == pytest.approx(expected)


@pytest.mark.parametrize("order", [0, 1, 2, 4])
def test_probabilities_are_those_of_the_recursion(order):
    """Token 3 of 4 is missing from the text, so some contexts of every length have not been seen."""
    rng = np.random.default_rng(order)
    text, windows = rng.integers(0, 3, 40), rng.integers(0, 4, (6, 7))
    found = probabilities(witten_bell(text.astype(np.int32), order, 4), windows.astype(np.int32))
    for (row, t), value in np.ndenumerate(found):
        context = tuple(windows[row, max(t - order, 0) : t])  # of its own window alone
        assert value == pytest.approx(float(recursion(text.tolist(), context, windows[row, t], 4)), rel=1e-12)


@pytest.mark.parametrize("length", [0, 1, 2, 30])
def test_probabilities_sum_to_one_after_every_context(length):
    """Contexts seen and not seen, of a text that is long, or shorter than they are."""
    model = witten_bell(np.random.default_rng(0).integers(0, 3, length), 3, 5)
    for m in range(5):
        for context in itertools.product(range(5), repeat=m):
            found = of_next(model, context)
            assert found.min() > 0
            assert found.sum() == pytest.approx(1, rel=1e-12)
    if not length:
        np.testing.assert_allclose(probabilities(model, np.array([[0, 4]])), 1 / 5)


def test_the_order_of_tokens_in_a_context_counts():
    text = np.tile([0, 1, 2, 1, 0, 3], 50)  # 2 follows 0 1, 0 follows 2 1
    model = witten_bell(text, 2, 4)
    assert of_next(model, (0, 1)).argmax() == 2
    assert of_next(model, (2, 1)).argmax() == 0


def test_bits_reach_the_entropy_of_a_markov_chain():
    """Bits of order m are H(X_t | m tokens before), which falls until m is 2, the order of the chain, and not after."""
    rng, num_tokens, length = np.random.default_rng(1), 3, 60_000
    transition = rng.dirichlet(np.full(num_tokens, 0.5), (num_tokens, num_tokens))  # [a, b, k] = p(k | a b)
    chain, uniform = [0, 0], rng.random(2 * length)
    cumulative = transition.cumsum(axis=-1)
    for u in uniform:
        chain.append(min(int(np.searchsorted(cumulative[chain[-2], chain[-1]], u)), num_tokens - 1))
    text, held_out = np.array(chain[:length]), np.array([chain[length:]])

    pairs = np.full((num_tokens, num_tokens), num_tokens**-2.0)
    for _ in range(1000):  # to the stationary p(a b)
        pairs = np.einsum("ab,abk->bk", pairs, transition)
    triples = pairs[..., None] * transition
    entropy = lambda p: -np.sum(p * np.log2(p))
    entropies = [
        entropy(pairs.sum(axis=0)), entropy(pairs) - entropy(pairs.sum(axis=0)), entropy(triples) - entropy(pairs)
    ]  # fmt: skip
    assert entropies[0] > entropies[1] + 0.05 > entropies[2] + 0.1
    for order, expected in enumerate([*entropies, entropies[2]]):
        assert bits_per_token(witten_bell(text, order, num_tokens), held_out) == pytest.approx(expected, abs=0.012)


def test_the_longest_context_that_its_numbers_hold():
    """128^9 = 2^63: the largest gram of order 8 is the largest i64."""
    text = np.array([127] * 9 + [0] + [127] * 9)
    model = witten_bell(text, 8, 128)
    contexts = collections.Counter(tuple(text[i : i + 8]) for i in range(len(text) - 8))
    assert dict(zip(model.counts[8].contexts, model.counts[8].totals, strict=True)) == {
        sum(int(k) * 128**j for j, k in enumerate(reversed(context))): count for context, count in contexts.items()
    }
    p = probabilities(model, text[None])
    assert p[0, 8] == pytest.approx(float(recursion(text.tolist(), (127,) * 8, 127, 128)), rel=1e-12)


def test_impossible_requests_are_refused():
    text = np.array([0, 1, 2])
    for order in (-1, 9):
        with pytest.raises(InputError, match=f"order is {order}; it must be at least 0"):
            witten_bell(text, order, 128)
    with pytest.raises(InputError, match=r"tokens lie between 0 and 2; they must lie in \[0, 2\)"):
        witten_bell(text, 1, 2)
    with pytest.raises(InputError, match="tokens lie between -1 and 0"):
        probabilities(witten_bell(text, 1, 3), np.array([[-1, 0]]))
