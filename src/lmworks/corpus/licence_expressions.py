"""Licence expressions of SPDX (specification 3.0, annex on licence expressions), and which of them a policy allows.

    MIT OR (GPL-2.0-only WITH Classpath-exception-2.0 AND CC-BY-4.0)

`+` binds closest ("this version or a later one"), then WITH (an exception, which adds permissions), AND (all licences
are to be kept at once), OR (the user chooses one).
"""

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import partial
from typing import Literal

Verdict = Literal["allowed", "denied", "unknown"]
Operator = Literal["AND", "OR"]


class LicenceError(ValueError):
    """A text that is no licence expression; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Licence:
    """One licence. `later` is the `+` behind its name; those of GNU say -only or -or-later in the name instead."""

    name: str
    later: bool = False
    exception: str = ""

    def __str__(self) -> str:
        return f"{self.name}{'+' * self.later}{f' WITH {self.exception}' if self.exception else ''}"


@dataclass(frozen=True, slots=True)
class Joined:
    """Two or more terms that hold at once (AND), or of which one may be chosen (OR)."""

    operator: Operator
    terms: "tuple[Expression, ...]"

    def __str__(self) -> str:
        inner = (
            f"({term})" if isinstance(term, Joined) and term.operator != self.operator == "AND" else str(term)
            for term in self.terms
        )
        return f" {self.operator} ".join(inner)


Expression = Licence | Joined

_NAME = re.compile(r"((?:DocumentRef-[A-Za-z0-9.\-]+:)?[A-Za-z0-9.\-]+)(\+?)")
_OPERATORS = {"AND", "OR", "WITH", "and", "or", "with"}
_DEEPEST = 40  # parentheses: deeper ones are no licence, and would exhaust the stack
_GNU = re.compile(r"((?:A|L)?GPL|GFDL)-(\d\.\d)(?:-(only|or-later))?", re.IGNORECASE)
# Names are the same whatever their case; frequent ones are written as in SPDX's list of licences.
_FREQUENT = """
0BSD Apache-1.1 Apache-2.0 Artistic-2.0 BSD-2-Clause BSD-3-Clause BSD-4-Clause BSL-1.0 CC-PDM-1.0 CC0-1.0 CDDL-1.0
CDDL-1.1 ECL-2.0 EPL-1.0 EPL-2.0 EUPL-1.1 EUPL-1.2 ISC LPPL-1.3c MIT MIT-0 MPL-1.1 MPL-2.0 MS-PL NCSA ODbL-1.0 OFL-1.1
OpenSSL PHP-3.01 PostgreSQL PSF-2.0 Python-2.0 Ruby Unlicense WTFPL X11 Zlib
""".split()
_FREQUENT += [
    f"CC-{kind}-{version}"
    for kind in ("BY", "BY-SA", "BY-NC", "BY-ND", "BY-NC-SA", "BY-NC-ND")
    for version in ("1.0", "2.0", "2.5", "3.0", "4.0")
]
_SPELLING = {name.casefold(): name for name in _FREQUENT}


def parse(text: str) -> Expression:
    """The expression that a text is; LicenceError for another text.

    Operators are all in capitals or all in small letters. Any name of letters, digits, dots and hyphens is a licence:
    no list of them is consulted. Old names of GNU's licences (GPL-2.0, GPL-2.0+) become GPL-2.0-only and
    GPL-2.0-or-later. Nested ANDs become one, and so do nested ORs.
    """
    words = deque(re.findall(r"[()]|[^\s()]+", text))
    try:
        found = _operands(words, "OR", 0)
        if words:
            raise LicenceError(f"expected AND, OR or the end, found {words[0]!r}")
    except LicenceError as error:
        raise LicenceError(f"{text.strip()[:80]!r} is no licence expression: {error}") from None
    return found


def _operands(words: deque[str], operator: Operator, depth: int) -> Expression:
    """One term or several with the operator between them; those of OR are made of AND."""
    term = partial(_operands, words, "AND") if operator == "OR" else partial(_single, words)
    terms = [term(depth)]
    while words and words[0] in (operator, operator.lower()):
        words.popleft()
        terms.append(term(depth))
    return join(operator, terms)


def _single(words: deque[str], depth: int) -> Expression:
    """A licence, with its exception, or what is in parentheses."""
    if words and words[0] == "(":
        if depth == _DEEPEST:
            raise LicenceError(f"more than {_DEEPEST} parentheses in one another")
        words.popleft()
        inner = _operands(words, "OR", depth + 1)
        if not words or words.popleft() != ")":
            raise LicenceError("a closing parenthesis is missing")
        return inner
    name, later = _name(words, "a licence")
    exception = ""
    if words and words[0] in ("WITH", "with"):
        words.popleft()
        exception, _ = _name(words, "an exception")
    if match := _GNU.fullmatch(name):
        versions = "or-later" if later else match[3] or "only"
        return Licence(f"{match[1].upper()}-{match[2]}-{versions.lower()}", exception=exception)
    return Licence(_SPELLING.get(name.casefold(), name), later, exception)


def _name(words: deque[str], what: str) -> tuple[str, bool]:
    match = _NAME.fullmatch(words[0]) if words and words[0] not in _OPERATORS else None
    if match is None:
        raise LicenceError(f"expected {what}, found {words[0][:20]!r}" if words else f"expected {what} at the end")
    words.popleft()
    return match[1], bool(match[2])


def join(operator: Operator, terms: Sequence[Expression]) -> Expression:
    """The terms joined, each once, in their order; ValueError for none."""
    flat = (
        inner
        for term in terms
        for inner in (term.terms if isinstance(term, Joined) and term.operator == operator else (term,))
    )
    once = tuple(dict.fromkeys(flat))
    if not once:
        raise ValueError("there is nothing to join")
    return once[0] if len(once) == 1 else Joined(operator, once)


def licences(expression: Expression) -> tuple[Licence, ...]:
    """The licences that it names, from left to right."""
    if isinstance(expression, Licence):
        return (expression,)
    return tuple(licence for term in expression.terms for licence in licences(term))


def is_frequent(licence: Licence) -> bool:
    """Whether it is one of those of which this module knows the spelling, or of GNU's."""
    return licence.name.casefold() in _SPELLING or _GNU.fullmatch(licence.name) is not None


