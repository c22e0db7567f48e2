"""Tables: what a Markdown parser reads in them is what was put in."""

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from lmworks.corpus.extract.markdown_writer import Cell, markdown_table, span_of

PIECES = st.lists(st.sampled_from(["a", "bc", "|", "\\|", "\\d", " "]), max_size=6).map("".join)
ROWS = st.lists(st.lists(PIECES, min_size=1, max_size=4), min_size=1, max_size=4)


def parsed(table: str) -> list[list[str]]:
    """The texts of the cells, as markdown-it reads them."""
    tokens = MarkdownIt("commonmark").enable("table").parse(table)
    rows: list[list[str]] = []
    for number, token in enumerate(tokens):
        if token.type == "tr_open":
            rows.append([])
        elif token.type in ("th_open", "td_open"):
            rows[-1].append("".join(child.content for child in tokens[number + 1].children or ()))
    return rows


@given(ROWS)
def test_a_parser_reads_the_cells_that_were_written(rows: list[list[str]]) -> None:
    wanted = [[" ".join(text.split()) for text in row] for row in rows]
    wanted = [row for row in wanted if any(row)]
    width = max(map(len, wanted), default=0)
    read = parsed(markdown_table([[Cell(text) for text in row] for row in rows]))
    assert read == [row + [""] * (width - len(row)) for row in wanted]


def test_a_table_is_written_line_by_line() -> None:
    rows = [[Cell("a"), Cell("b\nc")], [Cell("1|2"), Cell("")]]
    assert markdown_table(rows) == "| a | b c |\n| --- | --- |\n| 1\\|2 |  |"


def test_cells_stand_in_the_first_column_and_row_that_they_cover() -> None:
    rows = [[Cell("a", columns=2), Cell("b")], [Cell("c", rows=2), Cell("d"), Cell("e")], [Cell("f"), Cell("g")]]
    assert markdown_table(rows) == "| a |  | b |\n| --- | --- | --- |\n| c | d | e |\n|  | f | g |"


def test_spans_cannot_make_a_table_large() -> None:
    rows = [[Cell("x", columns=1000, rows=1000)] * 50] * 50
    assert markdown_table(rows).count("|") < 50_000
    assert span_of("65534999") == span_of("-2") == span_of(None) == 1


def test_a_table_without_text_is_none() -> None:
    assert markdown_table([]) == markdown_table([[Cell(" "), Cell("")]]) == ""
