"""Evaluation items in training documents, found by the word n-grams they share (Brown et al. 2020, appendix C).

An item is cut into units: its question, its choices and its answers, each for itself where it has eight words. One of
thirteen words or more is looked for by its runs of thirteen, a shorter one as a whole. An item without such a part is
looked for as a whole, question and answer one after the other, down to five words; below eight, a document that does
not hold it proves nothing, so that such an item is `too short to decide` unless it is found. What nearly every item of
a set holds, such as its instruction, says nothing of any of them: runs that more than `most_items` items have are left
out, and an item that has no others is `too common to decide`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lmworks.data.annotation import Mark
from lmworks.data.duplicates.evaluation_items import EvaluationItem
from lmworks.data.duplicates.lookup import HashLookup
from lmworks.data.duplicates.reference import runs
from lmworks.data.duplicates.rows import HashRows, positions
from lmworks.data.duplicates.shingles import batches, hash_words
from lmworks.data.duplicates.words import word_spans, words
from lmworks.data.order import mix

RULE = "contamination"
SIZE = 13  # words of a run, as for GPT-3
SHORTEST = 8  # words of a part that is looked for by itself, and of an item that a document's silence clears
SHORTEST_WHOLE = 5  # words of an item that is looked for at all
MOST_ITEMS = 10
ANSWER_WITHIN = 100  # words after the place of a question, where its short answer is looked for

Status = Literal["contaminated", "clean", "too short to decide", "too common to decide"]


@dataclass(frozen=True, slots=True)
class Overlap:
    """What a document and an evaluation item share.

    document        The number of the document.
    item            The id of the item.
    share           Of the words of the item's units, those that stand in the document within a run of the item's.
    marks           Where, each with the share as its score.
    matched         The text of the longest mark.
    text            The item's own.
    answer_follows  Whether one of its short answers stands within 100 words after the first mark; None without any.
    """

    document: int
    item: str
    share: float
    marks: tuple[Mark, ...]
    matched: str
    text: str
    answer_follows: bool | None = None


@dataclass(frozen=True, slots=True)
class ItemReport:
    """What became of one item: its status, the highest share of a document, and the documents that share anything."""

    item: str
    status: Status
    share: float
    documents: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ContaminationIndex:
    """Evaluation items as they are looked for; made by `index_items`.

    item_words        (items,) int64: the words of each item's units.
    lookup, run_ends  The distinct runs of words: their hashes, and where the entries of each end.
    entry_items       (entries,) int64: the item that has a run.
    entry_places      (entries,) int64: where it begins, in words over the units of all items.
    entry_lengths     (entries,) int64: its words.
    lengths           The lengths that there are.
    answers           Item → its answers that are too short for units, as hashes of their words.
    undecided         Item → why a document that does not hold it does not clear it.
    """

    items: tuple[EvaluationItem, ...]
    size: int
    item_words: NDArray[np.int64]
    lookup: HashLookup
    run_ends: NDArray[np.int64]
    entry_items: NDArray[np.int64]
    entry_places: NDArray[np.int64]
    entry_lengths: NDArray[np.int64]
    lengths: frozenset[int]
    answers: Mapping[int, Sequence[NDArray[np.uint64]]]
    undecided: Mapping[int, Status]


def index_items(items: Iterable[EvaluationItem], size: int = SIZE, most_items: int = MOST_ITEMS) -> ContaminationIndex:
    """ValueError where two items have one id, or a run has fewer words than the shortest unit."""
    items = tuple(items)
    if len({item.id for item in items}) != len(items):
        raise ValueError("two evaluation items have the same id: give their files different names")
    if size < SHORTEST:
        raise ValueError(f"runs have at least {SHORTEST} words, got {size}")
    units = [(number, unit) for number, item in enumerate(items) for unit in _units_of(item)]
    rows = hash_words(unit for _, unit in units)
    unit_items = np.array([number for number, _ in units], np.int64)
    item_words = np.bincount(unit_items, weights=rows.lengths, minlength=len(items)).astype(np.int64)
    hashes, places, lengths = _entries(rows, size)
    owners = unit_items[np.searchsorted(rows.ends, places, side="right")]
    order = np.lexsort((places, hashes))
    order = order[_telling(hashes[order], owners[order], most_items)]
    hashes, places, lengths, owners = hashes[order], places[order], lengths[order], owners[order]
    distinct, counts = np.unique(hashes, return_counts=True)
    return ContaminationIndex(
        items, size, item_words, HashLookup(distinct), np.cumsum(counts), owners, places, lengths,
        frozenset(lengths.tolist()), _short_answers(items), _undecided(item_words, owners),
    )  # fmt: skip


def _units_of(item: EvaluationItem) -> list[str]:
    long = [part for part in item.parts if len(words(part)) >= SHORTEST]
    if long:
        return long
    whole = "\n".join((item.question, *item.answers[:1]))
    return [whole] if len(words(whole)) >= SHORTEST_WHOLE else []


def _short_answers(items: Sequence[EvaluationItem]) -> dict[int, list[NDArray[np.uint64]]]:
    given = [(number, answer) for number, item in enumerate(items) for answer in item.answers]
    rows = hash_words(answer for _, answer in given)
    answers: dict[int, list[NDArray[np.uint64]]] = {}
    for row, (number, _) in enumerate(given):
        if 0 < len(rows[row]) < SHORTEST:
            answers.setdefault(number, []).append(rows[row])
    return answers


def _undecided(item_words: NDArray[np.int64], owners: NDArray[np.int64]) -> dict[int, Status]:
    """Items of too few words, and those of which no run is left among the `owners` of runs."""
    left = np.bincount(owners, minlength=len(item_words))
    undecided: dict[int, Status] = {}
    for number in np.flatnonzero((item_words < SHORTEST) | (left == 0)).tolist():
        undecided[number] = "too short to decide" if item_words[number] < SHORTEST else "too common to decide"
    return undecided


def _entries(rows: HashRows, size: int) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
    """The hashes of the runs of all rows, where each begins, and its words: `size`, or all of a shorter row."""
    hashes, places, lengths = [], [], []
    for length, run_hashes in runs(rows.values, size):
        if length < size:
            here = rows.starts[rows.lengths == length]
        else:
            begins = np.arange(len(run_hashes))
            here = begins[begins + size <= rows.ends[np.searchsorted(rows.ends, begins, side="right")]]
        hashes.append(mix(run_hashes[here]))
        places.append(here)
        lengths.append(np.full(len(here), length, np.int64))
    return np.concatenate(hashes), np.concatenate(places), np.concatenate(lengths)


def _telling(hashes: NDArray[np.uint64], owners: NDArray[np.int64], most_items: int) -> NDArray[np.bool_]:
    """Of entries in the order of their hashes, those whose run at most so many items have."""
    if not len(hashes):
        return np.zeros(0, bool)
    group = np.cumsum(np.append(False, hashes[1:] != hashes[:-1]))
    items = int(owners.max()) + 1
    return np.bincount(np.unique(group * items + owners) // items)[group] <= most_items


# ---------------------------------------------------------------------------------------------------------------------
# Looking for them


def find_overlaps(index: ContaminationIndex, texts: Iterable[str], first_document: int = 0) -> Iterator[Overlap]:
    """What the texts, numbered from `first_document`, share with the items, by document and then by item.

    Each text is read once, and its words are hashed once for runs of all lengths.
    """
    for batch in batches(texts):
        yield from _in_batch(index, batch, first_document)
        first_document += len(batch)


def _in_batch(index: ContaminationIndex, texts: Sequence[str], first_document: int) -> Iterator[Overlap]:
    rows = hash_words(texts)
    place, entry = _hits(index, rows)
    documents, owners = np.searchsorted(rows.ends, place, side="right"), index.entry_items[entry]
    order = np.lexsort((place, owners, documents))
    place, entry, documents, owners = place[order], entry[order], documents[order], owners[order]
    borders = np.flatnonzero((documents[1:] != documents[:-1]) | (owners[1:] != owners[:-1])) + 1
    starts = rows.starts
    at, spans = -1, np.empty((0, 2), np.int64)
    for group in np.split(np.arange(len(order)), borders) if len(order) else ():
        document, item = int(documents[group[0]]), int(owners[group[0]])
        if at != document:
            at, spans = document, word_spans(texts[document])
        begins, lengths = place[group] - starts[document], index.entry_lengths[entry[group]]
        ranges = _merged(begins, lengths)
        covered = _merged(index.entry_places[entry[group]], lengths)
        share = sum(end - start for start, end in covered) / int(index.item_words[item])
        marks = tuple(Mark(RULE, int(spans[start, 0]), int(spans[end - 1, 1]), share) for start, end in ranges)
        longest = max(marks, key=lambda mark: mark.end - mark.start)
        yield Overlap(
            first_document + document, index.items[item].id, share, marks,
            texts[document][longest.start : longest.end], index.items[item].text,
            _answer_follows(index.answers.get(item, ()), rows[document], *ranges[0]),
        )  # fmt: skip


def _hits(index: ContaminationIndex, rows: HashRows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where runs of items begin, in words over all rows, and the entry of each."""
    places, entries = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for length, hashes in runs(rows.values, index.size):
        if length in index.lengths:
            found, slots = index.lookup.find(mix(hashes))
            whole = found + length <= rows.ends[np.searchsorted(rows.ends, found, side="right")]
            place, entry = _expanded(index, found[whole], slots[whole])
            places.append(place)
            entries.append(entry)
    return np.concatenate(places), np.concatenate(entries)


