"""The licence that a policy goes by: what the source of a document says of it, and what its text says, together.

Neither wins: where both say something, both hold (AND), so a policy has to allow both. The source may be wrong about
one file of many, and a text may speak of one picture in it; which of them is right no program can tell. A mistake then
costs a document, and never lets one in that somebody reserved. A policy that trusts one of them goes by that label:
`licence_of_source` or `licence_in_text` instead of `licence`.
"""

import re
from dataclasses import replace

from lmworks.data.annotate.licence import licence
from lmworks.data.annotate.licence_rules import PUBLIC_DOMAIN
from lmworks.data.annotate.pii.scan import find_personal_data
from lmworks.data.annotate.spdx import Expression, Licence, LicenceError, all_of, is_frequent, licences, parse
from lmworks.data.annotation import Annotations, Text

LICENCE, OF_SOURCE, IN_TEXT = "licence", "licence_of_source", "licence_in_text"
_REFERENCE = "LicenseRef-"
_NOTHING = {"", "?", "-", "n/a", "na", "none", "null", "unknown", "unspecified"}  # where a column has to hold something
_CALLED = {"cc0": "CC0-1.0", "pd": PUBLIC_DOMAIN, "public domain": PUBLIC_DOMAIN, "public-domain": PUBLIC_DOMAIN}
_NO_NAME = re.compile(r"[^A-Za-z0-9.]+")


def join_licences(annotations: Annotations, source: str | None) -> Annotations:
    """Annotations of a text, whose label `licence` is what the text says, with three labels instead, each absent where
    nothing says it: `licence_in_text`, `licence_of_source`, and `licence`, the two of them together."""
    labels = dict(annotations.labels)
    told: list[Expression] = []
    if source and (called := licence_of(source)):
        told.append(called)
        labels[OF_SOURCE] = str(told[0])
    if LICENCE in labels:
        labels[IN_TEXT] = labels[LICENCE]
        told.append(parse(labels[IN_TEXT]))
    if told:
        labels[LICENCE] = str(all_of(told))
    return replace(annotations, labels=labels)


def licence_of(told: str) -> Expression | None:
    """What a source calls its licence, as an expression: one of SPDX as it is, a name such as "CC BY 4.0" or an address
    as SPDX has it, and anything else as `LicenseRef-…`, which no group of licences holds. None for "unknown" and the
    like, which say nothing."""
    told = told.strip()
    if told.casefold() in _NOTHING:
        return None
    told = _CALLED.get(told.casefold(), told)
    try:
        found = parse(told)
        if all(is_frequent(each) or each.name.startswith((_REFERENCE, "DocumentRef-")) for each in licences(found)):
            return found
    except LicenceError:
        found = None
    stated = licence(Text(f"License: {told}")).labels.get(LICENCE)
    if stated is not None:
        return parse(stated)
    if found is not None and any(sign.isdigit() for sign in told):  # a name of SPDX's that is not among the frequent
        return found
    for mark in reversed(find_personal_data(told)):  # a name of a licence is passed on with the documents
        told = f"{told[: mark.start]} {mark.rule.rpartition('.')[2].upper()} {told[mark.end :]}"
    return Licence(_REFERENCE + (_NO_NAME.sub("-", told).strip("-.") or "unnamed"))
