"""EPUB: the documents of the spine in its order; protected and hostile books are refused."""

import io
import zipfile
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.documents import UnusableError
from lmworks.corpus.extract.epub import extract_epub

CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)
METADATA = (
    "<dc:title>The  Book</dc:title><dc:language>en</dc:language><dc:creator>A. Writer</dc:creator>"
    "<dc:creator>B. Writer</dc:creator><dc:date>2011-05-03T00:00:00Z</dc:date><dc:rights>CC BY 4.0</dc:rights>"
)


def epub(spine: list[str], parts: dict[str, str], items: str | None = None, metadata: str = METADATA) -> bytes:
    """A book whose items are its parts; `spine` lists them by name, which is their id."""
    if items is None:
        items = "".join(f'<item id="{name}" href="{name}" media-type="application/xhtml+xml"/>' for name in parts)
    references = "".join(f'<itemref idref="{name}"/>' for name in spine)
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<metadata>{metadata}</metadata><manifest>{items}</manifest>"
        f"<spine>{references}</spine></package>"
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        archive.writestr("META-INF/container.xml", CONTAINER)
        archive.writestr("OEBPS/book.opf", package)
        for name, content in parts.items():
            archive.writestr(name if name.startswith("META-INF") else f"OEBPS/{name}", content)
    return buffer.getvalue()


def page(body: str) -> str:
    head = '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head>'
    return f"{head}<body>{body}</body></html>"


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
        '<item id="s" href="s" fallback="a" media-type="image/svg+xml"/>'
    )
    parts = {"x y.xhtml": page("<p>a</p>"), "nav": page("<p>contents</p>")}
    assert extract_epub(epub(["n", "a", "s", "a"] * 50, parts, items)).text == "a"


def test_fallbacks_in_a_circle_end() -> None:
    items = "".join(f'<item id="{a}" href="{a}" fallback="{b}" media-type="image/svg+xml"/>' for a, b in ("xy", "yx"))
    with pytest.raises(UnusableError, match="a book without text"):
        extract_epub(epub(["x"], {}, items))


def test_absent_and_broken_chapters_are_counted() -> None:
    parts = {"a": page("<p>a</p>"), "deep": "<div>" * 3000, "binary": "\0\1\2"}
    extracted = extract_epub(epub(["missing", "a", "deep", "binary"], parts))
    assert (extracted.text, extracted.metadata["unreadable_chapters"]) == ("a", "3")
    with pytest.raises(UnusableError, match="no chapter can be read"):
        extract_epub(epub(["missing"], parts))


def test_protected_books_are_refused_and_protected_fonts_are_not() -> None:
    for algorithm in ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC"):
        assert extract_epub(epub(["a"], protected(algorithm))).text == "text"
    with pytest.raises(UnusableError, match="DRM"):
        extract_epub(epub(["a"], protected("http://www.w3.org/2001/04/xmlenc#aes128-cbc")))


def test_a_path_out_of_the_book_is_refused() -> None:
    items = '<item id="a" href="../../etc/passwd" media-type="application/xhtml+xml"/>'
    with pytest.raises(UnusableError, match="out of the archive"):
        extract_epub(epub(["a"], {}, items))


def test_entities_are_not_expanded() -> None:
    bomb = '<!DOCTYPE html [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;">]>' + page("<p>text &b;</p>")
    assert extract_epub(epub(["a"], {"a": bomb})).text.count("lol") == 0
    with pytest.raises(UnusableError, match="declares entities"):
        extract_epub(_with_bomb_in_container())


def _with_bomb_in_container() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("META-INF/container.xml", "<!DOCTYPE c [<!ENTITY a 'b'>]><c>&a;</c>")
    return buffer.getvalue()


def test_the_documents_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {f"c{number}": page("<p>word</p>" + " " * 1000) for number in range(5)}
    raw = epub(list(parts), parts)
    assert extract_epub(raw).metadata["chapters"] == "5"
    monkeypatch.setattr("lmworks.corpus.extract.epub._MAX_BYTES", 3000)
    with pytest.raises(UnusableError, match="unpack to more than 3,000 bytes"):
        extract_epub(raw)


@pytest.mark.parametrize("raw", [b"", b"PK", b"%PDF-1.4", _with_bomb_in_container()[:-5]])
def test_what_is_no_book_is_refused(raw: bytes) -> None:
    with pytest.raises(UnusableError):
        extract_epub(raw)


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=5), st.booleans())
def test_damaged_files_are_read_or_refused(damage: list[tuple[int, int]], cut: bool) -> None:
    raw = bytearray(epub(["a", "b"], {"a": page("<p>a</p>"), "b": page("<p>b</p>")}))
    for position, value in damage:
        raw[position % len(raw)] = value
    with suppress(UnusableError):
        extract_epub(bytes(raw[: damage[0][0] % len(raw)] if cut else raw))
