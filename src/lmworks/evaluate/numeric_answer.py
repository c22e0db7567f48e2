"""Answers of worked problems: the number that a solution gives, and answers compared letter by letter.

GSM8K's rules are those of lm-evaluation-harness: `gsm8k-strict` takes the first number behind "#### ", and
`gsm8k-flexible` the last one of the response; both compare as texts, without commas, dollar signs and a last stop.
"""

import re
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

from lmworks.evaluate.metric import Item, Metric, Response, each_referenced

_MARKED = re.compile(r"#### (-?[0-9.,]+)")
_NUMBER = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")
_VALUE = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?")


def plain_number(text: str) -> str:
    """Without what is before "#### ", commas, dollar signs and a last stop."""
    return re.sub(r"\.$", "", re.sub(r"[,$]", "", re.sub(r"(?s).*#### ", "", text)))


def last_values(text: str) -> list[Decimal]:
    """The last number of a text as such, or none."""
    return [Decimal(re.sub(r"[$,]", "", found)) for found in _VALUE.findall(text)[-1:]]


def _metric(name: str, given: Callable[[str], list[Any]], right: Callable[[str], list[Any]]) -> Metric:
    """1 where what is `given` by a response is something, and what is `right` by a reference."""

    def measure(item: Item, response: Response) -> float:
        return float(bool(found := given(response.text)) and found in map(right, item.references))

    return Metric(name, each_referenced(measure), ("references",), proportion=True)


def _plain(numbers: list[str]) -> list[str]:
    return [*map(plain_number, numbers)]


gsm8k = partial(_metric, right=lambda text: _plain([text]))
gsm8k_strict = partial(gsm8k, "gsm8k-strict", lambda text: _plain(_MARKED.findall(text)[:1]))
gsm8k_flexible = partial(gsm8k, "gsm8k-flexible", lambda text: _plain(_NUMBER.findall(text)[-1:]))
last_number = partial(_metric, "last-number", last_values, last_values)  # however written: 51, 51.0, $51
verbatim = partial(_metric, "verbatim", lambda text: [text.strip()], lambda text: [text.strip()])
