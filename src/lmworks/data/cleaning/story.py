"""The story of one document: what each step did with it, what it only just passed, what was cut and who its twin is."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lmworks.artefact import MANIFEST, KnownArtefacts, known_artefacts, read_manifest
from lmworks.config import from_mapping, to_mapping
from lmworks.data.annotation_table import AnnotationTable
from lmworks.data.cleaning.chains import Chains, Gone
from lmworks.data.cleaning.clusters_section import repaired_texts
from lmworks.data.cleaning.differences import side_by_side
from lmworks.data.cleaning.examples import cut_passage
from lmworks.data.cleaning.finding import TOLD, digits_of, document_names, inside, left_out_item, named, nearest
from lmworks.data.cleaning.ledger import LEDGER, Entry, read_ledger
from lmworks.data.cleaning.local import Cut
from lmworks.data.cleaning.margins import margins_of
from lmworks.data.cleaning.origin import cleaned_uris
from lmworks.data.cleaning.policy import Policy
from lmworks.data.cleaning.profile import CONTAMINATION, ITEM
from lmworks.data.cleaning.untouched import not_measured, out_of_scope, without_repairs
from lmworks.data.cleaning.writing import POLICY, REPAIR
from lmworks.data.corpus import CorpusShard, corpus_shards
from lmworks.data.duplicates.standing import why_first
from lmworks.data.edits import apply_edits
from lmworks.data.joined_annotations import annotation_files, read_joined
from lmworks.data.store import Shard
from lmworks.excerpts import Piece
from lmworks.records import Document, LeftOut

NEAR = 5  # rules that a document only just passed
EXCERPTS = 2  # of each rule that cut
CONTEXT, EXCERPT = 60, 240  # characters around a cut, and of it


@dataclass(frozen=True, slots=True)
class Passed:
    """A rule that the document passed: `margin` is how far its value is from the threshold, as a share of that, or of
    the way from there to the nearer end of a share."""

    step: str
    rule: str
    value: float
    side: str
    threshold: float
    margin: float


@dataclass(frozen=True, slots=True)
class CutTold:
    """What a rule cut, with some places of it."""

    step: str
    rule: str
    places: int
    characters: int
    excerpts: tuple[tuple[Piece, ...], ...]


@dataclass(frozen=True, slots=True)
class TwinTold:
    """The document for whose sake this one went, and where the two differ: first the twin's text. `because` says what
    decided that the twin stayed, where that is known: of copied repositories a sum decides. `then` says how the twin
    went itself; empty where it stays."""

    step: str
    rule: str
    twin: str
    similarity: float | None
    because: str = ""
    then: tuple[Gone, ...] = ()
    differences: tuple[tuple[tuple[Piece, ...], tuple[Piece, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Story:
    """`untouched` says of steps that kept the document why they have nothing to say of it, where that is so: a step →
    such as 'not looked at (kinds web)'. `went` are the documents that were dropped for the sake of this one, or of one
    that went for its sake in turn. `missing` says why something is not told: the artefacts that the ledger was made
    from may be gone. `unreadable` tells what lies beside them and is no artefact, a line each."""

    entries: tuple[Entry, ...]
    untouched: Mapping[str, str] = field(default_factory=dict)
    passed: tuple[Passed, ...] = ()
    cuts: tuple[CutTold, ...] = ()
    twins: tuple[TwinTold, ...] = ()
    went: tuple[Gone, ...] = ()
    evaluation_item: str | None = None
    contamination: float | None = None
    missing: str = ""
    unreadable: tuple[str, ...] = ()

    @property
    def stays(self) -> bool:
        return self.entries[-1].verdict in ("kept", "cut")


def stories_of(folder: Path, name: str, made_from: Sequence[Path] = ()) -> list[Story] | LeftOut:
    """The stories of the documents that are meant by a uri, the end of one, or a hash of theirs, before or after the
    cleaning, from the folder that data.clean made; or what says why there is no such document. What that was made from
    is looked for in its workspace, beside it, and in `made_from`: artefacts, folders of them, or workspaces.

    LookupError where nothing is meant by it, which names what is near, or too many are.
    """
    if not name.strip():
        raise LookupError("name a document: its uri, the end of it, or the first 8 or more digits of its hash")
    uris, hashes = document_names(folder / LEDGER)
    found = named(name, uris, hashes)
    if not found and (digits := digits_of(name)):
        found = cleaned_uris(folder, digits)
    if not found:
        item, others = left_out_item(folder, name)
        held = inside(name if item is None else item.uri, uris)
        if item is not None and not held:
            return item
        if held:
            left_out = "" if item is None else f". Left out of it: {item.reason}"
            more = f" and {len(held) - TOLD:,} more" if len(held) > TOLD else ""
            count = "1 document" if len(held) == 1 else f"{len(held):,} documents"
            raise LookupError(
                f"{name} is no document, and holds {count}: name one, of {', '.join(held[:TOLD])}{more}{left_out}"
            )
        near = nearest(name, [*uris, *others])
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise LookupError(
            f"the ledger in {folder} knows no document {name}.{hint} Give its uri, which begins with the name of the "
            "source's folder, the end of it, or the first 8 or more digits of its hash; or name the workspace in which "
            "it was cleaned with --workspace"
        )
    artefacts = _artefacts(folder, made_from)
    sources = _sources(folder, artefacts.folders)
    chains = Chains(folder / LEDGER)
    stories = (_story(tuple(read_ledger(folder / LEDGER, uri)), folder, sources, chains) for uri in found)
    return [
        replace(story, unreadable=artefacts.warnings, went=tuple(chains.went_for(uri)))
        for uri, story in zip(found, stories, strict=True)
    ]


def to_json(story: Story) -> dict[str, Any]:
    """For machines: all of a story in types of JSON."""
    return {"stays": story.stays, **to_mapping(story)}


@dataclass(frozen=True, slots=True)
class _Sources:
    """The documents and annotations that a cleaning was made from."""

    shards: Sequence[CorpusShard]
    annotations: Sequence[tuple[Path, ...]]


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
    return _Sources(corpus_shards(inputs), annotation_files(inputs))


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


def _story(entries: tuple[Entry, ...], folder: Path, sources: _Sources | str, chains: Chains) -> Story:
    then = chains.of(_twin_names(entries))
    policy = from_mapping(Policy, _read_json(folder / POLICY)) if (folder / POLICY).is_file() else Policy()
    found = None if isinstance(sources, str) else _document(sources, entries[0].document)
    if isinstance(sources, str) or found is None:
        missing = sources if isinstance(sources, str) else "the documents it was made from are others now"
        return Story(entries, _untouched(entries, policy), twins=_twins(entries, then, {}, {}), missing=missing)
    document, table, place, repaired = found
    texts = _texts(sources, [entries[0].document, *_twin_names(entries)])
    labels = {name: words[place] for name, words in table.labels.items()}
    share = float(table.measures[CONTAMINATION][place]) if CONTAMINATION in table.measures else None
    return Story(
        entries,
        _untouched(entries, policy, table, place),
        passed=_passed(policy, table, place),
        cuts=_cuts(entries, document.text, repaired),
        twins=_twins(entries, then, _because(sources, entries, (table, place)), texts),
        evaluation_item=labels.get(ITEM),
        contamination=share if labels.get(ITEM) else None,
    )


def _read_json(path: Path) -> Mapping[str, Any]:
    return json.loads(path.read_text("utf-8"))


def _document(sources: _Sources, uri: str) -> tuple[Document, AnnotationTable, int, str] | None:
    """The document of this uri as it was extracted, what is known of it, its place there, and its repaired text."""
    found = _found(sources, uri)
    if found is None:
        return None
    shard, table, place = found
    document = Shard(shard.path).read(place)
    return document, table, place, apply_edits(document.text, table.edits[place] if table.edits else ()).text


def _found(sources: _Sources, uri: str) -> tuple[CorpusShard, AnnotationTable, int] | None:
    """The shard of this document, what is known of its documents, and the place there."""
    import pyarrow.parquet as pq

    for shard, paths in zip(sources.shards, sources.annotations, strict=True):
        uris = pq.read_table(paths[0], columns=["uri"])["uri"].to_pylist()
        if uri in uris:
            return shard, read_joined(paths), uris.index(uri)
    return None


def _because(
    sources: _Sources, entries: Sequence[Entry], mine: tuple[AnnotationTable, int]
) -> dict[tuple[str, str], str]:
    """Rule and twin → what decided that the twin stayed, of equal and alike documents."""
    told = {}
    for reason in (reason for entry in entries for reason in entry.reasons):
        if reason.twin is not None and reason.rule in ("exact", "near") and (found := _found(sources, reason.twin)):
            told[reason.rule, reason.twin] = why_first(found[1:], mine)
    return told


def _texts(sources: _Sources, uris: Sequence[str]) -> dict[str, str]:
    """The repaired texts of a few documents; nothing is read where there is only one."""
    if len(uris) < 2:
        return {}
    tables = [read_joined(paths) for paths in sources.annotations]
    return repaired_texts(sources.shards, tables, uris)


def _untouched(
    entries: Sequence[Entry], policy: Policy, table: AnnotationTable | None = None, place: int = 0
) -> dict[str, str]:
    """Without a table, what the ledger knows."""
    steps, told = {step.name: step for step in policy.steps}, {}
    for entry in entries:
        if entry.verdict != "kept":
            continue
        if entry.step == REPAIR:
            told[entry.step] = without_repairs(entry.kind)
        elif step := steps.get(entry.step):
            unmeasured = not_measured(step, table, place) if table is not None else ""
            told[entry.step] = out_of_scope(step, entry.source, entry.kind, entry.language) or unmeasured
    return {step: why for step, why in told.items() if why}


def _passed(policy: Policy, table: AnnotationTable, place: int) -> tuple[Passed, ...]:
    """The rules that it passed with the least margin, the least first."""
    found = []
    for margins in margins_of(policy.steps, table):
        distance = float(margins.distance[place])
        if distance == distance:  # no NaN: the step looks at it, and it passed
            share = distance / (margins.scale or 1.0)
            value = float(margins.values[place])
            found.append(Passed(margins.step, margins.rule, value, margins.side, margins.threshold, share))
    return tuple(sorted(found, key=lambda passed: passed.margin)[:NEAR])


def _cuts(entries: Sequence[Entry], extracted: str, repaired: str) -> tuple[CutTold, ...]:
    told = []
    for number, entry in enumerate(entries):
        is_repair = entry.step == REPAIR
        text = extracted if is_repair else repaired
        others = [] if is_repair else [cut for before in entries[1:number] for cut in before.cuts]
        for rule in dict.fromkeys(cut.rule for cut in entry.cuts):
            mine = [cut for cut in entry.cuts if cut.rule == rule]
            apart = _apart(mine)[:EXCERPTS]
            excerpts = tuple(cut_passage(text, [*entry.cuts, *others], cut, rule, CONTEXT, EXCERPT) for cut in apart)
            characters = sum(cut.end - cut.start for cut in mine)
            told.append(CutTold(entry.step, rule, len(mine), characters, excerpts))
    return tuple(told)


def _apart(cuts: Sequence[Cut]) -> list[Cut]:
    """Those that the excerpt of an earlier one does not show already."""
    found: list[Cut] = []
    for cut in cuts:
        if not found or cut.start > found[-1].end + CONTEXT:
            found.append(cut)
    return found


def _twin_names(entries: Sequence[Entry]) -> list[str]:
    return [reason.twin for entry in entries for reason in entry.reasons if reason.twin is not None]


def _twins(
    entries: Sequence[Entry],
    then: Mapping[str, tuple[Gone, ...]],
    because: Mapping[tuple[str, str], str],
    texts: Mapping[str, str],
) -> tuple[TwinTold, ...]:
    mine = texts.get(entries[0].document)
    told = []
    for entry in entries:
        for reason in entry.reasons:
            if reason.twin is None:
                continue
            other = texts.get(reason.twin)
            shown = () if mine is None or other is None else tuple(side_by_side(other, mine, context=60, most=240))
            why = because.get((reason.rule, reason.twin), "")
            told.append(TwinTold(entry.step, reason.rule, reason.twin, reason.value, why, then[reason.twin], shown))
    return tuple(told)
