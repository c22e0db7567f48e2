"""Which of several duplicates stays: of a group the best by a stated priority, a known licence first, then quality
where it was measured, then length, then the uri; never the order of reading.

A group is what pairs of alike documents link, directly or through others (union-find). Groups are facts of the texts;
documents may be gone already for other reasons, so of each group the best one that is still there stays.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmworks.corpus.attributes import AttributeTable

LICENCE, QUALITY, KEY = "licence", "quality", "exact"  # labels and a score; the last one equal texts share
RANKED_BY = ("uri", f"label.{LICENCE}", f"label.{KEY}", f"score.{QUALITY}")

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


def linked(first: NDArray[np.int64], second: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """(count,) the lowest number in the group of each: of those that pairs link, directly or through others.
    Algorithm P of Liu & Tarjan (2019), "Simple concurrent labeling algorithms for connected components"."""
    groups = np.arange(count)
    while (groups[first] != groups[second]).any():
        low, high = np.sort([groups[first], groups[second]], axis=0)
        np.minimum.at(groups, high, low)
        groups = groups[groups]
    return groups


def equal_texts(keys: Sequence[str | None]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs that link all documents with one key, which have one text; None is no key."""
    first: dict[str, int] = {}
    pairs = [(first.setdefault(key, number), number) for number, key in enumerate(keys) if key is not None]
    return tuple(np.array(pairs, np.int64).reshape(-1, 2).T)  # type: ignore[return-value]


def best_of_groups(groups: NDArray[np.int64], rank: NDArray[np.int64], there: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(n,) the document that stays in the place of each: the best of its group that is `there`; itself for one that is
    not."""
    order = np.argsort(rank)
    order = order[there[order]]
    _, first, place = np.unique(groups[order], return_index=True, return_inverse=True)
    kept = np.arange(len(rank))
    kept[order] = order[first][place]
    return kept


def check_similarity(wanted: float, searched: float) -> None:
    """ValueError where near duplicates were looked for from a higher similarity on."""
    if wanted < searched:
        raise ValueError(
            f"documents that are alike were looked for from a similarity of {searched:g} on, and not of {wanted:g}: "
            f"lower near.threshold of corpus.dedup (--set duplicates.near.threshold={wanted:g}, for a stage called "
            "duplicates), or raise the similarity of the step"
        )
