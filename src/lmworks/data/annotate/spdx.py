"""Licence expressions of SPDX (specification 3.0, annex on licence expressions), and which of them a policy allows.

    MIT OR (GPL-2.0-only WITH Classpath-exception-2.0 AND CC-BY-4.0)

`+` binds closest ("this version or a later one"), then WITH (an exception, which adds permissions), AND (all licences
are to be kept at once), OR (the user chooses one).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Literal

from lmworks.data.annotate.licence_groups import GROUPS, without_groups

Verdict = Literal["allowed", "denied", "unknown"]


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
class AllOf:
    """Two or more that hold at once."""

    terms: "tuple[Expression, ...]"

    def __str__(self) -> str:
        return " AND ".join(f"({term})" if isinstance(term, AnyOf) else str(term) for term in self.terms)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Two or more, of which one may be chosen."""

    terms: "tuple[Expression, ...]"

    def __str__(self) -> str:
        return " OR ".join(map(str, self.terms))


Expression = Licence | AllOf | AnyOf

_TOKEN = re.compile(
    r"\s*(?:([()])|(?:(DocumentRef-[A-Za-z0-9.\-]+:LicenseRef-[A-Za-z0-9.\-]+)|([A-Za-z0-9.\-]+))(\+?))"
)
_Operator = Literal["AND", "OR", "WITH"]
_OPERATORS: dict[str, _Operator] = {"AND": "AND", "OR": "OR", "WITH": "WITH", "and": "AND", "or": "OR", "with": "WITH"}
_DEEPEST = 40  # parentheses: deeper ones are no licence, and would exhaust the stack
_GNU = re.compile(r"((?:A|L)?GPL|GFDL)-(\d\.\d)(?:-(only|or-later))?", re.IGNORECASE)
# Names are the same whatever their case; frequent ones are written as in SPDX's list of licences.
_SPELLING = {
    name.casefold(): name
    for name in (
        *("0BSD", "Apache-1.1", "Apache-2.0", "Artistic-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSD-4-Clause"),
        *("BSL-1.0", "CC-PDM-1.0", "CC0-1.0", "CDDL-1.0", "CDDL-1.1", "ECL-2.0", "EPL-1.0", "EPL-2.0"),
        *("EUPL-1.1", "EUPL-1.2", "ISC", "LPPL-1.3c", "MIT", "MIT-0", "MPL-1.1", "MPL-2.0", "MS-PL", "NCSA"),
        *("ODbL-1.0", "OFL-1.1", "OpenSSL", "PHP-3.01", "PostgreSQL", "PSF-2.0", "Python-2.0", "Ruby"),
        *("Unlicense", "WTFPL", "X11", "Zlib"),
        *(
            f"CC-{kind}-{version}"
            for kind in ("BY", "BY-SA", "BY-NC", "BY-ND", "BY-NC-SA", "BY-NC-ND")
            for version in ("1.0", "2.0", "2.5", "3.0", "4.0")
        ),
    )
}


def parse(text: str) -> Expression:
    """The expression that a text is; LicenceError for another text.

    Operators are all in capitals or all in small letters. Any name of letters, digits, dots and hyphens is a licence:
    no list of them is consulted. Old names of GNU's licences (GPL-2.0, GPL-2.0+) become GPL-2.0-only and
    GPL-2.0-or-later. Nested ANDs become one, and so do nested ORs.
    """
    parser = _Parser(_tokenise(text), text)
    found = parser.any_of(0)
    parser.expect_end()
    return found


def all_of(terms: Sequence[Expression]) -> Expression:
    """The terms joined by AND, each once, in their order; ValueError for none."""
    return _join(AllOf, terms)


def any_of(terms: Sequence[Expression]) -> Expression:
    """The terms joined by OR, each once, in their order; ValueError for none."""
    return _join(AnyOf, terms)


def licences(expression: Expression) -> tuple[Licence, ...]:
    """The licences that it names, from left to right."""
    if isinstance(expression, Licence):
        return (expression,)
    return tuple(licence for term in expression.terms for licence in licences(term))


