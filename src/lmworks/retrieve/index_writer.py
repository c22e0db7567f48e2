"""Writing of an index, in transactions, so that a kill at any moment loses little and hurts nothing.

The catalogue is the truth. A vector counts only when a committed row of the catalogue points to it, and a row of the
matrix is written only while no committed row points to it. So a crash in between leaves the state before the commit.
"""

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmworks.retrieve.chunk import Chunk
from lmworks.retrieve.symbols import defined_names

BATCH_CHUNKS = 512  # chunks that are embedded together and committed: a kill loses about so many at most
ITEM_BYTES = 4  # of a float32


@dataclass(frozen=True, slots=True)
class Entry:
    """One document, ready to be written."""

    uri: str
    hash: str
    digest: str
    record: str
    extractor: str
    chunks: list[Chunk]


@dataclass(frozen=True, slots=True)
class Encoded:
    """The vectors of one chunk."""

    vector: np.ndarray  # (width,) float32
    tokens: np.ndarray  # (tokens, stored width) int8


class Writer:
    """Writes documents with their chunks, in transactions."""

    def __init__(self, connection: sqlite3.Connection, vectors: Path, width: int) -> None:
        self.connection = connection
        self.vectors = vectors
        self.row_bytes = width * ITEM_BYTES
        used = {row for (row,) in self.connection.execute("SELECT row FROM chunks")}
        self.high = max(used, default=-1) + 1  # rows from here on were never used
        self.free = sorted(set(range(self.high)) - used, reverse=True)
        self.wrote = False

    def finish(self, vanished: Sequence[str]) -> None:
        """Delete the vanished documents, and give the space of deleted vectors back."""
        if vanished:
            self.commit([], [], vanished)
        if self.wrote:
            # Merging all segments drops the words of deleted chunks, which FTS5 else only marks as deleted.
            self.connection.execute("INSERT INTO words (words) VALUES ('optimize')")
        self._compact()

    def commit(self, entries: Sequence[Entry], encoded: Sequence[Encoded], replaced: Sequence[str] = ()) -> None:
        """One transaction: vectors first, to rows that nothing points to, on the disk before the catalogue says so.

        `encoded` are the vectors of all chunks of the entries in order; what the index holds of the uris of the entries
        and of those `replaced` goes.
        """
        self.wrote = True
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            freed = [row for uri in [*(entry.uri for entry in entries), *replaced] for row in self._delete(uri)]
            rows = self._take(len(encoded))
            self._write_vectors([(row, one.vector.tobytes()) for row, one in zip(rows, encoded, strict=True)])
            placed = iter(zip(rows, encoded, strict=True))
            for entry in entries:
                self._insert(entry, placed)
            self.connection.execute("COMMIT")
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        # Only now: until the commit, the catalogue on the disk pointed to these rows.
        self.free = sorted([*self.free, *freed], reverse=True)

    def _take(self, count: int) -> list[int]:
        rows = [self.free.pop() for _ in range(min(count, len(self.free)))]
        fresh = range(self.high, self.high + count - len(rows))
        self.high += len(fresh)
        return [*rows, *fresh]

    def _delete(self, uri: str) -> list[int]:
        """Delete a document and all that came from it; the rows its vectors had."""
        found = self.connection.execute("SELECT key FROM documents WHERE uri = ?", (uri,)).fetchone()
        if found is None:
            return []
        rows = self.connection.execute("SELECT row FROM chunks WHERE document = ?", found).fetchall()
        for table, column in (("words", "rowid"), ("symbols", "chunk"), ("token_vectors", "chunk")):
            chunks = f"DELETE FROM {table} WHERE {column} IN (SELECT key FROM chunks WHERE document = ?)"
            self.connection.execute(chunks, found)
        self.connection.execute("DELETE FROM chunks WHERE document = ?", found)
        self.connection.execute("DELETE FROM documents WHERE key = ?", found)
        return [row for (row,) in rows]

    def _insert(self, entry: Entry, placed: Iterator[tuple[int, Encoded]]) -> None:
        document = self.connection.execute(
            "INSERT INTO documents (uri, hash, digest, record) VALUES (?, ?, ?, ?)",
            (entry.uri, entry.hash, entry.digest, entry.record),
        ).lastrowid
        for one in entry.chunks:
            row, encoded = next(placed)
            headings, units = (json.dumps(value, ensure_ascii=False) for value in (one.heading_path, one.units))
            key = self.connection.execute(
                "INSERT INTO chunks (row, document, id, start, end, headings, prefix, units, tokens) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (row, document, one.id, one.span.start, one.span.end, headings, one.prefix, units, one.tokens),
            ).lastrowid
            title, text = " > ".join(one.heading_path), one.embed_text[len(one.prefix) :]
            self.connection.execute("INSERT INTO words (rowid, title, text) VALUES (?, ?, ?)", (key, title, text))
            names = defined_names(one.heading_path, one.own_headings, entry.extractor)
            self.connection.executemany("INSERT INTO symbols VALUES (?, ?, ?)", [(n, key, part) for n, part in names])
            self.connection.execute("INSERT INTO token_vectors VALUES (?, ?)", (key, encoded.tokens.tobytes()))

    def _write_vectors(self, vectors: Sequence[tuple[int, bytes]]) -> None:
        with self.vectors.open("r+b") as stream:
            for row, vector in vectors:
                stream.seek(row * self.row_bytes)
                stream.write(vector)
            stream.flush()
            os.fsync(stream.fileno())

    def _read_vector(self, row: int) -> bytes:
        with self.vectors.open("rb") as stream:
            stream.seek(row * self.row_bytes)
            return stream.read(self.row_bytes)

    def _compact(self) -> None:
        """Move the last vectors into the gaps and cut the file: it then holds the vectors of the chunks, no others."""
        used = sorted(row for (row,) in self.connection.execute("SELECT row FROM chunks"))
        gaps = sorted(set(range(len(used))) - set(used))
        last = used[len(used) - len(gaps) :]
        if gaps:
            moves = list(zip(gaps, last, strict=True))
            self._write_vectors([(gap, self._read_vector(row)) for gap, row in moves])
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.executemany("UPDATE chunks SET row = ? WHERE row = ?", moves)
            self.connection.execute("COMMIT")
        with self.vectors.open("r+b") as stream:
            stream.truncate(len(used) * self.row_bytes)
