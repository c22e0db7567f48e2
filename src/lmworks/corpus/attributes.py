"""Attributes of documents, by which a policy decides: scores, spans and labels, and the files that hold them.

A tagger sets no threshold: `filtering/` compares what taggers found with the thresholds of a policy, so that another
threshold needs no other look at the text (dolma's taggers, Soldaini et al. 2024, section 3).

Each shard of documents has a Parquet file with a row for each document in its order. A score is a column of numbers,
null where it does not apply, a label one of words. Edits of repair lead from the text as it was extracted to the one
that was tagged; spans are places in that.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import accumulate, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lmworks.corpus.documents import Kind, Shard, corpus_shards, in_order
from lmworks.corpus.edits import apply_edits
from lmworks.corpus.languages import DECLARED, MEASURED, languages_of
from lmworks.records import Edit

if TYPE_CHECKING:  # the log finds personal data without NumPy
    import numpy as np
    from numpy.typing import NDArray

ATTRIBUTES = "attributes"  # the folder
EVALUATION_ITEMS = "evaluation_items"  # in the metrics: how many of those that were looked for have each status
EMITS = "emits"  # there: names that the user's classifiers, lists of words and taggers add, whether or not found
SCORE, LABEL = "score.", "label."  # how their columns' names begin
_ROWS = 256  # documents that are in memory as objects while a file is written
_WORDS = ("uri", "hash", "source", "kind")
_ALWAYS = ("source", "kind", "characters", "bytes")  # columns that are read whatever is asked for


@dataclass(frozen=True, slots=True, order=True)
class TaggedSpan:
    """A half-open range `[start, end)` of code points that a rule found, and how sure it is, from 0 to 1."""

    rule: str
    start: int
    end: int
    score: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"a span needs 0 <= start <= end, got [{self.start}, {self.end}) of {self.rule}")


@dataclass(frozen=True, slots=True)
class Attributes:
    """Scores, spans and labels of one text. A score that does not apply to it is absent, never 0 or NaN."""

    scores: Mapping[str, float] = field(default_factory=dict)
    spans: tuple[TaggedSpan, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DocumentAttributes:
    """All that is known of one document. `characters` and `bytes` (of UTF-8) are those of the text after repair."""

    uri: str
    hash: str
    kind: Kind
    characters: int
    bytes: int
    attributes: Attributes
    edits: tuple[Edit, ...] = ()
    source: str = ""


T = TypeVar("T", TaggedSpan, Edit)


class Ranges(Sequence[tuple[T, ...]], Generic[T]):
    """The spans, or the edits, of each document of a shard: columns, of which objects are made when they are asked
    for. A chat has an edit in each line, and as objects they take many times the memory of its text."""

    def __init__(self, column: Any, kind: type[T]) -> None:
        self._offsets, self._values, self._kind = column.offsets.to_numpy(), column.values, kind

    @classmethod
    def of(cls, rows: Iterable[tuple[T, ...]], kind: type[T]) -> "Ranges[T]":
        """The ranges of documents that are in memory as objects."""
        return cls(_column(rows, kind), kind)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, place: int) -> tuple[T, ...]:  # type: ignore[override]
        if not 0 <= place < len(self):
            raise IndexError(place)
        start, end = int(self._offsets[place]), int(self._offsets[place + 1])
        return tuple(self._made(self._values.slice(start, end - start))) if start < end else ()

    def filled(self) -> int:
        """How many documents have some."""
        return int((self._offsets[1:] > self._offsets[:-1]).sum())

    def rules(self) -> Counter[str]:
        """How many there are of each rule, in the order in which they come."""
        found = self._values.field("rule").value_counts()
        return Counter(dict(zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True)))

    def of_rules(self, rules: Collection[str]) -> Iterator[tuple[int, T]]:
        """Those of some rules, each with the place of its document; the others are not made."""
        import pyarrow as pa
        import pyarrow.compute

        compute: Any = pyarrow.compute  # which makes its functions when it is imported
        is_meant = compute.is_in(self._values.field("rule"), pa.array(list(rules), pa.string()))
        (numbers,) = is_meant.to_numpy(zero_copy_only=False).nonzero()
        places = self._offsets.searchsorted(numbers, side="right") - 1
        return zip(places.tolist(), self._made(self._values.take(pa.array(numbers))), strict=True)

    def _made(self, values: Any) -> Iterator[T]:
        return map(self._kind, *(values.field(name).to_pylist() for name in self._kind.__slots__))


@dataclass(frozen=True, slots=True)
class AttributeTable:
    """The attributes of a shard, a column each; n documents. What was not asked for is empty.

    scores  name → (n,) float64, NaN where there is none.
    labels  name → n words, None where there is none; equal words are one object.
    """

    uris: Sequence[str]
    hashes: Sequence[str]
    kinds: Sequence[str]
    characters: "NDArray[np.int64]"
    bytes: "NDArray[np.int64]"
    scores: "Mapping[str, NDArray[np.float64]]" = field(default_factory=dict)
    labels: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
    edits: Ranges[Edit] = field(default_factory=lambda: Ranges.of([], Edit))
    spans: Ranges[TaggedSpan] = field(default_factory=lambda: Ranges.of([], TaggedSpan))
    sources: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.characters)


# ---------------------------------------------------------------------------------------------------------------------
# Files


def write_attributes(path: Path, rows: Iterable[DocumentAttributes]) -> None:
    """One file of a shard; columns in the order of their names. A few documents at a time are in memory as objects."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = iter(rows)
    tables = [_columns([])]
    while batch := list(islice(rows, _ROWS)):
        tables.append(_columns(batch))
    table = pa.concat_tables(tables, promote_options="default").combine_chunks()
    fixed = tables[0].column_names  # the others are in the order in which they came
    own = sorted(table.column_names[len(fixed) :], key=lambda name: (name.startswith(LABEL), name))
    pq.write_table(table.select([*fixed, *own]), path, compression="zstd")


