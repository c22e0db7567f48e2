"""Markdown, reStructuredText and plain text: the decoded text as it is, and its title.

The structure of these formats is found later, from this very text, so that a span points into what the author wrote.
"""

import re
from collections.abc import Callable
from typing import Any

from lmworks.corpus.documents import Extracted, UnusableError
from lmworks.corpus.extract.charset import decode

EXTRACTOR_VERSION = "2"

# A line over a line of one repeated punctuation mark, which may also stand above it; or a PEP's "Title:" field.
_REST_TITLE = re.compile(
    r"^(?:(?P<over>([=\-~^\"'*+#])\2{2,})\n)? ?(?P<title>\S[^\n]{0,120})\n(?P<under>([=\-~^\"'*+#])\5{2,})[ ]*$", re.M
)
_UNDERLINE = re.compile(r"\n([=\-~^\"'*+#])\1{2,}[ ]*$", re.M)
_TITLE_FIELD = re.compile(r"(?:[A-Z][\w-]*+:[^\n]*+\n(?:[ \t]++[^\n]*+\n)*+)*?Title:[ \t]*(?P<title>[^\n]+)$", re.M)
_TITLE_WITHIN = 200_000  # characters in which a title is looked for: the parser takes up to 20 µs for each
_LONGEST_TITLE = 1_000


def extract_markdown(raw: bytes) -> Extracted:
    """Markdown, titled by its first heading of the highest rank."""
    return _extract(raw, "markdown", markdown_title)


def extract_rest(raw: bytes) -> Extracted:
    """reStructuredText, titled by its first underlined line."""
    return _extract(raw, "rest", rest_title)


def extract_plain(raw: bytes) -> Extracted:
    """Plain text, titled by an underlined line as well."""
    return _extract(raw, "plain", rest_title)


def _extract(raw: bytes, extractor: str, title: Callable[[str], str]) -> Extracted:
    """Raises UnusableError when nothing but white space can be decoded."""
    decoded = decode(raw)
    if not decoded.text.strip():
        raise UnusableError("empty")
    return Extracted(decoded.text, extractor, EXTRACTOR_VERSION, title(decoded.text), decoded.metadata)


def markdown_title(text: str) -> str:
    """The first heading of the highest rank, without its inline markup; empty when there is no heading.

    Of a long text the first 200,000 characters are looked at, of a long heading the first 1,000 are taken.
    """
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").disable("inline")  # of all the text but the heading
    references: dict[str, Any] = {}
    tokens = parser.parse(text[:_TITLE_WITHIN], references)
    headings = [(token.tag, number) for number, token in enumerate(tokens) if token.type == "heading_open"]
    if not headings:
        return ""
    heading = tokens[min(headings)[1] + 1].content[:_LONGEST_TITLE]
    (inline,) = parser.enable("inline").parseInline(heading, references)
    return " ".join("".join(child.content or " " for child in inline.children or ()).split())


def rest_title(text: str) -> str:
    """The first underlined line, or a leading `Title:` field; empty when there is neither."""
    found = _TITLE_FIELD.match(text)
    if found is None and _UNDERLINE.search(text):  # which is much faster to see than a title
        titles = _REST_TITLE.finditer(text)
        found = next((each for each in titles if len(each["under"]) >= min(4, len(each["title"].strip()))), None)
    return found["title"].strip() if found else ""