# ---------------------------------------------------------------------------------------------------------------------
# Policies. A policy can say `allow = ["permissive"]` instead of a list of names. A group is globs of SPDX's names; it
# holds what is common on the web, in books and in code, and what is in none of them can be named. Which licences suit a
# purpose is for the user to say: this is no legal advice.

_PUBLIC_DOMAIN = "0BSD CC-PDM-1.0 CC0-1.0 LicenseRef-public-domain MIT-0 Unlicense WTFPL"
_NOTICES = """
Apache-* Artistic-2.0 BSD-*-Clause BSL-1.0 CC-BY-[0-9]* ECL-2.0 ISC LicenseRef-CC-BY MIT MS-PL NCSA ODC-By-1.0 OpenSSL
PHP-3.01 PostgreSQL PSF-2.0 Python-2.0 X11 Zlib
"""
_COPYLEFT = """
AGPL-* CC-BY-SA-* EUPL-* GFDL-* GPL-* LicenseRef-CC-BY-SA ODbL-1.0 OFL-1.1 CDDL-* EPL-* LGPL-* LPPL-* MPL-*
"""
GROUPS: Mapping[str, tuple[str, ...]] = {
    "public_domain": tuple(_PUBLIC_DOMAIN.split()),  # asks for nothing
    "permissive": tuple(f"{_PUBLIC_DOMAIN} {_NOTICES}".split()),  # or that notices stay and authors are named
    "copyleft": tuple(_COPYLEFT.split()),  # what is made of it, or its changed files, must be under the same licence
    "non_commercial": ("CC-BY-NC-*", "LicenseRef-CC-BY-NC*"),
    "no_derivatives": ("CC-BY-ND-*", "CC-BY-NC-ND-*", "LicenseRef-CC-BY-ND", "LicenseRef-CC-BY-NC-ND"),
}


def without_groups(entries: tuple[str, ...]) -> tuple[str, ...]:
    """The entries of a list of licences, with the members of a group in the place of its name."""
    return tuple(glob for entry in entries for glob in GROUPS.get(entry, (entry,)))


@dataclass(frozen=True, slots=True)
class LicencePolicy:
    """Which licences are allowed, and which are denied: names, `NAME WITH EXCEPTION`, globs such as "CC-BY-NC-*", or
    groups such as "permissive".

    Names are compared whatever their case. Where a licence is on both lists, it is denied. One with an exception is
    what the lists say of it with the exception, and where they say nothing, what they say of it without. One that holds
    for later versions too is allowed where its version is, since that may be chosen.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    def verdict(self, expression: Expression | str) -> Verdict:
        """OR is allowed where any term is, and denied where all are; AND is allowed where all are, and denied where any
        is. What is neither is unknown, and so is a text that is no expression."""
        if isinstance(expression, str):
            try:
                expression = parse(expression)
            except LicenceError:
                return "unknown"
        if isinstance(expression, Licence):
            return self._of_licence(expression)
        verdicts: set[Verdict] = {self.verdict(term) for term in expression.terms}
        decisive: Verdict = "allowed" if expression.operator == "OR" else "denied"
        if decisive in verdicts:
            return decisive
        return verdicts.pop() if len(verdicts) == 1 else "unknown"

    def _of_licence(self, licence: Licence) -> Verdict:
        bare = Licence(licence.name, licence.later)
        for each in (licence, bare) if licence.exception else (bare,):
            if _is_listed(str(each), self.deny):
                return "denied"
            # Of several versions the one of its name alone may be chosen.
            chosen = str(each).replace("-or-later", "-only") if not each.later else str(each).replace("+", "", 1)
            if _is_listed(str(each), self.allow) or _is_listed(chosen, self.allow):
                return "allowed"
        return "unknown"


def _is_listed(name: str, entries: tuple[str, ...]) -> bool:
    """A glob that names no exception says nothing of a licence with one."""
    name = name.casefold()
    globs = (_as_named_today(glob).casefold() for glob in without_groups(entries))
    return any((" with " in glob) == (" with " in name) and fnmatchcase(name, glob) for glob in globs)


def _as_named_today(glob: str) -> str:
    """An entry of a list, which may use an old name as well."""
    try:
        return str(parse(glob))
    except LicenceError:
        return glob


def check_entry(entry: str) -> None:
    """LicenceError for what can be no entry of a list of licences: no name, no glob and no group, or nearly a group."""
    if entry in GROUPS:
        return
    groups = f"the groups are {', '.join(sorted(GROUPS))}"
    if near := get_close_matches(entry.casefold().replace("-", "_").replace(" ", "_"), GROUPS, n=1, cutoff=0.8):
        raise LicenceError(f'no group of licences is called "{entry}"; did you mean "{near[0]}"? {groups}')
    if any(sign in entry for sign in "*?["):
        return
    try:
        found = parse(entry)
    except LicenceError as error:
        raise LicenceError(f'"{entry}" is no name of a licence as SPDX has it ({error}); {groups}') from error
    if not isinstance(found, Licence):
        raise LicenceError(f'"{entry}" is several licences: give each an entry of its own')
