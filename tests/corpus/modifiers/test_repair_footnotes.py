"""Footnotes against those that were planted; what looks like one and has no partner stays."""

from kit.tables import for_each
from lmworks.corpus.modifiers.footnotes import find_footnotes, repair_footnotes
from noise import book, check, made_prose, recall_and_precision, with_footnotes
from published_data import needs_data


@for_each("marker", ["[{}]", "*", "†", "¹", "[A]"])
def test_planted_notes_go(marker: str) -> None:
    text = made_prose().rstrip("\n")
    planted = with_footnotes(text, marker)
    edits = repair_footnotes(planted.text)
    assert recall_and_precision(planted, edits) == (1.0, 1.0)
    assert check(planted.text, edits) == text


@needs_data
def test_the_notes_of_a_real_book_are_found() -> None:
    text = book("Moby-Dick")
    notes = [text[note.start : note.end] for note in find_footnotes(text)]
    assert 19 <= len(notes) <= 22  # 21 by eye
    assert notes[0].startswith("* I am aware that down to the present time, the fish styled Lamatins")
    assert notes[-1].startswith("*This motion is peculiar to the sperm whale")
    assert not any("ribs and terrors" in note or "jolly is the gale" in note for note in notes)  # songs, in emphasis


PAIRS = [
    ("He went* on\n\n* Away.\n\nto the sea.", "He went on\nto the sea."),  # the sentence goes on behind the note
    ("He went [1] on.\n\n[1] Away.\n\nHe came.", "He went on.\n\nHe came."),
    ("One[1] two[2] end.\n\n[1] First.\n[2] Second\nof two.\n\nEnd.", "One two end.\n\nEnd."),
    ("One[1] and again[1].\n\n[1] First.\n", "One and again.\n"),
    ("One[1].\n\n[1] First.\n\nTwo[1].\n\n[1] Second.", "One.\n\nTwo."),
    ("One[^a] is.\n\n[^a]: The note.", "One is."),
    ("One[1] is.\n\n[Footnote 1: See [the\nother] book.]\n\nEnd.", "One is.\n\nEnd."),
    ("a note* exam-\n\n* Note.\n\nple of it.\n", "a note exam-\nple of it.\n"),
    ("A page* ends.\n\n* Note.\n\fIt goes on.", "A page ends.\n\fIt goes on."),
    ("One[1] is.\n\n" + "Words.\n\n" * 100 + "[1] Note.\n", "One is.\n\n" + "Words.\n\n" * 99 + "Words.\n"),
]
NO_PAIRS = [  # no partner, or no note
    "a broken exam-\n\n* Note.\n\nple of it*.\n",
    "One[1] is.\n\nTwo.",
    "[1] One is.\n\nTwo.",
    "One[1] is.\n\n[2] Two.",
    "[1] Two.\n\nOne[1] is behind.",
    "One* is.\n\n* first item\n* second item\n",
    "One *emphasis* is.\n\n*All* is.",
    "An area of 3 m² or 4 m².\n\n² Note?",
    "As[3] said, and\n[4]_, could be.\n\nSee[4].\n[4]_.\n",
    "See[16] in the module and\n[16] which supports it.\n\nEnd.",  # a line that was wrapped there
    "One* is.\n\n* first\n\nText.\n\n* second\n\nText.\n\n* third\n",
    "def f(*, a):\n    ...\n\n* a name\n\nText.",
    "x ``*`` y\n\n* a name\n\nText.",
    "f(x)[0] = 1\n\n* * *\n\n*** \n",
    "One[1] is.\n\n" + "Words.\n\n" * 10_000 + "[1] The note.\n",  # too far away
]


@for_each(("text", "repaired"), [*PAIRS, *((text, text) for text in NO_PAIRS)])
def test_only_what_both_sides_agree_on_goes(text: str, repaired: str) -> None:
    assert check(text, repair_footnotes(text)) == repaired
