"""The last pass over a shard: cleaned documents, the way back to what they were, and the ledger.

A part is a folder with `documents.jsonl`, `edits.jsonl`, `ledger.parquet` and `counts.json`.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lmworks.corpus.attributes import AttributeTable, read_joined
from lmworks.corpus.documents import CorpusShard, document_to_json
from lmworks.corpus.edits import apply_edits, compose
from lmworks.corpus.filtering.apply import apply_steps
from lmworks.corpus.filtering.decide import Cut, FieldFind, Judged, Reason
from lmworks.corpus.filtering.document_fields import CleanedFields, clean_fields
from lmworks.corpus.filtering.filter_policy import EMPTY, REPAIR, Step
from lmworks.corpus.filtering.ledger import EDITS, LEDGER, Entry, write_ledger
from lmworks.corpus.languages import DECLARED, MEASURED, language_of
from lmworks.corpus.sources.docstrings import EXTRACTOR, HEADINGS
from lmworks.corpus.taggers.licence import LICENCE, licence_of
from lmworks.corpus.taggers.pii.scan import MEASURE as PERSONAL_DATA
from lmworks.records import Document, Edit

COUNTS, TEXTS = "counts.json", "documents.jsonl"
POLICY = "policy.json"  # what was decided by, presets and all that a file or a config said, as it was then


@dataclass(frozen=True, slots=True)
class Decided:
    """What is to be done with a shard: the steps of the policy, and what each of them says."""

    shard: CorpusShard
    annotations: tuple[Path, ...]
    steps: tuple[Step, ...]
    judged: tuple[Judged, ...]


@dataclass(frozen=True, slots=True)
class Life:
    """What became of one document: an entry for each step, what stays of it, and the edits from the extracted text to
    that."""

    entries: tuple[Entry, ...]
    cleaned: Document | None = None
    edits: tuple[Edit, ...] = ()


def write_part(decided: Decided, folder: Path) -> None:
    """Everything of one shard into a new folder. Its counts are those of the documents, which the ledger has to meet:
    of each source how many were read, their bytes, how many stay, and the bytes of those."""
    folder.mkdir()
    table = read_joined(decided.annotations)
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])

    def entries() -> Iterator[Entry]:
        with (folder / TEXTS).open("wb") as texts, (folder / EDITS).open("wb") as edits:
            for place, document in enumerate(decided.shard):
                if document.hash != table.hashes[place]:
                    raise ValueError(f"{decided.annotations[0]} are not those of {decided.shard.path}: make both anew")
                lived = live_through(document, place, table, decided)
                cleaned = lived.cleaned
                sizes = [1, _size(document.text)[1], *((0, 0) if cleaned is None else (1, _size(cleaned.text)[1]))]
                counts[document.source] = [a + b for a, b in zip(counts[document.source], sizes, strict=True)]
                if cleaned is not None:
                    texts.write(document_to_json(cleaned).encode() + b"\n")
                    edits.write(_edits_row(document, cleaned, lived.edits).encode() + b"\n")
                yield from lived.entries

    write_ledger(folder / LEDGER, entries())
    (folder / COUNTS).write_text(json.dumps(counts), "utf-8")


def live_through(document: Document, place: int, table: AttributeTable, decided: Decided) -> Life:
    """One document through repair and all steps."""
    repair = table.edits[place] if table.edits else ()
    repaired = apply_edits(document.text, repair).text
    by_step = [judged.cuts.get(place, []) for judged in decided.judged]
    applied = apply_steps(by_step)
    kind = table.kinds[place]
    language = language_of(_label(table, MEASURED, place), document.language)
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
    is_empty = not entries.gone and not entries.text.strip()
    if entries.gone or is_empty:
        entries.add(EMPTY, entries.text, [Reason("characters", 0.0, 1.0)] if is_empty else [], [])
        return Life(tuple(entries.rows))
    edits = tuple(compose(document.text, repair, done))
    declared = {DECLARED: document.language} if document.language and document.language != language else {}
    fields = _fields(document, table, decided.steps, kind, language, declared)
    entries.add(EMPTY, entries.text, [], [], fields.found)
    cleaned = replace(
        document,
        text=entries.text,
        hash="",
        title=fields.title,
        licence=_licence(document, table, place),
        language=language,
        kind=kind,
        metadata={**fields.metadata, **moved_headings(document, edits), "extracted": document.hash},
    )
    return Life(tuple(entries.rows), cleaned, edits)


def _fields(
    document: Document,
    table: AttributeTable,
    steps: Sequence[Step],
    kind: str,
    language: str | None,
    declared: Mapping[str, str],
) -> CleanedFields:
    """With what is `declared` as metadata too, which may be anything. Without a look at them where personal data were
    not looked for in texts either."""
    if PERSONAL_DATA not in table.scores:
        return CleanedFields(document.title, {**document.metadata, **declared})
    return clean_fields(document, steps, kind, language, declared)


def _label(table: AttributeTable, name: str, place: int) -> str | None:
    return table.labels[name][place] if name in table.labels else None


def _licence(document: Document, table: AttributeTable, place: int) -> str | None:
    """An expression of SPDX: what source and text say together. None where neither says anything, also where the
    source has only a word such as "unknown" for it."""
    joined = _label(table, LICENCE, place)
    if joined or not document.licence:
        return joined
    called = licence_of(document.licence)
    return str(called) if called else None


def moved_headings(document: Document, edits: Iterable[Edit]) -> dict[str, str]:
    """The metadata that tell where headings of docstrings are in the text that `edits` make of the document's; those
    whose sign was taken out are left out. Nothing for documents that keep no headings.

    They are kept beside the text, since a line of a docstring may look like a heading (see `docstrings.py`).
    """
    if document.extractor != EXTRACTOR or HEADINGS not in document.metadata:
        return {}
    clean = apply_edits(document.text, edits)
    moved = (clean.from_source(int(offset)) for offset in document.metadata[HEADINGS].split())
    return {HEADINGS: " ".join(str(offset) for offset in moved if offset is not None)}


class _Entries:
    """The rows of one document, and how much of it is left after each."""

    def __init__(self, document: Document, source: str, kind: str, language: str | None) -> None:
        self.text, self.gone, self.rows = document.text, False, list[Entry]()
        self._of = (document.uri, document.hash, source, kind, language)
        self._size = _size(document.text)

    def add(
        self,
        step: str,
        text: str,
        reasons: Sequence[Reason],
        cuts: Sequence[Cut],
        fields: Sequence[FieldFind] = (),
    ) -> None:
        before = self._size
        after = before if text is self.text else _size(text)
        if self.gone:
            verdict, after = "gone", before
        elif reasons:
            verdict, after = "dropped", (0, 0)
        else:
            verdict = "cut" if cuts else "kept"
        counts = (before[0], after[0], before[1], after[1])
        self.rows.append(Entry(*self._of, step, verdict, *counts, tuple(reasons), tuple(cuts), tuple(fields)))
        self.text, self._size, self.gone = text, after, self.gone or bool(reasons)


def _size(text: str) -> tuple[int, int]:
    return len(text), len(text.encode("utf-8", "surrogatepass"))


def _edits_row(document: Document, cleaned: Document, edits: Sequence[Edit]) -> str:
    changes = [[edit.start, edit.end, edit.replacement, edit.rule] for edit in edits]
    row = {"hash": cleaned.hash, "uri": document.uri, "extracted": document.hash, "edits": changes}
    return json.dumps(row, ensure_ascii=False)
