"""The ledger: for every document and every step what was decided, why, and how much of the text stayed.

`ledger.parquet` has a row for each document and step, in the order of documents and of steps. Nothing leaves without a
row that says so: what goes in is what is kept, what is cut and what is dropped, to the byte.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from lmworks.corpus.edits import apply_edits
from lmworks.corpus.filtering.decide import Cut, FieldFind, Reason
from lmworks.records import Edit

LEDGER, EDITS = "ledger.parquet", "edits.jsonl"

Verdict = Literal["kept", "cut", "dropped", "gone"]  # gone: an earlier step dropped it; `reasons` are what this one has


@dataclass(frozen=True, slots=True)
class Entry:
    """What one step did with one document.

    `rule`, `value`, `threshold`, `label` and `twin` are those of the first reason. Characters are code points, bytes
    those of UTF-8, before the step and after it. `fields` is what was found in title, metadata and uri of a document
    that stays; its last step has it.
    """

    document: str  # uri
    hash: str  # of the text as it was extracted
    source: str
    kind: str
    language: str | None
    step: str
    verdict: Verdict
    characters_before: int
    characters_after: int
    bytes_before: int
    bytes_after: int
    reasons: Sequence[Reason] = ()
    cuts: Sequence[Cut] = ()
    fields: Sequence[FieldFind] = ()

    @property
    def first(self) -> Reason:
        return self.reasons[0] if self.reasons else Reason("")


def write_ledger(path: Path, entries: Iterable[Entry]) -> None:
    """A ledger, or a part of one, to a new file."""
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, schema(), compression="zstd") as writer:
        for batch in _batches(entries, 50_000):
            writer.write_table(_table(batch))


def join_ledgers(path: Path, parts: Sequence[Path]) -> None:
    """The parts one after another in one file."""
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, schema(), compression="zstd") as writer:
        for part in parts:
            source = pq.ParquetFile(part)
            for number in range(source.num_row_groups):
                writer.write_table(source.read_row_group(number))


def read_ledger(path: Path, document: str | None = None) -> Iterator[Entry]:
    """The entries of a ledger, all of them or those of one document (its uri, its hash, or the beginning of that)."""
    import pyarrow.parquet as pq

    pc = compute()
    source = pq.ParquetFile(path)
    for number in range(source.num_row_groups):
        table = source.read_row_group(number)
        if document is not None:
            named = pc.equal(table["document"], document)
            begins = len(document) >= 8
            hashed = pc.starts_with(table["hash"], document) if begins else pc.equal(table["hash"], document)
            table = table.filter(pc.or_(named, hashed))
        for row in table.to_pylist():
            yield entry_of(row)


def compute() -> Any:
    """`pyarrow.compute`, which makes its functions when it is imported, so that no checker knows them."""
    import pyarrow.compute

    return pyarrow.compute


def schema() -> Any:
    import pyarrow as pa

    word = pa.dictionary(pa.int32(), pa.string())
    reason = [("rule", pa.string()), ("value", pa.float64()), ("threshold", pa.float64()), ("label", pa.string())]
    find = [("field", pa.string()), ("rule", pa.string()), ("removed", pa.bool_())]
    cut = [("start", pa.int64()), ("end", pa.int64()), ("replacement", pa.string()), ("rule", pa.string())]
    return pa.schema(
        [
            ("document", pa.string()),
            ("hash", pa.string()),
            *((name, word) for name in ("source", "kind", "language", "step", "verdict", "rule")),
            ("value", pa.float64()),
            ("threshold", pa.float64()),
            ("label", pa.string()),
            ("twin", pa.string()),
            *((name, pa.int64()) for name in _COUNTS),
            ("reasons", pa.list_(pa.struct([*reason, ("twin", pa.string())]))),
            ("cuts", pa.list_(pa.struct(cut))),
            ("fields", pa.list_(pa.struct(find))),
        ]
    )


_COUNTS = ("characters_before", "characters_after", "bytes_before", "bytes_after")
_FIRST = ("rule", "value", "threshold", "label", "twin")
_LISTS = {"reasons": Reason, "cuts": Cut, "fields": FieldFind}


def _table(entries: Sequence[Entry]) -> Any:
    import pyarrow as pa

    whole = schema()
    columns: dict[str, list] = {}
    for name in whole.names:
        if name in _FIRST:
            columns[name] = [getattr(entry.first, name) for entry in entries]
        elif name in _LISTS:
            columns[name] = [[_row(each) for each in getattr(entry, name)] for entry in entries]
        else:
            columns[name] = [getattr(entry, name) for entry in entries]
    return pa.table({name: pa.array(columns[name], whole.field(name).type) for name in whole.names}, schema=whole)


def _row(value: Reason | Cut | FieldFind) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}


def entry_of(row: dict[str, Any]) -> Entry:
    """The entry that is a row of the table."""
    values = {field.name: row[field.name] for field in fields(Entry)}
    values |= {name: tuple(kind(**each) for each in row[name]) for name, kind in _LISTS.items()}
    return Entry(**values)


def _batches(entries: Iterable[Entry], size: int) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    for entry in entries:
        batch.append(entry)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


# ---------------------------------------------------------------------------------------------------------------------
# From a cleaned text back to the extracted one


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a cleaned text comes from: `extracted` is the hash of the text that `edits` changed."""

    uri: str
    extracted: str
    edits: tuple[Edit, ...]

    def place(self, text: str, start: int, end: int) -> tuple[int, int]:
        """The smallest range of the extracted `text` that `[start, end)` of the cleaned text stands for; code points.

        Raises ValueError where the edits are not those of this text, or the range lies outside of it.
        """
        return apply_edits(text, self.edits).to_source(start, end)


def cleaned_uris(folder: Path, begin: str) -> list[str]:
    """The uris of all documents that the stage data.clean left in its folder whose hashes begin so: those of equal
    texts are equal. Reads the folder's edits as `origin_of`."""
    path = folder / EDITS
    if not path.is_file():
        return []
    row = _row_of(begin)
    with path.open("rb") as stream:
        return [json.loads(line)["uri"] for line in stream if line.startswith(row)]


def _row_of(begin: str) -> bytes:
    """How the row of a document begins whose hash does so."""
    return f'{{"hash": "{begin}'.encode()


def origin_of(folder: Path, document_hash: str) -> Origin | None:
    """The first document of this hash that the stage data.clean left in its folder; None where there is none.

    Reads the folder's edits from their beginning: this is for one question, not for every document.
    """
    path = folder / EDITS
    if not path.is_file():
        return None
    begin = _row_of(f'{document_hash}"')
    with path.open("rb") as stream:
        row = next((line for line in stream if line.startswith(begin)), None)
    if row is None:
        return None
    found = json.loads(row)
    return Origin(found["uri"], found["extracted"], tuple(Edit(*edit) for edit in found["edits"]))
