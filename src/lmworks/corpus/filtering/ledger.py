"""The ledger: for every document and every step what was decided, why, and how much of the text stayed.

`ledger.parquet` has a row for each document and step, in the order of documents and of steps. Nothing leaves without a
row that says so: what goes in is what is kept, what is cut and what is dropped, to the byte.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from lmworks.corpus.edits import apply_edits
from lmworks.corpus.filtering.decide import Reason
from lmworks.records import Document, Edit

LEDGER, EDITS = "ledger.parquet", "edits.jsonl"

# `gone`: an earlier step dropped it, and `reasons` are what this one has; `out_of_scope`: the step does not look at it.
Verdict = Literal["kept", "cut", "dropped", "gone", "out_of_scope"]


@dataclass(frozen=True, slots=True)
class Entry:
    """The work of one step on one document. Characters are code points, bytes those of UTF-8, before the step and after
    it; cuts are of the repaired text, and those of the step `repair` of the extracted one."""

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
    cuts: Sequence[Edit] = ()


_WORDS = ("source", "kind", "language", "step", "verdict", "rule")
_FIRST = ("rule", "value", "threshold", "label", "kept_duplicate")  # columns with those of the first reason
_LISTS = {"reasons": Reason, "cuts": Edit}
_BATCH = 10_000  # rows that are in memory as objects


def write_ledger(path: Path, entries: Iterable[Entry]) -> None:
    """A ledger, or a part of one, to a new file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def cell(entry: Entry, name: str) -> Any:
        if name in _FIRST:
            return getattr(entry.reasons[0], name) if entry.reasons else None
        value = getattr(entry, name)
        return [{part: getattr(each, part) for part in each.__slots__} for each in value] if name in _LISTS else value

    entries, whole = iter(entries), schema()
    with pq.ParquetWriter(path, whole, compression="zstd") as writer:
        while batch := list(islice(entries, _BATCH)):
            columns = [pa.array([cell(entry, column.name) for entry in batch], column.type) for column in whole]
            writer.write_table(pa.table(columns, schema=whole))


def schema() -> Any:
    import pyarrow as pa

    whole, text = pa.int64(), pa.string()
    found = [("value", pa.float64()), ("threshold", pa.float64()), ("label", text), ("kept_duplicate", text)]
    reason = pa.struct([("kind", text), ("rule", text), *found])
    cut = pa.struct([("start", whole), ("end", whole), ("replacement", text), ("rule", text)])
    counts = ("characters_before", "characters_after", "bytes_before", "bytes_after")
    columns = [("document", text), ("hash", text), *((name, text) for name in _WORDS), *found]
    columns += [*((name, whole) for name in counts), ("reasons", pa.list_(reason)), ("cuts", pa.list_(cut))]
    return pa.schema(columns)


def join_ledgers(path: Path, parts: Sequence[Path]) -> None:
    """The parts one after another in one file."""
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, schema(), compression="zstd") as writer:
        for part in map(pq.ParquetFile, parts):
            for number in range(part.num_row_groups):
                writer.write_table(part.read_row_group(number))


def read_ledger(path: Path, **where: Sequence[str]) -> Iterator[Entry]:
    """The entries of a ledger, all of them or those with one of these words in a column, such as `document`. ValueError
    for a ledger that another version of lmworks wrote."""
    names = [field.name for field in fields(Entry)]
    for table in [read_rows(path, names, **where)] if where else read_batches(path, names):
        for row in table.to_pylist():
            yield Entry(**row | {name: tuple(kind(**each) for each in row[name]) for name, kind in _LISTS.items()})


def compute() -> Any:
    """`pyarrow.compute`, which makes its functions when it is imported, so that no checker knows them."""
    import pyarrow.compute

    return pyarrow.compute


def read_rows(path: Path, columns: Sequence[str], **where: Sequence[str]) -> Any:
    """A pyarrow table of some columns of a ledger, of the rows with one of these words in another."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    _check_schema(path)
    ((name, words),) = where.items()
    meant = compute().field(name).isin(pa.array(words, pa.string()))
    return pq.read_table(path, columns=list(columns), filters=meant)


def read_batches(path: Path, columns: Sequence[str]) -> Iterator[Any]:
    """The same of all rows, some at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    _check_schema(path)
    for batch in pq.ParquetFile(path).iter_batches(_BATCH, columns=list(columns)):
        yield pa.Table.from_batches([batch]).select(list(columns))


def _check_schema(path: Path) -> None:
    import pyarrow.parquet as pq

    if pq.read_schema(path).names != schema().names:
        raise ValueError(f"{path} was written by another version of lmworks: run its stage corpus.filter again")


# ---------------------------------------------------------------------------------------------------------------------
# What came to each step, what it took and left, and that nothing is lost


