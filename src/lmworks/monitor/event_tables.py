"""Tables of what happens around interactions: experiments, assignments, outcomes, reviews, drift and alerts.

    log.append("outcomes", [row(outcome)])                           # Future: how many were new
    log.update("reviews", {"assigned": "ann", "locked_until": now + 600}, "id = ? AND locked_until < ?", [id, now])
    reader.rows("outcomes", "unit, count(*)", "name = ? GROUP BY unit", ["click"])

A row is a mapping from columns to values; those it leaves out are "" or 0, or NULL where they may be. A row without
an `id` gets the hash of its values, so that the same row twice is there once. `update` changes the rows for which its
condition holds when the writer comes to it, and its future says how many: 0 when somebody else was first.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lmworks.artefact import hash_json
from lmworks.config import unknown
from lmworks.monitor.rows import storable

Statement = tuple[str, tuple[Any, ...]]

_TEXT, _REAL, _OPTIONAL, _JSON = "TEXT NOT NULL DEFAULT ''", "REAL NOT NULL", "REAL", "TEXT NOT NULL DEFAULT '{}'"
_TIME = "REAL NOT NULL DEFAULT 0"
# Table -> column -> type, in the words of SQLite. JSON is ASCII text, so that both databases hold any of it.
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "experiments": {"name": "TEXT NOT NULL UNIQUE", "time": _REAL, "record": _JSON},
    "experiment_events": {
        "id": "TEXT NOT NULL UNIQUE",
        "experiment": _TEXT,
        "time": _REAL,
        "kind": _TEXT,
        "value": _JSON,
        **dict.fromkeys(("author", "reason"), _TEXT),
    },
    "assignments": {
        "experiment": "TEXT NOT NULL",
        "unit": "TEXT NOT NULL",
        "arm": "TEXT NOT NULL",
        "time": _REAL,
        "probability": _REAL,
    },
    "outcomes": {
        "id": "TEXT NOT NULL UNIQUE",
        "time": _REAL,
        "unit": _TEXT,
        "name": _TEXT,
        "value": _REAL,
        "interaction": _TEXT,
    },
    "reviews": {
        "id": "TEXT NOT NULL UNIQUE",
        "interaction": _TEXT,
        "rule": _TEXT,
        "weight": "REAL NOT NULL DEFAULT 1",
        "time": _REAL,
        "assigned": _TEXT,
        "locked_until": _TIME,
        "annotator1": _TEXT,
        "verdict1": _JSON,
        "time1": _OPTIONAL,
        "annotator2": _TEXT,
        "verdict2": _JSON,
        "time2": _OPTIONAL,
        "sent": _TEXT,
    },
    "drift": {"id": "TEXT NOT NULL UNIQUE", "time": _REAL, "signal": _TEXT, "record": _JSON},
    "alerts": {
        "id": "TEXT NOT NULL UNIQUE",
        "rule": _TEXT,
        "time": _REAL,
        "level": _TEXT,
        "state": _TEXT,
        "signal": _TEXT,
        "evidence": _JSON,
        "notified": _OPTIONAL,
        "muted_until": _TIME,
        "note": _TEXT,
    },
}
_INDICES = """
CREATE UNIQUE INDEX assignments_by_unit ON assignments (experiment, unit);
CREATE INDEX experiment_events_in_order ON experiment_events (experiment, time);
CREATE INDEX outcomes_by_unit ON outcomes (unit, name, time);
CREATE INDEX outcomes_by_time ON outcomes (time);
CREATE INDEX outcomes_by_interaction ON outcomes (interaction, name) WHERE interaction != '';
CREATE INDEX reviews_by_interaction ON reviews (interaction);
CREATE INDEX reviews_by_time ON reviews (time);
CREATE INDEX drift_by_time ON drift (time);
CREATE INDEX alerts_by_rule ON alerts (rule, time);
CREATE INDEX interactions_by_experiment ON interactions (experiment, unit) WHERE experiment != '';
"""
EVENT_TABLES = "\n".join(
    f"CREATE TABLE {table} (key INTEGER PRIMARY KEY, {', '.join(f'{name} {kind}' for name, kind in columns.items())});"
    for table, columns in COLUMNS.items()
) + _INDICES  # fmt: skip


def insertions(table: str, rows: Sequence[Mapping[str, Any]]) -> tuple[Statement, ...]:
    """A statement for each row, which adds nothing where its id (name, experiment and unit) is there already."""
    return tuple(_insertion(table, row) for row in rows)


def _insertion(table: str, row: Mapping[str, Any]) -> Statement:
    values = _stored(table, row)
    if "id" in COLUMNS[table] and not values.get("id"):
        values["id"] = hash_json(values)[:32]
    places = ", ".join("?" * len(values))
    return f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places}) ON CONFLICT DO NOTHING", (*values.values(),)


def change(table: str, changes: Mapping[str, Any], where: str, values: Sequence[Any]) -> Statement:
    """A statement that changes the rows for which a condition over the columns holds."""
    stored = _stored(table, changes)
    return f"UPDATE {table} SET {', '.join(f'{name} = ?' for name in stored)} WHERE {where}", (
        *stored.values(),
        *values,
    )


def selection(table: str, columns: str, where: str) -> str:
    """A query; ValueError for an unknown table."""
    tables = (*COLUMNS, "interactions", "feedback")
    if table.split()[0] not in tables:
        raise ValueError(unknown("table", table, tables))
    return f"SELECT {columns} FROM {table} WHERE {where}"


def _stored(table: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a row as both databases hold them; ValueError for an unknown table or column."""
    if table not in COLUMNS:
        raise ValueError(unknown("table", table, list(COLUMNS)))
    for name in row:
        if name not in COLUMNS[table]:
            raise ValueError(unknown("column", name, list(COLUMNS[table])))
    return {name: _value(value) for name, value in row.items()}


def _value(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    return json.dumps(value) if isinstance(value, Mapping | tuple | list) else value
