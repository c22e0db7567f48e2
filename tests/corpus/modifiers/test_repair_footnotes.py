"""Footnotes against those that were planted; what looks like one and has no partner stays."""

import pytest

from lmworks.corpus.modifiers.footnotes import find_footnotes, repair_footnotes
from noise import book, check, made_prose, needs_books, recall_and_precision, with_footnotes

MARKERS = ["[{}]", "*", "†", "¹", "[A]"]


@pytest.mark.parametrize("marker", MARKERS)
def test_planted_notes_go(marker: str) -> None:
    text = made_prose().rstrip("\n")
    planted = with_footnotes(text, marker)
    edits = repair_footnotes(planted.text)
    assert recall_and_precision(planted, edits) == (1.0, 1.0)
    assert check(planted.text, edits) == text


@needs_books
@pytest.mark.parametrize("marker", ["[{}]", "*"])
def test_notes_planted_in_a_real_book_go(marker: str) -> None:
    planted = with_footnotes(book("Pride and Prejudice", 150_000), marker)
    recall, precision = recall_and_precision(planted, repair_footnotes(planted.text))
    assert recall >= 0.98 and precision == 1.0


@needs_books
def test_the_notes_of_a_real_book_are_found() -> None:
    text = book("Moby-Dick")
    notes = [text[note.start : note.end] for note in find_footnotes(text)]
    assert 19 <= len(notes) <= 22  # 21 by eye
    assert notes[0].startswith("* I am aware that down to the present time, the fish styled Lamatins")
    assert notes[-1].startswith("*This motion is peculiar to the sperm whale")
    assert not any("ribs and terrors" in note or "jolly is the gale" in note for note in notes)  # songs, in emphasis


@pytest.mark.parametrize(
    ("text", "repaired"),
    [
        ("He went* on\n\n* Away.\n\nto the sea.", "He went on\nto the sea."),  # the sentence goes on behind the note
        ("He went [1] on.\n\n[1] Away.\n\nHe came.", "He went on.\n\nHe came."),
        ("One[1] two[2] end.\n\n[1] First.\n[2] Second\nof two.\n\nEnd.", "One two end.\n\nEnd."),
        ("One[1] and again[1].\n\n[1] First.\n", "One and again.\n"),
        ("One[1].\n\n[1] First.\n\nTwo[1].\n\n[1] Second.", "One.\n\nTwo."),
        ("One[^a] is.\n\n[^a]: The note.", "One is."),
        ("One[1] is.\n\n[Footnote 1: See [the\nother] book.]\n\nEnd.", "One is.\n\nEnd."),
        ("A word¹ is.\n\n¹ The note.", "A word is."),
        ("a broken exam-\n\n* Note.\n\nple of it*.\n", "a broken exam-\n\n* Note.\n\nple of it*.\n"),
        ("a note* exam-\n\n* Note.\n\nple of it.\n", "a note exam-\nple of it.\n"),
        ("A page* ends.\n\n* Note.\n\fIt goes on.", "A page ends.\n\fIt goes on."),
        # no partner, or no note:
        ("One[1] is.\n\nTwo.", None),
        ("[1] One is.\n\nTwo.", None),
        ("One[1] is.\n\n[2] Two.", None),
        ("[1] Two.\n\nOne[1] is behind.", None),
        ("One* is.\n\n* first item\n* second item\n", None),
        ("One *emphasis* is.\n\n*All* is.", None),
        ("An area of 3 m² or 4 m².\n\n² Note?", None),
        ("As[3] said, and\n[4]_, could be.\n\nSee[4].\n[4]_.\n", None),
        ("See[16] in the module and\n[16] which supports it.\n\nEnd.", None),  # a line that was wrapped there
        ("One* is.\n\n* first\n\nText.\n\n* second\n\nText.\n\n* third\n", None),
        ("def f(*, a):\n    ...\n\n* a name\n\nText.", None),
        ("x ``*`` y\n\n* a name\n\nText.", None),
        ("f(x)[0] = 1\n\n* * *\n\n*** \n", None),
    ],
)
def test_pairs(text: str, repaired: str | None) -> None:
    assert check(text, repair_footnotes(text)) == (text if repaired is None else repaired)


def test_what_is_too_far_away_is_no_pair() -> None:
    for paragraphs, count in ((100, 2), (10_000, 0)):
        assert len(repair_footnotes("One[1] is.\n\n" + "Words.\n\n" * paragraphs + "[1] The note.\n")) == count
