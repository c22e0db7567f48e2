"""Prompts × models × cases: a test of prompts, on the tasks and metrics of `evaluate/`, each run kept and paired.

    grid = run_grid(task, read_cases(task, data), [Variant("old", one), Variant("new", two)], {"small": engine}, runs)
    assert_not_worse(grid.run("new"), grid.run("old"), margin=0.05)      # in a test of pytest's, as anywhere

A task (`evaluate/task.py`) of the request "generation" is the set of cases: its columns fill the slots of each prompt,
its column `contexts` the passages. A run is a folder `TASK/KEY` like any other of `lmworks eval`; the key is that of
what it is made from, so that a grid only runs what no grid before it did.
"""

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lmworks.artefact import StageContext, hash_json, read_json, write_json, writing
from lmworks.config import from_mapping
from lmworks.evaluate.comparison import Comparison, adjusted, combine_of, compare_runs, kept_margins
from lmworks.evaluate.config import SuiteConfig
from lmworks.evaluate.judge import model_fingerprint
from lmworks.evaluate.metric import Metric, Response, check_items, value_row
from lmworks.evaluate.registry import metric
from lmworks.evaluate.release.promotion import Gate, Promotion
from lmworks.evaluate.results import TaskScore, read_results, read_scores
from lmworks.evaluate.suite import KEPT, Answers, TaskItems, models_of, write_run
from lmworks.evaluate.task import Example, Task, examples
from lmworks.generate.protocol import EngineProtocol
from lmworks.model.checkpoint import Checkpoint
from lmworks.progress import Report, no_report
from lmworks.prompt.config import Prompt
from lmworks.prompt.few_shot import Encode
from lmworks.prompt.filled_prompt import FilledPrompt, check_length, fill_prompt, token_counter
from lmworks.prompt.prompt_file import prompt_hash
from lmworks.prompt.prompt_store import PromptStore
from lmworks.records import Unscored

CELL = "cell.json"
RUNS = "prompt-tests"  # in a workspace
MARGIN = 0.05  # of every metric, by which a version may be worse than what is live


@dataclass(frozen=True, slots=True)
class Variant:
    """A prompt by the name that it has in a grid; `enforced`: answers are held to its format."""

    name: str
    prompt: Prompt
    enforced: bool = True


@dataclass(frozen=True, slots=True)
class Cell:
    """A run of one prompt on one model.

    `key` names its folder; `cases` is the hash of the task with its data. `tokens` are means of a case by the parts of
    the prompt, `answer` that of an answer; `left_out` counts passages by the reason why they were. `valid` answers of
    the cases have the prompt's format; None where it has none.
    """

    key: str
    task: str
    cases: str
    variant: str
    prompt: str
    prompt_name: str
    enforced: bool
    model: str
    fingerprint: str
    time: float
    n: int
    tokens: Mapping[str, float]
    answer: float = 0.0
    left_out: int = 0
    valid: int | None = None

    @property
    def size(self) -> float:
        """Tokens of a case with its answer, without those of the chat template."""
        return sum(self.tokens.values()) + self.answer


def fill_cases(
    task: Task, found: Sequence[Example], prompt: Prompt, engine: EngineProtocol, encode: Encode | None = None
) -> dict[str, FilledPrompt]:
    """The prompt for each case, by its id. ValueError, with the case and the remedy, where they do not fit."""
    made: dict[str, FilledPrompt] = {}
    checkpoint: Checkpoint | None = getattr(engine, "checkpoint", None)
    count = None if checkpoint is None else token_counter(checkpoint)
    for example in found:
        values = {name: example.row[name] for name in prompt.slots if name in example.row}
        passages = example.row[task.contexts] if task.contexts and prompt.context.template else ()
        rows = [{"text": one} if isinstance(one, str) else one for one in passages]
        try:
            filled = made[example.item.id] = fill_prompt(prompt, values, rows, count=count, encode=encode)
            if checkpoint is not None:
                check_length(filled, checkpoint, engine.capabilities.context_length)
        except ValueError as error:
            columns = ", ".join(example.row)
            raise ValueError(f"{task.name}, row {example.item.id}: {error} (its columns: {columns})") from error
    return made


