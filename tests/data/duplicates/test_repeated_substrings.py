"""Repeated passages: every window by brute force within a block, and what is promised between blocks."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmworks.data.duplicates import kept_windows
from lmworks.data.duplicates.byte_blocks import as_code_points, blocks_of, encoded, stretches_of
from lmworks.data.duplicates.kept_windows import window_hashes
from lmworks.data.duplicates.substrings import RULE, repeated_passages
from lmworks.data.duplicates.suffixes import first_occurrences

TEXTS = st.lists(st.text("ab", max_size=40) | st.text("aé漢", max_size=12), max_size=6)
METHODS = ["suffix array", "doubling"]


def first_by_definition(text: bytes, length: int) -> list[int]:
    return [text.index(text[place : place + length]) for place in range(len(text) - length + 1)]


def windows(texts: list[str], length: int) -> list[tuple[bytes, int, int]]:
    """(bytes, document, place in it) of all windows, in order."""
    raw = [text.encode() for text in texts]
    return [(d[p : p + length], n, p) for n, d in enumerate(raw) for p in range(len(d) - length + 1)]


def marked_by_definition(texts: list[str], length: int) -> dict[int, set[int]]:
    """Document → its bytes in windows that stand before, in another document or without touching."""
    first: dict[bytes, tuple[int, int]] = {}
    marked: dict[int, set[int]] = {}
    for content, document, place in windows(texts, length):
        other, before = first.setdefault(content, (document, place))
        if other != document or place - before >= length:
            marked.setdefault(document, set()).update(range(place, place + length))
    return marked


def whole_characters(text: str, marked: set[int]) -> set[int]:
    """The characters all of whose bytes are marked."""
    ends = np.cumsum([len(character.encode()) for character in text])
    return {n for n, end in enumerate(ends) if {*range(end - len(text[n].encode()), end)} <= marked}


@pytest.mark.parametrize("method", METHODS)
@given(st.binary(max_size=60) | st.text("ab", max_size=60).map(str.encode), st.integers(1, 9))
def test_the_first_place_of_the_same_bytes(method, text, length):
    found = first_occurrences(np.frombuffer(text, np.uint8), length, method)
    assert found.tolist() == first_by_definition(text, length)


@pytest.mark.parametrize("method", METHODS)
@given(TEXTS, st.integers(2, 9))
def test_within_a_block_every_repeated_window_is_marked_and_nothing_else(method, texts, length):
    found = dict(repeated_passages(texts, length, method=method))
    expected = marked_by_definition(texts, length)
    for document, text in enumerate(texts):
        covered = {place for mark in found.get(document, ()) for place in range(mark.start, mark.end)}
        assert covered == whole_characters(text, expected.get(document, set()))


@settings(max_examples=300)
@given(st.lists(st.text("ab", max_size=60), max_size=8), st.integers(2, 7), st.integers(1, 120))
def test_between_blocks_what_stays_shares_less_than_twice_the_length(texts, length, block_bytes):
    found = dict(repeated_passages(texts, length, block_bytes, "doubling"))
    gone = [np.zeros(len(text), bool) for text in texts]
    for document, marks in found.items():
        for mark in marks:
            gone[document][mark.start : mark.end] = True
    blocks = [n for n, block in enumerate(blocks_of(texts, block_bytes)) for _ in block.ends]

    def staying(size: int) -> list[tuple[bytes, int, int]]:
        return [each for each in windows(texts, size) if not gone[each[1]][each[2] : each[2] + size].any()]

    owners: dict[bytes, int] = {}
    for content, document, _ in staying(2 * length - 1):
        assert owners.setdefault(content, blocks[document]) == blocks[document]
    first: dict[tuple[int, bytes], tuple[int, int]] = {}
    for content, document, place in staying(length):
        other, before = first.setdefault((blocks[document], content), (document, place))
        assert other == document and place - before < length
    nothing_is_lost(texts, length, gone)


def nothing_is_lost(texts: list[str], length: int, gone: list[np.ndarray]) -> None:
    """What is marked stands before: each of its bytes is in a window which an earlier place has too."""
    allowed = marked_by_definition(texts, length)
    for document, flags in enumerate(gone):
        assert {*np.flatnonzero(flags).tolist()} <= allowed.get(document, set())


def test_a_long_repeat_between_blocks_is_marked_to_its_ends():
    generator = np.random.default_rng(0)
    own = ["".join(generator.choice(list("abcdefgh "), 3000)) for _ in range(3)]
    shared = "".join(generator.choice(list("abcdefgh "), 1000))
    texts = [f"{own[0]}<{shared}>{own[0][::-1]}", own[1], f"{own[2][:77]}[{shared}]{own[2][77:]}"]
    [(document, marks)] = repeated_passages(texts, 200, block_bytes=1, method="doubling")
    assert document == 2
    assert [(mark.start, mark.end, mark.rule) for mark in marks] == [(78, 1078, RULE)]


def test_equal_hashes_of_other_bytes_are_no_repeat(monkeypatch):
    monkeypatch.setattr(kept_windows, "window_hashes", lambda text, n: np.ones(max(len(text) - n + 1, 0), np.uint64))
    monkeypatch.setattr(kept_windows, "_hashes_at", lambda text, places, n: np.ones(len(places), np.uint64))
    assert list(repeated_passages(["abcdefghij", "klmnopqrst"], 4, 1, "doubling")) == []


@given(st.binary(max_size=40), st.integers(1, 12))
def test_windows_have_equal_hashes_where_they_are_equal(raw, length):
    text = np.frombuffer(raw, np.uint8)
    hashes = window_hashes(text, length).tolist()
    contents = [raw[place : place + length] for place in range(len(raw) - length + 1)]
    assert len(hashes) == len(contents)
    assert len({*hashes}) == len({*contents}) == len({*zip(hashes, contents, strict=True)})
    places = np.arange(len(contents))
    assert kept_windows._hashes_at(text, places, length).tolist() == hashes


@given(st.text("aé漢😀", max_size=12), st.data())
def test_bytes_become_whole_characters(text, data):
    raw = encoded(text)
    start = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(start, len(raw)))
    [[first, last]] = as_code_points(raw, np.array([[start, end]])).tolist()
    inside = whole_characters(text, {*range(start, end)})
    assert {*range(first, last)} == inside


@given(st.lists(st.booleans(), max_size=12))
def test_stretches_are_what_is_set(flags):
    found = stretches_of(np.array(flags, bool)).tolist()
    assert [n for start, end in found for n in range(start, end)] == [n for n, flag in enumerate(flags) if flag]
    assert all(after > end for (_, end), (after, _) in pairwise(found))


def test_what_is_too_short_is_refused():
    with pytest.raises(ValueError, match="at least two"):
        list(repeated_passages(["a"], 1))
    with pytest.raises(ValueError, match="at least one byte"):
        first_occurrences(np.zeros(3, np.uint8), 0)
