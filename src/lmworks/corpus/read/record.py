"""Records of bytes and rows of text, as containers hold them, and safe names for them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lmworks.corpus.documents import UnusableError
from lmworks.corpus.extract.charset import printable, well_formed
from lmworks.corpus.read.byte_budget import BudgetError
from lmworks.records import RejectedRecord


@dataclass(frozen=True, slots=True)
class Record:
    """Bytes that an extractor may turn into a document.

    uri         The place inside the container, such as `path/in.zip/inner.txt`, a number or the address of a page; ""
                where the container holds nothing else.
    media_type  By what the container says and by what the bytes begin with; None where neither tells.
    date        ISO 8601, where the format has a date of the record; the time of a file in an archive is none, and is
                `modified` in the metadata.
    """

    uri: str
    content: bytes
    media_type: str | None = None
    date: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    title: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A record that is text already; its fields are those of a `Document`."""

    uri: str
    text: str
    title: str = ""
    date: str | None = None
    licence: str | None = None
    language: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


Item = Record | Row | RejectedRecord  # of a rejected one, "" is the container itself, or what is left of it


class Names:
    """Gives each record of a container a name of its own: the second `a.txt` is `a.txt (2)`.

    It keeps a number of eight bytes for each name rather than the name, since a container may hold millions.
    """

    def __init__(self) -> None:
        self._taken: set[int] = set()
        self._counts: dict[int, int] = {}  # of names that came more than once

    def unique(self, name: str) -> str:
        """The name, or the first `name (n)` that is free."""
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


def reason_of(error: Exception, what: str = "") -> str:
    """Why something was rejected: what an UnusableError says, the words of the system, or the first line of what a
    library says of `what` it reads."""
    if isinstance(error, RecursionError):
        return "its parts are nested too deeply"
    if isinstance(error, (UnusableError, BudgetError)):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"unreadable: {error.strerror}"
    message = (str(error).strip() or "no reason").splitlines()[0]
    return well_formed(f"cannot be read{what and f' as {what}'}: {type(error).__name__}: {message}")[:300]
