"""One document through the steps of a policy: what each of them takes, what stays, and the way back to what it was."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from lmworks.corpus.attributes import AttributeTable
from lmworks.corpus.edits import apply_edits, compose
from lmworks.corpus.filtering.decide import Decisions, Reason, clipped
from lmworks.corpus.filtering.filter_policy import EMPTY, REPAIR, Policy
from lmworks.corpus.filtering.ledger import Entry, Verdict
from lmworks.corpus.languages import DECLARED, MEASURED
from lmworks.corpus.sources.docstrings import EXTRACTOR, HEADINGS
from lmworks.corpus.taggers.licence import LICENCE
from lmworks.records import Document, Edit


def apply(
    document: Document, place: int, table: AttributeTable, policy: Policy, decisions: Sequence[Decisions]
) -> tuple[list[Entry], Document | None, list[Edit]]:
    """An entry for each step of the ledger, what stays of the document, and the edits from the extracted text to that.

    `table` and `decisions` are those of its shard, in which it has this place.
    """
    repair = table.edits[place] if table.edits else ()
    repaired = apply_edits(document.text, repair).text
    licence, language = (table.labels[name][place] if name in table.labels else None for name in (LICENCE, MEASURED))
    kind = table.kinds[place]
    entries: list[Entry] = []
    text, size, is_gone = document.text, size_of(document.text), False

    def add(
        step: str, left: str, reasons: Sequence[Reason] = (), cuts: Sequence[Edit] = (), is_for: bool = True
    ) -> None:
        nonlocal text, size, is_gone
        verdict: Verdict = "cut" if cuts else "kept" if is_for else "out_of_scope"
        before, after = size, size if left is text else size_of(left)
        if is_gone:
            verdict = "gone"
        elif reasons:
            verdict, after = "dropped", (0, 0)
        counts = (before[0], after[0], before[1], after[1])
        about = (document.uri, document.hash, document.source, kind, language)
        entries.append(Entry(*about, step, verdict, *counts, tuple(reasons), tuple(cuts)))
        text, size, is_gone = left, after, is_gone or bool(reasons)

    add(REPAIR, repaired, cuts=repair)
    done: list[Edit] = []
    by_step = clipped([decided.cuts.get(place, ()) for decided in decisions], len(repaired))
    for step, decided, cuts in zip(policy.steps, decisions, by_step, strict=True):
        reasons = decided.reasons.get(place, ())
        if cuts and not is_gone and not reasons:
            done += cuts
            add(step.name, apply_edits(repaired, done).text, cuts=cuts)
        else:
            add(step.name, text, reasons, is_for=bool(decided.in_scope[place]))
    is_empty = not is_gone and not text.strip()
    add(EMPTY, text, [Reason("score", "characters", 0.0, 1.0)] if is_empty else ())
    if is_gone:
        return entries, None, []
    edits = compose(document.text, repair, done)
    metadata = {**document.metadata}
    if document.language and document.language != language:
        metadata[DECLARED] = document.language
    title, metadata = _fields(document.title, metadata, [decided.fields.get(place, ()) for decided in decisions])
    cleaned = replace(
        document,
        text=text,
        hash="",
        title=title,
        licence=licence,
        language=language,
        kind=kind,
        metadata={**metadata, **moved_headings(document, edits), "extracted": document.hash},
    )
    return entries, cleaned, edits


def size_of(text: str) -> tuple[int, int]:
    """Characters, and bytes of UTF-8."""
    return len(text), len(text.encode("utf-8", "surrogatepass"))


def _fields(
    title: str, metadata: Mapping[str, str], by_step: Sequence[Sequence[tuple[str, Edit]]]
) -> tuple[str, dict[str, str]]:
    """The title and the metadata as the steps leave them, by the same rules as a text. Where two names are one without
    what was taken out, the second is `name-2`."""

    if not any(by_step):
        return title, dict(metadata)

    def cleaned(field: str, value: str) -> str:
        cuts = [[edit for name, edit in edits if name == field] for edits in by_step]
        return apply_edits(value, [edit for each in clipped(cuts, len(value)) for edit in each]).text

    left: dict[str, str] = {}
    for name, value in metadata.items():
        key = first = cleaned(f"metadata_name.{name}", name)
        number = 1
        while key in left:
            number += 1
            key = f"{first}-{number}"
        left[key] = cleaned(f"metadata.{name}", value)
    return cleaned("title", title), left


def moved_headings(document: Document, edits: Iterable[Edit]) -> Mapping[str, str]:
    """The metadata that tell where headings of docstrings are in the text that `edits` make of the document's; those
    whose sign was taken out are left out. Nothing for documents that keep no headings next to the text, which they do
    since a line of a docstring may look like one."""
    if document.extractor != EXTRACTOR or HEADINGS not in document.metadata:
        return {}
    clean = apply_edits(document.text, edits)
    moved = (clean.from_source(int(offset)) for offset in document.metadata[HEADINGS].split())
    return {HEADINGS: " ".join(str(offset) for offset in moved if offset is not None)}
