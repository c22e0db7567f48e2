"""C4's cuts: each rule by an example, and what stays against the rules in plain Python."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.data.annotate.c4 import C4
from lmworks.data.annotation import Mark, Text

LINES = [
    "A line that stays.",
    "  An indented one stays too!  ",
    "He asked “why?”",
    "no end of a sentence",
    "It goes on...",
    "Two words.",
    "Please enable JavaScript here.",
    "Read our Privacy Policy now.",
    "A fact that is cited.[12]",
    "Another fact is cited. [citation needed]",
    "f(x) { return x; }.",
    "Lorem ipsum dolor sit amet.",
    "x" * 1001 + " is too long.",
    "",
    "   ",
]


DEFAULT = C4()


def rules(text: str, annotator: C4 = DEFAULT) -> list[tuple[str, str]]:
    return [(mark.rule, text[mark.start : mark.end]) for mark in annotator(Text(text)).marks]


def kept_by_hand(text: str) -> list[str]:
    kept = []
    for line in text.split("\n"):
        words = line.split()
        bare = re.sub(r"\[([0-9]*|edit|citation needed)\]", "", line).strip()
        ends = bool(re.search(r"[.!?\"'”’]$", bare)) and not bare.endswith("...")
        told = re.search(r"javascript|(terms of|cookie|cookies|privacy) (use|policy)|uses? (of )?cookies", bare.lower())
        if ends and len(words) >= 3 and all(len(word) <= 1000 for word in words) and not told:
            kept.append(bare)
    return kept


@given(st.lists(st.sampled_from(LINES)))
def test_what_no_mark_cuts_is_what_the_rules_keep(lines: list[str]) -> None:
    text = "\n".join(lines)
    found = C4()(Text(text))
    left = list(text)
    for mark in found.marks:
        left[mark.start : mark.end] = [""] * (mark.end - mark.start)
    stays = [line.strip() for line in "".join(left).split("\n") if line.strip()]
    expected = kept_by_hand(text)
    assert stays == expected
    assert found.measures["c4_kept_lorem_ipsum"] == "\n".join(expected).lower().count("lorem ipsum")
    assert found.measures["c4_kept_curly_brackets"] == "\n".join(expected).count("{")
    filled = [line for line in lines if line.strip()]
    assert found.measures.get("c4_kept_line_share") == (len(expected) / len(filled) if filled else None)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("A line that stays.", []),
        ("no end of a sentence", ["c4.no_terminal_punctuation"]),
        ("It goes on...", ["c4.no_terminal_punctuation"]),
        ("Menu", ["c4.no_terminal_punctuation", "c4.few_words"]),
        ("Two words.", ["c4.few_words"]),
        ("This needs JavaScript.", ["c4.javascript"]),
        ("We use cookies and JAVASCRIPT.", ["c4.javascript", "c4.policy"]),
        (f"A {'x' * 1001} is long.", ["c4.long_word"]),
        (f"A {'x' * 1000} is short.", []),
    ],
)
def test_all_rules_that_a_line_breaks_are_marked(line: str, expected: list[str]) -> None:
    text = f"It begins like this.\n{line}\nIt ends like this."
    assert rules(text) == [(rule, f"{line}\n") for rule in expected]


def test_the_number_of_words_is_the_users() -> None:
    text = "A line of five words.\nA line of four."
    assert rules(text, C4(fewest_words=5)) == [("c4.few_words", "A line of four.")]
    assert rules(text) == []


def test_citations_are_marked_and_a_line_that_ends_in_one_stays() -> None:
    text = "A fact that is cited.[12] And one more. [edit]"
    assert rules(text) == [("c4.citation", "[12]"), ("c4.citation", "[edit]")]
    assert C4()(Text(text)).measures["c4_kept_sentences"] == 2


def test_an_example_by_hand() -> None:
    text = "Home | About\nThe cat sat. It slept.\n\nThe {dog} ran away!\nvar x = {};\nLorem ipsum dolor"
    found = C4()(Text(text))
    assert found.measures == {
        "lorem_ipsum": 1,
        "curly_brackets": 2,
        "c4_kept_lorem_ipsum": 0,
        "c4_kept_curly_brackets": 1,
        "c4_kept_sentences": 3,
        "c4_kept_line_share": 2 / 5,
    }
    assert found.marks[-1] == Mark("c4.no_terminal_punctuation", len(text) - len("Lorem ipsum dolor"), len(text))


@given(st.text())
def test_marks_lie_in_the_text(text: str) -> None:
    assert all(0 <= mark.start < mark.end <= len(text) for mark in C4()(Text(text)).marks)
