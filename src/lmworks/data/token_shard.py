"""One token shard: the ids of whole documents in one file, with a header that says what they are.

    header    128 bytes: what `HEADER` lists; its own checksum last
    tokens    one uint16 or uint32 each, document after document
    mask      one bit a token, only where a document has one: is this token to be learned?
    offsets   uint64, documents + 1 of them: document i is tokens[offsets[i]:offsets[i + 1]]
    hashes    32 bytes a document, SHA-256 of its text: from a training token back to where it came from

All numbers are little-endian. The file is written under a temporary name, synced and renamed, so a kill leaves it whole
or not at all. Opening one checks header and length; `TokenShard.verify` reads all of it.
"""

import hashlib
import mmap
import os
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


def token_dtype(vocabulary_size: int) -> np.dtype:
    """uint16 where all ids fit, else uint32."""
    return np.dtype("<u2" if vocabulary_size <= 2**16 else "<u4")


class ShardFile:
    """Writes one shard: `add` document by document, then `finish`; until then there is no file of its name.

    The tokens go to the disk as they come; the index and the mask of this one shard stay in memory.
    """

    def __init__(self, path: Path, vocabulary: str, vocabulary_size: int) -> None:
        self.path = path
        self._vocabulary, self._vocabulary_size = bytes.fromhex(vocabulary), vocabulary_size
        self._dtype = token_dtype(vocabulary_size)
        self._offsets = [0]
        self._hashes: list[bytes] = []
        self._masks: list[NDArray[np.bool_]] = []
        self._masked = False
        self._digest = hashlib.sha256()
        self._temporary = path.with_name(f".{path.name}.tmp")
        self._stream = self._temporary.open("wb")
        self._stream.write(bytes(HEADER.itemsize))

    @property
    def tokens(self) -> int:
        return self._offsets[-1]

    @property
    def documents(self) -> int:
        return len(self._hashes)

    def add(self, ids: NDArray[np.integer], document_hash: bytes, mask: NDArray[np.bool_] | None) -> None:
        """Append a document; the caller has checked its ids and the length of its mask."""
        self._write(ids.astype(self._dtype).tobytes())
        self._offsets.append(self.tokens + len(ids))
        self._hashes.append(document_hash)
        self._masks.append(np.ones(len(ids), bool) if mask is None else mask)
        self._masked |= mask is not None

    def finish(self) -> str:
        """Write what follows the tokens and the header, and give the file its name; returns the digest in hex."""
        if self._masked:
            self._write(np.packbits(np.concatenate(self._masks), bitorder="little").tobytes())
        self._write(np.array(self._offsets, "<u8").tobytes())
        self._write(b"".join(self._hashes))
        header = np.zeros((), HEADER)
        header["magic"], header["version"], header["token_bytes"] = MAGIC, VERSION, self._dtype.itemsize
        header["vocabulary_size"], header["masked"] = self._vocabulary_size, self._masked
        header["documents"], header["tokens"] = self.documents, self.tokens
        header["vocabulary"], header["digest"] = np.void(self._vocabulary), np.void(self._digest.digest())
        header["checksum"] = zlib.crc32(header.tobytes()[:-4])
        self._stream.seek(0)
        self._stream.write(header.tobytes())
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        self._temporary.replace(self.path)
        return self._digest.hexdigest()

    def discard(self) -> None:
        """Give up: the temporary file goes away."""
        self._stream.close()
        self._temporary.unlink()

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._stream.write(data)


class TokenShard:
    """A shard, memory-mapped. ValueError when the file is foreign, damaged in its header or not whole.

    tokens      (tokens,) uint16 or uint32, on the disk until looked at
    offsets     (documents + 1,) int64
    hashes      (documents, 32) uint8
    masked      whether a document of it has a mask
    vocabulary  `Tokenizer.hash` of the tokenizer that made the ids
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as stream:
            raw = stream.read(HEADER.itemsize)
            if len(raw) < HEADER.itemsize or not raw.startswith(MAGIC):
                raise ValueError(f"{path} is no token shard; shards are made by the stage data.tokenize")
            header = np.frombuffer(raw, HEADER)[0]
            if header["version"] != VERSION:
                raise ValueError(
                    f"{path} is a token shard of version {header['version']}, this program reads {VERSION}"
                )
            if header["checksum"] != zlib.crc32(raw[:-4]):
                raise ValueError(f"{path} is damaged: its header does not have the recorded checksum; make it again")
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self.vocabulary = header["vocabulary"].tobytes().hex()
        self.vocabulary_size = int(header["vocabulary_size"])
        self.digest = header["digest"].tobytes().hex()
        self.masked = bool(header["masked"])
        documents, tokens = int(header["documents"]), int(header["tokens"])
        mask_bytes, dtype = -(-tokens // 8) * self.masked, token_dtype(self.vocabulary_size)
        lengths = (HEADER.itemsize, tokens * dtype.itemsize, mask_bytes, (documents + 1) * 8, documents * HASH_BYTES)
        start, mask, offsets, hashes, end = np.cumsum(lengths).tolist()
        if len(self._map) != end:
            raise ValueError(f"{path} has {len(self._map):,} bytes and should have {end:,}: make it again")
        self.tokens: NDArray[np.unsignedinteger] = np.frombuffer(self._map, dtype, tokens, start)
        self._mask = np.frombuffer(self._map, np.uint8, mask_bytes, mask) if mask_bytes else None
        self.offsets = np.frombuffer(self._map, "<u8", documents + 1, offsets).astype(np.int64)
        self.hashes = np.frombuffer(self._map, np.uint8, documents * HASH_BYTES, hashes).reshape(-1, HASH_BYTES)

    def mask(self, start: int, stop: int) -> NDArray[np.bool_]:
        """(stop - start,) bool: which of these tokens are to be learned."""
        if self._mask is None:
            return np.ones(stop - start, bool)
        first = start // 8
        bits = np.unpackbits(self._mask[first : -(-stop // 8)], bitorder="little")
        return bits[start - 8 * first : stop - 8 * first].view(bool)

    def verify(self) -> None:
        """Read all of the file; ValueError where its content is not what was written."""
        found = hashlib.sha256(memoryview(self._map)[HEADER.itemsize :]).hexdigest()
        if found != self.digest:
            raise ValueError(f"{self.path} is damaged: its content has another digest than when written; make it again")
