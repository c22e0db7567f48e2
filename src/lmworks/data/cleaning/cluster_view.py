"""Clusters of duplicates, for people to look at: a document that stays, and all that went for its sake.

A step drops a document for the sake of a twin, and a later step may drop that twin for the sake of another. So of the
members of a cluster each is led to the last of such a chain, and says by whom it was driven out itself: `twin`, with
which it was compared, is not always the one that stays.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lmworks.data.cleaning.differences import differences
from lmworks.data.cleaning.ledger import Entry

LARGEST, DRAWN, SHOWN, CONTEXT, MOST = 5, 5, 3, 60, 200


@dataclass(frozen=True, slots=True)
class Difference:
    """Short texts around the first place where two documents differ; equal ones where they nowhere do."""

    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Member:
    """A document that went.

    uri         Its own.
    twin        The document for whose sake it went.
    step, rule  What dropped it.
    similarity  To its twin, as far as the rule tells: of a copied repository, the share of its files.
    characters  Its size when it went.
    difference  From its twin; None where no texts were asked for, or it is not among those that are shown.
    """

    uri: str
    twin: str
    step: str
    rule: str
    similarity: float
    characters: int
    difference: Difference | None = None


@dataclass(frozen=True, slots=True)
class Cluster:
    """A star of duplicates.

    survivor    The document that no other one drove out.
    members     Those that went, the least similar first.
    characters  The size of the survivor when it drove out the last of them.
    stays       Whether it stays to the end: a later step may have dropped it for a reason of its own.
    """

    survivor: str
    members: tuple[Member, ...]
    characters: int
    stays: bool = True

    @property
    def size(self) -> int:
        return 1 + len(self.members)


def clusters_of(entries: Iterable[Entry]) -> list[Cluster]:
    """All clusters of a ledger, the largest first; those of one size by their survivors.

    Of the ledger, which may be read as it goes, only documents that have a twin, or are one, stay in memory.
    """
    went: dict[str, Member] = {}
    sizes: dict[str, int] = {}  # of all documents, when they were last there
    dropped: set[str] = set()
    for entry in entries:
        if entry.verdict == "gone":
            continue
        sizes[entry.document] = entry.characters_before
        if entry.verdict == "dropped":
            first = entry.first
            if first.twin is None:
                dropped.add(entry.document)
            else:
                value = 0.0 if first.value is None else first.value
                went[entry.document] = Member(
                    entry.document, first.twin, entry.step, first.rule, value, entry.characters_before
                )
    members: dict[str, list[Member]] = {}
    for member in went.values():
        members.setdefault(_last(member.twin, went), []).append(member)
    clusters = [
        Cluster(
            survivor,
            tuple(sorted(mine, key=lambda member: (member.similarity, member.uri))),
            sizes.get(survivor, 0),
            survivor not in dropped,
        )
        for survivor, mine in members.items()
    ]
    return sorted(clusters, key=lambda cluster: (-cluster.size, cluster.survivor))


def _last(document: str, went: dict[str, Member]) -> str:
    while document in went:
        document = went[document].twin
    return document


def shown_clusters(
    clusters: Sequence[Cluster],
    texts: Callable[[Sequence[str]], dict[str, str]] | None = None,
    largest: int = LARGEST,
    drawn: int = DRAWN,
    members: int = SHOWN,
    seed: int = 0,
) -> list[Cluster]:
    """The `largest` clusters, and as many others as `drawn` says, by a hash of their survivors and the seed.

    `texts` gives the texts of documents by their uris; with it, the first `members` of each cluster have the place at
    which they differ from their twins. Members are all there, with or without it.
    """
    ordered = sorted(clusters, key=lambda cluster: (-cluster.size, cluster.survivor))
    others = sorted(ordered[largest:], key=lambda cluster: _draw(cluster.survivor, seed))
    chosen = [*ordered[:largest], *others[:drawn]]
    if texts is None:
        return chosen
    wanted = {uri for cluster in chosen for member in cluster.members[:members] for uri in (member.uri, member.twin)}
    found = texts(sorted(wanted))
    return [_with_differences(cluster, found, members) for cluster in chosen]


def _draw(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode("utf-8", "surrogatepass")).digest()


def _with_differences(cluster: Cluster, texts: dict[str, str], members: int) -> Cluster:
    shown = tuple(
        Member(
            member.uri, member.twin, member.step, member.rule, member.similarity, member.characters,
            difference(texts[member.twin], texts[member.uri]),
        )
        for member in cluster.members[:members]
    )  # fmt: skip
    return Cluster(cluster.survivor, (*shown, *cluster.members[members:]), cluster.characters, cluster.stays)


def difference(first: str, second: str, context: int = CONTEXT, most: int = MOST) -> Difference:
    """What stands in two texts where they first differ, with some characters before it; of equal ones the beginning."""
    place = next(differences(first, second), None)
    start, other = (0, 0) if place is None else (place.start, place.other_start)
    low, other_low = max(start - context, 0), max(other - context, 0)
    return Difference(first[low : low + most], second[other_low : other_low + most])
