"""All repairs of a kind together: a book with everything that is wrong with books comes back."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from noise import (
    book,
    book_names,
    check,
    covered,
    made_prose,
    misread,
    needs_books,
    paged,
    raw_book,
    with_footnotes,
    wrapped,
)

from lmworks.corpus.attributes import Kind
from lmworks.corpus.edits import apply_edits
from lmworks.corpus.modifiers.hyphenation import unbroken_counts
from lmworks.corpus.modifiers.ocr import ocr_model
from lmworks.corpus.modifiers.repair import annotate_repairs, repair, repairs_of
from lmworks.corpus.taggers.tagger import Text

KINDS: list[Kind] = ["book", "mail", "chat", "code", "text"]


def words_lost(before: str, after: str) -> float:
    return (Counter(before.split()) - Counter(after.split())).total() / len(before.split())


def scanned(text: str) -> str:
    """With footnotes at the end of their paragraphs, in lines with broken words, on pages with heads and numbers."""
    noted = with_footnotes(text, every=9).text
    lines, _ = wrapped(noted, width=64, hyphenate=0.5)
    return paged(lines, heads=["A BOOK OF MADE-UP WORDS", "CHAPTER THE FIRST"]).text


SOURCES = [pytest.param(None, id="made"), pytest.param("Pride and Prejudice", marks=needs_books)]


@pytest.mark.parametrize("source", SOURCES)
def test_a_scanned_book_comes_back(source: str | None) -> None:
    text = book(source, 120_000).split("-------", 1)[1] if source else made_prose(200)
    noisy = scanned(text)
    edits = repair(noisy, "book")
    repaired = check(noisy, edits)
    assert words_lost(text, noisy) > 0.003 and words_lost(noisy, text) > 0.02
    assert words_lost(text, repaired) < 0.003 and words_lost(repaired, text) < 0.004
    paragraphs = {" ".join(each.split()) for each in text.split("\n\n")} - {""}
    assert len(paragraphs & set(repaired.split("\n\n"))) >= 0.85 * len(paragraphs)
    rules = {part for edit in edits for part in edit.rule.split("+")}
    assert {"page.head", "page.number", "footnote.note", "footnote.reference", "line.hyphen", "line.wrap"} <= rules


@needs_books
def test_clean_books_stay() -> None:
    """But for the lines that tell title, author and year, and for the footnotes of Moby-Dick. Their lines end with a
    carriage return and a newline."""
    for name in book_names():
        text = raw_book(name)[:300_000]
        edits = [each for each in repair(text, "book") if not each.rule.startswith(("matter.title_page", "footnote"))]
        assert sum(covered(text, edits)) <= 1e-4 * len(text), (name, edits[:5])


def test_the_source_of_every_place_is_known() -> None:
    text = made_prose(60)
    noisy = scanned(text)
    clean = apply_edits(noisy, repair(noisy, "book"))
    places = [clean.to_source(at, at + 1) for at in range(len(clean.text))]
    assert places == sorted(places) and places[0][0] >= 0 and places[-1][1] <= len(noisy)
    copied = [noisy[start] == clean.text[at] for at, (start, end) in enumerate(places) if end - start == 1]
    assert sum(copied) > 0.98 * len(clean.text)


def test_a_vocabulary_is_used() -> None:
    noisy, planted = misread(made_prose(20), 0.05)
    others = ocr_model(unbroken_counts(made_prose(300)))
    with_it, without = repair(noisy, "book", others), repair(noisy, "book")
    assert len(planted) > 10 and len(with_it) > len(without)


def test_annotations_by_kind() -> None:
    assert annotate_repairs(Text("x = 1\n", "code", uri="a.py")).scores["code_parses"] == 1
    assert [m.rule for m in annotate_repairs(Text("Ann wrote:\n> a\n\nb\n", "mail")).spans] == ["mail.quote"]
    assert "ocr_error_rate" in annotate_repairs(Text(made_prose(5), "book")).scores
    log = "<ann> a\n<ubottu> b\n<ann> c\n"
    assert [m.rule for m in annotate_repairs(Text(log, "chat")).spans] == ["chat.bot"]
    assert annotate_repairs(Text("words", "text")).spans == ()


PARTS = ["exam-\nple ", "\f", "12\n", "HEAD\n", "[1] ", "word[1] ", "\n\n", "\x01", "tlie ", "> a\n", "<ann> b\n"]


@given(st.lists(st.sampled_from(PARTS), max_size=40), st.sampled_from(KINDS))
def test_any_text_of_any_kind(parts: list[str], kind: Kind) -> None:
    text = current = "".join(parts)
    for each in repairs_of(kind):
        current = apply_edits(current, each(current)).text
    assert check(text, repair(text, kind)) == current
    assert kind != "code" or current == text
