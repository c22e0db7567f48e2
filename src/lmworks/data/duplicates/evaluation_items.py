"""What models are evaluated by, read from its files: questions with their choices and answers."""

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class EvaluationItem:
    """One question. `answers` are those that count as right; `id` is unique among all that are looked for."""

    id: str
    question: str
    answers: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """Question, choices and answers, each text once."""
        return tuple(dict.fromkeys((self.question, *self.choices, *self.answers)))

    @property
    def text(self) -> str:
        return "\n".join(self.parts)


@dataclass(frozen=True, slots=True)
class ItemFields:
    """How a row names its parts: of each list the first name that the row has."""

    question: tuple[str, ...] = ("question", "prompt", "problem", "text")
    answer: tuple[str, ...] = ("answer", "answers", "solution", "canonical_solution", "completion")
    choices: tuple[str, ...] = ("choices", "options")
    id: tuple[str, ...] = ("id", "task_id")


def read_items(path: Path, name: str = "", fields: ItemFields | None = None) -> list[EvaluationItem]:
    """The items of a file of JSON objects, one a line (.jsonl, .json), or else of plain questions; .gz too.

    Ids are `name/id`, or `name/number` by the number of the line; `name` is that of the file where none is given. An
    answer that is a number, or one letter, names one of the choices where there are any. Empty lines are none.
    ValueError names the line that is no object, has no question, or has an id for the second time.
    """
    compressed = path.suffix == ".gz"
    plain = path.with_suffix("") if compressed else path
    raw = gzip.decompress(path.read_bytes()) if compressed else path.read_bytes()
    prefix = name or plain.stem
    items: dict[str, EvaluationItem] = {}
    for number, line in _lines(raw, path):
        if plain.suffix in (".jsonl", ".json"):
            item = _from_json(line, prefix, number, fields or ItemFields(), f"{path}, line {number}")
        else:
            item = EvaluationItem(f"{prefix}/{number}", line.strip())
        if item.id in items:
            raise ValueError(f"{path}, line {number}: the id {item.id} is there twice")
        items[item.id] = item
    return list(items.values())


def _lines(raw: bytes, path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}") from error
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line


def _from_json(line: str, prefix: str, number: int, fields: ItemFields, where: str) -> EvaluationItem:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise ValueError(f"{where}: not a JSON object")
    question = _first(row, fields.question)
    if not isinstance(question, str) or not question.strip():
        told = f"no question under {', '.join(fields.question)}; it has {', '.join(row) or 'nothing'}"
        raise ValueError(f"{where}: {told}")
    choices = _texts(_first(row, fields.choices))
    given = _first(row, fields.id)
    answers = _answers(_first(row, fields.answer), choices)
    return EvaluationItem(f"{prefix}/{number if given is None else given}", question, answers, choices)


def _first(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _texts(value: Any) -> tuple[str, ...]:
    """A text, a list of them, or an object that holds such a list under `text`, as ARC's choices are."""
    if isinstance(value, Mapping):
        return _texts(value.get("text"))
    if isinstance(value, list):
        return tuple(text for part in value for text in _texts(part))
    return () if value is None else (str(value),)


def _answers(value: Any, choices: tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(choices):
        return (choices[value],)
    if isinstance(value, str) and len(value) == 1 and value not in choices:
        place = ord(value.upper()) - ord("A")
        if 0 <= place < len(choices):
            return (choices[place],)
    return _texts(value)
