"""Heuristics: examples by hand, and definitions in plain Python."""

import re
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.corpus.taggers.heuristics import PRESETS, Preset, c4, fineweb, gopher, spam
from lmworks.corpus.taggers.repetition import repetition
from lmworks.corpus.taggers.tagger import Text
from lmworks.corpus.taggers.words import prose


def test_gopher_by_hand() -> None:
    text = "# Title...\n\n- the cat and dog\n• 12 34 of\nend…"
    counts = {"words": 9, "stop_words": 3}  # Title the cat and dog 12 34 of end
    shares = {
        "mean_word_length": (26, 9), "hash_word_ratio": (1, 9), "ellipsis_word_ratio": (2, 9),
        "bullet_line_share": (2, 4), "ellipsis_line_share": (2, 4),
        "alphabetic_word_share": (7, 12),  # of # Title... - the cat and dog • 12 34 of end…
    }  # fmt: skip
    expected = counts | {name: count / of for name, (count, of) in shares.items()}
    assert gopher(Text(text, language="en")).scores == pytest.approx(expected)


def test_what_does_not_apply_is_absent() -> None:
    assert gopher(Text("")).scores == {"words": 0}
    symbols = gopher(Text("### ***")).scores
    assert not {"hash_word_ratio", "mean_word_length"} & symbols.keys()
    for text in ("今天天气很好。 OK", "오늘 날씨가 좋아서 우리는 공원에 간다", "ሰላም ለዓለም ሁሉ ይሁን"):
        assert "mean_word_length" not in gopher(Text(text)).scores
    assert gopher(Text("to be or not to be")).scores["mean_word_length"] == 13 / 6


C4_LINES = [
    "A line that stays.", "  An indented one stays too!  ", "He asked “why?”", "no end of a sentence", "It goes on...",
    "Two words.", "Please enable JavaScript here.", "Read our Privacy Policy now.", "A fact that is cited.[12]",
    "Another fact is cited. [citation needed]", "f(x) { return x; }.", "Lorem ipsum dolor sit amet.", "", "   ",
    "x" * 1001 + " is too long.",
]  # fmt: skip


def kept_by_hand(text: str) -> list[str]:
    kept = []
    for line in text.split("\n"):
        words = line.split()
        bare = re.sub(r"\[([0-9]*|edit|citation needed)\]", "", line).strip()
        ends = bool(re.search(r"[.!?\"'”’]$", bare)) and not bare.endswith("...")
        policy = re.search(
            r"javascript|(terms of|cookie|cookies|privacy) (use|policy)|uses? (of )?cookies", bare.lower()
        )
        if ends and len(words) >= 3 and all(len(word) <= 1000 for word in words) and not policy:
            kept.append(bare)
    return kept


@for_each(
    ("line", "expected"),
    [("A line that stays.", []), ("It goes on...", ["c4.no_terminal_punctuation"]),
     ("Menu", ["c4.no_terminal_punctuation", "c4.few_words"]),
     ("We use cookies and JAVASCRIPT.", ["c4.javascript", "c4.policy"]),
     (f"A {'x' * 1001} is long.", ["c4.long_word"]), (f"A {'x' * 1000} is short.", [])],
)  # fmt: skip
def test_all_rules_that_a_line_breaks_are_tagged(line: str, expected: list[str]) -> None:
    text = f"It begins like this.\n{line}\nIt ends like this."
    found = [(span.rule, text[span.start : span.end]) for span in c4(Text(text)).spans]
    assert found == [(rule, f"{line}\n") for rule in expected]


@given(st.lists(st.sampled_from(C4_LINES)))
def test_what_no_span_cuts_is_what_the_rules_keep(lines: list[str]) -> None:
    text = "\n".join(lines)
    found = c4(Text(text))
    left = list(text)
    for span in found.spans:
        left[span.start : span.end] = [""] * (span.end - span.start)
    expected = kept_by_hand(text)
    assert [line.strip() for line in "".join(left).split("\n") if line.strip()] == expected


LINES_OF_PAGES = ["", "  ", "Menu", "x" * 30, "x" * 31, "The end.", "The end. ", 'He said "no."', "终于。", "नमस्ते।"]