def read_cases(task: Task, data: Path, limit: int = 0, seed: int = 0) -> tuple[list[Example], str]:
    """The cases of a task and the hash of task and data. ValueError for a task that asks for no generation."""
    if task.request != "generation":
        raise ValueError(f"{task.name} scores given texts: prompts are tested on what models write (generation)")
    found, digest = examples(task, data, limit, seed)
    return found, hash_json([task, digest, limit])[:16]


def run_grid(
    task: Task,
    read: tuple[Sequence[Example], str],
    variants: Sequence[Variant],
    models: Mapping[str, EngineProtocol],
    folder: Path,
    *,
    seed: int = 0,
    encode: Encode | None = None,
    roles: Mapping[str, Any] | None = None,
    progress: Report = no_report,
) -> "Grid":
    """Run every variant on every model, on cases that `read_cases` gave; `roles` are models that metrics need, by the
    names of `registry.metric`.

    Everything is filled and checked before anything is generated. Safe to stop: finished runs are kept.
    """
    found, cases = list(read[0]), read[1]
    if len({one.name for one in variants}) < len(variants):
        raise ValueError("two variants have one name: name each differently")
    runs: list[tuple[Cell, dict[str, FilledPrompt], Variant, list[Metric]]] = []
    for model, engine in models.items():
        metrics = [metric(one, **{"model": engine, **models_of(task), **(roles or {})}) for one in task.metrics]
        for one in metrics:
            check_items(one, [example.item for example in found])
        weights = [model_fingerprint(engine), str(getattr(engine, "weights", ""))]
        for variant in variants:
            prompt, filled = variant.prompt, fill_cases(task, found, variant.prompt, engine, encode)
            tokens = Counter[str]()
            for one in filled.values():
                tokens.update(one.tokens or {})
            identifier, left_out = prompt_hash(prompt), sum(len(one.left_out) for one in filled.values())
            key = hash_json([cases, identifier, variant.enforced, weights, seed])[:16]
            cell = Cell(
                key, task.name, cases, variant.name, identifier, prompt.name, variant.enforced, model,
                hash_json(weights)[:16], time.time(), len(found), {part: n / len(found) for part, n in tokens.items()},
                left_out=left_out,
            )  # fmt: skip
            runs.append((cell, filled, variant, metrics))
    cells = []
    for cell, filled, variant, metrics in runs:
        final = folder / task.name / cell.key
        if not (final / CELL).is_file():
            with writing(final) as output:
                work = folder / ".work" / cell.key
                context = StageContext({}, output, work, models={"model": cell.model}, progress=progress)
                answers = _answers(filled, models[cell.model], variant.enforced, seed)
                items = TaskItems(task, found, cases, metrics)
                results, _ = write_run(SuiteConfig((task.name,), seed=seed), context, [items], answers, cell.key)
                responses = [row.response for row in results]
                form = variant.prompt.format
                valid = None if form is None else sum(form.accepts(one.text) for one in responses)
                size = sum(len(one.log_probabilities) for one in responses) / len(responses)
                write_json(output / CELL, replace(cell, answer=size, valid=valid))
                shutil.rmtree(work, ignore_errors=True)
        cells.append(replace(read_cell(final), variant=variant.name, model=cell.model))
    return Grid(folder, tuple(cells))


def _answers(filled: Mapping[str, FilledPrompt], engine: EngineProtocol, enforced: bool, seed: int) -> Answers:
    def answers(_: Task, asked: Sequence[Example]) -> Iterator[tuple[int, Response]]:
        for start in range(0, len(asked), KEPT):
            prompts = [filled[example.item.id] for example in asked[start : start + KEPT]]
            completions = engine.generate([one.request(enforced=enforced, seed=seed) for one in prompts])
            for place, one in enumerate(completions, start):
                yield place, Response(one.text, log_probabilities=one.log_probabilities or ())

    return answers


def read_cell(folder: Path) -> Cell:
    return from_mapping(Cell, read_json(folder / CELL), [str(folder)])


def all_cells(folder: Path, task: str = "*") -> list[Cell]:
    """Every run below a folder of tests, the newest first."""
    found = [read_cell(path.parent) for path in folder.glob(f"{task}/*/{CELL}")]
    return sorted(found, key=lambda one: -one.time)


