"""Licence expressions: verdicts against truth tables by Python's own `and` and `or`, and the grammar of SPDX."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.licence_expressions import (
    Joined,
    Licence,
    LicenceError,
    LicencePolicy,
    join,
    licences,
    parse,
)

NAMES = [f"LicenseRef-n{number}" for number in range(5)]
EXPRESSIONS = st.recursive(
    st.sampled_from(NAMES),
    lambda inner: st.tuples(inner, st.sampled_from([" AND ", " OR ", " or ", "  and "]), inner, st.booleans()).map(
        lambda parts: f"( {''.join(parts[:3])})" if parts[3] else "".join(parts[:3])
    ),
    max_leaves=12,
)
VERDICTS = st.fixed_dictionaries({name: st.sampled_from(["allowed", "denied", "unknown"]) for name in NAMES})


def is_true(expression: str, truths: dict[str, bool]) -> bool:
    """By Python, where `and` binds closer than `or` as well."""
    code = expression.replace("LicenseRef-", "").replace("AND", "and").replace("OR", "or").strip()
    return bool(eval(code, {}, {name.removeprefix("LicenseRef-"): truth for name, truth in truths.items()}))


@given(EXPRESSIONS, VERDICTS)
def test_a_verdict_is_what_holds_whatever_unknown_licences_are(expression, verdicts):
    policy = LicencePolicy(
        allow=tuple(name for name, verdict in verdicts.items() if verdict == "allowed"),
        deny=tuple(name for name, verdict in verdicts.items() if verdict == "denied"),
    )
    unknown = [name for name, verdict in verdicts.items() if verdict == "unknown"]
    known = {name: verdict == "allowed" for name, verdict in verdicts.items()}
    outcomes = {
        is_true(expression, known | dict(zip(unknown, guess, strict=True)))
        for guess in product([False, True], repeat=len(unknown))
    }
    expected = "unknown" if len(outcomes) == 2 else "allowed" if outcomes == {True} else "denied"
    assert policy.verdict(expression) == expected


@given(EXPRESSIONS)
def test_what_is_written_is_read_as_the_same(expression):
    found = parse(expression)
    assert parse(str(found)) == found
    assert {str(licence) for licence in licences(found)} == {name for name in NAMES if name in expression}


def test_operators_bind_as_the_specification_says():
    found = parse("MIT OR GPL-2.0-or-later WITH Classpath-exception-2.0 AND Apache-2.0+")
    inner = Joined(
        "AND", (Licence("GPL-2.0-or-later", exception="Classpath-exception-2.0"), Licence("Apache-2.0", later=True))
    )
    assert found == Joined("OR", (Licence("MIT"), inner))
    assert str(parse("(MIT OR ISC) AND (Zlib)")) == "(MIT OR ISC) AND Zlib"
    assert parse("DocumentRef-spdx-tool-1.2:LicenseRef-MIT-2") == Licence("DocumentRef-spdx-tool-1.2:LicenseRef-MIT-2")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("mit", "MIT"),
        ("APACHE-2.0 or bsd-3-clause", "Apache-2.0 OR BSD-3-Clause"),
        ("GPL-2.0", "GPL-2.0-only"),
        ("gpl-3.0+", "GPL-3.0-or-later"),
        ("LGPL-2.1-Only", "LGPL-2.1-only"),
        ("AGPL-3.0-or-later", "AGPL-3.0-or-later"),
        ("cc-by-nc-sa-4.0", "CC-BY-NC-SA-4.0"),
        ("MIT AND MIT", "MIT"),
        ("MIT OR (ISC OR MIT)", "MIT OR ISC"),
        ("Some-Licence-7", "Some-Licence-7"),
    ],
)
def test_names_are_written_as_spdx_writes_them(written, expected):
    assert str(parse(written)) == expected


@pytest.mark.parametrize(
    "text",
    ["", " ", "MIT AND", "OR MIT", "(MIT", "MIT)", "MIT ISC", "MIT WITH", "WITH x", "MIT WITH (x)", "MIT / ISC", "()",
     "MIT AND OR ISC", "MIT WITH a WITH b", "(MIT AND ISC) WITH a", "Mït", "(" * 5000 + "MIT" + ")" * 5000],
)  # fmt: skip
def test_what_is_no_expression_is_refused(text):
    with pytest.raises(LicenceError):
        parse(text)
    assert LicencePolicy(allow=("*",)).verdict(text) == "unknown"


def test_globs_cases_and_old_names():
    policy = LicencePolicy(allow=("mit", "CC-BY-*", "GPL-2.0"), deny=("CC-BY-NC-*",))
    assert policy.verdict("MIT") == "allowed"
    assert policy.verdict("CC-BY-SA-4.0") == "allowed"
    assert policy.verdict("CC-BY-NC-4.0") == "denied"  # on both lists
    assert policy.verdict("GPL-2.0-only") == "allowed"
    assert policy.verdict("GPL-2.0-or-later") == "allowed"  # version 2 may be chosen
    assert policy.verdict("GPL-3.0-or-later") == "unknown"
    assert LicencePolicy(allow=("Apache-2.0",)).verdict("Apache-2.0+") == "allowed"
    assert LicencePolicy(deny=("GPL-2.0-only",)).verdict("GPL-2.0-or-later") == "unknown"  # version 3 may be chosen


def test_an_exception_adds_permissions():
    expression = "GPL-2.0-only WITH Classpath-exception-2.0"
    assert LicencePolicy(allow=("GPL-2.0-only",)).verdict(expression) == "allowed"
    assert LicencePolicy(deny=("GPL-*",)).verdict(expression) == "denied"
    assert LicencePolicy(allow=(expression,), deny=("GPL-*",)).verdict(expression) == "allowed"
    assert LicencePolicy(allow=("* WITH *",)).verdict(expression) == "allowed"
    assert LicencePolicy(allow=(expression,)).verdict("GPL-2.0-only") == "unknown"


def test_nothing_cannot_be_joined():
    with pytest.raises(ValueError, match="nothing to join"):
        join("AND", [])
