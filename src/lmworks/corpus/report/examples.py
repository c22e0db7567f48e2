"""Examples for the report: of every rule documents that it dropped, those nearest to the threshold first and the
furthest last, places that it cut, and documents that it nearly dropped; and where two texts differ."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby

import numpy as np

from lmworks.corpus.edits import apply_edits
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
_COMPARED = 2_000  # tokens, from the first that differs
_APART = 200  # characters between differences that are shown in one excerpt


@dataclass(frozen=True, slots=True)
class Example:
    """A document that shows a rule at work."""

    step: str
    rule: str
    how: str  # dropped, nearly dropped or cut
    document: str
    value: float | None = None
    threshold: float | None = None
    label: str | None = None
    kept_duplicate: str | None = None

    @property
    def note(self) -> str:
        value = "" if self.value is None else f": {self.value:,.4g}"
        threshold = "" if self.threshold is None else f", threshold {self.threshold:,.6g}"
        label = f" ({self.label})" if self.label else ""
        kept = f", duplicate of {self.kept_duplicate}" if self.kept_duplicate else ""
        return f"{self.how}{value}{threshold}{label}{kept}"


def examples_section(found: Filtered) -> Section:
    """A part for each rule that opens, each text with what went of it marked."""
    order = {name: number for number, name in enumerate(found.policy.names)}
    examples = sorted(
        (*_dropped(found), *_nearly_dropped(found), *_cut(found)), key=lambda each: (order[each.step], each.rule)
    )
    uris = {uri for each in examples for uri in (each.document, each.kept_duplicate) if uri is not None}
    entries: dict[str, list[Entry]] = {}
    for entry in read_ledger(found.folder / LEDGER, document=sorted(uris)):
        entries.setdefault(entry.document, []).append(entry)
    folds = []
    for (step, rule), members in groupby(examples, lambda each: (each.step, each.rule)):
        passages = tuple(passage for each in members for passage in _passages(found, each, entries))
        folds.append(Fold(f"{step}: {rule}", passages=passages))
    text = (
        "Of each rule what it dropped, nearest to the threshold first and furthest last; what it cut (struck through, "
        "with what was written in its place; grey is what other rules cut); and what it nearly dropped: documents that "
        f"stay within {NEAR:.0%} of the threshold, or, of a share, of the way from there to 0 or 1. The report shows "
        "texts as they were, so it holds the personal data and credentials that were cut: do not pass it on with the "
        "documents."
    )
    return Section("Examples", text if folds else "No rule took anything.", folds=tuple(folds), page_only=True)


def _dropped(found: Filtered) -> Iterator[Example]:
    pc = compute()

    names = ["document", "hash", "step", "rule", "value", "threshold", "label", "kept_duplicate"]
    table = found.rows(names, verdict=["dropped"])
    distance = pc.fill_null(pc.abs(pc.subtract(table["value"], table["threshold"])), 0.0)
    order = [(name, "ascending") for name in ("step", "rule", "distance", "hash", "document")]
    table = table.append_column("distance", distance).sort_by(order).drop_columns(["distance", "hash"])
    sizes = table.group_by(["step", "rule"], use_threads=False).aggregate([([], "count_all")])["count_all"]
    start = 0
    for size in sizes.to_pylist():
        last = table.slice(start + size - 1, 1 if size > SHOWN else 0)
        for row in table.slice(start, min(SHOWN, size)).to_pylist() + last.to_pylist():
            yield Example(how="dropped", **row)
        start += size


def _nearly_dropped(found: Filtered) -> Iterator[Example]:
    """With a threshold of 0 all that stay are at it, and none is near."""
    for step, rule, side, threshold, values in thresholds(found):
        margins = np.where(found.stays, margin(side, threshold, values), np.nan)
        near = np.flatnonzero((margins >= 0) & (margins <= NEAR)) if threshold else np.empty(0, np.int64)
        for place in near[np.argsort(margins[near], kind="stable")][:SHOWN].tolist():
            yield Example(step.name, rule, "nearly dropped", found.uris[place].as_py(), float(values[place]), threshold)


def _cut(found: Filtered) -> Iterator[Example]:
    for (step, rule), cuts in found.cut_rules.items():
        for place in cuts.examples[:SHOWN]:
            yield Example(step, rule, "cut", found.uris[place].as_py())


def _passages(found: Filtered, example: Example, entries: dict[str, list[Entry]]) -> Iterator[Passage]:
    mine = entries[example.document]
    text = repaired_text(found, mine)
    if example.how == "cut":
        cuts = cut_passages(found, mine, example.step, example.rule, 1, CONTEXT, EXCERPT)
        yield from (Passage(example.document, pieces, example.note) for pieces in cuts)
    elif example.kept_duplicate is not None:
        other = repaired_text(found, entries[example.kept_duplicate])
        for first, second in side_by_side(other, text) or [
            (marked(other, (), 0, EXCERPT), marked(text, (), 0, EXCERPT))
        ]:
            yield Passage(example.kept_duplicate, first, example.note, example.document, second)
    else:
        yield Passage(example.document, marked(text, (), 0, EXCERPT), example.note)


# ---------------------------------------------------------------------------------------------------------------------
# Excerpts


def repaired_text(found: Filtered, entries: Sequence[Entry]) -> str:
    """The repaired text of a document with these entries, of which the first has the repairs."""
    return apply_edits(found.text(entries[0].document), entries[0].cuts).text


def cut_passages(
    found: Filtered, entries: Sequence[Entry], step: str, rule: str, most: int, context: int, size: int
) -> list[tuple[Piece, ...]]:
    """Some places that a rule of a step cut, with what stood around them: repairs in the extracted text, others in the
    repaired one. What other rules cut there is told apart."""
    number, entry = next((at, each) for at, each in enumerate(entries) if each.step == step)
    text = found.text(entry.document) if step == REPAIR else repaired_text(found, entries)
    cuts = [cut for each in entries[min(number, 1) : number + 1] for cut in each.cuts]
    places = [Place(c.start, c.end, c.replacement, "removed" if c.rule == rule else "other") for c in cuts]
    chosen = list[Edit]()
    for cut in (cut for cut in entry.cuts if cut.rule == rule):
        if len(chosen) < most and (not chosen or cut.start > chosen[-1].end + context):  # not shown already
            chosen.append(cut)
    return [marked(text, places, *window(cut.start, cut.end, context, size)) for cut in chosen]


def side_by_side(
    first: str, second: str, context: int = 120, most: int = 700, excerpts: int = 2
) -> list[tuple[tuple[Piece, ...], tuple[Piece, ...]]]:
    """The first places in which two texts differ: what only the first has as `removed`, what only the second has as
    `added`; up to `most` characters each. None for equal texts."""
    groups: list[list[tuple[int, int, int, int]]] = []
    for place in differences(first, second):
        if not groups or place[0] - groups[-1][-1][1] > _APART:
            groups.append([])
        groups[-1].append(place)

    def excerpt(text: str, places: list[Place]) -> tuple[Piece, ...]:
        start = places[0].start
        return marked(text, places, start - context, min(places[-1].end, start + most) + context, most)

    return [
        (
            excerpt(first, [Place(start, end, change="removed") for start, end, _, _ in group]),
            excerpt(second, [Place(start, end, change="added") for _, _, start, end in group]),
        )
        for group in groups[:excerpts]
    ]


def differences(first: str, second: str) -> list[tuple[int, int, int, int]]:
    """`[start, end)` of the first text stands where that of the second does, which follows; by words (Ratcliff and
    Metzener 1988, as difflib does it)."""
    if first == second:
        return []
    a, b = _TOKEN.findall(first), _TOKEN.findall(second)
    same = next((at for at, (one, other) in enumerate(zip(a, b, strict=False)) if one != other), min(len(a), len(b)))
    begin, is_long = len("".join(a[:same])), max(len(a), len(b)) - same > _COMPARED
    a, b = a[same : same + _COMPARED], b[same : same + _COMPARED]
    starts, others = (np.cumsum([begin, *map(len, parts)]).tolist() for parts in (a, b))
    found = [
        (starts[low], starts[high], others[other_low], others[other_high])
        for tag, low, high, other_low, other_high in SequenceMatcher(None, a, b, autojunk=False).get_opcodes()
        if tag != "equal"
    ]
    return found[:-1] if is_long and len(found) > 1 else found  # the last one may be the end of what is compared
