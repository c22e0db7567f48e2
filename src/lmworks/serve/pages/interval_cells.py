"""Cells of a report's table: numbers with their intervals recognised, sorted, and drawn."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lmworks.report import Table, format_cell

_NUMBER = r"-?\d+(?:\.\d+)?"
_SCORED = re.compile(rf"({_NUMBER}) \[({_NUMBER}), ({_NUMBER})\](?: n=(\d+))?")

Value = str | int | float


@dataclass(frozen=True, slots=True)
class Range:
    """An interval on a scale, in percent of its width; `zero` is where 0 lies when the scale reaches below it."""

    low: float
    high: float
    value: float
    zero: float | None


@dataclass(frozen=True, slots=True)
class Cell:
    """What one cell shows: `text`, or with `bar` a value, its interval and the number of items."""

    text: str
    numeric: bool
    key: float | None = None  # what a number is sorted by
    interval: str = ""
    n: str = ""
    bar: Range | None = None


@dataclass(frozen=True, slots=True)
class Grid:
    """A table to be drawn: `numeric` says which columns are set in figures."""

    name: str
    caption: str
    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[Cell, ...], ...]
    sorted_by: int | None = None
    descending: bool = False


def grid(name: str, table: Table) -> Grid:
    """The cells of a table; intervals of one row share a scale, since rows are metrics and columns are systems."""
    rows = tuple(_row(row) for row in table.rows)
    numeric = tuple(
        bool(rows) and all(row[i].numeric or not row[i].text for row in rows) for i in range(len(table.columns))
    )
    return Grid(name, table.caption, table.columns, numeric, rows)


def sorted_grid(table: Grid, column: int, *, descending: bool) -> Grid:
    """Rows by one column: numbers by value, else text; what is no number among numbers comes last either way."""
    if not 0 <= column < len(table.columns):
        return table
    numbers = any(row[column].key is not None for row in table.rows)
    told = [row for row in table.rows if not numbers or row[column].key is not None]
    rest = [row for row in table.rows if numbers and row[column].key is None]
    key = (lambda row: row[column].key) if numbers else (lambda row: row[column].text.casefold())
    rows = (*sorted(told, key=key, reverse=descending), *rest)
    return Grid(table.name, table.caption, table.columns, table.numeric, rows, column, descending)


def _row(values: Sequence[Value]) -> tuple[Cell, ...]:
    scored = [_SCORED.fullmatch(value) if isinstance(value, str) else None for value in values]
    numbers = [float(number) for match in scored if match for number in match.groups()[:3]]
    low, high = min([0.0, *numbers]), max([0.0, *numbers])
    if low >= 0 and 0.01 <= high <= 1:
        high = 1.0  # a share: drawn on the scale of all shares
    return tuple(_cell(value, match, low, high) for value, match in zip(values, scored, strict=True))


def _cell(value: Value, scored: re.Match[str] | None, low: float, high: float) -> Cell:
    if isinstance(value, (bool, str)) and not scored:
        number = float(value) if isinstance(value, str) and re.fullmatch(_NUMBER, value) else None
        return Cell(str(value), number is not None, number)
    if not scored:
        return Cell(format_cell(value), True, float(value))
    middle, start, end = (float(number) for number in scored.groups()[:3])
    span = (high - low) or 1.0
    at = [round(100 * (number - low) / span, 2) for number in (start, end, middle)]
    bar = Range(at[0], at[1], at[2], round(-100 * low / span, 2) if low < 0 else None)
    return Cell(scored[1], True, middle, f"[{scored[2]}, {scored[3]}]", scored[4] or "", bar)
