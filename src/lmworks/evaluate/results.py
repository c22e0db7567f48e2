"""Results on disk: a row for each item of each task of a run, kept whole, so that any two runs can be paired by item.

items.jsonl    a `Result` a line: the item, the response, and the value of each metric
scores.json    task -> metric -> `TaskScore`
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmworks.artefact import read_json, read_rows, write_json, write_rows
from lmworks.config import from_mapping
from lmworks.evaluate.metric import Item, Metric, Response, Value, score
from lmworks.records import Score

ITEMS = "items.jsonl"
SCORES = "scores.json"


@dataclass(frozen=True, slots=True)
class Result:
    """One item of a run. `values` are in the order of the task's metrics."""

    task: str
    item: Item
    response: Response
    values: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class TaskScore:
    """A metric over the items of a task; `combine` names the function of its sums, "module:function"."""

    score: Score
    higher_is_better: bool | None
    combine: str


def task_score(metric: Metric, items: Sequence[Item], values: Sequence[Value], signature: object) -> TaskScore:
    name = f"{metric.combine.__module__}:{metric.combine.__qualname__}"
    return TaskScore(score(metric, items, values, signature), metric.higher_is_better, name)


def write_results(folder: Path, results: Iterable[Result], scores: Mapping[str, Mapping[str, TaskScore]]) -> None:
    write_rows(folder / ITEMS, results)
    write_json(folder / SCORES, scores)


def read_results(folder: Path) -> tuple[list[Result], dict[str, dict[str, TaskScore]]]:
    """FileNotFoundError for a folder that is no run; ConfigError with the line of a row that is malformed."""
    path = folder / ITEMS
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {ITEMS}: name the folder of a run, as `lmworks eval` writes it")
    return read_rows(Result, path), read_scores(folder)


def read_scores(folder: Path) -> dict[str, dict[str, TaskScore]]:
    """The scores of a run without its items: task -> metric -> `TaskScore`."""
    scores: dict[str, Any] = read_json(folder / SCORES)
    return {
        task: {name: from_mapping(TaskScore, one, [task, name]) for name, one in of_task.items()}
        for task, of_task in scores.items()
    }
