"""The stage `data.read`: sources into an artefact of documents."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from lmworks.artefact import StageContext, StageResult
from lmworks.data.config import ReadConfig
from lmworks.data.docstrings import EXTRACTOR as DOCSTRINGS
from lmworks.data.reading import read_documents
from lmworks.data.reading import source_digest as digest_of_sources
from lmworks.data.source_code import source_code_type
from lmworks.data.store import write_documents
from lmworks.records import Document, LeftOut
from lmworks.report import Section, Table


def read(config: ReadConfig, context: StageContext) -> StageResult:
    """Read the sources into `documents.jsonl` and `left_out.jsonl`.

    Raises `files.NoSourceError` (a ValueError) when a source does not exist, and ValueError when no document came out.
    """
    tally = _Tally()
    write_documents(context.output, tally.watch(read_documents(config, context.progress, context.base)))
    if not tally.documents:
        reasons = "; ".join(f"{count} × {reason}" for reason, count in tally.reasons.most_common(5)) or "they are empty"
        hint = f"; {tally.hint}" if tally.hint else ""
        raise ValueError(f"no documents in {', '.join(config.sources)}: {reasons}. Name other sources{hint}")
    return StageResult(metrics=tally.metrics(), sections=(tally.section(),))


def source_digest(config: ReadConfig, base: Path) -> str:
    """What the stage reads from outside the workspace: SHA-256 of the names and bytes of the files."""
    return digest_of_sources(config, base)


class _Tally:
    """Counts what passes by, for the metrics and the report."""

    def __init__(self) -> None:
        self.documents: Counter[str] = Counter()  # media type -> documents
        self.characters: Counter[str] = Counter()
        self.encodings: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()  # why files were left out -> how many
        self.example: dict[str, str] = {}
        self.source_code = 0  # files of source code of which nothing, or no more than docstrings, was kept

    def watch(self, items: Iterator[Document | LeftOut]) -> Iterator[Document | LeftOut]:
        for item in items:
            if isinstance(item, Document):
                self.documents[item.media_type] += 1
                self.characters[item.media_type] += len(item.text)
                self.encodings[item.metadata.get("encoding", "utf-8")] += 1
            else:
                reason = _kind(item.reason)
                self.reasons[reason] += item.count
                self.example.setdefault(reason, item.uri)
            self.source_code += self._is_reduced(item)
            yield item

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
