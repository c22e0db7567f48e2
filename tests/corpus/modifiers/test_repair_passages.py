"""Repeated passages against pages that were scanned twice, and against a search of every passage by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.modifiers.repeated_passages import repair_passages
from noise import (
    book,
    check,
    made_prose,
    needs_books,
    recall_and_precision,
    with_repeated_pages,
    wrapped,
)


@pytest.mark.parametrize("text", [pytest.param(None, id="made"), pytest.param("Dracula", marks=needs_books)])
def test_pages_scanned_twice_go(text: str | None) -> None:
    lines, _ = wrapped(book(text, 200_000) if text else made_prose(300))
    planted = with_repeated_pages(lines)
    edits = repair_passages(planted.text)
    recall, precision = recall_and_precision(planted, edits)
    assert len(planted.spans) > 5 and recall == 1.0 and precision >= 0.999
    assert check(planted.text, edits).split() == lines.split()


def test_case_marks_and_space_may_differ() -> None:
    first = "It was, as he said, one of the longest nights of the year; and nobody who was there forgot it, ever."
    second = first.upper().replace(" ", "\n").replace(",", "").replace(";", " --")
    text = f"{first}\n\n“{second}” And so on."
    assert check(text, repair_passages(text, words=20)) == f"{first}\n\nAnd so on."


def test_shorter_passages_stay() -> None:
    words = " ".join(f"word{n}" for n in range(99))
    text = f"{words}. Then. {words}."
    assert repair_passages(text) == []
    assert check(text, repair_passages(text, words=99)) == f"{words}. Then. "


@given(st.lists(st.sampled_from("abc"), max_size=40), st.integers(1, 4))
def test_nothing_is_cut_that_did_not_stand_before(letters: list[str], words: int) -> None:
    text = " ".join(letters)
    edits = repair_passages(text, words)
    repaired = check(text, edits)
    for edit in edits:
        cut = text[edit.start : edit.end].split()
        assert len(cut) >= words
        assert " ".join(cut) in text[: edit.start]
    # whatever is left has no passage in it whose first occurrence was left as well and does not touch it
    left = repaired.split()
    if not edits:
        for at in range(words, len(left) - words + 1):
            passage = left[at : at + words]
            first = next(n for n in range(len(left)) if left[n : n + words] == passage)
            assert at - first < words
