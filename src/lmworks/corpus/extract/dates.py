"""Dates as files state them, as ISO 8601 in the precision that is stated."""

import datetime
import re

_DATE = re.compile(r"\s*(?:D:)?([0-9]{4})(?:-?([0-9]{2})(?:-?([0-9]{2}))?)?")


def iso_date(stated: str) -> str:
    """The date at the beginning, as "2024-01-31", "2024-01" or "2024"; empty when there is none that exists.

    It takes the forms of ISO 8601 (XML, EPUB) and of PDF, `D:20240131` (ISO 32000-1, section 7.9.4). What follows the
    date, the time of day, is left out.
    """
    found = _DATE.match(stated)
    if not found:
        return ""
    year, month, day = found.groups()
    try:
        datetime.date(int(year), int(month or 1), int(day or 1))
    except ValueError:
        return ""
    return "-".join(filter(None, (year, month, day)))
