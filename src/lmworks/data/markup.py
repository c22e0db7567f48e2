"""Markdown, reStructuredText and plain text: the decoded text as it is, and its title.

The structure of these formats is found later, from this very text, so that a span points into what the author wrote.
"""

import re

from lmworks.data.extract import Extracted, UnusableError, decode

EXTRACTOR_VERSION = "1"

# A line over a line of one repeated punctuation mark, which may also stand above it; or a PEP's "Title:" field.
_REST_TITLE = re.compile(
    r"^(?:(?P<over>([=\-~^\"'*+#])\2{2,})\n)? ?(?P<title>\S[^\n]{0,120})\n(?P<under>([=\-~^\"'*+#])\5{2,})[ ]*$", re.M
)
_TITLE_FIELD = re.compile(r"\A(?:[A-Z][\w-]*:[^\n]*\n(?:[ \t]+[^\n]*\n)*)*?Title:[ \t]*(?P<title>[^\n]+)$", re.M)


def extract_markdown(raw: bytes) -> Extracted:
    """Raises UnusableError when nothing but white space can be decoded."""
    text, encoding = _text(raw)
    return Extracted(text, "markdown", EXTRACTOR_VERSION, markdown_title(text), {"encoding": encoding})


def extract_rest(raw: bytes) -> Extracted:
    """Raises UnusableError when nothing but white space can be decoded."""
    text, encoding = _text(raw)
    return Extracted(text, "rest", EXTRACTOR_VERSION, rest_title(text), {"encoding": encoding})


def extract_plain(raw: bytes) -> Extracted:
    """Raises UnusableError when nothing but white space can be decoded."""
    text, encoding = _text(raw)
    return Extracted(text, "plain", EXTRACTOR_VERSION, rest_title(text), {"encoding": encoding})


def markdown_title(text: str) -> str:
    """The first heading of the highest rank, without its inline markup; empty when there is no heading."""
    from markdown_it import MarkdownIt

    tokens = MarkdownIt("commonmark").parse(text)
    headings = [
        (int(opening.tag[1:]), number) for number, opening in enumerate(tokens) if opening.type == "heading_open"
    ]
    if not headings:
        return ""
    inline = tokens[min(headings)[1] + 1]
    return " ".join("".join(child.content or " " for child in inline.children or ()).split())


def rest_title(text: str) -> str:
    """The first underlined line, or a leading `Title:` field; empty when there is neither."""
    found = _TITLE_FIELD.search(text) or next(
        (match for match in _REST_TITLE.finditer(text) if len(match["under"]) >= min(4, len(match["title"].strip()))),
        None,
    )
    return found["title"].strip() if found else ""


def _text(raw: bytes) -> tuple[str, str]:
    text, encoding = decode(raw)
    if not text.strip():
        raise UnusableError("empty")
    return text, encoding
