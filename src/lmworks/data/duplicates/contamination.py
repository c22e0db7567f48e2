"""Evaluation items in training documents, found by the word n-grams they share (Brown et al. 2020, appendix C).

An item is cut into units: its question, its choices and its answers, each for itself where it has eight words. One of
thirteen words or more is looked for by its runs of thirteen, a shorter one as a whole. What counts is the share of the
question's words that a document holds, or that of all its units where that is higher: an item is given away by its
question, whatever its choices are, and a single choice that stands somewhere without it says little.

A question of three to seven words may be anyone's. It counts where the answer follows soon, or all choices do, however
they are set out; alone it does not. Of an item whose question is still shorter, question and answer are looked for one
directly after the other. An item of fewer than eight words, question and answer together, may be found so; but a
document that does not hold it proves nothing, and it is `too short to decide` then. What nearly every item of a set
holds, such as its instruction, says nothing of any of them: runs that more than `most_items` items have are left out,
and an item that has no others is `too common to decide`.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

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
SHORTEST_WHOLE = 5  # words of an item, question and answer, that is looked for at all
SHORTEST_QUESTION = 3  # words of a question that is looked for by itself, if its answer follows
MOST_ITEMS = 10
ANSWER_WITHIN = 100  # words between a question and its answer, besides those of the choices
ANSWER_NEXT = 4  # the same of an item of few words, such as "the right answer is"

Status = Literal["contaminated", "clean", "too short to decide", "too common to decide"]


@dataclass(frozen=True, slots=True)
class Overlap:
    """What a document and an evaluation item share.

    document        The number of the document.
    item            The id of the item.
    share           Of the question's words those that stand in the document within a run of the item's, or of all the
                    item's units where that is more.
    marks           Where, each with the share as its score.
    matched         The text of the longest mark.
    text            The item's own.
    answer_follows  Whether one of its answers stands soon after the first mark; None without any.
    """

    document: int
    item: str
    share: float
    marks: tuple[Mark, ...]
    matched: str
    text: str
    answer_follows: bool | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ContaminationIndex:
    """Evaluation items as they are looked for; made by `index_items`.

    unit_words        (items,) int64: the words of each item's units.
    questions         (items, 2) int64: where the question's words begin and end, over the units of all items; twice the
                      same number where the question is no unit.
    needs_answer      (items,) bool: the question is so short that it counts only where an answer follows.
    lookup, run_ends  The distinct runs of words: their hashes, and where the entries of each end.
    entry_items       (entries,) int64: the item that has a run.
    entry_places      (entries,) int64: where it begins, in words over the units of all items.
    entry_lengths     (entries,) int64: its words.
    lengths           The lengths that there are.
    answers, choices  Of each item, as hashes of their words.
    undecided         Item → why a document that does not hold it does not clear it.
    """

    items: tuple[EvaluationItem, ...]
    size: int
    unit_words: NDArray[np.int64]
    questions: NDArray[np.int64]
    needs_answer: NDArray[np.bool_]
    lookup: HashLookup
    run_ends: NDArray[np.int64]
    entry_items: NDArray[np.int64]
    entry_places: NDArray[np.int64]
    entry_lengths: NDArray[np.int64]
    lengths: frozenset[int]
    answers: Sequence[Sequence[NDArray[np.uint64]]]
    choices: Sequence[Sequence[NDArray[np.uint64]]]
    undecided: Mapping[int, Status]


def index_items(items: Iterable[EvaluationItem], size: int = SIZE, most_items: int = MOST_ITEMS) -> ContaminationIndex:
    """ValueError where two items have one id, or a run has fewer words than the shortest unit."""
    items = tuple(items)
    if len({item.id for item in items}) != len(items):
        raise ValueError("two evaluation items have the same id: give their files different names")
    if size < SHORTEST:
        raise ValueError(f"runs have at least {SHORTEST} words, got {size}")
    cut = [_units_of(item) for item in items]
    rows = hash_words(text for units in cut for text in units.texts)
    unit_items = np.repeat(np.arange(len(items)), [len(units.texts) for units in cut])
    unit_words = np.bincount(unit_items, weights=rows.lengths, minlength=len(items)).astype(np.int64)
    hashes, places, lengths = _entries(rows, size)
    owners = unit_items[np.searchsorted(rows.ends, places, side="right")]
    order = np.lexsort((places, hashes))
    order = order[_telling(hashes[order], owners[order], most_items)]
    hashes, places, lengths, owners = hashes[order], places[order], lengths[order], owners[order]
    distinct, counts = np.unique(hashes, return_counts=True)
    return ContaminationIndex(
        items, size, unit_words, _question_ranges(cut, unit_words, rows), np.array([u.needs_answer for u in cut], bool),
        HashLookup(distinct), np.cumsum(counts), owners, places, lengths, frozenset(lengths.tolist()),
        _hashed([item.answers for item in items]), _hashed([item.choices for item in items]), _undecided(items, owners),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Units:
    """The texts that an item is looked for by. The question is the first of them where `has_question` says so."""

    texts: tuple[str, ...]
    has_question: bool = True
    needs_answer: bool = False


def _units_of(item: EvaluationItem) -> _Units:
    counts = {part: len(words(part)) for part in item.parts}
    long = tuple(part for part in item.parts if counts[part] >= SHORTEST and part != item.question)
    question = counts[item.question]
    if question >= SHORTEST:
        return _Units((item.question, *long))
    whole = question + len(words(item.answers[0])) if item.answers else question
    if whole < SHORTEST_WHOLE and not long:
        return _Units((), has_question=False)
    if not (item.answers or item.choices):
        return _Units((item.question,))
    if question >= SHORTEST_QUESTION:
        return _Units((item.question, *long), needs_answer=True)
    if long:
        return _Units(long, has_question=False)
    return _Units(("\n".join((item.question, *item.answers[:1])),))


def _question_ranges(cut: Sequence[_Units], unit_words: NDArray[np.int64], rows: HashRows) -> NDArray[np.int64]:
    starts = np.cumsum(unit_words) - unit_words
    first = np.cumsum([0, *(len(units.texts) for units in cut)])[:-1]
    has = np.array([units.has_question for units in cut], bool)
    ends = starts.copy()
    ends[has] = rows.ends[first[has]]
    return np.stack((starts, ends), axis=1)


def _hashed(texts: Sequence[Sequence[str]]) -> list[list[NDArray[np.uint64]]]:
    """The words of each text, hashed; of texts of more than `SIZE` words the first ones; of those without any, none."""
    rows = hash_words(text for each in texts for text in each)
    ends = np.cumsum([len(each) for each in texts], dtype=np.int64)
    found = [rows[row][:SIZE] for row in range(len(rows))]
    return [
        [found[row] for row in range(end - len(each), end) if len(found[row])]
        for each, end in zip(texts, ends.tolist(), strict=True)
    ]


def _undecided(items: Sequence[EvaluationItem], owners: NDArray[np.int64]) -> dict[int, Status]:
    """Items of too few words, and those of which no run is left among the `owners` of runs."""
    left = np.bincount(owners, minlength=len(items))
    undecided: dict[int, Status] = {}
    for number, item in enumerate(items):
        long = any(len(words(part)) >= SHORTEST for part in item.parts)
        if not long and len(words("\n".join((item.question, *item.answers[:1])))) < SHORTEST:
            undecided[number] = "too short to decide"
        elif not left[number]:
            undecided[number] = "too common to decide"
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
        begins, runs_of = place[group] - starts[document], entry[group]
        counts = _counting(index, item, rows[document], begins, runs_of)
        if not counts.any():
            continue
        begins, runs_of = begins[counts], runs_of[counts]
        if at != document:
            at, spans = document, word_spans(texts[document])
        ranges = _merged(begins, index.entry_lengths[runs_of])
        share = _share(index, item, _merged(index.entry_places[runs_of], index.entry_lengths[runs_of]))
        marks = tuple(Mark(RULE, int(spans[start, 0]), int(spans[end - 1, 1]), share) for start, end in ranges)
        longest = max(marks, key=lambda mark: mark.end - mark.start)
        answers = index.answers[item]
        yield Overlap(
            first_document + document, index.items[item].id, share, marks,
            texts[document][longest.start : longest.end], index.items[item].text,
            _follows(index, item, rows[document], *ranges[0]) if answers else None,
        )  # fmt: skip


def _counting(
    index: ContaminationIndex,
    item: int,
    document: NDArray[np.uint64],
    begins: NDArray[np.int64],
    entries: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """(n,) which of the item's runs in a document say anything: not a short question without its answer."""
    counts = np.ones(len(begins), bool)
    if index.needs_answer[item]:
        low, high = index.questions[item].tolist()
        for row in np.flatnonzero((low <= index.entry_places[entries]) & (index.entry_places[entries] < high)).tolist():
            end = int(begins[row]) + high - low
            counts[row] = _follows(index, item, document, end, end) or _choices_follow(index, item, document, end)
    return counts