@dataclass(frozen=True)
class Grid:
    """The runs of a test, the first variant of each model being what the others are compared with."""

    folder: Path
    cells: tuple[Cell, ...]

    def run(self, variant: str, model: str = "") -> Path:
        """The folder of the run of a variant, on the first model or the one that is named. LookupError without it."""
        for cell in self.cells:
            if cell.variant == variant and model in ("", cell.model):
                return self.place(cell)
        raise LookupError(f"no run of {variant}; there are {', '.join(dict.fromkeys(c.variant for c in self.cells))}")

    def place(self, cell: Cell) -> Path:
        return self.folder / cell.task / cell.key

    def scores(self, cell: Cell) -> dict[str, TaskScore]:
        return read_scores(self.place(cell))[cell.task]

    def values(self, cell: Cell, metric: str) -> np.ndarray:
        """(cases,) the metric of each case alone; NaN where it has none."""
        combine = combine_of(self.scores(cell)[metric].combine)
        values = [row.values[metric] for row in read_results(self.place(cell))[0]]
        return np.array([np.nan if isinstance(one, Unscored) else combine(np.array(value_row(one))) for one in values])

    def baseline(self, cell: Cell) -> Cell:
        return next(one for one in self.cells if one.model == cell.model)

    @cached_property
    def comparisons(self) -> dict[tuple[str, str], Comparison]:
        """(key of a cell, metric) -> it less the baseline on its model, paired by case; p corrected over all."""
        found: dict[tuple[str, str], Comparison] = {}
        for cell in self.cells:
            base = self.baseline(cell)
            if base is not cell:
                compared = compare_runs(self.place(cell), self.place(base))
                found |= {(cell.key, one.metric): one for one in compared}
        return dict(zip(found, adjusted(list(found.values())), strict=True))


def _paired(folder: Path, name: str, old: str, new: str) -> list[tuple[Cell, Cell]]:
    """The newest runs of two versions of a prompt, by hash, for each set of cases and model that both were run on."""
    by_hash: dict[tuple[str, str], dict[str, Cell]] = {}
    for cell in reversed(all_cells(folder)):
        if cell.prompt_name == name and cell.enforced:
            by_hash.setdefault((cell.cases, cell.fingerprint), {})[cell.prompt] = cell
    return [(cells[old], cells[new]) for cells in by_hash.values() if old in cells and new in cells]


def version_deltas(folder: Path, old: Prompt, new: Prompt) -> list[tuple[Cell, list[Comparison]]]:
    """Results of the tests that two versions were both in: the run of the new one, and every metric of it less the old
    one's."""
    pairs = _paired(folder, new.name, prompt_hash(old), prompt_hash(new))
    return [(two, compare_runs(folder / two.task / two.key, folder / one.task / one.key)) for one, two in pairs]


def gate_of(folder: Path, name: str, new: str, old: str, margins: Mapping[str, float] | float = MARGIN) -> Gate | None:
    """Whether a version is shown not to be worse than another, by hash, on all tests that both were run on with the
    same cases and the same model; None where there is none."""
    passed, texts, runs = True, [], []
    for before, after in _paired(folder, name, old, new):
        places = [folder / one.task / one.key for one in (after, before)]
        kept, table = kept_margins(places[0], places[1], margins)
        passed, runs = passed and kept, [*runs, *map(str, places)]
        texts.append(f"{after.task} on {after.model}, {after.n} cases:\n{table}")
    named = margins if isinstance(margins, Mapping) else {"every metric": margins}
    return Gate(passed, "\n".join(texts), dict(named), tuple(runs)) if texts else None


def move_label(
    store: PromptStore,
    folder: Path,
    name: str,
    label: str,
    version: str,
    reason: str,
    *,
    who: str = "",
    margins: Mapping[str, float] | None = None,
) -> Promotion:
    """Give a label to a version, by the tests in `folder` where the label needs one. GateError says what it lacks."""
    wanted, before, gate = store.hash_of(name, version), store.labels(name).get(label, ""), None
    if store.policy(label).test and before not in ("", wanted):
        gate = gate_of(folder, name, wanted, before, margins or MARGIN)
    return store.move(name, label, wanted, reason, who=who, gate=gate)
