"""Front and back matter, and chapters, of books that are made around a text and of real ones."""

import pytest

from lmworks.corpus.taggers.front_matter import chapters, find_matter, repair_matter
from noise import book, check, made_prose, needs_books, wrapped

LICENCE = """The Project Gutenberg eBook of The Whale

This ebook is for the use of anyone anywhere.

*** START OF THE PROJECT GUTENBERG EBOOK THE WHALE ***
"""
PRODUCER = "\nProduced by Jane Doe and the Online\nDistributed Proofreading Team\n"
END = "\n*** END OF THE PROJECT GUTENBERG EBOOK THE WHALE ***\n\nSection 1. General Terms of Use\n"
TITLE = "\nTHE WHALE\n\nA NOVEL\n\nby\n\nHerman Author\n\nLONDON\nSmith & Company, Publishers\n1851\n\n"
COPYRIGHT = "Copyright 1851 by the author. All rights reserved.\nPrinted in Great Britain.\n\n"
CONTENTS = {
    "leaders": "CONTENTS\n\n" + "".join(f"CHAPTER {n}. The {w} ....... {n * 12}\n" for n, w in enumerate("abcdefg", 1)),
    "spaces": "Table of Contents\n\n" + "".join(f"The Story of {w}      {n * 7}\n" for n, w in enumerate("abcdefg", 1)),
    "Roman": "CONTENTS.\n\n" + "".join(f"{r}. The {r} story\n" for r in ("I", "II", "III", "IV", "V", "VI", "VII")),
}
INDEX = (
    "\nINDEX\n\nA\n\nAhab, 12, 45-47\nAnchors, 101\n  of iron, 102 n.\n"
    "Blubber, 7, 8; see also Whale\nBoats, 77\nWhale, 1, 3\n"
)
ADVERTISEMENTS = "\nADVERTISEMENTS\n\nTHE SEA, by the same hand. Cloth, 3s. 6d.\n\nTHE SHIP. Second edition. 5s.\n"
COLOPHON = "\nPrinted by Clay & Sons, London and Bungay.\n"


def body(title: str = "CHAPTER {}.") -> str:
    pieces = wrapped(made_prose(90))[0].strip().split("\n\n")
    numbered = [f"{title.format(n // 30 + 1)}\n\n{piece}" if n % 30 == 0 else piece for n, piece in enumerate(pieces)]
    return "\n\n".join(numbered) + "\n"


@pytest.mark.parametrize("contents", CONTENTS)
def test_a_book_is_left_with_its_text(contents: str) -> None:
    text = LICENCE + PRODUCER + TITLE + CONTENTS[contents] + "\n\n" + body() + INDEX + COLOPHON + END
    edits = repair_matter(text)
    assert check(text, edits).strip() == body().strip()
    assert [edit.rule for edit in edits if edit.rule != "matter.colophon"] == [
        "matter.licence",
        "matter.producer",
        "matter.title_page",
        "matter.contents",
        "matter.index",
        "matter.licence",
    ]


def test_imprint_and_advertisements() -> None:
    text = TITLE + COPYRIGHT + "\n" + body() + ADVERTISEMENTS
    marks = {mark.rule: mark for mark in find_matter(text)}
    assert check(text, repair_matter(text)).strip() == body().strip()
    assert text[marks["matter.advertisements"].start :] == ADVERTISEMENTS.lstrip("\n")
    assert marks["matter.advertisements"].score > 0.8


def test_text_that_talks_of_books_stays() -> None:
    preface = (
        "The first edition of this book was published by Messrs. Smith in 1874, and the second edition was printed in\n"
        "Leipzig, where I lived at the time; of the first printing no copy is left, as far as I know, and nobody asks\n"
        "for one, since the third edition has all that was in it.\n\n"
        "“It was printed by my uncle, and published by nobody,” said he.\n\n"
        "“Have you the copyright?” she asked.\n\n"
    )
    text = "PREFACE\n\n" + preface + body() + "\n" + preface + "Also by chance\n\n" + wrapped(made_prose(3))[0]
    assert repair_matter(text) == []
    works = "\nBY THE SAME AUTHOR\n\nThe Sea\nThe Ship\nA Whale and Others\n"
    assert check(body() + works, repair_matter(body() + works)).strip() == body().strip()


@needs_books
@pytest.mark.parametrize(
    ("name", "pattern", "count"),
    [
        ("Moby-Dick", "CHAPTER", 135),
        ("Alice's Adventures in Wonderland", "Chapter", 12),
        ("Pride and Prejudice", "Chapter", 61),
        ("Dracula", "CHAPTER", 27),
    ],
)
def test_chapters_of_real_books(name: str, pattern: str, count: int) -> None:
    for text in (book(name), book(name).replace("#", "")):  # headings that are marked, and that only their words show
        assert sum(text[start:].lstrip("# ").startswith(pattern) for start in chapters(text)) == count


@needs_books
@pytest.mark.parametrize("name", ["Moby-Dick", "The Republic", "Frankenstein", "The Time Machine"])
def test_real_books_lose_their_title_at_most(name: str) -> None:
    text = book(name)
    assert len(text) - len(check(text, repair_matter(text))) < 200


@pytest.mark.parametrize(
    ("text", "titles"),
    [
        ("CHAPTER I\n\nLoomings\n\nCall me\n\nCHAPTER II\n\nText.", ["CHAPTER I", "CHAPTER II"]),
        ("PREFACE\n\nIt is so.\n\nBook the First. Of it\n\nText.", ["PREFACE", "Book the First. Of it"]),
        ("I\n\nText of it.\n\nII\n\nMore.\n\nIII\n\nEnd.", ["I", "II", "III"]),
        ("\nPart I have seen\n\nLetter to him\n\nIntroduction of steam\n", []),
        ("Kapitel 1\n\nEs war.\n\nKapitel 2: Das Ende\n\nAus.", ["Kapitel 1", "Kapitel 2: Das Ende"]),
        ("Contents\n\nChapter 1\nChapter 2\nChapter 3\n\n" + 40 * "Text. " + "\n\nChapter 1\n\nText.", ["Chapter 1"]),
    ],
)
def test_headings(text: str, titles: list[str]) -> None:
    assert [text[start:].partition("\n")[0] for start in chapters(text)] == titles


PARTS = [*CONTENTS.values(), INDEX, LICENCE, END, "\n", "Chapter 1\n\n", "Words.\n", "a, 1\n"]
