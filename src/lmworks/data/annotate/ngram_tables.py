"""Interpolated Kneser-Ney n-gram models of symbols, as sorted arrays (Chen & Goodman 1999, section 4.1; one discount an
order, Ney et al. 1994).

    p_k(w | c) = max(n_k(c w) - D_k, 0) / n_k(c ·) + weight_k(c) p_{k-1}(w | c without its oldest symbol)

n_k is the number of occurrences for the longest n-grams, and for shorter ones the number of different symbols that they
were seen behind; weight_k(c) is what the first term leaves over, so that probabilities add up to 1. Below p_1 all
symbols are equally likely.

A symbol is a number from 1; 0 stands for what is before the beginning of a text. An n-gram is one number: its newest
symbol in the highest bits, its oldest in the lowest. So an n-gram without its oldest symbol is a shift away, and what
is sorted stays so.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Grams = NDArray[np.uint64]

_LEAST_DISCOUNT, _MOST_DISCOUNT = 0.1, 0.9  # where there are too few n-grams to tell


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """A model of `order`, of symbols of `bits` bits.

    unigrams  (symbols,) float64: p_1, 0 for the beginning.
    grams     Of orders 2 to `order`, (n,) uint64 each, sorted.
    shares    The first term of the formula for each of them, float32.
    weights   weight_{k+1} of each n-gram of orders 1 to `order` - 1 as a context, float32; of order 1, of each symbol.
    """

    order: int
    bits: int
    unigrams: NDArray[np.float64]
    grams: tuple[Grams, ...]
    shares: tuple[NDArray[np.float32], ...]
    weights: tuple[NDArray[np.float32], ...]

    def log_probabilities(self, texts: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
        """(all symbols,) ln p of each symbol of each text, given those before it in its text, one text after another.
        What a text gets does not depend on the others."""
        keys, is_start = text_grams(texts, self.order, self.bits)
        # Looking up what is sorted reads the tables from their beginning to their end: several times faster.
        arrangement = np.argsort(keys)
        ordered = keys[arrangement]
        newest = (keys >> np.uint64(self.bits * (self.order - 1))).astype(np.int64)
        found, weight = self.unigrams[newest], self.weights[0][newest].astype(np.float64)
        for place, (grams, shares) in enumerate(zip(self.grams, self.shares, strict=True)):
            length = place + 2
            rows, is_known = _find(grams, ordered >> np.uint64(self.bits * (self.order - length)))
            share = np.empty(len(keys))
            share[arrangement] = _take(shares, rows, is_known, 0.0)
            found[1:] = share[1:] + weight[:-1] * found[1:]  # the context of a symbol ends at the symbol before it
            if length < self.order:
                weight = np.empty(len(keys))
                weight[arrangement] = _take(self.weights[place + 1], rows, is_known, 1.0)
        return np.log(found[~is_start])


def text_grams(texts: Sequence[NDArray[np.int64]], order: int, bits: int) -> tuple[Grams, NDArray[np.bool_]]:
    """The longest n-gram that ends at each symbol, and before those of each text the one that ends before its
    beginning, which is 0; and which of them are such."""
    padded = np.concatenate([each for text in texts for each in (np.zeros(order, np.int64), text)] or [np.zeros(0)])
    symbols = padded.astype(np.uint64)
    keys = np.zeros(len(symbols), np.uint64)
    for back in range(min(order, len(symbols))):
        keys[back:] |= symbols[: len(symbols) - back] << np.uint64(bits * (order - 1 - back))
    lengths = np.array([len(text) for text in texts], np.int64)
    starts = np.concatenate(([0], np.cumsum(lengths + order)))[:-1] + order - 1
    is_start = np.zeros(len(symbols), bool)
    is_start[starts] = True
    is_inside = np.ones(len(symbols), bool)
    for back in range(1, order):
        is_inside[starts - back] = False
    return keys[is_inside], is_start[is_inside]


def _find(grams: Grams, wanted: Grams) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where each wanted n-gram is, and whether it is there at all."""
    if not len(grams):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    rows = np.minimum(np.searchsorted(grams, wanted), len(grams) - 1)
    return rows, grams[rows] == wanted


def _take(
    values: NDArray[np.float32], rows: NDArray[np.int64], is_known: NDArray[np.bool_], otherwise: float
) -> NDArray[np.float64]:
    return np.where(is_known, values[rows], otherwise) if len(values) else np.full(len(rows), otherwise)


# ---------------------------------------------------------------------------------------------------------------------
# Counting


