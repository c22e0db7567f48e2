"""A task of an evaluation as data: a dataset, a prompt and metrics, in a TOML file with plain fields, as in `tasks/`.

`{column}` in a template is replaced by that column of the row; nothing is computed, and `{choice}` stands for a choice.
A suite is a TOML file with `name`, `purpose` and `tasks`, a list of names of built-in tasks and of files next to it.

The texts are put together as lm-evaluation-harness does it, so that the numbers are those of its tasks: preamble, then
for each shot prompt, delimiter, target and shot delimiter, then the prompt; a continuation begins with the delimiter.
"""

import fnmatch
import gzip
import hashlib
import json
import random
import re
import tarfile
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from lmworks.artefact import hash_file, hash_json
from lmworks.config import ConfigError, from_mapping, unknown
from lmworks.evaluate.config import MetricModels
from lmworks.evaluate.metric import Item
from lmworks.records import Message, TextOrMessages

BUILT_IN = Path(__file__).parent / "tasks"
Row = Mapping[str, Any]
_COLUMN = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Shots:
    """Solved rows that stand before the prompt.

    count      how many.
    files      where they come from, patterns as in the task; by default the task's own files, of whose rows an item is
               never among its own shots.
    held_out   so many rows at the end of the task's own files are kept for shots and not asked; 0: none, every other
               row may be a shot.
    draw       "first": the first ones, "random": drawn by the seed of the run, the same ones for all items.
    same       a column in which the shots equal the item, such as its subject; "": any row.
    """

    count: int = 0
    files: tuple[str, ...] = ()
    held_out: int = 0
    draw: Literal["first", "random"] = "first"
    same: str = ""


@dataclass(frozen=True, slots=True)
class Task(MetricModels):
    """A dataset, a prompt and metrics, with the models that these need; a path of one starts where the task's does.

    files           patterns below the data folder, such as "mmlu/*.csv"; "archive.tar.gz:test/*.csv" means members.
                    A file may be compressed by gzip, with .gz behind its name. Behind | stands what is read instead
                    where there is no such file. Without any, the reader makes the rows.
    header          columns of a CSV whose first line does not name them.
    columns         column -> expression of Jinja over the row as it stands in the file (`dataset_readers.py`); without
                    any, the row has the columns of the file. Rows for which `keep`, an expression, is false are left
                    out.
    reader          "table": JSON, JSON lines, CSV or TSV, as the file begins; or what is none, by name.
    request         "choices": ln p of each choice; "rolling": ln p of the text that the prompt makes; "generation".
    preamble        template before everything, delimiter and all; of a chat, its system message.
    prompt          template; with `{choice}` in it each choice has a context of its own, followed by `continuation`.
    choices         a column that holds a list, or templates, one for each choice.
    continuation    template of what is scored, behind the delimiter.
    answer          column: of choices the number, or the numbers, of the right ones, or the text of one; of a
                    generation the reference, or a list of them.
    target          template of what a shot answers; default: the right choice, or the first reference.
    delimiter       between a prompt and its answer; `shot_delimiter` stands behind a shot.
    chat            the prompt is a user's message, shots are turns before it, through the model's chat template.
    max_tokens      of a generation; it also ends before a string of `stop`.
    samples         further generations of each prompt, drawn at `temperature` with nucleus `top_p`.
    group           column by whose values the report has a table of scores, such as the subject.
    id, cluster, contexts   columns of `Item`; the id of a row is by default its file and number.
    runs_code       a metric runs what the model wrote: `lmworks eval` asks for --allow-code.
    """

    name: str
    purpose: str
    source: str
    files: tuple[str, ...]
    request: Literal["choices", "rolling", "generation"]
    prompt: str
    metrics: tuple[str, ...]
    header: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    keep: str = ""
    reader: Literal["table", "babi", "paired-sentences"] = "table"
    preamble: str = ""
    choices: str | tuple[str, ...] = ()
    continuation: str = "{choice}"
    answer: str = "answer"
    target: str = ""
    delimiter: str = " "
    shot_delimiter: str = "\n\n"
    chat: bool = False
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    samples: int = 0
    temperature: float = 0.8
    top_p: float = 0.95
    group: str = ""
    id: str = ""
    cluster: str = ""
    contexts: str = ""
    runs_code: bool = False
    shots: Shots = field(default_factory=Shots)

    def __post_init__(self) -> None:
        if (self.request == "choices") != bool(self.choices):
            raise ValueError(f'{self.name}: request = "choices" and choices belong together')
        if not self.metrics:
            raise ValueError(f"{self.name}: name a metric at least")
        most = max((int(found[1]) for name in self.metrics if (found := re.fullmatch(r"pass@(\d+)", name))), default=1)
        if most > max(1, self.samples):
            raise ValueError(f"{self.name}: pass@{most} needs {most} samples, and {self.samples} are drawn")


