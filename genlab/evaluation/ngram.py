"""What a table of counts says of the next token: the baseline of every model of text.

An n-gram model of order m predicts a token k from the m tokens before it, its context c. Witten and Bell interpolate

    p_m(k | c) = (n(c k) + t(c) p_{m-1}(k | c')) / (n(c) + t(c)),    p_{-1}(k) = 1 / K

n(c k) counts how often k follows c in the training text, n(c) = sum_k n(c k), t(c) is the number of distinct tokens
that follow c, and c' is c without its first token. Each of those t(c) tokens was new to c once, so t / (n + t) is
the probability that the next is new as well, and what is new is drawn from the shorter context. A context that never
occurs in the training text leaves p_{m-1} as it is.

Reference: Witten & Bell 1991, "The zero-frequency problem", method C; Chen & Goodman 1998, "An empirical study of
smoothing techniques for language modeling", section 2.5.
"""

from typing import NamedTuple

import numpy as np

from genlab.errors import InputError


class Counts(NamedTuple):
    """Of all contexts of m tokens; a sequence of tokens is written as one number in base K, the latest its last digit.

    Attributes:
        grams: i64[G], ascending, contexts with their next token.
        occurrences: i64[G], n(c k) of each.
        contexts: i64[C], ascending.
        totals: i64[C], n(c) of each.
        types: i64[C], t(c) of each.
    """

    grams: np.ndarray
    occurrences: np.ndarray
    contexts: np.ndarray
    totals: np.ndarray
    types: np.ndarray


class NGram(NamedTuple):
    """An n-gram model.

    Attributes:
        num_tokens: K.
        counts: of contexts of 0, 1, ... tokens.
    """

    num_tokens: int
    counts: tuple[Counts, ...]


def witten_bell(text: np.ndarray, order: int, num_tokens: int) -> NGram:
    """The model of a text.

    Args:
        text: i[N], tokens in [0, K).
        order: tokens of context, at least 0 and such that K^(order + 1) <= 2^63.
        num_tokens: K.

    Raises:
        InputError: tokens or an order out of range.
    """
    if not (order >= 0 and num_tokens ** (order + 1) <= 2**63):
        raise InputError(f"order is {order}; it must be at least 0, and {num_tokens}^(order + 1) at most 2^63")
    text = _checked(text, num_tokens)
    counts, grams = [], np.zeros(len(text) + 1, np.int64)  # of no tokens at all
    for m in range(min(order + 1, len(text))):
        grams = grams[:-1] * num_tokens + text[m:]  # [N - m], those of m + 1 tokens by where they begin
        distinct, occurrences = np.unique(grams, return_counts=True)
        contexts, first, types = np.unique(distinct // num_tokens, return_index=True, return_counts=True)
        totals = np.add.reduceat(occurrences, first)
        counts.append(Counts(distinct, occurrences, contexts, totals, types))
    return NGram(num_tokens, tuple(counts))


def probabilities(model: NGram, windows: np.ndarray) -> np.ndarray:
    """The probability of every token given those before it in its window.

    Args:
        model: of order m.
        windows: i[M, T], tokens in [0, K). Of the first m tokens of a window the context is shorter.

    Returns:
        f64[M, T], each in (0, 1).

    Raises:
        InputError: tokens out of range.
    """
    windows = _checked(windows, model.num_tokens)
    p = np.full(windows.shape, 1 / model.num_tokens)
    grams = np.zeros((len(windows), windows.shape[1] + 1), np.int64)
    for m, counts in enumerate(model.counts):
        grams = grams[:, :-1] * model.num_tokens + windows[:, m:]  # [M, T - m]
        contexts = grams // model.num_tokens
        occurrences = _look_up(counts.grams, counts.occurrences, grams)
        total = _look_up(counts.contexts, counts.totals, contexts)
        types = _look_up(counts.contexts, counts.types, contexts)
        shorter = p[:, m:]
        smoothed = (occurrences + types * shorter) / np.maximum(total + types, 1)
        p[:, m:] = np.where(total > 0, smoothed, shorter)
    return p


def bits_per_token(model: NGram, windows: np.ndarray) -> float:
    """Mean -log2 of `probabilities` over all tokens of all windows i[M, T]."""
    return float(-np.log2(probabilities(model, windows)).mean())


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The value of each wanted key; 0 of a key that there is none of."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)


def _checked(tokens: np.ndarray, num_tokens: int) -> np.ndarray:
    tokens = np.asarray(tokens, np.int64)
    if tokens.size and not (tokens.min() >= 0 and tokens.max() < num_tokens):
        raise InputError(f"tokens lie between {tokens.min()} and {tokens.max()}; they must lie in [0, {num_tokens})")
    return tokens