@dataclass(frozen=True, slots=True)
class Flow:
    """Documents of one source, kind and language that a step treated alike: how many, and their bytes."""

    source: str
    kind: str
    language: str
    step: str
    verdict: str
    rule: str  # the first reason of those that it dropped
    documents: int
    bytes_before: int
    bytes_after: int


@dataclass(frozen=True, slots=True)
class Tally:
    """Documents and bytes that came to a step, and that it left; bytes of those that it dropped; how many it cut."""

    came: int = 0
    came_bytes: int = 0
    left: int = 0
    left_bytes: int = 0
    dropped_bytes: int = 0
    cut: int = 0

    @property
    def dropped(self) -> int:
        return self.came - self.left

    @property
    def taken_bytes(self) -> int:
        return self.came_bytes - self.left_bytes

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*map(sum, zip(astuple(self), astuple(other), strict=True)))


def read_flows(ledger: Path) -> list[Flow]:
    """All flows of a ledger, in the order of their names. A document that an earlier step dropped is in none."""
    import pyarrow as pa

    names, counts = _WORDS, ("documents", "bytes_before", "bytes_after")

    def summed(table: Any) -> Any:
        sums = table.group_by(list(names)).aggregate([(name, "sum") for name in counts])
        return sums.rename_columns([name.removesuffix("_sum") for name in sums.column_names])

    batches = [
        summed(batch.append_column("documents", pa.repeat(1, len(batch))))
        for batch in read_batches(ledger, [*names, *counts[1:]])
    ]
    rows = summed(pa.concat_tables(batches)).to_pylist() if batches else []
    flows = (Flow(**row | {name: row[name] or "" for name in names}) for row in rows)
    return sorted((flow for flow in flows if flow.verdict != "gone"), key=lambda flow: astuple(flow)[: len(names)])


def tally(flows: Iterable[Flow], *names: str) -> Mapping[Any, Tally]:
    """The flows summed by one of their names, or by several; nothing for what none has. RuntimeError for a flow
    whose bytes do not fit its verdict."""
    found: defaultdict[Any, Tally] = defaultdict(Tally)
    for flow in flows:
        came, left = (flow.documents, flow.bytes_before), (flow.documents, flow.bytes_after)
        if flow.verdict == "dropped" and not flow.bytes_after:
            counted = Tally(*came, dropped_bytes=flow.bytes_before)
        elif flow.verdict == "cut" or (flow.verdict in ("kept", "out_of_scope") and came == left):
            counted = Tally(*came, *left, cut=flow.documents if flow.verdict == "cut" else 0)
        else:
            raise RuntimeError(f"the ledger does not balance: {flow} is neither kept whole, nor cut, nor dropped")
        key = tuple(getattr(flow, name) for name in names)
        found[key if len(names) > 1 else key[0]] += counted
    return found


def check_balance(flows: Sequence[Flow], steps: Sequence[str], counted: Mapping[str, Sequence[int]]) -> None:
    """RuntimeError unless of every source each step began with exactly what the step before it left, in documents
    and in bytes, and each document was kept, cut or dropped. `counted` are of each source the documents and bytes that
    were read, and those that were written, as they were counted for themselves."""
    tallies = tally(flows, "source", "step")
    for source in sorted({source for source, _ in tallies} | counted.keys()):
        read, read_bytes, written, written_bytes = counted.get(source, (0, 0, 0, 0))
        what, left = "were read", (read, read_bytes)
        passages = [(f"came to {name}", tallies[source, name], f"{name} left") for name in steps]
        for came_to, step, behind in [*passages, ("were written", Tally(written, written_bytes), "")]:
            if left != (came := (step.came, step.came_bytes)):
                first, second = (f"{documents:,} documents of {size:,} bytes" for documents, size in (left, came))
                raise RuntimeError(f"the ledger does not balance: of {source}, {first} {what}, and {second} {came_to}")
            what, left = behind, (step.left, step.left_bytes)


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


def edits_row(cleaned: Document, edits: Iterable[Edit]) -> str:
    """A row of `edits.jsonl`; the hash stands first, so that a reader finds it without parsing the others."""
    changes = [[edit.start, edit.end, edit.replacement, edit.rule] for edit in edits]
    row = {"hash": cleaned.hash, "uri": cleaned.uri, "extracted": cleaned.metadata["extracted"], "edits": changes}
    return json.dumps(row, ensure_ascii=False)


def origins(folder: Path, begin: str) -> Iterator[Origin]:
    """Origins of the documents that corpus.filter left in its folder and whose hashes begin so; none in the folder of
    another stage. Reads the folder's edits from their beginning: this is for one question, not for every document."""
    path = folder / EDITS
    if path.is_file():
        wanted = f'{{"hash": "{begin}'.encode()
        with path.open("rb") as stream:
            for row in (json.loads(line) for line in stream if line.startswith(wanted)):
                yield Origin(row["uri"], row["extracted"], tuple(Edit(*edit) for edit in row["edits"]))
