"""Dumps of MediaWiki (export schema 0.3 to 0.11): the articles, each in its latest revision, as wikitext."""

import io
from collections import Counter
from collections.abc import Iterator, Mapping
from xml.etree.ElementTree import Element, XMLPullParser

from lmworks.corpus.documents import UnusableError
from lmworks.corpus.extract.charset import printable
from lmworks.corpus.read.byte_budget import FATAL, PIECE, ByteBudget
from lmworks.corpus.read.record import Item, Names, Record
from lmworks.records import RejectedRecord

_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"


def read_mediawiki(stream: io.BufferedReader, budget: ByteBudget) -> Iterator[Item]:
    """The pages of namespace 0 that are no redirects, by their titles, as `text/x-wiki`, dated by their revision. Other
    pages are counted. XML that is broken or cut off ends the reading with one rejected record."""
    names, passed = Names(), Counter[str]()
    try:
        for page, revision, site in _pages(stream):
            title = page.get("title", "")
            if page.get("ns", "0") != "0" or "redirect" in page:
                passed["redirects" if page.get("ns", "0") == "0" else "pages of other namespaces"] += 1
            elif reason := _reason_to_reject(title, revision, budget):
                yield RejectedRecord(printable(title), reason)
            else:
                facts = {name: value for name, value in site.items() if value}
                facts |= {"page": page.get("id", ""), "revision": revision.get("id", "")}
                name, when = names.unique(printable(title)), revision.get("timestamp") or None
                yield Record(name, revision["text"].encode(), "text/x-wiki", when, facts, title)
    except FATAL:
        raise
    except Exception as error:  # of the parser, or of an encoding that is not known
        reason = str(error) if isinstance(error, UnusableError) else f"XML that is broken or cut off: {error}"
        yield RejectedRecord("", reason)
    for reason, count in passed.items():
        yield RejectedRecord("", reason, count)


def _pages(stream: io.BufferedReader) -> Iterator[tuple[dict[str, str], dict[str, str], dict[str, str]]]:
    """The fields of each page, of its latest revision and of the site. What was looked at is forgotten: a dump has more
    than fits, and so may have the revisions of one page."""
    parents: list[Element] = []
    site: dict[str, str] = {}
    latest: dict[str, str] = {}
    for event, element in _events(stream):
        if event == "start":
            if not parents:
                site = {"dbname": "", "language": element.get(_LANGUAGE, "")}
            parents.append(element)
            continue
        parents.pop()
        match element.tag.rpartition("}")[2]:
            case "dbname":
                site["dbname"] = (element.text or "").strip()
            case "revision":
                revision = _fields(element)
                if revision.get("timestamp", "") >= latest.get("timestamp", ""):
                    latest = revision
                element.clear()
            case "page":
                yield _fields(element), latest, site
                latest = {}
                parents[-1].clear()


def _events(stream: io.BufferedReader) -> Iterator[tuple[str, Element]]:
    parser = XMLPullParser(("start", "end"))
    while piece := stream.read1(PIECE):
        parser.feed(piece)
        yield from parser.read_events()  # type: ignore[misc]
    parser.close()
    yield from parser.read_events()  # type: ignore[misc]


def _fields(element: Element) -> dict[str, str]:
    """The texts of what is in it, by tag; `deleted` where its text was."""
    fields: dict[str, str] = {}
    for child in element:
        tag, text = child.tag.rpartition("}")[2], child.text or ""
        fields[tag] = text if tag == "text" else text.strip()
        if tag == "text" and "deleted" in child.attrib:
            fields["deleted"] = ""
    return fields


def _reason_to_reject(title: str, revision: Mapping[str, str], budget: ByteBudget) -> str:
    if not title or not revision:
        return "a page without a title or a revision"
    if "deleted" in revision:
        return "its text was deleted"
    if (model := revision.get("model", "wikitext")) != "wikitext":
        return f"of the content model {model}"
    if not revision.get("text"):
        return "no text"
    return budget.too_large if len(revision["text"].encode()) > budget.record_bytes else ""
