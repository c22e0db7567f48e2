"""Pages against texts whose pages were made: what was planted is found, and what looks like it stays."""

import re
from itertools import cycle

from kit.tables import for_each
from lmworks.corpus.modifiers.page_breaks import find_pages, repair_pages
from noise import book, check, made_prose, paged, recall_and_precision, wrapped
from published_data import needs_data

TENS, UNITS = ["", "x", "xx", "xxx", "xl", "l"], ["", "i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix"]
LAYOUTS = {
    "numbers below": {}, "dashes": {"number": "- {} -"}, "of nine": {"number": "Page {} of 999"},
    "from 312": {"first": 312}, "Roman": {"numeral": lambda value: TENS[value // 10] + UNITS[value % 10]},
    "heads": {"heads": ["THE LIFE OF A WHALE", "A Book by Somebody"]},
    "numbers in heads": {"heads": ["{} THE LIFE OF A WHALE", "CHAPTER ONE {}"], "number": ""},
}  # fmt: skip


@for_each(("layout", "form_feeds"), zip(LAYOUTS, cycle([True, False])))
def test_planted_numbers_and_heads_go(layout: str, form_feeds: bool) -> None:
    text, _ = wrapped(made_prose(160))
    planted = paged(text, form_feeds=form_feeds, **LAYOUTS[layout])
    edits = repair_pages(planted.text)
    recall, precision = recall_and_precision(planted, edits)
    assert recall >= 0.93 and precision == 1.0
    assert abs(len(find_pages(planted.text)) - len(text.split("\n")) / 36) <= 2
    assert check(planted.text, edits).split()[-200:] == text.split()[-200:]


@needs_data
@for_each("form_feeds", [True, False])
def test_a_real_book_comes_back(form_feeds: bool) -> None:
    text, _ = wrapped(book("Flatland", 120_000))
    planted = paged(text, heads=["FLATLAND", "A Romance of Many Dimensions"], form_feeds=form_feeds)
    edits = repair_pages(planted.text)
    recall, precision = recall_and_precision(planted, edits)
    assert recall >= 0.97 and precision >= 0.999
    repaired = check(planted.text, edits)
    assert "\f" not in repaired
    # paragraphs go on over the breaks: hardly any is torn, and hardly two are joined
    before, after = re.split(r"\n\n+", text.strip()), re.split(r"\n\n+", repaired.strip())
    assert len(set(before) & set(after)) >= 0.9 * len(set(before))


HEADS = ["THE LIFE OF A WHALE", "THE LIFE 0F A WHALE", "THE L1FE OF A WIIALE", "TIIE LIFE OF A WHALE"]
OF_CHAPTERS = ["THE LIFE OF A WHALE", "CHAPTER THE FIRST"]


@for_each("heading", ["", "## Chapter {}", "CHAPTER {}", "Letter {}"])
def test_heads_with_errors_of_ocr_go_and_headings_with_numbers_stay(heading: str) -> None:
    blocks = made_prose(160).strip().split("\n\n")
    chapters = (f"{heading.format(n // 20 + 1)}\n\n{block}" if n % 20 == 0 else block for n, block in enumerate(blocks))
    text, _ = wrapped("\n\n".join(chapters))
    planted = paged(text, heads=OF_CHAPTERS if heading else HEADS, form_feeds=not heading)
    recall, precision = recall_and_precision(planted, repair_pages(planted.text))
    assert recall >= 0.95 and precision == 1.0


def test_numbers_of_sections_stay() -> None:
    """Alone on their lines and counting up, but no sentence runs through them."""
    paragraphs = wrapped(made_prose(120))[0].strip().split("\n\n")
    numbered = "\n\n".join(f"{n // 4 + 1}\n\n{p}" if n % 4 == 0 else p for n, p in enumerate(paragraphs))
    assert repair_pages(numbered) == []


def test_a_footnote_ends_with_its_page() -> None:
    words = ["whales are", "ships", "a captain of", "the sea and"]
    pages = [f"Of {each}* I have\nto tell of {each}\n\n* A note on {each}" for each in words]
    text = "\f".join(f"{page}\n\n{number}\n" for number, page in enumerate(pages, start=1))
    repaired = check(text, repair_pages(text))
    assert "* A note on ships\n\nOf a captain of" in repaired and "1\n" not in repaired


@needs_data
def test_clean_text_has_no_pages() -> None:
    for name in ("Moby-Dick", "The Republic", "On the Origin of Species"):
        assert repair_pages(wrapped(book(name, 200_000))[0]) == []
