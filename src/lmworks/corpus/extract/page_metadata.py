"""What a page states about itself: title, date, language and licence.

Only its own statements count: elements and attributes made for them, and JSON-LD (schema.org) that is about the page.
Where a page states several licences, none is taken, since each may be that of one picture.
"""

import json
import re
from collections.abc import Iterator, Mapping
from html import unescape
from typing import Any

from lmworks.corpus.extract.charset import iso_date

_HEAD = 300_000  # characters of a page in which its head is looked for
_MOST_JSON = 500_000  # characters of one JSON-LD script
_MOST = 50  # places of one kind that are looked at
_TAG = re.compile(r"<(html|link|meta)\b((?:[^<>\"']{1,1000}+|\"[^\"]{0,1000}+\"|'[^']{0,1000}+'){1,100}+)>", re.I)
_TITLE = re.compile(r"<title\b[^<>]{0,200}>([^<]{0,2000})", re.I)
_ATTRIBUTE = re.compile(r"([\w:.-]{1,40})\s{0,9}=\s{0,9}(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8}){0,3}")
# Where each is stated, in the order of trust: in `meta` by its name, the elements `html` and `title`, and JSON-LD.
_TITLES = ("<title>", "og:title", "twitter:title", "dc.title", "json headline", "json name")
_DATES = (
    "article:published_time", "og:published_time", "datepublished", "date", "dc.date", "dc.date.issued",
    "dcterms.date", "dcterms.issued", "dcterms.created", "citation_publication_date", "parsely-pub-date",
    "sailthru.date", "pubdate", "publish-date", "publication_date", "publishdate", "json datePublished",
)  # fmt: skip
_LANGUAGES = ("html lang", "html xml:lang", "content-language", "og:locale", "dc.language", "json inLanguage")
_LICENCES = ("license", "dc.rights.license", "dcterms.license", "dc.license")
_GENERATORS = re.compile(
    "asciidoc|docbook|docusaurus|docutils|dokuwiki|doxygen|gi-docgen|gtk-doc|haddock|javadoc|jsdoc|latex2html|makeinfo"
    "|man2html|mandoc|mdbook|mediawiki|mkdocs|pdoc|publican|rustdoc|sphinx|texi|yard",
    re.I,
)
_PARTS = ("chapter", "contents", "index", "next", "prev", "section", "up")  # links of HTML 4.01, section 6.12
_ELSEWHERE = re.compile(r"[\w+.-]+:|[/?#]|\Z")  # beginnings of addresses that lead to no page beside this one
_CODE = re.compile(r"<(?:code|kbd|pre|samp|tt)\b[^<>]*>(?!\s*</)", re.I)
_IDENTIFIER = re.compile(r"\b[A-Za-z]\w*?(?:_\w+|::\w+|\(\)|[a-z][A-Z]\w*)")
_BRAND = re.compile(r"(?:\w|[A-Z][a-z]+)[A-Z][a-z]+")  # YouTube, eBay
_PAGES = ("article", "page", "posting", "report", "recipe")  # what the type of a JSON-LD node about a page ends in


def page_metadata(html: str) -> dict[str, str]:
    """`title`, `date` (ISO 8601), `language` (as in HTML's `lang`), `licence` (SPDX) where the page states them; and
    `licence_address` for a licence that is none of SPDX's."""
    stated = {**_head(html), **_json_ld(html)}
    of_elements = (tag for tag in _tags_with(html, "datePublished") if tag.get("itemprop") == "datePublished")
    dates = (
        *(stated.get(name, "") for name in _DATES),
        *(tag.get("datetime") or tag.get("content", "") for tag in of_elements),
    )
    languages = (stated.get(name, "").replace("_", "-") for name in _LANGUAGES)
    found = {
        "title": next((stated[name] for name in _TITLES if stated.get(name)), ""),
        "date": next(filter(None, (iso_date(date.replace("/", "-")) for date in dates)), ""),
        "language": next(filter(_LANGUAGE.fullmatch, languages), ""),
        **_licence(html, stated),
    }
    return {name: value for name, value in found.items() if value}


