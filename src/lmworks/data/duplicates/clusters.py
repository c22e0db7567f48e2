"""Which of several near duplicates stays: star clusters around survivors that are chosen by a stated priority.

Being similar is not transitive: a chain of texts, each near the next, can lead from one text to another that has
nothing in common with it, and dropping all but one of a connected component has emptied whole sources. Here documents
are gone through from the best to the worst; one goes only if it was itself compared with a document that stays, and was
found similar. So the documents that stay are a maximal independent set, chosen greedily, and each other one has a twin
among them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmworks.data.duplicates.verifying import Verified

MOST_COMPARED = 1000  # documents of a crowd that stay, and that each later one is compared with
_AT_ONCE = 4  # that are compared first; then four times as many, and so on

Similarity = Callable[[int, Sequence[int]], NDArray[np.float64]]  # of a document and (n,) others


@dataclass(frozen=True, slots=True)
class Standing:
    """What decides which of two duplicates stays: in this order, a known licence, quality, length and the id.

    id             Unique: the last resort, so that the choice never depends on the order of the documents.
    licence_known  Whether it is known what the document may be used for.
    quality        Higher is better; None counts as worse than any.
    length         In any unit that is the same for all; longer is better.
    """

    id: str
    licence_known: bool = False
    quality: float | None = None
    length: int = 0

    def __post_init__(self) -> None:
        if self.quality is not None and self.quality != self.quality:
            raise ValueError(f"{self.id}: a quality that is not a number decides nothing; leave it out")


@dataclass(frozen=True, slots=True, eq=False)
class Stars:
    """What becomes of each of n documents.

    kept        (n,) int64: the document that stays in its place, which is itself where it stays
    similarity  (n,) float64: to that one; 1 for itself
    uncompared  comparisons within crowds that were not made, because too many documents of one stayed
    candidates  pairs that were compared otherwise
    """

    kept: NDArray[np.int64]
    similarity: NDArray[np.float64]
    uncompared: int = 0
    candidates: int = 0

    @property
    def removed(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.kept != np.arange(len(self.kept)))


def by_priority(standings: Sequence[Standing]) -> NDArray[np.int64]:
    """(n,) int64: the documents from the best to the worst. ValueError for two with one id."""
    if len({standing.id for standing in standings}) != len(standings):
        raise ValueError("two documents have the same id, so that nothing would decide between them")

    def key(document: int) -> tuple[bool, float, int, str]:
        standing = standings[document]
        quality = float("-inf") if standing.quality is None else standing.quality
        return not standing.licence_known, -quality, -standing.length, standing.id

    return np.array(sorted(range(len(standings)), key=key), np.int64)


def star_clusters(
    documents: int,
    verified: Verified,
    crowds: Sequence[NDArray[np.int64]] = (),
    similarity: Similarity | None = None,
    threshold: float = 0.0,
    most_compared: int = MOST_COMPARED,
) -> Stars:
    """Documents 0 to `documents` - 1, the best first, each with the one that stays in its place.

    A document goes if a verified pair joins it with a better one that stays, the best of those being its twin. Else it
    is compared, by `similarity(document, better ones)` against `threshold`, with the documents of its crowds that stay,
    from the best on. So among the documents that stay, no pair which was verified or shares a crowd is similar, save
    for the comparisons that are counted as `uncompared`.
    """
    if crowds and similarity is None:
        raise ValueError("crowds need a similarity to be compared by")
    kept, values = list(range(documents)), np.ones(documents)
    better = _better_twins(verified)
    memberships: dict[int, list[int]] = {}
    for number, members in enumerate(crowds):
        for member in members.tolist():
            memberships.setdefault(member, []).append(number)
    stars: list[list[int]] = [[] for _ in crowds]
    uncompared = 0
    for document in sorted({*better, *memberships}):
        twin = next((pair for pair in better.get(document, ()) if kept[pair[0]] == pair[0]), None)
        mine = memberships.get(document, ())
        if twin is None and mine and similarity is not None:
            others = sorted({other for number in mine for other in stars[number]})
            twin = _first_similar(document, others[:most_compared], similarity, threshold)
            uncompared += max(len(others) - most_compared, 0) if twin is None else 0
        if twin is not None:
            kept[document], values[document] = twin
        else:
            for number in mine:
                stars[number].append(document)
    return Stars(np.array(kept, np.int64), values, uncompared, verified.candidates)


def _first_similar(
    document: int, others: Sequence[int], similarity: Similarity, threshold: float
) -> tuple[int, float] | None:
    """The first of the others that is similar enough, with the similarity. Most have it among the first few."""
    start, size = 0, _AT_ONCE
    while start < len(others):
        chunk = others[start : start + size]
        values = similarity(document, chunk)
        enough = np.flatnonzero(values >= threshold)
        if len(enough):
            return chunk[int(enough[0])], float(values[enough[0]])
        start, size = start + size, 4 * size
    return None


def _better_twins(verified: Verified) -> dict[int, list[tuple[int, float]]]:
    """Document → the better ones of its pairs, the best first, with the similarity."""
    twins: dict[int, list[tuple[int, float]]] = {}
    order = np.lexsort((verified.pairs[:, 0], verified.pairs[:, 1]))
    for (first, second), value in zip(verified.pairs[order].tolist(), verified.similarity[order].tolist(), strict=True):
        twins.setdefault(second, []).append((first, value))
    return twins
