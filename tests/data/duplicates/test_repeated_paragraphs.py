"""Repeated paragraphs: against a dictionary of words, for documents in any parts."""

import re
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.data.duplicates.paragraphs import RULE, joined, paragraphs_of, repeated_paragraphs
from lmworks.data.duplicates.words import words

PARAGRAPHS = st.sampled_from(["one two", "One, two.", "  one two  ", "three four", "five", "-- --", "漢字 é"])
TEXTS = st.lists(st.lists(PARAGRAPHS, max_size=5).map(lambda parts: "\n \n\n".join(parts)), max_size=6)


def by_definition(texts: list[str], unit: str, least: int, at_least: int) -> dict[int, list[tuple[int, int]]]:
    """Document → places of its paragraphs, but for the first place of each."""
    border = {"paragraph": r"\n\s*\n", "line": r"\n"}[unit]
    places = defaultdict(list)
    for document, text in enumerate(texts):
        start = 0
        for part in re.split(f"({border})", text):
            content = part.strip()
            if len(content) >= least and words(content):
                begin = start + part.index(content)
                places[tuple(words(content))].append((document, begin, begin + len(content)))
            start += len(part)
    found = defaultdict(list)
    for where in places.values():
        if len({document for document, _, _ in where}) >= at_least:
            for document, start, end in where[1:]:
                found[document].append((start, end))
    return {document: sorted(ranges) for document, ranges in found.items()}


@given(TEXTS, st.sampled_from(["paragraph", "line"]), st.integers(1, 8), st.integers(2, 3), st.integers(0, 6))
def test_marks_are_all_places_but_the_first(texts, unit, least, at_least, cut):
    parts = [paragraphs_of(texts[:cut], unit, least), paragraphs_of(texts[cut:], unit, least, len(texts[:cut]))]
    marks = repeated_paragraphs(joined(parts), at_least).marks()
    found = {document: [(mark.start, mark.end) for mark in each] for document, each in marks.items()}
    assert found == by_definition(texts, unit, least, at_least)


def test_the_owner_and_the_number_of_documents_are_told():
    notice = "All rights are reserved by the publisher of this page."
    texts = ["nothing of it", f"{notice}\n\nown text", f"before\n\n{notice}\n\n{notice}", notice.upper()]
    found = repeated_paragraphs(paragraphs_of(texts, least=30))
    assert found.documents.tolist() == [1, 2, 2, 3]
    assert found.groups.tolist() == [0, 0, 0, 0]
    assert found.owners.tolist() == [1, 1, 1, 1]
    assert found.frequencies.tolist() == [3, 3, 3, 3]
    marks = found.marks()
    assert sorted(marks) == [2, 3]
    assert {texts[2][mark.start : mark.end] for mark in marks[2]} == {notice}
    assert {mark.rule for mark in marks[2]} == {RULE}


def test_short_paragraphs_and_lone_documents_are_left_alone():
    assert repeated_paragraphs(paragraphs_of(["Page 3", "Page 3"])).marks() == {}
    twice = "A paragraph that one document has twice, for whatever reason."
    assert repeated_paragraphs(paragraphs_of([f"{twice}\n\n{twice}", "other"], least=10)).marks() == {}
    with pytest.raises(ValueError, match="at least two"):
        repeated_paragraphs(paragraphs_of([]), at_least=1)
