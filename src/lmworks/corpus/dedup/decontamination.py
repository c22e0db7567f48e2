"""Evaluation items in training documents, found by the word n-grams they share (Brown et al. 2020, appendix C).

An item is cut into units: its question, its choices and its answers, each for itself where it has eight words. One of
thirteen words or more is looked for by its runs of thirteen, a shorter one as a whole. What counts is the share of the
question's words that a document holds, or that of all its units where that is higher: an item is given away by its
question, whatever its choices are, and a single choice that stands somewhere without it says little.

A question of three to seven words may be anyone's. It counts where the answer follows soon, or all choices do, however
they are set out; alone it does not. Of an item whose question is still shorter, question and answer are looked for one
directly after the other. An item of fewer than eight words, question and answer together, may be found so; but a
document that does not hold it proves nothing, and it is `too short to decide` then. What nearly every item of a set
holds, such as its instruction, says nothing of any of them: runs that more than `MOST_ITEMS` items have are left out,
and an item that has no others is `too common to decide`.
"""

import gzip
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lmworks.corpus.attributes import TaggedSpan
from lmworks.corpus.dedup.hashes import HashLookup, mix, positions, word_spans, words
from lmworks.corpus.dedup.reference import runs, shingle_hashes
from lmworks.corpus.dedup.shingles import hash_words

RULE = "contamination"
SIZE = 13  # words of a run, as for GPT-3
SHORTEST = 8  # words of a part that is looked for by itself, and of an item that a document's silence clears
SHORTEST_WHOLE = 5  # words of an item, question and answer, that is looked for at all
SHORTEST_QUESTION = 3  # words of a question that is looked for by itself, if its answer follows
MOST_ITEMS = 10
ANSWER_WITHIN = 100  # words between a question and its answer, besides those of the choices
ANSWER_NEXT = 4  # the same of an item of few words, such as "the right answer is"

# How a row of a file names its parts: the first name that the row has.
QUESTION = ("question", "prompt", "problem", "text")
ANSWER = ("answer", "answers", "solution", "canonical_solution", "completion")
CHOICES = ("choices", "options")
ID = ("id", "task_id")

Status = Literal["contaminated", "clean", "too short to decide", "too common to decide"]

# ---------------------------------------------------------------------------------------------------------------------
# Items


@dataclass(frozen=True, slots=True)
class EvaluationItem:
    """One question. `answers` are those that count as right; `id` is unique among all that are looked for."""

    id: str
    question: str
    answers: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """Question, choices and answers, each text once."""
        return tuple(dict.fromkeys((self.question, *self.choices, *self.answers)))

    @property
    def text(self) -> str:
        return "\n".join(self.parts)


def read_items(path: Path, name: str = "") -> list[EvaluationItem]:
    """The items of a file of JSON objects, one a line (.jsonl, .json), or else of plain questions; .gz too.

    Ids are `name/id`, or `name/number` by the number of the line; `name` is that of the file where none is given. An
    answer that is a number, or one letter, names one of the choices where there are any. Empty lines are none.
    ValueError names the line that is no object, has no question, or has an id for the second time.
    """
    compressed = path.suffix == ".gz"
    plain = path.with_suffix("") if compressed else path
    raw = gzip.decompress(path.read_bytes()) if compressed else path.read_bytes()
    prefix = name or plain.stem
    try:
        lines = raw.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}") from error
    items: dict[str, EvaluationItem] = {}
    for number, line in ((number, line) for number, line in enumerate(lines, 1) if line.strip()):
        if plain.suffix in (".jsonl", ".json"):
            item = _from_json(line, prefix, number, f"{path}, line {number}")
        else:
            item = EvaluationItem(f"{prefix}/{number}", line.strip())
        if item.id in items:
            raise ValueError(f"{path}, line {number}: the id {item.id} is there twice")
        items[item.id] = item
    return list(items.values())


def _from_json(line: str, prefix: str, number: int, where: str) -> EvaluationItem:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise ValueError(f"{where}: not a JSON object")
    question = _first(row, QUESTION)
    if not isinstance(question, str) or not question.strip():
        raise ValueError(f"{where}: no question under {', '.join(QUESTION)}; it has {', '.join(row) or 'nothing'}")
    choices = _texts(_first(row, CHOICES))
    given = _first(row, ID)
    answers = _answers(_first(row, ANSWER), choices)
    return EvaluationItem(f"{prefix}/{number if given is None else given}", question, answers, choices)


