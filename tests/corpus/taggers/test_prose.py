"""What is prose, against texts that were put together from it and from code and tables."""

from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.taggers.heuristics import gopher
from lmworks.corpus.taggers.repetition import repetition
from lmworks.corpus.taggers.tagger import Text

LINES = st.lists(st.sampled_from(["one two", "", "  three", "`four`", "a - b", "x | y"]))
CODE = st.lists(st.sampled_from(["}", "{", "", "x = 1", "| a | b |", "    ```", "``"]))


@given(LINES, CODE)
def test_blocks_of_code_are_none(lines: list[str], code: list[str]) -> None:
    kept = "\n".join(["begin", *lines, "", *lines])
    for opening, closing in (("```python", "```"), ("~~~", "~~~~"), ("  ````", "````  ")):
        text = "\n".join(["begin", *lines, "", opening, *code, closing, *lines])
        assert Text(text).prose.text == Text(kept).prose.text
        assert repetition(Text(text)).scores == repetition(Text(kept)).scores


def test_a_fence_that_nothing_closes_is_none() -> None:
    text = Text("One.\n\n```\ntwo\nthree\n")
    assert text.prose is text


def test_what_underlines_a_heading_is_no_fence_and_no_break() -> None:
    text = Text("Title\n~~~~~\n\nOne.\n\nAnother\n~~~~~~~\n\nTwo.\n\nLast\n----\n\nThree.\n")
    assert text.prose is text


def test_breaks_are_left_out() -> None:
    text = "One.\n\n---\n\nTwo.\n\n* * *\n\nThree.\n\n___\n"
    assert Text(text).prose.text.split() == ["One.", "Two.", "Three."]
    assert repetition(Text(f"{text}\n---\n\n---\n\nFour.")).scores["duplicate_line_share"] == 0


@given(st.lists(st.lists(st.sampled_from(["a", "1", "", "b c", r"x \| y"]), min_size=2, max_size=2), min_size=1))
def test_tables_are_their_cells(rows: list[list[str]]) -> None:
    table = "\n".join(["| name | of it |", "| :--- | ---: |", *(f"| {' | '.join(row)} |" for row in rows)])
    cells = " ".join(["name of it", *(cell for row in rows for cell in row)])
    assert Text(f"Words.\n\n{table}\n").prose.text.split() == f"Words. {cells}".split()


def test_gopher_counts_no_bars_as_words() -> None:
    table = "| name | points |\n| --- | ---: |\n| Ann | 12 |\n"
    assert gopher(Text(table)).scores["alphabetic_word_share"] == 3 / 4  # name points Ann 12
    assert gopher(Text("a | b --- 1")).scores["alphabetic_word_share"] == 2 / 5
