"""A folder of token shards: written document by document, read as one long memory-mapped run of tokens.

`shards.json` lists the shards with their digests and is written last: a folder without one was not written to its end.
"""

import json
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmworks.artefact import hash_json, lock, write_json
from lmworks.config import from_mapping
from lmworks.data.token_shard import ShardError, ShardFile, TokenShard, checked_hash, token_dtype

INDEX = "shards.json"
LOCK = ".lock"
SHARD_TOKENS = 2**27  # 256 MiB at two bytes a token


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """A line of the index: a shard, and the SHA-256 of what follows its header."""

    name: str
    documents: int
    tokens: int
    digest: str


@dataclass(frozen=True, slots=True)
class Index:
    """`shards.json`; `vocabulary` is the `Tokenizer.hash` of the tokenizer that made the ids."""

    vocabulary: str
    vocabulary_size: int
    shards: tuple[ShardEntry, ...]


class TokenWriter:
    """Writes documents of token ids into a folder of shards; a context manager that writes the index at its good end.

        with TokenWriter(folder, tokenizer.hash, tokenizer.vocabulary_size) as writer:
            writer.add(ids, document.hash)

    A document never spans two shards, and which shard it goes to depends on the documents before it alone. A shard
    holds at most `shard_tokens` tokens, or one longer document. Shards that an interrupted writer finished in this
    folder are kept up to the first that is missing: `hashes` says which documents are there already, and `add` goes on
    after them.

    One writer at a time: `artefact.LockedError` names the process that writes the folder already. The file `.lock`
    says so; it stays where a writer was interrupted.

    ShardError for a folder that is complete or holds shards of another vocabulary; ValueError for a vocabulary whose
    hash is no SHA-256 in hex, or that has no token, or more than 2^32.
    """

    def __init__(self, folder: Path, vocabulary: str, vocabulary_size: int, shard_tokens: int = SHARD_TOKENS) -> None:
        self.folder = folder
        self.hashes: list[str] = []  # of every document so far
        self.tokens = 0
        self._vocabulary = checked_hash(vocabulary, "the vocabulary, `Tokenizer.hash`,")
        token_dtype(vocabulary_size)
        self._vocabulary_size, self._shard_tokens = vocabulary_size, shard_tokens
        self._entries: list[ShardEntry] = []
        self._file: ShardFile | None = None
        self._closed = False
        with ExitStack() as stack:
            _must_be_open(folder)  # before a lock file is put into it
            stack.enter_context(lock(folder / LOCK))
            _must_be_open(folder)  # as whoever held the lock may have left it
            for leftover in folder.glob(".tokens-*.tmp"):
                leftover.unlink()
            self._take_over()
            self._lock = stack.pop_all()

    def _take_over(self) -> None:
        """The shards that an interrupted writer finished; those behind a gap are of no use, and would stay."""
        while (path := self._path(len(self._entries))).exists():
            shard = TokenShard(path)
            _same_vocabulary(shard, self._vocabulary, self._vocabulary_size)
            self._entries.append(ShardEntry(path.name, len(shard.hashes), len(shard.tokens), shard.digest))
            self.hashes += [row.tobytes().hex() for row in shard.hashes]
            self.tokens += len(shard.tokens)
        known = {entry.name for entry in self._entries}
        for behind in {shard.name for shard in self.folder.glob("tokens-*.bin")} - known:
            (self.folder / behind).unlink()

    def add(self, ids: ArrayLike, document_hash: str, mask: ArrayLike | None = None) -> None:
        """Append a document: `ids` (tokens,) integers, `mask` (tokens,) bool, True = to be learned (default: all).

        ValueError for ids that are no integers or outside the vocabulary, a mask that is not of bool or has another
        length, a hash that is no SHA-256 in hex, and when the writer is closed.
        """
        if self._closed:
            raise ValueError(f"the writer of {self.folder} is closed: no document can be added")
        checked_hash(document_hash, "a document's hash, of its text,")
        tokens, learned = np.asarray(ids), None if mask is None else np.asarray(mask)
        if tokens.ndim != 1 or (learned is not None and learned.shape != tokens.shape):
            raise ValueError(f"document {document_hash[:12]}…: ids and mask must be flat and of one length")
        if len(tokens) and (tokens.dtype.kind not in "iu" or (learned is not None and learned.dtype != bool)):
            kinds = f"{tokens.dtype}" if learned is None else f"{tokens.dtype} and {learned.dtype}"
            raise ValueError(f"document {document_hash[:12]}…: ids must be integers and the mask bool, got {kinds}")
        if len(tokens) and not 0 <= tokens.min() <= tokens.max() < self._vocabulary_size:
            raise ValueError(
                f"document {document_hash[:12]}… holds ids from {tokens.min()} to {tokens.max()}, "
                f"the vocabulary has {self._vocabulary_size:,} tokens"
            )
        if self._file is not None and self._file.tokens + len(tokens) > self._shard_tokens:
            self._finish()
        if self._file is None:
            path = self._path(len(self._entries))
            self._file = ShardFile(path, self._vocabulary, self._vocabulary_size)
        self._file.add(tokens, document_hash, learned)
        self.hashes.append(document_hash)
        self.tokens += len(tokens)

    def close(self) -> None:
        """Finish the last shard and write the index: from now on the folder is a dataset, and the writer no use."""
        if self._closed:
            return
        self._finish()
        write_json(self.folder / INDEX, Index(self._vocabulary, self._vocabulary_size, tuple(self._entries)))
        # Only now that no other writer begins here: a lock whose file is gone keeps nobody out.
        (self.folder / LOCK).unlink()
        self._leave()

    def discard(self) -> None:
        """Give up: what is in no finished shard is gone, and another writer can go on after those."""
        if self._file is not None:
            self._file.discard()
        self._leave()

    def _leave(self) -> None:
        self._file, self._closed = None, True
        self._lock.close()

    def __enter__(self) -> "TokenWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def _finish(self) -> None:
        if (file := self._file) is not None:
            self._entries.append(ShardEntry(file.path.name, file.documents, file.tokens, file.finish()))
            self._file = None

    def _path(self, number: int) -> Path:
        return self.folder / f"tokens-{number:05}.bin"


