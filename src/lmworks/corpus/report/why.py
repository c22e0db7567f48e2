"""What became of one document: what each step did with it and by which values, what it only just passed, what was cut,
and the duplicate that was kept in its place."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lmworks.artefact import MANIFEST, KnownArtefacts, known_artefacts, read_json, read_manifest
from lmworks.config import from_mapping, to_mapping
from lmworks.corpus.attributes import AttributeTable, attribute_files, read_joined
from lmworks.corpus.documents import Shard, corpus_shards
from lmworks.corpus.edits import apply_edits
from lmworks.corpus.filtering.decide import Cut
from lmworks.corpus.filtering.filter_policy import REPAIR, Policy
from lmworks.corpus.filtering.filtered_shards import POLICY
from lmworks.corpus.filtering.ledger import LEDGER, Entry, cleaned_uris, read_ledger
from lmworks.corpus.report.differences import side_by_side
from lmworks.corpus.report.examples import cut_passage
from lmworks.corpus.report.queries import CONTAMINATION, ITEM, Duplicates, Gone, margin, read_left_out, thresholds
from lmworks.excerpts import Piece
from lmworks.records import RejectedRecord

NEAR = 5  # rules that a document only just passed
EXCERPTS = 2  # of each rule that cut
CONTEXT, EXCERPT = 60, 240  # characters around a cut, and of it
NAMED = 10  # documents in a message
_FEWEST_DIGITS = 8  # of a hash


class AmbiguousNameError(LookupError):
    """A name that several documents have; the message names them."""


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
class RuleCuts:
    """What a rule cut, with some places of it."""

    step: str
    rule: str
    places: int
    characters: int
    excerpts: tuple[tuple[Piece, ...], ...]


@dataclass(frozen=True, slots=True)
class KeptDuplicate:
    """The document for whose sake a step would drop this one. `then` says how that one went itself; empty where it
    stays. `order` is what decides which of both is kept: licence, quality, characters, name of each, this one first.
    `differences`: first the kept one's text."""

    step: str
    rule: str
    document: str
    similarity: float | None
    then: tuple[Gone, ...] = ()
    order: tuple[tuple[str | None, float | None, int, str], ...] = ()
    differences: tuple[tuple[tuple[Piece, ...], tuple[Piece, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Story:
    """`out_of_scope` are the steps that do not look at the document. `went` are those that were dropped for its sake,
    or for that of one that went for its sake in turn. `missing` says why something is not there: the artefacts that the
    ledger was made from may be gone. `unreadable` is what lies beside them and is no artefact, a line each."""

    entries: tuple[Entry, ...]
    out_of_scope: tuple[str, ...]
    kept_duplicates: tuple[KeptDuplicate, ...]
    went: tuple[Gone, ...]
    passed: tuple[Passed, ...] = ()
    cuts: tuple[RuleCuts, ...] = ()
    evaluation_item: str | None = None
    contamination: float | None = None
    missing: str = ""
    unreadable: tuple[str, ...] = ()

    @property
    def stays(self) -> bool:
        return self.entries[-1].verdict in ("kept", "cut")


def to_json(story: Story) -> dict[str, Any]:
    """All of a story in types of JSON."""
    return {"stays": story.stays, **to_mapping(story)}


def why(folder: Path, name: str, made_from: Sequence[Path] = ()) -> tuple[list[Story], list[RejectedRecord]]:
    """The stories of the documents that are meant by a uri, the end of one, or a hash of theirs, before or after the
    cleaning, from the folder that data.clean made, and what of that name became no document. What the folder was made
    from is looked for in its workspace, beside it, and in `made_from`: artefacts, folders of them, or workspaces.

    LookupError where nothing is meant, which names the next uris; AmbiguousNameError where several are.
    """
    if not name.strip():
        raise LookupError("name a document: its uri, the end of it, or the first 8 or more digits of its hash")
    names, left_out = _names(folder / LEDGER), read_left_out(folder)
    items = [item for item in left_out if item.uri == name or item.uri.endswith(f"/{name}")]
    digits = name.lower() if len(name) >= _FEWEST_DIGITS and set(name.lower()) <= set("0123456789abcdef") else ""
    found = [uri for uri, digest in names.items() if digits and digest.startswith(digits)]
    found = found or (cleaned_uris(folder, digits) if digits else [])
    if not found:
        found = named(name, list(names))
        if len(found) > 1:
            more = f" and {len(found) - NAMED:,} more" if len(found) > NAMED else ""
            failed = "".join(f"; left out is {item.uri}: {item.reason}" for item in items[:NAMED])
            raise AmbiguousNameError(f"{name} may be {', '.join(found[:NAMED])}{more}: give more of it{failed}")
    if not found and not items:
        raise LookupError(_unknown(folder, name, [*names, *(item.uri for item in left_out)]))
    artefacts = _artefacts(folder, made_from)
    sources = _sources(folder, artefacts.folders)
    return [replace(_story(folder, uri, sources), unreadable=artefacts.warnings) for uri in found], items


def _names(ledger: Path) -> dict[str, str]:
    """The uri and the hash of every document, in the ledger's order."""
    import pyarrow.parquet as pq

    table = pq.read_table(ledger, columns=["document", "hash"])
    return dict(zip(table["document"].to_pylist(), table["hash"].to_pylist(), strict=True))


def named(name: str, uris: Sequence[str]) -> list[str]:
    """The uris that are meant: that one; or those that end with the name, rather behind a slash; or those of what a
    folder or an archive of this name holds."""
    inside = name.rstrip("/") + "/"
    for is_meant in (
        lambda uri: uri == name,
        lambda uri: uri.endswith(name) and uri.removesuffix(name).endswith(("/", "#", ":")),
        lambda uri: uri.endswith(name),
        lambda uri: uri.startswith(inside) or f"/{inside}" in uri,
    ):
        if found := list(dict.fromkeys(filter(is_meant, uris))):
            return found
    return []


def _unknown(folder: Path, name: str, uris: Sequence[str]) -> str:
    ordered = sorted(uris)
    place = bisect_left(ordered, name)
    near = ordered[max(place - 1, 0) : place + 2]
    return (
        f"the ledger in {folder} knows no document {name}; next to it in the alphabet are {', '.join(near) or 'none'}. "
        "Give its uri, which begins with the name of the source's folder, the end of it, or the first 8 or more digits "
        "of its hash; or name the workspace in which it was cleaned with --workspace"
    )


# ---------------------------------------------------------------------------------------------------------------------
# What it was made from


class _Sources:
    """The documents and annotations that a cleaning was made from."""

    def __init__(self, inputs: dict[str, Path]) -> None:
        self._shards = list(zip(corpus_shards(inputs), attribute_files(inputs), strict=True))

    def find(self, uri: str) -> "_Source | None":
        import pyarrow.parquet as pq

        for shard, paths in self._shards:
            uris = pq.read_table(paths[0], columns=["uri"])["uri"].to_pylist()
            if uri in uris:
                place, table = uris.index(uri), read_joined(paths)
                text = Shard(shard.path).read(place).text
                edits = table.edits[place] if table.edits else ()
                return _Source(table, place, text, apply_edits(text, edits).text)
        return None


@dataclass(frozen=True, slots=True)
class _Source:
    """A document as it was extracted and repaired, and what is known of it, at its place of a table."""

    table: AttributeTable
    place: int
    extracted: str
    repaired: str

    def label(self, name: str) -> str | None:
        return self.table.labels[name][self.place] if name in self.table.labels else None

    def measure(self, name: str) -> float | None:
        value = float(self.table.scores[name][self.place]) if name in self.table.scores else float("nan")
        return value if value == value else None

    @property
    def order(self) -> tuple[str | None, float | None, int, str]:
        characters = int(self.table.characters[self.place])
        return self.label("licence"), self.measure("quality"), characters, self.table.uris[self.place]


def _sources(folder: Path, artefacts: Mapping[str, Path]) -> _Sources | str:
    """What the artefact was made from, found in its workspace or beside it; else why not."""
    if not (folder / MANIFEST).is_file():
        return "the folder has no manifest, so what it was made from is not known"
    inputs: dict[str, Path] = {}
    for name, digest in read_manifest(folder).parents.items():
        if digest not in artefacts:
            return (
                f"{name}, which it was made from, is neither in its workspace nor beside it: say where it is (--from)"
            )
        inputs[name] = artefacts[digest]
    return _Sources(inputs)


def _artefacts(folder: Path, made_from: Sequence[Path]) -> KnownArtefacts:
    """What is in the same workspace, lies beside it, or is there."""
    beside, stages = folder.resolve().parent, folder.resolve().parent.parent
    manifests = list(beside.glob(f"[!.]*/{MANIFEST}"))
    if stages.name == "stages":  # of a workspace, stages/NAME/KEY
        manifests += stages.glob(f"*/[!.]*/{MANIFEST}")
    for there in made_from:
        for pattern in (MANIFEST, f"[!.]*/{MANIFEST}", f"stages/*/[!.]*/{MANIFEST}"):
            manifests += there.glob(pattern)
    return known_artefacts(manifests)


# ---------------------------------------------------------------------------------------------------------------------
# The story


def _story(folder: Path, uri: str, sources: _Sources | str) -> Story:
    entries = tuple(read_ledger(folder / LEDGER, uri))
    policy = from_mapping(Policy, read_json(folder / POLICY))
    first = entries[0]
    unseen = [step.name for step in policy.steps if not step.looks_at(first.source, first.kind, first.language)]
    went = tuple(Duplicates(folder / LEDGER).went_for(uri))
    source = None if isinstance(sources, str) else sources.find(uri)
    kept = tuple(_kept_duplicates(folder, entries, source, None if isinstance(sources, str) else sources))
    story = Story(entries, tuple(unseen), kept, went, cuts=tuple(_cuts(entries, source)))
    if source is None:
        return replace(story, missing=sources if isinstance(sources, str) else "the documents are others now")
    item = source.label(ITEM)
    share = source.measure(CONTAMINATION) if item else None
    return replace(story, passed=_passed(policy, source, {*unseen}), evaluation_item=item, contamination=share)


def _passed(policy: Policy, source: _Source, unseen: set[str]) -> tuple[Passed, ...]:
    """The thresholds that it passed with the least margin, the least first."""
    found = []
    for step, rule, side, threshold in thresholds(policy.steps):
        value = source.measure(rule)
        if value is not None and step.name not in unseen:
            found.append(
                Passed(step.name, rule, value, side, threshold, float(margin(side, threshold, np.array(value))))
            )
    return tuple(sorted((each for each in found if each.margin >= 0), key=lambda each: each.margin)[:NEAR])


def _cuts(entries: Sequence[Entry], source: _Source | None) -> list[RuleCuts]:
    found = []
    for number, entry in enumerate(entries):
        others = [cut for before in entries[1:number] for cut in before.cuts]
        for rule in dict.fromkeys(cut.rule for cut in entry.cuts):
            mine = [cut for cut in entry.cuts if cut.rule == rule]
            excerpts = ()
            if source is not None:
                text = source.extracted if entry.step == REPAIR else source.repaired
                shown = _apart(mine)[:EXCERPTS]
                excerpts = tuple(cut_passage(text, [*entry.cuts, *others], cut, CONTEXT, EXCERPT) for cut in shown)
            found.append(RuleCuts(entry.step, rule, len(mine), sum(c.end - c.start for c in mine), excerpts))
    return found


def _apart(cuts: Sequence[Cut]) -> list[Cut]:
    """Those that the excerpt of an earlier one does not show already."""
    found: list[Cut] = []
    for cut in cuts:
        if not found or cut.start > found[-1].end + CONTEXT:
            found.append(cut)
    return found


def _kept_duplicates(
    folder: Path, entries: Sequence[Entry], source: _Source | None, sources: _Sources | None
) -> list[KeptDuplicate]:
    reasons = [(entry.step, each) for entry in entries for each in entry.reasons if each.twin is not None]
    chains = Duplicates(folder / LEDGER).chains({each.twin for _, each in reasons if each.twin})
    found = []
    for step, reason in reasons:
        twin = reason.twin or ""
        kept = KeptDuplicate(step, reason.rule, twin, reason.value, chains[twin])
        other = sources.find(twin) if sources and source else None
        if source is not None and other is not None:
            differences = side_by_side(other.repaired, source.repaired, context=60, most=240)
            kept = replace(kept, order=(source.order, other.order), differences=tuple(differences))
        found.append(kept)
    return found
