"""The report of a run: scores with intervals, and of each task a few items right and wrong."""

from collections.abc import Mapping, Sequence

from lmworks.evaluate.metric import Value, score, value_row
from lmworks.evaluate.registry import metric
from lmworks.evaluate.results import Result, TaskScore
from lmworks.evaluate.task import Task
from lmworks.excerpts import Passage, Piece
from lmworks.records import Unscored
from lmworks.report import Figure, Fold, Section, Table, dot_plot

_SHOWN = 3  # items of each kind
_CHARACTERS = 1200  # of a prompt, its end


def sections(
    tasks: Sequence[Task],
    results: Sequence[Result],
    scores: Mapping[str, Mapping[str, TaskScore]],
    settings: Mapping[str, object],
) -> tuple[Section, ...]:
    """`settings` say what was run: the model, the data, and what else distinguishes this run from others."""
    rows, dots, alarms = [], {}, []
    for task in tasks:
        for name, one in scores[task.name].items():
            score = one.score
            rows.append((task.name, name, score, task.shots.count))
            if isinstance(score, Unscored):
                alarms.append(f"{task.name}, {name}: {score}")
            elif 0 <= score.interval[0] <= score.interval[1] <= 1:
                dots.setdefault(name, {})[task.name] = (score.value, *score.interval)
    table = Table(("task", "metric", "score", "shots"), tuple(rows), "With 95 % intervals")
    drawn = Figure(dot_plot(dots, x="value"), "Values between 0 and 1, with 95 % intervals.") if dots else None
    stated = "; ".join(f"{name}: {value}" for name, value in settings.items() if value not in (None, "", 0, False))
    of_task = {task.name: [row for row in results if row.task == task.name] for task in tasks}
    return (
        Section("Scores", stated, (table,), (drawn,) if drawn else (), alarms=tuple(alarms)),
        *(_task_section(task, of_task[task.name]) for task in tasks if of_task[task.name]),
    )


def _task_section(task: Task, rows: Sequence[Result]) -> Section:
    cut = sum(len(row.response.log_probabilities) >= task.max_tokens for row in rows)
    ended = f" {cut} of {len(rows)} generations ended at max_tokens." if task.request == "generation" and cut else ""
    name = task.metrics[0]
    valued = [(row, value) for row in rows if (value := _single(row.values[name])) is not None]
    kinds = {"highest": sorted(valued, key=lambda one: -one[1]), "lowest": sorted(valued, key=lambda one: one[1])}
    groups = (_group_table(task, rows),) if task.group else ()
    folds = tuple(
        Fold(f"{name}: {kind}", passages=tuple(_passage(row, value) for row, value in ordered[:_SHOWN]))
        for kind, ordered in kinds.items()
        if ordered
    )
    silent = sum(row.response.abstained for row in rows)
    ended += f" {silent} of {len(rows)} responses abstained." if silent else ""
    said = f"{task.purpose}. Data: {task.source}.{ended}"
    return Section(f"{task.name}: its items", said, groups, folds=folds, page_only=not ended)


def _group_table(task: Task, rows: Sequence[Result]) -> Table:
    """The first metric within each group."""
    groups: dict[str, list[Result]] = {}
    for row in rows:
        groups.setdefault(str(row.item.fields[task.group]), []).append(row)
    first, made = metric(task.metrics[0]), []
    for name, members in sorted(groups.items()):
        found = score(first, [row.item for row in members], [row.values[first.name] for row in members])
        made.append((name, found, len(members)))
    return Table((task.group, first.name, "items"), tuple(made), "With 95 % intervals")


def _single(value: Value) -> float | None:
    """The first sum of an item over its second, None where there is none."""
    if isinstance(value, Unscored):
        return None
    first, second = (*value_row(value), 1.0)[:2]
    return first / second if second else None


def _passage(row: Result, value: float) -> Passage:
    prompt = row.item.prompt if isinstance(row.item.prompt, str) else row.item.prompt[-1].content
    right = [row.item.choices[number] for number in row.item.answers] or list(row.item.references)
    note = f"{value:.3g}; right: {' | '.join(right)}" if right else f"{value:.3g}"
    answer = "" if row.response.text == prompt else row.response.text
    return Passage(row.item.id, (Piece(prompt[-_CHARACTERS:] + " "), Piece(answer, "marked")), note)
