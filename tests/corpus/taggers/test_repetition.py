"""Measures of repetition against plain Python that keeps n-grams as tuples and covered characters as a set."""

from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.taggers.repetition import repetition
from lmworks.corpus.taggers.tagger import Text
from lmworks.corpus.taggers.words import UNSPACED, mostly

PIECES = ["the", "cat", "sat,", "on ", "\n\n", "a\u0301", "世界", "+ + +"]
TEXTS = st.one_of(
    st.text(st.sampled_from("ab. \n"), max_size=120),
    st.text(st.sampled_from("a\n"), max_size=60),
    st.lists(st.sampled_from(PIECES), max_size=80).map(" ".join),
    st.text(),
)


def greedy_by_hand(tokens: Sequence[str], n: int) -> int:
    """Characters of n-grams that were seen before, from left to right, none of which overlap."""
    known: set[tuple[str, ...]] = set()
    counted = place = 0
    while place + n <= len(tokens):
        gram = tuple(tokens[place : place + n])
        counted += sum(map(len, gram)) if gram in known else 0
        place += n if gram in known else 1
        known.add(gram)
    return counted


def covered_by_hand(text: str, tokens: Sequence[str], n: int) -> int:
    """Characters of the text within the most frequent n-gram that occurs twice; of several the first."""
    spans, end = [], 0
    for token in tokens:
        start = text.index(token, end)
        end = start + len(token)
        spans.append((start, end))
    grams = [tuple(tokens[place : place + n]) for place in range(len(tokens) - n + 1)]
    counts = Counter(grams)
    top = next(gram for gram in grams if counts[gram] == max(counts.values()))
    places = [place for place, gram in enumerate(grams) if gram == top]
    covered = {at for place in places for at in range(spans[place][0], spans[place + n - 1][1])}
    return len(covered) if len(places) > 1 else 0


@given(TEXTS)
def test_n_grams_are_those_of_plain_python(text: str) -> None:
    found = repetition(Text(text)).scores
    text = Text(text).prose.text
    tokens = Text(text).tokens
    length = 2 if mostly(UNSPACED, Text(text).words) else 1  # those of characters are twice as long
    expected = {
        f"top_{n}_gram": covered_by_hand(text, tokens, n * length) for n in range(2, 5) if len(tokens) >= n * length
    }
    expected |= {
        f"duplicate_{n}_gram": greedy_by_hand(tokens, n * length) for n in range(5, 11) if len(tokens) >= n * length
    }
    shares = {name: value for name, value in found.items() if "_gram_" in name}
    assert shares == {f"{name}_character_share": count / len(text) for name, count in expected.items()}


@given(st.lists(st.sampled_from(["one", "two two", "  three", "  ", "", "one "])))
def test_lines_that_repeat_an_earlier_one(lines: list[str]) -> None:
    text = "\n".join(lines)
    scores = repetition(Text(text)).scores
    filled = [line for line in lines if line.strip()]
    again = [line for place, line in enumerate(filled) if line in filled[:place]]
    assert scores.get("duplicate_line_share") == (len(again) / len(filled) if filled else None)
    assert scores.get("duplicate_line_character_share") == (sum(map(len, again)) / len(text) if filled else None)
