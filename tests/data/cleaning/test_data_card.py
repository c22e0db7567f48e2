"""The data card: the head that hubs read, the words of a policy, and text that stays text."""

import re
from itertools import pairwise

import pytest

from lmworks.data.annotate.pii.scan import MEASURE, find_personal_data
from lmworks.data.cleaning.card import Facts, known_limits
from lmworks.data.cleaning.card_markdown import card_markdown, hub_licences, renamed, size_category
from lmworks.data.cleaning.flows import Alarm, Amount, Flow
from lmworks.data.cleaning.policy import Choice, Limit, Policy, Step, default_policy
from lmworks.data.cleaning.policy_words import gates, scope_in_words, step_in_words
from lmworks.data.cleaning.profile import CutRule, FoundItem, Personal, Profile, Share
from lmworks.records import LeftOut

NAMES = ("repair", "quality", "nothing_left")
POLICY = Policy((Step("quality", kinds=("web",), limits={"words": Limit(50, 1000)}),))


def share(source: str, facet: str, value: str, documents: int, stay: int) -> Share:
    return Share(source, facet, value, Amount(documents, documents * 10), Amount(stay, stay * 10))


def facts(**changes) -> Facts:
    shares = (
        *(share("pages", "all", "", 9, 4), share("notes", "all", "", 2, 2)),
        *(share("pages", "kind", "web", 9, 4), share("notes", "kind", "code", 2, 2)),
        *(
            share("pages", "language", "no", 3, 3),
            share("pages", "language", "en", 6, 1),
            share("notes", "language", "", 2, 2),
        ),
        *(share("pages", "licence", "CC0-1.0", 9, 4), share("notes", "licence", "", 2, 2)),
        *(share("pages", "year", "2004", 5, 1), share("pages", "year", "2019", 4, 3), share("notes", "year", "", 2, 2)),
    )
    profile = Profile(
        shares,
        (CutRule("repair", "web.navigation", 2, 5, 100, 0),),
        (Personal("pii.email", 9, 3, 5, 1),),
        (FoundItem("gsm8k/1", 3, 1, 0.4),),
    )
    flows = [
        Flow("pages", "en", "repair", "kept", "", 9, 90, 90),
        Flow("pages", "en", "quality", "kept", "", 4, 40, 40),
        Flow("pages", "en", "quality", "dropped", "words", 5, 50, 0),
        Flow("pages", "en", "nothing_left", "kept", "", 4, 40, 40),
        *(Flow("notes", "", name, "kept", "", 2, 20, 20) for name in NAMES),
    ]
    given = {
        "policy": POLICY,
        "names": NAMES,
        "flows": flows,
        "profile": profile,
        "alarms": [Alarm("pages", "quality", 0.5, 0.5)],
        "left_out": [LeftOut("pages/x.gz", "no reader for .gz", 3)],
        "hashes": {"policy": "ab" * 32},
        "version": "9.8.7",
        "measured": frozenset({"words", "contamination"}),
    }
    return Facts(**(given | changes))


def head_of(card: str) -> dict:
    yaml = pytest.importorskip("yaml", reason="the head of a card is checked by PyYAML")
    match = re.fullmatch(r"---\n(.*?)\n---\n(.*)", card, re.DOTALL)
    assert match
    return yaml.safe_load(match[1])


def test_the_head_is_yaml_with_the_keys_of_a_hub():
    head = head_of(card_markdown(facts()))
    assert head == {
        "pretty_name": "pages, notes",
        "license": ["cc0-1.0", "unknown"],
        "language": ["en", "no"],  # Norwegian, which a bare `no` would not be
        "size_categories": ["n<1K"],
        "task_categories": ["text-generation"],
        "tags": ["lmworks", "code"],
        "configs": [{"config_name": "default", "data_files": "documents/*.jsonl"}],
    }


def test_the_hub_s_own_library_reads_it():
    hub = pytest.importorskip("huggingface_hub", reason="the card is read by the hub's library")
    card = hub.DatasetCard(card_markdown(facts(), 'A "name": with\nall & sundry'))
    assert card.data.pretty_name == 'A "name": with all & sundry'
    assert card.data.license == ["cc0-1.0", "unknown"] and card.data.size_categories == ["n<1K"]


def test_every_row_of_a_table_has_all_columns():
    lines = card_markdown(facts(left_out=[LeftOut("a", "a | b\nc <script>", 1)])).splitlines()
    tables = [line for line in lines if line.startswith("|")]
    assert len(tables) > 20
    for before, line in pairwise(lines):
        if before.startswith("|") and line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", before)) == len(re.findall(r"(?<!\\)\|", line))
    assert any(line.startswith("| a \\| b c &lt;script&gt;") for line in tables)


def test_what_it_tells():
    card = card_markdown(facts())
    for told in (
        "6 documents of 60 bytes of UTF-8 from pages, notes, of 11 documents of 110 bytes that were read",
        "| pages | web (4) | CC0-1.0 (4) | no (3), en (1) | 2004 to 2019 | 9 | 4 | 90 | 40 |",
        "| notes | code (2) | unknown (2) | unknown (2) | unknown (2) | 2 | 2 | 20 | 20 |",
        "| no reader for .gz | 3 |",
        "| quality | kind web | keeps documents with words at least 50 and at most 1,000 | 5 | 0 | 50 |",
        "| quality | words | 5 | 50 |",
        "| repair | web.navigation | 2 | 5 | 100 | 0 |",
        "| pii.email | 9 | 3 | 5 | 1 |",
        "Evaluation items that were found: 1, in 3 documents, of which 1 stay.",
        "| gsm8k/1 | 3 | 1 | 40% |",
        "- quality took 50% of the documents and 50% of the bytes of pages: the policy may be wrong for this source.",
        "- Documents of unknown licence: 2.",
        "- Places that may be personal data, and are left as they were: 1.",
        "| lmworks | 9.8.7 |",
        "| policy | " + "ab" * 32 + " |",
    ):
        assert told in card, told
    assert not re.search(r"\d\d:\d\d", card)  # no time of day