def count_grams(batches: Iterable[Grams]) -> tuple[Grams, NDArray[np.int64]]:
    """Different n-grams, sorted, and how often each occurs. Memory follows the different ones: batches are added up as
    soon as there is another one of about their size, so that each n-gram is moved a few times only."""
    runs: list[tuple[Grams, NDArray[np.int64]]] = []
    for batch in batches:
        if not len(batch):
            continue
        grams, counts = np.unique(batch, return_counts=True)
        runs.append((grams, counts.astype(np.int64)))
        while len(runs) > 1 and 2 * len(runs[-1][0]) > len(runs[-2][0]):
            runs.append(_add(runs.pop(), runs.pop()))
    while len(runs) > 1:
        runs.append(_add(runs.pop(), runs.pop()))
    return runs[0] if runs else (np.zeros(0, np.uint64), np.zeros(0, np.int64))


def _add(
    first: tuple[Grams, NDArray[np.int64]], second: tuple[Grams, NDArray[np.int64]]
) -> tuple[Grams, NDArray[np.int64]]:
    grams, counts = np.concatenate((first[0], second[0])), np.concatenate((first[1], second[1]))
    arrangement = np.argsort(grams, kind="stable")  # which merges what is sorted already
    grams, counts = grams[arrangement], counts[arrangement]
    starts = np.flatnonzero(np.concatenate(([True], grams[1:] != grams[:-1])))
    return grams[starts], np.add.reduceat(counts, starts)


# ---------------------------------------------------------------------------------------------------------------------
# From counts to probabilities


def smooth(grams: Grams, counts: NDArray[np.int64], order: int, bits: int, symbols: int, least: int = 1) -> Tables:
    """The model of n-grams of `order`, sorted, and how often each occurs; `symbols` counts the beginning as well.

    Of the longest n-grams those that occur less often than `least` are left out, and what they would have had goes to
    the shorter ones.
    """
    if order < 2:
        raise ValueError(f"an n-gram model needs an order of 2 at least, got {order}")
    if not len(grams):
        raise ValueError("there is nothing to learn from: the texts hold no symbol")
    levels = [(grams, counts)]
    for _ in range(order - 1):
        levels.insert(0, _shorter(levels[0][0], bits))
    unigrams = _unigrams(*levels[0], symbols)
    kept, shares, weights = [], [], []
    contexts = np.arange(symbols, dtype=np.uint64)  # of order 1, all symbols
    for length, (these, numbers) in enumerate(levels[1:], start=2):
        rows = np.searchsorted(contexts, these & np.uint64((1 << (bits * (length - 1))) - 1))
        totals = np.bincount(rows, numbers, len(contexts))
        share = (numbers - _discount(numbers)) / totals[rows]
        if length == order:
            is_kept = numbers >= least
            these, rows, share = these[is_kept], rows[is_kept], share[is_kept]
        left_over = 1.0 - np.bincount(rows, share, len(contexts))
        weights.append(np.maximum(left_over, 0.0).astype(np.float32))
        if length < order:  # the n-gram of nothing but beginnings is a context, and never predicted
            these, share = np.concatenate(([np.uint64(0)], these)), np.concatenate(([0.0], share))
        kept.append(these)
        shares.append(share.astype(np.float32))
        contexts = these
    return Tables(order, bits, unigrams, tuple(kept), tuple(shares), tuple(weights))


def _shorter(grams: Grams, bits: int) -> tuple[Grams, NDArray[np.int64]]:
    """The n-grams without their oldest symbol, and how many different ones each was seen behind."""
    without = grams >> np.uint64(bits)
    starts = np.flatnonzero(np.concatenate(([True], without[1:] != without[:-1])))
    return without[starts], np.diff(np.append(starts, len(without)))


def _unigrams(seen: Grams, numbers: NDArray[np.int64], symbols: int) -> NDArray[np.float64]:
    share = np.zeros(symbols)
    share[seen.astype(np.int64)] = (numbers - _discount(numbers)) / numbers.sum()
    share[1:] += (1.0 - share.sum()) / (symbols - 1)
    return share


def _discount(numbers: NDArray[np.int64]) -> float:
    """D = n1 / (n1 + 2 n2) of how many n-grams have the number 1 and 2."""
    once, twice = int((numbers == 1).sum()), int((numbers == 2).sum())
    estimate = once / (once + 2 * twice) if once else 0.0
    return min(max(estimate, _LEAST_DISCOUNT), _MOST_DISCOUNT)
