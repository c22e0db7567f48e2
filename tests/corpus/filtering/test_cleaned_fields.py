"""Titles and metadata are cleaned as texts are, whatever a policy says of texts."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.artefact import read_manifest
from lmworks.build import run_alone
from lmworks.corpus.attributes import AttributeTable
from lmworks.corpus.documents import CorpusShard, DocumentStore
from lmworks.corpus.filtering.decide import FieldFind, judge
from lmworks.corpus.filtering.document_fields import clean_fields
from lmworks.corpus.filtering.filter_policy import OnMark, Policy, Step, default_policy
from lmworks.corpus.filtering.filtered_shards import Decided, live_through
from lmworks.corpus.taggers.pii.scan import find_personal_data
from lmworks.records import Document

MAIL, PHONE = "jane.miller@bakery-miller.com", "+41 44 668 18 00"
REDACT = Step("personal", marks={"pii.*": OnMark("redact", 0.5)})


def document(title: str = "", extractor: str = "row", uri: str = "s/a", text: str = "A text.", **metadata: str):
    return Document(text, uri, "text/plain", extractor, "1", "0" * 64, title=title, source="s", metadata=metadata)


def test_titles_and_columns_are_redacted_and_what_was_found_is_told():
    cleaned = clean_fields(
        document(f"Write to {MAIL}", author=f"Jane <{PHONE}>", section="news"), (REDACT,), "text", "en"
    )
    assert cleaned.title == "Write to <EMAIL>"
    assert cleaned.metadata == {"author": "Jane <<PHONE>>", "section": "news"}
    assert cleaned.found == (FieldFind("title", "pii.email", True), FieldFind("metadata", "pii.phone", True))


@pytest.mark.parametrize("name", ["password", "user_password", "PW", "api key", "client-secret"])
@pytest.mark.parametrize("value", ["hunter2Zq8!", "p@ss,w0rd!x", "correct horse battery"])
def test_all_of_a_column_of_passwords_goes(name, value):
    cleaned = clean_fields(document(**{name: value, "token": "Covid-19"}), (REDACT,), "text", "en")
    assert cleaned.metadata == {name: "<PASSWORD>", "token": "Covid-19"}


def test_what_is_added_is_looked_at_too():
    more = {"declared_language": f"ask {MAIL}"}
    assert clean_fields(document(note="c"), (REDACT,), "text", "en", more).metadata == {
        "note": "c",
        "declared_language": "ask <EMAIL>",
    }


def test_names_of_columns_are_redacted():
    cleaned = clean_fields(document(**{MAIL: "a", "jo@bakery-miller.com": "b", "note": "c"}), (REDACT,), "text", "en")
    assert cleaned.metadata == {"<EMAIL>": "a", "<EMAIL>-2": "b", "note": "c"}


def test_what_a_source_may_write_is_looked_at_and_the_name_of_a_record_stays():
    record = "<urn:uuid:92283950-ef2f-4d72-b224-f54c6ec90bb0>"
    cleaned = clean_fields(document(extractor="mail", charset=MAIL, record=record), (REDACT,), "mail", "en")
    assert cleaned.metadata == {"charset": "<EMAIL>", "record": record}


def test_whether_there_is_a_password_is_none():
    assert clean_fields(document(password="yes", pwned=MAIL), (REDACT,), "text", "en").metadata == {
        "password": "yes",
        "pwned": "<EMAIL>",
    }


@pytest.mark.parametrize(
    ("marks", "title"),
    [
        ({"pii.*": OnMark("redact")}, "Call <PHONE> or <EMAIL>"),
        ({"pii.*": OnMark("cut")}, "Call  or "),
        ({"pii.*": OnMark("drop")}, "Call <PHONE> or <EMAIL>"),  # a title drops no document
        ({"pii.phone": OnMark("cut"), "pii.*": OnMark("redact", 0.99)}, f"Call  or {MAIL}"),
        ({"contamination": OnMark("cut")}, f"Call {PHONE} or {MAIL}"),
    ],
)
def test_the_action_and_the_threshold_are_those_of_the_policy(marks, title):
    cleaned = clean_fields(document(f"Call {PHONE} or {MAIL}"), (Step("s", marks=marks),), "text", "en")
    assert cleaned.title == title
    left = {PHONE: "pii.phone", MAIL: "pii.email"}
    assert [find.rule for find in cleaned.found if not find.removed] == [left[each] for each in left if each in title]


@pytest.mark.parametrize(
    ("scope", "applies"),
    [
        ({"kinds": ("web",)}, False),
        ({"kinds": ("mail",)}, True),
        ({"sources": ("t*",)}, False),
        ({"languages": ("de",)}, False),
        ({"languages": ("en",), "sources": ("s",)}, True),
    ],
)
def test_a_step_that_does_not_look_at_a_document_leaves_its_title(scope, applies):
    step = Step("s", marks={"pii.*": OnMark("redact")}, **scope)
    cleaned = clean_fields(document(MAIL), (step,), "mail", "en")
    assert cleaned.title == ("<EMAIL>" if applies else MAIL)


def test_the_name_of_a_column_says_what_a_bare_number_is():
    cleaned = clean_fields(document(phone_number="5554321", pages="5554321"), (REDACT,), "text", "en")
    assert cleaned.metadata == {"phone_number": "<PHONE>", "pages": "5554321"}


def test_what_readers_write_themselves_stays_and_columns_of_that_name_do_not():
    """The hexadecimal digits of this identifier are those of a bank account as well."""
    record = "urn:uuid:be181716-2b0a-4228-aca1-2024fe730f23"
    assert find_personal_data(record)
    assert (
        clean_fields(document(extractor="web-page", record=record), (REDACT,), "web", "en").metadata["record"] == record
    )
    assert clean_fields(document(record=MAIL), (REDACT,), "text", "en").metadata["record"] == "<EMAIL>"


def test_a_uri_stays_and_is_counted():
    cleaned = clean_fields(document("About", uri=f"s/{MAIL}/1"), (REDACT,), "text", "en")
    assert cleaned.found == (FieldFind("uri", "pii.email", False),)


PIECES = st.sampled_from([
    MAIL, PHONE, "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00", "93.184.216.34", "https://x.com/johndoe",
    "password=hunter2!x", " ", ", ", "call ", "<", "1", "of the", "\n",
])  # fmt: skip


@given(
    st.lists(PIECES, min_size=1, max_size=6).map("".join),
    st.sampled_from(["cut", "redact"]),
    st.sampled_from([0.5, 0.9]),
)
def test_a_title_becomes_what_a_text_of_the_same_words_becomes(words, action, at_least):
    both = document(words, text=words)
    marks = find_personal_data(words)
    table = AttributeTable(
        [both.uri], [both.hash], ["text"], np.array([len(words)]), np.array([len(words.encode())]),
        scores={"pii_marks": np.array([float(len(marks))])}, spans=[marks], sources=["s"],
    )  # fmt: skip
    steps = (
        Step("cards", marks={"pii.card": OnMark("cut", 0.6), "pii.i*": OnMark("redact")}),
        Step("all", marks={"pii.*": OnMark(action, at_least)}),
    )
    decided = Decided(CorpusShard(0, "i", Path()), (), steps, tuple(judge(Policy(steps), table)))
    lived = live_through(both, 0, table, decided)
    if lived.cleaned is not None:
        assert lived.cleaned.title == lived.cleaned.text
        removed = sum(cut.rule.startswith("pii.") for entry in lived.entries for cut in entry.cuts)
        assert sum(find.removed for find in lived.entries[-1].fields) == removed


@given(st.lists(PIECES, max_size=6).map("".join))
def test_nothing_that_the_default_policy_takes_is_found_in_a_title_afterwards(title):
    assert find_personal_data(clean_fields(document(title), default_policy().steps, "text", "en").title) == ()


PROSE = "The council met on Tuesday to talk about the new bridge over the river, and most were in favour of it.\n"


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """Rows of a table with personal data in titles and columns, and a page in a file that is called by an address."""
    folder = tmp_path_factory.mktemp("fields")
    (folder / "texts").mkdir()
    rows = [
        {"text": f"{PROSE * 3} Row {number}.", "title": title, "author": author, "section": "news"}
        for number, (title, author) in enumerate([(f"From {MAIL}", "ann"), ("A bridge", PHONE), ("Another", "bob")])
    ]
    (folder / "texts" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "texts" / f"{MAIL}.txt").write_text(f"{PROSE * 3} A file.\n")
    run_alone("data.read", folder / "documents", [], [], [f'sources=["{folder / "texts"}"]'])
    return folder


def cleaned_by(folder, name: str, *annotate: str):
    run_alone("data.annotate", folder / f"a-{name}", [folder / "documents"], [], ["heuristics=false", *annotate])
    steps = 'steps=[{name="personal", marks={"pii.*"={action="redact"}}}]'
    run_alone("data.clean", folder / f"c-{name}", [folder / "documents", folder / f"a-{name}"], [], [steps])
    return {each.uri.rpartition("/")[2]: each for each in DocumentStore(folder / f"c-{name}")}


def test_cleaned_documents_and_their_card(stages):
    cleaned = cleaned_by(stages, "all")
    assert [cleaned[name].title for name in ("1", "2", "3")] == ["From <EMAIL>", "A bridge", "Another"]
    assert [cleaned[name].metadata["author"] for name in ("1", "2", "3")] == ["ann", "<PHONE>", "bob"]
    assert f"{MAIL}.txt" in cleaned
    card = (stages / "c-all" / "data_card.md").read_text()
    for told in (
        "| metadata | pii.phone | 1 | 1 | 0 |",
        "| title | pii.email | 1 | 1 | 0 |",
        "| uri | pii.email | 1 | 0 | 1 |",
        "- Documents whose uri, which no step changes, holds personal data: 1.",
        "author (3), section (3)",
    ):
        assert told in card, told
    texts = "".join(path.read_text() for path in (stages / "c-all" / "documents").glob("*.jsonl"))
    assert PHONE not in texts and texts.count(MAIL) == 1  # the uri
    assert read_manifest(stages / "c-all").metrics["without_effect"] == []


def test_where_personal_data_are_not_looked_for_titles_stay_as_well(stages):
    assert cleaned_by(stages, "none", "personal=false")["1"].title == f"From {MAIL}"
    assert "Personal data were not looked for" in (stages / "c-none" / "data_card.md").read_text()
