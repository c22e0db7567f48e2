"""An index in one folder: an SQLite catalogue, and perhaps a store of vectors (`vector_store.py`).

A document is written, with its chunks and their vectors, in one transaction: a kill at any moment leaves all of it or
nothing. How the index is searched stands in `search.py`.
"""

import hashlib
import json
import re
import sqlite3
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lmworks.corpus.documents import document_from_json, document_to_json
from lmworks.progress import Report, no_report
from lmworks.records import Document, Span
from lmworks.retrieve import catalogue, vector_store
from lmworks.retrieve.catalogue import EncoderMismatchError, UnusableIndexError
from lmworks.retrieve.chunk import Chunk, chunk
from lmworks.retrieve.config import ChunkConfig
from lmworks.retrieve.encoder import Encoder
from lmworks.retrieve.evidence_unit import Unit
from lmworks.retrieve.late_interaction import from_int8, principal_axes, to_int8
from lmworks.retrieve.symbols import defined_names
from lmworks.retrieve.text_block import Kind
from lmworks.retrieve.vector_store import StoreRecord, VectorStore

BATCH_CHUNKS = 512  # chunks that are embedded together and committed: a kill loses about so many at most


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
        for start, end in ((unit.start - shift, unit.end - shift) for unit in self.units if unit.kind == "instruction"):
            text = text[:start] + re.sub(r"\S", " ", text[start:end]) + text[end:]
        return text

    @property
    def opens_section(self) -> bool:
        """Whether the section's own heading stands in the chunk, or is not written at all."""
        shown = " > ".join(self.heading_path)
        return not self.heading_path or not self.prefix or not shown.endswith(self.prefix.strip())


class Entry(NamedTuple):
    """A document that is to be written, as its line of documents.jsonl with the digest of that, and its chunks."""

    document: Document
    record: str
    digest: str
    chunks: list[Chunk]


class Passing(NamedTuple):
    """Chunks that filters let through: their positions in the order of uri and place, rising, and for each key up to
    the largest of the index a byte, 1 where it is one of them."""

    positions: np.ndarray  # (chunks,) int64
    by_key: bytes


_IN_ORDER = "FROM chunks c JOIN documents d ON d.key = c.document ORDER BY d.uri, c.start, c.end"
_OVERLAPS = (
    "SELECT c.key FROM chunks c JOIN documents d ON d.key = c.document WHERE d.hash = ? AND c.start < ? AND c.end > ?"
)


