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
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from lmworks.config import unknown
from lmworks.monitor.rows import storable
from lmworks.monitor.store import Dialect

MAX_CONDITIONS = 64
MAX_WORD = 200  # characters of a word that PostgreSQL compares: its index has a limit
WORDS = "words"  # the key of what stands without one

# key -> column, or what must hold where the value is yes: a name from elsewhere can never become SQL
_EQUAL = {
    name: name
    for name in ("route", "operation", "conversation", "finish_reason", "experiment", "unit", "arm", "id", "thumbs")
}
_HASHES = {"model": "model", "prompt": "prompt_hash", "index": "index_hash"}  # the first characters are enough
_NUMBERS = {name: name for name in ("seconds", "confidence", "input_tokens", "output_tokens", "time")}
_FLAGS = {"abstained": "abstained = 1", "error": "error != ''", "notes": "notes > 0", "redacted": "redacted != ''"}
_TIMES = ("since", "until")
_KEYS = (*_EQUAL, *_HASHES, *(name for name in _NUMBERS if name != "time"), *_FLAGS, *_TIMES)
_THUMBS = {"up": "up", "down": "down", "none": ""}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

Operator = Literal[":", "<", "<=", ">", ">="]


class FilterError(ValueError):
    """A filter that cannot be read. `position` is the 0-based character at which what is wrong begins."""

    def __init__(self, position: int, problem: str) -> None:
        self.position = position
        super().__init__(f"filter, character {position + 1}: {problem}")


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on an interaction; where `negated`, everything for which it does not.

    key        `WORDS`: words that follow each other in the question or in the response, without regard to case and
               accents; else a column, or a key of `_FLAGS`, whose value is "yes"
    operator   ":", a value as a whole, of a hash its first characters; or a comparison of numbers, which is false for
               an interaction that has no such number
    """

    key: str
    operator: Operator
    value: str | float
    negated: bool = False


def words_of(text: str) -> list[str]:
    """A text's words as they are compared: runs of letters and digits, lower case, without accents."""
    plain = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
    return re.findall(r"[^\W_]+", plain.lower())


def in_quotes(value: str) -> str:
    """A value as it stands in a filter for the rows that have it, whatever characters it has."""
    return '"' + storable(value).replace('"', '""') + '"'


# ---------------------------------------------------------------------------------------------------------------------
# Text to conditions

_PART = re.compile(r"\s*(?P<minus>-?)(?:(?P<key>[A-Za-z_]+)(?P<operator>:|<=|>=|<|>))?")
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')
_BARE = re.compile(r"\S*")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_AGO = re.compile(r"(\d+\.?\d*|\.\d+)([smhdw])", re.ASCII | re.IGNORECASE)


def parse(text: str, now: float | None = None) -> tuple[Condition, ...]:
    """The conditions of a filter; none for an empty one. `now`, in seconds since the epoch, is what "ago" counts from.

    Raises FilterError, which says where and what is allowed.
    """
    now = time.time() if now is None else now
    if unwanted := re.search("[\0\ud800-\udfff]", text):
        raise FilterError(unwanted.start(), "a character that no text can hold")
    conditions: list[Condition] = []
    end, last = 0, len(text.rstrip())
    while end < last:
        match = _PART.match(text, end)
        assert match is not None  # it matches nothing, too
        if len(conditions) == MAX_CONDITIONS:
            raise FilterError(match.start("minus"), f"a filter has at most {MAX_CONDITIONS} conditions")
        value, end = _value(text, at := match.end())
        key = match["key"] or WORDS
        if match["key"] and not value.strip():
            raise FilterError(at, f"a value must follow {key}{match['operator']} (in quotes if it has blanks)")
        if not match["key"] and not words_of(value):
            raise FilterError(at, f"no letter or digit to search for in {value!r}")
        condition = Condition(WORDS, ":", value)
        if match["key"]:
            condition = _keyed(key.lower(), match["operator"], value, (match.start("key"), at), now)
        conditions.append(replace(condition, negated=condition.negated ^ bool(match["minus"])))
    return tuple(conditions)


