"""PDF files: the text layer as PDFium gives it, page by page.

Running heads, page numbers and divided words are left as they are on the page: they are mended later, by the modifiers
of books, which need the pages and so find a form feed between each two of them. PDFium is not thread-safe: of one
process only one thread at a time may call this.
"""

import re
from importlib.metadata import version
from typing import TYPE_CHECKING

from lmworks.corpus.documents import Extracted, UnusableError
from lmworks.corpus.extract.charset import iso_date, normalise_newlines

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument

EXTRACTOR = "pdf"
EXTRACTOR_VERSION = "1"
PAGE_BREAK = "\f"

_MAX_TITLE = 500
# PDFium's marks of a hyphen at the end of a line, which it joins to the next one; of new and of old versions.
_DIVIDED = re.compile("[\ufffe\x02](?:\r?\n)?")
_NOT_TEXT = re.compile(r"[\0-\x08\x0e-\x1f]")
_PASSWORD, _SECURITY = 4, 5  # FPDF_ERR_PASSWORD, FPDF_ERR_SECURITY of fpdfview.h


def extract_pdf(raw: bytes) -> Extracted:
    """The text of all pages, with `PAGE_BREAK` between each two, so that page n is `text.split(PAGE_BREAK)[n - 1]`.

    `metadata`: `pages`; `date` (CreationDate, ISO 8601, as exact as it is stated); `unreadable_pages`, the number of
    those that PDFium cannot load, which are empty here.
    Raises UnusableError for a file that is damaged or encrypted, or without any text.
    """
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(raw)
    except pypdfium2.PdfiumError as error:
        is_encrypted = getattr(error, "err_code", None) in (_PASSWORD, _SECURITY)
        raise UnusableError("encrypted PDF" if is_encrypted else "damaged PDF, or none") from error
    try:
        pages = [_page(document, number) for number in range(len(document))]
        try:
            stated = document.get_metadata_dict(skip_empty=True)
        except UnicodeDecodeError:
            stated = {}
    finally:
        document.close()
    unreadable = pages.count(None)
    if unreadable == len(pages):
        raise UnusableError("damaged PDF: no page can be read")
    text = PAGE_BREAK.join(page or "" for page in pages)
    if not text.strip():
        raise UnusableError("a scan without text")
    metadata = {"pages": str(len(pages))}
    if unreadable:
        metadata["unreadable_pages"] = str(unreadable)
    if date := iso_date(stated.get("CreationDate", "")):
        metadata["date"] = date
    title = " ".join(_NOT_TEXT.sub(" ", stated.get("Title", "")).split())[:_MAX_TITLE]
    return Extracted(text, EXTRACTOR, f"{EXTRACTOR_VERSION}+pypdfium2-{version('pypdfium2')}", title, metadata)


def _page(document: "PdfDocument", number: int) -> str | None:
    """The text of a page; None when it cannot be loaded. Newlines as `\\n`, and no form feed within. A hyphen at the
    end of a line ends that line again."""
    import pypdfium2

    try:
        text = document[number].get_textpage().get_text_bounded()
    except pypdfium2.PdfiumError:
        return None
    text = normalise_newlines(_DIVIDED.sub("-\n", text)).replace(PAGE_BREAK, "\n")
    return _NOT_TEXT.sub("", text).rstrip()
