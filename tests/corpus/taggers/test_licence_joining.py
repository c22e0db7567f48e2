"""What a source calls its licence, and what holds where its text says something else; groups of licences."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.attributes import Attributes
from lmworks.corpus.licence_expressions import GROUPS, LicenceError, LicencePolicy, check_entry, parse
from lmworks.corpus.taggers.licence import join_licences, licence_of

NAMES = st.sampled_from(["MIT", "CC0-1.0", "GPL-3.0-only", "CC-BY-NC-4.0", "CC-BY-4.0", "LicenseRef-mine"])
ENTRIES = st.lists(st.sampled_from([*GROUPS, "MIT", "GPL-*", "CC-BY-4.0"]), max_size=3).map(tuple)


def joined(source: str | None, text: str | None) -> dict[str, str]:
    return dict(join_licences(Attributes(labels={"licence": text} if text else {}), source).labels)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("MIT", "MIT"),
        ("mit", "MIT"),
        ("MIT License", "MIT"),
        ("Apache License 2.0", "Apache-2.0"),
        ("BSD 3-Clause", "BSD-3-Clause"),
        ("GNU GPL v2", "GPL-2.0-only"),
        ("CC BY-SA 4.0", "CC-BY-SA-4.0"),
        ("Creative Commons Attribution-ShareAlike 3.0", "CC-BY-SA-3.0"),
        ("https://creativecommons.org/licenses/by-nc/4.0/", "CC-BY-NC-4.0"),
        ("cc0", "CC0-1.0"),
        ("Public Domain", "LicenseRef-public-domain"),
        ("MIT OR GPL-2.0", "MIT OR GPL-2.0-only"),
        ("ODC-By-1.0", "ODC-By-1.0"),
        ("LicenseRef-ours", "LicenseRef-ours"),
        ("All rights reserved.", "LicenseRef-All-rights-reserved"),
        ("proprietary", "LicenseRef-proprietary"),
        ("©", "LicenseRef-unnamed"),
    ],
)
def test_names_of_licences_as_sources_write_them(told, expected):
    assert str(licence_of(told)) == expected
    assert str(parse(expected)) == expected


@pytest.mark.parametrize("told", ["", "  ", "unknown", "None", "N/A", "-"])
def test_what_says_nothing_is_no_licence(told):
    assert licence_of(told) is None and joined(told, None) == {}


@given(st.text())
def test_whatever_a_source_says_becomes_an_expression(told):
    found = licence_of(told)
    assert found is None or parse(str(found)) == found


@given(NAMES, NAMES, ENTRIES, ENTRIES)
def test_of_source_and_text_the_stricter_holds(source, text, allow, deny):
    policy = LicencePolicy(allow, deny)
    labels = joined(source, text)
    assert (labels["licence_of_source"], labels["licence_in_text"]) == (source, text)
    verdicts = {policy.verdict(source), policy.verdict(text)}
    expected = "denied" if "denied" in verdicts else "unknown" if "unknown" in verdicts else "allowed"
    assert policy.verdict(labels["licence"]) == expected


def test_one_alone_is_what_holds():
    assert joined("MIT", None) == {"licence": "MIT", "licence_of_source": "MIT"}
    assert joined(None, "MIT") == {"licence": "MIT", "licence_in_text": "MIT"}
    assert joined("MIT", "MIT")["licence"] == "MIT"
    assert joined(None, None) == {}


@pytest.mark.parametrize(
    ("group", "inside", "outside"),
    [
        ("public_domain", ["CC0-1.0", "LicenseRef-public-domain"], ["MIT", "CC-BY-4.0"]),
        (
            "permissive",
            ["MIT", "CC0-1.0", "Apache-2.0", "CC-BY-4.0"],
            ["CC-BY-SA-4.0", "CC-BY-NC-4.0", "LGPL-2.1-only"],
        ),
        ("copyleft", ["GPL-3.0-or-later", "CC-BY-SA-3.0", "LGPL-2.1-only", "MPL-2.0"], ["MIT", "CC-BY-NC-SA-4.0"]),
        ("non_commercial", ["CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "LicenseRef-CC-BY-NC"], ["CC-BY-4.0"]),
        ("no_derivatives", ["CC-BY-ND-4.0", "CC-BY-NC-ND-4.0"], ["CC-BY-NC-4.0", "CC-BY-4.0"]),
    ],
)
def test_groups_hold_what_their_names_say(group, inside, outside):
    allowing, denying = LicencePolicy(allow=(group,)), LicencePolicy(deny=(group,))
    for name in inside:
        assert allowing.verdict(name) == "allowed" and denying.verdict(name) == "denied", name
    for name in outside:
        assert allowing.verdict(name) == "unknown" and denying.verdict(name) == "unknown", name


def test_a_choice_is_allowed_where_one_of_it_is_and_an_exception_of_a_group_is_denied():
    policy = LicencePolicy(allow=("permissive",), deny=("CC-BY-4.0",))
    assert policy.verdict("MIT OR GPL-3.0-only") == "allowed"
    assert policy.verdict("MIT AND GPL-3.0-only") == "unknown"
    assert policy.verdict("CC-BY-4.0") == "denied"
    assert policy.verdict("GPL-2.0-only WITH Classpath-exception-2.0 OR MIT") == "allowed"


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("permisive", 'did you mean "permissive"'),
        ("public-domain", 'did you mean "public_domain"'),
        ("MIT OR ISC", "several licences"),
        ("no licence", "is no name of a licence"),
        ("", "is no name of a licence"),
    ],
)
def test_an_entry_that_would_match_nothing_is_refused(entry, told):
    with pytest.raises(LicenceError, match=told):
        check_entry(entry)


@pytest.mark.parametrize("entry", ["permissive", "MIT", "GPL-2.0", "CC-BY-*", "GPL-2.0 WITH Classpath-exception-2.0"])
def test_names_globs_groups_and_exceptions_are_entries(entry):
    check_entry(entry)


def test_a_made_name_holds_no_personal_data():
    """It is passed on with the documents, and with their card."""
    assert str(licence_of("Copyright Jane <jane.lic@bakery-miller.com>")) == "LicenseRef-Copyright-Jane-EMAIL"
    assert str(licence_of("All rights reserved, call +49 171 2345678")) == "LicenseRef-All-rights-reserved-call-PHONE"
