"""A folder of token shards: written document by document, read as one long memory-mapped run of tokens.

`shards.json` lists the shards with their digests and is written last: a folder without one was not written to its end.
"""

import json
from bisect import bisect_right
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmworks.artefact import hash_file, hash_json, write_json
from lmworks.config import from_mapping
from lmworks.corpus.documents import stage_folder
from lmworks.data.token_shard import HASH_BYTES, TokenizedDocument, TokenShard, token_dtype, write_shard

INDEX = "shards.json"
SUFFIX = ".safetensors"
SHARD_TOKENS = 2**27  # 256 MiB at two bytes a token


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """A line of the index: a shard, and its SHA-256."""

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


class TokenWriter(AbstractContextManager["TokenWriter"]):
    """Writes documents of token ids into a folder of shards; a context manager that writes the index at its good end.

        with TokenWriter(folder, tokenizer.hash, tokenizer.vocabulary_size) as writer:
            writer.add(ids, document.hash)

    A document never spans two shards, and which shard it goes to depends on the documents before it alone. A shard
    holds at most `shard_tokens` tokens, or one longer document. Shards that an interrupted writer finished in this
    folder are kept up to the first that is missing: `kept` says which documents are there already, and `add` continues
    after them. A folder has one writer at a time.

    ValueError for a folder that is complete or holds shards of another vocabulary.
    """

    def __init__(self, folder: Path, vocabulary: str, vocabulary_size: int, shard_tokens: int = SHARD_TOKENS) -> None:
        self.folder = folder
        self.kept: list[str] = []  # the hashes of the documents that an interrupted writer left
        self._vocabulary, self._vocabulary_size, self._shard_tokens = vocabulary, vocabulary_size, shard_tokens
        self._entries: list[ShardEntry] = []
        self._waiting: list[TokenizedDocument] = []  # of the shard that is not written yet
        self._tokens = 0  # of these
        if (folder / INDEX).exists():
            raise ValueError(f"{folder} is a complete token dataset; write the new one into an empty folder")
        folder.mkdir(parents=True, exist_ok=True)
        while (path := self._path()).exists():
            shard = TokenShard(path)
            if (shard.vocabulary, shard.vocabulary_size) != (vocabulary, vocabulary_size):
                raise ValueError(f"{path} is of the vocabulary {shard.vocabulary[:12]}…: write into an empty folder")
            self._entries.append(ShardEntry(path.name, len(shard.hashes), len(shard.tokens), hash_file(path)))
            self.kept += [row.tobytes().hex() for row in shard.hashes]
        for leftover in [*folder.glob(".tokens-*"), *folder.glob(f"tokens-*{SUFFIX}")]:  # cut off, or behind a gap
            if leftover.name not in {entry.name for entry in self._entries}:
                leftover.unlink()

    def add(self, ids: ArrayLike, document_hash: str, mask: ArrayLike | None = None) -> None:
        """Append a document: `ids` (tokens,) integers, `mask` (tokens,) bool, True = to be learned (default: all);
        `document_hash` is the SHA-256 of its text in hex. ValueError for ids outside the vocabulary, for a mask of
        another length, and for another hash."""
        tokens, learned = np.asarray(ids), None if mask is None else np.asarray(mask, bool)
        name = bytes.fromhex(document_hash)
        if len(name) != HASH_BYTES or tokens.ndim != 1 or (learned is not None and learned.shape != tokens.shape):
            raise ValueError(f"document {document_hash}: it needs a SHA-256 in hex, and ids and mask of one length")
        if len(tokens) and not (
            tokens.dtype.kind in "iu" and 0 <= tokens.min() <= tokens.max() < self._vocabulary_size
        ):
            raise ValueError(f"document {document_hash}: ids are integers from 0 to {self._vocabulary_size - 1:,}")
        if self._waiting and self._tokens + len(tokens) > self._shard_tokens:
            self._write()
        self._waiting.append(TokenizedDocument(tokens.astype(token_dtype(self._vocabulary_size)), name, learned))
        self._tokens += len(tokens)

    def close(self) -> None:
        """Finish the last shard and write the index: from now on the folder is a dataset, and the writer no use."""
        if self._waiting:
            self._write()
        write_json(self.folder / INDEX, Index(self._vocabulary, self._vocabulary_size, tuple(self._entries)))

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None:
            self.close()

    def _write(self) -> None:
        digest = write_shard(self._path(), self._waiting, self._vocabulary, self._vocabulary_size)
        self._entries.append(ShardEntry(self._path().name, len(self._waiting), self._tokens, digest))
        self._waiting, self._tokens = [], 0

    def _path(self) -> Path:
        return self.folder / f"tokens-{len(self._entries):05}{SUFFIX}"


class TokenDataset:
    """The documents of a folder of shards, numbered in the order in which they were written.

    Token t of the dataset is counted over all shards; document i is tokens offsets[i] to offsets[i + 1].

    offsets  (documents + 1,) int64

    FileNotFoundError for a folder without an index or a shard; ValueError for shards that are damaged, or not those of
    the index. The content itself is only read by `verify`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder = stage_folder(folder)
        if not (folder / INDEX).is_file():
            problem = f"{folder} holds no {INDEX}: it is no token dataset, or was not written to its end"
            raise FileNotFoundError(f"{problem}. That of a stage data.tokenize in a recipe is WORKSPACE/stages/NAME")
        self.index = from_mapping(Index, json.loads((folder / INDEX).read_text("utf-8")), [f"{folder / INDEX}"])
        self.shards = [TokenShard(folder / entry.name) for entry in self.index.shards]
        for shard, entry in zip(self.shards, self.index.shards, strict=True):
            sizes = (shard.vocabulary, len(shard.hashes), len(shard.tokens))
            if sizes != (self.index.vocabulary, entry.documents, entry.tokens):
                raise ValueError(f"{shard.path} is not the shard that {INDEX} lists: copy the whole folder again")
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
        return hash_json([self.index.vocabulary, *(entry.digest for entry in self.index.shards)])

    def read(self, start: int, stop: int) -> NDArray[np.unsignedinteger]:
        """Tokens start to stop - 1: a view of the disk where they lie in one shard."""
        return self._gather(lambda shard, first, last: shard.tokens[first:last], start, stop)

    def mask(self, start: int, stop: int) -> NDArray[np.bool_]:
        """(stop - start,): which of these tokens are to be learned."""
        return self._gather(TokenShard.mask, start, stop)

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

    @cached_property
    def masked(self) -> bool:
        """Whether any document came with a mask; without one all tokens are learned."""
        return any(shard.masked for shard in self.shards)

    @property
    def learned_tokens(self) -> int:
        return sum(int(shard.mask(0, len(shard.tokens)).sum()) for shard in self.shards)

    def verify(self) -> None:
        """Read all shards and compare them with their digests; ValueError names the first that differs."""
        for shard, entry in zip(self.shards, self.index.shards, strict=True):
            if hash_file(shard.path) != entry.digest:
                raise ValueError(f"{shard.path} is damaged: it is not what was written; make it again")

    def _gather(self, part: Callable[[TokenShard, int, int], NDArray], start: int, stop: int) -> NDArray:
        """The results of `part` for each shard that the range touches, one behind the other."""
        number = bisect_right(self._starts, start, hi=len(self.shards)) - 1
        found = []
        for shard, offset in zip(self.shards[number:], self._starts[number:], strict=False):
            found.append(part(shard, start - offset, min(stop - offset, len(shard.tokens))))
            start = offset + len(shard.tokens)
            if stop <= start:
                break
        return found[0] if len(found) == 1 else np.concatenate(found)
