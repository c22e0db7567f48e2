"""HTML pages: the main text as Markdown, without navigation and advertising."""

import re

from lmworks.data.extract import Extracted, UnusableError, decode, normalise_newlines
from lmworks.data.web.page import extract_main

# The HTML standard looks for a declared encoding in the first 1024 bytes (section 13.2.3.2, prescan).
_DECLARED_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_\-]+)", re.I)


EXTRACTOR_VERSION = "1"


def extract_html(raw: bytes) -> Extracted:
    """Headings, lists, tables, code and emphasis are kept as Markdown; nothing is fetched.

    Raises UnusableError for a page without main text, or one that can be parsed in part only.
    """
    declared = _DECLARED_CHARSET.search(raw[:1024])
    html, encoding = decode(raw, declared[1].decode("ascii") if declared else None)
    if not html.strip():
        raise UnusableError("empty")
    page = extract_main(html, headline=True)
    if not page.markdown.strip():
        raise UnusableError("a page without main text")
    text = normalise_newlines(page.markdown)
    return Extracted(text, "web-page", EXTRACTOR_VERSION, page.title, {"encoding": encoding})
