"""Licence expressions of SPDX (specification 3.0, annex on licence expressions), and which of them lists allow.

    MIT OR (GPL-2.0-only WITH Classpath-exception-2.0 AND CC-BY-4.0)

`license-expression` reads them, and has SPDX's list of names with the former ones (GPL-2.0+).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase, translate
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, Literal

Verdict = Literal["allowed", "denied", "unknown"]
Operator = Literal["AND", "OR"]

_NAME = re.compile(r"(?:DocumentRef-[A-Za-z0-9.\-]+:)?[A-Za-z0-9.\-]+\+?")
_OWN = ("LicenseRef-", "DocumentRef-")
# Operators, and names without a digit that a text means; most others, such as Fair and Intel, are words as well.
_PLAIN = frozenset("and or with isc mit ms-pl ncsa openssl postgresql ruby unlicense wtfpl zlib".split())


class LicenceError(ValueError):
    """A text that is no licence expression; the message says where and why."""


def normalised(text: str) -> str:
    """An expression as SPDX writes it: names by its list, whatever their case, nested ANDs as one, nested ORs too, and
    each term once; a name that is not on the list stays. LicenceError for another text."""
    return _parsed(text).render()


def joined(operator: Operator, expressions: Iterable[str]) -> str:
    """Expressions, of which there is one at least, that hold at once (AND), or of which one may be chosen (OR)."""
    return normalised(f" {operator} ".join(f"({each})" for each in dict.fromkeys(expressions)))


def licences(expression: str) -> tuple[str, ...]:
    """The names in an expression, from left to right, without exceptions and the + of later versions."""
    symbols = _spdx().license_symbols(_parsed(expression), decompose=False)
    return tuple(symbol.render().partition(" WITH ")[0].removesuffix("+") for symbol in symbols)


def is_known(name: str) -> bool:
    """Whether it is on SPDX's list."""
    return name in _spdx().known_symbols


def is_plain(expression: str) -> bool:
    """Whether each of its names is on the list and written as hardly a word is, or one of the writer's own."""
    words = re.findall(r"[^\s()]+", expression)
    written = (word for before, word in pairwise(["", *words]) if before.casefold() != "with")  # no exceptions
    return all(
        word.casefold() in _PLAIN or word.startswith(_OWN) or any(map(str.isdigit, word)) for word in written
    ) and all(is_known(name) or name.startswith(_OWN) for name in licences(expression))


@cache
def _spdx() -> Any:
    from license_expression import get_spdx_licensing

    return get_spdx_licensing()  # some tenths of a second


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Any:
    """The tree of AND, OR and symbols."""
    from license_expression import ExpressionError

    try:
        found = _spdx().parse(text)
        if found is None:
            raise ExpressionError("it is empty")
        for symbol in _spdx().license_symbols(found):  # the library takes "CC BY 4.0" for one
            if not _NAME.fullmatch(symbol.key):
                raise ExpressionError(f"{symbol.key!r} is no name of a licence")
        return _flat(found)
    except (ExpressionError, IndexError, RecursionError) as error:  # an IndexError for ()
        reason = str(error) if isinstance(error, ExpressionError) else "its parentheses"
        raise LicenceError(f"{text.strip()[:80]!r} is no licence expression: {reason}") from None


def _flat(node: Any) -> Any:
    if not node.args:
        return node
    inner = [term for arg in map(_flat, node.args) for term in (arg.args if type(arg) is type(node) else (arg,))]
    terms = list({term.render(): term for term in inner}.values())
    return type(node)(*terms) if len(terms) > 1 else terms[0]


# ---------------------------------------------------------------------------------------------------------------------
# Lists. A policy can say `allow = ["permissive"]` instead of names. A group is globs of SPDX's names; it holds what is
# common on the web, in books and in code, and what is in none of them can be named. Which licences suit a purpose is
# for the user to say: this is no legal advice.

