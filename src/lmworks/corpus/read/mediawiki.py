"""Dumps of MediaWiki (export schema 0.3 to 0.11): the articles, each in its latest revision, as wikitext."""

import io
from collections import Counter
from collections.abc import Iterator, Mapping
from xml.etree.ElementTree import Element, XMLPullParser

from lmworks.corpus.documents import UnusableError
from lmworks.corpus.read.byte_budget import FATAL, PIECE, ByteBudget
from lmworks.corpus.read.record import Item, Names, Record, printable
from lmworks.records import RejectedRecord

_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"


def read_mediawiki(stream: io.BufferedReader, budget: ByteBudget) -> Iterator[Item]:
    """The pages of namespace 0 that are no redirects, by their titles, as `text/x-wiki`, dated by their revision. Other
    pages are counted. XML that is broken or cut off ends the reading with one rejected record."""
    dump, failure = _Dump(budget), ""
    try:
        for event, element in _events(stream):
            yield from dump.pages(event, element)
    except FATAL:
        raise
    except Exception as error:  # of the parser, or of an encoding that is not known
        failure = str(error) if isinstance(error, UnusableError) else f"XML that is broken or cut off: {error}"
    if failure:
        yield RejectedRecord("", failure)
    for reason, count in dump.passed.items():
        yield RejectedRecord("", reason, count)


def _events(stream: io.BufferedReader) -> Iterator[tuple[str, Element]]:
    parser = XMLPullParser(("start", "end"))
    while piece := stream.read1(PIECE):
        parser.feed(piece)
        yield from parser.read_events()  # type: ignore[misc]
    parser.close()
    yield from parser.read_events()  # type: ignore[misc]


class _Dump:
    """What was seen so far. `passed` counts the pages that are no articles."""

    def __init__(self, budget: ByteBudget) -> None:
        self.passed: Counter[str] = Counter()
        self._budget = budget
        self._names = Names()
        self._root: Element | None = None
        self._site: dict[str, str] = {}
        self._latest: Mapping[str, str] = {}  # revision of the page

    def pages(self, event: str, element: Element) -> Iterator[Item]:
        """The page that ends with this event; what was looked at is forgotten, of which a dump has more than fits."""
        tag = element.tag.rpartition("}")[2]
        if event == "start":
            if self._root is None:
                self._root = element
                self._site["language"] = element.get(_LANGUAGE, "")
        elif tag == "dbname":
            self._site["dbname"] = (element.text or "").strip()
        elif tag == "revision":
            revision = _fields(element)
            if revision.get("timestamp", "") >= self._latest.get("timestamp", ""):
                self._latest = revision
            element.clear()
        elif tag == "page":
            yield from self._page(_fields(element))
            self._latest = {}
            if self._root is not None:
                self._root.clear()

    def _page(self, page: Mapping[str, str]) -> Iterator[Item]:
        title, revision = page.get("title", ""), self._latest
        if page.get("ns", "0") != "0":
            self.passed["pages of other namespaces"] += 1
        elif "redirect" in page:
            self.passed["redirects"] += 1
        elif not title or not revision:
            yield RejectedRecord(printable(title), "a page without a title or a revision")
        elif reason := self._reason_to_reject(revision):
            yield RejectedRecord(printable(title), reason)
        else:
            metadata = {name: self._site[name] for name in ("dbname", "language") if self._site.get(name)}
            metadata |= {"page": page.get("id", ""), "revision": revision.get("id", "")}
            name, when = self._names.unique(printable(title)), revision.get("timestamp") or None
            yield Record(name, revision["text"].encode(), "text/x-wiki", when, metadata, title)

    def _reason_to_reject(self, revision: Mapping[str, str]) -> str:
        if "deleted" in revision:
            return "its text was deleted"
        if (model := revision.get("model", "wikitext")) != "wikitext":
            return f"of the content model {model}"
        if not revision.get("text"):
            return "no text"
        return self._budget.too_large if len(revision["text"].encode()) > self._budget.record_bytes else ""


def _fields(element: Element) -> dict[str, str]:
    """The texts of what is in it, by tag; `deleted` where its text was."""
    fields: dict[str, str] = {}
    for child in element:
        tag, text = child.tag.rpartition("}")[2], child.text or ""
        fields[tag] = text if tag == "text" else text.strip()
        if "deleted" in child.attrib and tag == "text":
            fields["deleted"] = ""
    return fields