def _share(index: ContaminationIndex, item: int, covered: Sequence[tuple[int, int]]) -> float:
    """Of the question's words those that are covered, or of those of all units."""
    low, high = index.questions[item].tolist()
    whole = sum(end - start for start, end in covered) / int(index.unit_words[item])
    question = sum(max(min(end, high) - max(start, low), 0) for start, end in covered)
    return max(whole, question / (high - low)) if high > low else whole


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


def _follows(index: ContaminationIndex, item: int, document: NDArray[np.uint64], start: int, end: int) -> bool:
    """Whether one of the item's answers stands among a document's words from `start` to some way behind `end`: right
    behind it where the item has few words."""
    low, high = index.questions[item].tolist()
    far = ANSWER_WITHIN + sum(map(len, index.choices[item]))
    for answer in index.answers[item]:
        few = index.needs_answer[item] and high - low + len(answer) < SHORTEST
        if _holds(document[start : end + (ANSWER_NEXT if few else far) + len(answer)], answer):
            return True
    return False


def _choices_follow(index: ContaminationIndex, item: int, document: NDArray[np.uint64], end: int) -> bool:
    """Whether all choices of the item, two at least, stand behind `end`."""
    choices = index.choices[item]
    after = document[end : end + ANSWER_WITHIN + sum(map(len, choices))]
    return len(choices) > 1 and all(_holds(after, choice) for choice in choices)


def _holds(words: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> bool:
    if len(wanted) > len(words):
        return False
    windows = np.lib.stride_tricks.sliding_window_view(words, len(wanted))
    return bool((windows == wanted).all(axis=1).any())


def count_statuses(index: ContaminationIndex, found: Collection[str]) -> dict[str, int]:
    """How many items have each status, where those with the ids `found` stand in a document."""
    counts = dict.fromkeys(get_args(Status), 0)
    for number, item in enumerate(index.items):
        counts[_status(index, number, item.id in found)] += 1
    return counts


def _status(index: ContaminationIndex, number: int, found: bool) -> Status:
    return "contaminated" if found else index.undecided.get(number, "clean")
