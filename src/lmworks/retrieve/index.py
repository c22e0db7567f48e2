"""An exact index in one folder: an SQLite catalogue and a memory-mapped matrix of float32 vectors.

How it is written, and why a crash cannot hurt it, stands in `index_writer.py`; how it is searched, in `search.py`.
"""

import hashlib
import json
import re
import sqlite3
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from lmworks.corpus.documents import document_from_json, document_to_json
from lmworks.progress import Report, no_report
from lmworks.records import Document, Span
from lmworks.retrieve import catalogue
from lmworks.retrieve.catalogue import VECTORS, EncoderMismatchError, UnusableIndexError
from lmworks.retrieve.chunk import chunk
from lmworks.retrieve.config import ChunkConfig
from lmworks.retrieve.encoder import Encoder
from lmworks.retrieve.evidence_unit import Unit
from lmworks.retrieve.index_writer import BATCH_CHUNKS, ITEM_BYTES, Encoded, Entry, Writer
from lmworks.retrieve.late_interaction import from_int8, principal_axes, to_int8
from lmworks.retrieve.vector_store import VectorStore, forget_store, open_store


@dataclass(frozen=True, slots=True)
class SyncCounts:
    """The changes that a `sync` made, in documents; `embedded` counts chunks."""

    added: int = 0
    replaced: int = 0
    removed: int = 0
    unchanged: int = 0
    embedded: int = 0


@dataclass(frozen=True, slots=True)
class Filters:
    """Which chunks may be found: of documents `include` (None is all) and not `exclude`, by hash, whose uri begins so;
    and none that shares a character with a span of `hidden`."""

    include: frozenset[str] | None = None
    exclude: frozenset[str] = frozenset()
    uri_prefix: str = ""
    hidden: tuple[Span, ...] = ()


EVERYTHING = Filters()


@dataclass(frozen=True, slots=True)
class IndexedChunk:
    """A chunk as the index holds it; `text` is exactly what its document has at `span`. See `chunk.Chunk`."""

    key: int
    id: str
    span: Span
    uri: str
    text: str
    heading_path: tuple[str, ...]
    prefix: str
    units: tuple[Unit, ...]
    tokens: int

    @property
    def readable(self) -> str:
        """The text as a model may read it: of the same length, with blanks for instructions to a model."""
        text, shift = self.text, self.span.start
        for start, end in ((one.start - shift, one.end - shift) for one in self.units if one.kind == "instruction"):
            text = text[:start] + re.sub(r"\S", " ", text[start:end]) + text[end:]
        return text

    @property
    def opens_section(self) -> bool:
        """Whether the section's own heading stands in the chunk, or is not written at all."""
        shown = " > ".join(self.heading_path)
        return not self.heading_path or not self.prefix or not shown.endswith(self.prefix.strip())


@dataclass(frozen=True, slots=True)
class _Layout:
    """Arrays over all chunks, ordered by uri and place, so that no result depends on the history of the index."""

    keys: np.ndarray  # (n,) int64
    rows: np.ndarray  # (n,) int64, of the matrix
    documents: np.ndarray  # (n,) int64, keys of documents
    spans: np.ndarray  # (n, 2) int64, of the text of their documents
    matrix: np.ndarray  # (rows, width) float32, memory-mapped


@dataclass(frozen=True, slots=True)
class Passing:
    """Chunks that filters let through: their positions in the layout, rising, and for each key up to the largest of the
    index a byte, 1 where it is one of them."""

    positions: np.ndarray  # (chunks,) int64
    by_key: bytes


_OVERLAPS = (
    "SELECT c.key FROM chunks c JOIN documents d ON d.key = c.document WHERE d.hash = ? AND c.start < ? AND c.end > ?"
)