@dataclass(frozen=True, slots=True)
class Suite:
    """A named list of tasks."""

    name: str
    purpose: str
    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """An item with what the model is given: a context for each continuation, or one for a generation; and its row."""

    item: Item
    contexts: tuple[TextOrMessages, ...]
    continuations: tuple[str, ...] = ()
    row: Row = field(default_factory=dict)


# ---------------------------------------------------------------------------------------------------------------------
# Files of tasks and suites


def built_in() -> dict[str, Task | Suite]:
    """The tasks and suites that come with lmworks, by name."""
    return {path.stem: read_file(path) for path in sorted(BUILT_IN.glob("*.toml"))}


def read_file(path: Path) -> Task | Suite:
    """A TOML file of a task or a suite; ConfigError that names the key that is wrong."""
    try:
        mapping = tomllib.loads(path.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([str(path)], f"not TOML: {error}") from error
    return from_mapping(Suite if "tasks" in mapping else Task, mapping, [str(path)])  # type: ignore[return-value]


def read_tasks(names: Sequence[str], base: Path = Path()) -> list[Task]:
    """The tasks of suites and tasks that are named, or given by the path of a TOML file; ConfigError for another name
    and for two tasks of one name."""
    tasks: list[Task] = []
    for name in names:
        path = base / name if name.endswith(".toml") else BUILT_IN / f"{name}.toml"
        if not path.is_file() and path.suffix == ".toml" and name.endswith(".toml"):
            raise ConfigError([], f"there is no file {path}")
        if not path.is_file():
            known = [each.stem for each in BUILT_IN.glob("*.toml")]
            raise ConfigError([], f"{unknown('task or suite', name, known)}; or give the path of a .toml file")
        found = read_file(path)
        tasks += [found] if isinstance(found, Task) else read_tasks(found.tasks, path.parent)
    if repeated := [name for name, count in Counter(task.name for task in tasks).items() if count > 1]:
        raise ConfigError([], f"two tasks are called {repeated[0]}: leave one out, or rename it")
    return tasks


# ---------------------------------------------------------------------------------------------------------------------
# Data


def file_names(pattern: str, folder: Path) -> list[Path]:
    """The files below the folder that a pattern means, without a look into archives."""
    return _located(pattern, folder)[0]


def _located(pattern: str, folder: Path) -> tuple[list[Path], str]:
    """The files and the pattern of members of the first alternative that means a file."""
    for one in pattern.split("|"):
        path, _, members = one.partition(":")
        if found := sorted({*folder.glob(path), *folder.glob(f"{path}.gz")}):
            return found, members
    return [], ""


def data_digest(task: Task, folder: Path) -> str:
    """SHA-256 of the files that a task reads."""
    patterns = (*task.files, *task.shots.files)
    return hash_json([[path.name, hash_file(path)] for pattern in patterns for path in file_names(pattern, folder)])


def read_texts(patterns: Sequence[str], folder: Path) -> Iterator[tuple[str, str]]:
    """(name, text) of the files of patterns; FileNotFoundError where one of them means none."""
    for pattern in patterns:
        paths, members = _located(pattern, folder)
        texts = [text for path in paths for text in _texts(path, members)]
        if not texts:
            raise FileNotFoundError(f"no file below {folder} is called {pattern.replace('|', ' or ')}")
        yield from texts


def _texts(path: Path, members: str) -> Iterator[tuple[str, str]]:
    if members:
        with tarfile.open(path) as archive:
            for member in sorted(archive.getmembers(), key=lambda one: one.name):
                if member.isfile() and fnmatch.fnmatchcase(member.name.removeprefix("./"), members):
                    stream = archive.extractfile(member)
                    assert stream is not None
                    yield Path(member.name).stem, stream.read().decode("utf-8-sig")
        return
    content = path.read_bytes()
    name = path.name.removesuffix(".gz")
    yield Path(name).stem, (gzip.decompress(content) if name != path.name else content).decode("utf-8-sig")


def read_rows(task: Task, patterns: Sequence[str], folder: Path) -> list[tuple[str, int, Row]]:
    """(id, number in its file, row) of each row of some of the task's files."""
    from lmworks.evaluate.dataset_readers import babi, paired_rows, table

    def rows_of(name: str, text: str) -> Iterator[Row]:
        if task.reader == "table":
            return table(name, text, task.header, task.columns, task.keep)
        return (babi if task.reader == "babi" else paired_rows)(name, text)

    try:
        texts = read_texts(patterns, folder) if patterns else [(task.reader, "")]  # what makes its rows itself
        files = [(name, [*rows_of(name, text)]) for name, text in texts]
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{task.name}: {error}; its data: {task.source}") from error
    if empty := [name for name, rows in files if not rows]:
        raise ValueError(f"{task.name}: {empty[0]} holds no rows: name a file that does, or take it away")
    return [(f"{name}:{n}", n, {"file": name, **row}) for name, rows in files for n, row in enumerate(rows, 1)]


# ---------------------------------------------------------------------------------------------------------------------
# Rows to examples


def examples(task: Task, folder: Path, limit: int = 0, seed: int = 0) -> tuple[list[Example], str]:
    """The examples of a task and the hash of the data that they were made from. With a `limit`, so many rows, in turns
    from its files.

    ValueError, with the row and the remedy, for a column that is not there, a choice or a reference that is empty, an
    answer that is none of the choices, an id that occurs twice, and fewer rows than shots.
    """
    rows = read_rows(task, task.files, folder)
    own, held = not task.shots.files, len(rows) - (0 if task.shots.files else task.shots.held_out)
    same = task.shots.same if task.shots.count else ""
    pool = rows[held if task.shots.held_out else 0 :] if task.shots.count else []
    pool = pool if own or not task.shots.count else read_rows(task, task.shots.files, folder)
    pools: dict[Any, list[tuple[str, int, Row]]] = {}
    for one in pool:
        pools.setdefault(_cell(one[2], same, one[0]) if same else None, []).append(one)
    data = hashlib.sha256(json.dumps([rows, pool]).encode("utf-8")).hexdigest()
    rows = sorted(rows[:held], key=lambda row: row[1])[:limit] if limit else rows[:held]
    made = []
    for name, _, row in rows:
        alike = pools.get(_cell(row, same, name) if same else None, [])
        made.append(_example(task, name, row, _shots(task, alike, name if own else "", seed)))
    if repeated := [name for name, count in Counter(example.item.id for example in made).items() if count > 1]:
        raise ValueError(f"{task.name}: two rows have the id {repeated[0]}: name another column, or none, as id")
    if not made:
        raise ValueError(f"{task.name}: no row of its files is left to be asked")
    return made, data


def _shots(task: Task, pool: Sequence[tuple[str, int, Row]], own: str, seed: int) -> list[tuple[str, Row]]:
    count = task.shots.count
    if task.shots.draw == "random":
        pool = random.Random(seed).sample(pool, min(len(pool), count + 1))
    found = [(name, solved) for name, _, solved in pool[: count + 1] if name != own][:count]
    if len(found) < count:
        raise ValueError(
            f"{task.name}: {count} shots are wanted and {len(found)} rows are there: lower --shots, or shots.count"
        )
    return found


def _example(task: Task, name: str, row: Row, shots: Sequence[tuple[str, Row]]) -> Example:
    where = f"{task.name}, row {name}"
    item = _item(task, name, row, where)
    if task.request == "rolling":
        return Example(item, ("",), (str(item.prompt),))
    turns = [_solved(task, *shot) for shot in shots]
    preamble = fill(task.preamble, row, where)
    texts = item.choices if "{choice}" in task.prompt else ("",)
    prompts = [fill(task.prompt, {**row, "choice": text}, where) for text in texts]
    contexts = tuple(_context(task, preamble, turns, prompt) for prompt in prompts)
    delimiter = "" if task.chat else task.delimiter
    after = [delimiter + fill(task.continuation, {**row, "choice": choice}, where) for choice in item.choices]
    if len(contexts) == 1 and after:
        contexts *= len(after)
    return Example(replace(item, prompt=prompts[0]), contexts, tuple(after), row)


def _solved(task: Task, name: str, row: Row) -> tuple[str, str]:
    """The prompt and the answer of a shot."""
    where = f"{task.name}, row {name}"
    item = _item(task, name, row, where)
    right = item.choices[item.answers[0]] if item.choices else ""
    columns = {**row, "choice": right}
    template = task.target or (task.continuation if item.choices else "")
    if not template and not item.references:
        raise ValueError(f"{task.name}: its rows have no answer that a shot could show: ask it without --shots")
    return fill(task.prompt, columns, where), fill(template, columns, where) if template else item.references[0]


def _context(task: Task, preamble: str, turns: Sequence[tuple[str, str]], prompt: str) -> TextOrMessages:
    if not task.chat:
        solved = "".join(f"{asked}{task.delimiter}{answer}{task.shot_delimiter}" for asked, answer in turns)
        return f"{preamble}{solved}{prompt}"
    messages = [Message("system", preamble.strip())] if preamble.strip() else []
    for asked, answer in turns:
        messages += [Message("user", asked), Message("assistant", answer)]
    return (*messages, Message("user", prompt))


def _item(task: Task, name: str, row: Row, where: str) -> Item:
    choices: tuple[str, ...] = ()
    answers: tuple[int, ...] = ()
    references: tuple[str, ...] = ()
    used = {*_COLUMN.findall(task.prompt), task.answer, task.choices if isinstance(task.choices, str) else ""}
    if task.request == "choices":
        if isinstance(task.choices, str):
            choices = _texts_of(_cell(row, task.choices, where))
        else:
            choices = tuple(fill(template, row, where) for template in task.choices)
        if len(choices) < 2 or not all(map(str.strip, choices)):
            raise ValueError(f"{where}: {len(choices)} choices, or an empty one among them: mend the row, or drop it")
        answers = _answers(_cell(row, task.answer, where), choices, where)
    elif task.request == "generation" and task.answer:
        references = _texts_of(_cell(row, task.answer, where))
        if not references or not all(map(str.strip, references)):
            raise ValueError(f"{where}: an empty reference in the column {task.answer}: fill it, or drop the row")
    prompt = fill(task.prompt, row, where) if task.request != "choices" else ""
    if task.request == "rolling" and not prompt.strip():
        raise ValueError(f"{where}: an empty text: drop the row")
    return Item(
        str(_cell(row, task.id, where)) if task.id else name,
        prompt,
        references,
        _texts_of(_cell(row, task.contexts, where)) if task.contexts else (),
        choices=choices,
        answers=answers,
        cluster=str(_cell(row, task.cluster, where)) if task.cluster else "",
        fields={key: value for key, value in row.items() if key not in used},
    )


def _answers(value: Any, choices: Sequence[str], where: str) -> tuple[int, ...]:
    if isinstance(value, str):
        value = choices.index(value) if value in choices else value
    numbers = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if not numbers or not all(type(one) is int and 0 <= one < len(choices) for one in numbers):
        raise ValueError(f"{where}: the answer {value!r} is none of the {len(choices)} choices, nor their numbers")
    return numbers


def _texts_of(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, (list, tuple)) else (str(value),)


def _cell(row: Row, column: str, where: str) -> Any:
    if column not in row:
        raise ValueError(f"{where}: there is no column {column}; its columns are {', '.join(row)}")
    return row[column]


def fill(template: str, row: Row, where: str) -> str:
    """The template with the columns of a row in it; ValueError for a column that is not there or holds a list."""

    def value(found: re.Match[str]) -> str:
        cell = _cell(row, found[1], where)
        if not isinstance(cell, (str, int, float)):
            raise ValueError(f"{where}: the column {found[1]} holds no text or number, which a template needs: {cell}")
        return str(cell)

    return _COLUMN.sub(value, template)
