"""Statements of a page about itself: title, date, language and licence.

Only its own statements count: elements and attributes made for them, and JSON-LD (schema.org) that is about the page.
Where a page states several licences, none is taken, since each may be that of one picture.
"""

import json
import re
from collections.abc import Iterator, Mapping
from html import unescape
from typing import Any

from lmworks.corpus.extract.charset import iso_date

_MOST_JSON = 500_000  # characters of one JSON-LD script
_MOST = 50  # JSON-LD scripts that are looked at
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
_ELSEWHERE = re.compile(r"[\w+.-]+:|[/?#]|\Z")  # beginnings of addresses that lead to no page next to this one
_IDENTIFIER = re.compile(r"\b[A-Za-z]\w*?(?:_\w+|::\w+|\(\)|[a-z][A-Z]\w*)")
_BRAND = re.compile(r"(?:\w|[A-Z][a-z]+)[A-Z][a-z]+")  # YouTube, eBay
_PAGES = ("article", "page", "posting", "report", "recipe")  # what the type of a JSON-LD node about a page ends in


def page_metadata(tree: Any) -> dict[str, str]:
    """`title`, `date` (ISO 8601), `language` (as in HTML's `lang`), `licence` (SPDX) where the page states them;
    `licence_address` for a licence that is none of SPDX's; and `kind`, which is `manual`, for one by its markup.

    A manual's page says so by its generator or by links to other parts of one document, next to it; or it holds several
    pieces of code.
    """
    head = _head(tree)
    stated = head | next(_json_ld(tree), {})
    of_elements = tree.xpath("//*[@itemprop='datePublished']")
    dates = (
        *(stated.get(name, "") for name in _DATES),
        *(element.get("datetime") or element.get("content", "") for element in of_elements),
    )
    languages = (stated.get(name, "").replace("_", "-") for name in _LANGUAGES)
    pieces = [code for code in tree.iter("code", "kbd", "pre", "samp", "tt") if len(code) or (code.text or "").strip()]
    is_of_manual = (
        _GENERATORS.search(head.get("generator", "")) is not None
        or any(not _ELSEWHERE.match(head.get(f"link {part}", "")) for part in _PARTS)
        or len(pieces) > 2
    )
    found = {
        "title": next((stated[name] for name in _TITLES if stated.get(name)), ""),
        "date": next(filter(None, (iso_date(date.replace("/", "-")) for date in dates)), ""),
        "language": next(filter(_LANGUAGE.fullmatch, languages), ""),
        "kind": "manual" if is_of_manual else "",
        **_licence(tree, stated),
    }
    return {name: value for name, value in found.items() if value}


def names_code(text: str) -> bool:
    """Whether a tenth of the characters are several identifiers, not all such as names of brands, as in a reference."""
    identifiers = _IDENTIFIER.findall(text)
    share = sum(map(len, identifiers)) / max(1, sum(map(len, text.split())))
    return share > 0.1 and len(set(identifiers)) > 1 and not all(map(_BRAND.fullmatch, identifiers))


def _head(tree: Any) -> dict[str, str]:
    """The title, the attributes of `html`, the content of each `meta` by its name, and where a `link` leads, by "link"
    and what it is to. The first of each name counts."""
    stated = {f"html {name}": value for name, value in tree.items()}
    for element in tree.xpath("/html/head//title | /html/head//link | /html/head//meta"):
        if element.tag == "title":
            stated.setdefault("<title>", element.text or "")
        for relation in element.get("rel", "").lower().split():
            stated.setdefault(f"link {relation}", element.get("href", ""))
        for key in ("property", "name", "itemprop", "http-equiv"):
            if element.get(key) and element.get("content"):
                stated.setdefault(element.get(key).lower(), element.get("content"))
    return {name: " ".join(value.split()) for name, value in stated.items()}


def _licence(tree: Any, stated: Mapping[str, str]) -> dict[str, str]:
    from lmworks.corpus.licence_statements import statements

    links = (link for link in tree.xpath("//*[@rel][@href]") if {"license", "licence"} & set(link.get("rel").split()))
    addresses = {" ".join(link.get("href").split()) for link in links}
    addresses.add(next((stated[name] for name in _LICENCES if name in stated), ""))
    addresses.add(stated.get("json license", ""))
    found = {
        address.removesuffix("/"): {each.expression for each in statements(address)} for address in addresses - {""}
    }
    expressions = set().union(*found.values())
    if len(expressions) == 1 and all(found.values()):
        return {"licence": expressions.pop()}
    return {"licence_address": next(iter(found))} if len(found) == 1 else {}


def _json_ld(tree: Any) -> Iterator[dict[str, str]]:
    """The texts in each node that is about a page, each by "json" and its key."""
    for script in tree.xpath("//script[contains(@type, 'ld+json')]")[:_MOST]:
        try:
            found = json.loads(script.text) if script.text and len(script.text) <= _MOST_JSON else []
        except (ValueError, RecursionError):
            continue
        for node in [each for top in _nodes(found) for each in (top, *_nodes(top.get("@graph", [])))]:
            kinds = node.get("@type")
            if str(kinds[-1] if isinstance(kinds, list) and kinds else kinds).lower().endswith(_PAGES):
                values = {key: value for key, value in node.items() if isinstance(value, str)}
                yield {f"json {key}": " ".join(unescape(value).split()) for key, value in values.items()}


def _nodes(found: Any) -> list[dict[str, Any]]:
    return [node for node in (found if isinstance(found, list) else [found]) if isinstance(node, dict)]
