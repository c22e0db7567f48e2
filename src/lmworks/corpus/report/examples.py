"""Examples for the report: of every rule documents that it dropped, those nearest to the threshold first and the
furthest last, places that it cut, and documents that it nearly dropped; and where two texts differ."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby

import numpy as np

from lmworks.corpus.edits import apply_edits
from lmworks.corpus.filtering.decide import Reason
from lmworks.corpus.filtering.filter_policy import REPAIR
from lmworks.corpus.filtering.ledger import LEDGER, Entry, compute, read_ledger
from lmworks.corpus.report.queries import Filtered, margin, thresholds
from lmworks.excerpts import Passage, Piece, Place, marked, window
from lmworks.records import Edit
from lmworks.report import Fold, Section

SHOWN = 3  # of each rule and kind; of what was dropped the furthest too
NEAR = 0.25  # margin (`queries.py`) of documents that were nearly dropped
EXCERPT, CONTEXT = 600, 160  # characters: of a beginning, and on both sides of a place
_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Example:
    """A document that shows a rule at work."""

    step: str
    rule: str
    how: str  # dropped, nearly dropped or cut
    document: str
    reason: Reason | None = None

    @property
    def note(self) -> str:
        return self.how if self.reason is None else f"{self.how}: {self.reason}"

    @property
    def kept_duplicate(self) -> str | None:
        return None if self.reason is None else self.reason.kept_duplicate


def examples_section(filtered: Filtered) -> Section:
    """A part for each rule that opens, each text with what went of it marked."""
    order = {name: number for number, name in enumerate(filtered.policy.names)}
    uris_of_documents, rules = filtered.uris, filtered.cut_rules
    cut = [Example(rule["step"], rule["rule"], "cut", uris_of_documents[rule["first"]].as_py()) for rule in rules]
    examples = [*_dropped(filtered), *_nearly_dropped(filtered), *cut]
    examples.sort(key=lambda each: (order[each.step], each.rule))
    uris = {uri for each in examples for uri in (each.document, each.kept_duplicate) if uri is not None}
    entries: dict[str, list[Entry]] = {}
    for entry in read_ledger(filtered.folder / LEDGER, document=sorted(uris)):
        entries.setdefault(entry.document, []).append(entry)
    folds = []
    for (step, rule), members in groupby(examples, lambda each: (each.step, each.rule)):
        passages = tuple(passage for each in members for passage in _passages(filtered, each, entries))
        folds.append(Fold(f"{step}: {rule}", passages=passages))
    text = (
        "Of each rule what it dropped, nearest to the threshold first and furthest last; what it cut (struck through, "
        "with what was written in its place; grey is what other rules cut); and what it nearly dropped: documents that "
        f"stay within {NEAR:.0%} of the threshold, or, of a share, of the way from there to 0 or 1. The report shows "
        "texts as they were, so it holds the personal data and credentials that were cut: do not pass it on with the "
        "documents."
    )
    return Section("Examples", text if folds else "No rule took anything.", folds=tuple(folds), page_only=True)


def _dropped(filtered: Filtered) -> Iterator[Example]:
    pc = compute()
    names = ["document", "hash", "step", "rule", "value", "threshold", "reasons"]
    table = filtered.rows(names, verdict=["dropped"])
    distance = pc.fill_null(pc.abs(pc.subtract(table["value"], table["threshold"])), 0.0)
    order = [(name, "ascending") for name in ("step", "rule", "distance", "hash", "document")]
    table = table.append_column("distance", distance).sort_by(order).select(["document", "step", "rule", "reasons"])
    sizes = table.group_by(["step", "rule"], use_threads=False).aggregate([([], "count_all")])["count_all"]
    start = 0
    for size in sizes.to_pylist():
        last = table.slice(start + size - 1, 1 if size > SHOWN else 0)
        for row in table.slice(start, min(SHOWN, size)).to_pylist() + last.to_pylist():
            yield Example(row["step"], row["rule"], "dropped", row["document"], Reason(**row["reasons"][0]))
        start += size


def _nearly_dropped(filtered: Filtered) -> Iterator[Example]:
    """With a threshold of 0 all that stay are at it, and none is near."""
    for step, rule, side, threshold, values in thresholds(filtered):
        margins = np.where(filtered.stays, margin(side, threshold, values), np.nan)
        near = np.flatnonzero((margins >= 0) & (margins <= NEAR)) if threshold else np.empty(0, np.int64)
        for place in near[np.argsort(margins[near], kind="stable")][:SHOWN].tolist():
            reason = Reason("score", rule, float(values[place]), threshold)
            yield Example(step.name, rule, "nearly dropped", filtered.uris[place].as_py(), reason)


def _passages(filtered: Filtered, example: Example, entries: dict[str, list[Entry]]) -> Iterator[Passage]:
    mine = entries[example.document]
    text = repaired_text(filtered, mine)
    if example.how == "cut":
        cuts = cut_passages(filtered, mine, example.step, example.rule, SHOWN, CONTEXT, EXCERPT)
        yield from (Passage(example.document, pieces, example.note) for pieces in cuts)
    elif example.kept_duplicate is not None:
        other = repaired_text(filtered, entries[example.kept_duplicate])
        first, second = side_by_side(other, text)
        yield Passage(example.kept_duplicate, first, example.note, example.document, second)
    else:
        yield Passage(example.document, marked(text, (), 0, EXCERPT), example.note)


# ---------------------------------------------------------------------------------------------------------------------
# Excerpts


def repaired_text(filtered: Filtered, entries: Sequence[Entry]) -> str:
    """The repaired text of a document with these entries, of which the first has the repairs."""
    return apply_edits(filtered.text(entries[0].document), entries[0].cuts).text


def cut_passages(
    filtered: Filtered, entries: Sequence[Entry], step: str, rule: str, most: int, context: int, size: int
) -> list[tuple[Piece, ...]]:
    """Some places that a rule of a step cut, with what stood around them: repairs in the extracted text, others in the
    repaired one. What other rules cut there is shown otherwise."""
    number, entry = next((at, each) for at, each in enumerate(entries) if each.step == step)
    text = filtered.text(entry.document) if step == REPAIR else repaired_text(filtered, entries)
    cuts = [cut for each in entries[min(number, 1) : number + 1] for cut in each.cuts]
    places = [Place(c.start, c.end, c.replacement, "removed" if c.rule == rule else "other") for c in cuts]
    chosen = list[Edit]()
    for cut in (cut for cut in entry.cuts if cut.rule == rule):
        if len(chosen) < most and (not chosen or cut.start > chosen[-1].end + context):  # not shown already
            chosen.append(cut)
    return [marked(text, places, *window(cut.start, cut.end, context, size)) for cut in chosen]


def side_by_side(
    first: str, second: str, context: int = 120, most: int = 700
) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    """The first place in which two texts differ, up to `most` characters of it: what only the first has as `removed`,
    what only the second has as `added`, by words (Ratcliff and Metzener 1988, as difflib does it). The beginnings of
    equal texts."""
    pairs = enumerate(zip(first, second, strict=False))
    same = next((at for at, (one, other) in pairs if one != other), min(len(first), len(second)))
    start = max(same - context, 0) if first != second else 0
    ends = [min(start + context + most, len(text)) for text in (first, second)]
    tokens = [_TOKEN.findall(text[start:end]) for text, end in zip((first, second), ends, strict=True)]
    offsets = [np.cumsum([start, *map(len, each)]).tolist() for each in tokens]
    changes = [code[1:] for code in SequenceMatcher(None, *tokens, autojunk=False).get_opcodes() if code[0] != "equal"]
    if ends != [len(first), len(second)] and len(changes) > 1:
        changes.pop()  # it may be the end of what is compared
    removed = [Place(offsets[0][low], offsets[0][high], change="removed") for low, high, _, _ in changes]
    added = [Place(offsets[1][low], offsets[1][high], change="added") for _, _, low, high in changes]
    return marked(first, removed, start, ends[0], most), marked(second, added, start, ends[1], most)
