"""Words and shingles: against the definition word by word, and the compiled part against the reference bit by bit."""

import numpy as np
from duplicate_cases import uncompiled
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.corpus.dedup.hashes import word_bytes, word_spans, words
from lmworks.corpus.dedup.library import common_counts, hash_words, shingle_sets, signatures

TEXTS = st.lists(st.text(max_size=60) | st.text("ab é漢İß\n.", max_size=40), max_size=6)


@given(st.text())
def test_bytes_hold_the_words_of_the_definition(text):
    assert [word.decode() for word in word_bytes(text).split()] == words(text)


@for_each(("text", "expected"), [
    ("Straße, STRASSE!", ["strasse", "strasse"]), ("snake_case x2", ["snake_case", "x2"]),
    ("東京の天気 is fine", ["東", "京", "の", "天", "気", "is", "fine"]), ("\ud800a", ["a"]),
    ("한국어 띄어쓰기", ["한국어", "띄어쓰기"]), (" \n…", []),
])  # fmt: skip
def test_words_of_scripts(text, expected):
    assert words(text) == expected


@given(st.text() | st.text("İŉß aﬁ漢", max_size=20))
def test_spans_show_where_each_word_stands(text):
    found, spans = words(text), word_spans(text)
    assert len(spans) == len(found)
    for word, (start, end) in zip(found, spans.tolist(), strict=True):
        assert word in text[start:end].casefold()
        assert words(text[start:end]).count(word) >= 1
        assert word not in text[start : end - 1].casefold() or word not in text[start + 1 : end].casefold()


@given(TEXTS, st.integers(1, 6), st.integers(1, 40))
def test_the_compiled_part_gives_the_bits_of_the_reference(texts, size, permutations):
    pairs = np.array([(a, b) for a in range(len(texts)) for b in range(len(texts))], np.int64).reshape(-1, 2)

    def everything() -> list[np.ndarray]:
        rows = hash_words(texts)
        sets = shingle_sets(texts, size)
        signed = signatures(rows, size, permutations)
        return [rows.values, rows.ends, sets.values, sets.ends, common_counts(sets, pairs), signed]

    compiled = everything()
    with uncompiled():
        reference = everything()
    for one, other in zip(compiled, reference, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
