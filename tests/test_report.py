"""The page of a report: read on narrow screens, by the keyboard, and with axes that hide nothing."""

import io
import re
from collections import Counter

from rich.cells import cell_len
from rich.console import Console

from kit.tables import for_each
from lmworks.report import Figure, Section, Table, dot_plot, print_table, to_html


def ticks(svg: str) -> list[float]:
    """The numbers on the axis of a drawing, without the names of its rows."""
    return [float(text) for text in re.findall(r">([\d.]+)</text>", svg)]


def test_an_axis_begins_at_zero_unless_that_hides_how_values_differ():
    wide = dot_plot({"a": {"one": (0.4, 0.3, 0.5), "two": (2.0, 1.9, 2.1)}}, x="fertility")
    assert min(ticks(wide)) == 0 and "does not begin at 0" not in wide
    near = dot_plot({"a": {"one": (3.30, 3.25, 3.35), "two": (3.42, 3.38, 3.46)}}, x="bytes per token")
    assert 3.2 < min(ticks(near)) < max(ticks(near)) < 3.5 and "does not begin at 0" in near
    same = dot_plot({"a": {"one": (1.0, 1.0, 1.0)}}, x="bytes per token")
    assert min(ticks(same)) < 1 < max(ticks(same))


def test_what_is_wide_can_be_scrolled_by_the_keyboard():
    figure = Figure(dot_plot({"a": {"one": (1.0, 0.5, 2.0)}}, x="x"), 'Of "one"')
    page = to_html("Title", "lead", [Section("S", tables=(Table(("a", "b"), ((1, 2),)),), figures=(figure,))])
    names = re.findall(r'<div class="scroll" tabindex="0" role="group" aria-label="([^"]*)">', page)
    assert names == ["a, b", "Of &quot;one&quot;"]
    assert '<meta name="generator" content="lmworks">' in page


@for_each("width", [30, 60, 80, 200])
def test_a_terminal_breaks_no_word_of_a_table(width):
    """Nor goes a line beyond its edge."""
    stages = ("evaluation_of_answers", "retrieve.index"), ("[train]", "train.cross_encoder"), ("日本語", "読む 書く")
    rows = tuple(
        (*stage, 1234567, 0.25, "what it is for, in some words, of which one is incomprehensibly long")
        for stage in stages
    )
    table = Table(("name", "what it runs", "tokens", "loss", "purpose"), rows)
    console = Console(width=width, record=True, file=io.StringIO())
    print_table(console, table)
    text = console.export_text()
    assert all(cell_len(line) <= width for line in text.splitlines())
    words = Counter(text.replace(":", "").split())
    assert all(words[word] >= 1 for row in rows for cell in row[:2] for word in cell.split())
    assert words["incomprehensibly"] == words["1,234,567"] == words["0.250"] == len(rows)
