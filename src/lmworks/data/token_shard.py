"""One token shard: the ids of whole documents in one file, with a header that says what they are.

    header    128 bytes: what `HEADER` lists; its own checksum last
    tokens    one uint16 or uint32 each, document after document
    mask      one bit a token, only where a document has one: is this token to be learned?
    offsets   uint64, documents + 1 of them: document i is tokens[offsets[i]:offsets[i + 1]]
    hashes    32 bytes a document, SHA-256 of its text: from a training token back to where it came from

All numbers are little-endian. The file is written under a temporary name, synced and renamed, so a kill leaves it whole
or not at all. Opening one checks magic, version, checksum of the header, length of the file and the offsets;
`TokenShard.verify` reads all of it and compares with the digest in the header.
"""

import hashlib
import mmap
import os
import re
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MAGIC = b"lmwtoken"
VERSION = 1
HEADER = np.dtype(
    [
        ("magic", "S8"),
        ("version", "<u4"),
        ("token_bytes", "<u4"),  # 2 or 4
        ("vocabulary_size", "<u8"),  # every id is below it
        ("documents", "<u8"),
        ("tokens", "<u8"),
        ("masked", "<u8"),  # 1 where the file holds a mask, else 0
        ("vocabulary", "V32"),  # `Tokenizer.hash`
        ("digest", "V32"),  # SHA-256 of everything after the header
        ("reserved", "V12"),
        ("checksum", "<u4"),  # CRC-32 of the 124 bytes before
    ]
)
HASH_BYTES = 32


class ShardError(ValueError):
    """A file that is no whole token shard, or not of the vocabulary asked for; the message says which and why."""


def checked_hash(text: str, what: str) -> str:
    """`text`, if it is a SHA-256 in hex (64 of 0-9 and a-f); else ValueError, which says `what` it should have been."""
    if not isinstance(text, str) or not re.fullmatch("[0-9a-f]{64}", text):
        raise ValueError(f"{what} is a SHA-256 in lower-case hex, 64 digits; got {text!r}")
    return text


def token_dtype(vocabulary_size: int) -> np.dtype:
    """uint16 where all ids fit, else uint32."""
    if not 1 <= vocabulary_size <= 2**32:
        raise ValueError(f"a vocabulary has between 1 and 2^32 tokens, got {vocabulary_size}")
    return np.dtype("<u2" if vocabulary_size <= 2**16 else "<u4")


class ShardFile:
    """Writes one shard: `add` document by document, then `finish`; until then there is no file of its name.

    The tokens go to the disk as they come; the index and the mask of this one shard stay in memory.
    """

    def __init__(self, path: Path, vocabulary: str, vocabulary_size: int) -> None:
        self.path = path
        self.tokens = 0
        self.documents = 0
        self._vocabulary, self._vocabulary_size = bytes.fromhex(vocabulary), vocabulary_size
        self._dtype = token_dtype(vocabulary_size)
        self._offsets = [0]
        self._hashes: list[bytes] = []
        self._masks: list[NDArray[np.bool_]] = []
        self._masked = False
        self._digest = hashlib.sha256()
        self._temporary = path.with_name(f".{path.name}.tmp")  # `TokenWriter` sees to it that it is the only one
        self._stream = self._temporary.open("wb")
        self._stream.write(bytes(HEADER.itemsize))

    def add(self, ids: NDArray[np.integer], document_hash: str, mask: NDArray[np.bool_] | None) -> None:
        """Append a document; the caller has checked its ids and the length of its mask."""
        self._write(ids.astype(self._dtype).tobytes())
        self.tokens += len(ids)
        self.documents += 1
        self._offsets.append(self.tokens)
        self._hashes.append(bytes.fromhex(document_hash))
        self._masks.append(np.ones(len(ids), bool) if mask is None else mask)
        self._masked |= mask is not None

    def finish(self) -> str:
        """Write what follows the tokens and the header, and give the file its name; returns the digest in hex."""
        if self._masked:
            self._write(np.packbits(np.concatenate(self._masks), bitorder="little").tobytes())
        self._write(np.array(self._offsets, "<u8").tobytes())
        self._write(b"".join(self._hashes))
        self._stream.seek(0)
        self._stream.write(self._header())
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        self._temporary.replace(self.path)
        return self._digest.hexdigest()

    def discard(self) -> None:
        """Give up: the temporary file goes away."""
        self._stream.close()
        self._temporary.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._stream.write(data)

    def _header(self) -> bytes:
        header = np.zeros((), HEADER)
        header["magic"], header["version"], header["token_bytes"] = MAGIC, VERSION, self._dtype.itemsize
        header["vocabulary_size"], header["masked"] = self._vocabulary_size, self._masked
        header["documents"], header["tokens"] = self.documents, self.tokens
        header["vocabulary"], header["digest"] = np.void(self._vocabulary), np.void(self._digest.digest())
        header["checksum"] = zlib.crc32(header.tobytes()[:-4])
        return header.tobytes()


