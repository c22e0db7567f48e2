"""The report of a grid: scores and paired differences, tokens by part, and the cases on which variants differ."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmworks.evaluate.metric import prompt_text
from lmworks.evaluate.results import Result, read_results
from lmworks.excerpts import Passage, Piece
from lmworks.prompt.prompt_grid import Cell, Grid
from lmworks.records import Score, Scored, Unscored
from lmworks.report import Figure, Fold, Section, Table, dot_plot
from lmworks.statistics.scores import mean_score

_SHOWN = 20  # cases
_CHARACTERS = 600


@dataclass(frozen=True, slots=True)
class GridRow:
    """A cell in one metric: its score, and the difference from the first variant on the same model, paired by case."""

    cell: Cell
    metric: str
    score: Score
    difference: Score | None
    p: float | None
    verdict: str


def grid_rows(grid: Grid) -> list[GridRow]:
    """All scores of a grid, metric by metric; where a prompt has a format, the share of its answers that have it."""
    rows: list[GridRow] = []
    for cell in grid.cells:
        for name, one in grid.scores(cell).items():
            found = grid.comparisons.get((cell.key, name))
            if found is None:
                rows.append(GridRow(cell, name, one.score, None, None, "baseline"))
            else:
                rows.append(GridRow(cell, name, one.score, found.difference, found.p_adjusted, found.verdict))
        if cell.valid is not None:
            valid = mean_score([1.0] * cell.valid + [0.0] * (cell.n - cell.valid), [cell.key, "format"])
            rows.append(GridRow(cell, "has its format", valid, None, None, ""))
    return sorted(rows, key=lambda row: list(dict.fromkeys(one.metric for one in rows)).index(row.metric))


def grid_sections(grid: Grid, *, drawn: bool = True) -> tuple[Section, ...]:
    rows, dots, alarms = grid_rows(grid), {}, []
    table = []
    for row in rows:
        tested = "" if row.p is None else f"{row.p:.3g}"
        difference = "" if row.difference is None else _stated(row.difference, signed=True)
        table.append(
            (row.metric, row.cell.variant, row.cell.model, _stated(row.score), difference, tested, row.verdict)
        )
        if isinstance(row.score, Unscored):
            alarms.append(f"{row.cell.variant}, {row.metric}: {row.score}")
        elif 0 <= row.score.interval[0] <= row.score.interval[1] <= 1:
            name = f"{row.cell.variant}, {row.cell.model}"
            dots.setdefault(row.metric, {})[name] = (row.score.value, *row.score.interval)
    first = grid.cells[0]
    text = (
        f"{first.n} cases of {first.task}. Differences are from {first.variant} on the same model, paired by case, "
        "with 95 % intervals; p is corrected for all comparisons of the grid (Holm)."
    )
    columns = ("metric", "prompt", "model", "value", "difference", "p", "verdict")
    figures = ()
    if drawn and dots:
        figures = (Figure(dot_plot(dots, x="value"), "Values between 0 and 1, with 95 % intervals."),)
    for cell in grid.cells:
        if cell.left_out:
            alarms.append(
                f"{cell.variant}: {cell.left_out} passages were left out, {cell.left_out / cell.n:.1f} a case"
            )
        if unused := _unused_contexts(grid, cell):
            alarms.append(f"{cell.variant}, {cell.model}: {unused}")
    return (
        Section("Scores", text, (Table(columns, tuple(table)),), figures, alarms=tuple(alarms)),
        _tokens_section(grid.cells),
        _cases_section(grid),
    )


def _stated(score: Score, *, signed: bool = False) -> str:
    if not isinstance(score, Scored):
        return str(score)
    sign = "+" if signed else ""
    return f"{score.value:{sign}.3f} [{score.interval[0]:{sign}.3f}, {score.interval[1]:{sign}.3f}]"


def _unused_contexts(grid: Grid, cell: Cell) -> str:
    """A sentence where answers owe nothing to their passages, of a task with the metric "attribution" (nats)."""
    if "attribution" not in grid.scores(cell):
        return ""
    values = grid.values(cell, "attribution")
    unused, known = int((values <= 0).sum()), int(np.isfinite(values).sum())
    return f"{unused} of {known} answers are no likelier with their passages than without" if unused else ""


def _tokens_section(cells: Sequence[Cell]) -> Section:
    parts = list(dict.fromkeys(part for cell in cells for part in cell.tokens))
    rows = tuple(
        (cell.variant, cell.model, *(cell.tokens.get(part, 0.0) for part in parts), cell.answer) for cell in cells
    )
    table = Table(("prompt", "model", *parts, "answer"), rows, "Tokens of a case, on average, by the prompt's parts.")
    return Section("Tokens", tables=(table,), page_only=True)


def _cases_section(grid: Grid) -> Section:
    """The cases on which the first metric differs most between the cells, with every answer."""
    name = next(iter(grid.scores(grid.cells[0])))
    of_cell = [read_results(grid.place(cell))[0] for cell in grid.cells]
    values = np.stack([grid.values(cell, name) for cell in grid.cells])
    spread = np.nan_to_num(np.nanmax(values, axis=0) - np.nanmin(values, axis=0))
    order = [int(place) for place in np.argsort(-spread, kind="stable")[:_SHOWN]]
    folds = []
    for place in order:
        item = of_cell[0][place].item
        right = f" Right: {' | '.join(item.references)}." if item.references else ""
        passages = tuple(
            Passage(f"{cell.variant}, {cell.model}", (Piece(_answer(rows[place])),), f"{name} {value:.3g}")
            for cell, rows, value in zip(grid.cells, of_cell, values[:, place], strict=True)
        )
        folds.append(Fold(f"{item.id}: {prompt_text(item.prompt)[:_CHARACTERS]}.{right}", passages=passages))
    return Section("Cases", f"Those on which {name} differs most.", folds=tuple(folds), page_only=True)


def _answer(row: Result) -> str:
    return row.response.text[:_CHARACTERS] or "(nothing)"