def _first(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _texts(value: Any) -> tuple[str, ...]:
    """A text, a list of them, or an object that holds such a list under `text`, as ARC's choices are."""
    if isinstance(value, Mapping):
        return _texts(value.get("text"))
    if isinstance(value, list):
        return tuple(text for part in value for text in _texts(part))
    return () if value is None else (str(value),)


def _answers(value: Any, choices: tuple[str, ...]) -> tuple[str, ...]:
    place = -1
    if isinstance(value, int) and not isinstance(value, bool):
        place = value
    elif isinstance(value, str) and len(value) == 1 and value not in choices:
        place = ord(value.upper()) - ord("A")
    return (choices[place],) if 0 <= place < len(choices) else _texts(value)


# ---------------------------------------------------------------------------------------------------------------------
# An index of them


@dataclass(frozen=True, slots=True, eq=False)
class _Wanted:
    """An item as it is looked for.

    words             of its units.
    question          where its question's words begin and end, over the units of all items; twice the same number where
                      the question is no unit.
    needs_answer      the question is so short that it counts only where an answer follows.
    answers, choices  hashes of their words.
    undecided         why a document that does not hold it does not clear it.
    """

    item: EvaluationItem
    words: int
    question: tuple[int, int]
    needs_answer: bool
    answers: Sequence[NDArray[np.uint64]]
    choices: Sequence[NDArray[np.uint64]]
    undecided: Status | None


@dataclass(frozen=True, slots=True, eq=False)
class ContaminationIndex:
    """Evaluation items as they are looked for; made by `index_items`.

    lookup, run_ends  the distinct runs of words: their hashes, and where the entries of each end.
    owners            (entries,) int64: the item that has a run.
    places, lengths   (entries,) int64: where it begins, in words over the units of all items, and its words.
    sizes             the lengths that there are.
    """

    wanted: Sequence[_Wanted]
    lookup: HashLookup
    run_ends: NDArray[np.int64]
    owners: NDArray[np.int64]
    places: NDArray[np.int64]
    lengths: NDArray[np.int64]
    sizes: frozenset[int]


def index_items(items: Iterable[EvaluationItem]) -> ContaminationIndex:
    """ValueError where two items have one id."""
    items = tuple(items)
    if len({item.id for item in items}) != len(items):
        raise ValueError("two evaluation items have the same id: give their files different names")
    cut = [_units_of(item) for item in items]
    rows = hash_words(text for units in cut for text in units.texts)
    found = shingle_hashes(rows, SIZE)
    numbers = np.repeat(np.arange(len(items)), np.array([len(units.texts) for units in cut], np.int64))
    owners, hashes = np.repeat(numbers, found.lengths), found.values
    places = positions(rows.starts, found.lengths)
    lengths = np.repeat(np.minimum(rows.lengths, SIZE), found.lengths)
    run = np.unique(hashes, return_inverse=True)[1]
    owners_of_run = np.bincount(np.unique(run * len(items) + owners) // max(len(items), 1), minlength=1)
    telling = np.flatnonzero(owners_of_run[run] <= MOST_ITEMS)
    telling = telling[np.lexsort((places[telling], hashes[telling]))]
    distinct, counts = np.unique(hashes[telling], return_counts=True)
    owners = owners[telling]
    left = np.bincount(owners, minlength=len(items)).tolist()
    wanted, row = [], 0
    for item, units, entries in zip(items, cut, left, strict=True):
        end = row + len(units.texts)
        low = int(rows.starts[row]) if units.texts else 0
        wanted.append(
            _Wanted(
                item, int(rows.lengths[row:end].sum()), (low, int(rows.ends[row]) if units.has_question else low),
                units.needs_answer, _hashed(item.answers), _hashed(item.choices), _undecided(item, entries),
            )
        )  # fmt: skip
        row = end
    lengths = lengths[telling]
    sizes = frozenset(lengths.tolist())
    return ContaminationIndex(wanted, HashLookup(distinct), np.cumsum(counts), owners, places[telling], lengths, sizes)


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


def _hashed(texts: Sequence[str]) -> list[NDArray[np.uint64]]:
    """The words of each text, hashed; of texts of more than `SIZE` words the first ones; of those without any, none."""
    rows = hash_words(texts)
    return [rows[row][:SIZE] for row in range(len(rows)) if rows.lengths[row]]


def _undecided(item: EvaluationItem, entries: int) -> Status | None:
    """`entries` are the runs by which it is found."""
    long = any(len(words(part)) >= SHORTEST for part in item.parts)
    if not long and len(words("\n".join((item.question, *item.answers[:1])))) < SHORTEST:
        return "too short to decide"
    return None if entries else "too common to decide"


# ---------------------------------------------------------------------------------------------------------------------
# Looking for them


@dataclass(frozen=True, slots=True)
class Overlap:
    """What a document and an evaluation item share.

    document  The number of the document.
    item      The id of the item.
    share     Of the question's words those that stand in the document within a run of the item's, or of all the item's
              units where that is more.
    marks     Where, each with the share as its score.
    matched   The text of the longest mark.
    """

    document: int
    item: str
    share: float
    marks: tuple[TaggedSpan, ...]
    matched: str


def find_overlaps(index: ContaminationIndex, texts: Iterable[str]) -> Iterator[Overlap]:
    """What the texts, numbered from 0, share with the items, by document and then by item."""
    for number, text in enumerate(texts):
        document = hash_words([text]).values
        begins, entries = _hits(index, document)
        order = np.lexsort((begins, index.owners[entries]))
        begins, entries = begins[order], entries[order]
        borders = np.flatnonzero(np.diff(index.owners[entries])) + 1
        spans = None
        for group in np.split(np.arange(len(order)), borders) if len(order) else ():
            wanted = index.wanted[int(index.owners[entries[group[0]]])]
            group = group[_counts(index, wanted, document, begins[group], entries[group])]
            if not len(group):
                continue
            mine = entries[group]
            share = _share(wanted, _merged(index.places[mine], index.lengths[mine]))
            spans = word_spans(text) if spans is None else spans
            marks = tuple(
                TaggedSpan(RULE, int(spans[start, 0]), int(spans[end - 1, 1]), share)
                for start, end in _merged(begins[group], index.lengths[mine])
            )
            longest = max(marks, key=lambda mark: mark.end - mark.start)
            yield Overlap(number, wanted.item.id, share, marks, text[longest.start : longest.end])


def _hits(index: ContaminationIndex, document: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where runs of items begin among the words of a document, and the entry of each."""
    places, entries = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for length, hashes in runs(document, SIZE):
        if length in index.sizes:
            found, slots = index.lookup.find(mix(hashes))
            first = np.where(slots > 0, index.run_ends[slots - 1], 0)
            counts = index.run_ends[slots] - first
            entries.append(positions(first, counts))
            places.append(np.repeat(found, counts))
    return np.concatenate(places), np.concatenate(entries)


def _counts(
    index: ContaminationIndex,
    wanted: _Wanted,
    document: NDArray[np.uint64],
    begins: NDArray[np.int64],
    entries: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """(n,) which of the item's runs in a document say anything: not a short question without its answer."""
    counts = np.ones(len(begins), bool)
    if wanted.needs_answer:
        low, high = wanted.question
        for row in np.flatnonzero((low <= index.places[entries]) & (index.places[entries] < high)).tolist():
            counts[row] = _is_answered(wanted, document[int(begins[row]) + high - low :])
    return counts


def _is_answered(wanted: _Wanted, after: NDArray[np.uint64]) -> bool:
    """Whether one of the item's answers stands soon after its question, right behind it where the item has few words;
    or else all of its choices, two at least."""
    asked = wanted.question[1] - wanted.question[0]
    far = ANSWER_WITHIN + sum(map(len, wanted.choices))
    for answer in wanted.answers:
        within = ANSWER_NEXT if asked + len(answer) < SHORTEST else far
        if _holds(after[: within + len(answer)], answer):
            return True
    return len(wanted.choices) > 1 and all(_holds(after[:far], choice) for choice in wanted.choices)


def _holds(words: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> bool:
    if len(wanted) > len(words):
        return False
    windows = np.lib.stride_tricks.sliding_window_view(words, len(wanted))
    return bool((windows == wanted).all(axis=1).any())


def _merged(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[tuple[int, int]]:
    """The union of ranges as ranges that do not touch."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(zip(starts.tolist(), (starts + lengths).tolist(), strict=True)):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    return merged


def _share(wanted: _Wanted, covered: Sequence[tuple[int, int]]) -> float:
    """Of the question's words those that are covered, or of those of all units."""
    low, high = wanted.question
    whole = sum(end - start for start, end in covered) / wanted.words
    question = sum(max(min(end, high) - max(start, low), 0) for start, end in covered)
    return max(whole, question / (high - low)) if high > low else whole


def count_statuses(index: ContaminationIndex, found: Collection[str]) -> dict[str, int]:
    """How many items have each status, where those with the ids `found` stand in a document."""
    counts = dict.fromkeys(get_args(Status), 0)
    for wanted in index.wanted:
        counts["contaminated" if wanted.item.id in found else wanted.undecided or "clean"] += 1
    return counts
