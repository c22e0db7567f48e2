"""All modifiers of a kind together, and what holds of each: clean books stay, edits never meet, twice is once."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.corpus.documents import Kind
from lmworks.corpus.edits import apply_edits
from lmworks.corpus.modifiers.chat_log import repair_chat
from lmworks.corpus.modifiers.footnotes import repair_footnotes
from lmworks.corpus.modifiers.hyphenation import repair_hyphenation
from lmworks.corpus.modifiers.line_wraps import repair_lines
from lmworks.corpus.modifiers.ocr import repair_ocr
from lmworks.corpus.modifiers.page_breaks import find_pages, repair_pages
from lmworks.corpus.modifiers.quoted_mail import repair_mail
from lmworks.corpus.modifiers.repair import MODIFIERS, repair
from lmworks.corpus.modifiers.repeated_passages import repair_passages
from lmworks.corpus.modifiers.web_text import repair_characters, repair_machinery
from lmworks.corpus.taggers.front_matter import repair_matter
from lmworks.records import Edit
from noise import book_names, check, covered, made_prose, paged, raw_book, with_footnotes, words_lost, wrapped
from published_data import needs_data


def scanned(text: str) -> str:
    """With footnotes at the end of their paragraphs, in lines with broken words, on pages with heads and numbers."""
    noted = with_footnotes(text, every=9).text
    lines, _ = wrapped(noted, width=64, hyphenate=0.5)
    return paged(lines, heads=["A BOOK OF MADE-UP WORDS", "CHAPTER THE FIRST"]).text


def test_a_scanned_book_comes_back() -> None:
    text = made_prose(200)
    noisy = scanned(text)
    edits = repair(noisy, "book", given=repair_matter(noisy))
    repaired = check(noisy, edits)
    size = len(text.split())
    assert words_lost(text, noisy) > 0.003 * size and words_lost(noisy, text) > 0.02 * size
    assert words_lost(text, repaired) < 0.003 * size and words_lost(repaired, text) < 0.004 * size
    paragraphs = {" ".join(each.split()) for each in text.split("\n\n")} - {""}
    assert len(paragraphs & set(repaired.split("\n\n"))) >= 0.85 * len(paragraphs)
    rules = {part for edit in edits for part in edit.rule.split("+")}
    assert {"page.head", "page.number", "footnote.note", "footnote.reference", "line.hyphen", "line.wrap"} <= rules


@needs_data
def test_clean_books_stay() -> None:
    """But for the lines that tell title, author and year, and for the footnotes of Moby-Dick. Their lines end with a
    carriage return and a newline."""
    for name in book_names():
        text = raw_book(name)[:120_000]
        found = repair(text, "book", given=repair_matter(text))
        edits = [each for each in found if not each.rule.startswith(("matter.title_page", "footnote"))]
        assert sum(covered(text, edits)) <= 1e-4 * len(text), (name, edits[:5])


PARTS: dict[Callable[[str], list[Edit]], Sequence[str]] = {  # that their expressions look for
    repair_chat: ("<ann> b\n", "[12:18] <", "* ann c\n", "=== ann is now known as b\n", "ann: ", "> ", "\n"),
    repair_characters: ("a", "e\u0301\u0327", "\u200b", "\u200d", "\x01", " \n", "\uac00\u1100\u1161", "K"),
    repair_footnotes: ("a word", "[1]", "[2]", "*", "¹", "\n", "\n\n", " ", ". ", "[Footnote 1: ", "]", "\f"),
    repair_hyphenation: ("exam-", "ple", "well-", "known", "well-known", "\n", " ", "x", "\f"),
    repair_lines: ("a" * 40, "b1 ", "\n", ".", "-", "#", "|", "`", "A", "\t", "世"),
    repair_machinery: ("Read more »\n", "Home | About | Contact\n", "Latest news\n", "\n", "```\n", "We use cookies\n"),
    repair_mail: ("> a\n", "Ann wrote:\n", "-- \n", "From: a\nTo: b\nDate: c\n", "-----\n", ">From b\n", "a\n", "\n"),
    repair_matter: ("CONTENTS\n\n", "A tale ... 12\n", "INDEX\n", "Chapter 1\n\n", "Ahab, 12\n", "Words.\n", "\n"),
    repair_ocr: ("tlie ", "the ", "l8O5 ", "rn", "m ", "1", "ſ"),
    repair_pages: ("HEAD OF PAGE", "some words", "and more", "12", "xii", "\n", "\n\f", "\n\n"),
    repair_passages: ("a b c d", "e f", " g ", ". ", "\n\n", "“", "--"),
}
ONCE = {repair_chat, repair_characters, repair_footnotes, repair_hyphenation, repair_machinery, repair_pages}
CHECKS: dict[Callable[[str], list[Edit]], Callable[[str, str], bool]] = {  # of a text and what is made of it
    repair_characters: lambda _, repaired: unicodedata.is_normalized("NFC", repaired),
    repair_passages: lambda text, repaired: set(re.findall(r"\w+", repaired)) <= set(re.findall(r"\w+", text)),
    repair_lines: lambda text, repaired: "".join(repaired.split()) == "".join(text.split()),
    repair_pages: lambda text, repaired: "\f" not in repaired and find_pages(text) == bounds(text),
}


def bounds(text: str) -> list[tuple[int, int]]:
    """Pages end to end, over all of a text, by the starts of those that are found."""
    return list(pairwise([*(start for start, _ in find_pages(text)), len(text)])) if text else []


@for_each("modify", PARTS)
@given(data=st.data())
def test_any_text_gives_edits_that_do_not_meet(modify: Callable[[str], list[Edit]], data: st.DataObject) -> None:
    text = "".join(data.draw(st.lists(st.sampled_from(PARTS[modify]), max_size=40)))
    edits = modify(text)
    once = check(text, edits)
    assert all(before.end <= after.start for before, after in pairwise(edits))
    assert modify not in ONCE or apply_edits(once, modify(once)).text == once  # twice is once
    assert modify not in CHECKS or CHECKS[modify](text, once)


MIXED = ["exam-\nple ", "\f", "12\n", "HEAD\n", "[1] ", "word[1] ", "\n\n", "\x01", "tlie ", "> a\n", "<ann> b\n"]
KINDS: list[Kind] = ["book", "mail", "chat", "code", "text"]


@given(st.lists(st.sampled_from(MIXED), max_size=40), st.sampled_from(KINDS))
def test_the_edits_of_a_kind_are_those_of_its_modifiers_in_order(parts: list[str], kind: Kind) -> None:
    text = current = "".join(parts)
    for modify in MODIFIERS[kind]:
        current = apply_edits(current, modify(current)).text
    assert check(text, repair(text, kind)) == current
    assert kind != "code" or current == text