class Index(AbstractContextManager["Index"]):
    """Made by `create` or `open`; closed by `close` or a `with` block.

    A chunk has a key, and a position in the order of uri and place, so that no result depends on the index's history.
    """

    def __init__(self, folder: Path, connection: sqlite3.Connection, fingerprint: str, width: int, config: ChunkConfig):
        self.folder = folder
        self.encoder_fingerprint = fingerprint
        self.width = width
        self.chunk_config = config
        self.store: VectorStore | None = None  # None: searched exactly
        self._connection = connection
        self._passing: tuple[Filters, Passing] | None = None  # of the last filters

    @classmethod
    def create(cls, folder: Path, encoder: Encoder, chunk_config: ChunkConfig) -> "Index":
        """A new index for vectors of one encoder; FileExistsError when the folder holds one."""
        axes = principal_axes(encoder.token_sample())
        connection = catalogue.create_catalogue(folder, encoder.fingerprint, encoder.width, chunk_config, axes)
        return cls(folder, connection, encoder.fingerprint, encoder.width, chunk_config)

    @classmethod
    def open(cls, folder: Path, encoder_fingerprint: str | None, *, with_store: bool = True) -> "Index":
        """An existing index; EncoderMismatchError when its vectors were made by another encoder (None: any).

        Vectors of two encoders cannot be compared: their cosine is a number without meaning. Its store is opened too,
        but for an index that is only to be read or updated.
        """
        connection, meta = catalogue.open_catalogue(folder)
        if encoder_fingerprint not in (None, meta["encoder"]):
            connection.close()
            raise EncoderMismatchError(
                f"{folder} was made by the encoder {meta['encoder'][:12]}…, not by {encoder_fingerprint[:12]}…; "
                "load the encoder it was made by, or rebuild the index"
            )
        try:
            index = cls(folder, connection, meta["encoder"], int(meta["width"]), catalogue.chunk_config(meta))
            index.store = vector_store.open_store(folder, len(index), index.width) if with_store else None
            return index
        except UnusableIndexError:
            connection.close()
            raise

    def close(self) -> None:
        self._changed()
        if self.store is not None:
            self.store.close()
        self._connection.close()

    def __exit__(self, *error: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Number of chunks."""
        return self._connection.execute("SELECT count(*) FROM chunks").fetchone()[0]

    # -----------------------------------------------------------------------------------------------------------------
    # Writing

    def sync(self, documents: Iterable[Document], encoder: Encoder, progress: Report = no_report) -> SyncCounts:
        """Make the index hold exactly these documents.

        A document is known by its uri and replaced when any of its fields has changed; an unchanged one is not embedded
        again. `documents` is iterated over once more for the sizes that progress is counted in, where it is no
        iterator. A change leaves the index without its store: build that again. Raises ValueError when two documents
        have the same uri, or for vectors that are not finite and of length 1.
        """
        known: dict[str, str] = dict(self._connection.execute("SELECT uri, digest FROM documents").fetchall())
        total = None if isinstance(documents, Iterator) else sum(len(document.text) for document in documents)
        seen: set[str] = set()
        counts = dict.fromkeys(("added", "replaced", "unchanged", "embedded"), 0)
        done = unchanged = 0
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
                unchanged += len(document.text)
                continue
            counts["replaced" if document.uri in known else "added"] += 1
            chunks = chunk(document, self.chunk_config, encoder.count_tokens)
            counts["embedded"] += len(chunks)
            waiting.append(Entry(document, record, digest, chunks))
            if sum(len(entry.chunks) for entry in waiting) >= BATCH_CHUNKS:
                self._commit(waiting, encoder)
                waiting = []
                progress(done, total, "characters", unchanged)
        vanished = sorted(known.keys() - seen)
        if waiting or vanished:
            self._commit(waiting, encoder, vanished)
        progress(done, total, "characters", unchanged)
        if counts["added"] or counts["replaced"] or vanished:
            # Merging all segments drops the words of deleted chunks, which FTS5 else only marks as deleted.
            self._connection.execute("INSERT INTO words (words) VALUES ('optimize')")
        return SyncCounts(removed=len(vanished), **counts)

    def _commit(self, entries: Sequence[Entry], encoder: Encoder, vanished: Sequence[str] = ()) -> None:
        """Write documents in place of those of the same uris, and delete those that vanished, in one transaction."""
        texts = [chunk.embed_text for entry in entries for chunk in entry.chunks]
        starts = range(0, len(texts), BATCH_CHUNKS)  # the token vectors of a long document are many, until projected
        uris = f"{entries[0].document.uri} to {entries[-1].document.uri}" if entries else ""
        encoded = [pair for at in starts for pair in self._encode(texts[at : at + BATCH_CHUNKS], uris, encoder)]
        self.forget_store()
        self._changed()
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            rows = [(uri,) for uri in (*(entry.document.uri for entry in entries), *vanished)]
            self._connection.executemany("DELETE FROM documents WHERE uri = ?", rows)
            pairs = iter(encoded)
            for entry in entries:
                self._insert(entry, pairs)

    def _encode(self, texts: Sequence[str], uris: str, encoder: Encoder) -> Iterator[tuple[bytes, bytes]]:
        """For each text its vector, float32, and those of its tokens, projected, int8."""
        vectors, tokens = encoder.encode_both(texts, "passage")
        vectors = np.ascontiguousarray(vectors, dtype="<f4")
        if vectors.shape != (len(texts), self.width):
            raise ValueError(f"{uris}: expected vectors of shape {(len(texts), self.width)}, got {vectors.shape}")
        # 1e-3 allows for an encoder that computes in half precision; a vector that was not normalised is far off.
        if not np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-3):
            raise ValueError(f"{uris}: vectors must be finite and of length 1; normalise them in the encoder")
        for vector, rows in zip(vectors, tokens, strict=True):
            yield vector.tobytes(), to_int8(rows @ self.axes).tobytes()

    def _insert(self, entry: Entry, vectors: Iterator[tuple[bytes, bytes]]) -> None:
        execute, document = self._connection.execute, entry.document
        columns = (document.uri, document.hash, entry.digest, entry.record)
        parent = execute("INSERT INTO documents (uri, hash, digest, record) VALUES (?, ?, ?, ?)", columns).lastrowid
        for piece in entry.chunks:
            headings, units = (json.dumps(value, ensure_ascii=False) for value in (piece.heading_path, piece.units))
            key = execute(
                "INSERT INTO chunks (document, id, start, end, headings, prefix, units, tokens) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (parent, piece.id, piece.span.start, piece.span.end, headings, piece.prefix, units, piece.tokens),
            ).lastrowid
            title, text = " > ".join(piece.heading_path), piece.embed_text[len(piece.prefix) :]
            execute("INSERT INTO words (rowid, title, text) VALUES (?, ?, ?)", (key, title, text))
            for name, is_member in defined_names(piece.heading_path, piece.own_headings, document.extractor):
                execute("INSERT INTO symbols VALUES (?, ?, ?)", (name, key, is_member))
            vector, tokens = next(vectors)
            execute("INSERT INTO vectors VALUES (?, ?)", (key, vector))
            execute("INSERT INTO token_vectors VALUES (?, ?)", (key, tokens))

    def build_store(self, store: str) -> StoreRecord | None:
        """Build a store of the vectors, "exact" being none; see `vector_store.build_store`. The next `sync` that
        changes the index forgets it: build it again."""
        self.forget_store()
        self.store, record = vector_store.build_store(store, self.folder, self.matrix, self.digest())
        return record

    def write_copy(self, folder: Path) -> None:
        """Write the catalogue into a folder, each table in one piece: the first question reads all vectors."""
        self._connection.execute("VACUUM INTO ?", (str(folder / catalogue.CATALOGUE),))

    def forget_store(self) -> None:
        """Leave the index without a store, as it is before one is built and after its content changed."""
        if self.store is not None:
            self.store.close()
            self.store = None
        vector_store.delete_store(self.folder)

    def _changed(self) -> None:
        """Forget what was read of the chunks."""
        self._passing = None
        for name in ("_order", "matrix"):
            vars(self).pop(name, None)

    # -----------------------------------------------------------------------------------------------------------------
    # All chunks, by position

    @cached_property
    def _order(self) -> np.ndarray:
        """(n, 2) int64: keys of chunks and of their documents."""
        rows = self._connection.execute(f"SELECT c.key, c.document {_IN_ORDER}").fetchall()
        return np.array(rows, dtype=np.int64).reshape(-1, 2)

    @property
    def keys(self) -> np.ndarray:
        """(n,) int64."""
        return self._order[:, 0]

    @cached_property
    def matrix(self) -> np.ndarray:
        """(n, width) float32: the vectors of all chunks, read when they are first needed."""
        matrix = np.empty((len(self.keys), self.width), np.float32)
        rows = self._connection.execute("SELECT vector FROM vectors ORDER BY chunk")
        for positions in np.split(np.argsort(self.keys), range(BATCH_CHUNKS, len(matrix), BATCH_CHUNKS)):  # by key
            blobs = [vector for (vector,) in rows.fetchmany(BATCH_CHUNKS)]
            matrix[positions] = np.frombuffer(b"".join(blobs), "<f4").reshape(-1, self.width)
        return matrix

    def cosines(self, query: np.ndarray, positions: np.ndarray | None = None) -> np.ndarray:
        """(positions,) float32: cosines of chunks with a query; a few are read alone where not all were read yet."""
        if positions is not None and "matrix" not in self.__dict__ and 4 * len(positions) <= len(self.keys):
            return np.einsum("ij,j->i", self.vectors(self.keys[positions]), query.astype(np.float32))
        return vector_store.cosines(self.matrix, query, positions)

    def passing(self, filters: Filters) -> Passing | None:
        """The chunks that the filters let through, None when that is all; those of the last filters are remembered,
        since every retriever of a question asks."""
        if filters == EVERYTHING:
            return None
        last = self._passing  # another thread may replace it
        if last is None or last[0] != filters:
            keys = self.keys
            allowed = self._of_documents(filters.include) if filters.include is not None else np.ones(len(keys), bool)
            if filters.exclude:
                allowed &= ~self._of_documents(filters.exclude)
            if filters.uri_prefix:  # in the order of uris they are one range
                order = range(len(keys))
                first = bisect_left(order, filters.uri_prefix, key=self._uri)
                behind = bisect_left(order, True, first, key=lambda p: not self._uri(p).startswith(filters.uri_prefix))
                allowed[:first] = allowed[behind:] = False
            if filters.hidden:
                spans = ((span.document, span.end, span.start) for span in filters.hidden)
                hidden = [key for span in spans for (key,) in self._connection.execute(_OVERLAPS, span)]
                allowed &= ~np.isin(keys, np.array(hidden, dtype=np.int64))
            by_key = np.zeros(keys.max(initial=-1) + 1, np.uint8)
            by_key[keys] = allowed
            self._passing = last = filters, Passing(np.flatnonzero(allowed), by_key.tobytes())
        return last[1]

    def _of_documents(self, hashes: Collection[str]) -> np.ndarray:
        """(n,) bool, by position: the chunks of the documents with these hashes."""
        query = "SELECT key FROM documents WHERE hash IN (SELECT value FROM json_each(?))"
        documents = self._connection.execute(query, (json.dumps(list(hashes)),)).fetchall()
        return np.isin(self._order[:, 1], np.array(documents, dtype=np.int64))

    def _uri(self, position: int) -> str:
        key = int(self._order[position, 1])
        return self._connection.execute("SELECT uri FROM documents WHERE key = ?", (key,)).fetchone()[0]

    # -----------------------------------------------------------------------------------------------------------------
    # Words and names

    def match(self, expression: str, title_weight: float, k: int, filters: Filters) -> list[tuple[int, float]]:
        """Keys and BM25 of the `k` best chunks for an expression of FTS5, equal ones in the order of positions."""
        passing = self.passing(filters)
        condition = "" if passing is None else "AND substr(:passing, words.rowid + 1, 1) = x'01'"
        return self._connection.execute(
            f"""SELECT c.key, -bm25(words, {title_weight}, 1.0) AS score
                FROM words JOIN chunks c ON c.key = words.rowid JOIN documents d ON d.key = c.document
                WHERE words MATCH :expression {condition} ORDER BY score DESC, d.uri, c.start, c.end LIMIT :k""",
            {"expression": expression, "k": k, "passing": passing and passing.by_key},
        ).fetchall()

    def document_frequency(self, word: str) -> int:
        """The number of chunks that have a word."""
        query = "SELECT count(*) FROM words WHERE words MATCH ?"
        return self._connection.execute(query, (f'"{word}"',)).fetchone()[0]

    def defining(self, name: str, filters: Filters) -> list[tuple[int, int]]:
        """Keys of the chunks that define a name, and whether as a member's last word: these come behind the others."""
        passing = self.passing(filters)
        rows = self._connection.execute(
            "SELECT s.chunk, s.part FROM symbols s JOIN chunks c ON c.key = s.chunk "
            "JOIN documents d ON d.key = c.document WHERE s.name = ? ORDER BY s.part, d.uri, c.start",
            (name,),
        )
        return [row for row in rows if passing is None or passing.by_key[row[0]]]

    # -----------------------------------------------------------------------------------------------------------------
    # Chunks by key, documents by hash

    def chunks(self, keys: Sequence[int] | np.ndarray) -> list[IndexedChunk]:
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

    def _rows(self, query: str, keys: Sequence[int] | np.ndarray) -> list[tuple[Any, ...]]:
        """The rows of a query that ends in the column of the keys, its first one, for each key in the order given."""
        numbers = [int(key) for key in keys]
        cursor = self._connection.execute(f"{query} IN (SELECT value FROM json_each(?))", (json.dumps(numbers),))
        rows = {row[0]: row for row in cursor}
        if missing := [key for key in numbers if key not in rows]:
            raise KeyError(f"no chunk {missing[0]}")
        return [rows[key] for key in numbers]

    def vectors(self, keys: Sequence[int] | np.ndarray) -> np.ndarray:
        """(keys, width) float32: the vectors of the chunks with these keys, in the order given."""
        blobs = [vector for _, vector in self._rows("SELECT chunk, vector FROM vectors WHERE chunk", keys)]
        return np.frombuffer(b"".join(blobs), "<f4").reshape(-1, self.width)

    @cached_property
    def axes(self) -> np.ndarray:
        """(dimensions, stored width) float32: what token vectors are projected on."""
        width, axes = self._connection.execute("SELECT width, axes FROM axes").fetchone()
        return np.frombuffer(axes, dtype="<f4").reshape(-1, width)

    def token_vectors(self, keys: Sequence[int]) -> list[np.ndarray]:
        """For each chunk (tokens, stored width) float32, rows of length 1: those of its prefix and text."""
        rows = self._rows("SELECT chunk, vectors FROM token_vectors WHERE chunk", keys)
        return [from_int8(np.frombuffer(blob, dtype=np.int8).reshape(-1, self.axes.shape[1])) for _, blob in rows]

    def document(self, document_hash: str) -> Document:
        """The document with this text, the first by uri where several share it; KeyError when there is none."""
        query = "SELECT uri, record FROM documents WHERE hash = ? ORDER BY uri LIMIT 1"
        row = self._connection.execute(query, (document_hash,)).fetchone()
        if row is None:
            raise KeyError(f"no document with hash {document_hash}")
        return document_from_json(row[1], row[0])

    def document_count(self) -> int:
        return self._connection.execute("SELECT count(*) FROM documents").fetchone()[0]

    def uris(self, document_hash: str) -> list[str]:
        """The uris of the documents with this text, in order."""
        query = "SELECT uri FROM documents WHERE hash = ? ORDER BY uri"
        return [uri for (uri,) in self._connection.execute(query, (document_hash,))]

    def ranges(self, uri: str) -> list[tuple[int, int, tuple[str, ...]]]:
        """Start, end and headings of each chunk of a document, in order."""
        query = (
            "SELECT c.start, c.end, c.headings FROM chunks c JOIN documents d ON d.key = c.document "
            "WHERE d.uri = ? ORDER BY c.start, c.end"
        )
        return [(start, end, tuple(json.loads(path))) for start, end, path in self._connection.execute(query, (uri,))]

    def summary(self) -> list[dict[str, Any]]:
        """For each document, by uri: its hash, uri, title, media_type, extractor and source, its chunks and tokens."""
        names = ("title", "media_type", "extractor", "source")
        fields = ", ".join(f"json_extract(d.record, '$.{name}')" for name in names)
        rows = self._connection.execute(
            f"""SELECT d.hash, d.uri, {fields}, count(c.key), coalesce(sum(c.tokens), 0)
                FROM documents d LEFT JOIN chunks c ON c.document = d.key GROUP BY d.key ORDER BY d.uri"""
        )
        return [dict(zip(("hash", "uri", *names, "chunks", "tokens"), row, strict=True)) for row in rows]

    def tokens(self) -> list[int]:
        """Tokens of each chunk, its headings included, in no order."""
        return [count for (count,) in self._connection.execute("SELECT tokens FROM chunks")]

    def keys_with(self, kind: Kind) -> list[int]:
        """The keys of the chunks with a unit of this kind."""
        query = "SELECT key FROM chunks WHERE units LIKE ? ORDER BY document, start"
        return [key for (key,) in self._connection.execute(query, (f'%"{kind}"%',))]

    def documents(self) -> Iterator[Document]:
        """All documents, by uri."""
        for uri, record in self._connection.execute("SELECT uri, record FROM documents ORDER BY uri"):
            yield document_from_json(record, uri)

    def digest(self) -> str:
        """SHA-256 of what the index holds: encoder, documents, chunks; not of how its files came to be.

        Vectors are what the encoder makes of the chunks; their last bits hang on what shared a batch.
        """
        header = (catalogue.FORMAT, self.encoder_fingerprint, self.width, self.chunk_config)
        digest = hashlib.sha256(repr(header).encode())
        for (record,) in self._connection.execute("SELECT record FROM documents ORDER BY uri"):
            digest.update(hashlib.sha256(record.encode()).digest())
        for fields in self._connection.execute(
            "SELECT c.id, c.start, c.end, c.headings, c.prefix, c.units, c.tokens, w.text FROM chunks c "
            "JOIN documents d ON d.key = c.document JOIN words w ON w.rowid = c.key ORDER BY d.uri, c.start, c.end"
        ):
            digest.update(json.dumps(fields, ensure_ascii=False).encode())
        return digest.hexdigest()
