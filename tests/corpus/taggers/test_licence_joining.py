"""What a source calls its licence, and what holds where its text says something else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.attributes import Attributes
from lmworks.corpus.licence_expressions import GROUPS, normalised, verdict
from lmworks.corpus.taggers.licence import licence_of, with_source

NAMES = st.sampled_from(["MIT", "CC0-1.0", "GPL-3.0-only", "CC-BY-NC-4.0", "CC-BY-4.0", "LicenseRef-mine"])
ENTRIES = st.lists(st.sampled_from([*GROUPS, "MIT", "GPL-*", "CC-BY-4.0"]), max_size=3).map(tuple)


def labels_of(source: str | None, text: str | None) -> dict[str, str]:
    return dict(with_source(Attributes(labels={"licence": text} if text else {}), source).labels)


@pytest.mark.parametrize(
    ("told", "expected"),
    [("MIT", "MIT"), ("mit", "MIT"), ("MIT License", "MIT"), ("Apache License 2.0", "Apache-2.0"),
     ("BSD 3-Clause", "BSD-3-Clause"), ("GNU GPL v2", "GPL-2.0-only"), ("CC BY-SA 4.0", "CC-BY-SA-4.0"),
     ("Creative Commons Attribution-ShareAlike 3.0", "CC-BY-SA-3.0"),
     ("https://creativecommons.org/licenses/by-nc/4.0/", "CC-BY-NC-4.0"), ("cc0", "CC0-1.0"),
     ("Public Domain", "LicenseRef-public-domain"), ("MIT OR GPL-2.0", "MIT OR GPL-2.0-only"),
     ("ODC-By-1.0", "ODC-By-1.0"), ("LicenseRef-ours", "LicenseRef-ours"),
     ("Some-Licence-7", "LicenseRef-Some-Licence-7"), ("Fair", "LicenseRef-Fair"),
     ("All rights reserved.", "LicenseRef-All-rights-reserved"), ("proprietary", "LicenseRef-proprietary"),
     ("©", "LicenseRef-unnamed")],
)  # fmt: skip
def test_names_of_licences_as_sources_write_them(told, expected):
    assert licence_of(told) == expected == normalised(expected)


@pytest.mark.parametrize("told", ["", "  ", "unknown", "None", "N/A", "-"])
def test_what_says_nothing_is_no_licence(told):
    assert licence_of(told) is None and labels_of(told, None) == {}


@given(st.text())
def test_whatever_a_source_says_becomes_an_expression(told):
    found = licence_of(told)
    assert found is None or normalised(found) == found


@given(NAMES, NAMES, ENTRIES, ENTRIES)
def test_of_source_and_text_the_stricter_holds(source, text, allow, deny):
    labels = labels_of(source, text)
    assert (labels["licence_of_source"], labels["licence_in_text"]) == (source, text)
    verdicts = {verdict(each, allow, deny) for each in (source, text)}
    expected = "denied" if "denied" in verdicts else "unknown" if "unknown" in verdicts else "allowed"
    assert verdict(labels["licence"], allow, deny) == expected


def test_one_alone_is_what_holds():
    assert labels_of("MIT", None) == {"licence": "MIT", "licence_of_source": "MIT"}
    assert labels_of(None, "MIT") == {"licence": "MIT", "licence_in_text": "MIT"}
    assert labels_of("MIT", "MIT")["licence"] == "MIT"
    assert labels_of(None, None) == {}


def test_a_made_name_holds_no_personal_data():
    """It is passed on with the documents, and with their card."""
    assert licence_of("Copyright Jane <jane.lic@bakery-miller.com>") == "LicenseRef-Copyright-Jane-EMAIL"
    assert licence_of("All rights reserved, call +49 171 2345678") == "LicenseRef-All-rights-reserved-call-PHONE"
