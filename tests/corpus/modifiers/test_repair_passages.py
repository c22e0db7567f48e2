"""Repeated passages against pages that were scanned twice, and against a search of every passage by hand."""

from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.corpus.modifiers.repeated_passages import repair_passages
from noise import check, made_prose, recall_and_precision, with_repeated_pages, wrapped


def test_pages_scanned_twice_go() -> None:
    lines, _ = wrapped(made_prose(300))
    planted = with_repeated_pages(lines)
    edits = repair_passages(planted.text)
    recall, precision = recall_and_precision(planted, edits)
    assert len(planted.spans) > 5 and recall == 1.0 and precision >= 0.999
    assert check(planted.text, edits).split() == lines.split()


FIRST = "It was, as he said, one of the longest nights of the year; and nobody who was there forgot it, ever."
SECOND = FIRST.upper().replace(" ", "\n").replace(",", "").replace(";", " --")  # case, marks and space may differ
WORDS = " ".join(f"word{n}" for n in range(99))


@for_each(("text", "words", "repaired"), [
    (f"{FIRST}\n\n“{SECOND}” And so on.", 20, f"{FIRST}\n\nAnd so on."),
    (f"{WORDS}. Then. {WORDS}.", 100, f"{WORDS}. Then. {WORDS}."), (f"{WORDS}. Then. {WORDS}.", 99, f"{WORDS}. Then. "),
])  # fmt: skip
def test_as_many_words_go(text: str, words: int, repaired: str) -> None:
    assert check(text, repair_passages(text, words)) == repaired


@given(st.lists(st.sampled_from("abc"), max_size=40), st.integers(1, 4))
def test_nothing_is_cut_that_did_not_stand_before(letters: list[str], words: int) -> None:
    text = " ".join(letters)
    edits = repair_passages(text, words)
    left = check(text, edits).split()
    for edit in edits:
        cut = text[edit.start : edit.end].split()
        assert len(cut) >= words and " ".join(cut) in text[: edit.start]
    for at in range(words, len(left) - words + 1) if not edits else ():  # what is left overlaps what it repeats
        passage = left[at : at + words]
        assert at - next(n for n in range(len(left)) if left[n : n + words] == passage) < words
