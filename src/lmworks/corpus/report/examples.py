"""Examples for the report: of every rule documents that it dropped, cut, or nearly dropped or cut.

Those nearest to a threshold are shown, and of what it dropped the furthest; where there is none, hashes of texts
decide, so that the same are shown whatever the shards and the number of workers.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any, Literal

import numpy as np

from lmworks.corpus.attributes import TaggedSpan
from lmworks.corpus.documents import CorpusShard, Shard
from lmworks.corpus.edits import apply_edits
from lmworks.corpus.filtering.decide import Cut
from lmworks.corpus.filtering.filter_policy import REPAIR
from lmworks.corpus.filtering.ledger import LEDGER, Entry, compute, entry_of
from lmworks.corpus.report.differences import side_by_side
from lmworks.corpus.report.queries import Cleaning, margin, read_rows, thresholds
from lmworks.excerpts import Passage, Piece, Place, marked, window
from lmworks.report import Fold, Section

SHOWN, FURTHEST = 5, 2  # of each rule and kind, and of what was dropped those that are furthest from the threshold
NEAR = 0.25  # margin (`queries.py`) of documents that were nearly dropped
EXCERPT, CONTEXT = 600, 160  # characters: of a beginning, and on both sides of a place
PERSONAL = (
    "The report shows texts as they were before cleaning, so it holds the personal data and credentials that were cut: "
    "do not pass it on with the documents."
)


@dataclass(frozen=True, slots=True)
class Example:
    """A document that shows a rule at work. The lowest by `distance` are shown, then by the hashes of their texts."""

    step: str
    rule: str
    how: Literal["dropped", "cut", "nearly dropped", "nearly cut"]
    document: str
    hash: str
    distance: float = 0.0
    value: float | None = None
    threshold: float | None = None
    label: str | None = None
    twin: str | None = None
    mark: TaggedSpan | None = None

    @property
    def rank(self) -> tuple[float, str, str]:
        return self.distance, self.hash, self.document


def drawn_examples(cleaning: Cleaning) -> list[Example]:
    """By step and rule, in the order of the policy."""
    order = {name: number for number, name in enumerate(cleaning.steps)}

    def group(example: Example) -> tuple:
        near = example.threshold or 0.0 if example.how == "nearly dropped" else 0.0  # a rule may have two
        return order[example.step], example.rule, example.how, near

    shown: list[Example] = []
    found = [*_dropped(cleaning), *_cut(cleaning), *_nearly_dropped(cleaning), *_nearly_cut(cleaning)]
    for (*_, how, _), members in groupby(sorted(found, key=lambda each: (*group(each), *each.rank)), group):
        ranked = list(members)
        furthest = FURTHEST if how == "dropped" and len(ranked) > SHOWN else 0
        shown += ranked[: SHOWN - furthest] + ranked[len(ranked) - furthest :]
    return shown


def _dropped(cleaning: Cleaning) -> Iterator[Example]:
    pc = compute()
    found = cleaning.dropped
    distance = pc.fill_null(pc.abs(pc.subtract(found["value"], found["threshold"])), 0.0)
    for row in _outermost(found.append_column("distance", distance), ("distance", "hash", "document"), FURTHEST):
        yield Example(how="dropped", **row)


def _cut(cleaning: Cleaning) -> Iterator[Example]:
    names, hashes = cleaning.documents["document"], cleaning.documents["hash"]
    for cuts in cleaning.cuts():
        found = cuts.group_by(["step", "rule", "place"]).aggregate([])
        found = found.append_column("document", names.take(found["place"]))
        found = found.append_column("hash", hashes.take(found["place"])).drop_columns("place")
        for row in _outermost(found, ("hash", "document")):
            yield Example(how="cut", **row)


def _outermost(table: Any, order: Sequence[str], last: int = 0) -> list[dict[str, Any]]:
    """Of each step and rule the first rows in this order, and the last ones."""
    table = table.sort_by([(name, "ascending") for name in ("step", "rule", *order)])
    sizes = table.group_by(["step", "rule"], use_threads=False).aggregate([([], "count_all")])["count_all"].to_pylist()
    places, start = list[int](), 0
    for size in sizes:
        first = min(SHOWN, size)
        places += [*range(start, start + first), *range(start + max(first, size - last), start + size)]
        start += size
    return table.take(np.array(places, np.int64)).to_pylist()


def _nearly_dropped(cleaning: Cleaning) -> Iterator[Example]:
    """With a threshold of 0 all that stay are at it, and none is near."""
    for step, rule, side, threshold in thresholds(cleaning.policy.steps):
        if threshold and rule in cleaning.measured:
            values = cleaning.measure(rule, step)
            margins = margin(side, threshold, values)
            near = np.flatnonzero(cleaning.stays & (margins >= 0) & (margins <= NEAR))
            near = near[margins[near] <= np.sort(margins[near])[:SHOWN][-1]] if len(near) else near
            for place in near.tolist():
                yield Example(step.name, rule, "nearly dropped", *_named(cleaning, place), float(margins[place]),
                              float(values[place]), threshold)  # fmt: skip


def _nearly_cut(cleaning: Cleaning) -> Iterator[Example]:
    """Marks that a policy leaves, since they are not sure enough."""
    for step in cleaning.policy.steps:
        if any(action.at_least > 0 for action in step.marks.values()):
            there = cleaning.scope(step) & cleaning.stays
            for place, mark in cleaning.marks(lambda rule, step=step: step.on_mark(rule) is not None):
                action = step.on_mark(mark.rule)
                if action is not None and mark.score < action.at_least and there[place]:
                    distance = action.at_least - mark.score
                    yield Example(step.name, mark.rule, "nearly cut", *_named(cleaning, place), distance, mark.score,
                                  action.at_least, mark=mark)  # fmt: skip


def _named(cleaning: Cleaning, place: int) -> tuple[str, str]:
    return cleaning.documents["document"][place].as_py(), cleaning.documents["hash"][place].as_py()


# ---------------------------------------------------------------------------------------------------------------------
# In the report


def examples_section(cleaning: Cleaning, shards: Sequence[CorpusShard]) -> Section:
    """A part for each rule that opens, each text with what went of it marked. `shards` hold the documents that came."""
    examples = drawn_examples(cleaning)
    texts = _Texts(cleaning, shards, examples)
    folds = []
    for (step, rule), members in groupby(examples, lambda example: (example.step, example.rule)):
        found = list(members)
        counts = [(sum(each.how == how for each in found), how) for how in dict.fromkeys(each.how for each in found)]
        passages = tuple(passage for each in found for passage in texts.passages(each))
        folds.append(Fold(f"{step}: {rule} ({', '.join(f'{n} {how}' for n, how in counts)})", passages=passages))
    text = (
        "Of each rule what it dropped, nearest to the threshold first and furthest last; what it cut (struck through, "
        "with what was written in its place; grey is what other rules cut); and what it nearly took: documents that "
        f"stay within {NEAR:.0%} of the threshold, or, of a share, of the way from there to 0 or 1. {PERSONAL}"
    )
    return Section("Examples", text if folds else "No rule took anything.", folds=tuple(folds), page_only=True)


class _Texts:
    """The documents of examples and their twins, which are read once."""

    def __init__(self, cleaning: Cleaning, shards: Sequence[CorpusShard], examples: Iterable[Example]) -> None:
        uris = sorted({uri for example in examples for uri in (example.document, example.twin) if uri is not None})
        starts = np.cumsum([0, *map(len, cleaning.read())])
        readers = [Shard(shard.path) for shard in shards]
        self._extracted, self._repaired, self._marks = (
            dict[str, str](),
            dict[str, str](),
            dict[str, tuple[TaggedSpan, ...]](),
        )
        read = lru_cache(maxsize=1)(cleaning.read("edits", "spans").__getitem__)
        for place, uri in sorted(zip(cleaning.places(uris), uris, strict=True)):
            number = int(np.searchsorted(starts, place, side="right")) - 1
            table, place = read(number), place - int(starts[number])
            self._extracted[uri] = readers[number].read(place).text
            self._repaired[uri] = apply_edits(self._extracted[uri], table.edits[place] if table.edits else ()).text
            self._marks[uri] = table.spans[place] if table.spans else ()
        cut = [example.document for example in examples if example.how == "cut"]
        self._entries: dict[str, list[Entry]] = {}
        for row in read_rows(cleaning.folder / LEDGER, None, "document", cut).to_pylist():
            self._entries.setdefault(row["document"], []).append(entry_of(row))

    def passages(self, example: Example) -> Iterator[Passage]:
        uri, note = example.document, _note(example)
        text = self._repaired[uri]
        if example.twin is not None and (found := side_by_side(self._repaired[example.twin], text)):
            for first, second in found:
                yield Passage(example.twin, first, note, uri, second)
        elif example.how == "cut":
            yield Passage(uri, self._cut(example), note)
        else:
            marks = [example.mark] if example.mark else []
            if example.how == "dropped":
                marks = [mark for mark in self._marks[uri] if mark.rule == example.rule]
            places = [Place(mark.start, mark.end, change="marked") for mark in marks]
            about = window(marks[0].start, marks[0].end, CONTEXT, EXCERPT) if marks else (0, EXCERPT)
            yield Passage(uri, marked(text, places, *about, EXCERPT), note)

    def _cut(self, example: Example) -> tuple[Piece, ...]:
        """One place of the rule, with what else was cut around it; the repair is of the extracted text."""
        entries = self._entries[example.document]
        number, entry = next((at, each) for at, each in enumerate(entries) if each.step == example.step)
        others = [cut for before in entries[1:number] for cut in before.cuts]
        mine = [cut for cut in entry.cuts if cut.rule == example.rule]
        text = (self._repaired if example.step != REPAIR else self._extracted)[example.document]
        return cut_passage(text, [*entry.cuts, *others], mine[int(example.hash[:8] or "0", 16) % len(mine)])


def cut_passage(
    text: str, cuts: Iterable[Cut], chosen: Cut, context: int = CONTEXT, most: int = EXCERPT
) -> tuple[Piece, ...]:
    """The text around a cut: what its rule took, and, told apart, what others did."""
    places = [Place(c.start, c.end, c.replacement, "removed" if c.rule == chosen.rule else "other") for c in cuts]
    return marked(text, places, *window(chosen.start, chosen.end, context, most))


def _note(example: Example) -> str:
    """Why an example is shown."""
    value = "" if example.value is None else f": {example.value:,.4g}"
    threshold = "" if example.threshold is None else f", threshold {example.threshold:,.6g}"
    label = f" ({example.label})" if example.label else ""
    twin = f", duplicate of {example.twin}" if example.twin else ""
    return f"{example.how}{value}{threshold}{label}{twin}"
