"""The language of the filter box: words and `key:value` conditions, all of which must hold.

    with statement                          both words, in the question or the response
    "with statement"                        next to each other; a quote inside quotes is written twice
    route:assistant abstained:yes           equal values; thumbs:up, thumbs:down, thumbs:none
    confidence<0.5 seconds>=2               numbers: < <= > >=
    since:2h until:2026-01-31               ago (s m h d w), or a date or time (UTC unless it says otherwise)
    -error:yes -"not this"                  a leading "-" negates what follows

A text is parsed to conditions, and conditions are compiled to SQL in which everything a user wrote is a parameter.
"""

import math
import re
import time
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from lmworks.config import unknown
from lmworks.monitor.rows import storable
from lmworks.monitor.store import Dialect

MAX_CONDITIONS = 64

# key -> column
_EQUAL = {
    name: name
    for name in ("route", "operation", "conversation", "finish_reason", "experiment", "unit", "arm", "id", "thumbs")
}
_HASHES = {"model": "model", "prompt": "prompt_hash", "index": "index_hash"}  # the first characters are enough
_NUMBERS = {name: name for name in ("seconds", "confidence", "input_tokens", "output_tokens", "time")}
_FLAGS = {"abstained": "abstained = 1", "error": "error != ''", "notes": "notes > 0", "redacted": "redacted != ''"}
_TIMES = ("since", "until")
_KEYS = (*_EQUAL, *_HASHES, *(name for name in _NUMBERS if name != "time"), *_FLAGS, *_TIMES)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

Operator = Literal["<", "<=", ">", ">="]


class FilterError(ValueError):
    """A filter that cannot be read. `position` is the 0-based character at which what is wrong begins."""

    def __init__(self, position: int, problem: str) -> None:
        self.position = position
        super().__init__(f"filter, character {position + 1}: {problem}")


@dataclass(frozen=True, slots=True)
class Words:
    """Words that follow each other in the question or in the response, without regard to case and accents."""

    text: str


@dataclass(frozen=True, slots=True)
class Equal:
    """A value as a whole; of a hash its first characters."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Compare:
    """False for an interaction that has no such number."""

    key: str
    operator: Operator
    value: float


@dataclass(frozen=True, slots=True)
class Flag:
    key: str


@dataclass(frozen=True, slots=True)
class Not:
    """Everything the condition does not hold for."""

    condition: "Condition"


Condition = Words | Equal | Compare | Flag | Not


def words_of(text: str) -> list[str]:
    """A text's words as they are compared: runs of letters and digits, lower case, without accents."""
    plain = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
    return re.findall(r"[^\W_]+", plain.lower())


def in_quotes(value: str) -> str:
    """A value as it stands in a filter for the rows that have it, whatever characters it has."""
    return '"' + storable(value).replace('"', '""') + '"'


# ---------------------------------------------------------------------------------------------------------------------
# Text to conditions

