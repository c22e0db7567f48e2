"""Parts of a report: sections of text, tables and figures, shown in the terminal or as one self-contained HTML page.

A stage returns `Section`s and knows nothing of where they are shown. Every value is escaped when it is rendered, so a
section may hold text of documents and of models.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lmworks.excerpts import PASSAGE_STYLE, Passage, escaped, passage_html, visible
from lmworks.records import Scored, Unscored

if TYPE_CHECKING:
    from rich.console import Console


Cell = str | int | float | Scored | Unscored


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under column heads. A number is set in figures of one width and aligned to the right; the interval
    of a score is drawn."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """An SVG drawing made by our own code (never text from outside), and the sentence that says what it shows."""

    svg: str
    caption: str


@dataclass(frozen=True, slots=True)
class Fold:
    """A part that shows its title until it is opened: what is long, and of use to few. A terminal names it only."""

    title: str
    text: str = ""
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    passages: tuple[Passage, ...] = ()


@dataclass(frozen=True, slots=True)
class Section(Fold):
    """A part with a heading. `alarms` are what must not be overlooked: they stand at the top of the page, and at the
    end in a terminal. Of a section that is `page_only` a terminal tells the title alone."""

    folds: tuple[Fold, ...] = ()
    alarms: tuple[str, ...] = ()
    page_only: bool = False


def format_cell(value: Cell) -> str:
    if isinstance(value, float):
        return f"{value:,.3f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


# ---------------------------------------------------------------------------------------------------------------------
# HTML

STYLE = (
    """
