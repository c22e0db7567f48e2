"""Sentences of technical prose, by hand-split examples and by coverage of any text."""

import time

from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.tokenizer.sentence_splitter import sentence_ranges

# Written with a bar where a sentence ends.
EXAMPLES = [
    "One sentence. |Two sentences! |Three?",
    "It is hard, e.g. for beginners, i.e. people such as Mr. Smith. |It goes on.",
    "See Fig. 3 and Sec. 4.2 of vol. 2. |Then stop.",
    "It takes lists, tuples, etc. |Others are refused.",
    "Lists, tuples, etc. are taken.",
    "Call foo.bar() or x.y.z first. |Then call baz().",
    "Since version 3.11.2 it is fast. |Before 3.9 it was not.",
    "Wait ... it goes on. |Really... |Yes.",
    'He said "no." |She said "yes!" |(They left.) |We stayed.',
    "The flag is set. |json.dumps() then returns. |max_tokens is read. |`x` is not.",
    "Use `a. B` as it is. |Next.",
    "By J. K. Rowling and D. Knuth. |A book.",
    "The Blackstone Group L.P. Chairman spoke in the U.S. Senate. |He left.",
    "It lies in Washington, D.C. |The city is large.",
    "The answer is no. |Nobody knew. |See no. 5 for more.",
    "The items are:\n|  - one. |Still one.\n|  - two\n|  - three",
    "First paragraph\nwithout a stop\n\n|Second paragraph.",
    "1. The first step. |It is easy.\n|2. The second step.",
    "Parameters:\n|  width: the width. |In characters.",
    ":param x: The x.\n|:param y: The y.\n|:returns: Nothing.",
    "Is it 5 a.m. or 6 p.m. today? |Who knows.",
    "It raises ValueError. |“Why?” |Because it must.",
    "Das ist gut. |Ärger gibt es nicht. |Это хорошо. |Да.",
    "Read https://example.org/a.html?x=1. |Then go.",
    "No final stop",
    "Version 2. |It is new.",
    "What?! |Indeed.",
    "Takes an int. |-1 means all. |0 means none.",
    "The \"with\" statement\nspans lines.  |See PEP 343.  |Done.",
]  # fmt: skip


@for_each("example", EXAMPLES)
def test_examples(example: str) -> None:
    text = example.replace("|", "")
    expected = [part.strip() for part in example.split("|")]
    assert [text[start:end] for start, end in sentence_ranges(text)] == expected


PIECES = st.sampled_from(
    ["Word", "word", ".", "!", "...", "…", " ", "  ", "\n", "\n\n", "e.g.", "etc.", "`a. B`", "``", "`", '"', ")", "(",
     ":", "- ", "1. ", "x.y()", "3.11", "\t", "é", "\u2028", "|", "J. ", "::"]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=40).map("".join) | st.text(max_size=60)


@given(TEXTS, st.data())
def test_ordered_disjoint_and_complete(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    position = start
    for first, last in sentence_ranges(text, start, end):
        assert position <= first < last <= end
        assert not text[position:first].strip()
        assert text[first:last] == text[first:last].strip()
        position = last
    assert not text[position:end].strip()


@for_each("unit", [". ", "`", "` ``", "(", "a.", "\n \n", "...", ": \n ", "'\"'"])
def test_time_is_linear_in_the_length(unit: str) -> None:
    # 50,000 characters take some 20 ms; an expression that backtracks over all of them would take minutes.
    started = time.perf_counter()
    sentence_ranges(unit * (50_000 // len(unit)))
    assert time.perf_counter() - started < 5
