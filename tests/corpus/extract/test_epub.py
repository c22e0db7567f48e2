"""EPUB: the documents of the spine in its order; protected and hostile books are refused."""

import struct

import pytest

from kit.containers import zipped
from kit.made_documents import CONTAINER, epub
from kit.made_documents import xhtml as page
from kit.tables import for_each
from lmworks.corpus.documents import UnusableError
from lmworks.corpus.extract.epub import extract_epub


def protected(algorithm: str) -> dict[str, str]:
    encryption = (
        '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container" '
        'xmlns:e="http://www.w3.org/2001/04/xmlenc#">'
        f'<e:EncryptedData><e:EncryptionMethod Algorithm="{algorithm}"/></e:EncryptedData></encryption>'
    )
    return {"a": page("<p>text</p>"), "META-INF/encryption.xml": encryption}


def test_chapters_come_in_the_order_of_the_spine() -> None:
    parts = {"b.xhtml": page("<h1>Two</h1><p>b</p>"), "a.xhtml": page("<h1>One</h1><p>a</p>"), "cover": page("<img/>")}
    extracted = extract_epub(epub(["cover", "a.xhtml", "b.xhtml"], parts))
    assert extracted.text == "# One\n\na\f# Two\n\nb"
    assert (extracted.title, extracted.extractor) == ("The Book", "epub")
    assert extracted.metadata == {
        "language": "en",
        "date": "2011-05-03",
        "creator": "A. Writer; B. Writer",
        "licence": "CC BY 4.0",
        "chapters": "2",
    }


def test_each_document_is_read_once_and_the_table_of_contents_not() -> None:
    items = (
        '<item id="a" href="x%20y.xhtml#top" media-type="application/xhtml+xml"/>'
        '<item id="n" href="nav" properties="nav" media-type="application/xhtml+xml"/>'
        '<item id="s" href="s" media-type="image/svg+xml"/>'
    )
    parts = {"x y.xhtml": page("<p>a</p>"), "nav": page("<p>contents</p>")}
    assert extract_epub(epub(["n", "a", "s", "a"] * 50, parts, items)).text == "a"


def test_absent_and_broken_chapters_are_counted() -> None:
    parts = {"a": page("<p>a</p>"), "deep": "<div>" * 3000, "binary": "\0\1\2"}
    extracted = extract_epub(epub(["missing", "a", "deep", "binary"], parts))
    assert (extracted.text, extracted.metadata["unreadable_chapters"]) == ("a", "3")
    with pytest.raises(UnusableError, match="chapter"):
        extract_epub(epub(["missing"], parts))


def test_protected_books_are_refused_and_protected_fonts_are_not() -> None:
    for algorithm in ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC"):
        assert extract_epub(epub(["a"], protected(algorithm))).text == "text"
    with pytest.raises(UnusableError, match="DRM"):
        extract_epub(epub(["a"], protected("http://www.w3.org/2001/04/xmlenc#aes128-cbc")))


def test_entities_of_a_chapter_are_not_expanded() -> None:
    bomb = '<!DOCTYPE html [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;">]>' + page("<p>text &b;</p>")
    assert extract_epub(epub(["a"], {"a": bomb})).text.count("lol") == 0


def test_no_more_is_unpacked_than_the_archive_states() -> None:
    raw = bytearray(epub(["a"], {"a": page("<p>word</p>" + " " * 1_000_000)}))
    entry = raw.rindex(b"PK\x01\x02")
    raw[entry + 24 : entry + 28] = struct.pack("<I", 1000)  # the size when unpacked
    with pytest.raises(UnusableError, match="chapter"):
        extract_epub(bytes(raw))


@for_each(("raw", "reason"), [
    (b"", "no ZIP archive"), (b"%PDF-1.4", "no ZIP archive"),
    (epub(["a"], {"a": page("<p>a</p>")})[:-5], "no ZIP archive"),
    (epub(["a"], {}, '<item id="a" href="../../a" media-type="text/html"/>'), "no chapter can be read"),
    (zipped({"META-INF/container.xml": "<a></b>"}), "not well-formed"),
    (zipped({"META-INF/container.xml": CONTAINER}), "no part OEBPS/book.opf"),
    (zipped({"META-INF/container.xml": "<a/>"}), "no package document"),
])  # fmt: skip
def test_what_is_no_book_is_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(UnusableError, match=reason):
        extract_epub(raw)
