"""Rows that alignment learns from, in files: TRL's preference, unpaired, stepwise and prompt-only rows, and `answer`,
`rating`.

{"prompt": ..., "chosen": ..., "rejected": ...}                a preference
{"prompt": ..., "completion": ..., "label": true}              unpaired feedback
{"prompt": ..., "completion": ..., "rating": 0.7}              a rating
{"prompt": ..., "completions": [...], "labels": [...]}         a solution in steps, with a verdict on each
{"prompt": ..., "answer": "42", "verifier": "numeric"}         a task that a program checks; or a prompt alone

Beside them stands who made a row: source, annotator, judge, rubric, order, or these in `provenance`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from lmworks.artefact import write_text
from lmworks.config import from_mapping, to_mapping
from lmworks.data.conversations import RowError, check_encodable, decoded, joined, parse_json, rows_of
from lmworks.records import LabelledCompletion, Preference, PromptCompletion, Provenance, Rated, Stepwise, Verifiable

PreferenceRow = Preference | LabelledCompletion | Rated | Stepwise | Verifiable | PromptCompletion
_BY_COLUMN: dict[str, type[PreferenceRow]] = {  # the column that only one kind of row has
    "chosen": Preference,
    "label": LabelledCompletion,
    "rating": Rated,
    "labels": Stepwise,
    "answer": Verifiable,
    "completion": PromptCompletion,
    "prompt": Verifiable,
}
T = TypeVar("T")
PROVENANCE = [each.name for each in fields(Provenance)]


def read_preference_rows(files: Sequence[Path], kinds: Sequence[type[PreferenceRow]] = ()) -> list[PreferenceRow]:
    """The rows of the files, of these kinds alone where any are named. RowError for the first that is not, or is none,
    or whose answers are equal: what to do, and how many more there are."""
    rows: list[PreferenceRow] = []
    wrong: list[RowError] = []
    for where, found in chain.from_iterable(map(rows_of, files)):
        try:
            row = parse_preference_row(found, where)
            if kinds and type(row) not in kinds:
                wanted = " or ".join(kind.__name__ for kind in kinds)
                raise RowError("kind", f"{where}: a row of {type(row).__name__}, and this learns from {wanted}")
            if isinstance(row, Preference) and row.chosen == row.rejected:
                raise RowError("equal", f"{where}: chosen and rejected are equal: remove the row")
            rows.append(row)
        except RowError as error:
            wrong.append(error)
    if wrong:
        raise joined(wrong)
    return rows


def parse_preference_row(found: Any, where: str) -> PreferenceRow:
    """An object, or a line of a .jsonl file, as the row that its columns say. RowError says `where` it is none."""
    row = columns_of(found, where)
    kind = next((kind for column, kind in _BY_COLUMN.items() if column in row), None)
    if kind is None:
        raise RowError("columns", f"{where}: a row has a prompt, and may have {', '.join(_BY_COLUMN)}; got {[*row]}")
    if kind is Verifiable:
        row = {"answer": "", "verifier": "", **row}
    if type(row.get("label")) is int and row["label"] in (0, 1):
        row["label"] = bool(row["label"])
    row.pop("id", None)
    return row_of(kind, row, where)


def columns_of(found: Any, where: str) -> dict[str, Any]:
    """The columns of an object, or of a line of a .jsonl file, without those that are null. RowError for another
    value."""
    found = parse_json(decoded(found, where), where) if isinstance(found, bytes) else found
    if not isinstance(found, dict):
        raise RowError("form", f"{where}: a row is an object, got {found!r:.100}")
    return {key: value for key, value in found.items() if value is not None}


def row_of(kind: type[T], columns: dict[str, Any], where: str) -> T:
    """The row, whose source is `where` unless its columns say who made it. RowError for columns that do not make it."""
    made = {name: columns.pop(name) for name in PROVENANCE if name in columns}
    made = {"source": where, **made, **columns.pop("provenance", {})}
    try:
        check_encodable(columns, where)
        return from_mapping(kind, {**columns, "provenance": made}, [where])
    except ValueError as error:
        raise RowError("form", f"{error}" if where in str(error) else f"{where}: {error}") from error


def row_columns(row: Any) -> dict[str, Any]:
    """The columns of a row as `parse_preference_row` reads them, without those that are empty."""
    columns = _filled(to_mapping(row))
    for name in columns.keys() & {"prompt", "completion", "chosen", "rejected"}:
        if isinstance(columns[name], list):
            columns[name] = [_filled(message) for message in columns[name]]
    made = _filled(columns.pop("provenance", {}))
    return columns | ({"provenance": made} if made else {})


def write_preference_rows(path: Path, rows: Iterable[Any]) -> None:
    write_text(path, "".join(json.dumps(row_columns(row), ensure_ascii=False) + "\n" for row in rows))


def _filled(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in columns.items() if value not in (None, [], {})}
