"""Signs of spam: closed forms, and what stuffing and repeating do to them."""

import math
import zlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.data.annotate.spam import Spam, common_words
from lmworks.data.annotation import Text

SHARES = ("common_word_share", "common_words_used", "keyword_share", "top_keywords_share", "link_density")


PIECES = st.sampled_from(["[a b](x)", "[", "](", ")", "http://x", " ", "\n", "# t", "the", "spam"])


@given(st.text() | st.lists(PIECES).map("".join))
def test_any_text_has_measures_in_their_range(text: str) -> None:
    found = Spam(frozenset({"the", "a"}))(Text(text))
    assert found.marks == () and found.labels == {}
    for name, value in found.measures.items():
        assert math.isfinite(value) and value >= 0
        assert name not in SHARES or value <= 1
    assert ("compression_ratio" in found.measures) == bool(text)


@given(st.text(min_size=1))
def test_compression_is_that_of_zlib(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    assert Spam()(Text(text)).measures["compression_ratio"] == len(data) / len(zlib.compress(data))


def test_what_repeats_itself_compresses_better() -> None:
    line = "Cheap tickets to nowhere, only today! "
    ratios = [Spam()(Text(line * times)).measures["compression_ratio"] for times in (1, 10, 100)]
    assert ratios == sorted(ratios) and ratios[-1] > 10


WORDS = st.sampled_from(["The", "cat", "casino", "CASINO", "poker", "bonus", "slots", "win", "credit", "jackpot"])


@given(st.lists(WORDS))
def test_keywords_by_counting(words: list[str]) -> None:
    measures = Spam(frozenset({"the", "poker"}))(Text(", ".join(words))).measures
    if not words:
        assert measures == {}
        return
    counts = Counter(word.lower() for word in words)
    assert measures["common_word_share"] == pytest.approx((counts["the"] + counts["poker"]) / len(words))
    assert measures["common_words_used"] == ((counts["the"] > 0) + (counts["poker"] > 0)) / 2
    keywords = sorted((counts[word] for word in ("casino", "bonus", "slots", "credit", "jackpot")), reverse=True)
    assert measures["keyword_share"] == pytest.approx(keywords[0] / len(words))
    assert measures["top_keywords_share"] == pytest.approx(sum(keywords) / len(words))


def test_without_common_words_their_measures_are_absent() -> None:
    measures = Spam()(Text("poker poker the the")).measures
    assert "common_word_share" not in measures and "common_words_used" not in measures
    assert measures["keyword_share"] == 0.5


def test_link_density() -> None:
    expected = {
        "ab cd": 0,
        "[ab](http://x.org) cd": 0.5,
        "[a b](http://x.org)": 1,
        "http://x.org": 1,
        "ab www.x.org": 9 / 11,
        "![](a.png)x": 0,
        "[](x)": None,
        "": None,
    }
    assert {text: Spam()(Text(text)).measures.get("link_density") for text in expected} == expected


def test_titles() -> None:
    assert Spam()(Text("# Cheap, cheap tickets\n\nText")).measures["title_words"] == 3
    assert Spam()(Text("\n# One\n")).measures["title_words"] == 1
    for text in ("No title", "#hash", "Text\n# Heading"):
        assert "title_words" not in Spam()(Text(text)).measures


def test_common_words_are_the_most_frequent_ones() -> None:
    texts = ["The cat and THE dog.", "the dog, and a bird"]
    assert common_words(texts, 2) == {"the", "and"}  # and: before dog in the alphabet
    assert common_words(texts, 3) == {"the", "and", "dog"}
    assert common_words([], 3) == frozenset()
