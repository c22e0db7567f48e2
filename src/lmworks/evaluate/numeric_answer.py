"""Answers of worked problems: the number that a solution gives, and answers compared letter by letter.

GSM8K's rules are those of lm-evaluation-harness: `gsm8k-strict` takes the first number behind "#### ", and
`gsm8k-flexible` the last one of the response; both compare as texts, without commas, dollar signs and a last stop.
"""

import re
from decimal import Decimal

from lmworks.evaluate.metric import Item, Metric, Response, each

_MARKED = re.compile(r"#### (-?[0-9.,]+)")
_NUMBER = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")
_VALUE = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?")


def marked_number(text: str) -> str | None:
    """The first number behind "#### ", as written."""
    found = _MARKED.search(text)
    return found[1] if found else None


def last_number(text: str) -> str | None:
    """The last run of digits, with what belongs to a number, as written."""
    found = _NUMBER.findall(text)
    return found[-1].strip() if found else None


def plain_number(text: str) -> str:
    """Without what is before "#### ", commas, dollar signs and a last stop."""
    return re.sub(r"\.$", "", re.sub(r"[,$]", "", re.sub(r"(?s).*#### ", "", text)))


def last_value(text: str) -> Decimal | None:
    """The last number of a text as such."""
    found = _VALUE.findall(text)
    return Decimal(re.sub(r"[$,]", "", found[-1])) if found else None


def _strict(item: Item, response: Response) -> float:
    found = marked_number(response.text)
    return float(found is not None and plain_number(found) in map(plain_number, item.references))


def _flexible(item: Item, response: Response) -> float:
    found = last_number(response.text)
    return float(found is not None and plain_number(found) in map(plain_number, item.references))


def _same_value(item: Item, response: Response) -> float:
    found = last_value(response.text)
    return float(found is not None and found in map(last_value, item.references))


def _verbatim(item: Item, response: Response) -> float:
    return float(response.text.strip() in {reference.strip() for reference in item.references})


def gsm8k_strict() -> Metric:
    return Metric("gsm8k-strict", each(_strict), ("references",), proportion=True)


def gsm8k_flexible() -> Metric:
    return Metric("gsm8k-flexible", each(_flexible), ("references",), proportion=True)


def last_number_value() -> Metric:
    """Whether the last number of the response is that of a reference, however it is written: 51, 51.0, $51."""
    return Metric("last-number", each(_same_value), ("references",), proportion=True)


def verbatim() -> Metric:
    """Whether the response is a reference, letter by letter, without spaces at its ends."""
    return Metric("verbatim", each(_verbatim), ("references",), proportion=True)
