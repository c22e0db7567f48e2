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
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lmworks.corpus.attributes import TaggedSpan
from lmworks.corpus.dedup.hashes import HashLookup, mix, positions, word_spans, words
from lmworks.corpus.dedup.library import hash_words
from lmworks.corpus.dedup.reference import runs, shingle_hashes

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


def read_items(path: Path) -> list[EvaluationItem]:
    """The items of a file of JSON objects, one a line (.jsonl, .json), or else of plain questions; .gz too.

    Ids are `name/id`, or `name/number` by the number of the line, with the name of the file. An answer that is a
    number, or one letter, names one of the choices where there are any. Empty lines are none. ValueError names the line
    that is no object, has no question, or has an id for the second time, or the file without an item.
    """
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    raw = path.read_bytes() if plain == path else gzip.decompress(path.read_bytes())
    try:
        lines = raw.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: convert it to JSON Lines, or to a question a line") from error
    items: dict[str, EvaluationItem] = {}
    for number, line in ((number, line) for number, line in enumerate(lines, 1) if line.strip()):
        item = EvaluationItem(f"{plain.stem}/{number}", line.strip())
        if plain.suffix in (".jsonl", ".json"):
            item = _from_json(line, plain.stem, number, f"{path}, line {number}")
        if item.id in items:
            raise ValueError(f"{path}, line {number}: the id {item.id} is there twice")
        items[item.id] = item
    if not items:
        raise ValueError(f"{path} holds no evaluation item: write one a line into it, or leave it out")
    return list(items.values())


def _from_json(line: str, prefix: str, number: int, where: str) -> EvaluationItem:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise ValueError(f"{where}: not a JSON object")

    def first(names: Sequence[str], default: Any = None) -> Any:
        return next((row[name] for name in names if row.get(name) is not None), default)

    question = first(QUESTION)
    if not isinstance(question, str) or not question.strip():
        raise ValueError(f"{where}: no question under {', '.join(QUESTION)}; it has {', '.join(row) or 'nothing'}")
    choices = _texts(first(CHOICES))
    answer, place = first(ANSWER), -1
    if isinstance(answer, int) and not isinstance(answer, bool):
        place = answer
    elif isinstance(answer, str) and len(answer) == 1 and answer not in choices:
        place = ord(answer.upper()) - ord("A")
    answers = choices[place : place + 1] if 0 <= place < len(choices) else _texts(answer)
    return EvaluationItem(f"{prefix}/{first(ID, number)}", question, answers, choices)


