"""The hashes and signatures by definition, in NumPy: what the compiled part gives bit by bit, and runs in its place.

One scheme hashes everything: a polynomial `h <- h * MULTIPLIER + part` modulo 2^64 over the bytes of a word, over the
words of a shingle, and a bijection that mixes the bits of the result. It depends on no process and no library; a run of
neighbours costs one product more than a shorter one; and it needs no loop over words. The multiplier is one whose
powers satisfy few short linear relations, which are what collisions of short inputs are (Steele & Vigna 2022,
"Computationally easy, spectrally good multipliers for congruential pseudorandom number generators", table 6).
"""

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from lmworks.corpus.dedup.hashes import SEPARATOR, HashRows, mix, positions

MULTIPLIER = 0xD1342543DE82EF95
STEP = 0x9E3779B97F4A7C15  # from one turn of a signature to the next, as in SplitMix64
EMPTY = np.uint64(2**64 - 1)  # a place of a signature that no shingle has reached
BYTES = mix(np.arange(1, 257, dtype=np.uint64))  # what stands for a byte, so that all bits of a hash depend on it


def hash_words(text: NDArray[np.uint8], ends: NDArray[np.int64]) -> HashRows:
    """The words of texts, which are separated bytes (`word_bytes`) up to `ends` each, and hold a separator last."""
    inside = text != SEPARATOR
    edges = np.diff(np.concatenate(([False], inside, [False])).astype(np.int8))
    word_starts, word_ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    row_ends = np.searchsorted(word_starts, ends).astype(np.int64)
    if not len(word_starts):
        return HashRows(np.empty(0, np.uint64), row_ends)
    lengths = word_ends - word_starts
    powers = np.full(int(lengths.max()), MULTIPLIER, np.uint64)
    powers[0] = 1
    powers = np.cumprod(powers, dtype=np.uint64)
    exponents = np.repeat(word_ends, lengths) - 1 - np.flatnonzero(inside)
    terms = text[inside].astype(np.uint64) * powers[exponents]
    return HashRows(mix(np.add.reduceat(terms, np.cumsum(lengths) - lengths)), row_ends)


def runs(values: NDArray[np.uint64], longest: int) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    """For each length from 1: the hashes, not yet mixed, of all runs of so many values, by where they begin."""
    hashes = values
    for length in range(1, longest + 1):
        if length > 1:
            hashes = hashes[:-1] * np.uint64(MULTIPLIER) + values[length - 1 :]
        yield length, hashes


def shingle_hashes(words: HashRows, size: int) -> HashRows:
    """The shingles of each row in their order, repeats too: all runs of `size` words, or of a shorter row the whole."""
    counts = words.lengths
    numbers = np.where(counts < size, np.minimum(counts, 1), counts - size + 1)
    places = positions(words.starts, numbers)
    shingle_lengths = np.repeat(np.minimum(counts, size), numbers)
    values = np.empty(len(places), np.uint64)
    for length, hashes in runs(words.values, size):
        here = shingle_lengths == length
        values[here] = hashes[places[here]]
    return HashRows(mix(values), np.cumsum(numbers))


def shingle_sets(words: HashRows, size: int) -> HashRows:
    """The shingles of each row, sorted, each once."""
    shingles = shingle_hashes(words, size)
    rows = np.repeat(np.arange(len(shingles)), shingles.lengths)
    order = np.lexsort((shingles.values, rows))
    values, rows = shingles.values[order], rows[order]
    new = np.ones(len(values), bool)
    new[1:] = (values[1:] != values[:-1]) | (rows[1:] != rows[:-1])
    return HashRows(values[new], np.cumsum(np.bincount(rows[new], minlength=len(shingles))))


def signatures(words: HashRows, size: int, permutations: int) -> NDArray[np.uint32]:
    """(rows, permutations) uint32, as `minhash` defines them."""
    shingles = shingle_hashes(words, size)
    least = np.full(len(shingles) * permutations, EMPTY, np.uint64)
    values, rows = shingles.values, np.repeat(np.arange(len(shingles)), shingles.lengths)
    for turn in range(2 * permutations):
        if not len(values):
            break
        hashes = mix(values + np.uint64((turn + 1) * STEP % 2**64))
        # Thrown by the upper half; from turn `permutations` on, all into one place after the other.
        thrown = (((hashes >> np.uint64(32)) * np.uint64(permutations)) >> np.uint64(32)).astype(np.int64)
        places = thrown if turn < permutations else turn - permutations
        marked = np.uint64(turn << 32) | (hashes & np.uint64(2**32 - 1))
        np.minimum.at(least, rows * permutations + places, marked)
        open_ = (least.reshape(-1, permutations) == EMPTY).any(axis=1)[rows]
        values, rows = values[open_], rows[open_]
    return least.astype(np.uint32).reshape(-1, permutations)  # the lower 32 bits collide rarely enough


def common(sets: HashRows, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) int64: how many values the two sorted rows of each pair share."""
    found = [len(np.intersect1d(sets[first], sets[second], assume_unique=True)) for first, second in pairs.tolist()]
    return np.array(found, np.int64)


def winnow(text: NDArray[np.uint8], window: int, width: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """(hashes, places) of windows of bytes that are the least of any run of `width` values. Of each value the largest
    among the minima of all runs that it is in is then its own; runs that the ends cut off count as well."""
    hashes = window_hashes(BYTES[text], window)
    if not len(hashes):
        return hashes, np.empty(0, np.int64)
    lowest = sliding_window_view(np.pad(hashes, width - 1, constant_values=EMPTY), width).min(axis=1)
    places = np.flatnonzero(sliding_window_view(lowest, width).max(axis=1) == hashes)
    return hashes[places], places


def window_hashes(values: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    """(n - length + 1,) uint64: the hash of the `length` values at each place of (n,), as differences of sums up to it:
    powers of the multiplier, which is odd, can be divided by modulo 2^64."""
    if len(values) < length:
        return np.empty(0, np.uint64)
    factors = np.full((2, len(values)), MULTIPLIER, np.uint64)
    factors[1] = pow(MULTIPLIER, -1, 2**64)
    factors[:, 0] = 1
    powers, inverses = np.cumprod(factors, axis=1, dtype=np.uint64)
    sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(values * inverses, dtype=np.uint64)))
    return mix((sums[length:] - sums[:-length]) * powers[length - 1 :])
