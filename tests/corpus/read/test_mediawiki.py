"""Dumps of MediaWiki, written by ElementTree: which pages are articles, and what hostile XML costs."""

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from kit.containers import SMALL, check_cuts, items_of, kept, rejected
from kit.tables import for_each
from lmworks.corpus.read.record import Record
from lmworks.records import RejectedRecord

XML_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=80)
OPENING = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" xml:lang="en">'


def page(title: str, *revisions: tuple[str, str], namespace: int = 0, redirect: bool = False, model: str = "wikitext"):
    element = ElementTree.Element("page")
    for name, text in (("title", title), ("ns", str(namespace)), ("id", "12")):
        ElementTree.SubElement(element, name).text = text
    if redirect:
        ElementTree.SubElement(element, "redirect", title="Elsewhere")
    for number, (when, text) in enumerate(revisions):
        revision = ElementTree.SubElement(element, "revision")
        author = ElementTree.SubElement(revision, "contributor")
        ElementTree.SubElement(author, "id").text = "99"
        for name, value in (("id", str(100 + number)), ("timestamp", when), ("model", model), ("text", text)):
            ElementTree.SubElement(revision, name).text = value
    return element


def dump(*pages: ElementTree.Element) -> bytes:
    root = ElementTree.Element("mediawiki", {"xmlns": "http://www.mediawiki.org/xml/export-0.11/", "xml:lang": "en"})
    site = ElementTree.SubElement(root, "siteinfo")
    ElementTree.SubElement(site, "dbname").text = "enwiki"
    root.extend(pages)
    return ElementTree.tostring(root)


@given(st.lists(XML_TEXT, max_size=6))
def test_articles_are_read_back(articles: list[str]) -> None:
    raw = dump(*(page(f"Title {number}", ("2024", text)) for number, text in enumerate(articles)))
    items = items_of("a.xml", raw)
    assert [item.content.decode() for item in items if isinstance(item, Record)] == articles
    assert len(items) == len(articles)


def test_an_article_is_its_latest_revision() -> None:
    revisions = [("2024-01-01T00:00:00Z", "old"), ("2024-03-01T00:00:00Z", "new"), ("2024-02-01T00:00:00Z", "between")]
    (record,) = items_of("a.xml", dump(page("A/B", *revisions)))
    facts = {"dbname": "enwiki", "language": "en", "page": "12", "revision": "101"}
    assert record == Record("A/B", b"new", "text/x-wiki", "2024-03-01T00:00:00Z", facts, "A/B")


def test_other_pages_are_counted() -> None:
    pages = [page("Talk:A", ("2024", "x"), namespace=1), page("User:A", ("2024", "x"), namespace=2)]
    pages += [page("B", ("2024", "#REDIRECT [[A]]"), redirect=True), page("A", ("2024", "text"))]
    items = items_of("a.xml", dump(*pages))
    assert [item.uri for item in kept(items)] == ["A"]
    assert rejected(items) == [RejectedRecord("", "pages of other namespaces", 2), RejectedRecord("", "redirects", 1)]


def test_pages_that_cannot_be_read_cost_themselves() -> None:
    deleted = page("Gone", ("2024", ""))
    deleted.find("revision/text").set("deleted", "deleted")  # type: ignore[union-attr]
    pages = [page("Data", ("2024", "{}"), model="json"), page("None"), page("Empty", ("2024", "")), deleted]
    pages += [page("Large", ("2024", "x" * 1001)), page("Wide", ("2024", "é" * 600)), page("Last", ("2024", "text"))]
    items = items_of("a.xml", dump(*pages), SMALL)
    assert [item.uri for item in kept(items)] == ["Last"]
    assert [item.uri for item in rejected(items)] == ["Data", "None", "Empty", "Gone", "Large", "Wide"]


def test_a_dump_with_entities_is_no_dump() -> None:
    """A document type, in which they could unfold without end, stands before the root; no dump has one."""
    raw = f'<?xml version="1.0"?><!DOCTYPE m [<!ENTITY e "haha">]>{OPENING}<page><title>&e;</title></page>'
    assert [isinstance(item, Record) and item.media_type for item in items_of("a.xml", raw.encode())] == [None]


@for_each("start", ["<page a='", "<!--", "<?x ", "<" + "t" * 100, "<a>" * 100_000, "<page><text>"])
def test_markup_without_end_is_rejected(start: str) -> None:
    raw = OPENING.encode() + start.encode() + b"x" * 3_000_000
    items = items_of("a.xml", raw, SMALL)
    assert len(items) == 1 and items == rejected(items)


def test_cut_off_anywhere_it_gives_what_came_before() -> None:
    raw = dump(page("A", ("2024", "text")), page("B", ("2024", "more")), page("C", ("2024", "x")))
    check_cuts("a.xml", raw, 3, len("<mediawiki "))