class TokenDataset:
    """The documents of a folder of shards, numbered in the order in which they were written.

    Token t of the dataset is counted over all shards; document i is tokens offsets[i] to offsets[i + 1].

    offsets  (documents + 1,) int64

    FileNotFoundError for a folder without an index; ShardError for shards that are missing, damaged, or not those of
    the index. The content itself is only read by `verify`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = _read_index(folder)
        self.shards: Sequence[TokenShard] = [self._open(entry) for entry in self.index.shards]
        self._starts = np.cumsum([0, *(len(shard.tokens) for shard in self.shards)]).tolist()
        parts = [shard.offsets[:-1] + start for shard, start in zip(self.shards, self._starts, strict=False)]
        self.offsets: NDArray[np.int64] = np.concatenate([*parts, [self._starts[-1]]]).astype(np.int64)

    @property
    def documents(self) -> int:
        return len(self.offsets) - 1

    @property
    def tokens(self) -> int:
        return self._starts[-1]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(documents,): tokens of each document."""
        return np.diff(self.offsets)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the vocabulary and the digests of all shards: equal for equal content."""
        return hash_json([self.index.vocabulary, *(shard.digest for shard in self.shards)])

    def read(self, start: int, stop: int) -> NDArray[np.unsignedinteger]:
        """Tokens start to stop - 1: a view of the disk where they lie in one shard."""
        parts = [shard.tokens[first:last] for shard, first, last in self._pieces(start, stop)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def copy(
        self, out: NDArray[np.int64], places: NDArray[np.int64], starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> None:
        """Tokens starts[i] to starts[i] + lengths[i] - 1, all of one document, to out[places[i]] and on, for each i."""
        some = lengths > 0
        shards = np.searchsorted(self._starts, starts[some], "right") - 1
        within = starts[some] - np.array(self._starts)[shards]
        tokens = [shard.tokens for shard in self.shards]
        for shard, place, start, length in zip(
            shards.tolist(), places[some].tolist(), within.tolist(), lengths[some].tolist(), strict=True
        ):
            out[place : place + length] = tokens[shard][start : start + length]

    def mask(self, start: int, stop: int) -> NDArray[np.bool_]:
        """(stop - start,): which of these tokens are to be learned."""
        parts = [
            np.ones(last - first, bool) if (mask := shard.mask(first, last)) is None else mask
            for shard, first, last in self._pieces(start, stop)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    @cached_property
    def masked(self) -> bool:
        """Whether any document came with a mask; without one all tokens are learned."""
        return any(shard.masked for shard in self.shards)

    def document_hash(self, document: int) -> str:
        """SHA-256 of the text that document number `document` was made from."""
        for shard in self.shards:
            if document < len(shard.hashes):
                return shard.hashes[document].tobytes().hex()
            document -= len(shard.hashes)
        raise IndexError(f"{self.folder} holds {self.documents:,} documents")

    def verify(self) -> None:
        """Read all shards and compare them with their digests; ShardError names the first that differs."""
        for shard in self.shards:
            shard.verify()

    def _open(self, entry: ShardEntry) -> TokenShard:
        path = self.folder / entry.name
        if not path.exists():
            raise ShardError(f"{path} is missing, though {INDEX} lists it: copy the whole folder again")
        shard = TokenShard(path)
        if (shard.digest, len(shard.tokens), len(shard.hashes)) != (entry.digest, entry.tokens, entry.documents):
            raise ShardError(f"{path} is not the shard that {INDEX} lists: copy the whole folder again")
        _same_vocabulary(shard, self.index.vocabulary, self.index.vocabulary_size)
        return shard

    def _pieces(self, start: int, stop: int) -> list[tuple[TokenShard, int, int]]:
        """The range as (shard, first, last) within each shard it touches."""
        number = bisect_right(self._starts, start, hi=len(self.shards)) - 1
        found = []
        while True:
            offset, end = self._starts[number], self._starts[number + 1]
            found.append((self.shards[number], start - offset, min(stop, end) - offset))
            if stop <= end:
                return found
            number, start = number + 1, end


def _read_index(folder: Path) -> Index:
    path = folder / INDEX
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {INDEX}: it is no token dataset, or was not written to its end")
    try:
        index = from_mapping(Index, json.loads(path.read_text("utf-8")), [INDEX])
    except ValueError as error:
        raise ShardError(f"{path} is damaged: {error}") from error
    if not index.shards:
        raise ShardError(f"{folder} is a token dataset without documents")
    return index


def _must_be_open(folder: Path) -> None:
    if (folder / INDEX).exists():
        raise ShardError(f"{folder} is a complete token dataset; write the new one into an empty folder")


def _same_vocabulary(shard: TokenShard, vocabulary: str, size: int) -> None:
    if (shard.vocabulary, shard.vocabulary_size) != (vocabulary, size):
        raise ShardError(
            f"{shard.path} holds ids of the vocabulary {shard.vocabulary[:12]}… ({shard.vocabulary_size} tokens), "
            f"not of {vocabulary[:12]}… ({size}): tokenize the documents again"
        )
