"""Licence expressions: verdicts against truth tables by Python's own `and` and `or`, and the grammar of SPDX."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.corpus.licence_expressions import GROUPS, LicenceError, check_entry, joined, licences, normalised, verdict

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
    allow, deny = (tuple(n for n, each in verdicts.items() if each == said) for said in ("allowed", "denied"))
    unknown = [name for name, each in verdicts.items() if each == "unknown"]
    known = {name: each == "allowed" for name, each in verdicts.items()}
    outcomes = {
        is_true(expression, known | dict(zip(unknown, guess, strict=True)))
        for guess in product([False, True], repeat=len(unknown))
    }
    expected = "unknown" if len(outcomes) == 2 else "allowed" if outcomes == {True} else "denied"
    assert verdict(expression, allow, deny) == expected


@given(EXPRESSIONS)
def test_what_is_written_is_read_as_the_same(expression):
    found = normalised(expression)
    assert normalised(found) == joined("AND", [found, found]) == joined("OR", [found]) == found
    assert set(licences(found)) == {name for name in NAMES if name in expression}
    for truths in product([False, True], repeat=len(NAMES)):
        values = dict(zip(NAMES, truths, strict=True))
        assert is_true(found, values) == is_true(expression, values)


@for_each(
    ("written", "expected"),
    [("mit", "MIT"), ("APACHE-2.0 or bsd-3-clause", "Apache-2.0 OR BSD-3-Clause"), ("GPL-2.0", "GPL-2.0-only"),
     ("gpl-3.0+", "GPL-3.0-or-later"), ("MIT OR (ISC OR MIT)", "MIT OR ISC"), ("Some-Licence-7", "Some-Licence-7"),
     ("DocumentRef-spdx-tool-1.2:LicenseRef-MIT-2", "DocumentRef-spdx-tool-1.2:LicenseRef-MIT-2"),
     ("MIT OR GPL-2.0+ WITH Classpath-exception-2.0 AND Apache-2.0+",
      "MIT OR (GPL-2.0-or-later WITH Classpath-exception-2.0 AND Apache-2.0+)")],
)  # fmt: skip
def test_names_are_written_as_spdx_writes_them(written, expected):
    assert normalised(written) == expected


@for_each(
    "text",
    ["", "MIT AND", "OR MIT", "(MIT", "MIT ISC", "MIT WITH", "WITH x", "()", "MIT AND OR ISC", "MIT WITH a WITH b",
     "M\u00eft", "CC BY 4.0", "MIT/X11", "(" * 5000],
)  # fmt: skip
def test_what_is_no_expression_is_refused(text):
    with pytest.raises(LicenceError):
        normalised(text)
    assert verdict(text, ("*",), ()) == "unknown"


CLASSPATH = "GPL-2.0-only WITH Classpath-exception-2.0"


@for_each(
    ("expression", "allow", "deny", "expected"),
    [("MIT", ["mit"], [], "allowed"), ("CC-BY-SA-4.0", ["CC-BY-*"], ["CC-BY-NC-*"], "allowed"),
     ("CC-BY-NC-4.0", ["CC-BY-*"], ["CC-BY-NC-*"], "denied"),  # on both lists
     ("GPL-2.0-only", ["GPL-2.0"], [], "allowed"),
     ("GPL-2.0-or-later", ["GPL-2.0"], [], "allowed"),  # version 2 may be chosen
     ("GPL-3.0-or-later", ["GPL-2.0"], [], "unknown"),
     ("GPL-2.0-or-later", [], ["GPL-2.0-only"], "unknown"),  # version 3 may be chosen
     ("Apache-2.0+", ["Apache-2.0"], [], "allowed"),
     (CLASSPATH, ["GPL-2.0-only"], [], "allowed"),  # an exception adds permissions
     (CLASSPATH, [], ["GPL-*"], "denied"), (CLASSPATH, [CLASSPATH], ["GPL-*"], "allowed"),
     (CLASSPATH, ["* WITH *"], [], "allowed"), ("GPL-2.0-only", [CLASSPATH], [], "unknown"),
     ("MIT OR GPL-3.0-only", ["permissive"], [], "allowed"), ("MIT AND GPL-3.0-only", ["permissive"], [], "unknown")],
)  # fmt: skip
def test_globs_cases_exceptions_and_former_names(expression, allow, deny, expected):
    assert verdict(expression, allow, deny) == expected


IN_GROUPS = {
    "public_domain": ("CC0-1.0 LicenseRef-public-domain", "MIT CC-BY-4.0"),
    "permissive": ("MIT CC0-1.0 Apache-2.0 CC-BY-4.0", "CC-BY-SA-4.0 CC-BY-NC-4.0 LGPL-2.1-only"),
    "copyleft": ("GPL-3.0-or-later CC-BY-SA-3.0 LGPL-2.1-only MPL-2.0", "MIT CC-BY-NC-SA-4.0"),
    "non_commercial": ("CC-BY-NC-4.0 CC-BY-NC-SA-4.0 LicenseRef-CC-BY-NC", "CC-BY-4.0"),
    "no_derivatives": ("CC-BY-ND-4.0 CC-BY-NC-ND-4.0", "CC-BY-NC-4.0 CC-BY-4.0"),
}


@for_each("group", GROUPS)
def test_groups_hold_what_their_names_say(group):
    inside, outside = map(str.split, IN_GROUPS[group])
    assert {verdict(name, [group], []) for name in inside} == {"allowed"}
    assert {verdict(name, [], [group]) for name in inside} == {"denied"}
    assert {verdict(name, *lists) for name in outside for lists in (([group], []), ([], [group]))} == {"unknown"}


@for_each("entry", ["permisive", "public-domain", "MIT OR ISC", "no licence", ""])
def test_an_entry_that_would_match_nothing_is_refused(entry):
    with pytest.raises(LicenceError):
        check_entry(entry)
