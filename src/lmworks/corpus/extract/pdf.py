"""PDF files: the text layer as PDFium gives it, page by page.

Running heads, page numbers and divided words are left as they are on the page: they are mended later, by repair of
books, which needs the pages and so finds a form feed between each two of them. PDFium is not thread-safe: of one
process only one thread at a time may call this.
"""

import re
from importlib.metadata import version
from typing import TYPE_CHECKING

from lmworks.corpus.documents import Extracted, UnusableError
from lmworks.corpus.extract.charset import normalise_newlines
from lmworks.corpus.extract.dates import iso_date

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument, PdfPage

EXTRACTOR = "pdf"
EXTRACTOR_VERSION = "1"
PAGE_BREAK = "\f"

_MAX_PAGES = 20_000
_MAX_PAGE_CHARACTERS = 500_000  # a page of a newspaper has 30,000
_MAX_CHARACTERS = 100_000_000  # of all pages: each may show the same ones
_MAX_TITLE = 500
# PDFium's marks of a hyphen at the end of a line, which it joins to the next one; of new and of old versions.
_DIVIDED = re.compile("[\ufffe\x02](?:\r?\n)?")
_NOT_TEXT = re.compile(r"[\0-\x08\x0e-\x1f]")
_PASSWORD, _SECURITY = 4, 5  # FPDF_ERR_PASSWORD, FPDF_ERR_SECURITY of fpdfview.h


def extract_pdf(raw: bytes) -> Extracted:
    """The text of all pages, with `PAGE_BREAK` between each two, so that page n is `text.split(PAGE_BREAK)[n - 1]`.

    `metadata`: `pages`; `date` (CreationDate, ISO 8601, as exact as it is stated); `unreadable_pages`, the number of
    those that PDFium cannot load, which are empty here.
    Raises UnusableError for a file that is damaged or encrypted, without any text, or beyond the limits on pages
    (20,000), on characters of a page (500,000) and on those of all (100 million).
    """
    document = _open(raw)
    try:
        pages = _pages(document)
        information = _information(document)
    finally:
        document.close()
    read = [page for page in pages if page is not None]
    if not read:
        raise UnusableError("damaged PDF: no page can be read")
    if not any(page.strip() for page in read):
        raise UnusableError("a scan without text")
    metadata = {"pages": str(len(pages))}
    if len(read) < len(pages):
        metadata["unreadable_pages"] = str(len(pages) - len(read))
    if date := iso_date(information.get("CreationDate", "")):
        metadata["date"] = date
    title = " ".join(_NOT_TEXT.sub(" ", information.get("Title", "")).split())[:_MAX_TITLE]
    extractor_version = f"{EXTRACTOR_VERSION}+pypdfium2-{version('pypdfium2')}"
    text = PAGE_BREAK.join(page or "" for page in pages)
    return Extracted(text, EXTRACTOR, extractor_version, title, metadata)


def _open(raw: bytes) -> "PdfDocument":
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(raw)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) in (_PASSWORD, _SECURITY):
            raise UnusableError("encrypted PDF") from error
        raise UnusableError("damaged PDF, or none") from error
    if (count := len(document)) > _MAX_PAGES:
        document.close()
        raise UnusableError(f"more than {_MAX_PAGES:,} pages ({count:,})")
    return document


def _pages(document: "PdfDocument") -> list[str | None]:
    pages: list[str | None] = []
    left = _MAX_CHARACTERS
    for number in range(len(document)):
        pages.append(_page(document, number))
        left -= len(pages[-1] or "")
        if left < 0:
            raise UnusableError(f"more than {_MAX_CHARACTERS:,} characters on the first {number + 1:,} pages")
    return pages


def _page(document: "PdfDocument", number: int) -> str | None:
    """The text of a page; None when it cannot be loaded."""
    import pypdfium2

    try:
        page = document[number]
    except pypdfium2.PdfiumError:
        return None
    try:
        return _text(page, number)
    except pypdfium2.PdfiumError:
        return None
    finally:
        page.close()


def _text(page: "PdfPage", number: int) -> str:
    """Newlines as `\\n`, and no form feed within a page. A hyphen at the end of a line ends that line again."""
    layer = page.get_textpage()
    try:
        if (count := layer.count_chars()) > _MAX_PAGE_CHARACTERS:
            raise UnusableError(f"more than {_MAX_PAGE_CHARACTERS:,} characters on page {number + 1} ({count:,})")
        text = layer.get_text_bounded()
    finally:
        layer.close()
    text = normalise_newlines(_DIVIDED.sub("-\n", text)).replace(PAGE_BREAK, "\n")
    return _NOT_TEXT.sub("", text).rstrip()


def _information(document: "PdfDocument") -> dict[str, str]:
    """The entries of the document information dictionary; none when their characters are invalid."""
    try:
        return document.get_metadata_dict(skip_empty=True)
    except UnicodeDecodeError:
        return {}