def _texts(value: Any) -> tuple[str, ...]:
    """A text, a list of them, or an object that holds such a list under `text`, as ARC's choices are."""
    if isinstance(value, Mapping):
        return _texts(value.get("text"))
    if isinstance(value, list):
        return tuple(text for part in value for text in _texts(part))
    return () if value is None else (str(value),)


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
    places            (entries,) int64: where it begins, in words over the units of all items.
    sizes             the lengths of runs that there are, in words.
    """

    wanted: Sequence[_Wanted]
    lookup: HashLookup
    run_ends: NDArray[np.int64]
    owners: NDArray[np.int64]
    places: NDArray[np.int64]
    sizes: frozenset[int]


def index_items(items: Iterable[EvaluationItem]) -> ContaminationIndex:
    """An index of the runs of words of items. ValueError where two items have one id."""
    items = tuple(items)
    if len({item.id for item in items}) != len(items):
        raise ValueError("two evaluation items have the same id: give their files different names")
    units = [_units_of(item) for item in items]
    rows = hash_words(text for texts, _, _ in units for text in texts)
    found = shingle_hashes(rows, SIZE)
    numbers = np.repeat(np.arange(len(items)), np.array([len(texts) for texts, _, _ in units], np.int64))
    owners, hashes = np.repeat(numbers, found.lengths), found.values
    places = positions(rows.starts, found.lengths)
    run = np.unique(hashes, return_inverse=True)[1]
    owners_of_run = np.bincount(np.unique(run * len(items) + owners) // max(len(items), 1), minlength=1)
    rare = np.flatnonzero(owners_of_run[run] <= MOST_ITEMS)
    rare = rare[np.lexsort((places[rare], hashes[rare]))]
    owners, places = owners[rare], places[rare]
    distinct, counts = np.unique(hashes[rare], return_counts=True)
    wanted, row = [], 0
    left = np.bincount(owners, minlength=len(items)).tolist()  # the runs by which each item is found
    for item, (texts, has_question, needs_answer), entries in zip(items, units, left, strict=True):
        end = row + len(texts)
        question = (int(rows.starts[row]), int(rows.ends[row])) if has_question else (0, 0)
        size, undecided = int(rows.lengths[row:end].sum()), None if entries else "too common to decide"
        if all(len(words(part)) < SHORTEST for part in (*item.parts, _with_answer(item))):
            undecided = "too short to decide"
        answers, choices = _hashed(item.answers), _hashed(item.choices)
        wanted.append(_Wanted(item, size, question, needs_answer, answers, choices, undecided))
        row = end
    sizes = frozenset(np.minimum(rows.lengths, SIZE).tolist())
    return ContaminationIndex(wanted, HashLookup(distinct), np.cumsum(counts), owners, places, sizes)


def _units_of(item: EvaluationItem) -> tuple[tuple[str, ...], bool, bool]:
    """The texts that an item is looked for by; whether the question is the first of them; whether it needs an answer
    behind it."""
    long = tuple(part for part in item.parts if len(words(part)) >= SHORTEST and part != item.question)
    question = len(words(item.question))
    if question >= SHORTEST:
        return (item.question, *long), True, False
    whole = question + len(words(item.answers[0])) if item.answers else question
    if whole < SHORTEST_WHOLE and not long:
        return (), False, False
    if not (item.answers or item.choices):
        return (item.question,), True, False
    if question >= SHORTEST_QUESTION:
        return (item.question, *long), True, True
    return (long, False, False) if long else ((_with_answer(item),), True, False)


def _with_answer(item: EvaluationItem) -> str:
    return "\n".join((item.question, *item.answers[:1]))


def _hashed(texts: Sequence[str]) -> list[NDArray[np.uint64]]:
    """The words of each text, hashed; of texts of more than `SIZE` words the first ones; of those without any, none."""
    rows = hash_words(texts)
    return [rows[row][:SIZE] for row in range(len(rows)) if rows.lengths[row]]


# ---------------------------------------------------------------------------------------------------------------------
# Looking for them


@dataclass(frozen=True, slots=True)
class Overlap:
    """The words that a document and an evaluation item share.

    document  The number of the document.
    item      The id of the item.
    share     Of the question's words those that stand in the document within a run of the item's, or of all the item's
              units where that is more.
    spans     Where, each with the share as its score.
    matched   The text of the longest span.
    """

    document: int
    item: str
    share: float
    spans: tuple[TaggedSpan, ...]
    matched: str


def find_overlaps(index: ContaminationIndex, texts: Iterable[str]) -> Iterator[Overlap]:
    """Overlaps of texts, numbered from 0, with the items, by document and then by item."""
    for number, text in enumerate(texts):
        document = hash_words([text]).values
        # Item → runs of it that stand among the words: where each begins there, and over all units, and its words.
        hits: defaultdict[int, list[tuple[int, int, int]]] = defaultdict(list)
        for length, hashes in runs(document, SIZE):
            found = index.lookup.find(mix(hashes)) if length in index.sizes else ()
            for begin, slot in zip(*(column.tolist() for column in found), strict=True):
                for entry in range(index.run_ends[slot - 1] if slot else 0, index.run_ends[slot]):
                    hits[int(index.owners[entry])].append((begin, int(index.places[entry]), length))
        places = word_spans(text).tolist() if hits else []
        for owner in sorted(hits):
            wanted = index.wanted[owner]
            low, high = wanted.question
            counting = [  # a short question without its answer says nothing
                (begin, place, length)
                for begin, place, length in hits[owner]
                if not (wanted.needs_answer and low <= place < high)
                or _is_answered(wanted, document[begin + high - low :])
            ]
            if not counting:
                continue
            covered = _merged((place, place + length) for _, place, length in counting)
            share = sum(end - start for start, end in covered) / wanted.words
            if high > low:
                of_question = sum(max(min(end, high) - max(start, low), 0) for start, end in covered)
                share = max(share, of_question / (high - low))
            spans = tuple(
                TaggedSpan(RULE, places[start][0], places[end - 1][1], share)
                for start, end in _merged((begin, begin + length) for begin, _, length in counting)
            )
            longest = max(spans, key=lambda span: span.end - span.start)
            yield Overlap(number, wanted.item.id, share, spans, text[longest.start : longest.end])


def _is_answered(wanted: _Wanted, after: NDArray[np.uint64]) -> bool:
    """Whether one of the item's answers stands soon after its question, right behind it where the item has few words;
    or else all of its choices, two at least."""

    def holds(words: NDArray[np.uint64], part: NDArray[np.uint64]) -> bool:
        windows = np.lib.stride_tricks.sliding_window_view(words, len(part)) if len(part) <= len(words) else ()
        return len(windows) > 0 and bool((windows == part).all(axis=1).any())

    asked = wanted.question[1] - wanted.question[0]
    far = ANSWER_WITHIN + sum(map(len, wanted.choices))
    for answer in wanted.answers:
        within = ANSWER_NEXT if asked + len(answer) < SHORTEST else far
        if holds(after[: within + len(answer)], answer):
            return True
    return len(wanted.choices) > 1 and all(holds(after[:far], choice) for choice in wanted.choices)


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The union of ranges as ranges that do not touch."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    return merged


def count_statuses(index: ContaminationIndex, found: Collection[str]) -> dict[str, int]:
    """How many items have each status, where those with the ids `found` stand in a document."""
    counts = dict.fromkeys(get_args(Status), 0)
    for wanted in index.wanted:
        counts["contaminated" if wanted.item.id in found else wanted.undecided or "clean"] += 1
    return counts
