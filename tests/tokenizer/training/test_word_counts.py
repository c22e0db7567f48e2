"""Counting words: as a dictionary does it, on one thread or several, in memory or on disk."""

from collections import Counter
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.tokenizer.pre_tokenizer import WordRule
from lmworks.tokenizer.training.word_counts import CompiledTable, PythonTable, WordCounts, count_words

RULE = WordRule("gpt4")


def expected(texts, rule=RULE) -> dict[bytes, int]:
    return Counter(word.encode() for text in texts for word in rule.cut(text))


@given(st.lists(st.text()))
def test_equals_a_dictionary(texts):
    words = count_words(texts, RULE, threads=2)
    assert dict(words) == expected(texts)
    assert words.total == sum(expected(texts).values())
    order = [(-count, word) for word, count in words]
    assert order == sorted(order)


@cache
def many_texts() -> list[str]:
    generator = np.random.default_rng(0)
    letters = np.array(list("abcdefgh "))
    return ["".join(generator.choice(letters, 2000)) for _ in range(150)]


def test_the_threads_change_nothing(monkeypatch):
    monkeypatch.setattr("lmworks.tokenizer.training.word_counts._BATCH", 20_000)
    alone, together = (count_words(many_texts(), RULE, threads=threads) for threads in (1, 3))
    assert len(alone) > 5_000
    for name in ("text", "ends", "counts"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(together, name))


def test_rare_words_are_left_out():
    words = count_words(many_texts(), RULE, min_word_count=3)
    assert dict(words) == {word: count for word, count in expected(many_texts()).items() if count >= 3}


@for_each("kind", [CompiledTable, PythonTable])
def test_tables_count_and_add(kind):
    table = kind(RULE)
    table.count([b"one two two", "zwölf ".encode()])
    other = kind(RULE)
    other.count([b"one", b""])
    table.add(other.read())
    assert dict(table.read()) == {b" two": 2, b"one": 2, "zwölf".encode(): 1, b" ": 1}


def test_without_the_compiled_part(monkeypatch):
    texts = ["a text, and 12345 numbers", "another"]
    compiled = count_words(texts, RULE)
    monkeypatch.setattr("lmworks.tokenizer.library.load", lambda: None)
    assert list(count_words(texts, RULE)) == list(compiled)


@for_each("kind", [CompiledTable, PythonTable])
def test_words_that_are_too_long_for_the_table_are_refused(kind, monkeypatch):
    """The limit is 4 GiB; here it is 10 bytes."""
    monkeypatch.setattr("lmworks.tokenizer.training.word_counts.LONGEST_WORD", 10)
    table = kind(RULE)
    table.count([b"abcdefghij a b c d e f"])
    with pytest.raises(ValueError, match=r"a word has more than 10 bytes: cut the texts into shorter ones"):
        table.count([b"short", b"some abcdefghijk"])
    with pytest.raises(ValueError, match="more than 10 bytes"):
        count_words(["one", "abcdefghijk"], RULE, threads=2)


def test_half_a_surrogate_pair_is_named():
    with pytest.raises(ValueError, match="text 2 holds half of a surrogate pair at character 1"):
        count_words(["good", "a\ud800"], RULE)


def test_selecting_words():
    words = WordCounts.of({b"aa": 3, b"b": 2, b"ccc": 1})
    assert list(words.select(np.array([True, False, True]))) == [(b"aa", 3), (b"ccc", 1)]
    assert len(WordCounts.of({})) == 0 and WordCounts.of({}).total == 0