def is_manual(html: str, text: str) -> bool:
    """Whether a page with this main text is one of a manual or a reference.

    It says so by its generator or by links to other parts of one document, beside it; or it holds several pieces of
    code, or several identifiers, not all such as names of brands, that are a tenth of its characters.
    """
    stated = _head(html)
    if _GENERATORS.search(stated.get("generator", "")):
        return True
    if any(not _ELSEWHERE.match(stated.get(f"link {part}", "")) for part in _PARTS):
        return True
    identifiers = _IDENTIFIER.findall(text)
    share = sum(map(len, identifiers)) / max(1, sum(map(len, text.split())))
    is_code = len(set(identifiers)) > 1 and not all(map(_BRAND.fullmatch, identifiers))
    return len(_CODE.findall(html)) > 2 or (share > 0.1 and is_code)


def _head(html: str) -> dict[str, str]:
    """The title, the attributes of `html`, the content of each `meta` by its name, and where a `link` leads, by "link"
    and what it is to. The first of each name counts."""
    head = html[:_HEAD]
    if end := re.search(r"</head|<body", head, re.I):
        head = head[: end.start()]
    title = _TITLE.search(head)
    stated = {"<title>": _text(title[1])} if title else {}
    for tag, inside in _TAG.findall(head):
        attributes = _attributes(inside)
        if tag.lower() == "html":
            for name, value in attributes.items():
                stated.setdefault(f"html {name}", value)
            continue
        for relation in attributes.get("rel", "").lower().split():
            stated.setdefault(f"link {relation}", attributes.get("href", ""))
        for key in ("property", "name", "itemprop", "http-equiv"):
            if attributes.get(key) and attributes.get("content"):
                stated.setdefault(attributes[key].lower(), attributes["content"])
    return stated


def _attributes(tag: str) -> dict[str, str]:
    """The first of each name counts."""
    return {
        name.lower(): _text(double or single or bare)
        for name, double, single, bare in reversed(_ATTRIBUTE.findall(tag))
    }


def _licence(html: str, stated: Mapping[str, str]) -> dict[str, str]:
    from lmworks.corpus.licence_statements import statements

    tags = (tag for word in ("license", "licence") for tag in _tags_with(html, word))
    addresses = {tag.get("href", "") for tag in tags if {"license", "licence"} & set(tag.get("rel", "").split())}
    addresses.add(next((stated[name] for name in _LICENCES if name in stated), ""))
    addresses.add(stated.get("json license", ""))
    told = {
        address.removesuffix("/"): {each.expression for each in statements(address)} for address in addresses - {""}
    }
    expressions = set().union(*told.values())
    if len(expressions) == 1 and all(told.values()):
        return {"licence": expressions.pop()}
    return {"licence_address": next(iter(told))} if len(told) == 1 else {}


def _tags_with(html: str, word: str) -> Iterator[dict[str, str]]:
    """The attributes of tags of at most some thousand characters in which this word stands."""
    place = -1
    for _ in range(_MOST):
        place = html.find(word, place + 1)
        if place < 0:
            return
        start = html.rfind("<", max(0, place - 2000), place)
        end = html.find(">", place, place + 2000)
        if 0 <= start < end:
            yield _attributes(html[start:end])


def _json_ld(html: str) -> dict[str, str]:
    """What the first node that is about a page says of it, each by "json" and its key."""
    place = 0
    for _ in range(_MOST):
        place = html.find("application/ld+json", place)
        start, end = html.find(">", place) + 1, html.find("</script", place)
        if place < 0 or end < 0:
            break
        place = end
        try:
            found = json.loads(html[start:end]) if end - start <= _MOST_JSON else []
        except (ValueError, RecursionError):
            continue
        for node in [each for top in _nodes(found) for each in (top, *_nodes(top.get("@graph", [])))]:
            kinds = node.get("@type")
            if str(kinds[-1] if isinstance(kinds, list) and kinds else kinds).lower().endswith(_PAGES):
                return {f"json {key}": _text(value) for key, value in node.items() if isinstance(value, str)}
    return {}


def _nodes(found: Any) -> list[dict[str, Any]]:
    return [node for node in (found if isinstance(found, list) else [found]) if isinstance(node, dict)]


def _text(value: str) -> str:
    return " ".join(unescape(value).split())
