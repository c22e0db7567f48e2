"""The ledger: for every document and every step what was decided, why, and how much of the text stayed.

`ledger.parquet` has a row for each document and step, in the order of documents and of steps. Nothing leaves without a
row that says so: what goes in is what is kept, what is cut and what is dropped, to the byte.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from lmworks.data.cleaning.local import Cut, Reason

LEDGER = "ledger.parquet"

Verdict = Literal["kept", "cut", "dropped", "gone"]  # gone: an earlier step dropped it; `reasons` are what this one has


@dataclass(frozen=True, slots=True)
class Entry:
    """What one step did with one document.

    `rule`, `value`, `threshold`, `label` and `twin` are those of the first reason. Characters are code points, bytes
    those of UTF-8, before the step and after it.
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
    import pyarrow.compute
    import pyarrow.parquet as pq

    pc: Any = pyarrow.compute  # which makes its functions when it is imported
    source = pq.ParquetFile(path)
    for number in range(source.num_row_groups):
        table = source.read_row_group(number)
        if document is not None:
            named = pc.equal(table["document"], document)
            begins = len(document) >= 8
            hashed = pc.starts_with(table["hash"], document) if begins else pc.equal(table["hash"], document)
            table = table.filter(pc.or_(named, hashed))
        for row in table.to_pylist():
            yield _entry(row)


def schema() -> Any:
    import pyarrow as pa

    word = pa.dictionary(pa.int32(), pa.string())
    reason = [("rule", pa.string()), ("value", pa.float64()), ("threshold", pa.float64()), ("label", pa.string())]
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
        ]
    )


_COUNTS = ("characters_before", "characters_after", "bytes_before", "bytes_after")
_FIRST = ("rule", "value", "threshold", "label", "twin")


def _table(entries: Sequence[Entry]) -> Any:
    import pyarrow as pa

    whole = schema()
    own = [name for name in whole.names if name not in {*_FIRST, "reasons", "cuts"}]
    columns = {name: [getattr(entry, name) for entry in entries] for name in own}
    columns |= {name: [getattr(entry.first, name) for entry in entries] for name in _FIRST}
    columns["reasons"] = [[_row(reason) for reason in entry.reasons] for entry in entries]
    columns["cuts"] = [[_row(cut) for cut in entry.cuts] for entry in entries]
    return pa.table({name: pa.array(columns[name], whole.field(name).type) for name in whole.names}, schema=whole)


def _row(value: Reason | Cut) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}


def _entry(row: dict[str, Any]) -> Entry:
    whole = {name: row[name] for name in (field.name for field in fields(Entry)) if name not in ("reasons", "cuts")}
    return Entry(
        **whole,
        reasons=tuple(Reason(**reason) for reason in row["reasons"]),
        cuts=tuple(Cut(**cut) for cut in row["cuts"]),
    )


def _batches(entries: Iterable[Entry], size: int) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    for entry in entries:
        batch.append(entry)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
