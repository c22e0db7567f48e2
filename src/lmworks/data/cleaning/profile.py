"""What a corpus consists of, before and after: by source, kind, language, licence and year; personal data and
evaluation items found in it. Counted of the documents themselves, for the data card and to check the ledger by.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lmworks.data.annotation_table import AnnotationTable
from lmworks.data.cleaning.descriptions import label_of, language_of_document, licence_of_document
from lmworks.data.cleaning.fields import FieldFind
from lmworks.data.cleaning.flows import Amount
from lmworks.data.cleaning.life import Life
from lmworks.records import Document

PERSONAL, CONTAMINATION, ITEM = "pii.", "contamination", "evaluation_item"
UNKNOWN = ""  # of a facet
ANY = "any"  # type of personal data


@dataclass(frozen=True, slots=True)
class Share:
    """Documents of one source that have this value of a facet: what was read, and what stays."""

    source: str
    facet: str
    value: str
    before: Amount
    after: Amount


@dataclass(frozen=True, slots=True)
class Personal:
    """Places of one type of personal data: all that were found, in how many documents; of those in documents that
    stay, what was taken out and what was left."""

    rule: str
    found: int
    documents: int
    removed: int
    left: int


@dataclass(frozen=True, slots=True)
class PersonalBeside:
    """Places of one type of personal data, or of `ANY`, in the titles, the metadata or the uris of documents that stay:
    in how many documents, what was taken out and what was left."""

    field: str
    rule: str
    documents: int
    removed: int
    left: int


@dataclass(frozen=True, slots=True)
class FoundItem:
    """An evaluation item: in how many documents it was found, how many of them stay, and the highest share of it."""

    item: str
    documents: int
    stay: int
    share: float


@dataclass(frozen=True, slots=True)
class CutRule:
    """What a rule of a step cut: documents, places, characters that went, and characters written in their place."""

    step: str
    rule: str
    documents: int
    places: int
    taken: int
    written: int


@dataclass(frozen=True, slots=True)
class Profile:
    """Each in the order of its names."""

    shares: tuple[Share, ...]
    cuts: tuple[CutRule, ...]
    personal: tuple[Personal, ...]
    items: tuple[FoundItem, ...]
    beside: tuple[PersonalBeside, ...] = ()
    metadata: tuple[tuple[str, int], ...] = ()  # of what stays: the name of a value, and how many documents have it

    def amounts(self, *, before: bool) -> dict[str, Amount]:
        """Source → what was read of it, or else what stays."""
        return {share.source: share.before if before else share.after for share in self.shares if share.facet == "all"}


class Profiler:
    """Counts over documents; those of several shards add up."""

    def __init__(self) -> None:
        self._shares: dict[tuple[str, str, str], list[int]] = {}
        self._cuts: dict[tuple[str, str], list[int]] = {}
        self._personal: dict[str, list[int]] = {}
        self._items: dict[str, list[float]] = {}
        self._beside: dict[tuple[str, str], list[int]] = {}
        self._metadata: dict[str, list[int]] = {}

    def add(self, document: Document, life: Life, table: AnnotationTable, place: int) -> None:
        cleaned = life.cleaned
        counts = [1, _bytes(document.text), *((0, 0) if cleaned is None else (1, _bytes(cleaned.text)))]
        values = {
            "all": "",
            "folder": _folder(document),
            "kind": table.kinds[place],
            "language": language_of_document(document, table, place) or UNKNOWN,
            "licence": licence_of_document(document, table, place) or UNKNOWN,
            "rows": table.kinds[place] if document.extractor == "row" else "",  # of tables, by their kind
            "year": (document.date or "")[:4] or UNKNOWN,
        }
        for facet, value in values.items():
            _add(self._shares, (document.source, facet, value), counts)
        self._add_cuts(life)
        self._add_personal(life, table, place)
        self._add_beside(life.beside)
        for name in cleaned.metadata if cleaned is not None else ():
            _add(self._metadata, name, [1])
        if item := label_of(table, ITEM, place):
            share = float(table.measures[CONTAMINATION][place]) if CONTAMINATION in table.measures else 0.0
            self._add_item(item, 1, 0 if cleaned is None else 1, share)

    def _add_cuts(self, life: Life) -> None:
        for entry in life.entries:
            by_rule: dict[str, list[int]] = {}
            for cut in entry.cuts:
                _add(by_rule, cut.rule, [1, cut.end - cut.start, len(cut.replacement)])
            for rule, counts in by_rule.items():
                _add(self._cuts, (entry.step, rule), [1, *counts])

    def _add_personal(self, life: Life, table: AnnotationTable, place: int) -> None:
        marks = table.marks[place] if table.marks else ()
        found: dict[str, int] = {}
        for mark in marks:
            if mark.rule.startswith(PERSONAL):
                found[mark.rule] = found.get(mark.rule, 0) + 1
        if not found:
            return
        gone = [(cut.start, cut.end) for entry in life.entries[1:] for cut in entry.cuts]
        for rule, places in found.items():
            removed = 0
            if life.cleaned is not None:
                spans = [(mark.start, mark.end) for mark in marks if mark.rule == rule]
                removed = _covered(spans, gone)
            left = 0 if life.cleaned is None else places - removed
            _add(self._personal, rule, [places, 1, removed, left])

    def _add_beside(self, found: Sequence[FieldFind]) -> None:
        places: dict[tuple[str, str], list[int]] = {}
        for find in found:
            for rule in (find.rule, ANY):
                _add(places, (find.field, rule), [int(find.removed), int(not find.removed)])
        for key, counts in places.items():
            _add(self._beside, key, [1, *counts])

    def _add_item(self, item: str, documents: float, stay: float, share: float) -> None:
        counts = self._items.setdefault(item, [0, 0, 0.0])
        counts[:] = [counts[0] + documents, counts[1] + stay, max(counts[2], share)]

    def rows(self) -> dict[str, list[list[object]]]:
        return {
            "shares": [[*key, *counts] for key, counts in sorted(self._shares.items())],
            "cuts": [[*key, *counts] for key, counts in sorted(self._cuts.items())],
            "personal": [[rule, *counts] for rule, counts in sorted(self._personal.items())],
            "items": [[item, *counts] for item, counts in sorted(self._items.items())],
            "beside": [[*key, *counts] for key, counts in sorted(self._beside.items())],
            "metadata": [[name, *counts] for name, counts in sorted(self._metadata.items())],
        }

    def add_rows(self, rows: Mapping[str, Iterable[Sequence]]) -> None:
        for source, facet, value, *counts in rows["shares"]:
            _add(self._shares, (source, facet, value), counts)
        for step, rule, *counts in rows["cuts"]:
            _add(self._cuts, (step, rule), counts)
        for rule, *counts in rows["personal"]:
            _add(self._personal, rule, counts)
        for item, *counts in rows["items"]:
            self._add_item(item, *counts)
        for field, rule, *counts in rows["beside"]:
            _add(self._beside, (field, rule), counts)
        for name, *counts in rows["metadata"]:
            _add(self._metadata, name, counts)

    def profile(self) -> Profile:
        return Profile(
            tuple(
                Share(*key, Amount(*counts[:2]), Amount(*counts[2:])) for key, counts in sorted(self._shares.items())
            ),
            tuple(CutRule(*key, *counts) for key, counts in sorted(self._cuts.items())),
            tuple(Personal(rule, *counts) for rule, counts in sorted(self._personal.items())),
            tuple(
                FoundItem(item, int(documents), int(stay), share)
                for item, (documents, stay, share) in sorted(self._items.items())
            ),
            tuple(PersonalBeside(*key, *counts) for key, counts in sorted(self._beside.items())),
            tuple((name, documents) for name, (documents,) in sorted(self._metadata.items())),
        )


def _add(counts: dict, key: object, more: Sequence[int]) -> None:
    counts[key] = [one + other for one, other in zip(counts.get(key, [0] * len(more)), more, strict=True)]


def _folder(document: Document) -> str:
    """The first folder within its source, or the host of an address there; "" for what lies in none."""
    path = document.uri.removeprefix(f"{document.source}/")
    host = re.match(r"[a-z]+://([^/]+)/", path)
    return host[1] if host else path.partition("/")[0] if "/" in path else ""


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _covered(spans: Sequence[tuple[int, int]], gone: Iterable[tuple[int, int]]) -> int:
    """How many of the spans lost every character: what is left of half a number may be personal. `gone` ranges do not
    overlap, and several that touch may cover a span together."""
    joined: list[list[int]] = []
    for start, end in sorted(gone):
        if joined and start <= joined[-1][1]:
            joined[-1][1] = end
        else:
            joined.append([start, end])
    starts = [start for start, _ in joined]
    return sum(1 for start, end in spans if (at := bisect_right(starts, start)) and end <= joined[at - 1][1])
