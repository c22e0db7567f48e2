"""Rows as people have them, by their columns: tables (CSV, TSV), Alpaca's and ShareGPT's, as TRL's columns.

{"instruction": ..., "input": ..., "output": ...}                          Alpaca
{"conversations": [{"from": "human", "value": ...}, {"from": "gpt", ...}]} ShareGPT, perhaps system and tools
"""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

TABLES = {".csv": "excel", ".tsv": "excel-tab"}  # suffix → dialect of the module `csv`
# Columns that are no texts: their cells are JSON where they can be.
_VALUES = {"messages", "conversations", "tools", "completions", "labels", "label", "rating", "margin"}
_ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "model"), "assistant"),
    **dict.fromkeys(("tool", "observation", "function_response"), "tool"),
    "system": "system",
}
_CALL = "function_call"
_ANSWERS = {"output": "completion", "chosen": "chosen", "rejected": "rejected"}  # of Alpaca, and what they are here
ALPACA = "Alpaca: the user's message from instruction and input, the assistant's from output"
SHAREGPT = "ShareGPT: messages from conversations"


def table_rows(
    lines: Iterable[str], name: str, dialect: str = "excel", header: Sequence[str] = ()
) -> Iterator[tuple[str, dict[str, str]]]:
    """(where it stands, cells by their columns) of each row that is not empty; the columns are those of the first row
    unless a `header` names them. ValueError for another number of cells, and for a quote without its end."""
    csv.field_size_limit(2**31 - 1)  # of a cell; 128 KiB unless set
    cells, columns, number = csv.reader(lines, dialect, strict=True), list(header), 0
    try:
        for row in filter(None, cells):
            if not columns:
                columns = row
                continue
            number += 1
            if len(row) != len(columns):
                wrong = f"{len(row)} cells under {len(columns)} columns"
                raise ValueError(f"{name}, row {number}: {wrong}: quote cells that hold a separator")
            yield f"{name}, row {number}", dict(zip(columns, row, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{name}, line {cells.line_num + 1} is not UTF-8, or no row of a table: {error}") from error


def cell_value(column: str, cell: str) -> Any:
    """The value of a cell of a table: a text, None where it is empty, the value of a column that has no texts."""
    if not cell or column not in _VALUES:
        return cell or None
    try:
        return json.loads({"True": "true", "False": "false"}.get(cell, cell))
    except ValueError:
        return cell


def trl_columns(row: dict[str, Any], where: str, formats: Counter[str] | None = None) -> dict[str, Any]:
    """The row in TRL's columns; `formats` counts as what the others were read. ValueError says `where` a message of
    ShareGPT's is by nobody known, or is no message."""
    formats = Counter() if formats is None else formats
    if isinstance(row.get("conversations"), list):
        formats[SHAREGPT] += 1
        return _from_sharegpt(row, where)
    if "instruction" in row and "prompt" not in row and row.keys() & _ANSWERS.keys():
        formats[ALPACA] += 1
        made = {name: row[name] for name in row if name not in ("instruction", "input", *_ANSWERS)}
        if row.get("output") and row["output"] in made.get("text", ""):
            del made["text"]  # the three columns again, in the template of a base model
        question = "\n\n".join(filter(None, (row["instruction"], row.get("input"))))
        return {**made, "prompt": question, **{_ANSWERS[name]: row[name] for name in _ANSWERS if name in row}}
    return row


def formats_read(formats: Mapping[str, int]) -> list[str]:
    """The formats that `trl_columns` read, in words."""
    return [f"read as {name} (rows: {count:,})" for name, count in formats.items()]


def _from_sharegpt(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    made = {name: value for name, value in row.items() if name not in ("conversations", "system")}
    turns = [_turn(turn, f"{where}: message {number}") for number, turn in enumerate(row["conversations"], 1)]
    turns = [{"role": "system", "content": row["system"]}, *turns] if row.get("system") else turns
    if isinstance(made.get("tools"), str):
        made["tools"] = parse_json(made["tools"], f"{where}: tools")
    answers = {name: [_turn(row[name], f"{where}: {name}")] for name in ("chosen", "rejected") if name in row}
    return {**made, "prompt": turns, **answers} if answers else {**made, "messages": turns}


def _turn(turn: Any, where: str) -> Any:
    if not isinstance(turn, dict) or "from" not in turn:
        return turn  # of another form, such as role and content, which is checked as TRL's
    if unknown := [name for name in turn if name not in ("from", "value") and turn[name] is not None]:
        raise ValueError(f"{where} has {', '.join(unknown)} next to from and value: remove it")
    said = turn.get("value")
    if turn["from"] == _CALL:
        calls = parse_json(said, f"{where}, a {_CALL},") if isinstance(said, str) else said
        calls = calls if isinstance(calls, list) else [calls]
        return {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": c} for c in calls]}
    if turn["from"] not in _ROLES:
        raise ValueError(f"{where} is from {turn['from']!r}: known are {', '.join([*_ROLES, _CALL])}")
    return {"role": _ROLES[turn["from"]], "content": said}


def parse_json(text: str | bytes, where: str) -> Any:
    """The value of a JSON text. ValueError says `where` it is none, or holds NaN or half of a surrogate pair, which no
    file can."""
    try:
        found = json.loads(text)
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        message, hint = str(error), ""
        if isinstance(error, json.JSONDecodeError):
            # Of one line, such as a row's, `where` says which.
            place = f"line {error.lineno}, column" if error.lineno > 1 else "column"
            message = f"{error.msg}, at {place} {error.colno}"
            hint = "; a file with a row in each line must be called .jsonl" if error.msg == "Extra data" else ""
        raise ValueError(f"{where} is not JSON: {message}{hint}") from error
    return found