def _columns(rows: Sequence[DocumentAttributes]) -> Any:
    import pyarrow as pa

    columns: dict[str, Any] = {
        **{name: pa.array([getattr(row, name) for row in rows], pa.string()) for name in _WORDS},
        **{name: pa.array([getattr(row, name) for row in rows], pa.int64()) for name in ("characters", "bytes")},
        "edits": _column((row.edits for row in rows), Edit),
        "spans": _column((row.attributes.spans for row in rows), TaggedSpan),
    }
    for name in sorted({name for row in rows for name in row.attributes.scores}):
        columns[SCORE + name] = pa.array([row.attributes.scores.get(name) for row in rows], pa.float64())
    for name in sorted({name for row in rows for name in row.attributes.labels}):
        columns[LABEL + name] = pa.array([row.attributes.labels.get(name) for row in rows], pa.string())
    return pa.table(columns)


def _column(rows: Iterable[tuple[T, ...]], kind: type[T]) -> Any:
    """A list of records for each document."""
    import pyarrow as pa

    types = {"start": pa.int64(), "end": pa.int64(), "score": pa.float64()}
    names = kind.__slots__
    struct = pa.struct([(name, types.get(name, pa.string())) for name in names])
    return pa.array([[{name: getattr(each, name) for name in names} for each in row] for row in rows], pa.list_(struct))


def read_attributes(path: Path, names: Collection[str] | None = None) -> AttributeTable:
    """The table of a file that `write_attributes` wrote: sources, kinds and sizes, and of the other columns those that
    are named ("uri", "hash", "score.NAME", "label.NAME", "spans", "edits"), or all.

    A whole corpus is read by name: all of its spans, or a hundred scores, take as much memory as its text.
    ValueError for a file of an earlier version.
    """
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        there = file.schema_arrow.names
        if "spans" not in there:
            raise ValueError(f"{path} was made by an earlier version of lmworks: run corpus.tag again")
        table = file.read(
            [name for name in there if names is None or name in _ALWAYS or name in names], use_threads=False
        )
    columns = {name: table.column(name).combine_chunks() for name in table.column_names}
    return AttributeTable(
        uris=columns["uri"].to_pylist() if "uri" in columns else (),
        hashes=columns["hash"].to_pylist() if "hash" in columns else (),
        kinds=_words(columns["kind"]),
        characters=columns["characters"].to_numpy(),
        bytes=columns["bytes"].to_numpy(),
        scores={
            name.removeprefix(SCORE): column.to_numpy(zero_copy_only=False)
            for name, column in columns.items()
            if name.startswith(SCORE)
        },
        labels={name.removeprefix(LABEL): _words(column) for name, column in columns.items() if name.startswith(LABEL)},
        edits=Ranges(columns["edits"], Edit) if "edits" in columns else Ranges.of([], Edit),
        spans=Ranges(columns["spans"], TaggedSpan) if "spans" in columns else Ranges.of([], TaggedSpan),
        sources=_words(columns["source"]),
    )


def _words(column: Any) -> list[Any]:
    found = column.dictionary_encode()
    known = [*found.dictionary.to_pylist(), None]
    return [known[place] for place in found.indices.fill_null(len(known) - 1).to_pylist()]


# ---------------------------------------------------------------------------------------------------------------------
# Attributes of several stages about the same documents, as one: heuristics of one, a language model's score of another


def attribute_paths(folder: Path) -> list[Path]:
    """The files of an artefact's folder, in the order of the shards that they belong to."""
    return in_order((folder / ATTRIBUTES).glob("[0-9]*.parquet"))


