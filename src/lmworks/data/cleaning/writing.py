"""The last pass over a shard: cleaned documents, the way back to what they were, the ledger, and counts for the report.

A part is a folder with `documents.jsonl`, `edits.jsonl`, `ledger.parquet` and `counts.json`.
"""

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmworks.data.annotate.pii.scan import MEASURE as PERSONAL_DATA
from lmworks.data.annotation_table import AnnotationTable
from lmworks.data.cleaning.applying import apply_steps
from lmworks.data.cleaning.descriptions import language_of_document, licence_of_document
from lmworks.data.cleaning.examples import Examples
from lmworks.data.cleaning.fields import CleanedFields, clean_fields
from lmworks.data.cleaning.headings import moved_headings
from lmworks.data.cleaning.ledger import LEDGER, Entry, write_ledger
from lmworks.data.cleaning.life import Life
from lmworks.data.cleaning.local import Cut, Judged, Reason
from lmworks.data.cleaning.policy import Step
from lmworks.data.cleaning.profile import Profiler
from lmworks.data.corpus import CorpusShard
from lmworks.data.edits import apply_edits, compose
from lmworks.data.joined_annotations import read_joined
from lmworks.data.languages import DECLARED
from lmworks.data.store import document_to_json
from lmworks.records import Document, Edit

COUNTS, EDITS, TEXTS = "counts.json", "edits.jsonl", "documents.jsonl"
POLICY = "policy.json"  # what was decided by, presets and all that a file or a config said, as it was then
REPAIR, EMPTY = "repair", "nothing_left"  # the steps before and after those of the policy


@dataclass(frozen=True, slots=True)
class Decided:
    """What is to be done with a shard: the steps of the policy, and what each of them says."""

    shard: CorpusShard
    annotations: tuple[Path, ...]
    steps: tuple[Step, ...]
    judged: tuple[Judged, ...]


def write_part(decided: Decided, folder: Path) -> None:
    """Everything of one shard into a new folder."""
    folder.mkdir()
    table = read_joined(decided.annotations)
    # Every document asks for its own: columns that were read for each would be read as often as there are documents.
    table = dataclasses.replace(table, labels=dict(table.labels), measures=dict(table.measures))
    counts = Counts()
    examples = Examples(decided.steps, table)
    profiler = Profiler()

    def entries() -> Iterator[Entry]:
        with (folder / TEXTS).open("wb") as texts, (folder / EDITS).open("wb") as edits:
            for place, document in enumerate(decided.shard):
                if document.hash != table.hashes[place]:
                    raise ValueError(f"{decided.annotations[0]} are not those of {decided.shard.path}: make both anew")
                lived = live_through(document, place, table, decided)
                counts.add(lived.entries)
                examples.add(lived, place)
                profiler.add(document, lived, table, place)
                if lived.cleaned is not None:
                    texts.write(document_to_json(lived.cleaned).encode() + b"\n")
                    edits.write(_edits_row(document, lived).encode() + b"\n")
                yield from lived.entries

    write_ledger(folder / LEDGER, entries())
    found = {"flows": counts.rows(), "examples": examples.drawn.rows(), "profile": profiler.rows()}
    (folder / COUNTS).write_text(json.dumps(found), "utf-8")


def live_through(document: Document, place: int, table: AnnotationTable, decided: Decided) -> Life:
    """One document through repair and all steps."""
    repair = table.edits[place] if table.edits else ()
    repaired = apply_edits(document.text, repair).text
    by_step = [judged.cuts.get(place, []) for judged in decided.judged]
    applied = apply_steps(by_step)
    kind = table.kinds[place]
    language = language_of_document(document, table, place)
    entries = _Entries(document, document.source, kind, language)
    entries.add(REPAIR, repaired, [], [Cut(e.start, e.end, e.replacement, e.rule) for e in repair])
    done: list[Edit] = []
    for step, judged, cuts in zip(decided.steps, decided.judged, applied.by_step, strict=True):
        reasons = judged.reasons.get(place, [])
        if not entries.gone and not reasons and cuts:
            done += [Edit(cut.start, cut.end, cut.replacement, cut.rule) for cut in cuts]
            entries.add(step.name, apply_edits(repaired, done).text, [], cuts)
        else:
            entries.add(step.name, entries.text, reasons, [])
    empty = not entries.gone and not entries.text.strip()
    entries.add(EMPTY, entries.text, [Reason("characters", 0.0, 1.0)] if empty else [], [])
    if entries.gone:
        return Life(tuple(entries.rows), document.text, repaired, None, ())
    edits = tuple(compose(document.text, repair, done))
    declared = {DECLARED: document.language} if document.language and document.language != language else {}
    fields = _fields(document, place, table, decided.steps, declared)
    cleaned = dataclasses.replace(
        document,
        text=entries.text,
        hash="",
        title=fields.title,
        licence=licence_of_document(document, table, place),
        language=language,
        kind=kind,
        metadata={**fields.metadata, **moved_headings(document, edits), "extracted": document.hash},
    )
    return Life(tuple(entries.rows), document.text, repaired, cleaned, edits, fields.found)


def _fields(
    document: Document, place: int, table: AnnotationTable, steps: Sequence[Step], declared: Mapping[str, str]
) -> CleanedFields:
    """With what is `declared` as metadata too, which may be anything. Without a look at them where personal data were
    not looked for in texts either."""
    if PERSONAL_DATA not in table.measures:
        return CleanedFields(document.title, {**document.metadata, **declared})
    return clean_fields(document, steps, table.kinds[place], language_of_document(document, table, place), declared)


class _Entries:
    """The rows of one document, and how much of it is left after each."""

    def __init__(self, document: Document, source: str, kind: str, language: str | None) -> None:
        self.text, self.gone, self.rows = document.text, False, list[Entry]()
        self._of = (document.uri, document.hash, source, kind, language)
        self._size = _size(document.text)

    def add(self, step: str, text: str, reasons: Sequence[Reason], cuts: Sequence[Cut]) -> None:
        before = self._size
        after = before if text is self.text else _size(text)
        if self.gone:
            verdict, after = "gone", before
        elif reasons:
            verdict, after = "dropped", (0, 0)
        else:
            verdict = "cut" if cuts else "kept"
        counts = (before[0], after[0], before[1], after[1])
        self.rows.append(Entry(*self._of, step, verdict, *counts, tuple(reasons), tuple(cuts)))
        self.text, self._size, self.gone = text, after, self.gone or bool(reasons)


def _size(text: str) -> tuple[int, int]:
    return len(text), len(text.encode("utf-8", "surrogatepass"))


def _edits_row(document: Document, life: Life) -> str:
    assert life.cleaned is not None
    edits = [[edit.start, edit.end, edit.replacement, edit.rule] for edit in life.edits]
    row = {"hash": life.cleaned.hash, "uri": document.uri, "extracted": document.hash, "edits": edits}
    return json.dumps(row, ensure_ascii=False)


class Counts:
    """Documents and bytes by source, language, step and rule."""

    def __init__(self) -> None:
        self._flows: dict[tuple[str, str, str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])

    def add(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.verdict == "gone":
                continue
            rule = entry.first.rule if entry.verdict == "dropped" else ""
            flow = self._flows[entry.source, entry.language or "", entry.step, entry.verdict, rule]
            flow[0] += 1
            flow[1] += entry.bytes_before
            flow[2] += entry.bytes_after

    def rows(self) -> list[list[str | int]]:
        return [[*key, *flow] for key, flow in sorted(self._flows.items())]
