"""Dumps of MediaWiki (export schema 0.3 to 0.11): the articles, each in its latest revision, as wikitext.

The parser is expat, fed piece by piece. A dump has no document type, so that one with a DOCTYPE, in which entities
could be declared that unfold without end, is refused at that line.
"""

import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

from lmworks.corpus.read.container import Names, contained, printable, reason_of, too_large
from lmworks.corpus.read.record import Item, Limits, Record, Refused
from lmworks.corpus.read.streams import PIECE

_DEPTH = 32  # of elements within each other; a dump has 5
_KEPT = {
    ("page", "title"), ("page", "ns"), ("page", "id"), ("siteinfo", "dbname"),
    ("revision", "id"), ("revision", "timestamp"), ("revision", "model"), ("revision", "text"),
}  # fmt: skip


@contained
def read_mediawiki(stream: io.BufferedReader, limits: Limits) -> Iterator[Item]:
    """The pages of namespace 0 that are no redirects, by their titles, as `text/x-wiki`, dated by their
    revision. Other pages are counted. XML that is broken or cut off ends the reading with one refusal."""
    dump = _Dump(limits)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.buffer_size = PIECE
    parser.StartElementHandler = dump.start
    parser.EndElementHandler = dump.end
    parser.CharacterDataHandler = dump.characters
    parser.StartDoctypeDeclHandler = dump.doctype
    fed, ended, failure = 0, False, ""
    while not (ended or failure):
        try:
            piece = stream.read1(PIECE)
            fed, ended = fed + len(piece), not piece
            parser.Parse(piece, ended)
        except OSError as error:
            failure = reason_of(error)
        except (expat.ExpatError, LookupError, ValueError) as error:  # the latter two: an encoding that is not known
            failure = f"XML that is broken or cut off: {error}"
        except _RefusedError as error:
            failure = str(error)
        yield from dump.found
        dump.found.clear()
        if not failure and fed - parser.CurrentByteIndex > limits.record_bytes + PIECE:
            failure = f"markup of more than {limits.record_bytes:,} bytes"  # which the parser keeps until it ends
    if failure:
        yield Refused("", failure)
    for reason, count in dump.passed.items():
        yield Refused("", reason, count)


class _RefusedError(Exception):
    """What ends the reading of a dump; the message is the reason."""


@dataclass(slots=True)
class _Page:
    fields: dict[str, str] = field(default_factory=dict)
    revision: dict[str, str] = field(default_factory=dict)  # the latest so far
    is_redirect: bool = False


class _Dump:
    """What the parser has seen; pages that are complete are in `found` until they are fetched."""

    def __init__(self, limits: Limits) -> None:
        self.found: list[Item] = []
        self.passed: Counter[str] = Counter()
        self._limits = limits
        self._names = Names()
        self._path: list[str] = []
        self._page = _Page()
        self._revision: dict[str, str] = {}
        self._site: dict[str, str] = {}
        self._text: list[str] | None = None  # pieces of the element that is being read, where it is kept
        self._size = 0  # characters of it

    def doctype(self, *_: object) -> None:
        raise _RefusedError("an XML file with a DOCTYPE, which no dump has")

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        parent = self._path[-1] if self._path else ""
        self._path.append(name)
        if len(self._path) > _DEPTH:
            raise _RefusedError(f"elements more than {_DEPTH} deep")
        self._text = [] if (parent, name) in _KEPT else None
        self._size = 0
        if name == "page":
            self._page = _Page()
        elif name == "revision":
            self._revision = {}
        elif (parent, name) == ("page", "redirect"):
            self._page.is_redirect = True
        elif name == "mediawiki" and (language := attributes.get("xml:lang")):
            self._site["language"] = language
        elif (parent, name) == ("revision", "text") and "deleted" in attributes:
            self._revision["problem"] = "its text was deleted"

    def characters(self, data: str) -> None:
        if self._text is None:
            return
        self._size += len(data)
        if self._size <= self._limits.record_bytes:
            self._text.append(data)
        else:
            self._text.clear()
            self._revision["problem"] = too_large(self._limits)

    def end(self, name: str) -> None:
        self._path.pop()
        parent = self._path[-1] if self._path else ""
        if self._text is not None:
            self._keep(parent, name, "".join(self._text))
            self._text = None
        if name == "revision":
            if self._revision.get("timestamp", "") >= self._page.revision.get("timestamp", ""):
                self._page.revision = self._revision
        elif name == "page":
            self._finish(self._page)

    def _keep(self, parent: str, name: str, text: str) -> None:
        kept = {"page": self._page.fields, "revision": self._revision, "siteinfo": self._site}[parent]
        kept[name] = text if name == "text" else text.strip()

    def _finish(self, page: _Page) -> None:
        title, revision = page.fields.get("title", ""), page.revision
        if page.fields.get("ns", "0") != "0":
            self.passed["pages of other namespaces"] += 1
        elif page.is_redirect:
            self.passed["redirects"] += 1
        elif not title or not revision:
            self.found.append(Refused(printable(title), "a page without a title or a revision"))
        elif reason := _reason_to_refuse(revision, self._limits):
            self.found.append(Refused(printable(title), reason))
        else:
            metadata = {name: self._site[name] for name in ("dbname", "language") if self._site.get(name)}
            metadata |= {"page": page.fields.get("id", ""), "revision": revision.get("id", "")}
            content = revision["text"].encode()
            when = revision.get("timestamp") or None
            name = self._names.unique(printable(title))
            self.found.append(Record(name, content, "text/x-wiki", when, metadata, title))


def _reason_to_refuse(revision: Mapping[str, str], limits: Limits) -> str:
    if problem := revision.get("problem"):
        return problem
    if (model := revision.get("model", "wikitext")) != "wikitext":
        return f"of the content model {model}"
    if not revision.get("text"):
        return "no text"
    return too_large(limits) if len(revision["text"].encode()) > limits.record_bytes else ""
