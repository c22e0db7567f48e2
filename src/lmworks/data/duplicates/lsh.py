"""Pairs of texts that may be near duplicates, found without comparing all with all: locality-sensitive hashing.

A signature is cut into bands of some rows each; two texts are candidates when they agree in all rows of a band, which
for similarity s has the probability 1 - (1 - s^rows)^bands (Leskovec, Rajaraman & Ullman, "Mining of massive datasets",
section 3.4). Of each band a text has one key of 64 bits. Buckets are runs of equal keys in a sorted array, one band
after the other: two million texts with 16 bands take 256 MB for the keys and 80 MB beside.

A bucket of many texts, such as copies of a licence, would give pairs by the square of its size. It gives none: it is a
crowd, which `clusters` compares with the texts that stay.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count

import numpy as np
from numpy.typing import NDArray

from lmworks.data.duplicates.minhash import NOTHING
from lmworks.data.duplicates.reference import MULTIPLIER
from lmworks.data.duplicates.rows import positions
from lmworks.data.order import mix

CROWD = 64  # texts of the largest bucket whose pairs are all candidates
NO_KEY = np.uint64(2**64 - 1)  # of a text without a word, which is no candidate
_PIECE = 2**17  # pairs that are looked at together


@dataclass(frozen=True, slots=True)
class Bands:
    """How a signature is cut: `bands` parts of `rows` places each; what is left over is not used."""

    bands: int
    rows: int

    def __post_init__(self) -> None:
        if self.bands < 1 or self.rows < 1:
            raise ValueError(f"bands and rows must be positive, got {self.bands} and {self.rows}")

    def probability(self, similarity: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """That two texts of this Jaccard similarity are candidates."""
        return 1 - (1 - np.asarray(similarity, np.float64) ** self.rows) ** self.bands


@cache
def choose_bands(threshold: float, permutations: int, false_positive_weight: float = 0.02) -> Bands:
    """The bands that are wrong least, over all similarities alike.

    The cost is `w * integral of P from 0 to t + (1 - w) * integral of 1 - P from t to 1`, where P is the probability to
    be a candidate, t the threshold and w the weight of false positives. They are cheap here, since every candidate is
    verified, and a missed pair is not found again; so they weigh little. The integrals are exact: P is a polynomial of
    at most `permutations` degrees, and Gauss-Legendre quadrature with n nodes is exact up to degree 2 n - 1.
    ValueError for a threshold or a weight that is not between 0 and 1, and for more than 1,024 places.
    """
    if not 0 < threshold < 1 or not 0 <= false_positive_weight <= 1:
        raise ValueError("a threshold lies between 0 and 1, and so does the weight of false positives")
    if not 1 <= permutations <= 1024:
        raise ValueError(f"bands are chosen for 1 to 1,024 places, got {permutations}")
    nodes, weights = np.polynomial.legendre.leggauss(permutations // 2 + 1)
    below, above = threshold * (nodes + 1) / 2, threshold + (1 - threshold) * (nodes + 1) / 2

    def cost(choice: Bands) -> float:
        positive = threshold / 2 * float(weights @ choice.probability(below))
        negative = (1 - threshold) / 2 * float(weights @ (1 - choice.probability(above)))
        return false_positive_weight * positive + (1 - false_positive_weight) * negative

    counts = range(1, permutations + 1)
    return min((Bands(bands, rows) for bands in counts for rows in counts[: permutations // bands]), key=cost)


def band_keys(signatures: NDArray[np.uint32], choice: Bands) -> NDArray[np.uint64]:
    """(texts, bands) uint64: the key of each band of (texts, permutations) signatures; `NO_KEY` for a text without a
    word. ValueError where the signatures have too few places."""
    bands, rows = choice.bands, choice.rows
    if bands * rows > signatures.shape[1]:
        raise ValueError(f"{bands} bands of {rows} rows need {bands * rows} places, got {signatures.shape[1]}")
    places = signatures[:, : bands * rows].reshape(len(signatures), bands, rows)
    keys = np.zeros((len(signatures), bands), np.uint64)
    for row in range(rows):
        keys = keys * np.uint64(MULTIPLIER) + places[:, :, row]
    keys = mix(keys)
    keys[keys == NO_KEY] = 0
    keys[(signatures == NOTHING).all(axis=1)] = NO_KEY
    return keys


def candidate_pairs(keys: NDArray[np.uint64], crowd: int = CROWD) -> Iterator[NDArray[np.int64]]:
    """Each pair of texts that shares a bucket of at most `crowd` texts, once, in (n, 2) int64 arrays.

    In each pair the smaller number comes first. That a pair came before, in an earlier band, is seen from the keys
    themselves, so that no set of pairs is kept.
    """
    small = np.zeros(keys.shape, bool)  # the bucket of this text in this band was no crowd
    for band in range(keys.shape[1]):
        order, starts, ends = buckets(keys[:, band])
        few = ends - starts <= crowd
        for pairs in pairs_within(order, starts[few], ends[few]):
            first, second = pairs[:, 0], pairs[:, 1]
            before = (keys[first, :band] == keys[second, :band]) & small[first, :band]
            new = pairs[~before.any(axis=1)]
            if len(new):
                yield new
        small[order[positions(starts[few], (ends - starts)[few])], band] = True


def crowds(keys: NDArray[np.uint64], crowd: int = CROWD) -> list[NDArray[np.int64]]:
    """The texts of every bucket of more than `crowd`, in ascending order; one that several bands have counts once."""
    found: dict[bytes, NDArray[np.int64]] = {}
    for band in range(keys.shape[1]):
        order, starts, ends = buckets(keys[:, band])
        many = ends - starts > crowd
        for start, end in zip(starts[many].tolist(), ends[many].tolist(), strict=True):
            members = order[start:end].copy()
            found.setdefault(members.tobytes(), members)
    return list(found.values())


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
