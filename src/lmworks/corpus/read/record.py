"""What a container holds: records of bytes, rows of text, and what was refused; and how much of it is read.

A container is a stream of bytes with records in it, such as an archive, a crawl or a table. Reading one raises nothing
for what it holds, however hostile: what cannot be read is a `Refused` that says why.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO


@dataclass(frozen=True, slots=True)
class Record:
    """Bytes that an extractor may turn into a document.

    name        The place inside the container, such as `path/in.zip/inner.txt`, a number or the address of a page; ""
                where the container holds nothing else.
    media_type  By what the container says and by what the bytes begin with; None where neither tells.
    date        ISO 8601, where the format has a date of the record; the time of a file in an archive is none, and is
                `modified` in the metadata.
    """

    name: str
    content: bytes
    media_type: str | None = None
    date: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    title: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A record that is text already; its fields are those of a `Document`."""

    name: str
    text: str
    title: str = ""
    date: str | None = None
    licence: str | None = None
    language: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refused:
    """What was not read, and why; `name` is "" for the container itself, or what is left of it."""

    name: str
    reason: str
    count: int = 1


Item = Record | Row | Refused


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is read.

    record_bytes  A record of more bytes is refused.
    ratio         What unpacks to more than 100 MB and to more than this many times its own size is not read on.
    records       At most so many records and rows are read of one container; None for all.
    nesting       How many containers may lie within each other below the outermost one. A compression belongs to what
                  it compresses.
    """

    record_bytes: int = 20_000_000
    ratio: int = 200
    records: int | None = None
    nesting: int = 2

    def __post_init__(self) -> None:
        for name, value, lowest in (
            ("record_bytes", self.record_bytes, 1),
            ("ratio", self.ratio, 1),
            ("records", 0 if self.records is None else self.records, 0),
            ("nesting", self.nesting, 0),
        ):
            if value < lowest:
                raise ValueError(f"{name} must be {lowest} or more, got {value}")


Container = Callable[[BinaryIO, Limits], Iterator[Item]]
