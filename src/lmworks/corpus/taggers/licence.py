"""Under which licence a text and its source say that it is: labels, and marks of where the text says so.

No verdict, and no legal advice: what a page says may be about one picture on it, and what it does not say cannot be
found. Which licences may stay is for a policy (`licence_expressions.LicencePolicy`).

Of source and text neither wins: where both say something, both hold (AND), so a policy has to allow both. The source
may be wrong about one file of many, and a text may speak of one picture in it; which of them is right no program can
tell. A mistake then costs a document, and never lets one in that somebody reserved. A policy that trusts one of them
goes by that label: `licence_of_source` or `licence_in_text` instead of `licence`.
"""

import re
from bisect import bisect
from collections.abc import Iterable, Sequence
from dataclasses import replace

from lmworks.corpus.attributes import Attributes, TaggedSpan
from lmworks.corpus.licence_expressions import (
    Expression,
    Licence,
    LicenceError,
    is_frequent,
    join,
    licences,
    parse,
)
from lmworks.corpus.licence_statements import (
    PUBLIC_DOMAIN,
    SCORES,
    Statement,
    in_small_letters,
    plain_words,
    statements,
)
from lmworks.corpus.taggers.pii.scan import find_personal_data
from lmworks.corpus.taggers.tagger import Text

LICENCE, OF_SOURCE, IN_TEXT = "licence", "licence_of_source", "licence_in_text"
_NEAR = 200  # characters between two names of one choice
_DEDICATIONS = {"CC0-1.0", "Unlicense", "CC-PDM-1.0"}  # their own words hold phrases of the public domain
_REFERENCE = "LicenseRef-"
_NOTHING = {"", "?", "-", "n/a", "na", "none", "null", "unknown", "unspecified"}  # where a column has to hold something
_CALLED = {"cc0": "CC0-1.0", "pd": PUBLIC_DOMAIN, "public domain": PUBLIC_DOMAIN, "public-domain": PUBLIC_DOMAIN}
_NO_NAME = re.compile(r"[^A-Za-z0-9.]+")


def licence(text: Text) -> Attributes:
    """A label `licence`, an SPDX expression, absent where no licence is stated; and a mark on every statement.

    Several statements hold at once (AND), unless they are one choice: "under either the MIT licence or Apache-2.0". An
    SPDX tag says what the file is under; beside it only the words of a licence itself count.

    Marks, with a score of how sure their kind is: `licence.tag` (SPDX-License-Identifier), `licence.text` (a licence's
    own words), `licence.address` (of a licence), `licence.name` (in a statement), `licence.public_domain` (a phrase).
    """
    found = _without_overlaps(statements(text.text))
    if not found:
        return Attributes()
    marks = tuple(TaggedSpan(f"licence.{each.kind}", each.start, each.end, SCORES[each.kind]) for each in found)
    return Attributes({}, marks, {LICENCE: str(_expression(text.text, _those_that_count(found)))})


def _without_overlaps(found: Iterable[Statement]) -> list[Statement]:
    """In the order of the text; of statements that overlap the surest, and of those the one that begins first."""
    kept: list[Statement] = []
    for each in sorted(found, key=lambda each: (-SCORES[each.kind], each.start, -each.end)):
        place = bisect(kept, each.start, key=lambda other: other.start)
        free_before = place == 0 or kept[place - 1].end <= each.start
        free_behind = place == len(kept) or each.end <= kept[place].start
        if free_before and free_behind:
            kept.insert(place, each)
    return kept


def _those_that_count(found: Sequence[Statement]) -> list[Statement]:
    """Without those that others make needless; never none."""
    tagged = any(each.kind == "tag" for each in found)
    exact = {each.family for each in found if each.family and not each.vague}
    dedicated = any(each.expression in _DEDICATIONS for each in found)
    return [
        each
        for each in found
        if not (tagged and each.kind not in ("tag", "text"))
        and not (each.vague and each.family in exact)
        and not (dedicated and each.expression == PUBLIC_DOMAIN)
    ]


def _expression(text: str, found: Sequence[Statement]) -> Expression:
    """AND of choices; what a tag names needs not be said again by a licence's own words."""
    tags = [parse(each.expression) for each in found if each.kind == "tag"]
    named = {each for tag in tags for each in licences(tag)}
    small = in_small_letters(text)
    groups: list[list[Statement]] = []  # of each of which one may be chosen
    for each in found:
        if groups and each.kind != "tag" and _is_choice(small, groups[-1], each):
            groups[-1].append(each)
        elif each.kind != "tag":
            groups.append([each])
    choices = (join("OR", [parse(each.expression) for each in group]) for group in groups)
    return join("AND", [*tags, *(choice for choice in choices if not set(licences(choice)) <= named)])


def _is_choice(small: str, group: Sequence[Statement], each: Statement) -> bool:
    """Whether "either" stands before the first of the group, or "or" before the next name, which is near."""
    leading = plain_words(small[max(0, group[0].start - 40) : group[0].start]).split()[-4:]
    between = plain_words(small[group[-1].end : each.start][:_NEAR]).split()[-4:]
    return each.start - group[-1].end <= _NEAR and ("either" in leading or "or" in between)


# ---------------------------------------------------------------------------------------------------------------------
# What the source says


def join_licences(annotations: Attributes, source: str | None) -> Attributes:
    """Annotations of a text, whose label `licence` is what the text says, with three labels instead, each absent where
    nothing says it: `licence_in_text`, `licence_of_source`, and `licence`, the two of them together."""
    labels = dict(annotations.labels)
    stated: list[Expression] = []
    if source and (called := licence_of(source)):
        stated.append(called)
        labels[OF_SOURCE] = str(called)
    if LICENCE in labels:
        labels[IN_TEXT] = labels[LICENCE]
        stated.append(parse(labels[IN_TEXT]))
    if stated:
        labels[LICENCE] = str(join("AND", stated))
    return replace(annotations, labels=labels)


def licence_of(name: str) -> Expression | None:
    """What a source calls its licence, as an expression: one of SPDX as it is, a name such as "CC BY 4.0" or an address
    as SPDX has it, and anything else as `LicenseRef-…`, which no group of licences holds. None for "unknown" and the
    like, which say nothing."""
    name = name.strip()
    if name.casefold() in _NOTHING:
        return None
    name = _CALLED.get(name.casefold(), name)
    try:
        found = parse(name)
        if all(is_frequent(each) or each.name.startswith((_REFERENCE, "DocumentRef-")) for each in licences(found)):
            return found
    except LicenceError:
        found = None
    stated = licence(Text(f"License: {name}")).labels.get(LICENCE)
    if stated is not None:
        return parse(stated)
    if found is not None and any(sign.isdigit() for sign in name):  # a name of SPDX's that is not among the frequent
        return found
    for mark in reversed(find_personal_data(name)):  # a name of a licence is passed on with the documents
        name = f"{name[: mark.start]} {mark.rule.rpartition('.')[2].upper()} {name[mark.end :]}"
    return Licence(_REFERENCE + (_NO_NAME.sub("-", name).strip("-.") or "unnamed"))
