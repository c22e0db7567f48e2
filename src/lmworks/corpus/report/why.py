"""Why a document stayed, was cut or was dropped: what each step did by which rule at which value and threshold, what it
only just passed, and the duplicate that was kept in its place."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lmworks.artefact import MANIFEST, known_artefacts, manifests_around, read_manifest, read_rows
from lmworks.config import to_mapping
from lmworks.corpus.attributes import LABEL, SCORE
from lmworks.corpus.documents import REJECTED
from lmworks.corpus.filtering.decide import Reason
from lmworks.corpus.filtering.filter_policy import REPAIR
from lmworks.corpus.filtering.ledger import LEDGER, Entry, compute, origins, read_ledger
from lmworks.corpus.report.examples import cut_passages, repaired_text, side_by_side
from lmworks.corpus.report.queries import Filtered, margin, sides
from lmworks.excerpts import Piece
from lmworks.records import RejectedRecord

ITEM = "evaluation_item"  # a label
NEAR = 5  # rules that a document only just passed
EXCERPTS = (2, 60, 240)  # of each rule that cut: how many, characters around the cut, and of it
DIFFERENCE = (60, 240)  # characters around a difference, and of it
_NAMED = 10  # documents in a message
_FEWEST_DIGITS = 8  # of a hash


@dataclass(frozen=True, slots=True)
class Passed:
    """A threshold that the document passed: `margin` is how far its value is from there (`queries.margin`)."""

    step: str
    rule: str
    value: float
    side: str
    threshold: float
    margin: float


@dataclass(frozen=True, slots=True)
class KeptDuplicate:
    """The document in whose place a step drops this one. `then` is how that one was dropped itself, and so on; empty
    where it stays. `difference`: first the kept one's text."""

    step: str
    reason: Reason
    then: tuple[Entry, ...] = ()
    difference: tuple[tuple[Piece, ...], tuple[Piece, ...]] | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The entries of a document, and what belongs to them.

    went        Documents that were dropped in the place of this one.
    excerpts    Of cuts, by step and rule.
    missing     Why texts and values are not there: what the ledger was made from may be gone.
    unreadable  What lies next to that and is no artefact.
    """

    entries: tuple[Entry, ...]
    kept_duplicates: tuple[KeptDuplicate, ...]
    went: tuple[Entry, ...]
    excerpts: tuple[tuple[str, str, tuple[Piece, ...]], ...] = ()
    passed: tuple[Passed, ...] = ()
    evaluation_item: str | None = None
    missing: str = ""
    unreadable: tuple[str, ...] = ()

    @property
    def stays(self) -> bool:
        return self.entries[-1].verdict == "kept"


def to_json(explanation: Explanation) -> dict[str, Any]:
    """All of an explanation in types of JSON."""
    return {"stays": explanation.stays, **to_mapping(explanation)}


def why(folder: Path, name: str, made_from: Sequence[Path] = ()) -> tuple[list[Explanation], list[RejectedRecord]]:
    """The explanations of the documents that are meant by a uri, the end of one, or a hash of theirs, before or after
    the cleaning, from the folder that corpus.filter made, and the rejected records of that name. The folders it was
    made from are looked for in its workspace, next to it, and in `made_from`: artefacts, folders of them, or
    workspaces.

    LookupError where nothing is meant, which names the next uris, and where several are.
    """
    rejected = [
        record
        for record in read_rows(RejectedRecord, folder / REJECTED)
        if record.uri == name or record.uri.endswith(f"/{name}")
    ]
    uris = _meant(folder, name, rejected)
    manifests = list(manifests_around(folder.resolve()))
    for there in made_from:
        for pattern in (MANIFEST, f"[!.]*/{MANIFEST}", f"stages/*/[!.]*/{MANIFEST}"):
            manifests += there.glob(pattern)
    artefacts, unreadable = known_artefacts(manifests)
    missing, inputs = "the folder has no manifest, so what it was made from is not known", dict[str, Path]()
    if (folder / MANIFEST).is_file():
        parents = read_manifest(folder).parents
        lost = [f"{parent}, which it was made from," for parent, digest in parents.items() if digest not in artefacts]
        missing = f"{lost[0]} is neither in its workspace nor next to it: say where it is (--from)" if lost else ""
        inputs = {} if lost else {parent: artefacts[digest] for parent, digest in parents.items()}
    explanations = [_explain(Filtered(folder, inputs), uri, missing) for uri in uris]
    return [replace(explanation, unreadable=unreadable) for explanation in explanations], rejected


def _meant(folder: Path, name: str, rejected: Sequence[RejectedRecord]) -> list[str]:
    """The uris of the documents of this hash, or else of the one whose uri this is, or the last parts of it; none where
    only what became no document is meant."""
    pc, table = compute(), Filtered(folder, {}).rows(["document", "hash"], step=[REPAIR])
    uris = table["document"]
    if len(name) >= _FEWEST_DIGITS and set(name.lower()) <= set("0123456789abcdef"):
        digits = name.lower()
        found = uris.filter(pc.starts_with(table["hash"], digits)).to_pylist()
        if found := found or [origin.uri for origin in origins(folder, digits)]:
            return found
    found = uris.filter(pc.equal(uris, name)).to_pylist()
    found = found or [uri for sign in "/#:" for uri in uris.filter(pc.ends_with(uris, f"{sign}{name}")).to_pylist()]
    if len(found) > 1:
        more = f" and {len(found) - _NAMED:,} more" if len(found) > _NAMED else ""
        raise LookupError(f"{name} may be {', '.join(found[:_NAMED])}{more}: give more of it")
    if not found and not rejected:
        place = bisect_left(uris := sorted(uris.to_pylist()), name)
        raise LookupError(
            f"the ledger in {folder} knows no document {name!r}; next to it in the alphabet are "
            f"{', '.join(uris[max(place - 1, 0) : place + 2])}. Give its uri, which begins with the name of the "
            "source's folder, the last parts of it, or the first 8 or more digits of its hash; or name the workspace "
            "in which it was cleaned with --workspace"
        )
    return found


# ---------------------------------------------------------------------------------------------------------------------
# The explanation


def _explain(filtered: Filtered, uri: str, missing: str) -> Explanation:
    entries = tuple(read_ledger(filtered.folder / LEDGER, document=[uri]))
    dropped = read_ledger(filtered.folder / LEDGER, kept_duplicate=[uri])
    went = tuple(entry for entry in dropped if entry.verdict == "dropped")
    explanation = Explanation(entries, tuple(_kept_duplicates(filtered, entries, missing)), went)
    if missing:
        return replace(explanation, missing=missing)
    number, place = filtered.place(uri)
    columns = {SCORE + rule for step in filtered.policy.steps for rule in step.all_limits}
    table = filtered.attributes.only(*columns, LABEL + ITEM)[number]
    passed = []
    for step, entry in zip(filtered.policy.steps, entries[1:-1], strict=True):
        for rule, side, threshold in sides(step) if entry.verdict != "out_of_scope" else ():
            value = float(table.scores[rule][place]) if rule in table.scores else float("nan")
            distance = float(margin(side, threshold, np.array(value)))
            if distance >= 0:
                passed.append(Passed(step.name, rule, value, side, threshold, distance))
    passed.sort(key=lambda each: each.margin)
    rules = dict.fromkeys((entry.step, cut.rule) for entry in entries for cut in entry.cuts)
    excerpts = ((*rule, pieces) for rule in rules for pieces in cut_passages(filtered, entries, *rule, *EXCERPTS))
    items = table.labels.get(ITEM) or [None] * len(table)
    return replace(explanation, excerpts=tuple(excerpts), passed=tuple(passed[:NEAR]), evaluation_item=items[place])


def _kept_duplicates(filtered: Filtered, entries: Sequence[Entry], missing: str) -> Iterator[KeptDuplicate]:
    for step, reason in ((entry.step, reason) for entry in entries for reason in entry.reasons):
        then, difference, last = list[Entry](), None, reason.kept_duplicate
        while last is not None:
            others = list(read_ledger(filtered.folder / LEDGER, document=[last]))
            if not (then or missing) and reason.kind != "exact":
                difference = side_by_side(
                    repaired_text(filtered, others), repaired_text(filtered, entries), *DIFFERENCE
                )
            dropped = [entry for entry in others if entry.verdict == "dropped"]
            then += dropped
            last = dropped[0].reasons[0].kept_duplicate if dropped else None
        if reason.kept_duplicate is not None:
            yield KeptDuplicate(step, reason, tuple(then), difference)