:root { --ink: #1c2024; --muted: #60646c; --line: #e0e1e6; --paper: #ffffff; --wash: #f6f7f9; --accent: #0b6e8f;
  --removed: #a3161f; --removed-wash: #fde8e8; --added: #14632c; --added-wash: #e2f5e6; --marked: #fdf0b4; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #edeef0; --muted: #a5abb5; --line: #363a3f; --paper: #16181a; --wash: #1f2225; --accent: #64c4e4;
    --removed: #ff9a9a; --removed-wash: #4a1d20; --added: #8fdca4; --added-wash: #173a22; --marked: #5a4d12; }
  figure svg { background: #ffffff; border-radius: 8px; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 960px; margin: 0 auto; padding: 48px 24px 96px; }
h1 { font-size: 32px; line-height: 40px; margin: 0 0 8px; letter-spacing: -0.01em; }
h2 { font-size: 20px; line-height: 32px; margin: 56px 0 8px; }
p { max-width: 70ch; margin: 8px 0 16px; white-space: pre-line; }
p.lead, caption, figcaption, nav { color: var(--muted); }
nav ul { list-style: none; margin: 24px 0 0; padding: 0; display: flex; flex-wrap: wrap; gap: 8px 24px; }
a { color: var(--accent); }
.scroll { overflow-x: auto; margin: 16px 0; scrollbar-width: thin; }
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 4px; }
table { border-collapse: collapse; font-size: 14px; line-height: 24px; min-width: 50%; }
caption { text-align: left; padding: 0 0 8px; }
caption span { display: block; position: sticky; left: 0; max-width: min(70ch, 100vw - 48px); }
th { text-align: left; font-weight: 600; border-bottom: 2px solid var(--line); padding: 4px 16px 4px 0;
  white-space: nowrap; }
td { border-bottom: 1px solid var(--line); padding: 4px 16px 4px 0; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
figure { margin: 24px 0; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 0 24px; }
.figures figure { min-width: 0; margin: 16px 0; }
code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 0.9em; }
figure svg { display: block; max-width: 100%; height: auto; }
svg.range { display: block; width: 100%; min-width: 120px; max-width: 200px; height: 8px; }
.range .scale { fill: var(--line); }
.range .span { fill: var(--accent); opacity: 0.4; }
.range .value { fill: var(--accent); }
.range .zero { fill: var(--muted); }
.alarm { border: 2px solid var(--removed); border-radius: 8px; background: var(--removed-wash); color: var(--removed);
  padding: 12px 16px; margin: 24px 0; overflow-wrap: anywhere; }
.alarm p { margin: 0; font-weight: 600; }
.alarm ul { margin: 4px 0 0; padding-left: 20px; }
details { border-top: 1px solid var(--line); padding: 4px 0; }
details:last-of-type { border-bottom: 1px solid var(--line); }
summary { cursor: pointer; padding: 4px 0; overflow-wrap: anywhere; }
summary:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
@media (max-width: 640px) {
  main { padding: 24px 16px 64px; }
  h1 { font-size: 28px; line-height: 36px; }
  caption span { max-width: calc(100vw - 32px); }
  td:first-child, th:first-child { position: sticky; left: 0; max-width: 40vw; overflow-wrap: break-word;
    white-space: normal; background: var(--paper); box-shadow: inset -1px 0 var(--line); padding-left: 0; }
  td + td, th + th { padding-left: 12px; }
}
"""
    + PASSAGE_STYLE
)


def to_html(title: str, lead: str, sections: Sequence[Section]) -> str:
    """One page with its style and figures inside: no script, no font, nothing fetched from anywhere."""
    contents = "".join(f'<li><a href="#s{i}">{escaped(s.title)}</a></li>' for i, s in enumerate(sections))
    body = ""
    for i, section in enumerate(sections):
        folds = (f"<details><summary>{escaped(f.title)}</summary>{fold_html(f)}</details>" for f in section.folds)
        parts = fold_html(section) + "".join(folds)
        body += f'<section id="s{i}"><h2>{escaped(section.title)}</h2>{parts}</section>'
    alarms = "".join(f"<li>{escaped(alarm)}</li>" for section in sections for alarm in section.alarms)
    alarm = f'<div class="alarm" role="alert"><p>Look at this first</p><ul>{alarms}</ul></div>' if alarms else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="generator" content="lmworks">'
        f"<title>{escaped(title)}</title><style>{STYLE}</style></head><body><main>"
        f'<h1>{escaped(title)}</h1><p class="lead">{escaped(lead)}</p>'
        f"{alarm}<nav><ul>{contents}</ul></nav>{body}</main></body></html>\n"
    )


def _figure_html(figure: Figure) -> str:
    return f"<figure>{_scroll(figure.svg, figure.caption)}<figcaption>{escaped(figure.caption)}</figcaption></figure>"


def fold_html(fold: Fold, draw: Callable[[Figure], str] = _figure_html) -> str:
    """Text, tables, figures and passages of a part, without its title and its folds; `draw` gives a figure's HTML."""
    prose = re.sub(r"`([^`\n]+)`", r"<code>\1</code>", escaped(fold.text))  # what stands between backticks is code
    text = f'<p class="text-block">{prose}</p>' if fold.text else ""
    tables = "".join(table_html(table) for table in fold.tables if table.rows)
    figures = "".join(map(draw, fold.figures))
    if len(fold.figures) > 2:  # two next to each other where there is room
        figures = f'<div class="figures">{figures}</div>'
    return text + tables + figures + "".join(passage_html(passage) for passage in fold.passages)


def table_html(table: Table) -> str:
    """A table in a box to scroll. Intervals in one row share a scale, as where rows are metrics and columns systems; in
    a table of differences, or with a single score in each row, those in one column do."""
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.columns)
    by_column = "difference" in table.columns or all(_scored(row) < 2 for row in table.rows)
    scales = [_scale(line) for line in (columns if by_column else table.rows)]
    numeric = [bool(column) and all(_is_number(value) for value in column) for column in columns]
    mark = [' class="number"' if n else "" for n in numeric]
    head = "".join(f"<th{m}>{escaped(c)}</th>" for c, m in zip(table.columns, mark, strict=True))
    rows = ""
    for i, row in enumerate(table.rows):
        cells = (_cell_html(value, mark[j], scales[j if by_column else i]) for j, value in enumerate(row))
        rows += f"<tr>{''.join(cells)}</tr>"
    caption = f"<caption><span>{escaped(table.caption)}</span></caption>" if table.caption else ""
    name = table.caption or ", ".join(table.columns)
    return _scroll(f'<table class="data">{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>', name)


def _is_number(value: Cell) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _scored(values: Iterable[Cell]) -> int:
    return sum(isinstance(value, Scored) for value in values)


