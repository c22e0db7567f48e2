"""A survey of documents: the few numbers of each that balancing them needs, from one pass over the texts.

A shard's survey is a Parquet file with a row for each document in its order. Together they are arrays of about 35 bytes
a document; uris and the like stay on the disk.

Copies that corpus.balance made name the text that they were made from in their metadata: `origin`, its hash; `copy`, a
number from 2 on (1 is the document itself, which is left as it came); `augmented`, the augmentation that rewrote it,
where one did.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmworks.corpus.dedup.hashes import text_digest
from lmworks.corpus.documents import Shard
from lmworks.corpus.languages import base_language

UNKNOWN = "unknown"  # the language of documents without one
EXTRACTED = "extracted"  # metadata of cleaned documents: the hash of the text that attributes were found in
ORIGIN, COPY, AUGMENTED = "origin", "copy", "augmented"
_HASH = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"[2-9]|[1-9][0-9]+")
_MARKS = (f'"{ORIGIN}": "'.encode(), f'"{COPY}": "'.encode())  # quotes of a text are escaped, so none of it looks so
_NAMES = ("source", "language", "kind")
_SCHEMA = {
    "uri": "string", "hash": "string", **dict.fromkeys(_NAMES, "string"),
    "sizes": "int64", "hashed": "uint64", "keys": "uint64", "extracted": "uint64", "equal": "uint64", "copy": "bool_",
}  # fmt: skip
_ROWS = 10_000  # in memory at once


def survey_part(shard: Shard, path: Path, equal: bool) -> None:
    """The survey of one shard into a new file, with a digest of each text where `equal` asks for it. Texts are not
    checked against their hashes: nothing here depends on more than their lengths."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in _SCHEMA.items()])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer, shard.path.open("rb") as stream:
        rows = []
        for line in stream:
            document = json.loads(line)
            text, uri, metadata = document["text"], document["uri"], document["metadata"]
            rows.append(
                {
                    **{name: document[name] for name in ("uri", "hash", "source")},
                    "language": base_language(document["language"]) or UNKNOWN,
                    "kind": document["kind"] or "text",
                    "sizes": len(text.encode("utf-8", "surrogatepass")),
                    "hashed": int(document["hash"][16:32], 16),  # other bits than those that the held-out rule goes by
                    "keys": key_of(uri, document["hash"]),
                    "extracted": key_of(uri, metadata.get(EXTRACTED, document["hash"])),
                    "equal": int.from_bytes(text_digest(text)[:8], "little") if equal else 0,
                    "copy": origin_of(metadata) is not None,
                }
            )
            if len(rows) == _ROWS:
                writer.write_table(pa.Table.from_pylist(rows, schema))
                rows = []
        writer.write_table(pa.Table.from_pylist(rows, schema))


def key_of(uri: str, text_hash: str) -> int:
    """64 bits by which a document is found again."""
    digest = hashlib.blake2b(f"{text_hash} {uri}".encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest())


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """All documents of a corpus, in its order.

    sources, languages, kinds  names, sorted; of each document the place of its own in
    source, language, kind     (n,) int32
    sizes                      (n,) int64, bytes of the text
    hashed, keys               (n,) uint64: what is drawn by, and what tells documents apart
    extracted, equal           (n,) uint64: the key before cleaning, and a digest of the text
    copies                     how many are copies that corpus.balance made
    counts                     documents of each shard
    owners                     source -> the inputs that have it
    """

    sources: tuple[str, ...]
    languages: tuple[str, ...]
    kinds: tuple[str, ...]
    source: NDArray[np.int32]
    language: NDArray[np.int32]
    kind: NDArray[np.int32]
    sizes: NDArray[np.int64]
    hashed: NDArray[np.uint64]
    keys: NDArray[np.uint64]
    extracted: NDArray[np.uint64]
    equal: NDArray[np.uint64]
    copies: int
    counts: tuple[int, ...]
    owners: dict[str, tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.sizes)


def read_survey(shards: Sequence[Shard], paths: Sequence[Path]) -> Survey:
    """The surveys of shards as one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = ("sizes", "hashed", "keys", "extracted", "equal")
    columns = [*_NAMES, *numbers, "copy"]
    parts = [pq.read_table(path, columns=columns, read_dictionary=list(_NAMES)) for path in paths]
    table = pa.concat_tables(parts).unify_dictionaries()
    owners: dict[str, set[str]] = {}
    for shard, part in zip(shards, parts, strict=True):
        for source in part["source"].unique().to_pylist():
            owners.setdefault(source, set()).add(shard.input)
    coded: dict[str, Any] = {}
    for name in _NAMES:
        column = table[name].combine_chunks()
        words = column.dictionary.to_pylist()
        coded[f"{name}s"] = tuple(sorted(words))
        coded[name] = np.argsort(np.argsort(words)).astype(np.int32)[column.indices.to_numpy()]
    return Survey(
        **coded,
        **{name: table[name].to_numpy() for name in numbers},
        copies=int(table["copy"].to_numpy().sum()),
        counts=tuple(map(len, parts)),
        owners={source: tuple(sorted(inputs)) for source, inputs in owners.items()},
    )


def origin_of(metadata: Mapping[str, str]) -> str | None:
    """The hash of the text that a document is a copy of; None for one that is no copy."""
    origin = metadata.get(ORIGIN, "")
    return origin if _HASH.fullmatch(origin) and _NUMBER.fullmatch(metadata.get(COPY, "")) else None


def origins(shards: Sequence[Shard]) -> Iterator[str | None]:
    """`origin_of` each document, in order; only lines that may be copies are parsed."""
    for shard in shards:
        with shard.path.open("rb") as stream:
            for line in stream:
                yield origin_of(json.loads(line)["metadata"]) if all(mark in line for mark in _MARKS) else None
