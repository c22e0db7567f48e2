"""Texts to sentences of words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.embeddings.corpus import LONGEST, sentences_of, words_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't stop. It’s 5 o'clock!", [["don't", "stop"], ["it's", "5", "o'clock"]]),
        ("well-known snake_case 'quoted' dogs'", [["well", "known", "snake", "case", "quoted", "dogs"]]),
        ("one\nline\n\nnext", [["one", "line"], ["next"]]),
        ("version 3.14 of e.g. this", [["version", "3", "14", "of", "e", "g"], ["this"]]),
        ('He said "no." Then', [["he", "said", "no"], ["then"]]),
        ("हिन्दी में", [["हिन्दी", "में"]]),  # vowel signs are marks, which \w does not match
        ("cafe\u0301 naïve", [["café", "naïve"]]),  # composed by NFC
        ("你好。再见", [["你好"], ["再见"]]),
        ("...", []),
    ],
)
def test_words_and_ends(text, expected):
    assert list(sentences_of([text])) == expected


def test_case_is_kept_when_asked():
    assert list(sentences_of(["New York"], lowercase=False)) == [["New", "York"]]


def test_lists_of_words_stay_as_they_are():
    assert list(sentences_of([["New York", "is"], []])) == [["New York", "is"]]


def test_long_sentences_are_cut():
    found = list(sentences_of(["word " * (LONGEST + 5)]))
    assert [len(sentence) for sentence in found] == [LONGEST, 5]


def test_a_single_string_is_refused():
    with pytest.raises(ValueError, match=r"\[text\] for a single one"):
        next(sentences_of("text"))


@given(st.text())
def test_no_letter_is_lost_and_nothing_else_is_kept(text):
    joined = "".join("".join(words) for words in sentences_of([text], lowercase=False))
    assert "".join(words_of(text, lowercase=False)) == joined  # sentences cut between words only
    assert not any(character.isspace() or character in ".!?_" for character in joined)
