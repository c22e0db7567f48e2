"""Perplexity under models whose perplexity is known."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.taggers.ngram_model import perplexities, windows


def uniform(texts: Sequence[str]) -> list[tuple[float, int]]:
    """Each character is one of 50, and spaces are no tokens."""
    lengths = [len("".join(text.split())) for text in texts]
    return [(length * math.log(50), length) for length in lengths]


def by_letter(texts: Sequence[str]) -> list[tuple[float, int]]:
    """The code point of a character in hundredths of a nat: no two texts are alike."""
    return [(sum(map(ord, text)) / 100, len(text)) for text in texts]


@given(st.text(st.sampled_from("ab \n.")), st.integers(1, 20))
def test_of_a_uniform_model_it_is_the_number_of_symbols_whatever_the_windows(text: str, window: int) -> None:
    assert perplexities([text], uniform, window) == [pytest.approx(50) if text.split() else None]


@given(st.lists(st.text(st.sampled_from("abc \n"), max_size=40)), st.integers(1, 30))
def test_each_text_has_its_own_nats_and_tokens(texts: list[str], window: int) -> None:
    expected = [math.exp(sum(map(ord, text)) / 100 / len(text)) if text else None for text in texts]
    assert perplexities(texts, by_letter, window) == [value and pytest.approx(value) for value in expected]


@given(st.text(st.sampled_from("ab \n")), st.integers(1, 12))
def test_windows_are_the_text_and_cut_behind_lines_and_words(text: str, size: int) -> None:
    pieces = list(windows(text, size))
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= size for piece in pieces)
    for piece in pieces[:-1]:
        half = piece[size // 2 :]
        assert piece[-1] in "\n " or len(piece) == size
        assert piece[-1] == "\n" or "\n" not in half


def test_a_model_sees_no_more_than_a_window_and_no_more_than_a_batch() -> None:
    calls: list[list[str]] = []

    def watched(texts: Sequence[str]) -> list[tuple[float, int]]:
        calls.append(list(texts))
        return uniform(texts)

    perplexities(["word " * 1000, "", "short"], watched, window=10)
    assert max(len(text) for call in calls for text in call) == 10
    assert max(map(len, calls)) == 256 and sum(map(len, calls)) == 501


@pytest.mark.parametrize("found", [[], [(1.0, 1), (1.0, 1)], [(-1.0, 2)], [(math.nan, 1)], [(math.inf, 1)], [(1.0, 0)]])
def test_what_is_no_score_is_refused(found: list[tuple[float, int]]) -> None:
    with pytest.raises(ValueError, match="the language model"):
        perplexities(["text"], lambda texts: found)
    with pytest.raises(ValueError, match="window must be"):
        perplexities(["text"], uniform, window=0)