def test_text_from_outside_is_shown_and_does_nothing():
    hostile = facts(hashes={"<img src=x>": "*bold* [link](javascript:x) `code` $x$ \u202e\x1b"}, version="# no heading")
    card = card_markdown(hostile, "---\npretty_name: injected")
    assert head_of(card)["pretty_name"] == "--- pretty_name: injected"
    body = card.split("\n---\n", 1)[1]
    assert "<img" not in body and "\u202e" not in card and "\x1b" not in card
    markdown = pytest.importorskip("markdown_it")
    page = markdown.MarkdownIt("commonmark").enable("table").render(body)
    assert "&lt;img src=x&gt;" in page and "*bold* [link](javascript:x)" in page and "&lt;U+202E&gt;" in page
    assert "href" not in page


def test_another_name_changes_nothing_else():
    card = card_markdown(facts())
    other = renamed(card, "My \\1 data")
    assert head_of(other) == head_of(card) | {"pretty_name": "My \\1 data"}
    assert other.split("\n---\n", 1)[1].split("\n", 1)[1] == card.split("\n---\n", 1)[1].split("\n", 1)[1]
    assert "# My \\\\1 data\n" in other and renamed(other, "pages, notes") == card


def test_long_lists_are_cut_short_and_counted():
    items = tuple(FoundItem(f"set/{number:03d}", 1, 0, 0.5) for number in range(50))
    profile = facts().profile
    many = facts(profile=Profile(profile.shares, profile.cuts, profile.personal, items))
    card = card_markdown(many)
    assert "| set/019 |" in card and "| set/020 |" not in card and "| and 30 more |" in card


def test_what_was_not_done_is_a_limit():
    told = known_limits(facts(measured=frozenset(), policy=Policy()))
    for each in ("by the licence", "by the language", "by the quality", "Evaluation items were not looked for"):
        assert any(each in line for line in told), each
    policy = Policy(
        (*POLICY.steps, Step("l", labels={"licence": Choice(allow=("MIT",)), "language": Choice(allow=("en",))}))
    )
    done = known_limits(facts(policy=policy))
    assert not any(each in line for line in done for each in ("by the licence", "by the language", "by the quality"))
    assert any("words" in line for line in known_limits(facts(measured=frozenset({"contamination"}))))
    assert "Not looked for" in card_markdown(facts(measured=frozenset()))


def test_a_hub_s_licences():
    found = hub_licences(["CC0-1.0", "", "GPL-3.0-or-later", "MIT OR Apache-2.0", "ODC-By-1.0", "MIT", "LicenseRef-x"])
    assert found == ["cc0-1.0", "gpl-3.0", "mit", "odc-by", "other", "unknown"]
    card = facts(
        profile=Profile((share("a", "all", "", 1, 1), share("a", "licence", "LicenseRef-x", 1, 1)), (), (), ())
    )
    assert head_of(card_markdown(card))["license_name"] == "licence-of-each-document"


@pytest.mark.parametrize(
    ("documents", "told"), [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (10**6, "1M<n<10M"), (10**12, "n>1T")]
)
def test_sizes(documents, told):
    assert size_category(documents) == told


def test_a_policy_in_words():
    assert gates(default_policy()) == {"personal data", "contamination", "duplicates", "quality"}
    assert all(step_in_words(each) for each in default_policy().steps)
    step = Step("s", limits={"words": Limit(1)}, sources=("a*",), languages=("de", "en"))
    assert scope_in_words(step) == "source a*; language de, en"


@pytest.mark.parametrize(
    ("text", "is_left"),
    [
        ("Write to user@example.com, x@mail.example.org or a@host.test.", True),  # RFC 2606 and 6761
        ("Call +1 212 555 0100 or (212) 555-0199.", True),  # ATIS-0300115
        ("Call (212) 555-0200.", False),
        ("From 192.168.0.1, 10.1.2.3, 203.0.113.5, 240.0.0.1 or 2001:db8::1.", True),  # RFC 1918, 5737, 1112, 3849
        ("From 203.0.114.5.", False),
        ("password=changeme, key AKIAIOSFODNN7EXAMPLE", True),
        ("Card 4242 4242 4242 4242.", False),  # published for tests
    ],
)
def test_what_the_card_says_to_be_left_on_purpose_is(text, is_left):
    card = card_markdown(facts(policy=default_policy(), measured=frozenset({MEASURE})))
    assert "Left on purpose is what is nobody's" in card and "published for tests are taken for cards" in card
    assert (find_personal_data(text) == ()) == is_left


def test_reasons_of_single_files_are_counted_together():
    left_out = [LeftOut(f"pages/{size}.txt", f"larger than 20 bytes ({size})") for size in range(21, 60)]
    assert "| larger than 20 bytes | 39 |" in card_markdown(facts(left_out=left_out))
