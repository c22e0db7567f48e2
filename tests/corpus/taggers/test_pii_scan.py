"""All families together: whatever the text, spans lie in it apart from each other, and what they say is stable."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from pii_texts import texts

from kit.tables import for_each
from lmworks.corpus.attributes import TaggedSpan
from lmworks.corpus.edits import apply_edits
from lmworks.corpus.filtering.decide import type_in_place
from lmworks.corpus.taggers.pii.metadata import field_of, metadata_spans
from lmworks.corpus.taggers.pii.scan import ORDER, find_personal_data
from lmworks.records import Document, Edit


@given(texts | st.text(), st.sampled_from([0.0, 0.5, 0.9]))
def test_spans_lie_inside_and_apart(text, at_least):
    position = 0
    for span in find_personal_data(text, at_least):
        assert position <= span.start < span.end <= len(text)
        assert span.rule in ORDER and at_least <= span.score <= 1
        position = span.end


@given(texts, st.sampled_from([0.01, 0.5, 0.9]))
def test_nothing_is_found_after_redaction(text, at_least):
    assert find_personal_data(redacted(text, at_least), at_least) == ()


def redacted(text: str, at_least: float) -> str:
    """With what corpus.filter writes in place of each find."""
    spans = find_personal_data(text, at_least)
    return apply_edits(text, [Edit(span.start, span.end, type_in_place(span.rule), span.rule) for span in spans]).text


def test_finds_are_replaced_by_their_types():
    text = "jo@acme.com has 212-736-5000, 4111 1111 1111 1111 and 536-90-4399."
    assert redacted(text, 0.5) == "<EMAIL> has <PHONE>, <CARD> and <SSN>."


@for_each(("field", "value", "found"), [
    ("title", "By Jo <jo@acme.com>", ("title", "pii.email", "jo@acme.com")),
    ("uri", "mail/jo@acme.com/1", ("uri", "pii.email", "jo@acme.com")),
    ("phone", "450 0840", ("metadata.phone", "pii.phone", "450 0840")), ("number", "450 0840", None),
    ("api_key", "abcd", ("metadata.api_key", "pii.password", "abcd")), ("api_key", "yes", None),
    ("tokens", "jo's 4096123 words", None),
    ("jo@acme.com", "x", ("metadata_name.jo@acme.com", "pii.email", "jo@acme.com")), ("revision", "536-90-4399", None),
    ("id", "<urn:uuid:36042619-9101-4100-8171-000000000000>", None),
])  # fmt: skip
def test_titles_metadata_and_uris_are_looked_at(field, value, found):
    given = {field: value} if field in ("title", "uri") else {"metadata": {field: value}}
    document = replace(Document("", "a/1", "text/plain", "plain", "1", "0" * 64), **given)
    expected = [TaggedSpan(f"{found[0]}:{found[1]}", 0, 0)] if found else []
    spans = metadata_spans(document)
    assert [field_of(span.rule) for span in spans] == [field_of(span.rule) for span in expected]
    assert all((field if "_name" in span.rule else value)[span.start : span.end] == found[2] for span in spans)
    of_table = replace(document, extractor="row")
    assert (field == "revision") == (metadata_spans(of_table) != spans)  # a column may have any name