@dataclass(frozen=True, slots=True)
class LicencePolicy:
    """Which licences are allowed, and which are denied: names, `NAME WITH EXCEPTION`, globs such as "CC-BY-NC-*", or
    groups (`licence_groups.py`) such as "permissive".

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
        decisive: Verdict = "allowed" if isinstance(expression, AnyOf) else "denied"
        if decisive in verdicts:
            return decisive
        return verdicts.pop() if len(verdicts) == 1 else "unknown"

    def _of_licence(self, licence: Licence) -> Verdict:
        bare = Licence(licence.name, licence.later)
        for each in (licence, bare) if licence.exception else (bare,):
            if _is_listed(str(each), without_groups(self.deny)):
                return "denied"
            if any(_is_listed(str(version), without_groups(self.allow)) for version in _may_be_chosen(each)):
                return "allowed"
        return "unknown"


def check_entry(entry: str) -> None:
    """LicenceError for what can be no entry of a list of licences: no name, no glob and no group, or nearly a group."""
    if entry in GROUPS:
        return
    if near := get_close_matches(entry.casefold().replace("-", "_").replace(" ", "_"), GROUPS, n=1, cutoff=0.8):
        raise LicenceError(f'no group of licences is called "{entry}"; did you mean "{near[0]}"? {_told_groups()}')
    if any(sign in entry for sign in "*?["):
        return
    try:
        found = parse(entry)
    except LicenceError as error:
        raise LicenceError(f'"{entry}" is no name of a licence as SPDX has it ({error}); {_told_groups()}') from error
    if not isinstance(found, Licence):
        raise LicenceError(f'"{entry}" is several licences: give each an entry of its own')


def _told_groups() -> str:
    return f"the groups are {', '.join(sorted(GROUPS))}"


def _may_be_chosen(licence: Licence) -> tuple[Licence, ...]:
    """A licence, and where it is of several versions the one of its name alone."""
    if licence.later:
        return licence, Licence(licence.name, exception=licence.exception)
    if licence.name.endswith("-or-later"):
        return licence, Licence(f"{licence.name.removesuffix('-or-later')}-only", exception=licence.exception)
    return (licence,)


def _is_listed(name: str, globs: Sequence[str]) -> bool:
    """A glob that names no exception says nothing of a licence with one."""
    name = name.casefold()
    entries = (_as_named_today(glob).casefold() for glob in globs)
    return any((" with " in glob) == (" with " in name) and fnmatchcase(name, glob) for glob in entries)


def _as_named_today(glob: str) -> str:
    """An entry of a list, which may use an old name as well."""
    try:
        return str(parse(glob))
    except LicenceError:
        return glob


def _join(kind: type[AllOf] | type[AnyOf], terms: Sequence[Expression]) -> Expression:
    flat = [inner for term in terms for inner in (term.terms if isinstance(term, kind) else (term,))]
    once = tuple(dict.fromkeys(flat))
    if not once:
        raise ValueError("there is nothing to join")
    return once[0] if len(once) == 1 else kind(once)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: Literal["(", ")", "name", "end"] | _Operator
    text: str
    start: int
    later: bool = False


def _tokenise(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    place, end = 0, len(text.rstrip())
    while place < end:
        match = _TOKEN.match(text, place)
        if match is None:
            raise LicenceError(f"no licence expression: {text[place:].strip()[:20]!r} at character {place}")
        parenthesis, reference, name, plus = match.groups()
        start = match.end() - len(match[0].lstrip())
        if parenthesis:
            tokens.append(_Token("(" if parenthesis == "(" else ")", parenthesis, start))
        elif name in _OPERATORS and not plus:
            tokens.append(_Token(_OPERATORS[name], name, start))
        else:
            tokens.append(_Token("name", reference or name, start, bool(plus)))
        place = match.end()
    tokens.append(_Token("end", "", end))
    return tokens


class _Parser:
    """One function a level of precedence; `place` is the next token."""

    def __init__(self, tokens: Sequence[_Token], text: str) -> None:
        self.tokens, self.text, self.place = tokens, text, 0

    def any_of(self, depth: int) -> Expression:
        terms = [self.all_of(depth)]
        while self._take("OR"):
            terms.append(self.all_of(depth))
        return any_of(terms)

    def all_of(self, depth: int) -> Expression:
        terms = [self.single(depth)]
        while self._take("AND"):
            terms.append(self.single(depth))
        return all_of(terms)

    def single(self, depth: int) -> Expression:
        if self._take("("):
            if depth == _DEEPEST:
                raise LicenceError(f"more than {_DEEPEST} parentheses in one another are no licence expression")
            inner = self.any_of(depth + 1)
            if not self._take(")"):
                raise self._unexpected("a closing parenthesis")
            return inner
        name = self._take("name")
        if name is None:
            raise self._unexpected("a licence")
        if not self._take("WITH"):
            return _licence(name)
        exception = self._take("name")
        if exception is None:
            raise self._unexpected("an exception")
        return _licence(name, exception.text)

    def expect_end(self) -> None:
        if not self._take("end"):
            raise self._unexpected("AND, OR or the end")

    def _take(self, kind: str) -> _Token | None:
        """The next token if it is of this kind; it is used up then."""
        token = self.tokens[self.place]
        if token.kind != kind:
            return None
        self.place = min(self.place + 1, len(self.tokens) - 1)
        return token

    def _unexpected(self, wanted: str) -> LicenceError:
        token = self.tokens[self.place]
        found = repr(token.text) if token.text else "the end"
        return LicenceError(f"{self.text.strip()[:80]!r}: expected {wanted} at character {token.start}, found {found}")


def _licence(token: _Token, exception: str = "") -> Licence:
    match = _GNU.fullmatch(token.text)
    if match is None:
        return Licence(_SPELLING.get(token.text.casefold(), token.text), token.later, exception)
    versions = "or-later" if token.later else match[3] or "only"
    return Licence(f"{match[1].upper()}-{match[2]}-{versions.lower()}", exception=exception)


def is_frequent(licence: Licence) -> bool:
    """Whether it is one of those of which this module knows the spelling, or of GNU's."""
    return licence.name.casefold() in _SPELLING or _GNU.fullmatch(licence.name) is not None
