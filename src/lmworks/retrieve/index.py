"""An exact index in one folder: an SQLite catalogue and a memory-mapped matrix of float32 vectors.

How it is written, and why a crash cannot hurt it, stands in `index_writer.py`; how it is searched, in `search.py`.
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from lmworks.data.store import document_from_json, document_to_json
from lmworks.generate.protocol import Role
from lmworks.progress import Report, no_report
from lmworks.records import Document, Span
from lmworks.retrieve import catalogue
from lmworks.retrieve.catalogue import VECTORS, EncoderMismatchError, UnusableIndexError
from lmworks.retrieve.chunk import CountTokens, chunk
from lmworks.retrieve.config import ChunkConfig
from lmworks.retrieve.index_writer import ITEM_BYTES, Entry, Writer
from lmworks.retrieve.vector_store import VectorStore, forget_store, open_store

Encode = Callable[[Sequence[str], Role], np.ndarray]  # (n, width) float32, rows of length 1
EncodeTokens = Callable[[Sequence[str], Role], list[np.ndarray]]  # for each text (tokens, width) float32, likewise


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
    """Which documents may be found: `include` (None is all) and not `exclude`, by hash; and the start of the uri."""

    include: frozenset[str] | None = None
    exclude: frozenset[str] = frozenset()
    uri_prefix: str = ""


EVERYTHING = Filters()


@dataclass(frozen=True, slots=True)
class IndexedChunk:
    """A chunk as the index holds it; `text` is exactly what its document has at `span`."""

    id: str
    span: Span
    uri: str
    text: str
    heading_path: tuple[str, ...]
    tokens: int


@dataclass(frozen=True, slots=True)
class _Layout:
    """Arrays over all chunks, ordered by uri and place, so that no result depends on the history of the index."""

    keys: np.ndarray  # (n,) int64
    rows: np.ndarray  # (n,) int64, of the matrix
    documents: np.ndarray  # (n,) int64, keys of documents
    matrix: np.ndarray  # (rows, width) float32, memory-mapped


class Index:
    """Made by `create` or `open`; closed by `close` or a `with` block."""

    def __init__(self, folder: Path, connection: sqlite3.Connection, fingerprint: str, width: int, config: ChunkConfig):
        self.folder = folder
        self.connection = connection
        self.encoder_fingerprint = fingerprint
        self.width = width
        self.chunk_config = config
        self._layout: _Layout | None = None
        self.store: VectorStore | None = None  # None: searched exactly

    @classmethod
    def create(cls, folder: Path, encoder_fingerprint: str, width: int, chunk_config: ChunkConfig) -> "Index":
        """A new index for vectors of one encoder; FileExistsError when the folder holds one."""
        connection = catalogue.create_catalogue(folder, encoder_fingerprint, width, chunk_config)
        return cls(folder, connection, encoder_fingerprint, width, chunk_config)

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
                "load the encoder it was made by, or build the index anew"
            )
        try:
            index = cls(folder, connection, encoder_fingerprint, int(meta["width"]), catalogue.chunk_config(meta))
            index.store = open_store(index) if with_store else None
            return index
        except UnusableIndexError:
            connection.close()
            raise

    def close(self) -> None:
        self._layout = None
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

    def sync(
        self,
        documents: Iterable[Document],
        encode: Encode,
        count_tokens: CountTokens,
        progress: Report = no_report,
    ) -> SyncCounts:
        """Make the index hold exactly these documents.

        A document is known by its uri and replaced when any of its fields has changed; an unchanged one is not embedded
        again. Each document is embedded by itself, so that its vectors do not depend on what else is indexed, nor on
        how often the work was interrupted. A change leaves the index without its store: build that again. Raises
        ValueError when two documents have the same uri, or for vectors that are not finite and of length 1.
        """
        known: dict[str, str] = dict(self.connection.execute("SELECT uri, digest FROM documents").fetchall())
        total = len(documents) if isinstance(documents, Sized) else None
        writer = Writer(self.connection, self.folder / VECTORS, self.width)
        self._layout = None
        seen: set[str] = set()
        counts = dict.fromkeys(("added", "replaced", "unchanged", "embedded"), 0)
        for document in documents:
            if document.uri in seen:
                raise ValueError(f"two documents have the uri {document.uri}")
            seen.add(document.uri)
            record = document_to_json(document)
            digest = hashlib.sha256(record.encode()).hexdigest()
            if known.get(document.uri) == digest:
                counts["unchanged"] += 1
            else:
                forget_store(self)
                counts["replaced" if document.uri in known else "added"] += 1
                chunks = chunk(document, self.chunk_config, count_tokens)
                vectors = self._checked(encode([one.embed_text for one in chunks], "passage"), document, len(chunks))
                counts["embedded"] += len(chunks)
                writer.add(Entry(document.uri, document.hash, digest, record, chunks, vectors))
            progress(len(seen), total, "documents", counts["unchanged"])
        vanished = sorted(known.keys() - seen)
        if vanished:
            forget_store(self)
        writer.finish(vanished)
        self._layout = None
        return SyncCounts(removed=len(vanished), **counts)

    def _checked(self, vectors: np.ndarray, document: Document, count: int) -> np.ndarray:
        vectors = np.ascontiguousarray(vectors, dtype="<f4")
        if vectors.shape != (count, self.width):
            expected = (count, self.width)
            raise ValueError(f"{document.uri}: expected vectors of shape {expected}, got {vectors.shape}")
        # 1e-3 allows for an encoder that computes in half precision; a vector that was not normalised is far off.
        if not np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-3):
            raise ValueError(f"{document.uri}: vectors must be finite and of length 1; normalise them in the encoder")
        return vectors

    # -----------------------------------------------------------------------------------------------------------------
    # Reading

    def layout(self) -> _Layout:
        """Keys, rows and vectors of all chunks, in the order of uri and place; read once after each change."""
        if self._layout is None:
            found = self.connection.execute(
                "SELECT c.key, c.row, c.document FROM chunks c JOIN documents d ON d.key = c.document "
                "ORDER BY d.uri, c.start, c.end"
            ).fetchall()
            table = np.array(found, dtype=np.int64).reshape(-1, 3)
            self._layout = _Layout(table[:, 0], table[:, 1], table[:, 2], self._matrix(table[:, 1]))
        return self._layout

    def _matrix(self, rows: np.ndarray) -> np.ndarray:
        path = self.folder / VECTORS
        held = path.stat().st_size // (ITEM_BYTES * self.width)
        if rows.size and held <= rows.max():
            raise UnusableIndexError(
                f"{path} holds {held} vectors, the catalogue points to row {rows.max()}; build it anew"
            )
        if not held:
            return np.zeros((0, self.width), dtype=np.float32)
        return np.memmap(path, dtype="<f4", mode="r", shape=(held, self.width))

    def document_keys(self, filters: Filters) -> list[int] | None:
        """Keys of the documents that the filters let through; None when they let all through."""
        if filters == EVERYTHING:
            return None
        return [
            key
            for key, uri, document_hash in self.connection.execute("SELECT key, uri, hash FROM documents")
            if (filters.include is None or document_hash in filters.include)
            and document_hash not in filters.exclude
            and uri.startswith(filters.uri_prefix)
        ]

    def chunks(self, keys: Sequence[int]) -> list[IndexedChunk]:
        """The chunks with these keys, in the order given; KeyError for a key that is not there."""
        texts: dict[int, Document] = {}
        result: list[IndexedChunk] = []
        for key in keys:
            row = self.connection.execute(
                "SELECT document, id, start, end, headings, tokens FROM chunks WHERE key = ?", (int(key),)
            ).fetchone()
            if row is None:
                raise KeyError(f"no chunk {key}")
            owner, name, start, end, headings, tokens = row
            document = texts.get(owner) or texts.setdefault(owner, self._document("key", owner))
            span = Span(document.hash, start, end)
            result.append(
                IndexedChunk(name, span, document.uri, document.quote(span), tuple(json.loads(headings)), tokens)
            )
        return result

    def embed_texts(self, keys: Sequence[int]) -> list[str]:
        """The texts that the encoder read for the chunks with these keys: headings and text, in the order given."""
        query = "SELECT text FROM words WHERE rowid = ?"
        return [self.connection.execute(query, (int(key),)).fetchone()[0] for key in keys]

    def vectors(self, keys: Sequence[int]) -> np.ndarray:
        """(keys, width) float32: the vectors of the chunks with these keys, in the order given."""
        query = "SELECT row FROM chunks WHERE key = ?"
        rows = [self.connection.execute(query, (int(key),)).fetchone()[0] for key in keys]
        return self.layout().matrix[rows]

    def document(self, document_hash: str) -> Document:
        """The document with this text, the first by uri where several share it; KeyError when there is none."""
        return self._document("hash", document_hash)

    def documents(self) -> Iterator[Document]:
        """All documents, by uri."""
        for uri, record in self.connection.execute("SELECT uri, record FROM documents ORDER BY uri"):
            yield document_from_json(record, uri)

    def _document(self, column: str, value: int | str) -> Document:
        query = f"SELECT uri, record FROM documents WHERE {column} = ? ORDER BY uri LIMIT 1"
        row = self.connection.execute(query, (value,)).fetchone()
        if row is None:
            raise KeyError(f"no document with {column} {value}")
        return document_from_json(row[1], row[0])

    def digest(self) -> str:
        """SHA-256 of what the index holds: encoder, documents, chunks, vectors; not of how its files came to be."""
        layout = self.layout()
        digest = hashlib.sha256(
            repr((catalogue.FORMAT, self.encoder_fingerprint, self.width, self.chunk_config)).encode()
        )
        for (record,) in self.connection.execute("SELECT record FROM documents ORDER BY uri"):
            digest.update(hashlib.sha256(record.encode()).digest())
        for key, row in zip(layout.keys.tolist(), layout.rows.tolist(), strict=True):
            fields = self.connection.execute(
                "SELECT c.id, c.start, c.end, c.headings, c.tokens, w.text "
                "FROM chunks c JOIN words w ON w.rowid = c.key WHERE c.key = ?",
                (key,),
            ).fetchone()
            digest.update(json.dumps(fields, ensure_ascii=False).encode() + layout.matrix[row].tobytes())
        return digest.hexdigest()
