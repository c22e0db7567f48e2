"""Marks to edits that apply: by type, and by pseudonyms that stay the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pii_texts import texts

from lmworks.data.annotate.pii.redact import one_writing, redact_by_pseudonym, redact_by_type
from lmworks.data.annotate.pii.scan import find_personal_data
from lmworks.data.annotation import Mark
from lmworks.data.edits import apply_edits

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))


def pseudonymised(text: str, key: bytes = KEY) -> str:
    return apply_edits(text, redact_by_pseudonym(text, find_personal_data(text), key)).text


def test_finds_are_replaced_by_their_types():
    text = "jo@acme.com has 212-736-5000, 4111 1111 1111 1111 and 536-90-4399."
    redacted = apply_edits(text, redact_by_type(find_personal_data(text))).text
    assert redacted == "<EMAIL> has <PHONE>, <CARD> and <SSN>."


def test_the_same_find_has_the_same_pseudonym_in_every_text():
    first = pseudonymised("Write to Jo@Acme.com")
    assert first.startswith("Write to <EMAIL-") and first.endswith(">")
    assert pseudonymised("From: jo@acme.com").removeprefix("From: ") == first.removeprefix("Write to ")
    assert pseudonymised("Write to jo@acme.org") != first
    assert pseudonymised("Write to Jo@Acme.com", OTHER_KEY) != first
    assert pseudonymised("(212) 736-5000") == pseudonymised("212.736.5000")


def test_equal_digits_of_two_types_have_nothing_in_common():
    def letters(rule: str) -> str:
        (edit,) = redact_by_pseudonym("4111", [Mark(rule, 0, 4)], KEY)
        return edit.replacement.rpartition("-")[2]

    assert letters("pii.card") != letters("pii.phone")


@given(texts)
def test_nothing_is_found_after_pseudonyms(text):
    assert find_personal_data(pseudonymised(text)) == ()


ranges = st.lists(st.tuples(st.sampled_from(["pii.email", "pii.phone"]), st.integers(0, 20), st.integers(0, 6)))


@given(ranges)
def test_whatever_overlaps_is_one_edit_over_all_of_it(ranges):
    text = "0123456789abcdefghijklmnopqrstuvwxyz"
    marks = [Mark(rule, start, start + length) for rule, start, length in ranges]
    edits = redact_by_type(marks)
    covered = {place for edit in edits for place in range(edit.start, edit.end)}
    assert covered == {place for mark in marks for place in range(mark.start, mark.end)}
    assert sum(edit.end - edit.start for edit in edits) == len(covered)
    apply_edits(text, edits)  # an error where two meet
    for mark in marks:
        if mark.start < mark.end:
            assert sum(edit.start <= mark.start and mark.end <= edit.end for edit in edits) == 1


def test_the_rule_of_overlapping_marks_is_the_one_that_comes_first():
    (edit,) = redact_by_type([Mark("pii.phone", 0, 5), Mark("pii.card", 3, 9)])
    assert (edit.start, edit.end, edit.replacement, edit.rule) == (0, 9, "<CARD>", "pii.card")


@pytest.mark.parametrize("key", [b"", b"short", bytes(15), bytes(65)])
def test_a_key_that_can_be_guessed_is_refused(key):
    with pytest.raises(ValueError, match="16 to 64"):
        redact_by_pseudonym("", [], key)


@pytest.mark.parametrize(
    ("rule", "found", "written"),
    [
        ("pii.iban", "de89 3704 0044 0532 0130 00", "de89370400440532013000"),
        ("pii.phone", "+41 (0)44-668.18/00", "410446681800"),
        ("pii.ip", "2001:0DB8:0:0::1", "2001:db8::1"),
        ("pii.email", "Jo@Acme.Com", "jo@acme.com"),
        ("pii.password", "Secret 1", "Secret 1"),
    ],
)
def test_one_way_of_writing(rule, found, written):
    assert one_writing(rule, found) == written
