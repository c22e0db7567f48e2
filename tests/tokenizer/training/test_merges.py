"""Merges: the fast learner, the readable one and brute force agree; on real text `tokenizers` does, too."""

import random
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from lmworks.tokenizer import library
from lmworks.tokenizer.training import merges
from lmworks.tokenizer.training.initial_symbols import Spelling, spell_bytes, spell_characters
from lmworks.tokenizer.training.merges import learn_merges, merged
from lmworks.tokenizer.training.word_counts import WordCounts
from slow_cases import slow


def brute_force(words, alphabet: int, number: int, least: int, longest: int, forbidden=()):
    """Count all pairs anew for every merge."""
    words = [(list(symbols), count) for symbols, count in words]
    spelling = [(symbol,) for symbol in range(alphabet)]
    learnt = []
    while len(learnt) < number:
        counts = Counter()
        for symbols, count in words:
            for pair in pairwise(symbols):
                counts[pair] += count
        allowed = [
            (-count, pair)
            for pair, count in counts.items()
            if count >= least
            and (not longest or len(spelling[pair[0]] + spelling[pair[1]]) <= longest)
            and spelling[pair[0]] + spelling[pair[1]] not in forbidden
        ]
        if not allowed:
            break
        negative, pair = min(allowed)
        made = spelling[pair[0]] + spelling[pair[1]]
        assert made not in spelling  # no two merges make the same token
        words = [(list(merged(symbols, pair, len(spelling))), count) for symbols, count in words]
        spelling.append(made)
        learnt.append((*pair, -negative))
    return learnt


def random_words(generator: random.Random) -> WordCounts:
    letters = "abcd"[: generator.randrange(1, 5)]
    counts = Counter()
    for _ in range(generator.randrange(1, 30)):
        if generator.random() < 0.3:  # runs, whose pairs overlap
            word = "".join(letter * generator.randrange(1, 7) for letter in generator.choices(letters, k=3))
        else:
            word = "".join(generator.choices(letters, k=generator.randrange(1, 14)))
        counts[word.encode()] += generator.randrange(1, 9)
    return WordCounts.of(counts)


def rows(learnt) -> list[tuple[int, int, int]]:
    return [(int(left), int(right), int(count)) for left, right, count in learnt]


@pytest.mark.parametrize("continuing", ["", "##"])
@pytest.mark.parametrize("corpora", [60, *slow(200)])
def test_equals_brute_force_on_random_corpora(continuing, corpora):
    generator = random.Random(1)
    learnt_in_all = 0
    for _ in range(corpora):
        words = random_words(generator)
        least, longest, number = generator.choice([1, 2, 3]), generator.choice([0, 0, 3]), generator.choice([8, 60])
        spelling = spell_characters(words, 1.0, continuing)
        banned = [tuple(generator.choices(range(len(spelling.alphabet)), k=2)) for _ in range(2)]
        expected = brute_force(spelling.words(), len(spelling.alphabet), number, least, longest, banned)
        arguments = (number, least, longest, banned, lambda done, total, unit: None)
        assert rows(merges._in_python(spelling, *arguments)) == expected
        assert rows(merges._compiled(spelling, *arguments)) == expected
        learnt_in_all += len(expected)
    assert learnt_in_all > 10 * corpora


@pytest.mark.parametrize("count", [500, *slow(1500)])
def test_compiled_equals_the_reference_on_text(count):
    import argparse
    from pathlib import Path

    from lmworks.tokenizer.pre_tokenizer import WordRule
    from lmworks.tokenizer.training.word_counts import count_words

    words = count_words([Path(argparse.__file__).read_text("utf-8")], WordRule())
    by = [merges._compiled, merges._in_python]
    first, second = (learner(spell_bytes(words), count, 2, 0, [], lambda *_: None) for learner in by)
    assert len(first) == count
    np.testing.assert_array_equal(first, second)


def test_a_continuing_prefix_falls_away_inside():
    learnt = learn_merges(spell_characters(WordCounts.of({b"abab": 4}), 1.0, "##"), 10, continuing="##")
    assert learnt.tokens[-1] == "abab" and "##ab" not in learnt.tokens[:4]
    assert set(learnt.tokens[:3]) == {"a", "##a", "##b"} or set(learnt.tokens[:4]) == {"a", "b", "##a", "##b"}


def test_counts_beyond_thirty_two_bits():
    learnt = learn_merges(spell_bytes(WordCounts.of({b"ab": 5_000_000_000, b"bc": 6_000_000_000})), 258)
    assert learnt.counts.tolist() == [6_000_000_000, 5_000_000_000]


def test_rare_pairs_and_forbidden_tokens_are_not_learnt():
    words = WordCounts.of({b"ab": 5, b"cd": 1, b"xyz": 9})
    assert len(learn_merges(spell_bytes(words), 300, least=2)) == 3
    assert "xyz" not in learn_merges(spell_bytes(words), 300, forbidden=["xyz", "not spelt: ☃"]).tokens
    assert "xyz" not in learn_merges(spell_bytes(words), 300, longest=2).tokens


def test_nothing_to_learn():
    empty = Spelling(("a",), np.array([-1], np.int32), np.empty(0, np.uint32), np.empty(0, np.int64))
    assert len(learn_merges(empty, 10)) == 0
    assert len(learn_merges(spell_bytes(WordCounts.of({b"ab": 1})), 256)) == 0


def test_a_long_word_is_no_trouble():
    """A merge costs what it changes: a megabyte of one letter as one word."""
    learnt = learn_merges(spell_bytes(WordCounts.of({b"a" * 1_000_000: 1})), 266)
    assert [len(token) for token in learnt.tokens[256:]] == [2**n for n in range(1, 11)]


def test_the_choice_of_the_library(monkeypatch):
    library.load.cache_clear()
    try:
        monkeypatch.setenv(library.CHOICE, "reference")
        assert library.load() is None
        library.load.cache_clear()
        monkeypatch.setenv(library.CHOICE, "fast")
        with pytest.raises(ValueError, match="reference"):
            library.load()
    finally:
        monkeypatch.delenv(library.CHOICE)
        library.load.cache_clear()
    assert library.load() is not None


def test_a_missing_library_is_told(monkeypatch):
    library.load.cache_clear()
    monkeypatch.setattr("lmworks.compiled.library_path", lambda package, name: None)
    try:
        with pytest.warns(RuntimeWarning, match="install a C\\+\\+ compiler"):
            assert library.load() is None
    finally:
        library.load.cache_clear()
