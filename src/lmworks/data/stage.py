"""The stage `data.read`: sources into an artefact of documents."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from lmworks.artefact import StageContext, StageResult
from lmworks.data.config import ReadConfig
from lmworks.data.reading import read_documents
from lmworks.data.reading import source_digest as digest_of_sources
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
        raise ValueError(f"no documents in {', '.join(config.sources)}: {reasons}. Name other documents.sources")
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

    def watch(self, items: Iterator[Document | LeftOut]) -> Iterator[Document | LeftOut]:
        for item in items:
            if isinstance(item, Document):
                self.documents[item.media_type] += 1
                self.characters[item.media_type] += len(item.text)
                self.encodings[item.metadata.get("encoding", "utf-8")] += 1
            else:
                reason = (
                    item.reason.split(":")[0] if item.reason.startswith(("not Python", "unreadable")) else item.reason
                )
                self.reasons[reason] += item.count
                self.example.setdefault(reason, item.uri)
            yield item

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
        text = f"{self.documents.total():,} documents were read; {self.reasons.total():,} files were left out."
        return Section("Documents", text, tuple(tables))
