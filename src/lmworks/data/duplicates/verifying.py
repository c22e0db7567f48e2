"""Candidates confirmed by the true Jaccard similarity of their shingles: a hash may propose, it never decides."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmworks.data.duplicates.rows import HashRows
from lmworks.data.duplicates.shingles import common_counts

_BATCH = 8192  # pairs whose shingles are in memory at once


@dataclass(frozen=True, slots=True, eq=False)
class Verified:
    """Pairs of documents that are similar enough.

    pairs       (n, 2) int64, the smaller number first, sorted
    similarity  (n,) float64, their true Jaccard similarity
    candidates  how many pairs were looked at
    """

    pairs: NDArray[np.int64]
    similarity: NDArray[np.float64]
    candidates: int = 0


def jaccard_of_each(first: NDArray[np.uint64], others: Sequence[NDArray[np.uint64]]) -> NDArray[np.float64]:
    """(n,) the Jaccard similarity of the first and each of n others, sorted arrays without repeats. ValueError where
    two are both empty: they have none."""
    ends = np.cumsum([len(first), *map(len, others)], dtype=np.int64)
    pairs = np.zeros((len(others), 2), np.int64)
    pairs[:, 1] = np.arange(1, len(others) + 1)
    return similarities(HashRows(np.concatenate((first, *others)), ends), pairs)


def similarities(sets: HashRows, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n,) the Jaccard similarity of the two rows of each of (n, 2) pairs. ValueError for two empty rows."""
    common = common_counts(sets, pairs)
    lengths = sets.lengths
    union = lengths[pairs[:, 0]] + lengths[pairs[:, 1]] - common
    if (union == 0).any():
        raise ValueError("two texts without a word have no similarity")
    return common / union


def verify(
    candidates: Iterable[NDArray[np.int64]], sets_of: Callable[[NDArray[np.int64]], HashRows], threshold: float
) -> Verified:
    """Those candidates whose Jaccard similarity is `threshold` or more.

    `candidates` are (n, 2) arrays of document numbers; `sets_of` gives the shingles of (m,) documents, a row each. A
    document that is in candidates far apart is asked for again: its shingles take more memory than they take time.
    """
    pairs: list[NDArray[np.int64]] = [np.empty((0, 2), np.int64)]
    values: list[NDArray[np.float64]] = [np.empty(0, np.float64)]
    looked_at = 0
    for batch in _in_batches(candidates):
        documents, places = np.unique(batch, return_inverse=True)
        similarity = similarities(sets_of(documents), places.reshape(-1, 2))
        enough = similarity >= threshold
        pairs.append(batch[enough])
        values.append(similarity[enough])
        looked_at += len(batch)
    found, similarity = np.concatenate(pairs), np.concatenate(values)
    order = np.lexsort((found[:, 1], found[:, 0]))
    return Verified(found[order], similarity[order], looked_at)


def _in_batches(candidates: Iterable[NDArray[np.int64]]) -> Iterator[NDArray[np.int64]]:
    for pairs in candidates:
        pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]  # so that a batch has few documents
        for begin in range(0, len(pairs), _BATCH):
            yield pairs[begin : begin + _BATCH]
