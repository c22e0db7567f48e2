"""Pairs of near duplicates, found without comparing all texts with all.

Signatures (MinHash, Broder 1997): the classical one hashes every shingle once for each of its k places. Here shingles
are thrown into the places, turn after turn with another hash, until no place is empty (fast similarity sketching,
Dahlgaard, Knudsen & Thorup 2017, algorithm 1); a place keeps the least hash of the first turn that reached it. A text
of n shingles costs about n + k ln k hashes instead of n k, for 128 places and 500 shingles a fiftieth. The share of
equal places estimates the similarity as the classical one does: each agrees with probability J, so its mean is J, and
its variance is at most the J (1 - J) / k of independent places. One permutation hashing, as cheap, has places without a
shingle, which short texts have many of; those borrowed from a neighbour (densification) raise the variance.

Bands (locality-sensitive hashing): two texts are candidates when they agree in all rows of a band, which for similarity
s has the probability 1 - (1 - s^rows)^bands (Leskovec, Rajaraman & Ullman, "Mining of massive datasets", section 3.4).
Of each band a text has one key of 64 bits. Buckets are runs of equal keys in a sorted array, one band after the other:
two million texts with 16 bands take 256 MB for the keys and 80 MB more. A bucket of many texts, such as copies of a
licence, would give pairs by the square of its size: its texts are compared with a few of them alone (`star_pairs`).

What bands propose, the counted Jaccard similarity of the shingles decides.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count

import numpy as np
from numpy.typing import NDArray

from lmworks.corpus.dedup.hashes import HashRows, mix, positions
from lmworks.corpus.dedup.library import common_counts
from lmworks.corpus.dedup.match_tables import Pairs
from lmworks.corpus.dedup.reference import MULTIPLIER

NOTHING = np.uint32(2**32 - 1)  # in all places of the signature of a text without a word
NO_KEY = np.uint64(2**64 - 1)  # of a text without a word, which is no candidate
FALSE_POSITIVES = 0.02  # their weight relative to that of missed pairs, which are not found again
_PIECE = 2**17  # pairs that are looked at together
_BATCH = 8192  # pairs whose shingles are in memory at once
MOST_CENTRES = 1000  # texts of a large bucket that are like none before them, and that each later one is compared with
_STAR_BATCH = 4096  # texts whose shingles are in memory at once


@dataclass(frozen=True, slots=True)
class Bands:
    """How a signature is cut: `bands` parts of `rows` places each; what is left over is not used."""

    bands: int
    rows: int

    def probability(self, similarity: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """The probability that two texts of this Jaccard similarity are candidates."""
        return 1 - (1 - np.asarray(similarity, np.float64) ** self.rows) ** self.bands


@cache
def choose_bands(threshold: float, permutations: int) -> Bands:
    """The bands that are wrong least, over all similarities alike.

    The cost is `w * integral of P from 0 to t + (1 - w) * integral of 1 - P from t to 1`, where P is the probability to
    be a candidate, t the threshold and w the weight of false positives: a small one, since every candidate is verified.
    The integrals are exact: P is a polynomial of at most `permutations` degrees, and Gauss-Legendre quadrature with n
    nodes is exact up to degree 2 n - 1.
    """
    nodes, weights = np.polynomial.legendre.leggauss(permutations // 2 + 1)
    below, above = threshold * (nodes + 1) / 2, threshold + (1 - threshold) * (nodes + 1) / 2

    def cost(choice: Bands) -> float:
        positive = threshold / 2 * float(weights @ choice.probability(below))
        negative = (1 - threshold) / 2 * float(weights @ (1 - choice.probability(above)))
        return FALSE_POSITIVES * positive + (1 - FALSE_POSITIVES) * negative

    counts = range(1, permutations + 1)
    return min((Bands(bands, rows) for bands in counts for rows in counts[: permutations // bands]), key=cost)


def band_keys(signatures: NDArray[np.uint32], choice: Bands) -> NDArray[np.uint64]:
    """(texts, bands) uint64: the key of each band of (texts, permutations) signatures; `NO_KEY` for a text without a
    word."""
    bands, rows = choice.bands, choice.rows
    places = signatures[:, : bands * rows].reshape(len(signatures), bands, rows)
    keys = np.zeros((len(signatures), bands), np.uint64)
    for row in range(rows):
        keys = keys * np.uint64(MULTIPLIER) + places[:, :, row]
    keys = mix(keys)
    keys[keys == NO_KEY] = 0
    keys[(signatures == NOTHING).all(axis=1)] = NO_KEY
    return keys


# ---------------------------------------------------------------------------------------------------------------------
# Candidates


def candidate_pairs(
    keys: NDArray[np.uint64], bucket_limit: int, large_buckets: dict[bytes, NDArray[np.int64]]
) -> Iterator[NDArray[np.int64]]:
    """Each pair of texts that shares a bucket of at most `bucket_limit` texts, once, in (n, 2) int64 arrays;
    `large_buckets` gets the texts of every larger one, in ascending order, by their bytes, so that one that several
    bands have counts once.

    In each pair the smaller number comes first. That a pair came before, in an earlier band, is seen from the keys
    themselves, so that no set of pairs is kept.
    """
    small = np.zeros(keys.shape, bool)  # the bucket of this text in this band was not too large
    for band in range(keys.shape[1]):
        order, starts, ends = buckets(keys[:, band])
        few = ends - starts <= bucket_limit
        for pairs in pairs_within(order, starts[few], ends[few]):
            first, second = pairs[:, 0], pairs[:, 1]
            before = (keys[first, :band] == keys[second, :band]) & small[first, :band]
            new = pairs[~before.any(axis=1)]
            if len(new):
                yield new
        small[order[positions(starts[few], (ends - starts)[few])], band] = True
        for start, end in zip(starts[~few].tolist(), ends[~few].tolist(), strict=True):
            large_buckets.setdefault(order[start:end].tobytes(), order[start:end].copy())


def buckets(keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Runs of equal keys of at least two items: (order, starts, ends), where `order[start:end]` are the items of a run,
    in ascending order."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    borders = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    starts = np.concatenate((np.zeros(min(len(keys), 1), np.int64), borders))
    ends = np.append(starts[1:], len(keys))[: len(starts)]
    several = (ends - starts > 1) & (ordered[starts] != NO_KEY)
    return order, starts[several], ends[several]


def pairs_within(
    order: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> Iterator[NDArray[np.int64]]:
    """All pairs within each `order[start:end]`, in (n, 2) arrays: neighbours first, then those two apart, and so on."""
    left, limits = positions(starts, ends - starts), np.repeat(ends, ends - starts)
    for distance in count(1):
        near = left + distance < limits
        left, limits = left[near], limits[near]
        if not len(left):
            return
        for begin in range(0, len(left), _PIECE):
            here = left[begin : begin + _PIECE]
            yield np.stack((order[here], order[here + distance]), axis=1)


# ---------------------------------------------------------------------------------------------------------------------
# Verified pairs


def verify(
    candidates: Iterable[NDArray[np.int64]], sets_of: Callable[[NDArray[np.int64]], HashRows], threshold: float
) -> tuple[Pairs, int]:
    """Those candidates whose Jaccard similarity is `threshold` or more, and how many there were.

    `candidates` are (n, 2) arrays of document numbers; `sets_of` gives the shingles of (m,) documents, a row each. A
    document that is in candidates far apart is asked for again: its shingles take more memory than they take time.
    """
    found, values, looked_at = [np.empty((0, 2), np.int64)], [np.empty(0, np.float64)], 0
    for pairs in candidates:
        pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]  # so that a batch has few documents
        for batch in (pairs[begin : begin + _BATCH] for begin in range(0, len(pairs), _BATCH)):
            documents, places = np.unique(batch, return_inverse=True)
            similarity = similarities(sets_of(documents), places.reshape(-1, 2))
            enough = similarity >= threshold
            found.append(batch[enough])
            values.append(similarity[enough])
        looked_at += len(pairs)
    first, second = np.concatenate(found).T
    return Pairs(first, second, np.concatenate(values)), looked_at


def star_pairs(
    members: NDArray[np.int64], sets_of: Callable[[NDArray[np.int64]], HashRows], threshold: float
) -> tuple[Pairs, int]:
    """Pairs that link the texts of a large bucket, and how many texts were not compared with all that they could be.

    From the first of the `members` (n,) on, a text is paired with the first centre that it is similar to, and becomes a
    centre where there is none; at most `MOST_CENTRES`, so that work grows as the bucket does.
    """
    centres, uncompared = members[:0], 0
    first, second, values = [members[:0]], [members[:0]], [np.empty(0)]
    for begin in range(0, len(members), _STAR_BATCH):
        numbers = np.concatenate((centres, members[begin : begin + _STAR_BATCH]))
        sets, rest, chosen = sets_of(numbers), np.arange(len(centres), len(numbers)), list(range(len(centres)))
        turn = 0
        while len(rest):
            if turn == len(chosen):
                if turn == MOST_CENTRES:
                    uncompared += len(rest)
                    break
                chosen.append(int(rest[0]))
                rest = rest[1:]
            similarity = similarities(sets, np.stack((np.full(len(rest), chosen[turn]), rest), axis=1))
            alike = similarity >= threshold
            first.append(np.full(int(alike.sum()), numbers[chosen[turn]]))
            second.append(numbers[rest[alike]])
            values.append(similarity[alike])
            rest, turn = rest[~alike], turn + 1
        centres = numbers[chosen]
    return Pairs(np.concatenate(first), np.concatenate(second), np.concatenate(values)), uncompared


def similarities(sets: HashRows, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n,) the Jaccard similarity of the two rows of each of (n, 2) pairs. ValueError for two empty rows."""
    common = common_counts(sets, pairs)
    union = sets.lengths[pairs[:, 0]] + sets.lengths[pairs[:, 1]] - common
    if (union == 0).any():
        raise ValueError("two texts without a word have no similarity")
    return common / union