def attribute_files(inputs: Mapping[str, Path]) -> list[tuple[Path, ...]]:
    """The files of attributes of each shard of documents, one of each input that holds such. ValueError where none
    does, or two are of other documents."""
    found = {name: attribute_paths(folder) for name, folder in inputs.items() if (folder / ATTRIBUTES).exists()}
    if not found:
        raise ValueError(f"no input holds attributes, which corpus.tag makes, among: {', '.join(inputs) or 'none'}")
    first, *others = found
    for name in others:
        if [path.name for path in found[name]] != [path.name for path in found[first]]:
            raise ValueError(
                f"{first} and {name} are attributes of other documents: let both read from the same stages, in the "
                "same order"
            )
    return list(zip(*found.values(), strict=True))


def read_joined(paths: Sequence[Path], names: Collection[str] | None = None) -> AttributeTable:
    """The attributes of one shard, from all files about it, read as by `read_attributes`; its label `language` is what
    `languages.py` makes of the tagged and the declared one. ValueError where two of them contradict each other."""
    from pyarrow.parquet import read_table

    if names is not None and LABEL + MEASURED in names:
        names = {*names, LABEL + DECLARED}
    joined = read_attributes(paths[0], names)
    for path in paths[1:]:
        texts, others = (read_table(each, columns=["uri", "hash", "edits"]) for each in (paths[0], path))
        if not texts.equals(others):
            raise ValueError(
                f"{paths[0]} and {path} are attributes of other documents, or of texts repaired in different ways: "
                "make both from the same documents, with the same setting of repair"
            )
        joined = _joined(joined, read_attributes(path, names), f"{paths[0]} and {path}")
    if DECLARED in joined.labels:
        joined = replace(joined, labels={**joined.labels, MEASURED: languages_of(joined.labels)})
    return joined


def _joined(one: AttributeTable, other: AttributeTable, which: str) -> AttributeTable:
    spans = one.spans if one.spans.filled() else other.spans
    if one.spans.filled() and other.spans.filled():
        pairs = zip(one.spans, other.spans, strict=True)
        spans = Ranges.of((tuple(sorted({*mine, *theirs})) for mine, theirs in pairs), TaggedSpan)
    scores, labels = _together(one.scores, other.scores, which), _together(one.labels, other.labels, which)
    return replace(one, scores=scores, labels=labels, spans=spans)


def _together(one: Mapping[str, Any], other: Mapping[str, Any], which: str) -> dict[str, Any]:
    """The columns of both, by their names. What both have must be the same in both."""
    import numpy as np

    for name in sorted(one.keys() & other.keys()):
        is_number = isinstance(one[name], np.ndarray)
        if not (np.array_equal(one[name], other[name], equal_nan=True) if is_number else one[name] == other[name]):
            raise ValueError(
                f"{which} both have {name}, and not the same: leave it out of one, or give it another name"
            )
    return dict(sorted({**one, **other}.items()))


@dataclass(frozen=True, slots=True)
class CorpusAttributes(Sequence[AttributeTable]):
    """The tables of a corpus, from the files of each shard. Each is read when it is asked for, and none is kept."""

    files: Sequence[tuple[Path, ...]]
    names: Collection[str] | None = None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> AttributeTable:  # type: ignore[override]
        return read_joined(self.files[number], self.names)

    def only(self, *names: str) -> "CorpusAttributes":
        """With these columns alone."""
        return replace(self, names=names)


def open_corpus(inputs: Mapping[str, Path]) -> tuple[list[Shard], CorpusAttributes]:
    """The shards of documents of the inputs, and the attributes of these. ValueError where they are of others."""
    shards, attributes = corpus_shards(inputs), CorpusAttributes(attribute_files(inputs))
    if [shard.name for shard in shards] != [paths[0].stem for paths in attributes.files]:
        raise ValueError(
            "the attributes are not those of these documents: let corpus.tag read from the same stages as this one, "
            "in the same order"
        )
    return shards, attributes


class CorpusTexts(Sequence[str]):
    """The repaired texts of a corpus by their numbers. Each is read when it is asked for; the edits of a few shards
    stay in memory."""

    def __init__(self, shards: Sequence[Shard], tables: CorpusAttributes) -> None:
        self._shards = shards
        self._edits = lru_cache(maxsize=4)(lambda shard: tables.only("edits")[shard].edits)
        self._starts = [0, *accumulate(map(len, tables.only()))]

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, number: int) -> str:  # type: ignore[override]
        shard, place = self.place(number)
        return apply_edits(self.extracted(shard, place), self._edits(shard)[place]).text

    def place(self, number: int) -> tuple[int, int]:
        """The number of a document's shard, and its place there."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        shard = bisect_right(self._starts, number) - 1
        return shard, number - self._starts[shard]

    def extracted(self, shard: int, place: int) -> str:
        """A text before its repair."""
        return self._shards[shard].read(place).text
