"""Under which licence a text says that it is: a label, and marks of where it says so.

No verdict, and no legal advice: what a page says may be about one picture on it, and what it does not say cannot be
found. Which licences may stay is for a policy (`spdx.LicencePolicy`).
"""

from bisect import bisect
from collections.abc import Iterable, Sequence
from itertools import pairwise

from lmworks.data.annotate.licence_rules import PUBLIC_DOMAIN, statements
from lmworks.data.annotate.licence_statement import SCORES, Statement, in_small_letters, plain_words
from lmworks.data.annotate.spdx import Expression, all_of, any_of, licences, parse
from lmworks.data.annotation import Annotations, Mark, Text

_NEAR = 200  # characters between two names of one choice
_DEDICATIONS = {"CC0-1.0", "Unlicense", "CC-PDM-1.0"}  # their own words hold phrases of the public domain


def licence(text: Text) -> Annotations:
    """A label `licence`, an SPDX expression, absent where no licence is stated; and a mark on every statement.

    Several statements hold at once (AND), unless they are one choice: "under either the MIT licence or Apache-2.0". An
    SPDX tag says what the file is under; beside it only the words of a licence itself count.

    Marks, with a score of how sure their kind is: `licence.tag` (SPDX-License-Identifier), `licence.text` (a licence's
    own words), `licence.address` (of a licence), `licence.name` (in a statement), `licence.public_domain` (a phrase).
    """
    found = _without_overlaps(statements(text.text))
    if not found:
        return Annotations()
    marks = tuple(Mark(f"licence.{each.kind}", each.start, each.end, SCORES[each.kind]) for each in found)
    return Annotations({}, marks, {"licence": str(_expression(text.text, _those_that_count(found)))})


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
    choices = [any_of([parse(each.expression) for each in choice]) for choice in _choices(text, found)]
    return all_of([*tags, *(choice for choice in choices if not set(licences(choice)) <= named)])


def _choices(text: str, found: Sequence[Statement]) -> list[list[Statement]]:
    """Statements in groups, of each of which one may be chosen."""
    others = [each for each in found if each.kind != "tag"]
    if not others:
        return []
    small = in_small_letters(text)
    groups = [[others[0]]]
    for before, behind in pairwise(others):
        if behind.start - before.end <= _NEAR and _is_choice(small, groups[-1][0], before, behind):
            groups[-1].append(behind)
        else:
            groups.append([behind])
    return groups


def _is_choice(small: str, first: Statement, before: Statement, behind: Statement) -> bool:
    """Whether "either" stands before the first of the group, or "or" before the next name."""
    leading = plain_words(small[max(0, first.start - 40) : first.start]).split()[-4:]
    between = plain_words(small[before.end : behind.start]).split()[-4:]
    return "either" in leading or "or" in between