_PUBLIC_DOMAIN = "0BSD CC-PDM-1.0 CC0-1.0 LicenseRef-public-domain MIT-0 Unlicense WTFPL"
_NOTICES = """
AFL-* Apache-* Artistic-2.0 BSD-*-Clause BSD-2-Clause-Patent BSD-3-Clause-Attribution BSD-3-Clause-Clear
BSD-3-Clause-Open-MPI BSD-4-Clause-UC BSL-1.0 bzip2-1.0.6 CC-BY-[0-9]* ECL-2.0 ISC LicenseRef-CC-BY MIT MS-PL NCSA
ODC-By-1.0 OpenSSL PHP-3.01 PostgreSQL PSF-2.0 Python-2.0 Unicode-* X11 Zlib ZPL-*
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


def verdict(expression: str, allow: Sequence[str], deny: Sequence[str]) -> Verdict:
    """The verdict of lists of names, `NAME WITH EXCEPTION`, globs such as "CC-BY-NC-*" and groups on an expression.

    OR is allowed where any term is, and denied where all are; AND is allowed where all are, and denied where any is.
    What is neither is unknown, and so is a text that is no expression. Names are compared whatever their case. What is
    on both lists is denied. A licence with an exception is what the lists say of it with the exception, and where they
    say nothing, what they say of it without. One that holds for later versions too is allowed where its version is,
    since that may be chosen.
    """
    return _verdict(expression, tuple(allow), tuple(deny))


@lru_cache(maxsize=4096)  # a corpus has few licences, and a verdict takes milliseconds
def _verdict(expression: str, allow: Sequence[str], deny: Sequence[str]) -> Verdict:
    try:
        return _of_node(_parsed(expression), allow, deny)
    except LicenceError:
        return "unknown"


def _of_node(node: Any, allow: Sequence[str], deny: Sequence[str]) -> Verdict:
    if not node.args:
        return _of_licence(node.render(), allow, deny)
    verdicts: set[Verdict] = {_of_node(term, allow, deny) for term in node.args}
    decisive: Verdict = "allowed" if node.operator.strip() == "OR" else "denied"
    return decisive if decisive in verdicts else verdicts.pop() if len(verdicts) == 1 else "unknown"


def _of_licence(name: str, allow: Sequence[str], deny: Sequence[str]) -> Verdict:
    for each in dict.fromkeys((name, name.partition(" WITH ")[0])):
        if _is_listed(each, deny):
            return "denied"
        chosen = each.replace("-or-later", "-only").replace("+", "")
        if _is_listed(each, allow) or _is_listed(chosen, allow):
            return "allowed"
    return "unknown"


def _is_listed(name: str, entries: Sequence[str]) -> bool:
    """A glob that names no exception says nothing of a licence with one."""
    name = name.casefold()
    globs = (_as_named_today(glob).casefold() for entry in entries for glob in GROUPS.get(entry, (entry,)))
    return any((" with " in glob) == (" with " in name) and fnmatchcase(name, glob) for glob in globs)


def _as_named_today(glob: str) -> str:
    """An entry of a list, which may use a former name as well."""
    try:
        return normalised(glob)
    except LicenceError:
        return glob


def check_entry(entry: str) -> None:
    """LicenceError for what can be no entry of a list of licences: no name or glob of a licence that there is, and no
    group."""
    if entry in GROUPS:
        return
    groups = f"the groups are {', '.join(sorted(GROUPS))}"
    if near := get_close_matches(entry.casefold().replace("-", "_").replace(" ", "_"), GROUPS, n=1, cutoff=0.8):
        raise LicenceError(f'no group of licences is called "{entry}"; did you mean "{near[0]}"? {groups}')
    if any(sign in entry for sign in "*?["):
        if not entry.startswith(_OWN) and not any(map(re.compile(translate(entry), re.I).match, _spdx().known_symbols)):
            raise LicenceError(f'no licence on SPDX\'s list is called like "{entry}"; {groups}')
        return
    try:
        found = _parsed(entry)
    except LicenceError as error:
        raise LicenceError(f'"{entry}" is no name of a licence as SPDX has it ({error}); {groups}') from error
    if found.args:
        raise LicenceError(f'"{entry}" is several licences: give each an entry of its own')
    if not all(is_known(name) or name.startswith(_OWN) for name in licences(entry)):
        raise LicenceError(f'"{entry}" is not on SPDX\'s list: is it spelt right? One of your own is LicenseRef-NAME')
