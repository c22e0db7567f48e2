"""HTML pages: the main text as Markdown, or all text, and what the page states about itself."""

from lmworks.corpus.documents import Extracted, UnusableError
from lmworks.corpus.extract.charset import decode_html
from lmworks.corpus.extract.html_to_markdown import xhtml_to_markdown
from lmworks.corpus.extract.main_content import Mode, extract_main
from lmworks.corpus.extract.page_metadata import is_manual, page_metadata

EXTRACTOR_VERSION = "3"


def extract_html(raw: bytes, charset: str | None = None) -> Extracted:
    """The main text: without navigation, advertising, comments and what else stands around it.

    Headings, lists, tables, code and emphasis are kept as Markdown; nothing is fetched. `charset` is what came with the
    page, in the header of HTTP. `metadata`: `encoding`; `date`, `language`, `licence` (SPDX) or `licence_address` where
    the page states them; `kind`, which is `manual`, of documentation. Raises UnusableError for a page without main
    text, or one that can be parsed in part only.
    """
    return _extract(raw, charset, "default")


def extract_html_fast(raw: bytes, charset: str | None = None) -> Extracted:
    """The same, without asking trafilatura, in a third of the time."""
    return _extract(raw, charset, "fast")


def extract_html_whole(raw: bytes, charset: str | None = None) -> Extracted:
    """All text of the page that is not hidden, in its order."""
    return _extract(raw, charset, None)


def _extract(raw: bytes, charset: str | None, mode: Mode | None) -> Extracted:
    decoded = decode_html(raw, charset)
    html = decoded.text
    if not html.strip():
        raise UnusableError("empty")
    stated = page_metadata(html)
    title = stated.pop("title", "")
    if mode is None:
        markdown, reason = xhtml_to_markdown(html), "a page without text"
    else:
        page = extract_main(html, mode, headline=True)
        markdown, reason = page.markdown, "a page without main text"
    if not markdown.strip():
        raise UnusableError(reason)
    told = {} if mode == "default" else {"web": mode or "whole"}
    told |= {"kind": "manual"} if is_manual(html, markdown) else {}
    return Extracted(markdown, "web-page", EXTRACTOR_VERSION, title, {**decoded.metadata, **stated, **told})
