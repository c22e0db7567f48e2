"""The stage `corpus.read`: sources into an artefact of documents, part by part."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from lmworks.artefact import MANIFEST, StageContext, StageResult, artefact_name, read_manifest, read_rows
from lmworks.config import ConfigError
from lmworks.corpus.documents import REJECTED, join_shards, made_folder, rejected_to_json
from lmworks.corpus.read.config import PYTHON_DOCS, ReadConfig
from lmworks.corpus.read.document_reader import check_there, found_sources
from lmworks.corpus.read.read_parts import PartSizes, ReadPart, read_parts, size_of
from lmworks.corpus.read.reader import DocumentLine
from lmworks.corpus.read.table_rows import NO_COLUMN
from lmworks.corpus.sources.docstrings import EXTRACTOR as DOCSTRINGS
from lmworks.corpus.sources.files import FoundFile, NoSourceError, take_label, without_password
from lmworks.corpus.sources.source_code import source_code_type
from lmworks.corpus.work_parts import Part, carry_out, in_units
from lmworks.records import RejectedRecord
from lmworks.report import Section, Table
from lmworks.sandbox import Sandbox, memory_is_bounded

_TEXTS, _COUNTS = "texts.jsonl", "counts.json"
_SHOWN = 100  # reasons in the report
_LINES, _NAMES = 12, 3  # reasons on the terminal, and names of files after each
_CONVERSIONS = {
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "save its sheets as CSV"),
    **dict.fromkeys((".pptx", ".ppt", ".odp", ".doc"), "save it as PDF"),
    ".ipynb": "jupyter nbconvert --to markdown",
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".gif", ".tif", ".tiff"), "there is no text recognition: write it down"),
}
_SOURCE = "source "  # begins the names of parents that are sources; no input of a stage is called with a space


def read(config: ReadConfig, context: StageContext, sizes: PartSizes | None = None) -> StageResult:
    """Read the sources into `documents/` and `rejected.jsonl`; `sizes` are those of what is done at a time.

    Raises `files.NoSourceError` (a ValueError) when a source does not exist, and ValueError when no document came out.
    """
    found = list(found_sources(config, context.base))
    folders: list[Path] = []

    def parts(sandbox: Sandbox) -> Iterator[Part[ReadPart]]:
        for part in read_parts(found, config, context.work, sizes or PartSizes(), sandbox):
            folders.append(part.done)
            yield part

    size = sum(map(size_of, found))
    unit, progress = in_units(size, context.progress)
    if not memory_is_bounded():
        note = f"this system bounds the memory of no process: guard.megabytes={config.guard.megabytes} is not kept to"
        progress(0, size, unit, 0, note)
    made = sorted({each.path.parents[1] for each in found if isinstance(each, FoundFile) and each.made})
    parents = _parents(made)  # first of all: a damaged manifest is told before the work
    if made:
        progress(0, size, unit, 0, f"read as they are, which a stage made: {', '.join(map(str, made))}")
    with Sandbox(config.guard) as cutting, _sandbox(config.guard):  # the second where this process reads parts itself
        carry_out(read_part, parts(cutting), config.execution, progress, unit, size)
    join_shards([folder / _TEXTS for folder in folders], context.output)
    tally = _Tally()
    with (context.output / REJECTED).open("wb") as rejected:
        for folder in folders:
            rejected.write((folder / REJECTED).read_bytes())
            tally.merge(json.loads((folder / _COUNTS).read_text("utf-8")))
    if not tally.documents:
        reasons = "; ".join(f"{count} × {reason}" for reason, count in tally.reasons.most_common(5)) or "they are empty"
        hints = "".join(f"; {hint}" for hint in tally.hints.values())
        names = without_password(", ".join(config.sources))
        raise ValueError(f"no documents in {names}: {reasons}. Name other sources{hints}")
    return StageResult(metrics=tally.metrics(), sections=(tally.section(),), parents=parents)


def _parents(made: Iterable[Path]) -> dict[str, str]:
    """The artefacts of stages that are read, for the lineage: "source NAME" → content hash. Documents without a
    manifest have none."""
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


_sandbox = cache(Sandbox)  # one of this process, which takes a while to start


def read_part(part: ReadPart, folder: Path) -> None:
    """The documents of a part, and what is rejected, into a new folder."""
    folder.mkdir()
    tally = _Tally()
    with (folder / _TEXTS).open("wb") as texts, (folder / REJECTED).open("wb") as rejected:
        for item in part.lines(_sandbox(part.config.guard)):
            tally.add(item)
            if isinstance(item, DocumentLine):
                texts.write(item.line)
            else:
                rejected.write(rejected_to_json(item).encode() + b"\n")
    (folder / _COUNTS).write_text(json.dumps(vars(tally), ensure_ascii=False), "utf-8")


def check(config: ReadConfig, base: Path) -> None:
    """Before any stage runs: ConfigError for a source that is not there. Addresses are reached when they are read."""
    try:
        check_there(config, base)
    except NoSourceError as error:
        raise ConfigError(("sources",), str(error)) from error


# ---------------------------------------------------------------------------------------------------------------------
# Counts


def kind_of_reason(reason: str) -> str:
    """A reason without what is true of one file alone, so that equal ones are counted together."""
    if reason.startswith(("not JSON:", "not Python", "unreadable", "cannot be")):
        reason = reason.split(":")[0]
    return re.sub(r"(?: \([^()]*\))+$", "", reason)


def left_out(folder: Path, name: str) -> list[str]:
    """Lines that tell which files the stage `name` left out, why, and what to do; none where it read all of them."""
    files: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()
    for item in read_rows(RejectedRecord, folder / REJECTED):
        reason = kind_of_reason(item.reason).replace("set columns.text to", f"--set {name}.columns.text=NAME takes")
        files.setdefault(reason, []).append(item.uri)
        counts[reason] += item.count
    if not counts:
        return []
    lines = [f"{counts.total():,} left out, all of them in {folder / REJECTED}:"]
    for reason, count in counts.most_common(_LINES):
        advice = _CONVERSIONS.get(reason.removeprefix("no reader for "), "")
        names = ", ".join(files[reason][:_NAMES]) + (", …" if count > _NAMES else "")
        lines.append(f"  {count:,} × {reason}{f' ({advice})' if advice else ''}: {names}")
    return lines if len(counts) <= _LINES else [*lines, f"  and for {len(counts) - _LINES:,} other reasons"]


class _Tally:
    """Counts what passes by, for the metrics and the report."""

    def __init__(self) -> None:
        self.documents: Counter[str] = Counter()  # media type -> documents
        self.characters: Counter[str] = Counter()
        self.encodings: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()  # why records were rejected -> how many
        # Files of source code of which nothing, or no more than docstrings, was kept; tables without a column of the
        # name that the text's has.
        self.others: Counter[str] = Counter(source_code=0, columns=0)
        self.example: dict[str, str] = {}

    def add(self, item: DocumentLine | RejectedRecord) -> None:
        """Count a document or what was rejected."""
        if isinstance(item, DocumentLine):
            self.documents[item.media_type] += 1
            self.characters[item.media_type] += item.characters
            self.encodings[item.encoding] += 1
            self.others["source_code"] += item.extractor == DOCSTRINGS and item.source != PYTHON_DOCS
            return
        reason = kind_of_reason(item.reason)
        self.reasons[reason] += item.count
        self.example.setdefault(reason, item.uri)
        is_unread = item.reason.startswith(("no reader", "not Python", "Python without"))
        self.others["source_code"] += is_unread and source_code_type(PurePosixPath(item.uri)) is not None
        self.others["columns"] += item.reason.startswith(NO_COLUMN)

    def merge(self, counts: Mapping[str, Any]) -> None:
        """Add those of a later part, its `vars`."""
        self.example = {**counts["example"], **self.example}
        for name, counter in vars(self).items():
            if isinstance(counter, Counter):
                counter.update(counts[name])

    @property
    def hints(self) -> dict[str, str]:
        """Purpose -> the setting that keeps more for it: source code whole, tables with the text in another column."""
        hints = {}
        if code := self.others["source_code"]:
            hints["training"] = f'source_code="whole" keeps source code as it is, here {code:,} more files'
        if tables := self.others["columns"]:
            hints[f"the tables left out ({tables:,})"] = (
                "name the column that holds the text: --set documents.columns.text=NAME, for a stage called "
                'documents; several tables may have several: --set \'documents.columns.text=["text", "body"]\''
            )
        return hints

    def metrics(self) -> dict[str, int | dict[str, int]]:
        """The counts in the manifest."""
        return {
            "documents": self.documents.total(),
            "characters": self.characters.total(),
            "rejected": self.reasons.total(),
            "encodings": dict(sorted(self.encodings.items())),
        }

    def section(self) -> Section:
        """The tables in the report."""
        kinds = tuple((kind, count, self.characters[kind]) for kind, count in sorted(self.documents.items()))
        reasons = [(reason, count, self.example[reason]) for reason, count in self.reasons.most_common(_SHOWN)]
        if others := self.reasons.total() - sum(count for _, count, _ in reasons):
            reasons.append((f"{len(self.reasons) - _SHOWN:,} other reasons", others, ""))
        tables = [
            Table(("media type", "documents", "characters"), kinds),
            Table(("encoding", "documents"), tuple(sorted(self.encodings.items()))),
        ]
        if reasons:
            head = ("left out because", "files", "for example")
            tables.append(Table(head, tuple(reasons), "Nothing is skipped silently"))
        text = (
            f"{self.documents.total():,} documents with {self.characters.total():,} characters were read; "
            f"{self.reasons.total():,} files were left out."
        )
        text += "".join(f" For {purpose}, {hint}." for purpose, hint in self.hints.items())
        return Section("Documents", text, tuple(tables))
