"""What has to be known of every document to balance them: a few numbers each, from one pass over the texts.

A shard's survey is a Parquet file with a row for each document in its order. Together they are arrays of about 35 bytes
a document; what is only shown later, such as uris, stays on the disk.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmworks.data.balance.config import UNKNOWN
from lmworks.data.balance.copies import origin_of
from lmworks.data.corpus import CorpusShard
from lmworks.data.duplicates.exact import digests
from lmworks.data.languages import base_language

EXTRACTED = "extracted"  # metadata of cleaned documents: the hash of the text that annotations were made of
_SCHEMA = {
    "uri": "string", "hash": "string", "source": "string", "language": "string", "kind": "string",
    "bytes": "int64", "hashed": "uint64", "key": "uint64", "extracted": "uint64", "equal": "uint64", "copy": "bool_",
}  # fmt: skip
_BATCH = 10_000  # rows in memory at once


@dataclass(frozen=True, slots=True)
class SurveyPart:
    """A shard to look at; `equal` asks for a digest of each text as well."""

    shard: CorpusShard
    equal: bool


def survey_part(part: SurveyPart, path: Path) -> None:
    """The survey of one shard into a new file. Texts are read, and not checked against their hashes: nothing of what is
    made of them here depends on more than their lengths."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in _SCHEMA.items()])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer, part.shard.path.open("rb") as stream:
        rows = []
        for line in stream:
            rows.append(_row(json.loads(line), part.equal))
            if len(rows) == _BATCH:
                writer.write_table(pa.Table.from_pylist(rows, schema))
                rows = []
        writer.write_table(pa.Table.from_pylist(rows, schema))


def _row(document: dict[str, Any], equal: bool) -> dict[str, Any]:
    text, uri, metadata = document["text"], document["uri"], document["metadata"]
    return {
        "uri": uri,
        "hash": document["hash"],
        "source": document["source"],
        "language": base_language(document["language"]) or UNKNOWN,
        "kind": document["kind"] or "text",
        "bytes": len(text.encode("utf-8", "surrogatepass")),
        "hashed": int(document["hash"][16:32], 16),  # other bits than those that the held-out rule goes by
        "key": key_of(uri, document["hash"]),
        "extracted": key_of(uri, metadata.get(EXTRACTED, document["hash"])),
        "equal": int(digests([text])[0][0]) if equal else 0,
        "copy": origin_of(metadata) is not None,
    }


def key_of(uri: str, text_hash: str) -> int:
    """64 bits by which a document is found again."""
    digest = hashlib.blake2b(f"{text_hash} {uri}".encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest())


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """All documents of a corpus, in its order.

    sources, languages, kinds  names, sorted; of each document the place of its own in
    source, language, kind     (n,) int32, int32, int16
    sizes                      (n,) int64, bytes of the text
    hashed, keys               (n,) uint64: what is drawn by, and what tells documents apart
    extracted                  (n,) uint64: the key before cleaning; (0,) where nobody asks for it
    equal                      (n,) uint64: a digest of the text; (0,) where nobody asks for it
    copies                     how many are copies that data.balance made
    counts                     documents of each shard
    owners                     source -> the inputs that have it
    """

    sources: tuple[str, ...]
    languages: tuple[str, ...]
    kinds: tuple[str, ...]
    source: NDArray[np.int32]
    language: NDArray[np.int32]
    kind: NDArray[np.int16]
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


def read_survey(
    shards: Sequence[CorpusShard], paths: Sequence[Path], *, extracted: bool = False, equal: bool = False
) -> Survey:
    """The surveys of shards as one, with the two columns that not everybody needs where these are asked for."""
    import pyarrow.parquet as pq

    words: dict[str, list[list[str]]] = {"source": [], "language": [], "kind": []}
    codes: dict[str, list[NDArray[np.int32]]] = {name: [] for name in words}
    wanted = ["bytes", "hashed", "key", *["extracted"] * extracted, *["equal"] * equal]
    numbers: dict[str, list[NDArray]] = {name: [] for name in wanted}
    owners: dict[str, set[str]] = {}
    copies = 0
    for shard, path in zip(shards, paths, strict=True):
        table = pq.read_table(path, columns=[*words, *numbers, "copy"])
        for name in words:
            encoded = table.column(name).combine_chunks().dictionary_encode()
            words[name].append(encoded.dictionary.to_pylist())
            codes[name].append(encoded.indices.to_numpy())
        for name in numbers:
            numbers[name].append(table.column(name).to_numpy())
        for source in words["source"][-1]:
            owners.setdefault(source, set()).add(shard.input)
        copies += int(np.count_nonzero(table.column("copy").to_numpy()))
    named = {name: tuple(sorted({word for part in words[name] for word in part})) for name in words}

    def places(name: str) -> NDArray[np.int32]:
        place = {word: number for number, word in enumerate(named[name])}
        parts = zip(words[name], codes.pop(name), strict=True)
        return np.concatenate([np.array([place[word] for word in own], np.int32)[at] for own, at in parts])

    def joined(name: str) -> NDArray:
        return np.concatenate(numbers.pop(name)) if name in numbers else np.zeros(0, np.uint64)

    counts = tuple(map(len, numbers["bytes"]))
    return Survey(
        *(named["source"], named["language"], named["kind"]),
        *(places("source"), places("language"), places("kind").astype(np.int16)),
        *(joined("bytes"), joined("hashed"), joined("key"), joined("extracted"), joined("equal")),
        *(copies, counts, {source: tuple(sorted(inputs)) for source, inputs in owners.items()}),
    )


def inputs_of(shards: Sequence[CorpusShard], survey: Survey, names: Sequence[str]) -> NDArray[np.bool_]:
    """(n,) whether a document is of one of these inputs."""
    return np.repeat([shard.input in names for shard in shards], survey.counts)