_BLANK = re.compile(r"\s*")
_KEY = re.compile(r"([A-Za-z_]+)(:|<=|>=|<|>)")
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')
_BARE = re.compile(r"\S+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def parse(text: str, now: float | None = None) -> tuple[Condition, ...]:
    """The conditions of a filter; none for an empty one. `now`, in seconds since the epoch, is what "ago" counts from.

    Raises FilterError, which says where and what is allowed.
    """
    now = time.time() if now is None else now
    if unwanted := re.search("[\0\ud800-\udfff]", text):
        raise FilterError(unwanted.start(), "a character that no text can hold")
    conditions: list[Condition] = []
    position = _skip_blank(text, 0)
    while position < len(text):
        if len(conditions) == MAX_CONDITIONS:
            raise FilterError(position, f"a filter has at most {MAX_CONDITIONS} conditions")
        negated = text[position] == "-"
        condition, end = _condition(text, position + negated, now)
        conditions.append(Not(condition) if negated else condition)
        position = _skip_blank(text, end)
    return tuple(conditions)


def _skip_blank(text: str, position: int) -> int:
    match = _BLANK.match(text, position)
    return match.end() if match else position


def _condition(text: str, start: int, now: float) -> tuple[Condition, int]:
    if key := _KEY.match(text, start):
        value, end = _value(text, key.end())
        if not value.strip():
            raise FilterError(key.end(), f"a value must follow {key[0]} (in quotes if it has blanks)")
        return _keyed(key[1].lower(), key[2], value, (start, key.end()), now), end
    value, end = _value(text, start)
    if not words_of(value):
        raise FilterError(start, f"no letter or digit to search for in {value!r}")
    return Words(value), end


def _value(text: str, start: int) -> tuple[str, int]:
    """A quoted or bare value and where it ends."""
    if text.startswith('"', start):
        quoted = _QUOTED.match(text, start)
        if not quoted:
            raise FilterError(start, 'this quote has no end; close it with another "')
        return quoted[1].replace('""', '"'), quoted.end()
    bare = _BARE.match(text, start)
    return (bare[0], bare.end()) if bare else ("", start)


def _keyed(key: str, operator: str, value: str, places: tuple[int, int], now: float) -> Condition:
    """`places`: where the key and where the value stands."""
    at_key, at_value = places
    if key not in _KEYS:
        raise FilterError(at_key, f"{unknown('key', key, _KEYS)} (to search for the text itself, put it in quotes)")
    if key in _NUMBERS:
        if operator == ":":
            raise FilterError(at_key, f"{key} is a number: write {key}<, {key}<=, {key}> or {key}>=")
        return Compare(key, operator, _number(value, at_value))  # type: ignore[arg-type]
    if operator != ":":
        raise FilterError(at_key, f"{key} is not a number: write {key}:value")
    if key in _TIMES:
        return Compare("time", ">=" if key == "since" else "<", _moment(value, at_value, now))
    if key == "thumbs":
        return Equal(key, {"up": "up", "down": "down", "none": ""}[_one_of(value, ("up", "down", "none"), at_value)])
    if key in _FLAGS:
        flag = Flag(key)
        return flag if _one_of(value, ("yes", "no"), at_value) == "yes" else Not(flag)
    return Equal(key, value)


def _one_of(value: str, allowed: tuple[str, ...], position: int) -> str:
    if value.lower() not in allowed:
        raise FilterError(position, f"{value!r} is not one of {', '.join(allowed)}")
    return value.lower()


def _number(value: str, position: int) -> float:
    if not _NUMBER.fullmatch(value) or not math.isfinite(float(value)):
        raise FilterError(position, f"{value!r} is not a number such as 2 or 0.5")
    return float(value)


def _moment(value: str, position: int, now: float) -> float:
    if ago := re.fullmatch(r"(\d+\.?\d*|\.\d+)([smhdw])", value, re.ASCII | re.IGNORECASE):
        seconds = float(ago[1]) * _UNITS[ago[2].lower()]
        if math.isfinite(seconds):
            return now - seconds
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        allowed = "2h (s, m, h, d, w), 2026-01-31 or 2026-01-31T12:00"
        raise FilterError(position, f"{value!r} is not a time such as {allowed}") from error


# ---------------------------------------------------------------------------------------------------------------------
# Conditions to SQL


def compile_conditions(conditions: tuple[Condition, ...], dialect: Dialect) -> tuple[str, list[Any]]:
    """A WHERE expression over `interactions` and the values of its `?`; for no condition, what is always true."""
    parts = [_compiled(condition, dialect) for condition in conditions]
    sql = " AND ".join(f"({part})" for part, _ in parts) or "1 = 1"
    return sql, [value for _, values in parts for value in values]


def with_identifiers(condition: Condition, identifier: Callable[[str], str]) -> Condition:
    """The condition with a name that a client chose as the log holds it, see `Redactor.identifier`."""
    match condition:
        case Not(inner):
            return Not(with_identifiers(inner, identifier))
        case Equal("unit" | "conversation" as key, value):
            return Equal(key, identifier(value))
    return condition


def _compiled(condition: Condition, dialect: Dialect) -> tuple[str, list[Any]]:
    match condition:
        case Not(inner):
            sql, values = _compiled(inner, dialect)
            return f"({sql}) IS NOT TRUE", values  # unlike NOT, also for what compares with NULL
        case Words(text):
            return _words(text, dialect)
        case Equal(key, value) if key in _HASHES:
            return f"substr({_HASHES[key]}, 1, ?) = ?", [len(value), value]
        case Equal(key, value):
            column = _column(_EQUAL, key)
            return f"{column} = ?" + (f" AND {column} != ''" if value else ""), [value]  # as the indices are restricted
        case Compare(key, operator, value):
            if operator not in ("<", "<=", ">", ">="):
                raise ValueError(f"unknown operator {operator!r}")
            return f"{_column(_NUMBERS, key)} {operator} ?", [value]
        case Flag(key):
            return _column(_FLAGS, key), []


def _words(text: str, dialect: Dialect) -> tuple[str, list[Any]]:
    if dialect == "sqlite":
        phrase = '"' + text.replace('"', " ") + '"'  # FTS5 cuts it into words as it does with the texts
        return "key IN (SELECT rowid FROM words WHERE words MATCH ?)", [phrase]
    words = [word[:MAX_WORD] for word in words_of(text)]
    # The first is what the index answers; the second, whether they follow each other.
    return "string_to_array(words, ' ') @> ? AND words LIKE ?", [words, f"% {' '.join(words)} %"]


MAX_WORD = 200  # characters of a word that PostgreSQL compares: its index has a limit


def _column(columns: Mapping[str, str], key: str) -> str:
    """The column of a key, from our own tables: a name from elsewhere can never become SQL."""
    if key not in columns:
        raise ValueError(unknown("key", key, list(columns)))
    return columns[key]
