"""What all containers have in common: they never raise for what they hold, keep to the limits, and name records."""

import functools
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Concatenate, ParamSpec

from lmworks.corpus.read.format_detection import recognise
from lmworks.corpus.read.record import Item, Limits, Record, Refused
from lmworks.corpus.read.streams import buffered, head_of, read_at_most

P = ParamSpec("P")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def contained(
    read: Callable[Concatenate[io.BufferedReader, Limits, P], Iterator[Item]],
) -> Callable[Concatenate[BinaryIO, Limits, P], Iterator[Item]]:
    """A container of a generator that reads a buffered stream: what was good is given, and an `OSError` (damaged bytes,
    a disk, a network) ends it with one `Refused`, as does the limit on the number of records."""

    @functools.wraps(read)
    def container(stream: BinaryIO, limits: Limits, *args: P.args, **kwargs: P.kwargs) -> Iterator[Item]:
        count = 0
        try:
            for item in read(buffered(stream), limits, *args, **kwargs):
                if not isinstance(item, Refused):
                    if count == limits.records:
                        yield Refused("", f"what follows the first {count:,} records")
                        return
                    count += 1
                yield item
        except OSError as error:
            yield Refused("", reason_of(error))

    return container


def reason_of(error: OSError) -> str:
    return f"unreadable: {error.strerror}" if error.strerror else str(error)


@dataclass(frozen=True, slots=True)
class Member:
    """A stream inside another one, which may be read until the next member is asked for. `size` is what it declares,
    None where it does not."""

    name: str
    stream: io.BufferedReader
    size: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


Inner = Callable[[Member, Limits], Iterator[Item]]  # reads a member; raises DamagedError


def as_record(member: Member, limits: Limits) -> Iterator[Item]:
    """The member as one record, whatever it is, or a `Refused` where it is too large. Raises DamagedError."""
    media_type = recognise(member.name, head_of(member.stream)).media_type
    yield record_of(member, media_type, limits)


def record_of(member: Member, media_type: str | None, limits: Limits) -> Record | Refused:
    """Raises DamagedError."""
    if member.size is not None and member.size > limits.record_bytes:
        return Refused(member.name, f"{too_large(limits)} ({member.size:,})")
    content = read_at_most(member.stream, limits.record_bytes)
    if content is None:
        return Refused(member.name, too_large(limits))
    return Record(member.name, content, media_type, metadata=member.metadata)


def too_large(limits: Limits) -> str:
    return f"larger than max_bytes = {limits.record_bytes:,} bytes"


def inside(name: str, items: Iterable[Item]) -> Iterator[Item]:
    """The items of a container that is itself called `name` in another one."""
    for item in items:
        yield replace(item, name=f"{name}/{item.name}" if item.name else name)


class Names:
    """Gives each record of a container a name of its own: the second `a.txt` is `a.txt (2)`.

    It keeps a number of eight bytes for each name rather than the name, since a container may hold millions.
    """

    def __init__(self) -> None:
        self._taken: set[int] = set()
        self._counts: dict[int, int] = {}  # of names that came more than once

    def unique(self, name: str) -> str:
        candidate, key = name, hash(name)
        while hash(candidate) in self._taken:
            self._counts[key] = self._counts.get(key, 1) + 1
            candidate = f"{name} ({self._counts[key]})"
        self._taken.add(hash(candidate))
        return candidate


def safe_name(name: str) -> str:
    """A relative path with slashes, of characters that can be printed: no root, no drive, no `..`, nothing empty."""
    parts = name.replace("\\", "/").split("/")
    kept = [part for part in parts if part not in ("", ".", "..") and not (len(part) == 2 and part[1] == ":")]
    return printable("/".join(kept)) or "unnamed"


def printable(name: str) -> str:
    """Control characters and bytes that are no UTF-8 as escapes; no file of ours could hold the latter."""
    if name.isprintable():
        return name
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)
