"""Licences that a text and its source state: labels, and spans of where the text says so.

No verdict, and no legal advice. Of source and text neither wins: where both say something, both hold (AND), since no
program can tell which is right. A mistake then costs a document, and never lets one in that somebody reserved. A policy
that trusts one of them goes by that label, `licence_of_source` or `licence_in_text`.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from lmworks.corpus.attributes import Attributes, TaggedSpan
from lmworks.corpus.licence_expressions import LicenceError, is_plain, joined, licences, normalised
from lmworks.corpus.licence_statements import (
    PUBLIC_DOMAIN,
    SCORES,
    Statement,
    in_small_letters,
    plain_words,
    statements,
)
from lmworks.corpus.taggers.pii.scan import find_personal_data
from lmworks.corpus.taggers.tagger import Text, built_in, without_overlaps

LICENCE, OF_SOURCE, IN_TEXT = "licence", "licence_of_source", "licence_in_text"
_NEAR = 200  # characters between two names of one choice
_DEDICATIONS = {"CC0-1.0", "Unlicense", "CC-PDM-1.0"}  # their own words hold phrases of the public domain
_REFERENCE = "LicenseRef-"
_NOTHING = {"", "?", "-", "n/a", "na", "none", "null", "unknown", "unspecified"}  # where a column has to hold something
_CALLED = {"cc0": "CC0-1.0", "pd": PUBLIC_DOMAIN, "public domain": PUBLIC_DOMAIN, "public-domain": PUBLIC_DOMAIN}
_NO_NAME = re.compile(r"[^A-Za-z0-9.]+")


def licence(text: Text) -> Attributes:
    """Several statements hold at once (AND), unless they are one choice: "under either the MIT licence or Apache-2.0".
    An SPDX tag says what the file is under; next to it only the words of a licence itself count. The score of a span is
    how sure its kind is."""
    # Of statements that overlap the surest stays, and of those as sure the one that begins first.
    found = without_overlaps(statements(text.text), lambda each: (-SCORES[each.kind], each.start, -each.end))
    if not found:
        return Attributes()
    spans = tuple(TaggedSpan(f"licence.{each.kind}", each.start, each.end, SCORES[each.kind]) for each in found)
    return Attributes({}, spans, {LICENCE: _expression(text.text, found)})


LICENCES = built_in("licence", licence)


def _expression(text: str, statements: Sequence[Statement]) -> str:
    """AND of choices; what a tag names needs not be said again by a licence's own words, nor what others make
    needless."""
    tagged = any(each.kind == "tag" for each in statements)
    exact = {each.family for each in statements if each.family and not each.vague}
    dedicated = any(each.expression in _DEDICATIONS for each in statements)
    tags = [each.expression for each in statements if each.kind == "tag"]
    named = {name for tag in tags for name in licences(tag)}
    small = in_small_letters(text)
    groups: list[list[Statement]] = []  # of each of which one may be chosen
    for each in statements:
        if (
            each.kind == "tag"
            or (tagged and each.kind != "text")
            or (each.vague and each.family in exact)
            or (dedicated and each.expression == PUBLIC_DOMAIN)
        ):
            continue
        # A choice has "either" before its first name, or "or" before the next one, which is near.
        first, last = (groups[-1][0], groups[-1][-1]) if groups else (each, each)
        leading = plain_words(small[max(0, first.start - 40) : first.start]).split()[-4:]
        between = plain_words(small[last.end : each.start][:_NEAR]).split()[-4:]
        if groups and each.start - last.end <= _NEAR and ("either" in leading or "or" in between):
            groups[-1].append(each)
        else:
            groups.append([each])
    choices = (joined("OR", [each.expression for each in group]) for group in groups)
    return joined("AND", [*tags, *(choice for choice in choices if not set(licences(choice)) <= named)])


def with_source(attributes: Attributes, source: str | None) -> Attributes:
    """Attributes of a text, whose label `licence` is what the text says, with three labels instead, each absent where
    nothing says it."""
    in_text, of_source = attributes.labels.get(LICENCE), licence_of(source or "")
    labels = dict(attributes.labels)
    labels |= {name: said for name, said in ((OF_SOURCE, of_source), (IN_TEXT, in_text)) if said}
    if stated := [said for said in (of_source, in_text) if said]:
        labels[LICENCE] = joined("AND", stated)
    return replace(attributes, labels=labels)


def licence_of(name: str) -> str | None:
    """Write what a source calls its licence as an expression: one of SPDX as it is, a name such as "CC BY 4.0" or an
    address as SPDX has it, and anything else as `LicenseRef-…`, which no group of licences holds. None for "unknown"
    and the like, which say nothing."""
    name = name.strip()
    if name.casefold() in _NOTHING:
        return None
    name = _CALLED.get(name.casefold(), name)
    try:
        if is_plain(name):
            return normalised(name)
    except LicenceError:
        pass
    if stated := licence(Text(f"License: {name}")).labels.get(LICENCE):
        return stated
    for span in reversed(find_personal_data(name)):  # a name of a licence is passed on with the documents
        name = f"{name[: span.start]} {span.rule.rpartition('.')[2].upper()} {name[span.end :]}"
    return _REFERENCE + (_NO_NAME.sub("-", name).strip("-.") or "unnamed")