class Index:
    """Made by `create` or `open`; closed by `close` or a `with` block."""

    def __init__(self, folder: Path, connection: sqlite3.Connection, fingerprint: str, width: int, config: ChunkConfig):
        self.folder = folder
        self.connection = connection
        self.encoder_fingerprint = fingerprint
        self.width = width
        self.chunk_config = config
        self._layout: _Layout | None = None
        self._passing: tuple[Filters, Passing] | None = None  # of the last filters
        self.store: VectorStore | None = None  # None: searched exactly

    @classmethod
    def create(cls, folder: Path, encoder: Encoder, chunk_config: ChunkConfig) -> "Index":
        """A new index for vectors of one encoder; FileExistsError when the folder holds one."""
        axes = principal_axes(encoder.token_sample())
        connection = catalogue.create_catalogue(folder, encoder.fingerprint, encoder.width, chunk_config, axes)
        return cls(folder, connection, encoder.fingerprint, encoder.width, chunk_config)

    @classmethod
    def open(cls, folder: Path, encoder_fingerprint: str, *, with_store: bool = True) -> "Index":
        """An existing index; EncoderMismatchError when its vectors were made by another encoder.

        Vectors of two encoders cannot be compared: their cosine is a number without meaning. Its store is opened too,
        but for an index that is only to be updated.
        """
        connection, meta = catalogue.open_catalogue(folder)
        if meta["encoder"] != encoder_fingerprint:
            connection.close()
            raise EncoderMismatchError(
                f"{folder} was made by the encoder {meta['encoder'][:12]}…, not by {encoder_fingerprint[:12]}…; "
                "load the encoder it was made by, or rebuild the index"
            )
        try:
            index = cls(folder, connection, encoder_fingerprint, int(meta["width"]), catalogue.chunk_config(meta))
            index.store = open_store(index) if with_store else None
            return index
        except UnusableIndexError:
            connection.close()
            raise

    def close(self) -> None:
        self._layout = self._passing = None
        if self.store is not None:
            self.store.close()
        self.connection.close()

    def __enter__(self) -> "Index":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Number of chunks."""
        return self.connection.execute("SELECT count(*) FROM chunks").fetchone()[0]

    # -----------------------------------------------------------------------------------------------------------------
    # Writing

    def sync(self, documents: Iterable[Document], encoder: Encoder, progress: Report = no_report) -> SyncCounts:
        """Make the index hold exactly these documents.

        A document is known by its uri and replaced when any of its fields has changed; an unchanged one is not embedded
        again. `documents` is iterated over once more for the sizes that progress is counted in, where it is no
        iterator. A change leaves the index without its store: build that again. Raises ValueError when two documents
        have the same uri, or for vectors that are not finite and of length 1.
        """
        known: dict[str, str] = dict(self.connection.execute("SELECT uri, digest FROM documents").fetchall())
        total = None if isinstance(documents, Iterator) else sum(len(document.text) for document in documents)
        writer = Writer(self.connection, self.folder / VECTORS, self.width)
        self._layout = self._passing = None
        seen: set[str] = set()
        counts = dict.fromkeys(("added", "replaced", "unchanged", "embedded"), 0)
        done = kept = 0
        waiting: list[Entry] = []
        for document in documents:
            if document.uri in seen:
                raise ValueError(f"two documents have the uri {document.uri}")
            seen.add(document.uri)
            done += len(document.text)
            record = document_to_json(document)
            digest = hashlib.sha256(record.encode()).hexdigest()
            if known.get(document.uri) == digest:
                counts["unchanged"] += 1
                kept += len(document.text)
                continue
            forget_store(self)
            counts["replaced" if document.uri in known else "added"] += 1
            chunks = chunk(document, self.chunk_config, encoder.count_tokens)
            counts["embedded"] += len(chunks)
            waiting.append(Entry(document.uri, document.hash, digest, record, document.extractor, chunks))
            if sum(len(entry.chunks) for entry in waiting) >= BATCH_CHUNKS:
                writer.commit(waiting, self._encoded(waiting, encoder))
                waiting = []
                progress(done, total, "characters", kept)
        if waiting:
            writer.commit(waiting, self._encoded(waiting, encoder))
        progress(done, total, "characters", kept)
        vanished = sorted(known.keys() - seen)
        if vanished:
            forget_store(self)
        writer.finish(vanished)
        self._layout = self._passing = None
        return SyncCounts(removed=len(vanished), **counts)

    def _encoded(self, entries: Sequence[Entry], encoder: Encoder) -> list[Encoded]:
        """The vectors of all chunks of some documents, `BATCH_CHUNKS` encoded together: equal lengths share a batch."""
        texts = [one.embed_text for entry in entries for one in entry.chunks]
        uris = f"{entries[0].uri} to {entries[-1].uri}"
        starts = range(0, len(texts), BATCH_CHUNKS)  # the token vectors of a long document are many, until projected
        return [one for start in starts for one in self._encode(texts[start : start + BATCH_CHUNKS], uris, encoder)]

    def _encode(self, texts: Sequence[str], uris: str, encoder: Encoder) -> list[Encoded]:
        vectors, tokens = encoder.encode_both(texts, "passage")
        vectors = np.ascontiguousarray(vectors, dtype="<f4")
        if vectors.shape != (len(texts), self.width):
            raise ValueError(f"{uris}: expected vectors of shape {(len(texts), self.width)}, got {vectors.shape}")
        # 1e-3 allows for an encoder that computes in half precision; a vector that was not normalised is far off.
        if not np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-3):
            raise ValueError(f"{uris}: vectors must be finite and of length 1; normalise them in the encoder")
        axes = self.axes
        return [Encoded(one, to_int8(each @ axes)) for one, each in zip(vectors, tokens, strict=True)]

    # -----------------------------------------------------------------------------------------------------------------
    # Reading

    def layout(self) -> _Layout:
        """Keys, rows and vectors of all chunks, in the order of uri and place; read once after each change."""
        if self._layout is None:
            found = self.connection.execute(
                "SELECT c.key, c.row, c.document, c.start, c.end FROM chunks c JOIN documents d ON d.key = c.document "
                "ORDER BY d.uri, c.start, c.end"
            ).fetchall()
            table = np.array(found, dtype=np.int64).reshape(-1, 5)
            self._layout = _Layout(table[:, 0], table[:, 1], table[:, 2], table[:, 3:], self._matrix(table[:, 1]))
        return self._layout

    def _matrix(self, rows: np.ndarray) -> np.ndarray:
        path = self.folder / VECTORS
        held = path.stat().st_size // (ITEM_BYTES * self.width)
        if rows.size and held <= rows.max():
            raise UnusableIndexError(
                f"{path} holds {held} vectors, the catalogue points to row {rows.max()}; rebuild it"
            )
        if not held:
            return np.zeros((0, self.width), dtype=np.float32)
        return np.memmap(path, dtype="<f4", mode="r", shape=(held, self.width))

    def passing(self, filters: Filters) -> Passing | None:
        """The chunks that the filters let through, None when that is all; those of the last filters are remembered,
        since every leg of a question asks."""
        if filters == EVERYTHING:
            return None
        last = self._passing  # another thread may replace it
        if last is None or last[0] != filters:
            layout = self.layout()
            allowed = (
                self._of_documents(filters.include) if filters.include is not None else np.ones(len(layout.keys), bool)
            )
            if filters.exclude:
                allowed &= ~self._of_documents(filters.exclude)
            if filters.uri_prefix:  # in the order of uris they are one range
                places = range(len(layout.keys))
                first = bisect_left(places, filters.uri_prefix, key=self._uri)
                behind = bisect_left(places, True, first, key=lambda p: not self._uri(p).startswith(filters.uri_prefix))
                allowed[:first] = allowed[behind:] = False
            if filters.hidden:
                spans = ((span.document, span.end, span.start) for span in filters.hidden)
                found = [key for span in spans for (key,) in self.connection.execute(_OVERLAPS, span)]
                allowed &= ~np.isin(layout.keys, np.array(found, dtype=np.int64))
            by_key = np.zeros(layout.keys.max(initial=-1) + 1, np.uint8)
            by_key[layout.keys] = allowed
            self._passing = last = filters, Passing(np.flatnonzero(allowed), by_key.tobytes())
        return last[1]

    def _of_documents(self, hashes: Collection[str]) -> np.ndarray:
        """(n,) bool, in the order of the layout: the chunks of the documents with these hashes."""
        query = "SELECT key FROM documents WHERE hash IN (SELECT value FROM json_each(?))"
        found = self.connection.execute(query, (json.dumps(list(hashes)),)).fetchall()
        return np.isin(self.layout().documents, np.array(found, dtype=np.int64))

    def _uri(self, position: int) -> str:
        """The uri of the chunk at a position of the layout."""
        key = int(self.layout().documents[position])
        return self.connection.execute("SELECT uri FROM documents WHERE key = ?", (key,)).fetchone()[0]

    def chunks(self, keys: Sequence[int]) -> list[IndexedChunk]:
        """The chunks with these keys, in the order given; KeyError for a key that is not there."""
        query = (
            "SELECT c.key, c.id, d.hash, c.start, c.end, d.uri, w.text, c.headings, c.prefix, c.units, c.tokens FROM "
            "chunks c JOIN documents d ON d.key = c.document JOIN words w ON w.rowid = c.key WHERE c.key"
        )
        return [
            IndexedChunk(
                *(key, name, Span(document, start, end), uri, text, tuple(json.loads(headings)), prefix),
                units=tuple(Unit(*unit) for unit in json.loads(units)),
                tokens=tokens,
            )
            for key, name, document, start, end, uri, text, headings, prefix, units, tokens in self._rows(query, keys)
        ]

    def _rows(self, query: str, keys: Sequence[int]) -> list[tuple[Any, ...]]:
        """The rows of a query that ends in the column of the keys, its first one, for each key in the order given."""
        wanted = [int(key) for key in keys]
        found = self.connection.execute(f"{query} IN (SELECT value FROM json_each(?))", (json.dumps(wanted),))
        rows = {row[0]: row for row in found}
        if missing := [key for key in wanted if key not in rows]:
            raise KeyError(f"no chunk {missing[0]}")
        return [rows[key] for key in wanted]

    def vectors(self, keys: Sequence[int]) -> np.ndarray:
        """(keys, width) float32: the vectors of the chunks with these keys, in the order given."""
        rows = [row for _, row in self._rows("SELECT key, row FROM chunks WHERE key", keys)]
        return self.layout().matrix[rows]

    @cached_property
    def axes(self) -> np.ndarray:
        """(dimensions, stored width) float32: what token vectors are projected on."""
        width, axes = self.connection.execute("SELECT width, axes FROM axes").fetchone()
        return np.frombuffer(axes, dtype="<f4").reshape(-1, width)

    def token_vectors(self, keys: Sequence[int]) -> list[np.ndarray]:
        """For each chunk (tokens, stored width) float32, rows of length 1: those of its prefix and text."""
        rows = self._rows("SELECT chunk, vectors FROM token_vectors WHERE chunk", keys)
        return [from_int8(np.frombuffer(blob, dtype=np.int8).reshape(-1, self.axes.shape[1])) for _, blob in rows]

    def document(self, document_hash: str) -> Document:
        """The document with this text, the first by uri where several share it; KeyError when there is none."""
        query = "SELECT uri, record FROM documents WHERE hash = ? ORDER BY uri LIMIT 1"
        row = self.connection.execute(query, (document_hash,)).fetchone()
        if row is None:
            raise KeyError(f"no document with hash {document_hash}")
        return document_from_json(row[1], row[0])

    def documents(self) -> Iterator[Document]:
        """All documents, by uri."""
        for uri, record in self.connection.execute("SELECT uri, record FROM documents ORDER BY uri"):
            yield document_from_json(record, uri)

    def digest(self) -> str:
        """SHA-256 of what the index holds: encoder, documents, chunks; not of how its files came to be.

        Vectors are what the encoder makes of the chunks; their last bits hang on what shared a batch.
        """
        parts = (catalogue.FORMAT, self.encoder_fingerprint, self.width, self.chunk_config)
        digest = hashlib.sha256(repr(parts).encode())
        for (record,) in self.connection.execute("SELECT record FROM documents ORDER BY uri"):
            digest.update(hashlib.sha256(record.encode()).digest())
        for fields in self.connection.execute(
            "SELECT c.id, c.start, c.end, c.headings, c.prefix, c.units, c.tokens, w.text FROM chunks c "
            "JOIN documents d ON d.key = c.document JOIN words w ON w.rowid = c.key ORDER BY d.uri, c.start, c.end"
        ):
            digest.update(json.dumps(fields, ensure_ascii=False).encode())
        return digest.hexdigest()
