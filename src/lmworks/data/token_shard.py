"""One token shard: the ids of whole documents in a safetensors file.

    tokens    (tokens,) uint16 or uint32, document after document
    mask      (tokens / 8,) uint8, one bit a token, only where a document has one: is this token to be learned?
    offsets   (documents + 1,) int64: document i is tokens[offsets[i]:offsets[i + 1]]
    hashes    (documents, 32) uint8, SHA-256 of its text: from a training token back to where it came from

The metadata holds the name of the file, and the hash and the size of the vocabulary. The file is written under a
temporary name, synced and renamed, so a kill leaves it whole or not at all.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from lmworks.artefact import hash_file, new_file

HASH_BYTES = 32
_DTYPES = {"U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "I64": np.int64}


class TokenizedDocument(NamedTuple):
    """Ids (tokens,), the SHA-256 of the text, and which ids are to be learned, (tokens,) bool; None: all."""

    ids: NDArray[np.unsignedinteger]
    hash: bytes
    mask: NDArray[np.bool_] | None


def token_dtype(vocabulary_size: int) -> np.dtype:
    """uint16 where all ids fit, else uint32."""
    return np.dtype(np.uint16 if vocabulary_size <= 2**16 else np.uint32)


def write_shard(path: Path, documents: Sequence[TokenizedDocument], vocabulary: str, vocabulary_size: int) -> str:
    """Write the shard of some documents; the SHA-256 of the file in hex."""
    tensors = {
        "tokens": np.concatenate([document.ids for document in documents]).astype(token_dtype(vocabulary_size)),
        "offsets": np.cumsum([0, *(len(document.ids) for document in documents)], dtype=np.int64),
        "hashes": np.frombuffer(b"".join(document.hash for document in documents), np.uint8).reshape(-1, HASH_BYTES),
    }
    if any(document.mask is not None for document in documents):
        masks = [np.ones(len(d.ids), bool) if d.mask is None else d.mask for d in documents]
        tensors["mask"] = np.packbits(np.concatenate(masks), bitorder="little")
    written = json.dumps([path.name, vocabulary, vocabulary_size])  # as one: several keys come in no fixed order
    with new_file(path) as temporary:
        save_file(tensors, temporary, {"shard": written})
        return hash_file(temporary)


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
        try:
            with path.open("rb") as stream:
                begin = 8 + int.from_bytes(stream.read(8), "little")
                header = json.loads(stream.read(min(begin - 8, path.stat().st_size)))
            name, self.vocabulary, self.vocabulary_size = json.loads(header.pop("__metadata__")["shard"])
            whole = begin + max(entry["data_offsets"][1] for entry in header.values())
            if path.stat().st_size != whole or path.name != name:
                raise ValueError(f"it was written as {name}, of {whole:,} bytes")
            arrays = {name: _mapped(path, begin + entry["data_offsets"][0], entry) for name, entry in header.items()}
            self.tokens: NDArray[np.unsignedinteger] = arrays["tokens"]
            self.offsets: NDArray[np.int64] = arrays["offsets"]
            self.hashes: NDArray[np.uint8] = arrays["hashes"]
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise ValueError(f"{path} is no whole token shard ({error}): make it by the stage data.tokenize") from error
        self._mask: NDArray[np.uint8] | None = arrays.get("mask")
        self.masked = self._mask is not None

    def mask(self, start: int, stop: int) -> NDArray[np.bool_]:
        """(stop - start,) bool: which of these tokens are to be learned."""
        if self._mask is None:
            return np.ones(stop - start, bool)
        first = start // 8
        bits = np.unpackbits(self._mask[first : -(-stop // 8)], bitorder="little")
        return bits[start - 8 * first : stop - 8 * first].view(bool)


def _mapped(path: Path, begin: int, entry: Mapping[str, Any]) -> NDArray[Any]:
    """A tensor of a safetensors file, on the disk until looked at."""
    shape, dtype = tuple(entry["shape"]), _DTYPES[entry["dtype"]]
    return np.asarray(np.memmap(path, dtype, "r", begin, shape)) if np.prod(shape) else np.zeros(shape, dtype)
