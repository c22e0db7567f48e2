"""PDF files, written here by hand: the text of each page, and a reason for what has none."""

import pytest

from kit.made_documents import write_pdf
from kit.tables import for_each
from lmworks.corpus.documents import UnusableError
from lmworks.corpus.extract.pdf import PAGE_BREAK, extract_pdf

PAGES = [
    ["THE BOOK", "First line of page one,", "second line (with brackets).", "1"],
    ["THE BOOK", "Page two has a permit-", "ted division.", "2"],
    ["THE BOOK", "The end.", "3"],
]


def test_each_page_keeps_its_lines() -> None:
    extracted = extract_pdf(write_pdf(PAGES))
    assert [page.split("\n") for page in extracted.text.split(PAGE_BREAK)] == PAGES
    assert extracted.extractor == "pdf"
    assert "pypdfium2" in extracted.extractor_version
    assert (extracted.title, extracted.metadata) == ("", {"pages": "3"})


@for_each(
    ("pages", "text"), [([["one"], [], ["three"]], "one\f\fthree"), ([["Café “naïve” – 5 €"]], "Café “naïve” – 5 €")]
)
def test_empty_pages_and_characters_beyond_ascii_are_read(pages: list[list[str]], text: str) -> None:
    assert extract_pdf(write_pdf(pages)).text == text


def test_title_and_date_of_the_document() -> None:
    extracted = extract_pdf(write_pdf(PAGES, "/Title (A  title) /CreationDate (D:20240131120000Z)"))
    assert (extracted.title, extracted.metadata["date"]) == ("A title", "2024-01-31")
    assert "date" not in extract_pdf(write_pdf(PAGES, "/CreationDate (D:20249999)")).metadata


@for_each("handler", ["/Standard /V 1 /R 2 /P -4", "/Unknown /V 4"])
def test_an_encrypted_file_is_refused(handler: str) -> None:
    keys = f"/O <{'61' * 32}> /U <{'62' * 32}>"
    encrypted = write_pdf(PAGES, trailer=f"/ID [<00> <00>] /Encrypt << /Filter {handler} {keys} >>")
    with pytest.raises(UnusableError, match="encrypted"):
        extract_pdf(encrypted)


@for_each(
    ("raw", "reason"),
    [
        (write_pdf([[], []]), "a scan without text"),
        *((raw, "damaged PDF") for raw in (b"", b"%PDF-1.4\n%%EOF", b"plain words", write_pdf(PAGES)[:60])),
    ],
)
def test_what_gives_no_text_is_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(UnusableError, match=reason):
        extract_pdf(raw)