@given(st.lists(st.sampled_from(LINES_OF_PAGES)))
def test_fineweb_scores_are_their_definitions(lines: list[str]) -> None:
    text = "\n".join(lines)
    filled = [line for line in lines if line.strip()]
    again = [line for place, line in enumerate(filled) if line in filled[:place]]
    newlines, tokens = text.count("\n"), len(Text(text).tokens)
    counted = {
        "terminal_line_share": (sum(line.endswith((".", "。", "।")) for line in filled), len(filled)),
        "short_line_share": (sum(len(line) < 31 for line in filled), len(filled)),
        "fineweb_duplicate_character_share": (sum(map(len, again)), len(text) - newlines if filled else 0),
        "newlines_per_token": (newlines, tokens),
    }
    assert fineweb(Text(text)).scores == {name: count / of for name, (count, of) in counted.items() if of}


def test_link_density_and_compression() -> None:
    data = PROSE.encode()
    assert spam(Text(PROSE)).scores["compression_ratio"] == len(data) / len(zlib.compress(data))
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
    assert {text: spam(Text(text)).scores.get("link_density") for text in expected} == expected


PROSE = """The harbour lay quiet when the first boats came back with nets half empty. Nobody on the quay spoke of it.
Two winters ago the same crews had filled every crate before noon, and buyers from the city had waited with lorries.

An old man mended a sail beside the ice house. He said that fish follow cold water, which now stays further out to sea.
Younger people have begun to leave; some of them find work in the wind farms that stand on the horizon like pale reeds.

What will become of the village is hard to say. It has been poor before, and it has always found something to sell."""


def broken(preset: Preset, text: str) -> list[str]:
    seen = Text(text, language="en")
    found = {name: value for tag in (gopher, repetition, c4, fineweb) for name, value in tag(seen).scores.items()}
    return [
        name
        for name, low, high in PRESETS[preset]
        if (low is not None and found[name] < low) or (high is not None and found[name] > high)
    ]


@for_each("preset", PRESETS)
def test_prose_passes(preset: Preset) -> None:
    assert broken(preset, PROSE) == []


@for_each(
    ("preset", "text", "measure"),
    [("gopher", "The cat and the dog sat.", "words"),
     ("gopher", "# the a to b of # and # that # be # " * 20, "hash_word_ratio"),
     ("gopher", "\n".join(f"- {line}" for line in PROSE.split("\n") if line), "bullet_line_share"),
     ("gopher", PROSE.replace(".\n", "...\n"), "ellipsis_line_share"),
     ("gopher", PROSE + " 12 34 | 56 =" * 40, "alphabetic_word_share"),
     ("gopher", "kurz war der Weg, lang die Nacht, kalt das Haus. " * 8, "stop_words"),
     ("gopher_repetition", f"{PROSE}\n\n{PROSE}", "duplicate_line_share"),
     ("gopher_repetition", f"{PROSE} " + "buy now " * 30, "top_2_gram_character_share"),
     ("c4", PROSE.replace("An old man", "{An old man}"), "curly_brackets"),
     ("c4", PROSE + "\nLorem ipsum", "lorem_ipsum"), ("c4", PROSE.replace(".", ""), "c4_kept_sentences"),
     ("fineweb", PROSE.replace(".", ","), "terminal_line_share"),
     ("fineweb", PROSE.replace(" ", "\n"), "short_line_share"),
     ("fineweb", f"{PROSE}\n{PROSE}", "fineweb_duplicate_character_share"),
     ("fineweb", PROSE.replace(" ", "\n"), "newlines_per_token")],
)  # fmt: skip
def test_what_a_rule_is_after_breaks_it(preset: Preset, text: str, measure: str) -> None:
    assert measure in broken(preset, text)


UNDERLINED = "Title\n~~~~~\n\nOne.\n\nAnother\n~~~~~~~\n\nTwo.\n\nLast\n----\n\nThree.\n"
LINES = st.lists(st.sampled_from(["one two", "", "  three", "`four`", "a - b", "x | y"]))
CODE = st.lists(st.sampled_from(["}", "{", "", "x = 1", "| a | b |", "    ```", "``"]))


@given(LINES, CODE)
def test_blocks_of_code_are_none(lines: list[str], code: list[str]) -> None:
    kept = "\n".join(["begin", *lines, "", *lines])
    for opening, closing in (("```python", "```"), ("~~~", "~~~~"), ("  ````", "````  ")):
        text = "\n".join(["begin", *lines, "", opening, *code, closing, *lines])
        assert Text(text).prose.text == Text(kept).prose.text
        assert repetition(Text(text)).scores == repetition(Text(kept)).scores
    for text in ("One.\n\n```\ntwo\nthree\n", UNDERLINED):  # what nothing closes, and what underlines, is none
        assert prose(text) is None