def _value(text: str, start: int) -> tuple[str, int]:
    """A quoted or bare value and where it ends."""
    if text.startswith('"', start):
        quoted = _QUOTED.match(text, start)
        if not quoted:
            raise FilterError(start, 'this quote has no end; close it with another "')
        return quoted[1].replace('""', '"'), quoted.end()
    bare = _BARE.match(text, start)
    return (bare[0], bare.end()) if bare else ("", start)


def _keyed(key: str, operator: Any, value: str, offsets: tuple[int, int], now: float) -> Condition:
    """`offsets`: where the key and where the value stands."""
    at_key, at_value = offsets
    if key not in _KEYS:
        raise FilterError(at_key, f"{unknown('key', key, _KEYS)} (to search for the text itself, put it in quotes)")
    if key in _NUMBERS:
        if operator == ":":
            raise FilterError(at_key, f"{key} is a number: write {key}<, {key}<=, {key}> or {key}>=")
        if not _NUMBER.fullmatch(value) or not math.isfinite(float(value)):
            raise FilterError(at_value, f"{value!r} is not a number such as 2 or 0.5")
        return Condition(key, operator, float(value))
    if operator != ":":
        raise FilterError(at_key, f"{key} is not a number: write {key}:value")
    if key in _TIMES:
        return Condition("time", ">=" if key == "since" else "<", _moment(value, at_value, now))
    allowed = _THUMBS if key == "thumbs" else {"yes": "yes", "no": "yes"} if key in _FLAGS else {value.lower(): value}
    if value.lower() not in allowed:
        raise FilterError(at_value, f"{value!r} is not one of {', '.join(allowed)}")
    return Condition(key, ":", allowed[value.lower()], negated=key in _FLAGS and value.lower() == "no")


def _moment(value: str, position: int, now: float) -> float:
    if (ago := _AGO.fullmatch(value)) and math.isfinite(seconds := float(ago[1]) * _UNITS[ago[2].lower()]):
        return now - seconds
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        allowed = "2h (s, m, h, d, w), 2026-01-31 or 2026-01-31T12:00"
        raise FilterError(position, f"{value!r} is not a time such as {allowed}") from error


# ---------------------------------------------------------------------------------------------------------------------
# Conditions to SQL


def compile_conditions(
    conditions: tuple[Condition, ...], dialect: Dialect, identifier: Callable[[str], str] = str
) -> tuple[str, list[Any]]:
    """A WHERE expression over `interactions` and the values of its `?`; for no condition, what is always true.
    `identifier` gives a name that a client chose as the log holds it (`Redactor.identifier`)."""
    expressions, values = [], []
    for condition in conditions:
        value = identifier(str(condition.value)) if condition.key in ("unit", "conversation") else condition.value
        sql, arguments = _compiled(condition, value, dialect)
        expressions.append(f"(({sql}) IS NOT TRUE)" if condition.negated else f"({sql})")  # unlike NOT, also of NULL
        values += arguments
    return " AND ".join(expressions) or "1 = 1", values


def _compiled(condition: Condition, value: str | float, dialect: Dialect) -> tuple[str, list[Any]]:
    key = condition.key
    if key in _FLAGS:
        return _FLAGS[key], []
    if key in _HASHES:
        return f"substr({_HASHES[key]}, 1, ?) = ?", [len(str(value)), value]
    if key in _EQUAL:
        return f"{_EQUAL[key]} = ?" + f" AND {_EQUAL[key]} != ''" * bool(value), [
            value
        ]  # as the indices are restricted
    if key != WORDS:
        return f"{_NUMBERS[key]} {condition.operator} ?", [value]
    if dialect == "sqlite":
        phrase = '"' + str(value).replace('"', " ") + '"'  # FTS5 cuts it into words as it does with the texts
        return "key IN (SELECT rowid FROM words WHERE words MATCH ?)", [phrase]
    words = [word[:MAX_WORD] for word in words_of(str(value))]
    # The first is what the index answers; the second, whether they follow each other.
    return "string_to_array(words, ' ') @> ? AND words LIKE ?", [words, f"% {' '.join(words)} %"]