def _expanded(
    index: ContaminationIndex, places: NDArray[np.int64], slots: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each place once for each entry of its run."""
    begins = np.where(slots > 0, index.run_ends[slots - 1], 0)
    counts = index.run_ends[slots] - begins
    return np.repeat(places, counts), positions(begins, counts)


def _merged(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[tuple[int, int]]:
    """The union of ranges as ranges that do not touch."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(zip(starts.tolist(), (starts + lengths).tolist(), strict=True)):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    return merged


def _answer_follows(
    answers: Sequence[NDArray[np.uint64]], words: NDArray[np.uint64], start: int, end: int
) -> bool | None:
    """Whether one of the answers stands among the words from `start` to a while after `end`."""
    after = words[start : end + ANSWER_WITHIN]
    return any(_holds(after, answer) for answer in answers) if answers else None


def _holds(words: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> bool:
    if len(wanted) > len(words):
        return False
    windows = np.lib.stride_tricks.sliding_window_view(words, len(wanted))
    return bool((windows == wanted).all(axis=1).any())


def report_items(
    index: ContaminationIndex, overlaps: Iterable[Overlap], at_least: float = 0.0
) -> tuple[ItemReport, ...]:
    """What became of each item, in their order: contaminated where a document has a share of at least `at_least`."""
    shares: dict[str, dict[int, float]] = {}
    for overlap in overlaps:
        if overlap.share >= at_least:
            shares.setdefault(overlap.item, {})[overlap.document] = overlap.share
    reports = []
    for number, item in enumerate(index.items):
        found = shares.get(item.id, {})
        status: Status = "contaminated" if found else index.undecided.get(number, "clean")
        reports.append(ItemReport(item.id, status, max(found.values(), default=0.0), tuple(sorted(found))))
    return tuple(reports)
