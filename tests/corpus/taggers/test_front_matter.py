"""Front and back matter, and first_chapter, of books that are made around a text and of real ones."""

from kit.tables import for_each
from lmworks.corpus.taggers.front_matter import find_matter, first_chapter, repair_matter
from noise import check, made_prose, wrapped

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
WORKS = "\nBY THE SAME AUTHOR\n\nThe Sea\nThe Ship\nA Whale and Others\n"
COLOPHON = "\nPrinted by Clay & Sons, London and Bungay.\n"
PREFACE = """The first edition of this book was published by Messrs. Smith in 1874, the second edition was printed in
Leipzig, where I lived at the time; of the first printing no copy is left, as far as I know, and nobody asks
for one, since the third edition has all that was in it.

“It was printed by my uncle, and published by nobody,” said he.

“Have you the copyright?” she asked.

"""


def body() -> str:
    pieces = wrapped(made_prose(90))[0].strip().split("\n\n")
    numbered = [f"CHAPTER {n // 30 + 1}.\n\n{piece}" if n % 30 == 0 else piece for n, piece in enumerate(pieces)]
    return "\n\n".join(numbered) + "\n"


@for_each("contents", CONTENTS)
def test_a_book_is_left_with_its_text(contents: str) -> None:
    text = LICENCE + PRODUCER + TITLE + CONTENTS[contents] + "\n\n" + body() + INDEX + COLOPHON + END
    edits = repair_matter(text)
    assert check(text, edits).strip() == body().strip()
    assert [edit.rule.removeprefix("matter.") for edit in edits if edit.rule != "matter.colophon"] == (
        ["licence", "producer", "title_page", "contents", "index", "licence"]
    )


@for_each(("before", "behind"), [(TITLE + COPYRIGHT + "\n", ADVERTISEMENTS), ("", WORKS)])
def test_imprint_and_advertisements_go(before: str, behind: str) -> None:
    text = before + body() + behind
    assert check(text, repair_matter(text)).strip() == body().strip()
    (span,) = (span for span in find_matter(text) if span.rule == "matter.advertisements")
    assert text[span.start : span.end] == behind.lstrip("\n")


def test_text_that_talks_of_books_stays() -> None:
    text = "PREFACE\n\n" + PREFACE + body() + "\n" + PREFACE + "Also by chance\n\n" + wrapped(made_prose(3))[0]
    assert repair_matter(text) == []


@for_each("shift", (0, 60, 140))
def test_no_part_of_a_paragraph_is_cut(shift: int) -> None:
    """Near either end imprints are looked for: within 8,000 characters, and 4,000."""
    imprint = "Copyright 1851. All rights reserved. " + "It is of no use to anybody, who has not read it all. " * 40
    text = "Words.\n\n" + "a" * (7900 - shift) + "\n\n" + imprint + "\n\n" + body()
    assert repair_matter(text) == []
    talk = "He was fond of it. " * 90 + "Printed in 1851, all rights reserved."
    text = body() + "\n" + talk + "\n\n" + "a" * (4000 - 60 + shift) + "\n"
    assert repair_matter(text) == []


@for_each(("text", "heading"), [
    ("CHAPTER I\n\nLoomings\n\nCall me\n\nCHAPTER II\n\nText.", "CHAPTER I"),
    ("A tale.\n\nPREFACE\n\nIt is so.\n\nBook the First. Of it\n\nText.", "PREFACE"),
    ("It is so.\n\nBook the First. Of it\n\nText.", "Book the First. Of it"),
    ("Of it.\n\nI\n\nText of it.\n\nII\n\nMore.\n\nIII\n\nEnd.", "I"),
    ("\nPart I have seen\n\nLetter to him\n\nIntroduction of steam\n", None),
    ("Kapitel 2: Das Ende\n\nAus.", "Kapitel 2: Das Ende"),
])  # fmt: skip
def test_headings(text: str, heading: str | None) -> None:
    start = first_chapter(text)
    assert (None if start is None else text[start:].partition("\n")[0]) == heading
