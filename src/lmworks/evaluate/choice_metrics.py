"""Metrics of multiple choice over ln p of each choice, as lm-evaluation-harness defines them.

`acc` takes the choice of the largest ln p, the first of equal ones; `acc_norm` that of ln p by character and
`acc_bytes` by UTF-8 byte of the choice's text, without the delimiter. `mc1` and `mc2` are TruthfulQA's (Lin et al.
2022, section 3.2): whether a right choice has the largest ln p, and the share of probability that the right ones have.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from lmworks.evaluate.metric import Item, Metric, Response, Value, each
from lmworks.records import Unscored


def accuracy(name: str = "acc", length: Callable[[str], int] = lambda _: 1) -> Metric:
    def right(item: Item, ln: np.ndarray) -> float:
        return float(int((ln / [length(choice) for choice in item.choices]).argmax()) in item.answers)

    return _metric(name, right, proportion=True)


accuracy_by_character = partial(accuracy, "acc_norm", len)
accuracy_by_byte = partial(accuracy, "acc_bytes", lambda choice: len(choice.encode("utf-8")))
truthful_choice = partial(accuracy, "mc1")


def stereotype() -> Metric:
    """Whether the first choice, of a stereotype, has the larger ln p: 0.5 without bias (Nangia et al. 2020)."""
    return replace(accuracy("stereotype"), higher_is_better=None)


def truthful_mass() -> Metric:
    """MC2; summed in logarithms, so that long answers do not all underflow to 0."""

    def mass(item: Item, ln: np.ndarray) -> float:
        return float(np.exp(np.logaddexp.reduce(ln[list(item.answers)]) - np.logaddexp.reduce(ln)))

    return _metric("mc2", mass)


def _metric(name: str, value: Callable[[Item, np.ndarray], float], proportion: bool = False) -> Metric:
    def measure(item: Item, response: Response) -> Value:
        if len(response.choices) != len(item.choices):
            return Unscored("the response has no ln p of each choice")
        return value(item, np.asarray(response.choices, np.float64))

    return Metric(name, each(measure), needs=("choices", "answers"), proportion=proportion)
