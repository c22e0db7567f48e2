"""Rows of tables as texts: which columns hold what, and what becomes of the others."""

import math
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from numbers import Number
from typing import Any

from lmworks.corpus.extract.charset import well_formed
from lmworks.corpus.read.record import Limits, Refused, Row
from lmworks.records import column_key

SHORT = 200  # characters of a value that goes into the metadata
_ISO_DATE = re.compile(
    r"\d{4}(?:-\d\d(?:-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?\s?(?:Z|[+-]\d\d:?\d\d)?)?)?)?", re.ASCII
)
_SURROGATE = re.compile("[\ud800-\udfff]")
NO_COLUMN = "no column"  # begins the reason for which a table without texts is left out
_TOLD = 20  # columns that a message lists


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of the columns that hold the parts of a document. Only that of the text has to be there.

    text      Of the text; or of several, of which the first counts that holds a text in a row.
    title     Of its title.
    date      Of its date, in ISO 8601.
    licence   Of its licence, an SPDX expression.
    language  Of its language, ISO 639-1.
    id        Of what tells it from others, kept in its metadata.
    """

    text: str | tuple[str, ...] = "text"
    title: str = "title"
    date: str = "date"
    licence: str = "license"
    language: str = "language"
    id: str = "id"

    def __post_init__(self) -> None:
        if not self.texts or not all(self.texts):
            raise ValueError("columns need the name of the one that holds the text")

    @property
    def texts(self) -> tuple[str, ...]:
        """The names of the columns that may hold the text, the first ones before the others."""
        return (self.text,) if isinstance(self.text, str) else self.text

    @property
    def told(self) -> str:
        """Those names in a message."""
        return " or ".join(f'"{name}"' for name in self.texts)

    @property
    def others(self) -> frozenset[str]:
        """The names of the columns of all other parts."""
        return frozenset((self.title, self.date, self.licence, self.language, self.id))

    def has_text(self, names: Container[str]) -> bool:
        return any(name in names for name in self.texts)


def no_text_column(found: Iterable[str], columns: Columns) -> Refused:
    """For a table without texts."""
    names = list(found)
    told = ", ".join(_shortened(well_formed(name)) for name in names[:_TOLD]) + (", …" if len(names) > _TOLD else "")
    hint = "; these are conversations, which data.tokenize takes" if "messages" in names else ""
    found_names = f"{NO_COLUMN} {columns.told}; found: {told or 'none'}"
    return Refused("", f"{found_names}: set columns.text to the one that holds the text{hint}")


def row_of(name: str, values: Mapping[str, Any], columns: Columns, limits: Limits) -> Row | Refused:
    """The row of these values.

    A date that is no ISO 8601 goes into the metadata under its own name, as do all other numbers, booleans and texts of
    at most 200 characters; lists and objects are left behind. `id` is in the metadata, since it need not be unique.
    Names that lmworks notes other things under are changed: `column_key`.
    """
    column = _column_of_text(values, columns)
    if column is None:
        return Refused(name, f"no text in column {columns.told}, but {_kind(_first(values, columns.texts))}")
    text = values[column]
    if len(text) > limits.record_bytes:
        return Refused(name, f"larger than max_bytes = {limits.record_bytes:,} characters ({len(text):,})")
    others = columns.others
    metadata = {
        well_formed(column_key(key)): well_formed(short)
        for key, value in values.items()
        if key != column and key not in others and (short := _short(value))
    }
    if identity := _short(values.get(columns.id)):
        metadata["id"] = well_formed(identity)
    when = _short(values.get(columns.date))
    if when and not _ISO_DATE.fullmatch(when):
        metadata[well_formed(column_key(columns.date))] = well_formed(when)
        when = ""
    clean = well_formed(text)
    if clean is not text:
        metadata["lone_surrogates"] = str(len(_SURROGATE.findall(text)))
    return Row(
        name=name,
        text=clean,
        title=well_formed(_short(values.get(columns.title)) or ""),
        date=when or None,
        licence=well_formed(_short(values.get(columns.licence)) or "") or None,
        language=well_formed(_short(values.get(columns.language)) or "") or None,
        metadata=metadata,
    )


def _short(value: Any) -> str:
    """A scalar as text; "" for what is none, is empty, or is too long."""
    if isinstance(value, str):
        return value if len(value) <= SHORT else ""
    if value is None:  # the most frequent
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, date):  # a datetime is one
        return value.isoformat()
    if isinstance(value, float):
        return str(value) if math.isfinite(value) else ""
    if isinstance(value, int):
        return str(value) if abs(value) < 10**SHORT else ""
    return str(value) if isinstance(value, Number) else ""


def _column_of_text(values: Mapping[str, Any], columns: Columns) -> str | None:
    """The first that holds more than spaces, else the first that holds a text at all, which may be an empty one."""
    found = [name for name in columns.texts if isinstance(values.get(name), str)]
    return next((name for name in found if values[name] and not values[name].isspace()), found[0] if found else None)


def _first(values: Mapping[str, Any], names: Iterable[str]) -> Any:
    """The first of these values that is not nothing."""
    return next((value for name in names if (value := values.get(name)) is not None), None)


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a value of type {type(value).__name__}"


def _shortened(name: str) -> str:
    return name if len(name) <= 40 else name[:39] + "…"
