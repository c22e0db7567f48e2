"""Gopher's measures: an example by hand, and definitions in plain Python."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.data.annotate.gopher import gopher
from lmworks.data.annotate.prose import prose
from lmworks.data.annotation import Text

LINES = st.lists(st.sampled_from(["• a", "- b c", "word word.", "wait...", "so…  ", "", "   ", "# 12 34", "The end"]))


def test_an_example_by_hand() -> None:
    text = "# Title...\n\n- the cat and dog\n• 12 34 of\nend…"
    assert gopher(Text(text, language="en")).measures == pytest.approx(
        {
            "words": 9,  # Title the cat and dog 12 34 of end
            "tokens": 16,  # and # . . . - • …
            "mean_word_length": 26 / 9,
            "hash_word_ratio": 1 / 9,
            "hash_token_ratio": 1 / 16,
            "ellipsis_word_ratio": 2 / 9,
            "ellipsis_token_ratio": 2 / 16,
            "bullet_line_share": 2 / 4,
            "ellipsis_line_share": 2 / 4,
            "filled_line_share": 4 / 5,
            "alphabetic_word_share": 7 / 12,  # of # Title... - the cat and dog • 12 34 of end…
            "alphabetic_token_share": 7 / 16,
            "stop_words": 3,
        }
    )


@given(st.text() | st.text(st.sampled_from("ab1²½٣ .-\n世")))
def test_words_with_a_letter_are_those_with_a_letter(text: str) -> None:
    measures = gopher(Text(text)).measures
    chunks = prose(Text(text)).text.split()
    if not chunks:
        assert "alphabetic_word_share" not in measures
        return
    alphabetic = sum(any(character.isalpha() for character in chunk) for chunk in chunks)
    assert measures["alphabetic_word_share"] == alphabetic / len(chunks)


@given(LINES)
def test_shares_of_lines(lines: list[str]) -> None:
    measures = gopher(Text("\n".join(lines))).measures
    filled = [line.strip() for line in lines if line.strip()]
    if not filled:
        assert "bullet_line_share" not in measures
        return
    assert measures["bullet_line_share"] == len([line for line in filled if line[0] in "•-"]) / len(filled)
    ellipses = [line for line in filled if line[-1] == "…" or line[-3:] == "..."]
    assert measures["ellipsis_line_share"] == len(ellipses) / len(filled)
    assert measures["filled_line_share"] == len(filled) / len(lines)


def test_stop_words_are_counted_once_in_any_case_and_in_english_only() -> None:
    text = "The the THE of Of WITH have. That's be-all"
    assert gopher(Text(text, language="en")).measures["stop_words"] == 4
    assert "stop_words" not in gopher(Text(text, language="de")).measures
    assert "stop_words" not in gopher(Text(text)).measures


def test_what_does_not_apply_is_absent() -> None:
    assert gopher(Text("")).measures == {"words": 0, "tokens": 0}
    symbols = gopher(Text("### ***")).measures
    assert symbols["hash_token_ratio"] == 0.5
    assert not {"hash_word_ratio", "mean_word_length"} & symbols.keys()


def test_characters_that_are_words_have_no_mean_length() -> None:
    assert "mean_word_length" not in gopher(Text("今天天气很好。 OK")).measures
    assert gopher(Text("to be or not to be")).measures["mean_word_length"] == 13 / 6


def test_syllables_have_no_mean_length() -> None:
    assert "mean_word_length" not in gopher(Text("오늘 날씨가 좋아서 우리는 공원에 간다")).measures
    assert "mean_word_length" not in gopher(Text("ሰላም ለዓለም ሁሉ ይሁን")).measures
