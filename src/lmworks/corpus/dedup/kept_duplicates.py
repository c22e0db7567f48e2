"""Which of several duplicates stays: star clusters around survivors that are chosen by a stated priority, a known
licence first, then quality where it was measured, then length, then the uri; never the order of reading.

Being similar is not transitive: a chain of texts, each near the next, can lead from one text to another that has
nothing in common with it, and dropping all but one of a connected component has emptied whole sources. Here documents
are gone through from the best to the worst; one goes only if it was itself compared with a document that stays, and was
found similar. So the documents that stay are a maximal independent set, chosen greedily, and each other one has a kept
duplicate among them.

Documents may be gone already for other reasons, so that a pair says little by itself: what a document is compared with
must be there. Documents with the same words are one for all comparisons, and the best of those that are there stands
for them; large buckets are compared only now, with those that stay.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lmworks.corpus.attributes import AttributeTable
from lmworks.corpus.dedup.hashes import HashRows
from lmworks.corpus.dedup.library import shingle_sets
from lmworks.corpus.dedup.match_tables import LargeBuckets, Pairs
from lmworks.corpus.dedup.minhash import similarities

LICENCE, QUALITY, KEY = "licence", "quality", "exact"  # labels and a score; the last one equal texts share
RANKED_BY = ("uri", f"label.{LICENCE}", f"label.{KEY}", f"score.{QUALITY}")
MOST_COMPARED = 1000  # documents of a large bucket that stay, and that each later one is compared with
_AT_ONCE = 32  # that are compared with one call
_REMEMBERED = 4096  # documents of large buckets whose shingles stay in memory

Similarity = Callable[[int, Sequence[int]], NDArray[np.float64]]  # of a document and (n,) others

# ---------------------------------------------------------------------------------------------------------------------
# Priority


@dataclass(frozen=True, slots=True, eq=False)
class RankedCorpus:
    """The documents of a corpus, n of them, in their order.

    starts      (shards + 1,) where each shard begins.
    rank        (n,) int64: 0 is the document that stays before all others.
    uris        of all.
    keys        of all: what those with equal texts share.
    licensed    (n,) bool: what it may be used for is known.
    characters  (n,) int64, after repair.
    """

    starts: NDArray[np.int64]
    rank: NDArray[np.int64]
    uris: Sequence[str]
    keys: Sequence[str | None]
    licensed: NDArray[np.bool_]
    characters: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rank)

    @property
    def order(self) -> NDArray[np.int64]:
        """(n,) the documents, the best first."""
        return np.argsort(self.rank)

    def place(self, document: int) -> tuple[int, int]:
        """The shard of a document, and its place there."""
        shard = int(np.searchsorted(self.starts, document, side="right")) - 1
        return shard, document - int(self.starts[shard])


def rank_corpus(tables: Iterable[AttributeTable]) -> RankedCorpus:
    """The documents of a corpus by priority, from a table for each of its shards, with the columns `RANKED_BY`."""
    starts, uris, keys = [0], list[str](), list[str | None]()
    licensed, qualities, characters = [np.empty(0, bool)], [np.empty(0)], [np.empty(0, np.int64)]
    for table in tables:  # each is read once, and none is kept
        starts.append(starts[-1] + len(table))
        uris += table.uris
        none: Sequence[str | None] = [None] * len(table)
        keys += table.labels.get(KEY, none)
        licensed.append(np.array([licence is not None for licence in table.labels.get(LICENCE, none)], bool))
        qualities.append(table.scores.get(QUALITY, np.full(len(table), np.nan)))
        characters.append(table.characters)
    known, sizes = np.concatenate(licensed), np.concatenate(characters)
    rank = priority(known, np.concatenate(qualities), sizes, uris)
    return RankedCorpus(np.array(starts), rank, uris, keys, known, sizes)


def priority(
    licensed: NDArray[np.bool_], quality: NDArray[np.float64], characters: NDArray[np.int64], uris: Sequence[str]
) -> NDArray[np.int64]:
    """(n,) int64: the rank of each document, 0 being the best. NaN is a quality worse than any."""
    worst_last = np.nan_to_num(-quality, nan=np.inf)
    order = sorted(range(len(uris)), key=lambda n: (not licensed[n], worst_last[n], -characters[n], uris[n]))
    return np.argsort(order)


# ---------------------------------------------------------------------------------------------------------------------
# Who stays


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """Which document is kept in the place of each of n.

    document    (n,) int64: the one that stays in its place, which is itself where it stays
    similarity  (n,) float64: to that one; 1 for itself
    uncompared  comparisons within large buckets that were not made, because too many documents of one stayed
    """

    document: NDArray[np.int64]
    similarity: NDArray[np.float64]
    uncompared: int = 0

    @property
    def removed(self) -> NDArray[np.int64]:
        """The documents that go, in ascending order."""
        return np.flatnonzero(self.document != np.arange(len(self.document)))


def equal_texts(keys: Sequence[str | None], rank: NDArray[np.int64], there: NDArray[np.bool_]) -> Kept:
    """Exact duplicates: of the documents that are `there`, those with one key have one text, and the best stays; None
    is no key."""
    first: dict[str, int] = {}
    kept = np.arange(len(rank))
    order = np.argsort(rank)
    for document in order[there[order]].tolist():
        if (key := keys[document]) is not None:
            kept[document] = first.setdefault(key, document)
    return Kept(kept, np.ones(len(rank)))


def check_similarity(wanted: float, searched: float) -> None:
    """ValueError where near duplicates were looked for from a higher similarity on."""
    if wanted < searched:
        raise ValueError(
            f"documents that are alike were looked for from a similarity of {searched:g} on, and not of {wanted:g}: "
            f"lower near.threshold of data.duplicates (--set duplicates.near.threshold={wanted:g}, for a stage called "
            "duplicates), or raise the similarity of the step"
        )


def kept_duplicates(
    pairs: Pairs,
    large_buckets: LargeBuckets,
    threshold: float,
    rank: NDArray[np.int64],
    there: NDArray[np.bool_],
    similarity: Similarity,
) -> Kept:
    """Near duplicates: of the documents that are `there`, those go with a better one that stays and is similar enough.

    A document goes if one of the pairs joins it, or one with the same words, with a better one that stays: the best of
    those is its kept duplicate. Else it is compared, by `similarity`, with the documents of its large buckets that
    stay, from the best on. So among the documents that stay, no pair which was given or shares a large bucket is
    similar, save for the comparisons that are counted as `uncompared`. ValueError for a threshold below that of the
    search.
    """
    check_similarity(threshold, large_buckets.threshold)
    heads = _heads(pairs, rank, there)
    first, second = heads[pairs.first], heads[pairs.second]
    similar = (pairs.similarity >= threshold) & (first >= 0) & (second >= 0) & (first != second)
    better, worse = np.sort(rank[np.stack((first[similar], second[similar]))], axis=0)
    order = np.lexsort((better, worse))
    # From here on documents are their ranks, but for what is asked of `similarity`.
    neighbours: defaultdict[int, list[tuple[int, float]]] = defaultdict(list)  # the better ones, the best first
    columns = (worse[order].tolist(), better[order].tolist(), pairs.similarity[similar][order].tolist())
    for document, other, value in zip(*columns, strict=True):
        neighbours[document].append((other, value))
    memberships: defaultdict[int, list[int]] = defaultdict(list)
    for number, members in enumerate(large_buckets.members):
        for member in rank[np.unique(heads[members][heads[members] >= 0])].tolist():
            memberships[member].append(number)
    best_first = np.argsort(rank)
    stars: list[list[int]] = [[] for _ in large_buckets.members]  # of each bucket those that stay
    gone: dict[int, tuple[int, float]] = {}
    uncompared = 0
    for document in sorted({*neighbours, *memberships}):
        found = next((pair for pair in neighbours.get(document, ()) if pair[0] not in gone), None)
        others = sorted({other for number in memberships.get(document, ()) for other in stars[number]})
        for start in range(0, 0 if found else min(len(others), MOST_COMPARED), _AT_ONCE):
            asked = others[start : min(start + _AT_ONCE, MOST_COMPARED)]
            values = similarity(int(best_first[document]), best_first[asked].tolist())
            if len(enough := np.flatnonzero(values >= threshold)):
                found = asked[enough[0]], float(values[enough[0]])
                break
        if found:
            gone[document] = found
            continue
        uncompared += max(len(others) - MOST_COMPARED, 0)
        for number in memberships.get(document, ()):
            stars[number].append(document)
    kept, values = np.arange(len(rank)), np.ones(len(rank))
    documents = best_first[list(gone)]
    kept[documents] = best_first[[other for other, _ in gone.values()]]
    values[documents] = [value for _, value in gone.values()]
    others = np.flatnonzero(there & (heads != np.arange(len(rank))))
    kept[others], values[others] = kept[heads[others]], values[heads[others]]
    return Kept(kept, values, uncompared)


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
    equal = pairs.similarity == 1
    return linked(pairs.first[equal], pairs.second[equal], documents)


def linked(first: NDArray[np.int64], second: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """(count,) a number for each, the same for those that these pairs link, directly or through others."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def similarity_by_texts(texts: Sequence[str], large_buckets: LargeBuckets) -> Similarity:
    """The similarity of a document and others, counted from their texts, which are read when it is asked for."""

    @lru_cache(_REMEMBERED)
    def set_of(document: int) -> NDArray[np.uint64]:
        return shingle_sets([texts[document]], large_buckets.words).values

    def similarity(document: int, others: Sequence[int]) -> NDArray[np.float64]:
        sets = [set_of(each) for each in (document, *others)]
        rows = HashRows(np.concatenate(sets), np.cumsum([len(each) for each in sets]))
        return similarities(rows, np.stack((np.zeros(len(others), np.int64), np.arange(1, len(sets))), axis=1))

    return similarity
