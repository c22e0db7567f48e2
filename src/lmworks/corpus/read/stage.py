"""The stage `data.read`: sources into an artefact of documents, part by part."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from lmworks.artefact import MANIFEST, StageContext, StageResult, artefact_name, read_manifest
from lmworks.config import ConfigError
from lmworks.corpus.documents import (
    REJECTED,
    Extracted,
    Extractor,
    document_to_json,
    join_shards,
    made_folder,
    rejected_to_json,
)
from lmworks.corpus.execution.execution import Part, Prepared, carry_out, in_units
from lmworks.corpus.read.config import PYTHON_DOCS, ReadConfig
from lmworks.corpus.read.document_reader import check_there, found_sources
from lmworks.corpus.read.document_reader import source_digest as digest_of_sources
from lmworks.corpus.read.read_parts import PartSizes, ReadPart, read_parts, size_of
from lmworks.corpus.read.reasons import kind_of_reason
from lmworks.corpus.read.record_documents import extract_here, is_fragile
from lmworks.corpus.read.sandbox import Guard, GuardConfig, memory_is_bounded
from lmworks.corpus.read.table_rows import NO_COLUMN
from lmworks.corpus.sources.docstrings import EXTRACTOR as DOCSTRINGS
from lmworks.corpus.sources.files import FoundFile, NoSourceError, take_label, without_password
from lmworks.corpus.sources.source_code import source_code_type
from lmworks.records import Document, RejectedRecord
from lmworks.report import Section, Table

_TEXTS, _COUNTS = "texts.jsonl", "counts.json"
_SOURCE = "source "  # begins the names of parents that are sources; no input of a stage is called with a space


def read(config: ReadConfig, context: StageContext, sizes: PartSizes | None = None) -> StageResult:
    """Read the sources into `documents/` and `rejected.jsonl`; `sizes` are those of what is done at a time.

    Raises `files.NoSourceError` (a ValueError) when a source does not exist, and ValueError when no document came out.
    """
    found = list(found_sources(config, context.base))
    folders: list[Path] = []

    def parts() -> Iterator[Part[ReadPart]]:
        for part in read_parts(found, config, context.work, sizes or PartSizes()):
            folders.append(part.done)
            yield part

    size = sum(map(size_of, found))
    unit, progress = in_units(size, context.progress)
    if not memory_is_bounded():
        told = f"this system bounds the memory of no process: guard.megabytes={config.guard.megabytes} is not kept to"
        progress(0, size, unit, 0, told)
    made = sorted({each.path.parents[1] for each in found if isinstance(each, FoundFile) and each.made})
    parents = _parents(made)  # first of all: a damaged manifest is told before the work
    if made:
        progress(0, size, unit, 0, f"read as they are, which a stage made: {', '.join(map(str, made))}")
    carry_out(Prepared(partial(reading, config.guard)), parts(), config.execution, progress, unit, size)
    join_shards([folder / _TEXTS for folder in folders], context.output)
    tally = _Tally()
    with (context.output / REJECTED).open("wb") as left_out:
        for folder in folders:
            left_out.write((folder / REJECTED).read_bytes())
            tally.merge(json.loads((folder / _COUNTS).read_text("utf-8")))
    if not tally.documents:
        reasons = "; ".join(f"{count} × {reason}" for reason, count in tally.reasons.most_common(5)) or "they are empty"
        hints = "".join(f"; {told}" for told in tally.hints.values())
        names = without_password(", ".join(config.sources))
        raise ValueError(f"no documents in {names}: {reasons}. Name other sources{hints}")
    return StageResult(metrics=tally.metrics(), sections=(tally.section(),), parents=parents)


def _parents(made: Iterable[Path]) -> dict[str, str]:
    """What stages made that is read, for the lineage: "source NAME" → content hash. Documents without a manifest are
    known by nothing."""
    parents: dict[str, str] = {}
    taken: set[str] = set()
    for folder in made:
        if (folder / MANIFEST).is_file():
            manifest = read_manifest(folder)
            parents[take_label(f"{_SOURCE}{artefact_name(folder, manifest)}", taken)] = manifest.content_hash
    return parents


def read_from(folder: Path) -> Iterator[Path]:
    """The artefacts whose documents this stage read into a folder, where their sources are still there; a relative
    source is looked for from the current folder."""
    manifest = read_manifest(folder)
    if any(name.startswith(_SOURCE) for name in manifest.parents):
        for source in manifest.config.get("sources", ()):
            if (made := made_folder(Path(source).expanduser())) is not None:
                yield made.resolve()


@contextmanager
def reading(config: GuardConfig) -> Iterator[Callable[[ReadPart, Path], None]]:
    """`read_part` with a guard, which one process needs once."""
    with Guard(config) as guard:
        yield partial(read_part, guard)


def read_part(guard: Guard, part: ReadPart, folder: Path) -> None:
    """The documents of a part, and what is left out, into a new folder."""
    folder.mkdir()
    tally = _Tally()

    def extract(extractor: Extractor, raw: bytes) -> Extracted:
        return guard.extract(extractor, raw) if is_fragile(extractor) else extract_here(extractor, raw)

    with (folder / _TEXTS).open("wb") as texts, (folder / REJECTED).open("wb") as left_out:
        for item in part.documents(extract):
            tally.add(item)
            if isinstance(item, Document):
                texts.write(document_to_json(item).encode() + b"\n")
            else:
                left_out.write(rejected_to_json(item).encode() + b"\n")
    (folder / _COUNTS).write_text(json.dumps(tally.counts(), ensure_ascii=False), "utf-8")


def check(config: ReadConfig, base: Path) -> None:
    """Before any stage runs: ConfigError for a source that is not there. Addresses are reached when they are read."""
    try:
        check_there(config, base)
    except NoSourceError as error:
        raise ConfigError(("sources",), str(error)) from error


def source_digest(config: ReadConfig, base: Path) -> str:
    """What the stage reads from outside the workspace: SHA-256 of the names and bytes of the files."""
    return digest_of_sources(config, base)


_SHOWN = 100  # reasons in the report
_SUMS = ("source_code", "other_columns")
_COUNTERS = ("documents", "characters", "encodings", "reasons")


class _Tally:
    """Counts what passes by, for the metrics and the report."""

    def __init__(self) -> None:
        self.documents: Counter[str] = Counter()  # media type -> documents
        self.characters: Counter[str] = Counter()
        self.encodings: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()  # why files were left out -> how many
        self.example: dict[str, str] = {}
        self.other_columns = 0  # tables without a column of the name that the text's has
        self.source_code = 0  # files of source code of which nothing, or no more than docstrings, was kept

    def add(self, item: Document | RejectedRecord) -> None:
        if isinstance(item, Document):
            self.documents[item.media_type] += 1
            self.characters[item.media_type] += len(item.text)
            self.encodings[item.metadata.get("encoding", "utf-8")] += 1
        else:
            reason = kind_of_reason(item.reason)
            self.reasons[reason] += item.count
            self.example.setdefault(reason, item.uri)
        self.source_code += self._is_reduced(item)
        self.other_columns += isinstance(item, RejectedRecord) and item.reason.startswith(NO_COLUMN)

    def counts(self) -> dict[str, Any]:
        """For `merge`."""
        return {name: getattr(self, name) for name in (*_COUNTERS, *_SUMS, "example")}

    def merge(self, counts: Mapping[str, Any]) -> None:
        """Add those of a later part."""
        for name in _COUNTERS:
            getattr(self, name).update(counts[name])
        self.example = {**counts["example"], **self.example}
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + counts[name])

    def _is_reduced(self, item: Document | RejectedRecord) -> bool:
        if isinstance(item, Document) and item.source == PYTHON_DOCS:
            return False
        if isinstance(item, Document):
            return item.extractor == DOCSTRINGS
        unread = item.reason.startswith(("no reader", "not Python", "Python without"))
        return unread and source_code_type(PurePosixPath(item.uri)) is not None

    @property
    def hints(self) -> dict[str, str]:
        """What it is for -> the setting that keeps more: source code whole, tables with the text in another column."""
        hints = {}
        if self.source_code:
            told = f'source_code="whole" keeps source code as it is, here {self.source_code:,} more files'
            hints["training"] = told
        if self.other_columns:
            hints[f"the tables left out ({self.other_columns:,})"] = (
                "name the column that holds the text: --set documents.columns.text=NAME, for a stage called "
                'documents; several tables may have several: --set \'documents.columns.text=["text", "body"]\''
            )
        return hints

    def metrics(self) -> dict[str, int | dict[str, int]]:
        return {
            "documents": self.documents.total(),
            "characters": self.characters.total(),
            "left_out": self.reasons.total(),
            "encodings": dict(sorted(self.encodings.items())),
        }

    def section(self) -> Section:
        kinds = tuple((kind, count, self.characters[kind]) for kind, count in sorted(self.documents.items()))
        reasons = [(reason, count, self.example[reason]) for reason, count in self.reasons.most_common(_SHOWN)]
        if others := self.reasons.total() - sum(count for _, count, _ in reasons):
            reasons.append((f"{len(self.reasons) - _SHOWN:,} other reasons", others, ""))
        tables = [
            Table(("media type", "documents", "characters"), kinds),
            Table(("encoding", "documents"), tuple(sorted(self.encodings.items()))),
        ]
        if reasons:
            tables.append(
                Table(("left out because", "files", "for example"), tuple(reasons), "Nothing is skipped silently")
            )
        text = (
            f"{self.documents.total():,} documents with {self.characters.total():,} characters were read; "
            f"{self.reasons.total():,} files were left out."
        )
        text += "".join(f" For {purpose}, {told}." for purpose, told in self.hints.items())
        return Section("Documents", text, tuple(tables))
