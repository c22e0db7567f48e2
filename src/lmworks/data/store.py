"""Documents on disk: `documents.jsonl` and `left_out.jsonl`, one JSON object a line, UTF-8.

Each document line begins with its hash, so that a reader finds a document without parsing the others.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lmworks.config import from_mapping
from lmworks.records import Document, LeftOut

DOCUMENTS = "documents.jsonl"
LEFT_OUT = "left_out.jsonl"

_PREFIX = b'{"hash": "'
_HASH_LENGTH = 64  # SHA-256 in hexadecimal


class StoreError(ValueError):
    """A file that is not what `write_documents` wrote; the message names the line."""


def write_documents(folder: Path, items: Iterable[Document | LeftOut]) -> None:
    """Write documents and what was left out, in the order given, into an existing folder."""
    with (folder / DOCUMENTS).open("wb") as documents, (folder / LEFT_OUT).open("wb") as left_out:
        for item in items:
            if isinstance(item, Document):
                documents.write(document_to_json(item).encode() + b"\n")
            else:
                left_out.write(json.dumps(dataclasses.asdict(item), ensure_ascii=False).encode() + b"\n")


def document_to_json(document: Document) -> str:
    """One line of JSON, the hash first."""
    row: dict[str, Any] = {"hash": document.hash}
    row |= {field.name: getattr(document, field.name) for field in dataclasses.fields(document) if field.name != "hash"}
    return json.dumps(row | {"metadata": dict(document.metadata)}, ensure_ascii=False)


def document_from_json(line: str | bytes, where: str) -> Document:
    """The strict inverse; StoreError for an unknown or missing key, a wrong type, a text that does not fit its hash."""
    try:
        return from_mapping(Document, json.loads(line))
    except ValueError as error:  # ConfigError and JSONDecodeError are both one
        raise StoreError(f"{where}: {error}") from error


class DocumentStore:
    """Random access to a folder written by `write_documents`; in memory it holds one offset a document.

    Documents with the same text share a hash: `get` returns the first of them, iteration gives all.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / DOCUMENTS
        if not self._path.is_file():
            raise FileNotFoundError(f"{folder} holds no {DOCUMENTS}; it is not the folder of a data.read stage")
        self._lines: list[tuple[str, int]] = []  # (hash, offset in the file), in the order of the file
        self._offsets: dict[str, int] = {}
        offset = 0
        with self._path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                end = len(_PREFIX) + _HASH_LENGTH
                if not line.startswith(_PREFIX) or line[end : end + 1] != b'"' or not line.endswith(b"\n"):
                    raise StoreError(f"{self._path}, line {number}: not a document that begins with its hash")
                name = line[len(_PREFIX) : end].decode("ascii", "replace")
                self._lines.append((name, offset))
                self._offsets.setdefault(name, offset)
                offset += len(line)

    def __len__(self) -> int:
        return len(self._lines)

    def __contains__(self, document_hash: object) -> bool:
        return document_hash in self._offsets

    def __iter__(self) -> Iterator[Document]:
        with self._path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                yield document_from_json(line, f"{self._path}, line {number}")

    def hashes(self) -> list[str]:
        """The hash of every document, in order, repeated where texts are equal."""
        return [name for name, _ in self._lines]

    def get(self, document_hash: str) -> Document:
        """The document with this document_hash; KeyError when there is none."""
        if document_hash not in self._offsets:
            raise KeyError(f"no document {document_hash[:12]}… in {self.folder}")
        with self._path.open("rb") as stream:
            stream.seek(self._offsets[document_hash])
            return document_from_json(stream.readline(), f"{self._path}, document {document_hash[:12]}…")

    def left_out(self) -> list[LeftOut]:
        rows = (self.folder / LEFT_OUT).read_text("utf-8").split("\n")[:-1]
        try:
            return [from_mapping(LeftOut, json.loads(row)) for row in rows]
        except ValueError as error:
            raise StoreError(f"{self.folder / LEFT_OUT}: {error}") from error
