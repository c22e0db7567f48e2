"""Answers of worked problems: the number that a solution gives, and answers compared letter by letter.

GSM8K's rules are those of lm-evaluation-harness: `gsm8k-strict` takes the first number behind "#### ", and
`gsm8k-flexible` the last one of the response; both compare as texts, without commas, dollar signs and a last stop.
"""

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from lmworks.evaluate.metric import Item, Metric, Response, each

_MARKED = re.compile(r"#### (-?[0-9.,]+)")
_NUMBER = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")
_VALUE = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?")


def plain_number(text: str) -> str:
    """Without what is before "#### ", commas, dollar signs and a last stop."""
    return re.sub(r"\.$", "", re.sub(r"[,$]", "", re.sub(r"(?s).*#### ", "", text)))


def last_value(text: str) -> Decimal | None:
    """The last number of a text as such."""
    found = _VALUE.findall(text)
    return Decimal(re.sub(r"[$,]", "", found[-1])) if found else None


def _metric(name: str, given: Callable[[str], Any], right: Callable[[str], Any]) -> Metric:
    """1 where what is `given` by a response is what is `right` by a reference; None is given by none."""

    def measure(item: Item, response: Response) -> float:
        found = given(response.text)
        return float(found is not None and found in map(right, item.references))

    return Metric(name, each(measure), ("references",), proportion=True)


def gsm8k_strict() -> Metric:
    return _metric("gsm8k-strict", lambda text: _at(_MARKED.findall(text), 0), plain_number)


def gsm8k_flexible() -> Metric:
    return _metric("gsm8k-flexible", lambda text: _at(_NUMBER.findall(text), -1), plain_number)


def _at(found: Sequence[str], place: int) -> str | None:
    return plain_number(found[place]) if found else None


def last_number() -> Metric:
    """Whether the last number of the response is that of a reference, however it is written: 51, 51.0, $51."""
    return _metric("last-number", last_value, last_value)


def verbatim() -> Metric:
    """Whether the response is a reference, letter by letter, without spaces at its ends."""
    return _metric("verbatim", str.strip, str.strip)
