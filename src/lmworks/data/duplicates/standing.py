"""Which document of a corpus stays before which: a known licence first, then quality where it was measured, then
length, then the uri; never the order of reading."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmworks.data.annotation_table import AnnotationTable

LICENCE, QUALITY, KEY = "licence", "quality", "exact"  # labels and a measure; the last one equal texts share

DECIDES = ("by licence", "by quality", "longer", "equal in licence, quality and length: first by name")


@dataclass(frozen=True, slots=True, eq=False)
class Standings:
    """The documents of a corpus, n of them, in their order.

    starts      (shards + 1,) where each shard begins.
    rank        (n,) int64: 0 is the document that stays before all others.
    uris        of all.
    keys        of all: what those with equal texts share.
    sources     of all.
    kinds       of all.
    languages   of all, None where it is unknown.
    licensed    (n,) bool: what it may be used for is known.
    characters  (n,) int64, after repair.
    """

    starts: NDArray[np.int64]
    rank: NDArray[np.int64]
    uris: Sequence[str]
    keys: Sequence[str | None]
    sources: Sequence[str]
    kinds: Sequence[str]
    languages: Sequence[str | None]
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


def standing_of(tables: Sequence[AnnotationTable]) -> Standings:
    """That of the documents of a corpus, a table for each of its shards."""
    uris = [uri for table in tables for uri in table.uris]
    licensed = np.array([licence is not None for table in tables for licence in _labels(table, LICENCE)], bool)
    quality = np.concatenate(
        [np.empty(0), *(np.nan_to_num(_measures(table, QUALITY), nan=-np.inf) for table in tables)]
    )
    length = np.concatenate([np.empty(0, np.int64), *(table.characters for table in tables)])
    order = sorted(
        range(len(uris)), key=lambda place: _key(licensed[place], quality[place], length[place], uris[place])
    )
    rank = np.empty(len(uris), np.int64)
    rank[order] = np.arange(len(uris))
    return Standings(
        starts=np.cumsum([0, *map(len, tables)]),
        rank=rank,
        uris=uris,
        keys=[key for table in tables for key in _labels(table, KEY)],
        sources=[source for table in tables for source in table.sources],
        kinds=[kind for table in tables for kind in table.kinds],
        languages=[language for table in tables for language in _labels(table, "language")],
        licensed=licensed,
        characters=length,
    )


def why_first(first: tuple[AnnotationTable, int], second: tuple[AnnotationTable, int]) -> str:
    """What decides that one document stays before another, each a table and a place in it: one of `DECIDES`. Empty
    where the second comes first."""
    mine, other = _key_in(*first), _key_in(*second)
    if mine >= other:
        return ""
    return next(told for told, one, two in zip(DECIDES, mine, other, strict=True) if one != two)


def _key_in(table: AnnotationTable, place: int) -> tuple[bool, float, int, str]:
    quality = float(np.nan_to_num(_measures(table, QUALITY)[place], nan=-np.inf))
    licensed = _labels(table, LICENCE)[place] is not None
    return _key(licensed, quality, int(table.characters[place]), table.uris[place])


def _key(licensed: bool, quality: float, length: int, uri: str) -> tuple[bool, float, int, str]:
    """Documents stay in the order of these."""
    return not licensed, -quality, -length, uri


def _labels(table: AnnotationTable, name: str) -> Sequence[str | None]:
    return table.labels.get(name) or [None] * len(table)


def _measures(table: AnnotationTable, name: str) -> NDArray[np.float64]:
    return table.measures.get(name, np.full(len(table), np.nan))
