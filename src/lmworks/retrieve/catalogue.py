"""The catalogue of an index: one SQLite file with documents, chunks, their words (FTS5), names and vectors."""

import json
import sqlite3
from pathlib import Path

import numpy as np

from lmworks.config import from_mapping, to_mapping
from lmworks.retrieve.config import ChunkConfig

CATALOGUE = "catalogue.sqlite"
FORMAT = "4"

TOKENIZER = (
    "porter unicode61 remove_diacritics 2"  # of FTS5: how texts are cut into words, here and wherever words compare
)

# A document is deleted with all that came from it.
_SCHEMA = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE documents (
    key INTEGER PRIMARY KEY,
    uri TEXT NOT NULL UNIQUE,
    hash TEXT NOT NULL,    -- of the text; documents with the same text share it
    digest TEXT NOT NULL,  -- of the record: whether anything has changed
    record TEXT NOT NULL   -- the whole document, as one line of documents.jsonl
);
CREATE INDEX documents_by_hash ON documents (hash);
CREATE TABLE chunks (
    key INTEGER PRIMARY KEY,
    document INTEGER NOT NULL REFERENCES documents (key) ON DELETE CASCADE,
    id TEXT NOT NULL,
    start INTEGER NOT NULL,
    end INTEGER NOT NULL,
    headings TEXT NOT NULL,  -- JSON list
    prefix TEXT NOT NULL,    -- the headings that the encoder reads before the text
    units TEXT NOT NULL,     -- JSON list of [start, end, kind]: what can be cited
    tokens INTEGER NOT NULL
);
CREATE INDEX chunks_by_document ON chunks (document);
-- By word; rowid is the key of the chunk. "max_tokens" is the phrase "max tokens".
CREATE VIRTUAL TABLE words USING fts5 (title, text, tokenize = '{TOKENIZER}');
CREATE TRIGGER words_of_chunk AFTER DELETE ON chunks BEGIN DELETE FROM words WHERE rowid = old.key; END;
-- The names that chunks define, in lower case: functools.lru_cache, lru_cache, --quiet. `part`: a member's last word.
CREATE TABLE symbols (
    name TEXT NOT NULL, chunk INTEGER NOT NULL REFERENCES chunks (key) ON DELETE CASCADE, part INTEGER NOT NULL
);
CREATE INDEX symbols_by_name ON symbols (name);
CREATE INDEX symbols_by_chunk ON symbols (chunk);
CREATE TABLE vectors (  -- float32
    chunk INTEGER PRIMARY KEY REFERENCES chunks (key) ON DELETE CASCADE, vector BLOB NOT NULL
);
CREATE TABLE token_vectors (  -- int8, as `late_interaction.to_int8`
    chunk INTEGER PRIMARY KEY REFERENCES chunks (key) ON DELETE CASCADE, vectors BLOB NOT NULL
);
CREATE TABLE axes (width INTEGER PRIMARY KEY, axes BLOB NOT NULL);  -- of their projection: (dimensions, width) float32
"""


class UnusableIndexError(ValueError):
    """An index that cannot be used as asked; the message names the fix."""


class EncoderMismatchError(UnusableIndexError):
    """The vectors of the index were made by another encoder than the one at hand."""


def create_catalogue(
    folder: Path, fingerprint: str, width: int, chunk: ChunkConfig, axes: np.ndarray
) -> sqlite3.Connection:
    """A new, empty catalogue; FileExistsError when there is one already."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / CATALOGUE).exists():
        raise FileExistsError(f"{folder} holds an index already; open it, or choose another folder")
    connection = _connect(folder / CATALOGUE)
    meta = {
        "format": FORMAT,
        "encoder": fingerprint,
        "width": str(width),
        "chunk": json.dumps(to_mapping(chunk), sort_keys=True),
    }
    connection.executescript("BEGIN IMMEDIATE;" + _SCHEMA)
    connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
    connection.execute("INSERT INTO axes VALUES (?, ?)", (axes.shape[1], axes.astype("<f4").tobytes()))
    connection.execute("COMMIT")
    return connection


def open_catalogue(folder: Path) -> tuple[sqlite3.Connection, dict[str, str]]:
    """The catalogue of an index and what it is made of: `encoder`, `width`, `chunk`.

    Raises FileNotFoundError when there is none and UnusableIndexError when it is none of ours or of another format.
    """
    if not (folder / CATALOGUE).is_file():
        raise FileNotFoundError(f"{folder} holds no index; build one with the stage retrieve.index")
    connection = _connect(folder / CATALOGUE)
    try:
        meta = dict(connection.execute("SELECT name, value FROM meta"))
    except sqlite3.DatabaseError as error:
        connection.close()
        raise UnusableIndexError(
            f"{folder / CATALOGUE} is not the catalogue of an index ({error}); rebuild it"
        ) from error
    if meta.get("format") != FORMAT:
        connection.close()
        raise UnusableIndexError(f"{folder} has index format {meta.get('format')}, expected {FORMAT}; rebuild it")
    return connection, meta


def chunk_config(meta: dict[str, str]) -> ChunkConfig:
    """The configuration by which the chunks were cut; UnusableIndexError where a version cut them in other ways."""
    try:
        return from_mapping(ChunkConfig, json.loads(meta["chunk"]))
    except ValueError as error:
        raise UnusableIndexError(f"the index was cut by another version ({error}); rebuild it") from error


def _connect(path: Path) -> sqlite3.Connection:
    """Transactions are explicit. Threads may share the connection: SQLite serialises their statements."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten, not merely unlinked
    connection.execute("PRAGMA foreign_keys = ON")
    return connection
