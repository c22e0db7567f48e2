"""Columns of a file of annotations, each read when it is asked for, some of them kept for the next time.

The tables of a corpus take as much memory as its text: a chat has an edit in each line. So what is held of a table is
where it lies. A file of annotations is never changed; one that is put in the place of another is read anew.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np

from lmworks.corpus.attributes import TaggedSpan
from lmworks.records import Edit

T = TypeVar("T")
Placed = TypeVar("Placed", TaggedSpan, Edit)


@dataclass(frozen=True, slots=True)
class AnnotationFile:
    """A file as it was when it was found: its time and size tell it from a later one of its name."""

    path: Path
    time: int  # nanoseconds
    size: int

    @classmethod
    def of(cls, path: Path) -> "AnnotationFile":
        found = path.stat()
        return cls(path, found.st_mtime_ns, found.st_size)

    @property
    def names(self) -> list[str]:
        """Of the columns."""
        from pyarrow.parquet import read_schema

        return read_schema(self.path).names

    def numbers(self, name: str, prefix: str = "") -> np.ndarray:
        """(n,) with NaN for what is missing."""
        return _numbers(self, prefix + name)

    def texts(self, name: str) -> list[str]:
        """Of a column that every document has."""
        return [text or "" for text in _words(self, name)]

    def words(self, name: str, prefix: str = "") -> list[str | None]:
        """Equal words are one object, as there are few kinds and languages; None for what is missing."""
        return _words(self, prefix + name)


# Whoever goes through the documents of a shard asks for some columns again and again, and then for those of the next.


def _column(file: AnnotationFile, name: str) -> Any:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(file.path) as source:
        return source.read([name], use_threads=False).column(name).combine_chunks()


@lru_cache(maxsize=64)
def _numbers(file: AnnotationFile, name: str) -> np.ndarray:
    return _column(file, name).to_numpy(zero_copy_only=False)


@lru_cache(maxsize=16)
def _words(file: AnnotationFile, name: str) -> list[str | None]:
    found = _column(file, name).dictionary_encode()
    known = [*found.dictionary.to_pylist(), None]
    return [known[place] for place in found.indices.fill_null(len(known) - 1).to_pylist()]


@dataclass(frozen=True, slots=True)
class Columns(Mapping[str, T], Generic[T]):
    """Name → column, where looking for a name reads nothing."""

    columns: tuple[str, ...]
    read: Callable[[str], T]

    def __getitem__(self, name: str) -> T:
        if name not in self.columns:
            raise KeyError(name)
        return self.read(name)

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)


class _Rows(Sequence[T], Generic[T]):
    """What all documents of a file have, where one after another may be asked for."""

    def __init__(self, file: AnnotationFile, name: str) -> None:
        self.file, self.name = file, name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> list[T]: ...
    def __getitem__(self, place: int | slice) -> T | list[T]:
        if isinstance(place, slice):
            return [self._read(each) for each in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        return self._read(place % len(self))

    def _read(self, place: int) -> T:
        raise NotImplementedError


class Hashes(_Rows[str]):
    """Of the documents."""

    def __init__(self, file: AnnotationFile) -> None:
        super().__init__(file, "hash")

    def __len__(self) -> int:
        return len(_words(self.file, self.name))

    def _read(self, place: int) -> str:
        return _words(self.file, self.name)[place] or ""


class Ranges(_Rows[tuple[Placed, ...]], Generic[Placed]):
    """Marks or edits, some of each document."""

    def __init__(self, file: AnnotationFile, name: str, kind: type[Placed]) -> None:
        super().__init__(file, name)
        self.kind = kind

    def __len__(self) -> int:
        return len(_ranges(self.file, self.name).offsets) - 1

    def rules(self) -> Counter[str]:
        """How many there are of each rule, in the order in which they come."""
        found = _ranges(self.file, self.name).values.field("rule").dictionary_encode()
        counts = np.bincount(found.indices.to_numpy(), minlength=len(found.dictionary))
        return Counter(dict(zip(found.dictionary.to_pylist(), counts.tolist(), strict=True)))

    def filled(self) -> int:
        """How many documents have some."""
        return int(np.count_nonzero(np.diff(_ranges(self.file, self.name).offsets)))

    def of_rules(self, rules: Collection[str]) -> Iterator[tuple[int, Placed]]:
        """Those of some rules, each with the place of its document; the others are not made."""
        import pyarrow.compute
        from pyarrow import array

        compute: Any = pyarrow.compute  # which makes its functions when it is imported
        ranges = _ranges(self.file, self.name)
        found = compute.is_in(ranges.values.field("rule"), array(list(rules), "string"))
        numbers = np.flatnonzero(found.to_numpy(zero_copy_only=False))
        places = np.searchsorted(ranges.offsets, numbers, side="right") - 1
        return zip(places.tolist(), self._made(ranges.values.take(array(numbers))), strict=True)

    def _read(self, place: int) -> tuple[Placed, ...]:
        ranges = _ranges(self.file, self.name)
        start, end = int(ranges.offsets[place]), int(ranges.offsets[place + 1])
        return tuple(self._made(ranges.values.slice(start, end - start))) if start < end else ()

    def _made(self, values: Any) -> Iterator[Placed]:
        return map(self.kind, *(values.field(name).to_pylist() for name in self.kind.__slots__))


@dataclass(frozen=True, slots=True)
class _Lists:
    offsets: np.ndarray
    values: Any  # pyarrow.StructArray


@lru_cache(maxsize=4)
def _ranges(file: AnnotationFile, name: str) -> _Lists:
    column = _column(file, name)
    return _Lists(column.offsets.to_numpy(), column.values)


def rules_of(rows: Sequence[tuple[Placed, ...]]) -> Counter[str]:
    """How many marks or edits there are of each rule."""
    return rows.rules() if isinstance(rows, Ranges) else Counter(each.rule for row in rows for each in row)


def filled(rows: Sequence[tuple[Placed, ...]]) -> int:
    """How many documents have marks or edits."""
    return rows.filled() if isinstance(rows, Ranges) else sum(map(bool, rows))


def of_rules(rows: Sequence[tuple[Placed, ...]], rules: Collection[str]) -> Iterator[tuple[int, Placed]]:
    """The marks or edits of some rules, each with the place of its document, in their order."""
    if isinstance(rows, Ranges):
        return rows.of_rules(rules)
    return ((place, each) for place, row in enumerate(rows) for each in row if each.rule in rules)
