"""Small corpora with attributes on disk, and what the stage and a policy make of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lmworks.artefact import StageContext, StageResult
from lmworks.config import from_mapping
from lmworks.corpus.attributes import (
    ATTRIBUTES,
    Attributes,
    CorpusAttributes,
    DocumentAttributes,
    attribute_paths,
    read_attributes,
    write_attributes,
)
from lmworks.corpus.dedup.hashes import text_digest
from lmworks.corpus.dedup.kept_duplicates import rank_corpus
from lmworks.corpus.dedup.stage import DuplicatesConfig, duplicates
from lmworks.corpus.documents import Kind, corpus_shards, write_documents
from lmworks.corpus.edits import apply_edits
from lmworks.corpus.filtering import decide as decisions
from lmworks.corpus.filtering.decide import Decisions
from lmworks.corpus.filtering.filter_policy import Policy
from lmworks.records import Document, Edit, RejectedRecord


@dataclass(frozen=True)
class Given:
    """A document: what was extracted, and what taggers say of it."""

    text: str
    kind: Kind = "web"
    measures: Mapping[str, float] = field(default_factory=dict)
    licence: str = ""
    edits: tuple[Edit, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def repaired(self) -> str:
        return apply_edits(self.text, self.edits).text


Corpus = Sequence[tuple[str, Given]]  # uri and document, in the order of reading


def source(uri: str) -> str:
    return uri.partition("/")[0]


def tagged(uri: str, given: Given, document_hash: str) -> DocumentAttributes:
    text = given.repaired
    labels = {"exact": text_digest(text).hex()[:32]} | ({"licence": given.licence} if given.licence else {})
    found = Attributes(given.measures, (), labels)
    return DocumentAttributes(
        uri, document_hash, given.kind, len(text), len(text.encode()), found, given.edits, source(uri)
    )


def write_corpus(
    folder: Path, corpus: Corpus, shard_bytes: int = 1 << 26, rejected: Sequence[RejectedRecord] = ()
) -> None:
    (folder / "read").mkdir(parents=True)
    (folder / "tagged" / ATTRIBUTES).mkdir(parents=True)
    documents = [
        Document(given.text, uri, "text/plain", "plain", "1", "", source=source(uri), metadata=given.metadata)
        for uri, given in corpus
    ]
    write_documents(folder / "read", [*documents, *rejected], shard_bytes)
    known = dict(corpus)
    for shard in corpus_shards({"read": folder / "read"}):
        rows = [tagged(each.uri, known[each.uri], each.hash) for each in shard]
        write_attributes(folder / "tagged" / ATTRIBUTES / f"{shard.name}.parquet", rows)


def run_duplicates(folder: Path, **config: object) -> StageResult:
    for name in ("duplicates", "work"):
        (folder / name).mkdir()
    context = StageContext(
        {"read": folder / "read", "tagged": folder / "tagged"}, folder / "duplicates", folder / "work"
    )
    return duplicates(from_mapping(DuplicatesConfig, {"execution": {"workers": 1}} | config), context)


def decide(folder: Path, *steps: Mapping[str, object]) -> dict[str, list[Decisions]]:
    """What each step says of each document that it says anything of: step → Decisions of all shards."""
    policy = from_mapping(Policy, {"steps": list(steps)})
    tables = CorpusAttributes([(path,) for path in attribute_paths(folder / "tagged")])
    judged = [decisions.decide(policy, table) for table in tables]
    decisions.decide_duplicates(policy, rank_corpus(tables), judged, folder / "duplicates")
    return {step.name: [shard[number] for shard in judged] for number, step in enumerate(policy.steps)}


def uris_of(folder: Path) -> list[list[str]]:
    """Of each shard."""
    return [list(read_attributes(path).uris) for path in attribute_paths(folder / "tagged")]


def gone(folder: Path, judged: Sequence[Decisions]) -> dict[str, tuple[str | None, float | None]]:
    """Document that a step drops → its kept duplicate, and the value of the reason."""
    return {
        uris[place]: (reasons[0].kept_duplicate, reasons[0].value)
        for uris, shard in zip(uris_of(folder), judged, strict=True)
        for place, reasons in shard.reasons.items()
    }


def cuts(folder: Path, judged: Sequence[Decisions]) -> dict[str, list[tuple[int, int]]]:
    """Document → what a step cuts of it."""
    return {
        uris[place]: sorted((cut.start, cut.end) for cut in found)
        for uris, shard in zip(uris_of(folder), judged, strict=True)
        for place, found in shard.cuts.items()
    }


def cut_out(text: str, ranges: Sequence[tuple[int, int]]) -> str:
    there = np.ones(len(text), bool)
    for start, end in ranges:
        there[start:end] = False
    return "".join(character for character, stays in zip(text, there, strict=True) if stays)
