"""Which of the documents that are there goes for the sake of which, by the pairs and crowds that were found.

Whoever decides may have dropped documents for other reasons, so that a pair says little by itself: what a document is
compared with must be there. Documents with the same words are one for all comparisons, and the best of those that are
there stands for them; crowds are compared only now, with those that stay.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lmworks.data.duplicates.clusters import Similarity, star_clusters
from lmworks.data.duplicates.shingles import shingles
from lmworks.data.duplicates.tables import Crowds, Pairs
from lmworks.data.duplicates.verifying import Verified, jaccard_of_each

_REMEMBERED = 4096  # documents of crowds whose shingles stay in memory


@dataclass(frozen=True, slots=True)
class Twins:
    """Each document that goes, with the one that stays in its place and how similar they are; and how many comparisons
    within crowds were not made, because too many documents of one stayed."""

    twin: dict[int, int]
    similarity: dict[int, float]
    uncompared: int = 0


def equal_texts(keys: Sequence[str | None], rank: NDArray[np.int64], there: NDArray[np.bool_]) -> dict[int, int]:
    """Each document whose text a better one has, of those that are there, with the best such one. Documents with one
    key have one text; None is no key."""
    first: dict[str, int] = {}
    twins: dict[int, int] = {}
    for document in np.argsort(rank)[there[np.argsort(rank)]].tolist():
        key = keys[document]
        if key is not None and (kept := first.setdefault(key, document)) != document:
            twins[document] = kept
    return twins


def similarity_by_texts(texts: Sequence[str], crowds: Crowds) -> Similarity:
    """The similarity of a document and others, counted from their texts, which are read when it is asked for."""

    @lru_cache(_REMEMBERED)
    def set_of(document: int) -> NDArray[np.uint64]:
        return shingles(texts[document], crowds.words, crowds.compatibility)

    return lambda document, others: jaccard_of_each(set_of(document), [set_of(other) for other in others])


def alike(
    pairs: Pairs,
    crowds: Crowds,
    threshold: float,
    rank: NDArray[np.int64],
    there: NDArray[np.bool_],
    similarity: Similarity,
) -> Twins:
    """Of the documents that are there, those with a better one that stays and is similar enough.

    In the order of their ranks a document stays unless one that stays already is its neighbour. So whatever goes has a
    twin that stays and that it, or a document with the same words, was compared with; a chain of small changes is no
    cluster. `similarity` is asked of the documents of crowds. ValueError for a threshold below that of the search.
    """
    if threshold < crowds.threshold:
        raise ValueError(
            f"documents that are alike were looked for from a similarity of {crowds.threshold:g} on, and not of "
            f"{threshold:g}: lower near.threshold of data.duplicates (--set duplicates.near.threshold={threshold:g}, "
            "for a stage called duplicates), or raise the similarity of the step"
        )
    heads = _heads(pairs, rank, there)
    joined, values = _between_heads(pairs, threshold, heads, rank)
    members = [np.unique(heads[each]) for each in crowds.members]
    nodes = np.unique(np.concatenate([joined.reshape(-1), *members]).astype(np.int64))
    nodes = nodes[nodes >= 0]
    nodes = nodes[np.argsort(rank[nodes])]
    number = np.full(len(rank) + 1, -1, np.int64)  # its last is that of -1: nobody is there
    number[nodes] = np.arange(len(nodes))
    numbered = number[joined]
    order = np.lexsort((numbered[:, 1], numbered[:, 0]))
    stars = star_clusters(
        len(nodes),
        Verified(numbered[order], values[order]),
        [np.sort(number[each[each >= 0]]) for each in members],
        lambda document, others: similarity(int(nodes[document]), nodes[np.array(others)].tolist()),
        threshold,
    )
    twin = {int(nodes[gone]): int(nodes[stars.kept[gone]]) for gone in stars.removed.tolist()}
    value = {int(nodes[gone]): float(stars.similarity[gone]) for gone in stars.removed.tolist()}
    for document in np.flatnonzero(there & (heads != np.arange(len(rank)))).tolist():
        head = int(heads[document])
        twin[document], value[document] = twin.get(head, head), value.get(head, 1.0)
    return Twins(twin, value, stars.uncompared)


def _heads(pairs: Pairs, rank: NDArray[np.int64], there: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(n,) of each document the best with the same words that is there; -1 where none is."""
    labels = same_words(pairs, len(rank))
    order = np.argsort(rank)
    order = order[there[order]]
    found, first = np.unique(labels[order], return_index=True)
    best = np.full(len(rank), -1, np.int64)
    best[found] = order[first]
    return best[labels]


def same_words(pairs: Pairs, documents: int) -> NDArray[np.int64]:
    """(documents,) a number below `documents` for each, the same for those with the same words: a similarity of 1."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    equal = pairs.similarity == 1
    edges = (np.ones(int(equal.sum()), bool), (pairs.first[equal], pairs.second[equal]))
    return connected_components(coo_array(edges, shape=(documents, documents)), directed=False)[1].astype(np.int64)


def _between_heads(
    pairs: Pairs, threshold: float, heads: NDArray[np.int64], rank: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(pairs, similarity) of those that stand for others, each pair once, the better one first."""
    enough = pairs.similarity >= threshold
    first, second, values = heads[pairs.first[enough]], heads[pairs.second[enough]], pairs.similarity[enough]
    real = (first >= 0) & (second >= 0) & (first != second)
    first, second, values = first[real], second[real], values[real]
    swapped = rank[first] > rank[second]
    first, second = np.where(swapped, second, first), np.where(swapped, first, second)
    keys, places = np.unique(first * len(rank) + second, return_index=True)
    return np.stack(np.divmod(keys, len(rank)), axis=1), values[places]