def _scale(values: Iterable[Cell]) -> tuple[float, float]:
    """Lowest and highest number of a drawing of all scores here: 0 is in it, and a share is drawn on that of shares."""
    ends = [0.0, *(end for value in values if isinstance(value, Scored) for end in (value.value, *value.interval))]
    low, high = min(ends), max(ends)
    return low, 1.0 if low >= 0 and 0.01 <= high <= 1 else high


def _cell_html(value: Cell, mark: str, scale: tuple[float, float]) -> str:
    """The cell, with what it is sorted by where that is a number."""
    text = escaped(format_cell(value))
    if not isinstance(value, Scored):
        return f'<td{mark} data-key="{value}">{text}</td>' if _is_number(value) else f"<td{mark}>{text}</td>"
    low, width = scale[0], (scale[1] - scale[0]) or 1.0
    start, end, middle, zero = (100 * (x - low) / width for x in (*value.interval, value.value, 0.0))
    axis = f'<rect class="zero" x="{zero:.2f}" width="0.6" height="8"/>' if low < 0 else ""
    return (
        f'<td data-key="{value.value}">{text}<svg class="range" viewBox="0 0 100 8" preserveAspectRatio="none" '
        f'aria-hidden="true"><rect class="scale" y="3.5" width="100" height="1"/>{axis}'
        f'<rect class="span" x="{start:.2f}" y="2" width="{max(end - start, 0.8):.2f}" height="4"/>'
        f'<rect class="value" x="{middle - 0.6:.2f}" width="1.2" height="8"/></svg></td>'
    )


def _scroll(inner: str, name: str) -> str:
    """A box to scroll, for what may be wider than a narrow screen; the keyboard reaches it, too."""
    return f'<div class="scroll" tabindex="0" role="group" aria-label="{escaped(name)}">{inner}</div>'


# ---------------------------------------------------------------------------------------------------------------------
# Terminal


def shown(text: str) -> str:
    """Text from outside for the terminal: nothing in it is markup, no control character reaches the terminal, and none
    turns the direction of what follows."""
    from rich.markup import escape

    return escape(harmless(text))


