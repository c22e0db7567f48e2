"""HTML pages: the main text as Markdown, through trafilatura (Barbaresi, 2021), without navigation and advertising."""

import re

from lmworks.data.extract import Extracted, UnusableError, decode, normalise_newlines

# The HTML standard looks for a declared encoding in the first 1024 bytes (section 13.2.3.2, prescan).
_DECLARED_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_\-]+)", re.I)


def extract_html(raw: bytes) -> Extracted:
    """Headings, lists, tables, code and emphasis are kept as Markdown; nothing is fetched.

    Raises UnusableError for a page without main text.
    """
    import trafilatura

    declared = _DECLARED_CHARSET.search(raw[:1024])
    html, encoding = decode(raw, declared[1].decode("ascii") if declared else None)
    tree = trafilatura.load_html(html) if html.strip() else None
    if tree is None:
        raise UnusableError("empty" if not html.strip() else "no HTML that can be parsed")
    title = " ".join(str(tree.findtext(".//title") or "").split())  # read first: the extraction consumes the tree
    text = trafilatura.extract(
        tree,
        output_format="markdown",
        favor_recall=True,
        include_comments=False,
        include_formatting=True,
        include_tables=True,
    )
    if not text or not text.strip():
        raise UnusableError("a page without main text")
    return Extracted(normalise_newlines(text), "trafilatura", trafilatura.__version__, title, {"encoding": encoding})
