"""The report of a grid: scores and paired differences, tokens by part, and the cases on which variants differ."""

import numpy as np

from lmworks.evaluate.metric import prompt_text
from lmworks.evaluate.results import read_results
from lmworks.excerpts import Passage, Piece
from lmworks.prompt.prompt_grid import Grid
from lmworks.records import Unscored
from lmworks.report import Cell, Figure, Fold, Section, Table, dot_plot
from lmworks.statistics.scores import mean_score

_SHOWN = 20  # cases
_CHARACTERS = 600


def grid_sections(grid: Grid, *, drawn: bool = True) -> tuple[Section, ...]:
    """Scores metric by metric, where a prompt has a format the share of answers that have it; tokens; cases."""
    rows, dots, alarms = list[tuple[Cell, ...]](), dict[str, dict[str, tuple[float, float, float]]](), list[str]()
    for metric in grid.scores(grid.cells[0]):
        for cell in grid.cells:
            score, found = grid.scores(cell)[metric].score, grid.comparisons.get((cell.key, metric))
            tested: tuple[Cell, ...] = ("", "", "baseline")
            if found is not None:
                p = "" if found.p_adjusted is None else f"{found.p_adjusted:.3g}"
                tested = (found.difference, p, found.verdict)
            rows.append((metric, cell.variant, cell.model, score, *tested))
            if isinstance(score, Unscored):
                alarms.append(f"{cell.variant}, {metric}: {score}")
            elif 0 <= score.interval[0] <= score.interval[1] <= 1:
                dots.setdefault(metric, {})[f"{cell.variant}, {cell.model}"] = (score.value, *score.interval)
    for cell in grid.cells:
        if cell.valid is not None:
            valid = mean_score([1.0] * cell.valid + [0.0] * (cell.n - cell.valid), [cell.key, "format"])
            rows.append(("has its format", cell.variant, cell.model, valid, "", "", ""))
        if cell.left_out:
            alarms.append(f"{cell.variant}: passages were left out, {cell.left_out / cell.n:.1f} a case")
        if "attribution" in grid.scores(cell) and (unused := int((grid.values(cell, "attribution") <= 0).sum())):
            alarms.append(f"{cell.variant}, {cell.model}: {unused} answers are no likelier with passages than without")
    first = grid.cells[0]
    text = (
        f"{first.n} cases of {first.task}. Differences are from {first.variant} on the same model, paired by case, "
        "with 95 % intervals; p is corrected for all comparisons of the grid (Holm)."
    )
    columns = ("metric", "prompt", "model", "value", "difference", "p", "verdict")
    figures = ()
    if drawn and dots:
        figures = (Figure(dot_plot(dots, x="value"), "Values between 0 and 1, with 95 % intervals."),)
    parts = list(dict.fromkeys(part for cell in grid.cells for part in cell.tokens))
    sizes = tuple((one.variant, one.model, *(one.tokens.get(p, 0.0) for p in parts), one.answer) for one in grid.cells)
    tokens = Table(("prompt", "model", *parts, "answer"), sizes, "Tokens of a case, on average, by the prompt's parts.")
    return (
        Section("Scores", text, (Table(columns, tuple(rows)),), figures, alarms=tuple(alarms)),
        Section("Tokens", tables=(tokens,), page_only=True),
        _cases_section(grid),
    )


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
        passages = []
        for cell, rows, value in zip(grid.cells, of_cell, values[:, place], strict=True):
            said = rows[place].response.text[:_CHARACTERS] or "(nothing)"
            passages.append(Passage(f"{cell.variant}, {cell.model}", (Piece(said),), f"{name} {value:.3g}"))
        folds.append(Fold(f"{item.id}: {prompt_text(item.prompt)[:_CHARACTERS]}.{right}", passages=tuple(passages)))
    return Section("Cases", f"Those on which {name} differs most.", folds=tuple(folds), page_only=True)
