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

_ID, _JSON, _REAL = "TEXT NOT NULL UNIQUE", "TEXT NOT NULL DEFAULT '{}'", "REAL NOT NULL"


def _texts(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "TEXT NOT NULL DEFAULT ''")


# Table -> column -> type, in the words of SQLite. JSON is ASCII text, so that both databases hold any of it.
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "experiments": {"name": _ID, "time": _REAL, "record": _JSON},
    "experiment_events": {"id": _ID, "time": _REAL, "value": _JSON, **_texts("experiment", "kind", "author", "reason")},
    "assignments": {**_texts("experiment", "unit", "arm"), "time": _REAL, "probability": _REAL},
    "outcomes": {"id": _ID, "time": _REAL, "value": _REAL, **_texts("unit", "name", "interaction")},
    "reviews": {
        "id": _ID, "time": _REAL, "weight": "REAL NOT NULL DEFAULT 1", **_texts("interaction", "rule", "sent"),
        "locked_until": "REAL NOT NULL DEFAULT 0", **_texts("assigned", "annotator1", "annotator2"),
        "verdict1": _JSON, "time1": "REAL", "verdict2": _JSON, "time2": "REAL",
    },
    "drift": {"id": _ID, "time": _REAL, **_texts("signal"), "record": _JSON},
    "alerts": {
        "id": _ID, "time": _REAL, "evidence": _JSON, **_texts("rule", "level", "state", "signal", "note"),
        "notified": "REAL", "muted_until": "REAL NOT NULL DEFAULT 0",
    },
}  # fmt: skip
# Columns of any of them that hold names which people chose, and what people wrote or named; `WITH_IDS` names
# interactions, too. The others are words and ids of ours.
IDENTIFIERS = frozenset({"unit", "name", "assigned", "annotator1", "annotator2"})
WITH_IDS = frozenset({"record", "evidence"})
WRITTEN = WITH_IDS | {"value", "author", "reason", "note", "verdict1", "verdict2"}
_INDICES = """
CREATE UNIQUE INDEX assignments_by_unit ON assignments (experiment, unit);
CREATE INDEX experiment_events_in_order ON experiment_events (experiment, time);
CREATE INDEX outcomes_by_unit ON outcomes (unit, name, time);
CREATE INDEX outcomes_by_time ON outcomes (time);
CREATE INDEX outcomes_by_interaction ON outcomes (interaction, name) WHERE interaction != '';
CREATE INDEX IF NOT EXISTS feedback_by_time ON feedback (time);
CREATE INDEX reviews_by_interaction ON reviews (interaction);
CREATE INDEX reviews_by_time ON reviews (time);
CREATE INDEX drift_by_time ON drift (time);
CREATE INDEX alerts_by_rule ON alerts (rule, time);
CREATE INDEX IF NOT EXISTS interactions_with_error ON interactions (time) WHERE error != '';
CREATE INDEX IF NOT EXISTS interactions_by_unit ON interactions (unit, time) WHERE unit != '';
CREATE INDEX IF NOT EXISTS interactions_by_experiment ON interactions (experiment, unit) WHERE experiment != '';
"""
EVENT_TABLES = "\n".join(
    f"CREATE TABLE {table} (key INTEGER PRIMARY KEY, {', '.join(f'{name} {kind}' for name, kind in columns.items())});"
    for table, columns in COLUMNS.items()
) + _INDICES  # fmt: skip


def insertions(table: str, rows: Sequence[Mapping[str, Any]]) -> tuple[Statement, ...]:
    """A statement for each row, which adds nothing where its id (name, experiment and unit) is there already."""
    inserts = []
    for values in [_stored(table, row) for row in rows]:
        if "id" in COLUMNS[table] and not values.get("id"):
            values["id"] = hash_json(values)[:32]
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        inserts.append((f"INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING", (*values.values(),)))
    return tuple(inserts)


def change(table: str, changes: Mapping[str, Any], where: str, values: Sequence[Any]) -> Statement:
    """A statement that changes the rows for which a condition over the columns holds."""
    stored = _stored(table, changes)
    settings = ", ".join(f"{name} = ?" for name in stored)
    return f"UPDATE {table} SET {settings} WHERE {where}", (*stored.values(), *values)


def selection(table: str, columns: str, where: str) -> str:
    """A query; ValueError for an unknown table."""
    if table.split()[0] not in (tables := (*COLUMNS, "interactions", "feedback")):
        raise ValueError(unknown("table", table, tables))
    return f"SELECT {columns} FROM {table} WHERE {where}"


def _stored(table: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a row as both databases hold them; ValueError for an unknown table or column."""
    if table not in COLUMNS:
        raise ValueError(unknown("table", table, list(COLUMNS)))
    stored = {}
    for name, value in row.items():
        if name not in COLUMNS[table]:
            raise ValueError(unknown("column", name, list(COLUMNS[table])))
        structured = isinstance(value, Mapping | tuple | list)
        stored[name] = json.dumps(value) if structured else storable(value) if isinstance(value, str) else value
    return stored
