"""The stage `data.read`: sources into an artefact of documents, part by part."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lmworks.artefact import StageContext, StageResult
from lmworks.data.config import ReadConfig
from lmworks.data.docstrings import EXTRACTOR as DOCSTRINGS
from lmworks.data.documents_of import FRAGILE, extract_here
from lmworks.data.executing import Part, carry_out
from lmworks.data.extract import Extracted, Extractor
from lmworks.data.files import FoundFile
from lmworks.data.guarding import Guard
from lmworks.data.reading import Found, found_sources, read_found
from lmworks.data.reading import source_digest as digest_of_sources
from lmworks.data.source_code import source_code_type
from lmworks.data.store import LEFT_OUT, document_to_json, join_shards, left_out_to_json
from lmworks.records import Document, LeftOut
from lmworks.report import Section, Table

_PART_BYTES, _PART_FILES = 1 << 25, 1000  # of the files of a part, the last of which may be larger
_TEXTS, _COUNTS = "texts.jsonl", "counts.json"


def read(config: ReadConfig, context: StageContext) -> StageResult:
    """Read the sources into `documents/` and `left_out.jsonl`.

    Raises `files.NoSourceError` (a ValueError) when a source does not exist, and ValueError when no document came out.
    """
    groups = _grouped(found_sources(config, context.base))
    folders = [context.work / "parts" / f"{number:06d}" for number in range(len(groups))]
    parts = [
        Part(ReadPart(tuple(group), config), folder, len(group)) for group, folder in zip(groups, folders, strict=True)
    ]
    carry_out(read_part, parts, config.execution, context.progress, "files")
    join_shards([folder / _TEXTS for folder in folders], context.output)
    tally = _Tally()
    with (context.output / LEFT_OUT).open("wb") as left_out:
        for folder in folders:
            left_out.write((folder / LEFT_OUT).read_bytes())
            tally.merge(json.loads((folder / _COUNTS).read_text("utf-8")))
    if not tally.documents:
        reasons = "; ".join(f"{count} × {reason}" for reason, count in tally.reasons.most_common(5)) or "they are empty"
        hint = f"; {tally.hint}" if tally.hint else ""
        raise ValueError(f"no documents in {', '.join(config.sources)}: {reasons}. Name other sources{hint}")
    return StageResult(metrics=tally.metrics(), sections=(tally.section(),))


@dataclass(frozen=True, slots=True)
class ReadPart:
    """Files that one process reads, one after another."""

    found: tuple[Found, ...]
    config: ReadConfig


def read_part(part: ReadPart, folder: Path) -> None:
    """The documents of a part, and what is left out, into a new folder."""
    folder.mkdir()
    tally = _Tally()
    files = [found for found in part.found if isinstance(found, FoundFile)]
    with (
        (Guard(part.config.guard) if files else nullcontext()) as guard,
        (folder / _TEXTS).open("wb") as texts,
        (folder / LEFT_OUT).open("wb") as left_out,
    ):

        def extract(extractor: Extractor, raw: bytes) -> Extracted:
            return guard.extract(extractor, raw) if guard and extractor in FRAGILE else extract_here(extractor, raw)

        for found in part.found:
            for item in read_found(found, part.config, extract):
                tally.add(item)
                if isinstance(item, Document):
                    texts.write(document_to_json(item).encode() + b"\n")
                else:
                    left_out.write(left_out_to_json(item).encode() + b"\n")
    (folder / _COUNTS).write_text(json.dumps(tally.counts(), ensure_ascii=False), "utf-8")


def _grouped(found: Iterator[Found]) -> list[list[Found]]:
    """Parts of about equal work: many small files, or a large one."""
    groups: list[list[Found]] = []
    size = 0
    for each in found:
        if not groups or size >= _PART_BYTES or len(groups[-1]) >= _PART_FILES:
            groups.append([])
            size = 0
        groups[-1].append(each)
        size += _size(each)
    return groups


def _size(found: Found) -> int:
    try:
        return found.path.stat().st_size if isinstance(found, FoundFile) else 0
    except OSError:  # told when it is read
        return 0


def source_digest(config: ReadConfig, base: Path) -> str:
    """What the stage reads from outside the workspace: SHA-256 of the names and bytes of the files."""
    return digest_of_sources(config, base)


_COUNTERS = ("documents", "characters", "encodings", "reasons")


class _Tally:
    """Counts what passes by, for the metrics and the report."""

    def __init__(self) -> None:
        self.documents: Counter[str] = Counter()  # media type -> documents
        self.characters: Counter[str] = Counter()
        self.encodings: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()  # why files were left out -> how many
        self.example: dict[str, str] = {}
        self.source_code = 0  # files of source code of which nothing, or no more than docstrings, was kept

    def add(self, item: Document | LeftOut) -> None:
        if isinstance(item, Document):
            self.documents[item.media_type] += 1
            self.characters[item.media_type] += len(item.text)
            self.encodings[item.metadata.get("encoding", "utf-8")] += 1
        else:
            reason = _kind(item.reason)
            self.reasons[reason] += item.count
            self.example.setdefault(reason, item.uri)
        self.source_code += self._is_reduced(item)

    def counts(self) -> dict[str, Any]:
        """For `merge`."""
        return {name: getattr(self, name) for name in (*_COUNTERS, "example", "source_code")}

    def merge(self, counts: Mapping[str, Any]) -> None:
        """Add those of a later part."""
        for name in _COUNTERS:
            getattr(self, name).update(counts[name])
        self.example = {**counts["example"], **self.example}
        self.source_code += counts["source_code"]

    def _is_reduced(self, item: Document | LeftOut) -> bool:
        if item.uri.startswith("stdlib:"):
            return False
        if isinstance(item, Document):
            return item.extractor == DOCSTRINGS
        unread = item.reason.startswith(("no reader", "not Python", "Python without"))
        return unread and source_code_type(PurePosixPath(item.uri)) is not None

    @property
    def hint(self) -> str:
        """How to keep source code, where there was some that was not kept whole."""
        if not self.source_code:
            return ""
        return f'source_code="whole" keeps source code as it is, here {self.source_code:,} more files'

    def metrics(self) -> dict[str, int | dict[str, int]]:
        return {
            "documents": self.documents.total(),
            "characters": self.characters.total(),
            "left_out": self.reasons.total(),
            "encodings": dict(sorted(self.encodings.items())),
        }

    def section(self) -> Section:
        kinds = tuple((kind, count, self.characters[kind]) for kind, count in sorted(self.documents.items()))
        reasons = tuple((reason, count, self.example[reason]) for reason, count in self.reasons.most_common())
        tables = [
            Table(("media type", "documents", "characters"), kinds),
            Table(("encoding", "documents"), tuple(sorted(self.encodings.items()))),
        ]
        if reasons:
            tables.append(Table(("left out because", "files", "for example"), reasons, "Nothing is skipped silently"))
        text = (
            f"{self.documents.total():,} documents with {self.characters.total():,} characters were read; "
            f"{self.reasons.total():,} files were left out."
        )
        if self.hint:
            text += f" For training, {self.hint}."
        return Section("Documents", text, tuple(tables))


def _kind(reason: str) -> str:
    """A reason without what is true of one file alone, so that equal ones are counted together."""
    short = reason.split(":")[0] if reason.startswith(("not Python", "unreadable")) else reason
    return re.sub(r" \([^()]*\)$", "", short)