def harmless(text: str) -> str:
    """The same where nothing is read as markup anyway."""
    return visible("".join(c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs") else "\ufffd" for c in text))


def print_table(console: "Console", table: Table) -> None:
    """A table with its caption as text. No word of a cell is broken: where the terminal is too narrow for the longest
    word of every column side by side, each row is a block of lines, one for each cell."""
    from rich.cells import cell_len
    from rich.table import Table as RichTable

    if table.caption:
        console.print(shown(table.caption), style="dim", highlight=False)
    rows = [[harmless(format_cell(value)) for value in row] for row in table.rows]
    columns = [[harmless(head), *cells] for head, *cells in zip(table.columns, *rows, strict=True)]
    words = [max((cell_len(word) for cell in cells for word in cell.split()), default=1) for cells in columns]
    lines = [max(cell_len(line) for cell in cells for line in cell.split("\n")) for cells in columns]
    space = console.width - 2 * (len(columns) - 1)  # between two columns stand two spaces
    if sum(words) > space:
        for row in table.rows:
            heads = (f"[dim]{shown(head)}:[/dim] " if head else "" for head in table.columns)
            for head, value in zip(heads, row, strict=True):
                console.print(f"{head}{shown(format_cell(value))}", highlight=False)
            console.print()
        return
    # The widest share for all that fits; no column takes more than its longest line, or less than its longest word.
    shares = (
        [max(w, min(n, share)) for w, n in zip(words, lines, strict=True)] for share in range(console.width, 0, -1)
    )
    widths = next(widths for widths in shares if sum(widths) <= space)
    grid = RichTable(box=None, pad_edge=False, header_style="dim")
    for i, column in enumerate(table.columns):
        numeric = bool(table.rows) and _is_number(table.rows[0][i])
        grid.add_column(shown(column), justify="right" if numeric else "left", width=widths[i], overflow="fold")
    for row in table.rows:
        grid.add_row(*(shown(format_cell(value)) for value in row))
    console.print(grid)


def print_sections(console: "Console", sections: Iterable[Section]) -> None:
    """The same sections as text, their alarms at the end; figures, passages, what is folded and sections that are only
    for the page are left to it."""
    sections = list(sections)
    for section in (section for section in sections if not section.page_only):
        console.print(f"\n[bold]{shown(section.title)}[/bold]")
        if section.text:
            console.print(shown(section.text))
        for number, table in enumerate(section.tables):
            if number and table.caption:
                console.print()
            print_table(console, table)
    if left := [section.title for section in sections if section.page_only]:
        console.print(f"\nOnly in the report: {shown(', '.join(left))}", highlight=False)
    alarms = [alarm for section in sections for alarm in section.alarms]
    if alarms:
        console.print()
    for alarm in alarms:
        console.print(f"[bold red]ALARM[/bold red] [red]{shown(alarm)}[/red]", highlight=False)


# ---------------------------------------------------------------------------------------------------------------------
# Figures


def line_plot(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x: str,
    y: str,
    scale: Literal["linear", "log"] = "linear",
) -> str:
    """SVG of named lines `(xs, ys)`; `scale` is that of both axes."""
    figure, axes = new_axes(x, y)
    axes.set(xscale=scale, yscale=scale)
    for name, (xs, ys) in lines.items():
        axes.plot(xs, ys, label=name, linewidth=1.8)
    if len(lines) > 1:
        axes.legend(frameon=False)
    return as_svg(figure)


def histogram(
    values: Sequence[float],
    *,
    x: str,
    y: str,
    bins: int = 40,
    marks: Mapping[str, float] | None = None,
    log: bool = False,
) -> str:
    """SVG of a histogram, with named vertical lines (a threshold, a limit); `log` counts on a logarithmic axis."""
    figure, axes = new_axes(x, y)
    axes.set(yscale="log" if log else "linear")
    axes.hist(values, bins=bins, color="#0b6e8f")
    for name, position in (marks or {}).items():
        axes.axvline(position, color="#c2410c", linewidth=1.2)
        axes.text(position, axes.get_ylim()[1], f" {name}", color="#c2410c", va="top", fontsize=9)
    return as_svg(figure)


def dot_plot(points: Mapping[str, Mapping[str, tuple[float, float, float]]], *, x: str) -> str:
    """SVG with a row for each name and in it a dot for each series: `points[series][name]` is (value, low, high).

    The interval is a line through the dot. Rows are in the order in which the names first occur, from the top. The axis
    begins at 0 unless all intervals lie in its upper half, where that would hide how they differ; then it says so.
    """
    names = list(dict.fromkeys(name for series in points.values() for name in series))
    lanes = max(len(points), 1)
    figure, axes = new_axes(x, "", height=1.0 + len(names) * max(0.24, 0.11 * lanes + 0.06))
    for lane, (series, values) in enumerate(points.items()):
        shift = ((lane + 0.5) / lanes - 0.5) * 0.7
        rows = [names.index(name) + shift for name in values]
        (drawn,) = axes.plot([v[0] for v in values.values()], rows, "o", markersize=4, label=series)
        for row, (_, low, high) in zip(rows, values.values(), strict=True):
            axes.plot([low, high], [row, row], color=drawn.get_color(), linewidth=1.4, solid_capstyle="butt")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    ends = [end for series in points.values() for value in series.values() for end in value]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    if low > high / 2:
        axes.set_xlim(low - 0.06 * (high - low or high), high + 0.06 * (high - low or high))
        axes.set_xlabel(f"{x} (the axis does not begin at 0)")
    elif low >= 0:
        axes.set_xlim(left=0.0)
    axes.grid(axis="x", color="#e0e1e6", linewidth=0.6)
    if len(points) > 1:
        figure.legend(loc="outside upper left", ncols=3, frameon=False)
    return as_svg(figure)


def new_axes(x: str, y: str, height: float = 3.6) -> tuple[Any, Any]:
    """An empty figure and its axes, `height` inches high.

    The width is 5.6 inches, so that the letters can be read where a phone shrinks the figure.
    """
    from matplotlib.figure import Figure as Canvas  # not pyplot: no global state, no display

    figure = Canvas(figsize=(5.6, height), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e0e1e6", linewidth=0.6)
    return figure, axes


def as_svg(figure: Any) -> str:
    """The figure as SVG text that is the same for the same figure: no date, fixed identifiers, text left as text."""
    import io

    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "lmworks", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