class TokenShard:
    """A shard, memory-mapped. ShardError when the file is foreign, damaged or not whole.

    tokens      (tokens,) uint16 or uint32, on the disk until looked at
    offsets     (documents + 1,) int64
    hashes      (documents, 32) uint8
    masked      whether a document of it has a mask
    vocabulary  `Tokenizer.hash` of the tokenizer that made the ids
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as stream:
            header = _checked_header(path, stream.read(HEADER.itemsize))
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self.vocabulary = header["vocabulary"].tobytes().hex()
        self.vocabulary_size = int(header["vocabulary_size"])
        self.digest = header["digest"].tobytes().hex()
        documents, tokens = int(header["documents"]), int(header["tokens"])
        mask_bytes = -(-tokens // 8) if header["masked"] else 0
        dtype = token_dtype(self.vocabulary_size)
        lengths = (tokens * dtype.itemsize, mask_bytes, (documents + 1) * 8, documents * HASH_BYTES)
        if len(self._map) != HEADER.itemsize + sum(lengths):
            expected = HEADER.itemsize + sum(lengths)
            raise ShardError(f"{path} has {len(self._map):,} bytes and should have {expected:,}: make it again")
        start = HEADER.itemsize
        ends = np.cumsum([start, *lengths]).tolist()
        self.tokens: NDArray[np.unsignedinteger] = np.frombuffer(self._map, dtype, tokens, start)
        self.masked = bool(mask_bytes)
        self._mask = np.frombuffer(self._map, np.uint8, mask_bytes, ends[1]) if mask_bytes else None
        self.offsets = np.frombuffer(self._map, "<u8", documents + 1, ends[2]).astype(np.int64)
        self.hashes = np.frombuffer(self._map, np.uint8, documents * HASH_BYTES, ends[3]).reshape(-1, HASH_BYTES)
        if self.offsets[0] != 0 or self.offsets[-1] != tokens or (np.diff(self.offsets) < 0).any():
            raise ShardError(f"{path} is damaged: the index of its documents does not fit its tokens; make it again")

    def mask(self, start: int, stop: int) -> NDArray[np.bool_] | None:
        """(stop - start,) bool: which of these tokens are to be learned; None where all tokens of the shard are."""
        if self._mask is None:
            return None
        first = start // 8
        bits = np.unpackbits(self._mask[first : -(-stop // 8)], bitorder="little")
        return bits[start - 8 * first : stop - 8 * first].view(bool)

    def verify(self) -> None:
        """Read all of the file; ShardError where its content is not what was written."""
        found = hashlib.sha256(memoryview(self._map)[HEADER.itemsize :]).hexdigest()
        if found != self.digest:
            raise ShardError(f"{self.path} is damaged: its content has another digest than when written; make it again")


def _checked_header(path: Path, raw: bytes) -> np.ndarray:
    if len(raw) < HEADER.itemsize or not raw.startswith(MAGIC):
        raise ShardError(f"{path} is no token shard; shards are made by the stage data.tokenize")
    header = np.frombuffer(raw, HEADER)[0]
    if header["version"] != VERSION:
        raise ShardError(f"{path} is a token shard of version {header['version']}, this program reads {VERSION}")
    if header["checksum"] != zlib.crc32(raw[:-4]):
        raise ShardError(f"{path} is damaged: its header does not have the recorded checksum; make it again")
    if header["token_bytes"] != token_dtype(int(header["vocabulary_size"])).itemsize:
        raise ShardError(f"{path} is damaged: {header['token_bytes']} bytes a token do not fit its vocabulary")
    return header
