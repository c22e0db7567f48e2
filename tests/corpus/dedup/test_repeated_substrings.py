"""Repeated passages: what goes when one place of each stays is every repeated window, by brute force."""

import re
from collections import defaultdict
from dataclasses import fields

import numpy as np
import pytest
from duplicate_cases import uncompiled
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.corpus.dedup.hashes import words
from lmworks.corpus.dedup.library import winnow
from lmworks.corpus.dedup.match_tables import Places
from lmworks.corpus.dedup.repeated_substrings import (
    Paragraphs,
    fingerprints,
    paragraphs_of,
    repeated_paragraphs,
    repeated_passages,
)

TEXTS = st.lists(st.text("!?", max_size=40) | st.text("!\u00a1\u3002", max_size=12), max_size=6)  # without letters


def gone_by_definition(texts: list[str], order: list[int], length: int) -> dict[int, set[int]]:
    """Document → its bytes in windows that stand before, in another document or without touching. `order` are the
    documents that there are, the best first."""
    first: dict[bytes, tuple[int, int]] = {}
    gone: dict[int, set[int]] = {}
    for document in order:
        raw = texts[document].encode()
        for place in range(len(raw) - length + 1):
            other, before = first.setdefault(raw[place : place + length], (document, place))
            if other != document or place - before >= length:
                gone.setdefault(document, set()).update(range(place, place + length))
    return gone


def gone_but_for_one(found: Places, order: list[int]) -> dict[int, set[int]]:
    """Document → its characters in all places of passages but the first of each."""
    columns = (found.group.tolist(), found.document.tolist(), found.start.tolist(), found.end.tolist())
    rows = [row for row in zip(*columns, strict=True) if row[1] in order]
    rows.sort(key=lambda row: (row[0], order.index(row[1]), row[2]))
    gone: dict[int, set[int]] = {}
    for number, (group, document, start, end) in enumerate(rows):
        if number and rows[number - 1][0] == group:
            gone.setdefault(document, set()).update(range(start, end))
    return gone


def whole_characters(text: str, marked: set[int]) -> set[int]:
    """The characters all of whose bytes are marked."""
    ends = np.cumsum([len(character.encode()) for character in text])
    return {n for n, end in enumerate(ends) if {*range(end - len(text[n].encode()), end)} <= marked}


@given(TEXTS, st.integers(2, 9), st.data())
def test_whichever_documents_are_there_every_repeated_window_goes_and_nothing_else(texts, length, data):
    """One search serves any choice of documents, in any order of who stays before whom."""
    found = repeated_passages(texts, length)
    order = data.draw(st.permutations(range(len(texts))))
    order = order[: data.draw(st.integers(0, len(order)))]
    gone, expected = gone_but_for_one(found, order), gone_by_definition(texts, order, length)
    for document in order:
        if texts[document].isascii():  # else characters of which a window holds a part are put together from several
            assert gone.get(document, set()) == expected.get(document, set())
        assert gone.get(document, set()) <= whole_characters(texts[document], expected.get(document, set()))


@for_each(("before", "behind", "left"), [
    ("Said: ", " And so on.", "Said: And so on."), ("One.\n\n", "\n\nTwo.", "One.\n\nTwo."),
    ("One.\n", " Two.", "One.\nTwo."),
])  # fmt: skip
def test_what_is_left_is_neither_run_together_nor_spaced_out(before, behind, left):
    shared = "and all of that was said of the old mill by everyone who ever came by"
    text = f"{before}{shared}{behind}"
    spaces = before[len(before.rstrip()) :], behind[: len(behind) - len(behind.lstrip())]
    found = repeated_passages([f"[{spaces[0]}{shared}{spaces[1]}]", text], 40)
    gone = gone_but_for_one(found, [0, 1]).get(1, set())
    assert "".join(character for place, character in enumerate(text) if place not in gone) == left


@given(st.binary(max_size=80) | st.text("ab", max_size=80).map(str.encode), st.integers(1, 9), st.integers(1, 9))
def test_the_compiled_part_is_the_definition(raw, window, width):
    text = np.frombuffer(raw, np.uint8)
    hashes, places = winnow(text, window, width)
    with uncompiled():
        expected, expected_places = winnow(text, window, width)
    assert places.tolist() == expected_places.tolist() and hashes.tolist() == expected.tolist()


def test_few_windows_are_chosen():
    """2 / (w + 1) of all, for w windows of which one is chosen (Schleimer et al., section 3.2): 1.96 % of 101. Four
    standard errors of some 4,000 chosen ones are 6 % of that."""
    text = "".join(np.random.default_rng(0).choice(list("abcdefghijklmnop"), 200_000))
    assert len(fingerprints([text], 200).hashes) / len(text) == pytest.approx(2 / 102, rel=0.06)


PARAGRAPHS = st.sampled_from(["one two", "One, two.", "  one two  ", "three four", "five", "-- --", "漢字 é"])
DOCUMENTS = st.lists(st.lists(PARAGRAPHS, max_size=5).map(lambda parts: "\n \n\n".join(parts)), max_size=6)

Place = tuple[int, int, int]  # document, start, end


def paragraphs_by_definition(texts: list[str], least: int) -> set[tuple[Place, ...]]:
    """The places of each paragraph that two documents have."""
    places: dict[tuple[str, ...], list[Place]] = defaultdict(list)
    for document, text in enumerate(texts):
        start = 0
        for part in re.split(r"(\n\s*\n)", text):
            content = part.strip()
            if len(content) >= least and words(content):
                begin = start + part.index(content)
                places[tuple(words(content))].append((document, begin, begin + len(content)))
            start += len(part)
    return {tuple(where) for where in places.values() if len({document for document, _, _ in where}) > 1}


@given(DOCUMENTS, st.integers(1, 8), st.integers(0, 6))
def test_the_places_are_those_of_paragraphs_that_documents_share(texts, least, cut):
    parts = [paragraphs_of(texts[:cut], least), paragraphs_of(texts[cut:], least, len(texts[:cut]))]
    names = [field.name for field in fields(Paragraphs)]
    joined = Paragraphs(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
    found = repeated_paragraphs(joined)
    groups: dict[int, list[Place]] = defaultdict(list)
    for group, *place in zip(found.group, found.document, found.start, found.end, strict=True):
        groups[int(group)].append(tuple(map(int, place)))
    assert {tuple(where) for where in groups.values()} == paragraphs_by_definition(texts, least)
